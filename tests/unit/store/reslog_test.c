/* SPDX-License-Identifier: Apache-2.0 */
/* link: -Wl,--wrap=fsync,--wrap=fdatasync */
#include "base/crc.h"
#include "base/fsio.h"
#include "base/mem.h"
#include "store/le.h"
#include "store/reslog.h"
#include "store/reslog_frame.h"
#include "tests/lib/t.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#define ITEMS 100000u

/* Thousands of logs are opened here; what syncs are for is tested in tests/model. */
int __wrap_fsync(int fd);
int __wrap_fdatasync(int fd);

int __wrap_fsync(int fd)
{
    (void)fd;
    return 0;
}

int __wrap_fdatasync(int fd)
{
    (void)fd;
    return 0;
}

static const struct id batch = {"batch_0123456789abcdef0123456789abcdef"};

/* What record i of a test holds: length, kind and usage vary with i. */
static char text[1 << 16];

static struct reslog_rec rec_of(uint32_t i)
{
    static const uint64_t inputs[] = {0, 7, UINT32_MAX, (uint64_t)UINT32_MAX + 1,
                                      UINT64_MAX};
    struct reslog_rec r = {.item = i,
                           .kind = i % 7 == 3 ? RESULT_ERROR : RESULT_OUTPUT,
                           .attempt = (uint8_t)(i % 5),
                           .has_usage = i % 3 != 0};
    size_t n = 1 + i * 37u % 3000;

    if (r.has_usage)
        r.usage = (struct usage){inputs[i % 5], i, i + 1, i + 2, inputs[i % 4]};
    for (size_t k = 0; k < n; k++)
        text[k] = (char)('a' + (i + k) % 26);
    text[n - 1] = '\n';
    r.payload = (struct str){text, n};
    return r;
}

static void append_some(struct reslog *l, uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++) {
        struct reslog_rec r = rec_of(i);

        EQ_RC(reslog_append(l, &r), RC_OK);
    }
}

static void commit_ok(struct reslog *l)
{
    struct reslog_block *b = reslog_cut(l);
    struct err e = {{0}};

    if (reslog_commit(l, b, &e) != RC_OK)
        FAIL("%s", e.text);
}

static struct reslog *create(void)
{
    struct reslog *l = NULL;

    EQ_RC(reslog_create(t_dir(), &batch, ITEMS, &l, NULL), RC_OK);
    return l;
}

struct seen {
    uint32_t n, next; /* items come in the order of appending here */
    bool any_order;
    struct reslog_place places[4096];
};

static void see(void *ctx, const struct reslog_rec *r, const struct reslog_place *at)
{
    struct seen *s = ctx;
    struct reslog_rec want = rec_of(r->item);

    if (!s->any_order && r->item != s->next)
        FAIL("item %u, expected %u", r->item, s->next);
    EQ_INT(r->kind, want.kind);
    EQ_INT(r->attempt, want.attempt);
    EQ_INT(r->has_usage, want.has_usage);
    OK(memcmp(&r->usage, &want.usage, sizeof want.usage) == 0);
    EQ_STR(r->payload, want.payload);
    EQ_INT(at->length, want.payload.n);
    if (r->item < COUNTOF(s->places))
        s->places[r->item] = *at;
    s->next = r->item + 1;
    s->n++;
}

static struct seen seen;

static struct reslog *open_log(uint64_t want_damaged)
{
    struct reslog *l = NULL;
    struct err e = {{0}};
    uint64_t damaged = 99;
    bool any_order = seen.any_order;

    seen = (struct seen){.any_order = any_order};
    if (reslog_open(t_dir(), &batch, ITEMS, see, &seen, &l, &damaged, &e) != RC_OK)
        FAIL("%s", e.text);
    EQ_INT(damaged, want_damaged);
    return l;
}

static const char *segment_path(unsigned segment)
{
    static char p[FS_PATH_CAP];

    EQ_RC(str_fmt(p, sizeof p, "%s/%s.%06u.log", t_dir(), batch.z, segment), RC_OK);
    return p;
}

