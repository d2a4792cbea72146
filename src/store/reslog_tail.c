/* SPDX-License-Identifier: Apache-2.0 */
#include "store/reslog_tail.h"
#include "base/crc.h"
#include "base/mem.h"
#include "store/le.h"
#include "store/reslog_int.h"

#include <fcntl.h>

#define WINDOW ((size_t)64 << 10)

/* So much may be read in vain by one call: a few milliseconds. */
#define AT_ONCE ((uint64_t)8 << 20)

/* Of a record: its mark and its CRC, which the CRC does not cover. */
#define UNCOVERED 8u

struct reslog_tail {
    char *spool;
    struct id batch;
    uint32_t items, seed;
    uint8_t *seen; /* a bit an item; NULL: no record has come */

    uint32_t segment;    /* being read; from 1 */
    int fd;              /* -1: not open yet */
    uint32_t generation; /* 0: not known yet */
    uint64_t at, end;    /* in the segment; end: of what may be read of it */

    uint64_t line_at, line_end; /* what is left of the last record's line */

    uint8_t *win; /* WINDOW bytes; NULL: none */
    uint64_t win_off;
    size_t win_n;
};

struct reslog_tail *reslog_tail_new(const char *spool, const struct id *batch,
                                    uint32_t items)
{
    struct reslog_tail *t = mem_new(struct reslog_tail);

    t->spool = mem_dup(spool, strlen(spool));
    t->batch = *batch;
    t->items = items;
    t->seed = frame_seed(batch);
    t->segment = 1;
    t->fd = -1;
    return t;
}

struct reslog_tail *reslog_tail_free(struct reslog_tail *t)
{
    if (!t)
        return NULL;
    fs_close(&t->fd);
    reslog_tail_rest(t);
    mem_free(t->seen);
    mem_free(t->spool);
    mem_free(t);
    return NULL;
}

void reslog_tail_rest(struct reslog_tail *t)
{
    mem_free(t->win);
    t->win = NULL;
    t->win_n = 0;
}

bool reslog_tail_seen(const struct reslog_tail *t, uint32_t item)
{
    return t->seen && item < t->items && (t->seen[item / 8] >> (item % 8) & 1);
}

/* ---- bytes ----------------------------------------------------------------------------
 */

/* *ret: want bytes (at most WINDOW) at off, less only before t->end; never none. */
static enum rc bytes_at(struct reslog_tail *t, uint64_t off, size_t want,
                        const uint8_t **ret, size_t *ret_n, struct err *e)
{
    uint64_t to = u64_min(off + want, t->end);
    enum rc rc;

    CHECK(off < to);
    if (!t->win && !(t->win = mem_try(WINDOW)))
        return err_set(e, RC_NOMEM, "no memory to read a results log");
    if (off < t->win_off || to > t->win_off + t->win_n) {
        t->win_n = 0;
        t->win_off = off;
        rc = fs_pread(t->fd, t->win, (size_t)u64_min(WINDOW, t->end - off), off,
                      &t->win_n, t->batch.z, e);
        if (rc == RC_OK && t->win_n < to - off)
            rc = err_set(e, RC_IO, "segment %u of the log of '%s' became shorter",
                         t->segment, t->batch.z);
        if (rc != RC_OK) {
            t->win_n = 0;
            return rc;
        }
    }
    *ret = t->win + (off - t->win_off);
    *ret_n = (size_t)(to - off);
    return RC_OK;
}

/* ---- segments -------------------------------------------------------------------------
 */

static enum rc read_head(struct reslog_tail *t, struct err *e)
{
    uint8_t raw[FRAME_HEAD_BYTES];
    struct frame_head h;
    uint32_t version;
    size_t n;
    enum rc rc = fs_pread(t->fd, raw, sizeof raw, 0, &n, t->batch.z, e);

    t->generation = 0; /* the first good record tells it when the head cannot */
    if (rc != RC_OK || n < sizeof raw || frame_head_get(raw, &h, &version) != RC_OK)
        return rc;
    if (strcmp(h.batch.z, t->batch.z) != 0 || h.segment != t->segment ||
        h.items != t->items)
        return err_set(e, RC_CORRUPT, "segment %u of the log of '%s' is of another log",
                       t->segment, t->batch.z);
    t->generation = h.generation;
    return RC_OK;
}

/* RC_CANCELLED: neither this segment nor a later one is there. */
static enum rc open_segment(struct reslog_tail *t, uint32_t last, struct err *e)
{
    uint32_t first = t->segment;
    char path[FS_PATH_CAP];
    enum rc rc = RC_NOTFOUND;

    while (rc == RC_NOTFOUND && t->segment <= last) {
        rc = reslog_segment_path(t->spool, &t->batch, t->segment, path, e);
        if (rc == RC_OK)
            rc = fs_open(path, O_RDONLY, 0, &t->fd, e);
        if (rc == RC_NOTFOUND && last == UINT32_MAX)
            return RC_CANCELLED;
        if (rc == RC_NOTFOUND) /* a lost one is passed over, as recovery does */
            t->segment++;
    }
    if (rc == RC_NOTFOUND) {
        t->segment = first;
        return RC_CANCELLED;
    }
    if (rc != RC_OK)
        return rc;
    t->at = t->end = FRAME_HEAD_BYTES;
    t->win_n = 0;
    rc = read_head(t, e);
    if (rc != RC_OK)
        fs_close(&t->fd);
    return rc;
}

