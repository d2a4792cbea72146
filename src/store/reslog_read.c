/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reslog_read: one record by its place.
 *
 * Finishing reads in input order what was logged in the order of the answers: nearly
 * sequential, with jitter of as many records as were in flight.  So a few chunks of the
 * file are kept, and a chunk is loaded when it is touched a second time: reads in random
 * order then cost one small pread each instead of a chunk each.
 */
#include "base/mem.h"
#include "store/reslog_int.h"

#include <fcntl.h>

#define CHUNK ((size_t)256 << 10)
#define SLOTS 6u
#define FILES 16u

struct slot {
    uint32_t segment; /* 0: free */
    uint64_t chunk;   /* number in the segment */
    uint64_t used;    /* when: a count of reads */
    size_t n;         /* bytes in p; 0: touched once, not loaded */
    uint8_t *p;
};

struct file {
    uint32_t segment; /* 0: free */
    int fd;
};

struct reslog_reader {
    struct slot slots[SLOTS];
    struct file files[FILES];
    unsigned next_file;
    uint64_t reads;
    uint8_t *scratch; /* a record that is not in one loaded chunk */
    size_t scratch_cap;
};

struct reslog_reader *reslog_reader_free(struct reslog_reader *r)
{
    if (!r)
        return NULL;
    for (unsigned i = 0; i < SLOTS; i++)
        mem_free(r->slots[i].p);
    for (unsigned i = 0; i < FILES; i++)
        if (r->files[i].segment)
            fs_close(&r->files[i].fd);
    mem_free(r->scratch);
    mem_free(r);
    return NULL;
}

static enum rc file_of(struct reslog *l, uint32_t segment, int *ret_fd, struct err *e)
{
    struct reslog_reader *r = l->reader;
    struct file *f;
    char path[FS_PATH_CAP];
    int fd;
    enum rc rc;

    for (unsigned i = 0; i < FILES; i++) {
        if (r->files[i].segment == segment) {
            *ret_fd = r->files[i].fd;
            return RC_OK;
        }
    }
    rc = reslog_path(l, segment, path, e);
    if (rc == RC_OK)
        rc = fs_open(path, O_RDONLY, 0, &fd, e);
    if (rc != RC_OK)
        return rc;
    f = &r->files[r->next_file++ % FILES];
    if (f->segment)
        fs_close(&f->fd);
    *f = (struct file){segment, fd};
    *ret_fd = fd;
    return RC_OK;
}

static enum rc read_at(struct reslog *l, uint32_t segment, uint64_t off, uint8_t *dst,
                       size_t n, size_t *ret_n, struct err *e)
{
    int fd = -1;
    enum rc rc = file_of(l, segment, &fd, e);

    return rc == RC_OK ? fs_pread(fd, dst, n, off, ret_n, l->batch.z, e) : rc;
}

/* The chunk's slot; loaded when this is not the first touch. */
static enum rc touch(struct reslog *l, uint32_t segment, uint64_t chunk,
                     struct slot **ret, struct err *e)
{
    struct reslog_reader *r = l->reader;
    struct slot *s = NULL;

    for (unsigned i = 0; i < SLOTS && !s; i++)
        if (r->slots[i].segment == segment && r->slots[i].chunk == chunk)
            s = &r->slots[i];
    if (!s) {
        s = &r->slots[0];
        for (unsigned i = 1; i < SLOTS; i++)
            if (r->slots[i].used < s->used)
                s = &r->slots[i];
        s->segment = segment;
        s->chunk = chunk;
        s->n = 0;
    } else if (s->n == 0) {
        enum rc rc;

        if (!s->p)
            s->p = mem_alloc(CHUNK);
        rc = read_at(l, segment, chunk * CHUNK, s->p, CHUNK, &s->n, e);
        if (rc != RC_OK)
            return rc;
    }
    s->used = ++r->reads;
    *ret = s;
    return RC_OK;
}

static enum rc scratch_for(struct reslog_reader *r, size_t n)
{
    uint8_t *p;

    if (n <= r->scratch_cap)
        return RC_OK;
    p = mem_resize(r->scratch, n);
    if (!p)
        return RC_NOMEM;
    r->scratch = p;
    r->scratch_cap = n;
    return RC_OK;
}

/* *ret: up to n bytes from off, *ret_n of them. */
static enum rc bytes_at(struct reslog *l, uint32_t segment, uint64_t off, size_t n,
                        const uint8_t **ret, size_t *ret_n, struct err *e)
{
    struct slot *s;
    size_t in = (size_t)(off % CHUNK);
    enum rc rc;

    if (in + n <= CHUNK) {
        rc = touch(l, segment, off / CHUNK, &s, e);
        if (rc != RC_OK)
            return rc;
        if (s->n >= in + n) {
            *ret = s->p + in;
            *ret_n = n;
            return RC_OK;
        }
    }
    if (scratch_for(l->reader, n) != RC_OK)
        return err_set(e, RC_NOMEM, "no memory for a record of %zu bytes", n);
    *ret = l->reader->scratch;
    return read_at(l, segment, off, l->reader->scratch, n, ret_n, e);
}

enum rc reslog_read(struct reslog *l, const struct reslog_place *at, char *dst,
                    struct err *e)
{
    size_t most = FRAME_MAX_HEAD + (size_t)at->length, n = 0;
    const uint8_t *p = NULL;
    struct frame f;
    enum rc rc;

    if (!l->reader)
        l->reader = mem_new(struct reslog_reader);
    rc = bytes_at(l, at->segment, at->offset, most, &p, &n, e);
    if (rc != RC_OK)
        return rc;
    if (n < FRAME_FIXED || !frame_parse(p, &f) || f.payload_n != at->length ||
        n < (size_t)f.head_n + f.payload_n || !frame_good(p, &f, l->seed))
        return err_set(e, RC_CORRUPT,
                       "segment %u of the log of '%s' holds no good record at %llu",
                       at->segment, l->batch.z, (unsigned long long)at->offset);
    memcpy(dst, p + f.head_n, f.payload_n);
    return RC_OK;
}
