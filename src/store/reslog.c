/* SPDX-License-Identifier: Apache-2.0 */
#include "store/reslog.h"
#include "base/guard.h"
#include "base/mem.h"
#include "store/reslog_int.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#define BLOCK_MIN ((size_t)4 << 10)

struct reslog_block {
    size_t n, cap;
    uint32_t records;
    uint8_t data[];
};

/* ---- names --------------------------------------------------------------------------*/

enum rc reslog_segment_path(const char *spool, const struct id *batch, uint32_t segment,
                            char ret[FS_PATH_CAP], struct err *e)
{
    char name[ID_CAP + 32];

    if (str_fmt(name, sizeof name, "%s.%06u.log", batch->z, segment) != RC_OK)
        PANIC("a batch id of %zu bytes", strlen(batch->z));
    return fs_join(ret, spool, name, e);
}

enum rc reslog_path(const struct reslog *l, uint32_t segment, char ret[FS_PATH_CAP],
                    struct err *e)
{
    return reslog_segment_path(l->spool, &l->batch, segment, ret, e);
}

/* "NNNNNN.log" or "NNNNNN.log.tmp" */
static bool parse_tail(const char *tail, uint32_t *ret_segment, bool *ret_whole)
{
    struct str s = str_of(tail), digits = str_cut(&s, '.');
    uint64_t v;

    if (digits.n < 6 || str_u64(digits, &v) != RC_OK || v == 0 || v > UINT32_MAX)
        return false;
    *ret_segment = (uint32_t)v;
    *ret_whole = str_is(s, "log");
    return *ret_whole || str_is(s, "log.tmp");
}

enum rc reslog_each_segment(const char *spool, const struct id *batch, segment_fn *fn,
                            void *ctx, struct err *e)
{
    size_t n = strlen(batch->z);
    enum rc rc = RC_OK;
    struct dirent *d;
    DIR *dir = opendir(spool);

    if (!dir)
        return err_sys(e, rc_of_errno(errno), errno, "cannot open directory '%s'", spool);
    while (errno = 0, rc == RC_OK && (d = readdir(dir))) {
        uint32_t segment;
        bool whole;

        if (strncmp(d->d_name, batch->z, n) == 0 && d->d_name[n] == '.' &&
            parse_tail(d->d_name + n + 1, &segment, &whole))
            rc = fn(ctx, segment, whole, e);
    }
    if (rc == RC_OK && errno)
        rc = err_sys(e, RC_IO, errno, "cannot read directory '%s'", spool);
    closedir(dir);
    return rc;
}

void reslog_add_number(struct reslog *l, uint32_t segment)
{
    if (l->n_numbers == l->cap_numbers) {
        uint32_t *p;

        l->cap_numbers = l->cap_numbers ? 2 * l->cap_numbers : 8;
        p = mem_resize(l->numbers, l->cap_numbers * sizeof *p);
        if (!p)
            PANIC("out of memory (%zu segment numbers)", l->cap_numbers);
        l->numbers = p;
    }
    l->numbers[l->n_numbers++] = segment;
}

uint32_t reslog_last(const struct reslog *l)
{
    return l->n_numbers ? l->numbers[l->n_numbers - 1] : 0;
}

/* ---- making and closing -------------------------------------------------------------*/

struct reslog *reslog_new(const char *spool, const struct id *batch, uint32_t items)
{
    struct reslog *l = mem_new(struct reslog);

    l->spool = mem_dup(spool, strlen(spool));
    l->batch = *batch;
    l->items = items;
    l->seed = frame_seed(batch);
    l->segment_bytes = SEGMENT_BYTES;
    l->fd = -1;
    return l;
}

struct reslog *reslog_close(struct reslog *l)
{
    if (!l)
        return NULL;
    fs_close(&l->fd);
    reslog_reader_free(l->reader);
    reslog_block_free(l->pending);
    mem_free(l->numbers);
    mem_free(l->spool);
    mem_free(l);
    return NULL;
}

void reslog_segment_bytes(struct reslog *l, uint64_t n)
{
    l->segment_bytes = n;
}

enum rc reslog_make_segment(const struct reslog *l, uint32_t segment, const char *path,
                            int flags, int *ret_fd, struct err *e)
{
    struct frame_head h = {l->batch, segment, l->generation, l->items};
    uint8_t head[FRAME_HEAD_BYTES];
    int fd = -1;
    enum rc rc = fs_open(path, O_RDWR | O_CREAT | flags, 0600, &fd, e);

    if (rc != RC_OK)
        return rc;
    frame_head_put(head, &h);
    rc = fs_pwrite(fd, head, sizeof head, 0, path, e);
    if (rc == RC_OK) {
        *ret_fd = fd;
        return RC_OK;
    }
    fs_close(&fd);
    IGNORE(fs_unlink(path, NULL)); /* the first failure is the one to tell */
    return rc;
}

/* A segment that nothing can be wrong with: file and directory are on disk. */
static enum rc start_segment(struct reslog *l, uint32_t number, int flags, struct err *e)
{
    char path[FS_PATH_CAP];
    int fd = -1;
    enum rc rc = reslog_path(l, number, path, e);

    if (rc == RC_OK)
        rc = reslog_make_segment(l, number, path, flags, &fd, e);
    if (rc != RC_OK)
        return rc;
    rc = fs_sync(fd, path, e) == RC_OK ? RC_OK : RC_IO;
    if (rc == RC_OK && GUARD(LOG_DIR_SYNC))
        rc = fs_sync_dir(l->spool, e);
    if (rc != RC_OK) {
        fs_close(&fd);
        IGNORE(fs_unlink(path, NULL)); /* as above */
        /* Whatever the reason, a failed sync is final (reslog.h); one that was not tried
         * may be. */
        return rc == RC_NOMEM ? rc : RC_IO;
    }
    fs_close(&l->fd);
    l->fd = fd;
    l->end = FRAME_HEAD_BYTES;
    reslog_add_number(l, number);
    return RC_OK;
}

