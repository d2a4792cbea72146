/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_tail: a results log read beside its writer against the recovery of the same log.
 * The first byte says how, as in fuzz_reslog; the second how often the reader stops at a
 * mark before the end.
 *
 * It hands out each item once, the lines are those that recovery finds first, in the same
 * order, and it gets them all.
 */
/* reaches: src/store/reslog_tail.c 40 */
#include "base/crc.h"
#include "base/fsio.h"
#include "base/mem.h"
#include "store/le.h"
#include "store/reslog.h"
#include "store/reslog_frame.h"
#include "store/reslog_tail.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define ITEMS 64u
#define MAX   4096u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int fsync(int fd);
int fdatasync(int fd);

/* In front of libc's: a fuzzer has no use for a disk. */
int fsync(int fd)
{
    (void)fd;
    return 0;
}

int fdatasync(int fd)
{
    (void)fd;
    return 0;
}

static const struct id batch = {"batch_0123456789abcdef0123456789abcdef"};

struct found {
    uint32_t n;
    bool seen[ITEMS];
    uint32_t item[MAX], sum[MAX], length[MAX];
};

static void note(struct found *f, uint32_t item, uint32_t length, uint32_t sum)
{
    if (f->seen[item])
        return;
    f->seen[item] = true;
    f->item[f->n] = item;
    f->length[f->n] = length;
    f->sum[f->n++] = sum;
}

static void see(void *ctx, const struct reslog_rec *r, const struct reslog_place *at)
{
    (void)at;
    note(ctx, r->item, (uint32_t)r->payload.n, crc32c(0, r->payload.p, r->payload.n));
}

static const char *dir(void)
{
    static char path[64];

    if (!path[0]) {
        snprintf(path, sizeof path, "%s/fuzz-tail-XXXXXX",
                 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
        CHECK(mkdtemp(path));
    }
    return path;
}

static void put(unsigned segment, const uint8_t *p, size_t n)
{
    char path[FS_PATH_CAP];
    int fd = -1;

    CHECK(str_fmt(path, sizeof path, "%s/%s.%06u.log", dir(), batch.z, segment) == RC_OK);
    CHECK(fs_open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600, &fd, NULL) == RC_OK);
    CHECK(fs_write(fd, p, n, path, NULL) == RC_OK);
    fs_close(&fd);
}

/* The sums right, or no fuzzer would get behind them. */
static void mend(uint8_t *p, size_t n, unsigned how)
{
    struct frame_head h = {batch, 1, 1, ITEMS};
    struct frame f;

    if (n >= FRAME_HEAD_BYTES && how & 1)
        frame_head_put(p, &h);
    for (size_t i = FRAME_HEAD_BYTES; how & 2 && i + FRAME_FIXED <= n; i++)
        if (frame_parse(p + i, &f) && (size_t)f.head_n + f.payload_n <= n - i)
            le32_put(p + i + 4, crc32c(frame_seed(&batch), p + i + 8,
                                       (size_t)f.head_n + f.payload_n - 8));
}

/* A second segment with the last item, so that the first is not the last. */
static size_t put_second(void)
{
    struct frame_head h = {batch, 2, 1, ITEMS};
    struct reslog_rec r = {
        .item = ITEMS - 1, .kind = RESULT_ERROR, .payload = STR("{}\n")};
    uint8_t raw[256];

    frame_head_put(raw, &h);
    frame_put(raw + FRAME_HEAD_BYTES, frame_seed(&batch), 1, true, &r);
    put(2, raw, FRAME_HEAD_BYTES + frame_size(&r));
    return FRAME_HEAD_BYTES + frame_size(&r);
}

/* In small bites: the window moves. */
static uint32_t read_line(struct reslog_tail *t, uint32_t length)
{
    char bite[97];
    uint32_t sum = 0;

    while (length) {
        size_t n = length < sizeof bite ? length : sizeof bite;

        CHECK(reslog_tail_read(t, bite, n, NULL) == RC_OK);
        sum = crc32c(sum, bite, n);
        length -= (uint32_t)n;
        if (length & 64)
            reslog_tail_rest(t);
    }
    return sum;
}

