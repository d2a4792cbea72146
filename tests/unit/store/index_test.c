/* SPDX-License-Identifier: Apache-2.0 */
#include "base/crc.h"
#include "base/fsio.h"
#include "base/mem.h"
#include "store/index.h"
#include "store/le.h"
#include "tests/lib/t.h"

#include <fcntl.h>

static const struct id batch = {"batch_0123456789abcdef0123456789abcdef"};

static struct index_entry entry_of(uint32_t i)
{
    return (struct index_entry){.offset = (uint64_t)i << 33 | i,
                                .length = 1000 + i % 50000,
                                .number = i + 1,
                                .body_off = i % 900,
                                .body_len = 100 + i % 50000};
}

static struct index_place place_of(uint32_t k, uint32_t n)
{
    return (struct index_place){.item = n - 1 - k,
                                .prompt = 3 * k,
                                .shared = k,
                                .max_out = ~k,
                                .key = (uint64_t)k << 40 | 7};
}

/* Every third line and the one behind it follow the first of the three. */
static struct index_follower follower_of(uint32_t k)
{
    return (struct index_follower){.item = k / 2 * 3 + 1 + k % 2, .leader = k / 2 * 3};
}

static void make_whole(uint32_t n)
{
    struct index_writer *w = NULL;

    EQ_RC(index_create(t_dir(), &batch, &w, NULL), RC_OK);
    for (uint32_t i = 0; i < n; i++) {
        struct index_entry en = entry_of(i);

        EQ_RC(index_add(w, &en, NULL), RC_OK);
    }
    for (uint32_t k = 0; k < n; k++) {
        struct index_place place = place_of(k, n);

        EQ_RC(index_order(w, &place, NULL), RC_OK);
    }
    for (uint32_t k = 0; k < n / 3 * 2; k++) {
        struct index_follower f = follower_of(k);

        EQ_RC(index_follow(w, &f, NULL), RC_OK);
    }
    EQ_RC(index_finish(w, NULL), RC_OK);
}

static void make(uint32_t n)
{
    struct index_writer *w = NULL;

    EQ_RC(index_create(t_dir(), &batch, &w, NULL), RC_OK);
    for (uint32_t i = 0; i < n; i++) {
        struct index_entry en = entry_of(i);

        EQ_RC(index_add(w, &en, NULL), RC_OK);
    }
    EQ_RC(index_finish(w, NULL), RC_OK);
}

static const char *path(void)
{
    static char p[FS_PATH_CAP];
    char name[ID_CAP + 8];

    EQ_RC(str_fmt(name, sizeof name, "%s.idx", batch.z), RC_OK);
    EQ_RC(fs_join(p, t_dir(), name, NULL), RC_OK);
    return p;
}

static void put(const char *p, size_t n)
{
    int fd = -1;

    EQ_RC(fs_open(path(), O_WRONLY | O_CREAT | O_TRUNC, 0600, &fd, NULL), RC_OK);
    EQ_RC(fs_write(fd, p, n, path(), NULL), RC_OK);
    fs_close(&fd);
}

TEST(what_was_added_is_loaded_for_every_count_around_the_write_buffer)
{
    static const uint32_t counts[] = {0, 1, 2, 10921, 10922, 10923, 21844, 30000};

    for (size_t k = 0; k < COUNTOF(counts); k++) {
        struct index *x = NULL;

        make(counts[k]);
        EQ_RC(index_load(t_dir(), &batch, &x, NULL), RC_OK);
        EQ_INT(index_count(x), counts[k]);
        for (uint32_t i = 0; i < counts[k]; i++) {
            struct index_entry got = index_get(x, i), want = entry_of(i);

            OK(memcmp(&got, &want, sizeof got) == 0);
        }
        index_free(x);
    }
}

