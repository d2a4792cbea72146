/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mem_store: a store and blobs in memory, with switches that make each operation fail.
 * For tests of the rooms above; one include per test program.  It does what store.h says
 * (tests/unit/store/mem_store_test.c), but lasts no longer than the process.
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

#ifndef MEM_ROWS
#define MEM_ROWS 4096 /* of each kind */
#endif

struct mem_file {
    struct file_rec rec;
    bool deleted;
};

struct mem_part {
    struct part_rec rec;
    struct id project, upload;
    bool done; /* its upload has ended */
};

struct mem_blob {
    struct id id;
    char *p;
    size_t n;
};

struct mem_store {
    pthread_mutex_t lock;
    struct mem_file files[MEM_ROWS];
    struct upload_rec uploads[MEM_ROWS];
    struct mem_part parts[MEM_ROWS];
    struct batch batches[MEM_ROWS];
    struct outbox_rec outbox[MEM_ROWS];
    size_t n_files, n_uploads, n_parts, n_batches, n_outbox;
    int64_t floor, last_seq;
    struct mem_blob blobs[MEM_ROWS];
    size_t n_blobs;
    atomic_int puts; /* begun and neither committed nor aborted */
    atomic_int begun;
    /* What the operation answers when not RC_OK: nothing is changed then. */
    enum rc fail_file_add, fail_file_get, fail_file_known, fail_batch_add;
    enum rc fail_upload_add, fail_part_add, fail_upload_move, fail_batch_edit;
    enum rc fail_put, fail_write, fail_commit;
    bool no_fd; /* blobs without descriptors, as an object store has */
    struct store store;
    struct blobs blobs_if;
};

/* Takes row i out of an array of n, the others in their order. */
#define MEM_REMOVE(rows, n, i)                                                           \
    memmove(&(rows)[i], &(rows)[(i) + 1], (--(n) - (i)) * sizeof *(rows))

static bool mem_mine(const struct id *project, const struct id *of)
{
    return !project || strcmp(project->z, of->z) == 0;
}

static char *mem_dup_z(const char *z)
{
    return z ? mem_dup(z, strlen(z)) : NULL;
}

static void mem_floor(struct mem_store *m, int64_t now)
{
    m->floor = now > m->floor ? now : m->floor;
}

#include "tests/lib/mem_batches.h"
#include "tests/lib/mem_blobs.h"
#include "tests/lib/mem_files.h"

static enum rc mem_clock_floor(void *self, int64_t *ret, struct err *e)
{
    struct mem_store *m = self;

    (void)e;
    pthread_mutex_lock(&m->lock);
    *ret = m->floor;
    pthread_mutex_unlock(&m->lock);
    return RC_OK;
}

static const struct store_ops mem_store_ops = {
    .file_add = mem_file_add,
    .file_get = mem_file_get,
    .file_list = mem_file_list,
    .file_delete = mem_file_delete,
    .file_reap = mem_file_reap,
    .file_forget = mem_file_forget,
    .file_known = mem_file_known,
    .usage_of = mem_usage_of,
    .upload_add = mem_upload_add,
    .upload_get = mem_upload_get,
    .upload_move = mem_upload_move,
    .upload_reap = mem_upload_reap,
    .part_add = mem_part_add,
    .part_list = mem_part_list,
    .part_forget = mem_part_forget,
    .batch_add = mem_batch_add,
    .batch_get = mem_batch_get,
    .batch_by_key = mem_batch_by_key,
    .batch_list = mem_batch_list,
    .batch_live = mem_batch_live,
    .batch_move = mem_batch_move,
    .batch_edit = mem_batch_edit,
    .outbox_due = mem_outbox_due,
    .outbox_pending = mem_outbox_pending,
    .outbox_settle = mem_outbox_settle,
    .outbox_list = mem_outbox_list,
    .outbox_purge = mem_outbox_purge,
    .clock_floor = mem_clock_floor,
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
        file_rec_done(&m->files[i].rec);
    for (size_t i = 0; i < m->n_uploads; i++)
        upload_rec_done(&m->uploads[i]);
    for (size_t i = 0; i < m->n_batches; i++)
        batch_done(&m->batches[i]);
    for (size_t i = 0; i < m->n_outbox; i++)
        outbox_rec_done(&m->outbox[i]);
    for (size_t i = 0; i < m->n_blobs; i++)
        mem_free(m->blobs[i].p);
    mem_free(m);
}
