/* SPDX-License-Identifier: Apache-2.0 */
/* link: -Wl,--wrap=fsync,--wrap=fdatasync */
#include "base/fsio.h"
#include "base/mem.h"
#include "store/reslog_frame.h"
#include "store/reslog_tail.h"
#include "tests/lib/t.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#define ITEMS 20000u

/* What syncs are for is tested in tests/model. */
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

/* ---- a writer ---- */

static size_t length_of(uint32_t item)
{
    return item % 1000 == 999 ? 300000 + item : 1 + item * 37u % 3000;
}

static char byte_of(uint32_t item, size_t i)
{
    return i + 1 == length_of(item) ? '\n' : (char)('a' + (item + i) % 26);
}

static void append(struct reslog *l, uint32_t item)
{
    size_t n = length_of(item);
    char *text = mem_alloc(n);
    struct reslog_rec r = {.item = item,
                           .kind = item % 7 == 3 ? RESULT_ERROR : RESULT_OUTPUT,
                           .has_usage = item % 3 == 0,
                           .usage = {item, 0, 1, 2, 3},
                           .payload = {text, n}};

    for (size_t i = 0; i < n; i++)
        text[i] = byte_of(item, i);
    EQ_RC(reslog_append(l, &r), RC_OK);
    mem_free(text);
}

static void commit(struct reslog *l)
{
    struct err e = {{0}};

    if (reslog_commit(l, reslog_cut(l), &e) != RC_OK)
        FAIL("%s", e.text);
}

static struct reslog *create(uint64_t segment_bytes)
{
    struct reslog *l = NULL;

    EQ_RC(reslog_create(t_dir(), &batch, ITEMS, &l, NULL), RC_OK);
    reslog_segment_bytes(l, segment_bytes);
    return l;
}

static void append_some(struct reslog *l, uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++)
        append(l, i);
    commit(l);
}

static const char *segment_path(unsigned segment)
{
    static char p[FS_PATH_CAP];

    EQ_RC(str_fmt(p, sizeof p, "%s/%s.%06u.log", t_dir(), batch.z, segment), RC_OK);
    return p;
}

/* ---- a reader ---- */

static struct reslog_tail *tail(void)
{
    return reslog_tail_new(t_dir(), &batch, ITEMS);
}

static enum rc next(struct reslog_tail *t, struct reslog_mark to,
                    struct reslog_tail_rec *ret)
{
    struct err e = {{0}};
    enum rc rc;

    do
        rc = reslog_tail_next(t, &to, ret, &e);
    while (rc == RC_AGAIN);
    if (rc != RC_OK && rc != RC_NOTFOUND && rc != RC_CANCELLED)
        FAIL("RC_%s: %s", rc_name(rc), e.text);
    return rc;
}

/* Reads the line in pieces of `piece` bytes. */
static void check(struct reslog_tail *t, const struct reslog_tail_rec *r, size_t piece)
{
    char *dst = mem_alloc(piece);

    EQ_INT(r->length, length_of(r->item));
    EQ_INT(r->kind, r->item % 7 == 3 ? RESULT_ERROR : RESULT_OUTPUT);
    for (size_t off = 0; off < r->length; off += piece) {
        size_t n = (size_t)u64_min(piece, r->length - off);

        EQ_RC(reslog_tail_read(t, dst, n, NULL), RC_OK);
        for (size_t i = 0; i < n; i++)
            if (dst[i] != byte_of(r->item, off + i))
                FAIL("item %u: byte %zu is wrong", r->item, off + i);
        if (off % 3 == 0)
            reslog_tail_rest(t);
    }
    mem_free(dst);
}

/* Items from..to come, in this order, and no more. */
static void expect(struct reslog_tail *t, struct reslog_mark to, uint32_t from,
                   uint32_t end)
{
    struct reslog_tail_rec r;

    for (uint32_t i = from; i < end; i++) {
        EQ_RC(next(t, to, &r), RC_OK);
        EQ_INT(r.item, i);
        OK(reslog_tail_seen(t, i));
        OK(!reslog_tail_seen(t, i + 1));
        if (i % 3)
            check(t, &r, i % 2 ? 1000 : 70000);
    }
    EQ_RC(next(t, to, &r), RC_NOTFOUND);
}

