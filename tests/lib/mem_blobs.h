/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mem_blobs: the blobs of mem_store.h.
 */
#pragma once

struct blob_put {
    struct mem_store *m;
    struct buf b;
};

struct blob {
    char *p; /* its own: another thread may remove the blob while it is open */
    size_t n;
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
            *b = (struct blob){mem_dup(m->blobs[i].p, m->blobs[i].n), m->blobs[i].n, -1};
        }
    }
    pthread_mutex_unlock(&m->lock);
    if (!b)
        return err_set(e, RC_NOTFOUND, "no bytes for %s", id);
    if (!m->no_fd) {
        b->fd = memfd_create("mem-blob", MFD_CLOEXEC);
        CHECK(b->fd >= 0 && write(b->fd, b->p, b->n) == (ssize_t)b->n);
    }
    *ret = b;
    return RC_OK;
}

static uint64_t mem_blob_size(const struct blob *b)
{
    return b->n;
}

static enum rc mem_blob_pread(struct blob *b, void *dst, size_t n, uint64_t off,
                              size_t *ret_n, struct err *e)
{
    size_t left = off < b->n ? b->n - (size_t)off : 0;

    (void)e;
    *ret_n = n < left ? n : left;
    memcpy(dst, b->p + off, *ret_n);
    return RC_OK;
}

static int mem_blob_fd(const struct blob *b)
{
    return b->fd;
}

static void mem_blob_close(struct blob *b)
{
    if (!b)
        return;
    if (b->fd >= 0)
        close(b->fd);
    mem_free(b->p);
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
