/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_reslog: a results log of any bytes.
 *
 * The first byte says how: bit 0 makes the head's CRC right, bit 1 those of everything
 * that looks like a record (or no fuzzer would get behind them), bit 2 puts a good second
 * segment behind it.  What was found must be found again, without damage, by the next
 * open, by a scan and record by record.
 */
/* reaches: src/store/reslog_open.c 30 */
/* reaches: src/store/reslog_walk.c 38 */
#include "base/crc.h"
#include "base/fsio.h"
#include "base/mem.h"
#include "store/le.h"
#include "store/reslog.h"
#include "store/reslog_frame.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define ITEMS 1000u
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
    uint32_t n, sum;
    struct reslog_place places[MAX];
};

static void see(void *ctx, const struct reslog_rec *r, const struct reslog_place *at)
{
    struct found *f = ctx;

    CHECK(r->item < ITEMS && (r->kind == RESULT_OUTPUT || r->kind == RESULT_ERROR));
    CHECK(at->length == r->payload.n);
    f->sum = crc32c(f->sum, r->payload.p, r->payload.n);
    f->sum = crc32c(f->sum, &r->usage, sizeof r->usage);
    if (f->n < MAX)
        f->places[f->n] = *at;
    f->n++;
}

static const char *dir(void)
{
    static char path[64];

    if (!path[0]) {
        snprintf(path, sizeof path, "%s/fuzz-reslog-XXXXXX",
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

static void put_good(unsigned segment)
{
    struct frame_head h = {batch, segment, 1, ITEMS};
    struct reslog_rec r = {.item = 7, .kind = RESULT_ERROR, .payload = STR("{}\n")};
    uint8_t raw[256];

    frame_head_put(raw, &h);
    frame_put(raw + FRAME_HEAD_BYTES, frame_seed(&batch), 1, true, &r);
    put(segment, raw, FRAME_HEAD_BYTES + frame_size(&r));
}

static void mend(uint8_t *p, size_t n, unsigned how)
{
    struct frame_head h = {batch, 1, 1, ITEMS};
    struct frame f;

    if (how & 1 && n >= FRAME_HEAD_BYTES)
        frame_head_put(p, &h);
    for (size_t i = FRAME_HEAD_BYTES; how & 2 && i + FRAME_FIXED <= n; i++)
        if (frame_parse(p + i, &f) && (size_t)f.head_n + f.payload_n <= n - i)
            le32_put(p + i + 4, crc32c(frame_seed(&batch), p + i + 8,
                                       (size_t)f.head_n + f.payload_n - 8));
}

static void read_all(struct reslog *l, const struct found *f)
{
    for (uint32_t i = 0; i < f->n && i < MAX; i++) {
        char *dst = mem_try(f->places[i].length);

        CHECK(reslog_read(l, &f->places[i], dst, NULL) == RC_OK);
        mem_free(dst);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct found first, again, scanned;
    struct reslog *l = NULL;
    uint64_t damaged = 0;
    unsigned how = n ? data[0] : 0;
    uint8_t *p = mem_try(n + 1);
    enum rc rc;

    if (n)
        memcpy(p, data + 1, n - 1);
    mend(p, n ? n - 1 : 0, how);
    put(1, p, n ? n - 1 : 0);
    mem_free(p);
    if (how & 4)
        put_good(2);
    first = again = scanned = (struct found){0};
    rc = reslog_open(dir(), &batch, ITEMS, see, &first, &l, &damaged, NULL);
    CHECK(rc == RC_OK || rc == RC_CORRUPT);
    if (rc == RC_OK) {
        reslog_close(l);
        CHECK(reslog_open(dir(), &batch, ITEMS, see, &again, &l, &damaged, NULL) ==
              RC_OK);
        CHECK(again.n == first.n && again.sum == first.sum);
        CHECK(how & 4 || damaged == 0); /* the last segment was written anew */
        CHECK(reslog_scan(l, see, &scanned, &damaged, NULL) == RC_OK);
        CHECK(scanned.n == first.n && scanned.sum == first.sum);
        read_all(l, &scanned);
        reslog_close(l);
    }
    CHECK(reslog_remove(dir(), &batch, NULL) == RC_OK);
    return 0;
}
