/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mem_store: a store and blobs in memory, with switches that make each operation fail.
 * For tests of the rooms above; one include per test program.
 */
#pragma once

#include "base/clock.h"
#include "base/mem.h"
#include "core/batch.h"
#include "store/blob.h"
#include "store/store.h"
#include "tests/lib/t.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MEM_ROWS = 4096 };

struct mem_file {
    struct file_rec rec;
    bool deleted;
};

struct mem_blob {
    struct id id;
    char *p;
    size_t n;
};

struct mem_store {
    pthread_mutex_t lock;
    struct mem_file files[MEM_ROWS];
    struct batch batches[MEM_ROWS];
    size_t n_files, n_batches;
    struct mem_blob blobs[MEM_ROWS];
    size_t n_blobs;
    atomic_int puts; /* begun and neither committed nor aborted */
    atomic_int begun;
    /* What the operation answers when not RC_OK: nothing is changed then. */
    enum rc fail_file_add, fail_file_get, fail_file_known, fail_batch_add;
    enum rc fail_put, fail_write, fail_commit;
    bool no_fd; /* blobs without descriptors, as an object store has */
    struct store store;
    struct blobs blobs_if;
};

static struct mem_file *mem_file_find(struct mem_store *m, const char *id)
{
    for (size_t i = 0; i < m->n_files; i++)
        if (strcmp(m->files[i].rec.id.z, id) == 0 && !m->files[i].deleted)
            return &m->files[i];
    return NULL;
}

static void mem_file_copy(struct file_rec *dst, const struct file_rec *src)
{
    *dst = *src;
    dst->filename = mem_dup(src->filename, strlen(src->filename));
}

static enum rc mem_file_add(void *self, const struct file_rec *f, struct err *e)
{
    struct mem_store *m = self;

    if (m->fail_file_add != RC_OK)
        return err_set(e, m->fail_file_add, "file_add fails");
    pthread_mutex_lock(&m->lock);
    CHECK(m->n_files < MEM_ROWS);
    mem_file_copy(&m->files[m->n_files++].rec, f);
    pthread_mutex_unlock(&m->lock);
    return RC_OK;
}

static enum rc mem_file_get(void *self, const char *id, struct file_rec *ret,
                            struct err *e)
{
    struct mem_store *m = self;
    struct mem_file *f;

    if (m->fail_file_get != RC_OK)
        return err_set(e, m->fail_file_get, "file_get fails");
    pthread_mutex_lock(&m->lock);
    f = mem_file_find(m, id);
    if (f)
        mem_file_copy(ret, &f->rec);
    pthread_mutex_unlock(&m->lock);
    return f ? RC_OK : RC_NOTFOUND;
}

static bool mem_file_wanted(const struct mem_file *f, const struct file_query *q)
{
    return !f->deleted && (!q->purpose || strcmp(q->purpose, f->rec.purpose) == 0);
}

/* Rows are in the order of creation already. */
static enum rc mem_file_list(void *self, const struct file_query *q,
                             struct file_rec **ret, size_t *ret_n, bool *ret_more,
                             struct err *e)
{
    struct mem_store *m = self;
    struct file_rec *out = mem_new_n(struct file_rec, q->limit + 1);
    bool on = !q->after, more = false;
    size_t n = 0;

    pthread_mutex_lock(&m->lock);
    for (size_t i = 0; i < m->n_files; i++) {
        const struct mem_file *f = &m->files[q->ascending ? i : m->n_files - 1 - i];

        if (on && mem_file_wanted(f, q)) {
            more = n == q->limit;
            if (more)
                break;
            mem_file_copy(&out[n++], &f->rec);
        }
        on = on || strcmp(f->rec.id.z, q->after) == 0;
    }
    pthread_mutex_unlock(&m->lock);
    if (!on) {
        mem_free(out);
        return err_set(e, RC_NOTFOUND, "no such file");
    }
    *ret = out;
    *ret_n = n;
    *ret_more = more;
    return RC_OK;
}

static enum rc mem_file_delete(void *self, const char *id, int64_t now, struct err *e)
{
    struct mem_store *m = self;
    struct mem_file *f;

    (void)now;
    pthread_mutex_lock(&m->lock);
    f = mem_file_find(m, id);
    if (f)
        f->deleted = true;
    pthread_mutex_unlock(&m->lock);
    return f ? RC_OK : err_set(e, RC_NOTFOUND, "no such file");
}

static enum rc mem_file_known(void *self, const char *id, bool *ret, struct err *e)
{
    struct mem_store *m = self;

