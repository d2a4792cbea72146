/* SPDX-License-Identifier: Apache-2.0 */
#include "io/pool.h"
#include "base/mem.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>

struct pool {
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct list queue; /* these four under lock */
    size_t queued;
    unsigned idle;
    bool stopping;
    char name[16]; /* what the kernel keeps of a thread's name */
    unsigned threads;
    pthread_t thread[];
};

static struct pool_job *take(struct pool *p)
{
    struct list *it;

    pthread_mutex_lock(&p->lock);
    p->idle++;
    while (list_empty(&p->queue) && !p->stopping)
        pthread_cond_wait(&p->work, &p->lock);
    p->idle--;
    it = list_pop(&p->queue);
    if (it)
        p->queued--;
    pthread_mutex_unlock(&p->lock);
    return it ? list_entry(it, struct pool_job, _link) : NULL;
}

static void *work(void *arg)
{
    struct pool *p = arg;
    struct pool_job *job;

    pthread_setname_np(pthread_self(), p->name);
    while ((job = take(p)))
        job->run(job);
    return NULL;
}

/* Signals are the main thread's business: workers are born with all of them blocked. */
static int start_threads(struct pool *p, unsigned want)
{
    sigset_t all, before;
    int errnum = 0;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (p->threads < want && errnum == 0) {
        errnum = pthread_create(&p->thread[p->threads], NULL, work, p);
        if (errnum == 0)
            p->threads++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return errnum;
}

enum rc pool_new(const char *name, unsigned threads, struct pool **ret, struct err *e)
{
    struct pool *p = mem_alloc(sizeof *p + threads * sizeof p->thread[0]);
    int errnum;

    CHECK(threads > 0);
    list_init(&p->queue);
    CHECK(pthread_mutex_init(&p->lock, NULL) == 0);
    CHECK(pthread_cond_init(&p->work, NULL) == 0);
    snprintf(p->name, sizeof p->name, "%s", name); /* cut: the kernel would refuse it */
    errnum = start_threads(p, threads);
    if (errnum) {
        IGNORE(pool_free(p)); /* always NULL */
        return err_sys(e, RC_NOMEM, errnum, "cannot start %u threads of pool %s", threads,
                       name);
    }
    *ret = p;
    return RC_OK;
}

struct pool *pool_free(struct pool *p)
{
    if (!p)
        return NULL;
    pthread_mutex_lock(&p->lock);
    p->stopping = true;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    for (unsigned i = 0; i < p->threads; i++)
        pthread_join(p->thread[i], NULL);
    CHECK(list_empty(&p->queue));
    pthread_cond_destroy(&p->work);
    pthread_mutex_destroy(&p->lock);
    mem_free(p);
    return NULL;
}

void pool_submit(struct pool *p, struct pool_job *job)
{
    CHECK(job->run);
    pthread_mutex_lock(&p->lock);
    list_add_tail(&p->queue, &job->_link);
    p->queued++;
    if (p->idle)
        pthread_cond_signal(&p->work);
    pthread_mutex_unlock(&p->lock);
}

size_t pool_queued(struct pool *p)
{
    size_t n;

    pthread_mutex_lock(&p->lock);
    n = p->queued;
    pthread_mutex_unlock(&p->lock);
    return n;
}
