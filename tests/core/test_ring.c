/* Ring: items come out in the order in which they went in, whatever room that takes. */
#include <errno.h>

#include "ring.h"
#include "test.h"

static int values[4096];

static int push(mio_ring *ring, void *item)
{
    int err = mio_ring_is_full(ring) ? mio_ring_grow(ring) : 0;

    if (err == 0) mio_ring_push(ring, item);
    return err;
}

TEST(items_come_out_in_the_order_in_which_they_went_in)
{
    mio_ring ring;
    int i;

    CHECK_EQ(mio_ring_open(&ring, 4), 0);
    for (i = 0; i < 3; i++) CHECK_EQ(push(&ring, &values[i]), 0);
    CHECK_EQ(ring.count, 3);
    for (i = 0; i < 3; i++) CHECK(mio_ring_pop(&ring) == &values[i]);
    CHECK_EQ(ring.count, 0);
    mio_ring_free(&ring);
}

TEST(ring_that_has_wrapped_around_keeps_its_order_when_it_grows)
{
    mio_ring ring;
    int i;

    CHECK_EQ(mio_ring_open(&ring, 4), 0);
    for (i = 0; i < 3; i++) CHECK_EQ(push(&ring, &values[i]), 0);
    for (i = 0; i < 3; i++) CHECK(mio_ring_pop(&ring) == &values[i]);
    for (i = 0; i < 4096; i++) CHECK_EQ(push(&ring, &values[i]), 0);
    CHECK_EQ(ring.count, 4096);
    for (i = 0; i < 4096; i++) CHECK(*mio_ring_at(&ring, i) == &values[i]);
    for (i = 0; i < 4096; i++) CHECK(mio_ring_pop(&ring) == &values[i]);
    mio_ring_free(&ring);
}

TEST(full_ring_grows_only_at_the_next_push)
{
    mio_ring ring;
    int i;

    CHECK_EQ(mio_ring_open(&ring, 4), 0);
    for (i = 0; i < 4; i++) CHECK_EQ(push(&ring, &values[i]), 0);
    CHECK_EQ(ring.capacity, 4);
    CHECK_EQ(push(&ring, &values[4]), 0);
    CHECK_EQ(ring.capacity, 8);
    mio_ring_free(&ring);
}

TEST(ring_without_room_refuses_items)
{
    mio_ring ring = { 0 };

    CHECK_EQ(push(&ring, &values[0]), -EINVAL);
    CHECK_EQ(mio_ring_open(&ring, 2), 0);
    CHECK_EQ(push(&ring, &values[0]), 0);
    mio_ring_free(&ring);
    CHECK_EQ(ring.count, 0);
    CHECK_EQ(push(&ring, &values[0]), -EINVAL);
    mio_ring_free(&ring);
}

TEST(capacity_is_a_power_of_two)
{
    mio_ring ring = { 0 };

    CHECK_EQ(mio_ring_open(&ring, 0), -EINVAL);
    CHECK_EQ(mio_ring_open(&ring, 3), -EINVAL);
    CHECK_EQ(mio_ring_open(&ring, 1), 0);
    CHECK_EQ(push(&ring, &values[0]), 0);
    CHECK_EQ(push(&ring, &values[1]), 0);
    CHECK(mio_ring_pop(&ring) == &values[0]);
    CHECK(mio_ring_pop(&ring) == &values[1]);
    mio_ring_free(&ring);
}