TEST(order_and_followers_come_back_around_the_write_buffer)
{
    static const uint32_t counts[] = {0, 1, 2, 3, 5460, 5461, 5462, 10922, 30000};

    for (size_t k = 0; k < COUNTOF(counts); k++) {
        uint32_t n = counts[k];
        struct index *x = NULL;

        make_whole(n);
        EQ_RC(index_load(t_dir(), &batch, &x, NULL), RC_OK);
        EQ_INT(index_ordered(x), n > 0);
        EQ_INT(index_followers(x), n / 3 * 2);
        for (uint32_t i = 0; i < n; i++) {
            struct index_place got = index_place(x, i), want = place_of(i, n);

            OK(memcmp(&got, &want, sizeof got) == 0);
        }
        for (uint32_t i = 0; i < n / 3 * 2; i++) {
            struct index_follower got = index_follower(x, i), want = follower_of(i);

            OK(got.item == want.item && got.leader == want.leader);
        }
        index_trim(x);
        OK(!index_ordered(x));
        EQ_INT(index_followers(x), 0);
        EQ_INT(index_count(x), n);
        for (uint32_t i = 0; i < n; i++) {
            struct index_entry got = index_get(x, i), want = entry_of(i);

            OK(memcmp(&got, &want, sizeof got) == 0);
        }
        index_free(x);
    }
}

/* Makes the checksums of a file with `n` requests right again. */
static void mend(char *p, size_t n)
{
    uint8_t *u = (uint8_t *)p;

    le32_put(u + 88, crc32c(0, u + 96, n - 96));
    le32_put(u + 92, crc32c(0, u, 92));
}

TEST(an_order_that_names_a_line_twice_or_none_is_damaged)
{
    enum { RECORDS = 96 + 6 * 24, FOLLOWERS = RECORDS + 6 * 24 };
    static const struct {
        size_t at;
        uint32_t value;
    } rows[] = {
        {RECORDS, 0},          /* item 0 has the last place, too */
        {RECORDS, 6},          /* there is no such item */
        {RECORDS + 5 * 24, 1}, /* item 0 has none */
        {84, 3},
        {84, 5},
        {80, 5},
        {80, 0},
        {FOLLOWERS + 4, 6},  /* no such item follows */
        {FOLLOWERS + 4, 0},  /* it follows itself */
        {FOLLOWERS + 4, 2},  /* twice */
        {FOLLOWERS, 2},      /* a later one leads */
        {FOLLOWERS + 24, 0}, /* their order */
        {FOLLOWERS + 16, 2}, /* the leader follows another */
    };
    char *good = NULL;
    size_t n = 0;
    struct index *x = NULL;

    make_whole(6);
    EQ_RC(fs_slurp(path(), 4096, &good, &n, NULL), RC_OK);
    EQ_INT(n, FOLLOWERS + 4 * 8);
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        char *bad = mem_dup(good, n);

        le32_put((uint8_t *)bad + rows[i].at, rows[i].value);
        mend(bad, n);
        put(bad, n);
        EQ_RC(index_load(t_dir(), &batch, &x, NULL), RC_CORRUPT);
        mem_free(bad);
    }
    put(good, n);
    EQ_RC(index_load(t_dir(), &batch, &x, NULL), RC_OK);
    index_free(x);
    mem_free(good);
}

TEST(an_index_of_the_first_version_is_made_again)
{
    char *raw = NULL;
    size_t n = 0;
    struct index *x = NULL;

    make(3);
    EQ_RC(fs_slurp(path(), 4096, &raw, &n, NULL), RC_OK);
    raw[8] = 1;
    mend(raw, n);
    put(raw, n);
    EQ_RC(index_load(t_dir(), &batch, &x, NULL), RC_CORRUPT);
    mem_free(raw);
}

TEST(no_index_is_not_found_and_removing_twice_is_fine)
{
    struct index *x = NULL;

    EQ_RC(index_load(t_dir(), &batch, &x, NULL), RC_NOTFOUND);
    make(3);
    EQ_RC(index_remove(t_dir(), &batch, NULL), RC_OK);
    EQ_RC(index_remove(t_dir(), &batch, NULL), RC_OK);
    EQ_RC(index_load(t_dir(), &batch, &x, NULL), RC_NOTFOUND);
}

