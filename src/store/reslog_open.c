/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reslog_open: what a stop left of a log, read and made certain again.
 *
 * All segments but the last are known to be on disk (reslog.h) and are only read.  The
 * last one may look better in the page cache than it is on disk, when a sync failed in
 * the process before; so what is good in it is written to a new file of a higher
 * generation, which takes the old one's name only after it was synced
 * (docs/reliability.md).
 */
#include "base/guard.h"
#include "base/mem.h"
#include "store/reslog_int.h"

#include <fcntl.h>
#include <stdlib.h>

#define OUT_BYTES ((size_t)1 << 20)

/* The new generation of the last segment while it is being written. */
struct rewrite {
    char tmp[FS_PATH_CAP];
    int fd; /* -1: this segment is only read */
    uint32_t generation;
    uint64_t end; /* of what was handed in */
    size_t n, cap;
    uint8_t *out;
};

struct recovery {
    struct reslog *l;
    reslog_seen_fn *seen;
    void *ctx;
    struct walk walk;
    uint64_t damaged;
    struct rewrite rw;
};

/* ---- rewriting ----------------------------------------------------------------------*/

static enum rc rewrite_flush(struct rewrite *rw, struct err *e)
{
    enum rc rc = fs_pwrite(rw->fd, rw->out, rw->n, rw->end - rw->n, rw->tmp, e);

    rw->n = 0;
    return rc;
}

static enum rc rewrite_add(struct rewrite *rw, uint8_t *p, const struct frame *f,
                           uint32_t seed, struct err *e)
{
    size_t n = (size_t)f->head_n + f->payload_n;
    enum rc rc = RC_OK;

    frame_restamp(p, f, seed, rw->generation);
    if (rw->n + n > rw->cap)
        rc = rewrite_flush(rw, e);
    if (rc != RC_OK)
        return rc;
    if (n > rw->cap) {
        rc = fs_pwrite(rw->fd, p, n, rw->end, rw->tmp, e);
    } else {
        memcpy(rw->out + rw->n, p, n);
        rw->n += n;
    }
    rw->end += n;
    return rc;
}

/* size: of the segment as it is. */
static enum rc rewrite_begin(struct recovery *v, uint32_t segment, const char *path,
                             uint64_t size, struct err *e)
{
    struct rewrite *rw = &v->rw;

    if (str_fmt(rw->tmp, sizeof rw->tmp, "%s.tmp", path) != RC_OK)
        return err_set(e, RC_LIMIT, "the path '%.200s' is too long", path);
    rw->cap = (size_t)u64_min(OUT_BYTES, size);
    rw->out = mem_try(rw->cap);
    if (!rw->out)
        return err_set(e, RC_NOMEM, "no memory to recover '%s'", path);
    rw->generation = v->l->generation;
    rw->end = FRAME_HEAD_BYTES;
    return reslog_make_segment(v->l, segment, rw->tmp, O_TRUNC, &rw->fd, e);
}

/* From here on the new file is the log's last segment. */
static enum rc rewrite_finish(struct recovery *v, const char *path, struct err *e)
{
    struct rewrite *rw = &v->rw;
    enum rc rc = rewrite_flush(rw, e);

    if (rc == RC_OK && GUARD(LOG_REWRITE_SYNC) && fs_sync(rw->fd, rw->tmp, e) != RC_OK)
        rc = RC_IO;
    if (rc == RC_OK)
        rc = fs_rename(rw->tmp, path, e);
    if (rc != RC_OK)
        return rc;
    if (GUARD(LOG_REWRITE_DIR_SYNC) && fs_sync_dir(v->l->spool, e) != RC_OK)
        return RC_IO;
    v->l->fd = rw->fd;
    v->l->end = rw->end;
    rw->fd = -1;
    return RC_OK;
}

/* What LOG_REWRITE is there against: the segment goes on as it lies there. */
static enum rc keep_segment(struct recovery *v, const char *path, uint64_t size,
                            struct err *e)
{
    v->l->generation = v->walk.generation;
    v->l->end = size;
    return fs_open(path, O_RDWR, 0, &v->l->fd, e);
}

static void rewrite_drop(struct rewrite *rw)
{
    if (rw->fd >= 0)
        IGNORE(fs_unlink(rw->tmp, NULL)); /* a leftover is overwritten by the next */
    fs_close(&rw->fd);
    mem_free(rw->out);
    rw->out = NULL;
}

/* ---- reading ------------------------------------------------------------------------*/

static enum rc check_head(const struct reslog *l, uint32_t segment,
                          const struct frame_head *h, const char *path, struct err *e)
{
    if (strcmp(h->batch.z, l->batch.z) != 0)
        return err_set(e, RC_CORRUPT, "'%s' belongs to batch '%s'", path, h->batch.z);
    if (h->items != l->items || h->segment != segment)
        return err_set(e, RC_CORRUPT,
                       "'%s' is segment %u of %u requests; segment %u of %u was expected",
                       path, h->segment, h->items, segment, l->items);
    return RC_OK;
}