static char *slurp(const char *path, size_t *ret_n)
{
    char *p = NULL;

    EQ_RC(fs_slurp(path, 1u << 30, &p, ret_n, NULL), RC_OK);
    return p;
}

static void put(const char *path, const char *p, size_t n)
{
    int fd = -1;

    EQ_RC(fs_open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600, &fd, NULL), RC_OK);
    EQ_RC(fs_write(fd, p, n, path, NULL), RC_OK);
    fs_close(&fd);
}

static unsigned count_files(void)
{
    DIR *d = opendir(t_dir());
    struct dirent *en;
    unsigned n = 0;

    while ((en = readdir(d)))
        n += en->d_name[0] != '.';
    closedir(d);
    return n;
}

TEST(what_was_committed_is_seen_again_in_order_after_any_number_of_opens)
{
    struct reslog *l = create();

    for (uint32_t i = 0; i < 500; i += 50) {
        append_some(l, i, i + 50);
        commit_ok(l);
        if (i % 150 == 100) {
            reslog_close(l);
            l = open_log(0);
            EQ_INT(seen.n, i + 50);
        }
    }
    reslog_close(l);
    l = open_log(0);
    EQ_INT(seen.n, 500);
    reslog_close(l);
}

TEST(what_was_not_committed_is_not_there)
{
    struct reslog *l = create();
    struct reslog_block *b;

    append_some(l, 0, 10);
    commit_ok(l);
    append_some(l, 10, 20);
    OK(reslog_pending(l) > 0);
    b = reslog_cut(l);
    EQ_INT(reslog_pending(l), 0);
    EQ_INT(reslog_block_records(b), 10);
    reslog_block_free(b);
    append_some(l, 10, 15);
    reslog_close(l); /* with records pending */
    l = open_log(0);
    EQ_INT(seen.n, 10);
    OK(reslog_cut(l) == NULL);
    reslog_close(l);
    reslog_block_free(NULL);
    reslog_close(NULL);
}

TEST(no_log_is_not_found_and_a_second_create_is_refused)
{
    struct reslog *l = NULL;
    uint64_t damaged;

    EQ_RC(reslog_open(t_dir(), &batch, ITEMS, see, &seen, &l, &damaged, NULL),
          RC_NOTFOUND);
    reslog_close(create());
    EQ_RC(reslog_create(t_dir(), &batch, ITEMS, &l, NULL), RC_CONFLICT);
    reslog_close(open_log(0));
    EQ_RC(reslog_create("no-such-dir", &batch, ITEMS, &l, NULL), RC_NOTFOUND);
}

TEST(a_log_of_another_batch_size_or_number_is_refused)
{
    struct id other = {"batch_ffffffffffffffffffffffffffffffff"};
    struct reslog *l = NULL;
    char to[FS_PATH_CAP];
    uint64_t damaged;
    struct err e;

    reslog_close(create());
    EQ_RC(reslog_open(t_dir(), &batch, ITEMS + 1, see, &seen, &l, &damaged, &e),
          RC_CORRUPT);
    EQ_RC(str_fmt(to, sizeof to, "%s/%s.000001.log", t_dir(), other.z), RC_OK);
    EQ_INT(link(segment_path(1), to), 0);
    EQ_RC(reslog_open(t_dir(), &other, ITEMS, see, &seen, &l, &damaged, &e), RC_CORRUPT);
    OK(strstr(e.text, batch.z));
    EQ_RC(str_fmt(to, sizeof to, "%s/%s.000002.log", t_dir(), batch.z), RC_OK);
    EQ_INT(link(segment_path(1), to), 0);
    EQ_RC(reslog_open(t_dir(), &batch, ITEMS, see, &seen, &l, &damaged, &e), RC_CORRUPT);
}