TEST(records_come_in_the_order_of_the_log_as_far_as_the_mark_says)
{
    struct reslog *l = create(200000);
    struct reslog_tail *t = tail();
    struct reslog_mark before;

    expect(t, (struct reslog_mark){0}, 0, 0);
    expect(t, reslog_mark(l), 0, 0);
    for (uint32_t i = 0; i < 2000; i += 25) {
        before = reslog_mark(l);
        append_some(l, i, i + 25);
        expect(t, before, 0, 0); /* written, and not told yet */
        if (i % 50 == 0)
            expect(t, reslog_mark(l), i, i + 25);
        else if (i % 75 == 0)
            reslog_tail_rest(t);
        if (i % 50)
            expect(t, reslog_mark(l), i, i + 25);
    }
    OK(reslog_mark(l).segment > 5);
    reslog_tail_free(t);
    t = tail(); /* from the start, all at once */
    expect(t, reslog_mark(l), 0, 2000);
    reslog_tail_free(t);
    reslog_tail_free(NULL);
    reslog_close(l);
}

static void ignore(void *ctx, const struct reslog_rec *r, const struct reslog_place *at)
{
    (void)ctx, (void)r, (void)at;
}

static struct reslog *open_again(void)
{
    struct reslog *l = NULL;
    struct err e = {{0}};
    uint64_t damaged;

    if (reslog_open(t_dir(), &batch, ITEMS, ignore, NULL, &l, &damaged, &e) != RC_OK)
        FAIL("%s", e.text);
    return l;
}

TEST(the_order_is_the_same_after_a_restart)
{
    struct reslog *l = create(200000);
    struct reslog_tail *t = tail();

    append_some(l, 0, 700);
    append_some(l, 700, 1100);
    expect(t, reslog_mark(l), 0, 1100);
    reslog_tail_free(t);
    append(l, 1100);
    reslog_close(l); /* with one that was never on disk */
    l = open_again();
    t = tail();
    expect(t, reslog_mark(l), 0, 1100);
    append_some(l, 1100, 1150);
    expect(t, reslog_mark(l), 1100, 1150);
    reslog_tail_free(t);
    reslog_close(l);
}

TEST(the_first_record_of_an_item_wins)
{
    struct reslog *l = create(100000);
    struct reslog_tail *t = tail();

    append_some(l, 0, 100);
    append_some(l, 50, 100);
    append_some(l, 20, 120);
    expect(t, reslog_mark(l), 0, 120);
    reslog_tail_free(t);
    reslog_close(l);
}

TEST(damage_is_passed_over_in_head_record_and_segment)
{
    struct reslog *l = create(100000);
    struct reslog_tail *t = tail();
    struct reslog_tail_rec r;
    uint32_t lost = 0, expected = 0;
    int fd = -1;

    for (uint32_t i = 0; i < 900; i += 10)
        append_some(l, i, i + 10);
    OK(reslog_mark(l).segment > 6);
    EQ_RC(fs_open(segment_path(1), O_WRONLY, 0, &fd, NULL), RC_OK);
    EQ_RC(fs_pwrite(fd, "?", 1, 3, "", NULL), RC_OK);     /* the segment's head */
    EQ_RC(fs_pwrite(fd, "?", 1, 30000, "", NULL), RC_OK); /* within a record */
    EQ_RC(fs_pwrite(fd, "\xff\xbd\xfeR", 4, 40000, "", NULL), RC_OK);
    fs_close(&fd);
    EQ_INT(unlink(segment_path(3)), 0);
    while (next(t, reslog_mark(l), &r) == RC_OK) {
        OK(r.item >= expected);
        lost += r.item - expected;
        expected = r.item + 1;
        check(t, &r, 5000);
    }
    EQ_INT(expected, 900);
    OK(lost >= 2 + 30 && lost < 150); /* two records and one segment */
    reslog_tail_free(t);
    reslog_close(l);
}