/* *ret_generation: 0 when the head cannot be read; the records may still be good. */
static enum rc read_head(const struct reslog *l, uint32_t segment, int fd,
                         const char *path, uint32_t *ret_generation, struct err *e)
{
    uint8_t raw[FRAME_HEAD_BYTES];
    struct frame_head h;
    uint32_t version;
    size_t n;
    enum rc rc = fs_pread(fd, raw, sizeof raw, 0, &n, path, e);

    *ret_generation = 0;
    if (rc != RC_OK || n < sizeof raw)
        return rc;
    rc = frame_head_get(raw, &h, &version);
    if (rc == RC_LIMIT)
        return err_set(e, RC_CORRUPT,
                       "'%s' has format %u, this program reads format 1: finish the "
                       "batch with the program that began it",
                       path, version);
    if (rc != RC_OK)
        return RC_OK;
    rc = check_head(l, segment, &h, path, e);
    if (rc == RC_OK)
        *ret_generation = h.generation;
    return rc;
}

static enum rc one_record(struct recovery *v, uint32_t segment, struct walk_rec *w,
                          struct err *e)
{
    struct reslog_place at = {segment, w->frame.payload_n, w->offset};
    struct reslog_rec r;
    enum rc rc = RC_OK;

    if (v->rw.fd >= 0) {
        at.offset = v->rw.end;
        rc = rewrite_add(&v->rw, w->p, &w->frame, v->walk.seed, e);
    }
    if (rc != RC_OK)
        return rc;
    frame_rec(w->p, &w->frame, &r);
    v->seen(v->ctx, &r, &at);
    return RC_OK;
}

/*
 * Bytes that are no record are damage when they had been synced: in a segment that has a
 * successor, or before a record that was written after such a sync.  What is left of the
 * last block of all was never promised to anyone: a torn tail.
 */
static enum rc read_records(struct recovery *v, uint32_t segment, bool synced,
                            struct err *e)
{
    uint64_t gaps = 0;
    struct walk_rec w;
    enum rc rc;

    while ((rc = walk_next(&v->walk, &w, e)) == RC_OK) {
        gaps += w.gap;
        if (w.frame.flags & FRAME_SYNCED_BEFORE) {
            v->damaged += gaps;
            gaps = 0;
        }
        if (w.stray)
            v->damaged++;
        else
            rc = one_record(v, segment, &w, e);
        if (rc != RC_OK)
            return rc;
    }
    if (rc != RC_NOTFOUND)
        return rc;
    if (synced)
        v->damaged += gaps + w.gap;
    return RC_OK;
}

/* end: of what counts; UINT64_MAX: the whole file. */
static enum rc read_segment(struct recovery *v, uint32_t segment, int fd,
                            const char *path, uint64_t end, bool synced, struct err *e)
{
    uint32_t generation;
    uint64_t size;
    enum rc rc = fs_size(fd, &size, path, e);

    if (rc == RC_OK)
        rc = read_head(v->l, segment, fd, path, &generation, e);
    if (rc != RC_OK)
        return rc;
    end = u64_min(end, size);
    walk_file(&v->walk, fd, path, generation, u64_min(FRAME_HEAD_BYTES, end), end);
    rc = read_records(v, segment, synced, e);
    /* A head without a record behind it may be what a crash left of making the segment;
     * any other unreadable head was synced once. */
    if (rc == RC_OK && generation == 0 && (synced || v->walk.generation))
        v->damaged++;
    return rc;
}

static enum rc recover_segment(struct recovery *v, uint32_t segment, bool last,
                               struct err *e)
{
    char path[FS_PATH_CAP];
    int fd = -1;
    bool anew;
    uint64_t size = 0;
    enum rc rc = reslog_path(v->l, segment, path, e);

    if (rc == RC_OK)
        rc = fs_open(path, O_RDONLY, 0, &fd, e);
    if (rc == RC_OK && last)
        rc = fs_size(fd, &size, path, e);
    anew = last && (GUARD(LOG_REWRITE) || size <= FRAME_HEAD_BYTES);
    if (rc == RC_OK && anew)
        rc = rewrite_begin(v, segment, path, size, e);
    if (rc == RC_OK)
        rc = read_segment(v, segment, fd, path, UINT64_MAX, !last, e);
    fs_close(&fd);
    if (rc == RC_OK && last)
        rc = anew ? rewrite_finish(v, path, e) : keep_segment(v, path, size, e);
    return rc;
}

/* ---- opening ------------------------------------------------------------------------*/