TEST(a_newer_format_is_refused_with_its_number)
{
    struct reslog *l = NULL;
    size_t n;
    char *raw;
    uint64_t damaged;
    struct err e;

    reslog_close(create());
    raw = slurp(segment_path(1), &n);
    le32_put((uint8_t *)raw + 8, 2);
    le32_put((uint8_t *)raw + 92, crc32c(0, raw, 92));
    put(segment_path(1), raw, n);
    EQ_RC(reslog_open(t_dir(), &batch, ITEMS, see, &seen, &l, &damaged, &e), RC_CORRUPT);
    OK(strstr(e.text, "format 2"));
    mem_free(raw);
}

TEST(segments_follow_each_other_and_keep_the_order)
{
    struct reslog *l = create();
    unsigned files;

    reslog_segment_bytes(l, 20000);
    for (uint32_t i = 0; i < 1000; i += 10) {
        append_some(l, i, i + 10);
        commit_ok(l);
    }
    files = count_files();
    OK(files > 10);
    reslog_close(l);
    l = open_log(0);
    EQ_INT(seen.n, 1000);
    EQ_INT(count_files(), files);
    reslog_segment_bytes(l, 20000);
    append_some(l, 1000, 1100);
    commit_ok(l);
    append_some(l, 1100, 1110);
    commit_ok(l);
    seen = (struct seen){0};
    EQ_RC(reslog_scan(l, see, &seen, &(uint64_t){0}, NULL), RC_OK);
    EQ_INT(seen.n, 1110);
    reslog_close(l);
    EQ_RC(reslog_remove(t_dir(), &batch, NULL), RC_OK);
    EQ_INT(count_files(), 0);
    EQ_RC(reslog_remove(t_dir(), &batch, NULL), RC_OK);
}

TEST(removing_leaves_the_files_of_other_batches)
{
    struct id longer = {"batch_0123456789abcdef0123456789abcdef1"};
    struct reslog *l = create(), *other = NULL;
    struct err e;

    EQ_RC(reslog_create(t_dir(), &longer, ITEMS, &other, &e), RC_OK);
    put("unrelated", "x", 1);
    reslog_close(l);
    EQ_RC(reslog_remove(t_dir(), &batch, NULL), RC_OK);
    EQ_INT(count_files(), 2);
    append_some(other, 0, 5);
    commit_ok(other);
    reslog_close(other);
}

TEST(every_record_is_read_by_its_place_in_any_order)
{
    static char dst[1 << 16];
    struct reslog *l = create();

    reslog_segment_bytes(l, 300000);
    for (uint32_t i = 0; i < 2000; i += 100) {
        append_some(l, i, i + 100);
        commit_ok(l);
    }
    reslog_close(l);
    l = open_log(0);
    reslog_segment_bytes(l, 300000);
    for (unsigned mode = 0; mode < 4; mode++) {
        for (uint32_t k = 0; k < 2000; k++) {
            const uint32_t order[] = {k, 1999 - k, k * 977 % 2000,
                                      k + 40 < 2000 ? k + k * 7 % 40 : k};
            uint32_t i = order[mode];
            struct reslog_rec want = rec_of(i);

            EQ_RC(reslog_read(l, &seen.places[i], dst, NULL), RC_OK);
            OK(memcmp(dst, want.payload.p, want.payload.n) == 0);
        }
    }
    /* And what is appended to a chunk that was read before. */
    append_some(l, 2000, 2010);
    commit_ok(l);
    seen.next = 0;
    EQ_RC(reslog_scan(l, see, &seen, &(uint64_t){0}, NULL), RC_OK);
    for (uint32_t i = 1990; i < 2010; i++) {
        struct reslog_rec want = rec_of(i);

        EQ_RC(reslog_read(l, &seen.places[i], dst, NULL), RC_OK);
        OK(memcmp(dst, want.payload.p, want.payload.n) == 0);
    }
    reslog_close(l);
}

