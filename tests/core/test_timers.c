/* Timers: earliest first, first in first out on ties, any one can leave. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mio.h"
#include "test.h"

static void make_idle(mio_timer *timers, size_t n)
{
    memset(timers, 0, n * sizeof *timers);
    for (size_t i = 0; i < n; i++) timers[i].position = MIO_TIMER_IDLE;
}

static mio_timer *pop(mio_timers *heap)
{
    mio_timer *first = mio_timers_first(heap);

    if (first != NULL) mio_timers_remove(heap, first);
    return first;
}

TEST(no_timer_is_first_of_an_empty_heap)
{
    mio_timers heap;

    mio_timers_init(&heap);
    CHECK(mio_timers_first(&heap) == NULL);
    mio_timers_free(&heap);
}

TEST(first_is_the_earliest_and_stays_scheduled)
{
    mio_timers heap;
    mio_timer timers[3];

    mio_timers_init(&heap);
    make_idle(timers, 3);
    CHECK_EQ(mio_timers_add(&heap, &timers[0], 30), 0);
    CHECK_EQ(mio_timers_add(&heap, &timers[1], -10), 0);
    CHECK_EQ(mio_timers_add(&heap, &timers[2], 20), 0);
    CHECK(mio_timers_first(&heap) == &timers[1]);
    CHECK(mio_timers_first(&heap) == &timers[1]);
    CHECK_EQ(timers[1].deadline_ns, -10);
    CHECK_EQ(heap.count, 3);
    mio_timers_free(&heap);
}

TEST(equal_deadlines_come_out_first_in_first_out)
{
    enum { N = 1000 };
    static mio_timer timers[N];
    mio_timers heap;

    mio_timers_init(&heap);
    make_idle(timers, N);
    for (int i = 0; i < N; i++) CHECK_EQ(mio_timers_add(&heap, &timers[i], 5), 0);
    for (int i = 0; i < N; i++) CHECK(pop(&heap) == &timers[i]);
    CHECK(pop(&heap) == NULL);
    mio_timers_free(&heap);
}

TEST(extreme_deadlines_are_ordered)
{
    mio_timers heap;
    mio_timer timers[3];

    mio_timers_init(&heap);
    make_idle(timers, 3);
    CHECK_EQ(mio_timers_add(&heap, &timers[0], INT64_MAX), 0);
    CHECK_EQ(mio_timers_add(&heap, &timers[1], INT64_MIN), 0);
    CHECK_EQ(mio_timers_add(&heap, &timers[2], 0), 0);
    CHECK(pop(&heap) == &timers[1]);
    CHECK(pop(&heap) == &timers[2]);
    CHECK(pop(&heap) == &timers[0]);
    mio_timers_free(&heap);
}

TEST(removing_an_idle_timer_does_nothing)
{
    mio_timers heap;
    mio_timer scheduled, idle, zeroed;

    mio_timers_init(&heap);
    make_idle(&scheduled, 1);
    make_idle(&idle, 1);
    memset(&zeroed, 0, sizeof zeroed);
    mio_timers_remove(&heap, &idle);
    CHECK_EQ(mio_timers_add(&heap, &scheduled, 1), 0);
    mio_timers_remove(&heap, &idle);
    mio_timers_remove(&heap, &zeroed);
    CHECK_EQ(heap.count, 1);
    mio_timers_remove(&heap, &scheduled);
    mio_timers_remove(&heap, &scheduled);
    CHECK_EQ(heap.count, 0);
    CHECK(scheduled.position == MIO_TIMER_IDLE);
    mio_timers_free(&heap);
}

TEST(timer_of_another_heap_is_left_alone)
{
    mio_timers ours, theirs;
    mio_timer our_timer, their_timer;

    mio_timers_init(&ours);
    mio_timers_init(&theirs);
    make_idle(&our_timer, 1);
    make_idle(&their_timer, 1);
    CHECK_EQ(mio_timers_add(&ours, &our_timer, 1), 0);
    CHECK_EQ(mio_timers_add(&theirs, &their_timer, 1), 0);
    mio_timers_remove(&ours, &their_timer);
    CHECK_EQ(ours.count, 1);
    CHECK(mio_timers_first(&theirs) == &their_timer);
    mio_timers_free(&ours);
    mio_timers_free(&theirs);
}

TEST(adding_a_scheduled_timer_moves_it_behind_its_equals)
{
    mio_timers heap;
    mio_timer timers[3];

    mio_timers_init(&heap);
    make_idle(timers, 3);
    for (int i = 0; i < 3; i++) CHECK_EQ(mio_timers_add(&heap, &timers[i], 10), 0);
    CHECK_EQ(mio_timers_add(&heap, &timers[0], 10), 0);
    CHECK_EQ(heap.count, 3);
    CHECK_EQ(mio_timers_add(&heap, &timers[2], 1), 0);
    CHECK(pop(&heap) == &timers[2]);
    CHECK(pop(&heap) == &timers[1]);
    CHECK(pop(&heap) == &timers[0]);
    mio_timers_free(&heap);
}

TEST(free_makes_every_timer_idle)
{
    mio_timers heap;
    mio_timer timers[100];

    mio_timers_init(&heap);
    make_idle(timers, 100);
    for (int i = 0; i < 100; i++) CHECK_EQ(mio_timers_add(&heap, &timers[i], -i), 0);
    mio_timers_free(&heap);
    for (int i = 0; i < 100; i++) CHECK(timers[i].position == MIO_TIMER_IDLE);
    CHECK(mio_timers_first(&heap) == NULL);
}

TEST(heap_that_cannot_grow_answers_enomem_and_leaves_the_timer_idle)
{
    mio_timers heap;
    mio_timer timer;

    mio_timers_init(&heap);
    make_idle(&timer, 1);
    for (size_t limit = SIZE_MAX / sizeof *heap.heap; limit != 0;
         limit = limit == SIZE_MAX ? 0 : SIZE_MAX) {
        heap.count = heap.capacity = limit;
        CHECK_EQ(mio_timers_add(&heap, &timer, 1), -ENOMEM);
        CHECK(timer.position == MIO_TIMER_IDLE);
        CHECK(heap.count == limit);
    }
}

TEST(memory_of_a_burst_is_given_back)
{
    enum { BURST = 100000 };
    mio_timers heap;
    mio_timer *timers = calloc(BURST, sizeof *timers);

    CHECK(timers != NULL);
    mio_timers_init(&heap);
    make_idle(timers, BURST);
    for (int i = 0; i < BURST; i++) CHECK_EQ(mio_timers_add(&heap, &timers[i], i % 977), 0);
    CHECK(heap.capacity >= BURST);
    for (int i = 0; i < BURST - 10; i++) mio_timers_remove(&heap, &timers[i]);
    CHECK(heap.capacity <= 256);
    CHECK_EQ(heap.count, 10);
    mio_timers_free(&heap);
    free(timers);
}

static int by_order(const void *a, const void *b)
{
    const mio_timer *x = *(mio_timer *const *)a, *y = *(mio_timer *const *)b;

    if (x->deadline_ns != y->deadline_ns) return x->deadline_ns < y->deadline_ns ? -1 : 1;
    return x->sequence < y->sequence ? -1 : x->sequence > y->sequence;
}

static void check_positions(const mio_timers *heap)
{
    for (size_t i = 0; i < heap->count; i++) {
        CHECK(heap->heap[i].timer->position == i);
        CHECK_EQ(heap->heap[i].deadline_ns, heap->heap[i].timer->deadline_ns);
        CHECK_EQ(heap->heap[i].sequence, heap->heap[i].timer->sequence);
    }
}

/* The model is the plainest thing that can be right: look at all of them. */
TEST(random_operations_agree_with_a_brute_force_model)
{
    enum { N = 300, STEPS = 60000 };
    static mio_timer timers[N];
    static bool scheduled[N];
    mio_timer *expected[N];
    mio_timers heap;
    unsigned seed = 4711;
    size_t left = 0;

    mio_timers_init(&heap);
    make_idle(timers, N);
    memset(scheduled, 0, sizeof scheduled);
    for (int step = 0; step < STEPS; step++) {
        /* Phases that mostly fill and phases that mostly empty. */
        unsigned fill = step / 5000 % 2 ? 2 : 7;
        int i = rand_r(&seed) % N;

        if ((unsigned)rand_r(&seed) % 10 < fill) {
            CHECK_EQ(mio_timers_add(&heap, &timers[i], rand_r(&seed) % 50 - 25), 0);
            scheduled[i] = true;
        } else if (rand_r(&seed) % 2) {
            mio_timers_remove(&heap, &timers[i]);
            scheduled[i] = false;
        } else {
            mio_timer *first = pop(&heap), *earliest = NULL;

            for (int j = 0; j < N; j++)
                if (scheduled[j]) {
                    mio_timer *timer = &timers[j];
                    if (earliest == NULL || by_order(&timer, &earliest) < 0) earliest = timer;
                }
            CHECK(first == earliest);
            if (first != NULL) scheduled[first - timers] = false;
        }
        if (step % 64 == 0) check_positions(&heap);
    }
    for (int j = 0; j < N; j++) {
        CHECK_EQ(timers[j].position != MIO_TIMER_IDLE, scheduled[j]);
        if (scheduled[j]) expected[left++] = &timers[j];
    }
    CHECK_EQ(heap.count, left);
    qsort(expected, left, sizeof *expected, by_order);
    for (size_t j = 0; j < left; j++) CHECK(pop(&heap) == expected[j]);
    mio_timers_free(&heap);
}