TEST(a_segment_that_is_open_can_be_read_to_its_end_after_the_log_was_deleted)
{
    struct reslog *l = create(100000);
    struct reslog_tail *first = tail(), *last = tail(), *none = tail(), *some = tail();
    struct reslog_tail_rec r;
    struct reslog_mark end;
    uint32_t n = 1;

    for (uint32_t i = 0; i < 300; i += 10) {
        append_some(l, i, i + 10);
        if (i == 10)
            expect(some, reslog_mark(l), 0, 20);
    }
    end = reslog_mark(l);
    EQ_RC(next(first, end, &r), RC_OK);
    for (uint32_t i = 0; i < 299; i++)
        EQ_RC(next(last, end, &r), RC_OK);
    reslog_close(l);
    EQ_RC(reslog_remove(t_dir(), &batch, NULL), RC_OK);
    while (next(first, end, &r) == RC_OK) {
        check(first, &r, 4096);
        n++;
    }
    EQ_RC(next(some, RESLOG_ALL, &r), RC_OK); /* beyond its mark */
    EQ_INT(r.item, 20);
    EQ_RC(next(none, RESLOG_ALL, &r), RC_CANCELLED);
    OK(n > 20 && n < 200);
    EQ_RC(next(first, end, &r), RC_CANCELLED);
    EQ_RC(next(first, end, &r), RC_CANCELLED); /* and stays so */
    EQ_RC(next(last, end, &r), RC_OK);
    EQ_INT(r.item, 299);
    EQ_RC(next(last, end, &r), RC_NOTFOUND);
    EQ_RC(next(none, end, &r), RC_CANCELLED);
    reslog_tail_free(first);
    reslog_tail_free(last);
    reslog_tail_free(none);
    reslog_tail_free(some);
}

TEST(a_log_of_another_batch_is_refused)
{
    struct reslog *l = create(100000);
    struct reslog_tail *t = reslog_tail_new(t_dir(), &batch, ITEMS + 1);
    struct reslog_tail_rec r;
    struct reslog_mark to;
    struct err e;

    append_some(l, 0, 5);
    to = reslog_mark(l);
    EQ_RC(reslog_tail_next(t, &to, &r, &e), RC_CORRUPT);
    OK(strstr(e.text, batch.z));
    EQ_RC(reslog_tail_next(t, &to, &r, &e), RC_CORRUPT);
    reslog_tail_free(t);
    reslog_close(l);
}

/* ---- beside the writer: meant for the thread sanitizer ---- */

static struct {
    pthread_mutex_t lock;
    struct reslog_mark mark;
} told;

static void *write_all(void *arg)
{
    struct reslog *l = arg;

    for (uint32_t i = 0; i < 6000; i += 40) {
        append_some(l, i, i + 40);
        pthread_mutex_lock(&told.lock);
        told.mark = reslog_mark(l);
        pthread_mutex_unlock(&told.lock);
    }
    return NULL;
}

static void *read_all(void *arg)
{
    struct reslog_tail *t = tail();
    uint32_t want = 0;

    (void)arg;
    while (want < 6000) {
        struct reslog_tail_rec r;
        struct reslog_mark to;

        pthread_mutex_lock(&told.lock);
        to = told.mark;
        pthread_mutex_unlock(&told.lock);
        while (next(t, to, &r) == RC_OK) {
            EQ_INT(r.item, want);
            check(t, &r, 8192);
            want++;
        }
    }
    reslog_tail_free(t);
    return NULL;
}

TEST_SLOW(readers_beside_the_writer_see_every_record_once, 60)
{
    struct reslog *l = create(500000);
    pthread_t writer, readers[3];

    OK(pthread_mutex_init(&told.lock, NULL) == 0);
    for (unsigned i = 0; i < COUNTOF(readers); i++)
        OK(pthread_create(&readers[i], NULL, read_all, NULL) == 0);
    OK(pthread_create(&writer, NULL, write_all, l) == 0);
    pthread_join(writer, NULL);
    for (unsigned i = 0; i < COUNTOF(readers); i++)
        pthread_join(readers[i], NULL);
    reslog_close(l);
}