TEST(reading_verifies_the_record_again)
{
    static char dst[1 << 16];
    struct reslog *l = create();
    struct reslog_place at, wrong;
    int fd = -1;

    append_some(l, 0, 10);
    commit_ok(l);
    EQ_RC(reslog_scan(l, see, &seen, &(uint64_t){0}, NULL), RC_OK);
    at = seen.places[7];
    EQ_RC(fs_open(segment_path(1), O_WRONLY, 0, &fd, NULL), RC_OK);
    EQ_RC(fs_pwrite(fd, "#", 1, at.offset + 60, "", NULL), RC_OK);
    fs_close(&fd);
    EQ_RC(reslog_read(l, &at, dst, NULL), RC_CORRUPT);
    at = wrong = seen.places[8];
    EQ_RC(reslog_read(l, &at, dst, NULL), RC_OK);
    wrong.offset++;
    EQ_RC(reslog_read(l, &wrong, dst, NULL), RC_CORRUPT);
    wrong = at;
    wrong.length--;
    EQ_RC(reslog_read(l, &wrong, dst, NULL), RC_CORRUPT);
    wrong.length = 1 << 20;
    EQ_RC(reslog_read(l, &wrong, dst, NULL), RC_CORRUPT);
    wrong = at;
    wrong.segment = 9;
    EQ_RC(reslog_read(l, &wrong, dst, NULL), RC_NOTFOUND);
    reslog_close(l);
}

/* ---- what a crash and a bad disk leave ----------------------------------------------*/

TEST(a_tail_torn_at_any_byte_is_cut_and_is_no_damage)
{
    struct reslog *l = create();
    size_t before, after;
    char *raw;

    append_some(l, 0, 4);
    commit_ok(l);
    raw = slurp(segment_path(1), &before);
    mem_free(raw);
    append_some(l, 4, 8);
    commit_ok(l);
    reslog_close(l);
    raw = slurp(segment_path(1), &after);
    for (size_t cut = before; cut < after; cut++) {
        put(segment_path(1), raw, cut);
        l = open_log(0);
        OK(seen.n >= 4 && seen.n < 8);
        append_some(l, seen.n, seen.n + 1); /* and it goes on from there */
        commit_ok(l);
        seen = (struct seen){0};
        EQ_RC(reslog_scan(l, see, &seen, &(uint64_t){0}, NULL), RC_OK);
        OK(seen.n >= 5);
        reslog_close(l);
    }
    mem_free(raw);
}

TEST(a_torn_first_segment_is_an_empty_log)
{
    size_t n;
    char *raw;

    reslog_close(create());
    raw = slurp(segment_path(1), &n);
    EQ_INT(n, FRAME_HEAD_BYTES);
    for (size_t cut = 0; cut <= n; cut++) {
        put(segment_path(1), raw, cut);
        reslog_close(open_log(0));
        EQ_INT(seen.n, 0);
    }
    memset(raw, 0, n);
    put(segment_path(1), raw, n);
    reslog_close(open_log(0));
    mem_free(raw);
}

TEST(a_flipped_bit_anywhere_costs_one_record_at_most_and_is_counted)
{
    struct reslog *l = create();
    size_t n, last_block;
    char *raw = NULL;

    for (uint32_t i = 0; i < 6; i += 2) {
        mem_free(raw);
        raw = slurp(segment_path(1), &last_block);
        append_some(l, i, i + 2);
        commit_ok(l);
    }
    reslog_close(l);
    mem_free(raw);
    raw = slurp(segment_path(1), &n);
    for (size_t byte = 0; byte < n; byte++) {
        uint64_t damaged = 99;

        raw[byte] ^= (char)(1 << byte % 8);
        put(segment_path(1), raw, n);
        seen = (struct seen){.any_order = true};
        l = NULL;
        EQ_RC(reslog_open(t_dir(), &batch, ITEMS, see, &seen, &l, &damaged, NULL), RC_OK);
        reslog_close(l);
        if (byte < FRAME_HEAD_BYTES)
            EQ_INT(seen.n, 6);
        else
            EQ_INT(seen.n, 5);
        /* In the last block it cannot be told from one that never was synced. */
        EQ_INT(damaged, byte < last_block);
        raw[byte] ^= (char)(1 << byte % 8);
    }
    mem_free(raw);
}

