/* Spin: it grows while it pays, shrinks to nothing while it does not, and can return. */
#include "spin.h"
#include "test.h"

TEST(spin_ends_with_its_budget_or_with_the_timeout)
{
    mio_spin spin = { .most_ns = 1000, .budget_ns = 600 };

    CHECK_EQ(mio_spin_limit(&spin, 50, -1), 650);
    CHECK_EQ(mio_spin_limit(&spin, 50, 5000), 650);
    CHECK_EQ(mio_spin_limit(&spin, 50, 100), 150);
    CHECK_EQ(mio_spin_limit(&spin, 50, 0), 50);
}

TEST(wait_that_ends_in_time_doubles_the_budget_up_to_the_most)
{
    mio_spin spin = { .most_ns = 1000, .budget_ns = 300 };

    mio_spin_learn(&spin, true, 1000);
    CHECK_EQ(spin.budget_ns, 600);
    mio_spin_learn(&spin, true, 10);
    CHECK_EQ(spin.budget_ns, 1000);
    mio_spin_learn(&spin, true, 10);
    CHECK_EQ(spin.budget_ns, 1000);
}

TEST(wait_that_ends_late_or_without_an_event_halves_the_budget_down_to_zero)
{
    mio_spin spin = { .most_ns = 6400, .budget_ns = 400 };

    mio_spin_learn(&spin, true, 6401);
    CHECK_EQ(spin.budget_ns, 200);
    mio_spin_learn(&spin, false, 10);
    CHECK_EQ(spin.budget_ns, 100);
    mio_spin_learn(&spin, false, 10);
    CHECK_EQ(spin.budget_ns, 0);
    mio_spin_learn(&spin, false, 10);
    CHECK_EQ(spin.budget_ns, 0);
}

TEST(spinning_begins_again_when_blocking_waits_become_short)
{
    mio_spin spin = { .most_ns = 800, .budget_ns = 0 };

    CHECK_EQ(mio_spin_limit(&spin, 50, -1), 50);
    mio_spin_learn(&spin, true, 700);
    CHECK_EQ(spin.budget_ns, 100);
}

TEST(spin_without_a_most_stays_at_zero)
{
    mio_spin spin = { 0 };

    mio_spin_learn(&spin, true, 0);
    CHECK_EQ(spin.budget_ns, 0);
}