/* RC_NOTFOUND: all before the mark. */
static enum rc follow(struct reslog_tail *t, const struct reslog_mark *to,
                      struct found *f)
{
    struct reslog_tail_rec rec;
    enum rc rc = RC_AGAIN;

    for (unsigned i = 0; rc == RC_OK || rc == RC_AGAIN; i++) {
        CHECK(i < 2 * MAX);
        rc = reslog_tail_next(t, to, &rec, NULL);
        if (rc != RC_OK)
            continue;
        CHECK(rec.item < ITEMS && !f->seen[rec.item]);
        CHECK(rec.kind == RESULT_OUTPUT || rec.kind == RESULT_ERROR);
        CHECK(reslog_tail_seen(t, rec.item));
        note(f, rec.item, rec.length, read_line(t, rec.length));
    }
    return rc;
}

/* Marks are told at the ends of records only, and those of one segment are of one
 * generation: the head's, or where that is damaged the first record's. */
static size_t record_end(const uint8_t *p, size_t n, size_t at, uint32_t *generation)
{
    struct frame f;

    for (size_t i = at; i + FRAME_FIXED <= n; i++) {
        if (!frame_parse(p + i, &f) || (size_t)f.head_n + f.payload_n > n - i ||
            (*generation && f.generation != *generation) ||
            !frame_good(p + i, &f, frame_seed(&batch)))
            continue;
        *generation = f.generation;
        return i + f.head_n + f.payload_n;
    }
    return n;
}

static enum rc tail_all(const uint8_t *p, size_t n, size_t second, unsigned stops,
                        struct found *f)
{
    struct reslog_tail *t = reslog_tail_new(dir(), &batch, ITEMS);
    struct reslog_mark to = {1, FRAME_HEAD_BYTES};
    uint32_t version, generation = 0;
    struct frame_head h;
    enum rc rc = RC_NOTFOUND;

    if (frame_head_get(p, &h, &version) == RC_OK)
        generation = h.generation;
    while (stops-- && rc == RC_NOTFOUND && to.end < n) {
        to.end = record_end(p, n, (size_t)to.end, &generation);
        rc = follow(t, &to, f);
    }
    to = second ? (struct reslog_mark){2, second} : (struct reslog_mark){1, n};
    if (rc == RC_NOTFOUND && n > FRAME_HEAD_BYTES)
        rc = follow(t, &to, f);
    if (rc == RC_NOTFOUND) /* the batch has ended */
        rc = follow(t, &RESLOG_ALL, f);
    IGNORE(reslog_tail_free(t)); /* always NULL */
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct found ours, theirs;
    struct reslog *l = NULL;
    uint64_t damaged = 0;
    size_t second = 0;
    unsigned how;
    uint8_t *p;
    enum rc rc, tail;

    if (n < 2 + FRAME_HEAD_BYTES)
        return 0;
    how = data[0];
    p = mem_try(n - 2);
    memcpy(p, data + 2, n - 2);
    mend(p, n - 2, how);
    put(1, p, n - 2);
    if (how & 4)
        second = put_second();
    ours = theirs = (struct found){0};
    tail = tail_all(p, n - 2, second, data[1] & 7, &ours);
    rc = reslog_open(dir(), &batch, ITEMS, see, &theirs, &l, &damaged, NULL);
    if (rc == RC_OK) {
        CHECK(tail == RC_CANCELLED);
        CHECK(ours.n == theirs.n);
        CHECK(memcmp(ours.item, theirs.item, ours.n * sizeof *ours.item) == 0);
        CHECK(memcmp(ours.length, theirs.length, ours.n * sizeof *ours.length) == 0);
        CHECK(memcmp(ours.sum, theirs.sum, ours.n * sizeof *ours.sum) == 0);
        IGNORE(reslog_close(l)); /* always NULL */
    }
    mem_free(p);
    CHECK(reslog_remove(dir(), &batch, NULL) == RC_OK);
    return 0;
}