TEST(damage_before_the_last_block_is_told_once)
{
    struct reslog *l = create();
    int fd = -1;

    append_some(l, 0, 10);
    commit_ok(l);
    append_some(l, 10, 20);
    commit_ok(l);
    EQ_RC(reslog_scan(l, see, &seen, &(uint64_t){0}, NULL), RC_OK);
    reslog_close(l);
    EQ_RC(fs_open(segment_path(1), O_WRONLY, 0, &fd, NULL), RC_OK);
    EQ_RC(fs_pwrite(fd, "#", 1, seen.places[3].offset + 20, "", NULL), RC_OK);
    EQ_RC(fs_pwrite(fd, "#", 1, seen.places[5].offset, "", NULL), RC_OK);
    fs_close(&fd);
    seen.any_order = true;
    reslog_close(open_log(2));
    EQ_INT(seen.n, 18);
    reslog_close(open_log(0)); /* what is good was written anew */
    EQ_INT(seen.n, 18);
}

TEST(damage_in_a_segment_that_has_a_successor_is_told_every_time)
{
    struct reslog *l = create();
    size_t n;
    char *raw;

    reslog_segment_bytes(l, 1000);
    for (uint32_t i = 0; i < 3; i++) {
        append_some(l, 10 * i, 10 * i + 10);
        commit_ok(l);
    }
    reslog_close(l);
    raw = slurp(segment_path(1), &n);
    put(segment_path(1), raw, n - 1); /* the last record of the segment */
    seen.any_order = true;
    for (unsigned i = 0; i < 2; i++) {
        l = open_log(1);
        EQ_INT(seen.n, 29);
        reslog_close(l);
    }
    put(segment_path(1), raw, 0); /* the whole of it */
    reslog_close(open_log(1));
    EQ_INT(seen.n, 20);
    EQ_RC(fs_unlink(segment_path(1), NULL), RC_OK);
    reslog_close(open_log(1)); /* a hole in the numbers */
    EQ_INT(seen.n, 20);
    mem_free(raw);
}

TEST(records_with_an_unreadable_head_are_found_by_their_own_marks)
{
    struct reslog *l = create();
    size_t n;
    char *raw;

    append_some(l, 0, 10);
    commit_ok(l);
    reslog_close(l);
    reslog_close(open_log(0)); /* now of generation 2 */
    raw = slurp(segment_path(1), &n);
    memset(raw, 0x5a, FRAME_HEAD_BYTES);
    put(segment_path(1), raw, n);
    reslog_close(open_log(1));
    EQ_INT(seen.n, 10);
    raw[200] ^= 1; /* and the first record is bad too */
    put(segment_path(1), raw, n);
    seen.any_order = true;
    l = open_log(2);
    OK(seen.n == 9);
    reslog_close(l);
    mem_free(raw);
}

TEST(records_of_another_generation_do_not_count)
{
    struct reslog *l = create();
    char *old, *now, *both;
    size_t old_n, now_n;

    append_some(l, 0, 10);
    commit_ok(l);
    reslog_close(l);
    old = slurp(segment_path(1), &old_n);
    l = open_log(0);
    append_some(l, 10, 12);
    commit_ok(l);
    reslog_close(l);
    /* A block of the generation before comes back behind the end. */
    now = slurp(segment_path(1), &now_n);
    both = mem_alloc(now_n + old_n);
    memcpy(both, now, now_n);
    memcpy(both + now_n, old + FRAME_HEAD_BYTES, old_n - FRAME_HEAD_BYTES);
    put(segment_path(1), both, now_n + old_n - FRAME_HEAD_BYTES);
    reslog_close(open_log(0));
    EQ_INT(seen.n, 12);
    mem_free(old);
    mem_free(now);
    mem_free(both);
}