static enum rc refuse_any(void *ctx, uint32_t segment, bool whole, struct err *e)
{
    const struct id *batch = ctx;

    (void)segment;
    if (!whole)
        return RC_OK;
    return err_set(e, RC_CONFLICT, "batch '%s' has a results log already", batch->z);
}

enum rc reslog_create(const char *spool, const struct id *batch, uint32_t items,
                      struct reslog **ret, struct err *e)
{
    struct id id = *batch;
    struct reslog *l;
    enum rc rc = reslog_each_segment(spool, batch, refuse_any, &id, e);

    if (rc != RC_OK)
        return rc;
    l = reslog_new(spool, batch, items);
    l->generation = 1;
    rc = start_segment(l, 1, O_EXCL, e);
    if (rc != RC_OK) {
        reslog_close(l);
        return rc;
    }
    *ret = l;
    return RC_OK;
}

/* ---- the owner's half ---------------------------------------------------------------*/

/* Starts at about the size of the block before, so that a steady flow does not copy its
 * bytes from block to larger block. */
static enum rc room_for(struct reslog *l, size_t n)
{
    struct reslog_block *b = l->pending;
    size_t cap = b ? b->cap : l->last_cut + l->last_cut / 8;

    if (b && b->cap - b->n >= n)
        return RC_OK;
    if (cap < BLOCK_MIN)
        cap = BLOCK_MIN;
    while (cap - (b ? b->n : 0) < n)
        cap *= 2;
    b = mem_resize(b, sizeof *b + cap);
    if (!b)
        return RC_NOMEM;
    if (!l->pending)
        b->n = b->records = 0;
    b->cap = cap;
    l->pending = b;
    return RC_OK;
}

enum rc reslog_append(struct reslog *l, const struct reslog_rec *r)
{
    size_t n = frame_size(r);
    struct reslog_block *b;

    CHECK(r->item < l->items);
    if (r->payload.n > FRAME_MAX_PAYLOAD)
        return RC_LIMIT;
    if (room_for(l, n) != RC_OK)
        return RC_NOMEM;
    b = l->pending;
    frame_put(b->data + b->n, l->seed, l->generation, b->records == 0, r);
    b->n += n;
    b->records++;
    return RC_OK;
}

size_t reslog_pending(const struct reslog *l)
{
    return l->pending ? l->pending->n : 0;
}

struct reslog_block *reslog_cut(struct reslog *l)
{
    struct reslog_block *b = l->pending;

    if (b)
        l->last_cut = b->n;
    l->pending = NULL;
    return b;
}

uint32_t reslog_block_records(const struct reslog_block *b)
{
    return b->records;
}

struct reslog_block *reslog_block_free(struct reslog_block *b)
{
    mem_free(b);
    return NULL;
}

/* ---- the committer's half -----------------------------------------------------------*/

static enum rc die(struct reslog *l)
{
    l->dead = true;
    return RC_IO;
}

static enum rc put_block(struct reslog *l, const struct reslog_block *b, const char *path,
                         struct err *e)
{
    enum rc rc = fs_pwrite(l->fd, b->data, b->n, l->end, path, e);

    if (rc == RC_NOSPACE && fs_truncate(l->fd, l->end, path, e) == RC_OK)
        return RC_NOSPACE;
    if (rc != RC_OK || (GUARD(LOG_SYNC) && fs_sync_data(l->fd, path, e) != RC_OK))
        return die(l);
    return RC_OK;
}

enum rc reslog_commit(struct reslog *l, struct reslog_block *b, struct err *e)
{
    char path[FS_PATH_CAP];
    enum rc rc = RC_OK;

    if (l->dead)
        return err_set(e, RC_IO, "the results log of '%s' failed before", l->batch.z);
    /* The old one was synced by its last commit: only so may a next one exist. */
    if (l->end >= l->segment_bytes)
        rc = start_segment(l, reslog_last(l) + 1, O_TRUNC, e);
    if (rc != RC_OK)
        return rc == RC_NOSPACE || rc == RC_NOMEM ? rc : die(l);
    rc = reslog_path(l, reslog_last(l), path, e);
    if (rc == RC_OK)
        rc = put_block(l, b, path, e);
    if (rc != RC_OK)
        return rc;
    l->end += b->n;
    reslog_block_free(b);
    return RC_OK;
}

struct reslog_mark reslog_mark(const struct reslog *l)
{
    return (struct reslog_mark){reslog_last(l), l->end};
}

/* ---- removing -----------------------------------------------------------------------*/

struct remover {
    const char *spool;
    const struct id *batch;
};

static enum rc remove_one(void *ctx, uint32_t segment, bool whole, struct err *e)
{
    const struct remover *r = ctx;
    char name[ID_CAP + 32], path[FS_PATH_CAP];
    enum rc rc;

    if (str_fmt(name, sizeof name, "%s.%06u.log%s", r->batch->z, segment,
                whole ? "" : ".tmp") != RC_OK)
        PANIC("a batch id of %zu bytes", strlen(r->batch->z));
    rc = fs_join(path, r->spool, name, e);
    return rc == RC_OK ? fs_unlink(path, e) : rc;
}

enum rc reslog_remove(const char *spool, const struct id *batch, struct err *e)
{
    struct remover r = {spool, batch};

    return reslog_each_segment(spool, batch, remove_one, &r, e);
}