    if (m->fail_file_known != RC_OK)
        return err_set(e, m->fail_file_known, "the ledger is gone");
    pthread_mutex_lock(&m->lock);
    *ret = mem_file_find(m, id) != NULL;
    pthread_mutex_unlock(&m->lock);
    return RC_OK;
}

static struct batch *mem_batch_find(struct mem_store *m, const char *id)
{
    for (size_t i = 0; i < m->n_batches; i++)
        if (strcmp(m->batches[i].id.z, id) == 0)
            return &m->batches[i];
    return NULL;
}

static enum rc mem_batch_add(void *self, const struct batch *b, struct err *e)
{
    struct mem_store *m = self;

    if (m->fail_batch_add != RC_OK)
        return err_set(e, m->fail_batch_add, "batch_add fails");
    pthread_mutex_lock(&m->lock);
    CHECK(m->n_batches < MEM_ROWS);
    batch_copy(&m->batches[m->n_batches], b);
    m->batches[m->n_batches++].input_missing = !mem_file_find(m, b->input_file.z);
    pthread_mutex_unlock(&m->lock);
    return RC_OK;
}

static enum rc mem_batch_get(void *self, const char *id, struct batch *ret, struct err *e)
{
    struct mem_store *m = self;
    struct batch *b;

    (void)e;
    pthread_mutex_lock(&m->lock);
    b = mem_batch_find(m, id);
    if (b)
        batch_copy(ret, b);
    pthread_mutex_unlock(&m->lock);
    return b ? RC_OK : RC_NOTFOUND;
}

static enum rc mem_batch_list(void *self, const char *after, unsigned limit,
                              struct batch **ret, size_t *ret_n, bool *ret_more,
                              struct err *e)
{
    struct mem_store *m = self;
    struct batch *out = mem_new_n(struct batch, limit + 1);
    bool on = !after, more = false;
    size_t n = 0;

    (void)e;
    pthread_mutex_lock(&m->lock);
    for (size_t i = m->n_batches; i-- > 0;) {
        if (on) {
            more = n == limit;
            if (more)
                break;
            batch_copy(&out[n++], &m->batches[i]);
        }
        on = on || strcmp(m->batches[i].id.z, after) == 0;
    }
    pthread_mutex_unlock(&m->lock);
    if (!on) {
        mem_free(out);
        return RC_NOTFOUND;
    }
    *ret = out;
    *ret_n = n;
    *ret_more = more;
    return RC_OK;
}

static enum rc mem_batch_move(void *self, const char *id, enum batch_event ev,
                              int64_t now, const struct batch_change *change,
                              struct batch *ret, struct err *e)
{
    struct mem_store *m = self;
    struct batch *b;
    enum rc rc = RC_NOTFOUND;

    (void)change;
    pthread_mutex_lock(&m->lock);
    b = mem_batch_find(m, id);
    if (b) {
        rc = batch_step(b, ev, now);
        if (ret)
            batch_copy(ret, b);
    }
    pthread_mutex_unlock(&m->lock);
    return rc == RC_OK ? rc : err_set(e, rc, "no such move");
}

static const struct store_ops mem_store_ops = {
    .file_add = mem_file_add,
    .file_get = mem_file_get,
    .file_list = mem_file_list,
    .file_delete = mem_file_delete,
    .file_known = mem_file_known,
    .batch_add = mem_batch_add,
    .batch_get = mem_batch_get,
    .batch_list = mem_batch_list,
    .batch_move = mem_batch_move,
};

/* --- Blobs ---------------------------------------------------------------------------
 */

struct blob_put {
    struct mem_store *m;
    struct buf b;
};

struct blob {
    const struct mem_blob *of;
    int fd;
};

static enum rc mem_put(void *self, struct blob_put **ret, struct err *e)
{
    struct mem_store *m = self;
    struct blob_put *p;

    if (m->fail_put != RC_OK)
        return err_set(e, m->fail_put, "put fails");
    p = mem_new(struct blob_put);
    p->m = m;
    buf_init(&p->b, (size_t)1 << 30);
    atomic_fetch_add(&m->puts, 1);
    atomic_fetch_add(&m->begun, 1);
    *ret = p;
    return RC_OK;
}

static enum rc mem_write(struct blob_put *p, const void *data, size_t n, struct err *e)
{
    if (p->m->fail_write != RC_OK)
        return err_set(e, p->m->fail_write, "write fails");
    return buf_add(&p->b, data, n);
}