TEST(an_unfinished_index_never_loads)
{
    struct index_writer *w = NULL;
    struct index *x = NULL;

    EQ_RC(index_create(t_dir(), &batch, &w, NULL), RC_OK);
    for (uint32_t i = 0; i < 11000; i++) {
        struct index_entry en = entry_of(i);

        EQ_RC(index_add(w, &en, NULL), RC_OK);
    }
    EQ_RC(index_load(t_dir(), &batch, &x, NULL), RC_CORRUPT);
    index_abort(w);
    EQ_RC(index_load(t_dir(), &batch, &x, NULL), RC_NOTFOUND);
    index_abort(NULL);
}

TEST(beginning_again_over_a_good_index_makes_it_invalid_until_finished)
{
    struct index_writer *w = NULL;
    struct index *x = NULL;

    make(5);
    EQ_RC(index_create(t_dir(), &batch, &w, NULL), RC_OK);
    EQ_RC(index_load(t_dir(), &batch, &x, NULL), RC_CORRUPT);
    EQ_RC(index_finish(w, NULL), RC_OK);
    EQ_RC(index_load(t_dir(), &batch, &x, NULL), RC_OK);
    EQ_INT(index_count(x), 0);
    index_free(x);
}

TEST(any_flipped_bit_any_cut_and_any_extra_byte_is_seen)
{
    char *good = NULL, *bad;
    size_t n = 0;
    struct index *x = NULL;

    make_whole(4);
    EQ_RC(fs_slurp(path(), 4096, &good, &n, NULL), RC_OK);
    EQ_INT(n, 96 + 4 * 48 + 2 * 8);
    bad = mem_dup(good, n + 1);
    for (size_t bit = 0; bit < 8 * n; bit++) {
        bad[bit / 8] ^= (char)(1 << bit % 8);
        put(bad, n);
        EQ_RC(index_load(t_dir(), &batch, &x, NULL), RC_CORRUPT);
        bad[bit / 8] ^= (char)(1 << bit % 8);
    }
    for (size_t cut = 0; cut < n; cut++) {
        put(good, cut);
        EQ_RC(index_load(t_dir(), &batch, &x, NULL), RC_CORRUPT);
    }
    put(bad, n + 1);
    EQ_RC(index_load(t_dir(), &batch, &x, NULL), RC_CORRUPT);
    put(good, n);
    EQ_RC(index_load(t_dir(), &batch, &x, NULL), RC_OK);
    index_free(x);
    mem_free(good);
    mem_free(bad);
}

TEST(the_index_of_another_batch_is_not_taken)
{
    struct id other = {"batch_ffffffffffffffffffffffffffffffff"};
    struct index *x = NULL;
    char *raw = NULL, p[FS_PATH_CAP];
    size_t n = 0;

    make(2);
    EQ_RC(fs_slurp(path(), 4096, &raw, &n, NULL), RC_OK);
    EQ_RC(str_fmt(p, sizeof p, "%s/%s.idx", t_dir(), other.z), RC_OK);
    EQ_RC(fs_rename(path(), p, NULL), RC_OK);
    EQ_RC(index_load(t_dir(), &other, &x, NULL), RC_CORRUPT);
    mem_free(raw);
}

static void add_outside_its_line(void)
{
    struct index_writer *w = NULL;
    struct index_entry en = {.length = 10, .body_off = 4, .body_len = 7};

    EQ_RC(index_create(t_dir(), &batch, &w, NULL), RC_OK);
    IGNORE(index_add(w, &en, NULL)); /* it must not come back */
}

static void get_past_the_end(void)
{
    struct index *x = NULL;

    make(2);
    EQ_RC(index_load(t_dir(), &batch, &x, NULL), RC_OK);
    (void)index_get(x, 2);
}

TEST(an_entry_out_of_bounds_is_a_bug_of_the_caller)
{
    PANICS(add_outside_its_line, "check failed");
    PANICS(get_past_the_end, "check failed");
}