static enum rc note_segment(void *ctx, uint32_t segment, bool whole, struct err *e)
{
    (void)e;
    if (whole)
        reslog_add_number(ctx, segment);
    return RC_OK;
}

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static enum rc find_segments(struct recovery *v, struct err *e)
{
    struct reslog *l = v->l;
    enum rc rc = reslog_each_segment(l->spool, &l->batch, note_segment, l, e);

    if (rc != RC_OK)
        return rc;
    if (l->n_numbers == 0)
        return err_set(e, RC_NOTFOUND, "batch '%s' has no results log", l->batch.z);
    qsort(l->numbers, l->n_numbers, sizeof *l->numbers, by_number);
    /* Segments are numbered from 1 without holes. */
    for (size_t i = 0; i < l->n_numbers; i++)
        v->damaged += l->numbers[i] != (i ? l->numbers[i - 1] : 0) + 1;
    return RC_OK;
}

/*
 * One more than the highest there is.  A rewrite that came to nothing may have used that
 * one before; its records were copies of this log's own, so they can do no harm.  An
 * unreadable head hides its generation: then the records tell it.
 */
static enum rc choose_generation(struct recovery *v, struct err *e)
{
    struct reslog *l = v->l;
    uint32_t highest = 0;

    for (size_t i = 0; i < l->n_numbers; i++) {
        char path[FS_PATH_CAP];
        uint32_t generation = 0;
        struct walk_rec w;
        int fd = -1;
        uint64_t size;
        enum rc rc = reslog_path(l, l->numbers[i], path, e);

        if (rc == RC_OK)
            rc = fs_open(path, O_RDONLY, 0, &fd, e);
        if (rc == RC_OK)
            rc = read_head(l, l->numbers[i], fd, path, &generation, e);
        if (rc == RC_OK && generation == 0)
            rc = fs_size(fd, &size, path, e);
        if (rc == RC_OK && generation == 0) {
            walk_file(&v->walk, fd, path, 0, u64_min(FRAME_HEAD_BYTES, size), size);
            rc = walk_next(&v->walk, &w, e);
            rc = rc == RC_NOTFOUND ? RC_OK : rc;
            generation = v->walk.generation;
        }
        fs_close(&fd);
        if (rc != RC_OK)
            return rc;
        highest = generation > highest ? generation : highest;
    }
    /* No log is opened so often: such a number is damage that looks good, and 1 is as
     * different from it as any other. */
    l->generation = highest == UINT32_MAX ? 1 : highest + 1;
    return RC_OK;
}

static enum rc recover(struct recovery *v, struct err *e)
{
    enum rc rc = find_segments(v, e);

    if (rc == RC_OK)
        rc = choose_generation(v, e);
    for (size_t i = 0; rc == RC_OK && i < v->l->n_numbers; i++)
        rc = recover_segment(v, v->l->numbers[i], i + 1 == v->l->n_numbers, e);
    return rc;
}

enum rc reslog_open(const char *spool, const struct id *batch, uint32_t items,
                    reslog_seen_fn *seen, void *ctx, struct reslog **ret,
                    uint64_t *ret_damaged, struct err *e)
{
    struct recovery v = {
        .l = reslog_new(spool, batch, items), .seen = seen, .ctx = ctx, .rw = {.fd = -1}};
    enum rc rc;

    walk_init(&v.walk, v.l->seed, items);
    rc = recover(&v, e);
    rewrite_drop(&v.rw);
    walk_done(&v.walk);
    if (rc != RC_OK) {
        reslog_close(v.l);
        return rc;
    }
    *ret_damaged = v.damaged;
    *ret = v.l;
    return RC_OK;
}

/* ---- scanning -----------------------------------------------------------------------*/

static enum rc scan_segment(struct recovery *v, size_t i, struct err *e)
{
    struct reslog *l = v->l;
    bool last = i + 1 == l->n_numbers;
    char path[FS_PATH_CAP];
    int fd = -1;
    enum rc rc = reslog_path(l, l->numbers[i], path, e);

    if (rc == RC_OK)
        rc = fs_open(path, O_RDONLY, 0, &fd, e);
    if (rc == RC_OK)
        rc =
            read_segment(v, l->numbers[i], fd, path, last ? l->end : UINT64_MAX, true, e);
    fs_close(&fd);
    return rc;
}

enum rc reslog_scan(struct reslog *l, reslog_seen_fn *seen, void *ctx,
                    uint64_t *ret_damaged, struct err *e)
{
    struct recovery v = {.l = l, .seen = seen, .ctx = ctx, .rw = {.fd = -1}};
    enum rc rc = RC_OK;

    walk_init(&v.walk, l->seed, l->items);
    for (size_t i = 0; i < l->n_numbers; i++)
        v.damaged += l->numbers[i] != (i ? l->numbers[i - 1] : 0) + 1;
    for (size_t i = 0; rc == RC_OK && i < l->n_numbers; i++)
        rc = scan_segment(&v, i, e);
    walk_done(&v.walk);
    if (rc == RC_OK)
        *ret_damaged = v.damaged;
    return rc;
}