static void mem_abort(struct blob_put *p)
{
    if (!p)
        return;
    atomic_fetch_sub(&p->m->puts, 1);
    buf_done(&p->b);
    mem_free(p);
}

/* Not SHA-256, but as good as one for a test: it depends on the bytes. */
static void mem_sum(const struct buf *b, struct blob_sum *ret)
{
    *ret = (struct blob_sum){.bytes = b->n};
    for (size_t i = 0; i < b->n; i++)
        ret->sha256[i % 32] = (uint8_t)(ret->sha256[i % 32] * 31 + (uint8_t)b->p[i]);
}

static enum rc mem_commit(struct blob_put *p, const char *id, struct blob_sum *ret,
                          struct err *e)
{
    struct mem_store *m = p->m;
    struct mem_blob *x;

    if (m->fail_commit != RC_OK) {
        mem_abort(p);
        return err_set(e, m->fail_commit, "commit fails");
    }
    mem_sum(&p->b, ret);
    pthread_mutex_lock(&m->lock);
    CHECK(m->n_blobs < MEM_ROWS);
    x = &m->blobs[m->n_blobs++];
    IGNORE(id_from(str_of(id), &x->id)); /* made by id_make */
    x->p = buf_take(&p->b, &x->n);
    pthread_mutex_unlock(&m->lock);
    mem_abort(p);
    return RC_OK;
}

static enum rc mem_blob_open(void *self, const char *id, struct blob **ret, struct err *e)
{
    struct mem_store *m = self;
    struct blob *b = NULL;

    pthread_mutex_lock(&m->lock);
    for (size_t i = 0; i < m->n_blobs && !b; i++) {
        if (strcmp(m->blobs[i].id.z, id) == 0) {
            b = mem_new(struct blob);
            *b = (struct blob){&m->blobs[i], -1};
        }
    }
    pthread_mutex_unlock(&m->lock);
    if (!b)
        return err_set(e, RC_NOTFOUND, "no bytes for %s", id);
    if (!m->no_fd) {
        b->fd = memfd_create("mem-blob", MFD_CLOEXEC);
        CHECK(b->fd >= 0 && write(b->fd, b->of->p, b->of->n) == (ssize_t)b->of->n);
    }
    *ret = b;
    return RC_OK;
}

static uint64_t mem_blob_size(const struct blob *b)
{
    return b->of->n;
}

static enum rc mem_blob_pread(struct blob *b, void *dst, size_t n, uint64_t off,
                              size_t *ret_n, struct err *e)
{
    size_t left = off < b->of->n ? b->of->n - (size_t)off : 0;

    (void)e;
    *ret_n = n < left ? n : left;
    memcpy(dst, b->of->p + off, *ret_n);
    return RC_OK;
}

static int mem_blob_fd(const struct blob *b)
{
    return b->fd;
}

static void mem_blob_close(struct blob *b)
{
    if (b && b->fd >= 0)
        close(b->fd);
    mem_free(b);
}

static enum rc mem_blob_remove(void *self, const char *id, struct err *e)
{
    struct mem_store *m = self;

    (void)e;
    pthread_mutex_lock(&m->lock);
    for (size_t i = 0; i < m->n_blobs; i++) {
        if (strcmp(m->blobs[i].id.z, id) == 0) {
            mem_free(m->blobs[i].p);
            m->blobs[i] = m->blobs[--m->n_blobs];
            break;
        }
    }
    pthread_mutex_unlock(&m->lock);
    return RC_OK;
}

static const struct blob_ops mem_blob_ops = {
    .put = mem_put,
    .write = mem_write,
    .commit = mem_commit,
    .abort = mem_abort,
    .open = mem_blob_open,
    .size = mem_blob_size,
    .pread = mem_blob_pread,
    .fd = mem_blob_fd,
    .close = mem_blob_close,
    .remove = mem_blob_remove,
};

static inline struct mem_store *mem_store_new(void)
{
    struct mem_store *m = mem_new(struct mem_store);

    pthread_mutex_init(&m->lock, NULL);
    m->store = (struct store){&mem_store_ops, m};
    m->blobs_if = (struct blobs){&mem_blob_ops, m};
    return m;
}

static inline void mem_store_free(struct mem_store *m)
{
    for (size_t i = 0; i < m->n_files; i++)
        mem_free(m->files[i].rec.filename);
    for (size_t i = 0; i < m->n_batches; i++)
        batch_done(&m->batches[i]);
    for (size_t i = 0; i < m->n_blobs; i++)
        mem_free(m->blobs[i].p);
    mem_free(m);
}
