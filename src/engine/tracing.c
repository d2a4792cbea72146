/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/tracing.h"
#include "base/fsio.h"
#include "base/log.h"
#include "base/mem.h"
#include "io/pool.h"
#include "sched/sched_trace.h"

#include <fcntl.h>
#include <pthread.h>
#include <string.h>

/* Handed to the writer at a time, at least. */
#define PIECE (256u << 10)

struct tracing {
    char *path;
    int fd;
    struct sched *sched; /* NULL: no more is recorded */
    struct pool *writer;
    struct pool_job job;
    char *fill; /* the loop's */
    size_t n, cap;
    char *out; /* the writer's while `writing` */
    size_t out_n, out_cap;
    uint64_t end; /* of the file */
    pthread_mutex_t lock;
    bool writing; /* under the lock, as `failed` */
    bool failed;
};

static void end(struct tracing *t, const char *why)
{
    log_warn("trace.ended", "file=\"%s\" why=\"%s\"", t->path, why);
    sched_trace(t->sched, NULL, NULL);
    t->sched = NULL;
    t->n = 0;
}

static void write_out(struct pool_job *job)
{
    struct tracing *t = CONTAINER_OF(job, struct tracing, job);
    struct err e;
    enum rc rc = fs_pwrite(t->fd, t->out, t->out_n, t->end, t->path, &e);

    t->end += t->out_n;
    if (rc != RC_OK)
        log_warn("trace.failed", "err=\"%s\"", e.text);
    pthread_mutex_lock(&t->lock);
    t->writing = false;
    t->failed = t->failed || rc != RC_OK;
    pthread_mutex_unlock(&t->lock);
}

/* What was filled goes to the writer, whose memory is filled next. */
static void hand_over(struct tracing *t)
{
    char *p = t->out;
    size_t cap = t->out_cap;

    t->out = t->fill, t->out_n = t->n, t->out_cap = t->cap;
    t->fill = p, t->n = 0, t->cap = cap;
    t->writing = true;
    t->job.run = write_out;
    pool_submit(t->writer, &t->job);
}

static bool room(struct tracing *t, size_t n)
{
    size_t cap = t->cap ? t->cap : PIECE;
    char *more;

    while (cap < t->n + n)
        cap *= 2;
    if (cap == t->cap)
        return true;
    more = cap <= TRACING_MOST ? mem_resize(t->fill, cap) : NULL;
    if (!more)
        return false;
    t->fill = more;
    t->cap = cap;
    return true;
}

static void put(void *ctx, const void *bytes, size_t n)
{
    struct tracing *t = ctx;
    bool failed;

    if (!t->sched)
        return;
    if (!room(t, n)) {
        end(t, "the disk does not keep up");
        return;
    }
    memcpy(t->fill + t->n, bytes, n);
    t->n += n;
    if (t->n < PIECE)
        return;
    pthread_mutex_lock(&t->lock);
    failed = t->failed;
    if (!failed && !t->writing)
        hand_over(t);
    pthread_mutex_unlock(&t->lock);
    if (failed)
        end(t, "it cannot be written");
}

enum rc tracing_open(const char *path, struct sched *s, struct tracing **ret,
                     struct err *e)
{
    struct tracing *t = mem_new(struct tracing);
    enum rc rc;

    t->path = mem_dup(path, strlen(path));
    t->sched = s;
    pthread_mutex_init(&t->lock, NULL);
    rc = fs_open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600, &t->fd, e);
    if (rc == RC_OK)
        rc = pool_new("trace", 1, &t->writer, e);
    else
        t->fd = -1;
    if (rc != RC_OK) {
        tracing_close(t);
        return rc;
    }
    sched_trace(s, put, t);
    *ret = t;
    return RC_OK;
}

struct tracing *tracing_close(struct tracing *t)
{
    struct err e;

    if (!t)
        return NULL;
    if (t->sched && t->writer)
        sched_trace(t->sched, NULL, NULL);
    pool_free(t->writer); /* waits for what it writes */
    if (t->n && !t->failed &&
        fs_pwrite(t->fd, t->fill, t->n, t->end, t->path, &e) != RC_OK)
        log_warn("trace.failed", "err=\"%s\"", e.text);
    fs_close(&t->fd);
    pthread_mutex_destroy(&t->lock);
    mem_free(t->fill);
    mem_free(t->out);
    mem_free(t->path);
    mem_free(t);
    return NULL;
}
