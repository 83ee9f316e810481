/* Slab: a token finds its own value, and after removal nothing, for ever. */
#include <errno.h>
#include <stdlib.h>

#include "mio.h"
#include "test.h"

static int values[4096];

static mio_token insert(mio_slab *slab, void *value)
{
    mio_token token = MIO_TOKEN_MAX;

    CHECK_EQ(mio_slab_insert(slab, value, &token), 0);
    return token;
}

TEST(inserted_value_is_found_by_its_token_until_removed)
{
    mio_slab slab;
    mio_token token;

    mio_slab_init(&slab);
    token = insert(&slab, &values[0]);
    CHECK(mio_slab_get(&slab, token) == &values[0]);
    CHECK_EQ(slab.count, 1);
    CHECK(mio_slab_remove(&slab, token) == &values[0]);
    CHECK(mio_slab_get(&slab, token) == NULL);
    CHECK(mio_slab_remove(&slab, token) == NULL);
    CHECK_EQ(slab.count, 0);
    mio_slab_free(&slab);
}

TEST(empty_slab_finds_nothing)
{
    mio_slab slab;

    mio_slab_init(&slab);
    CHECK(mio_slab_get(&slab, 0) == NULL);
    CHECK(mio_slab_get(&slab, MIO_TOKEN_MAX) == NULL);
    CHECK(mio_slab_remove(&slab, 0) == NULL);
    mio_slab_free(&slab);
}

TEST(stale_token_finds_nothing_after_its_slot_is_used_again)
{
    mio_slab slab;
    mio_token old, new;

    mio_slab_init(&slab);
    old = insert(&slab, &values[0]);
    mio_slab_remove(&slab, old);
    new = insert(&slab, &values[1]);
    CHECK_EQ((uint32_t)new, (uint32_t)old);
    CHECK(new != old);
    CHECK(mio_slab_get(&slab, old) == NULL);
    CHECK(mio_slab_remove(&slab, old) == NULL);
    CHECK(mio_slab_get(&slab, new) == &values[1]);
    mio_slab_free(&slab);
}

TEST(zero_is_no_token)
{
    mio_slab slab;

    mio_slab_init(&slab);
    CHECK(insert(&slab, &values[0]) != 0);
    CHECK(mio_slab_get(&slab, 0) == NULL);
    mio_slab_free(&slab);
}

TEST(null_value_is_refused)
{
    mio_slab slab;
    mio_token token;

    mio_slab_init(&slab);
    CHECK_EQ(mio_slab_insert(&slab, NULL, &token), -EINVAL);
    CHECK_EQ(slab.count, 0);
    mio_slab_free(&slab);
}

TEST(freed_slots_are_used_before_the_slab_grows)
{
    mio_slab slab;
    mio_token tokens[100];
    uint32_t used;

    mio_slab_init(&slab);
    for (int i = 0; i < 100; i++) tokens[i] = insert(&slab, &values[i]);
    used = slab.used;
    for (int i = 0; i < 100; i += 2) mio_slab_remove(&slab, tokens[i]);
    for (int i = 0; i < 50; i++) insert(&slab, &values[i]);
    CHECK_EQ(slab.used, used);
    CHECK_EQ(slab.count, 100);
    mio_slab_free(&slab);
}

TEST(slot_at_its_last_generation_is_retired)
{
    mio_slab slab;
    mio_token first, last, other;

    mio_slab_init(&slab);
    first = insert(&slab, &values[0]);
    mio_slab_remove(&slab, first);
    slab.entries[(uint32_t)first].generation = UINT32_MAX;
    last = insert(&slab, &values[1]);
    CHECK_EQ(last >> 32, UINT32_MAX);
    CHECK(last != MIO_TOKEN_MAX);
    CHECK(mio_slab_remove(&slab, last) == &values[1]);
    other = insert(&slab, &values[2]);
    CHECK((uint32_t)other != (uint32_t)last);
    CHECK(mio_slab_get(&slab, first) == NULL);
    CHECK(mio_slab_get(&slab, last) == NULL);
    CHECK(mio_slab_get(&slab, other) == &values[2]);
    mio_slab_free(&slab);
}

TEST(full_slab_answers_enomem_and_never_gives_out_the_reserved_token)
{
    mio_slab slab;
    mio_token token = 7;

    /* As if every index were taken; insert must not look at the entries. */
    mio_slab_init(&slab);
    slab.capacity = slab.used = slab.count = UINT32_MAX;
    CHECK_EQ(mio_slab_insert(&slab, &values[0], &token), -ENOMEM);
    CHECK_EQ(token, 7);
}

TEST(random_insertions_and_removals_agree_with_a_table)
{
    enum { LIVE = 512, STEPS = 200000 };
    static struct { mio_token token; void *value; } live[LIVE];
    static mio_token dead[LIVE];
    mio_slab slab;
    unsigned seed = 20240607;
    uint32_t n = 0, n_dead = 0;

    mio_slab_init(&slab);
    for (int step = 0; step < STEPS; step++) {
        unsigned r = (unsigned)rand_r(&seed);

        if (n < LIVE && (n == 0 || r % 2)) {
            live[n].value = &values[r % 4096];
            live[n].token = insert(&slab, live[n].value);
            n++;
        } else {
            uint32_t i = r / 2 % n;

            CHECK(mio_slab_remove(&slab, live[i].token) == live[i].value);
            dead[n_dead++ % LIVE] = live[i].token;
            live[i] = live[--n];
        }
        CHECK_EQ(slab.count, n);
        if (n > 0) {
            uint32_t i = (unsigned)rand_r(&seed) % n;
            CHECK(mio_slab_get(&slab, live[i].token) == live[i].value);
        }
        if (n_dead > 0) {
            uint32_t known = n_dead < LIVE ? n_dead : LIVE;
            CHECK(mio_slab_get(&slab, dead[(unsigned)rand_r(&seed) % known]) == NULL);
        }
    }
    CHECK(slab.used <= LIVE);
    mio_slab_free(&slab);
}