TEST(records_of_another_batch_do_not_count)
{
    struct id other = {"batch_ffffffffffffffffffffffffffffffff"};
    struct reslog *l = create();
    char *theirs, *ours, *both, path[FS_PATH_CAP];
    size_t theirs_n, n;

    append_some(l, 0, 12);
    commit_ok(l);
    reslog_close(l);
    EQ_RC(reslog_create(t_dir(), &other, ITEMS, &l, NULL), RC_OK);
    append_some(l, 12, 20);
    commit_ok(l);
    reslog_close(l);
    EQ_RC(str_fmt(path, sizeof path, "%s/%s.000001.log", t_dir(), other.z), RC_OK);
    theirs = slurp(path, &theirs_n);
    ours = slurp(segment_path(1), &n);
    both = mem_alloc(n + theirs_n);
    memcpy(both, ours, n);
    memcpy(both + n, theirs + FRAME_HEAD_BYTES, theirs_n - FRAME_HEAD_BYTES);
    put(segment_path(1), both, n + theirs_n - FRAME_HEAD_BYTES);
    reslog_close(open_log(0));
    EQ_INT(seen.n, 12);
    mem_free(theirs);
    mem_free(ours);
    mem_free(both);
}

TEST(a_good_record_of_an_item_that_does_not_exist_is_passed_over_and_counted)
{
    struct reslog *l = NULL;
    uint8_t head[FRAME_HEAD_BYTES];
    struct frame_head h = {batch, 1, 1, ITEMS};
    char *raw = mem_alloc(1 << 16);
    struct reslog_rec r;
    size_t at = FRAME_HEAD_BYTES;

    frame_head_put(head, &h);
    memcpy(raw, head, sizeof head);
    for (uint32_t i = 0; i < 3; i++) {
        r = rec_of(i);
        if (i == 1)
            r.item = ITEMS;
        frame_put((uint8_t *)raw + at, frame_seed(&batch), 1, true, &r);
        at += frame_size(&r);
    }
    put(segment_path(1), raw, at);
    seen.any_order = true;
    l = open_log(1);
    EQ_INT(seen.n, 2);
    reslog_close(l);
    reslog_close(open_log(0));
    mem_free(raw);
}

TEST(a_log_of_the_highest_generation_goes_on)
{
    static const uint32_t generations[] = {UINT32_MAX - 1, UINT32_MAX};

    for (size_t i = 0; i < COUNTOF(generations); i++) {
        struct frame_head h = {batch, 1, generations[i], ITEMS};
        struct reslog_rec r = rec_of(0);
        uint8_t raw[FRAME_HEAD_BYTES + 200];
        struct reslog *l;

        frame_head_put(raw, &h);
        frame_put(raw + FRAME_HEAD_BYTES, frame_seed(&batch), h.generation, true, &r);
        put(segment_path(1), (char *)raw, FRAME_HEAD_BYTES + frame_size(&r));
        for (uint32_t item = 1; item < 5; item++) {
            l = open_log(0);
            EQ_INT(seen.n, item);
            append_some(l, item, item + 1);
            commit_ok(l);
            reslog_close(l);
        }
        EQ_RC(reslog_remove(t_dir(), &batch, NULL), RC_OK);
    }
}

TEST(what_an_interrupted_rewrite_left_is_overwritten_and_removed)
{
    struct reslog *l = create();
    char tmp[FS_PATH_CAP];

    append_some(l, 0, 3);
    commit_ok(l);
    reslog_close(l);
    EQ_RC(str_fmt(tmp, sizeof tmp, "%s.tmp", segment_path(1)), RC_OK);
    put(tmp, "half a head", 11);
    reslog_close(open_log(0));
    EQ_INT(seen.n, 3);
    EQ_INT(count_files(), 1);
    put(tmp, "half a head", 11);
    EQ_RC(reslog_remove(t_dir(), &batch, NULL), RC_OK);
    EQ_INT(count_files(), 0);
    put(tmp, "half a head", 11);
    reslog_close(create()); /* a leftover is no log */
}

/* ---- sizes and threads --------------------------------------------------------------*/

static void count_only(void *ctx, const struct reslog_rec *r,
                       const struct reslog_place *at)
{
    (void)at;
    OK(r->payload.n > 0);
    ++*(unsigned *)ctx;
}