/* Sees to it that t->at < t->end.  RC_NOTFOUND: all before `to` was read. */
static enum rc go_on(struct reslog_tail *t, const struct reslog_mark *to, struct err *e)
{
    while (t->fd < 0 || t->at >= t->end) {
        enum rc rc = RC_OK;
        uint64_t size;

        if (t->segment > to->segment ||
            (t->fd >= 0 && t->segment == to->segment && t->end >= to->end))
            return RC_NOTFOUND;
        if (t->fd < 0) {
            rc = open_segment(t, to->segment, e);
        } else if (t->segment == to->segment) {
            t->end = to->end;
        } else { /* it has a successor, so it is as long as it will ever be */
            rc = fs_size(t->fd, &size, t->batch.z, e);
            if (rc == RC_OK && t->end < size) {
                t->end = size;
            } else if (rc == RC_OK) {
                fs_close(&t->fd);
                t->segment++;
            }
        }
        if (rc != RC_OK)
            return rc;
    }
    return RC_OK;
}

/* ---- records --------------------------------------------------------------------------
 */

/* RC_NOTFOUND: the bytes are not those that were written. */
static enum rc verify(struct reslog_tail *t, const struct frame *f, uint32_t want,
                      struct err *e)
{
    uint64_t at = t->at + UNCOVERED, end = t->at + f->head_n + f->payload_n;
    uint32_t crc = t->seed;

    while (at < end) {
        const uint8_t *p = NULL;
        size_t n = 0;
        enum rc rc = bytes_at(t, at, (size_t)u64_min(WINDOW, end - at), &p, &n, e);

        if (rc != RC_OK)
            return rc;
        crc = crc32c(crc, p, n);
        at += n;
    }
    return crc == want ? RC_OK : RC_NOTFOUND;
}

/* A good record at t->at?  Then t->at is behind it.  RC_NOTFOUND: no. */
static enum rc take(struct reslog_tail *t, struct frame *ret, struct err *e)
{
    const uint8_t *p = NULL;
    uint32_t crc;
    size_t n = 0;
    enum rc rc = bytes_at(t, t->at, FRAME_FIXED, &p, &n, e);

    if (rc != RC_OK)
        return rc;
    if (n < FRAME_FIXED || !frame_parse(p, ret) ||
        (t->generation && ret->generation != t->generation) ||
        (uint64_t)ret->head_n + ret->payload_n > t->end - t->at)
        return RC_NOTFOUND;
    crc = le32_get(p + FRAME_MAGIC_LEN);
    rc = verify(t, ret, crc, e);
    if (rc != RC_OK)
        return rc;
    t->generation = ret->generation;
    t->line_at = t->at + ret->head_n;
    t->line_end = t->at = t->line_at + ret->payload_n;
    return RC_OK;
}

/* To the next mark of a record, or to the end. */
static enum rc resync(struct reslog_tail *t, struct err *e)
{
    t->at++;
    while (t->end - t->at >= FRAME_FIXED && t->at < t->end) {
        const uint8_t *p = NULL, *hit;
        size_t n = 0;
        enum rc rc =
            bytes_at(t, t->at, (size_t)u64_min(WINDOW, t->end - t->at), &p, &n, e);

        if (rc != RC_OK)
            return rc;
        hit = memmem(p, n, FRAME_MAGIC, FRAME_MAGIC_LEN);
        if (hit) {
            t->at += (uint64_t)(hit - p);
            return RC_OK;
        }
        t->at += n >= FRAME_MAGIC_LEN ? n - (FRAME_MAGIC_LEN - 1) : n;
    }
    t->at = t->end;
    return RC_OK;
}

static enum rc mark_seen(struct reslog_tail *t, uint32_t item, struct err *e)
{
    size_t n = ((size_t)t->items + 7) / 8;

    if (!t->seen) {
        t->seen = mem_try(n);
        if (!t->seen)
            return err_set(e, RC_NOMEM, "no memory to follow %u lines", t->items);
        memset(t->seen, 0, n);
    }
    t->seen[item / 8] |= (uint8_t)(1u << (item % 8));
    return RC_OK;
}

enum rc reslog_tail_next(struct reslog_tail *t, const struct reslog_mark *to,
                         struct reslog_tail_rec *ret, struct err *e)
{
    uint64_t done = 0;
    enum rc rc;

    while ((rc = go_on(t, to, e)) == RC_OK && done < AT_ONCE) {
        uint64_t from = t->at;
        struct frame f;

        rc = take(t, &f, e);
        if (rc == RC_OK && f.item < t->items && !reslog_tail_seen(t, f.item)) {
            *ret =
                (struct reslog_tail_rec){f.item, f.payload_n, (enum result_kind)f.kind};
            return mark_seen(t, f.item, e);
        }
        if (rc == RC_NOTFOUND)
            rc = resync(t, e);
        if (rc != RC_OK)
            break;
        done += t->at - from;
    }
    t->line_at = t->line_end = 0;
    return rc == RC_OK ? RC_AGAIN : rc;
}

enum rc reslog_tail_read(struct reslog_tail *t, char *dst, size_t n, struct err *e)
{
    CHECK(n <= t->line_end - t->line_at);
    while (n) {
        const uint8_t *p = NULL;
        size_t got = 0;
        enum rc rc = bytes_at(t, t->line_at, (size_t)u64_min(WINDOW, n), &p, &got, e);

        if (rc != RC_OK)
            return rc;
        CHECK(p);
        memcpy(dst, p, got);
        dst += got;
        n -= got;
        t->line_at += got;
    }
    return RC_OK;
}
