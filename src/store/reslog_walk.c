/* SPDX-License-Identifier: Apache-2.0 */
#include "store/reslog_walk.h"
#include "base/fsio.h"
#include "base/guard.h"
#include "base/mem.h"

#include <fcntl.h>

#define WINDOW ((size_t)1 << 20)

void walk_init(struct walk *w, uint32_t seed, uint32_t items)
{
    *w = (struct walk){.seed = seed, .items = items, .fd = -1};
}

void walk_done(struct walk *w)
{
    mem_free(w->win);
    *w = (struct walk){.fd = -1};
}

void walk_file(struct walk *w, int fd, const char *path, uint32_t generation,
               uint64_t from, uint64_t end)
{
    w->fd = fd;
    w->path = path;
    w->generation = generation;
    w->at = from;
    w->end = end;
    w->win_n = 0;
    w->win_off = from;
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL); /* advice; may fail */
}

/* To n bytes at least; to WINDOW when the file has so much. */
static enum rc grow(struct walk *w, size_t n, struct err *e)
{
    uint8_t *p;

    if (n <= w->win_cap)
        return RC_OK;
    n = (size_t)u64_max(n, u64_min(WINDOW, w->end - w->at));
    p = mem_resize(w->win, n);
    if (!p) {
        err_set(e, RC_NOMEM, "no memory for a record of %zu bytes in '%s'", n, w->path);
        return RC_NOMEM;
    }
    w->win = p;
    w->win_cap = n;
    return RC_OK;
}

/* Makes n bytes at w->at (which lie before w->end) readable at *ret. */
static enum rc need(struct walk *w, size_t n, uint8_t **ret, struct err *e)
{
    uint64_t have_to = w->win_off + w->win_n;
    size_t keep, want, got;
    enum rc rc;

    if (w->at + n > have_to) {
        rc = grow(w, n, e);
        if (rc != RC_OK)
            return rc;
        keep = w->at < have_to ? (size_t)(have_to - w->at) : 0;
        if (keep)
            memmove(w->win, w->win + (w->at - w->win_off), keep);
        want = (size_t)u64_min(w->win_cap - keep, w->end - w->at - keep);
        w->win_off = w->at;
        w->win_n = keep;
        rc = fs_pread(w->fd, w->win + keep, want, w->at + keep, &got, w->path, e);
        if (rc != RC_OK)
            return rc;
        if (got < want) {
            err_set(e, RC_IO, "'%s' became shorter while it was read", w->path);
            return RC_IO;
        }
        w->win_n += got;
    }
    *ret = w->win + (w->at - w->win_off);
    return RC_OK;
}

/* Is there a good record at w->at?  RC_NOTFOUND: no. */
static enum rc take(struct walk *w, struct walk_rec *ret, struct err *e)
{
    struct frame f;
    uint8_t *p;
    size_t n;
    enum rc rc = need(w, FRAME_FIXED, &p, e);

    if (rc != RC_OK)
        return rc;
    if (!frame_parse(p, &f) ||
        (GUARD(LOG_GENERATION) && w->generation && f.generation != w->generation))
        return RC_NOTFOUND;
    n = (size_t)f.head_n + f.payload_n;
    if (n > w->end - w->at)
        return RC_NOTFOUND;
    rc = need(w, n, &p, e);
    if (rc != RC_OK)
        return rc;
    if (!frame_good(p, &f, w->seed))
        return RC_NOTFOUND;
    w->generation = f.generation;
    ret->frame = f;
    ret->p = p;
    ret->offset = w->at;
    ret->stray = f.item >= w->items;
    w->at += n;
    return RC_OK;
}

/* Moves w->at on to the next mark; to w->end when there is none. */
static enum rc resync(struct walk *w, struct err *e)
{
    w->at++;
    while (w->end - w->at >= FRAME_FIXED) {
        uint8_t *p, *hit;
        size_t n;
        enum rc rc = need(w, FRAME_FIXED, &p, e);

        if (rc != RC_OK)
            return rc;
        CHECK(p);
        n = (size_t)(w->win_off + w->win_n - w->at);
        hit = memmem(p, n, FRAME_MAGIC, FRAME_MAGIC_LEN);
        if (hit) {
            w->at += (uint64_t)(hit - p);
            return RC_OK;
        }
        w->at += n - (FRAME_MAGIC_LEN - 1); /* a mark may be cut by the window's end */
    }
    w->at = w->end;
    return RC_OK;
}

enum rc walk_next(struct walk *w, struct walk_rec *ret, struct err *e)
{
    bool gap = false;
    enum rc rc = RC_NOTFOUND;

    while (w->at < w->end) {
        if (w->end - w->at < FRAME_FIXED) {
            gap = true;
            w->at = w->end;
            break;
        }
        rc = take(w, ret, e);
        if (rc != RC_NOTFOUND)
            break;
        gap = true;
        rc = GUARD(LOG_PASSES_OVER) ? resync(w, e) : RC_NOTFOUND;
        if (rc != RC_OK)
            break;
        rc = RC_NOTFOUND;
    }
    ret->gap = gap;
    return rc;
}