TEST(due_timers_are_taken_in_the_order_in_which_they_leave_one_by_one)
{
    enum { N = 2000, ROUNDS = 300 };
    static mio_timer timers[N], model[N];
    mio_timers heap, plain;
    unsigned seed = 42;

    for (int round = 0; round < ROUNDS; round++) {
        int n = 1 + rand_r(&seed) % (round % 10 ? 60 : N), range = 1 + rand_r(&seed) % 500;
        int64_t now = rand_r(&seed) % range;
        size_t due;
        mio_timer_entry *taken;

        mio_timers_init(&heap);
        mio_timers_init(&plain);
        make_idle(timers, n);
        make_idle(model, n);
        for (int i = 0; i < n; i++) {
            int64_t deadline = round % 7 ? rand_r(&seed) % range : i;

            CHECK_EQ(mio_timers_add(&heap, &timers[i], deadline), 0);
            CHECK_EQ(mio_timers_add(&plain, &model[i], deadline), 0);
        }
        for (int i = 0; i < n; i += 1 + rand_r(&seed) % 9) {
            mio_timers_remove(&heap, &timers[i]);
            mio_timers_remove(&plain, &model[i]);
        }
        due = mio_timers_count_due(&heap, now);
        if (due > 0) {
            CHECK_EQ(mio_timers_take_due(&heap, now, due, &taken), 0);
            for (size_t i = 0; i < due; i++) {
                CHECK_EQ(taken[i].timer - timers, pop(&plain) - model);
                CHECK(taken[i].timer->position == MIO_TIMER_IDLE);
            }
            free(taken);
        }
        CHECK_EQ(mio_timers_count_due(&heap, now), 0);
        CHECK_EQ(heap.count, plain.count);
        CHECK(heap.capacity <= 64 || heap.count > heap.capacity / 4);
        check_positions(&heap);
        while (plain.count > 0) CHECK_EQ(pop(&heap) - timers, pop(&plain) - model);
        mio_timers_free(&heap);
        mio_timers_free(&plain);
    }
}

TEST(due_timers_that_cannot_be_taken_stay_scheduled)
{
    mio_timers heap;
    mio_timer timer;
    mio_timer_entry *taken;

    mio_timers_init(&heap);
    make_idle(&timer, 1);
    CHECK_EQ(mio_timers_add(&heap, &timer, 1), 0);
    CHECK_EQ(mio_timers_take_due(&heap, 1, SIZE_MAX / 2, &taken), -ENOMEM);
    CHECK_EQ(mio_timers_take_due(&heap, 0, 0, &taken), -EINVAL);
    CHECK_EQ(heap.count, 1);
    CHECK_EQ(timer.position, 0);
    mio_timers_free(&heap);
}