TEST(a_record_larger_than_every_buffer_goes_through)
{
    size_t n = 5 << 20;
    struct reslog_rec r = {.item = 1, .kind = RESULT_OUTPUT};
    struct reslog *l = create();
    char *big = mem_alloc(n), *got = mem_alloc(n);
    struct reslog_rec small = rec_of(0);

    memset(big, 'b', n);
    EQ_RC(reslog_append(l, &small), RC_OK);
    r.payload = (struct str){big, n};
    EQ_RC(reslog_append(l, &r), RC_OK);
    commit_ok(l);
    reslog_close(l);
    for (unsigned i = 0; i < 2; i++) {
        struct reslog_place at = {1, (uint32_t)n, FRAME_HEAD_BYTES + frame_size(&small)};
        unsigned records = 0;
        uint64_t damaged;

        EQ_RC(
            reslog_open(t_dir(), &batch, ITEMS, count_only, &records, &l, &damaged, NULL),
            RC_OK);
        EQ_INT(records, 2);
        EQ_INT(damaged, 0);
        EQ_RC(reslog_read(l, &at, got, NULL), RC_OK);
        OK(memcmp(got, big, n) == 0);
        reslog_close(l);
    }
    mem_free(big);
    mem_free(got);
}

TEST(a_payload_over_the_limit_is_not_taken)
{
    struct reslog_rec r = {.kind = RESULT_OUTPUT,
                           .payload = {text, (size_t)FRAME_MAX_PAYLOAD + 1}};
    struct reslog *l = create();

    EQ_RC(reslog_append(l, &r), RC_LIMIT);
    EQ_INT(reslog_pending(l), 0);
    reslog_close(l);
}

static void append_out_of_range(void)
{
    struct reslog_rec r = {.item = ITEMS, .kind = RESULT_OUTPUT};

    IGNORE(reslog_append(create(), &r)); /* it must not come back */
}

TEST(an_item_out_of_range_is_a_bug_of_the_caller)
{
    PANICS(append_out_of_range, "check failed");
}

struct handover {
    struct reslog *l;
    pthread_mutex_t lock;
    pthread_cond_t change;
    struct reslog_block *block;
    bool end;
};

static void *committer(void *arg)
{
    struct handover *h = arg;

    pthread_mutex_lock(&h->lock);
    for (;;) {
        struct reslog_block *b = h->block;

        if (!b && h->end)
            break;
        if (!b) {
            pthread_cond_wait(&h->change, &h->lock);
            continue;
        }
        pthread_mutex_unlock(&h->lock);
        EQ_RC(reslog_commit(h->l, b, NULL), RC_OK);
        pthread_mutex_lock(&h->lock);
        h->block = NULL;
        pthread_cond_signal(&h->change);
    }
    pthread_mutex_unlock(&h->lock);
    return NULL;
}

TEST(appending_goes_on_while_a_block_is_committed)
{
    struct handover h = {.l = create(),
                         .lock = PTHREAD_MUTEX_INITIALIZER,
                         .change = PTHREAD_COND_INITIALIZER};
    pthread_t t;
    uint32_t i = 0;

    reslog_segment_bytes(h.l, 50000);
    EQ_INT(pthread_create(&t, NULL, committer, &h), 0);
    while (i < 2000) {
        append_some(h.l, i, i + 20); /* beside the commit */
        i += 20;
        pthread_mutex_lock(&h.lock);
        if (!h.block) {
            h.block = reslog_cut(h.l);
            pthread_cond_signal(&h.change);
        }
        pthread_mutex_unlock(&h.lock);
    }
    pthread_mutex_lock(&h.lock);
    while (h.block)
        pthread_cond_wait(&h.change, &h.lock);
    h.end = true;
    pthread_cond_signal(&h.change);
    pthread_mutex_unlock(&h.lock);
    EQ_INT(pthread_join(t, NULL), 0);
    if (reslog_pending(h.l))
        commit_ok(h.l);
    reslog_close(h.l);
    reslog_close(open_log(0));
    EQ_INT(seen.n, 2000);
}
