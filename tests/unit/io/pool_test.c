/* SPDX-License-Identifier: Apache-2.0 */
/* link: -Wl,--wrap=pthread_create */
#include "tests/lib/t.h"
#include "base/mem.h"
#include "io/mailbox.h"
#include "io/pool.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

enum { JOBS = 10000 };

static unsigned threads_left = 1000;
int __real_pthread_create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
int __wrap_pthread_create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*fn)(void *),
                          void *arg)
{
    if (threads_left == 0)
        return EAGAIN;
    threads_left--;
    return __real_pthread_create(t, a, fn, arg);
}

static struct pool *make(unsigned threads)
{
    struct pool *p = NULL;
    struct err e;

    EQ_RC(pool_new("a pool with a long name", threads, &p, &e), RC_OK);
    return p;
}

/* A gate that jobs wait at: shows how many run at once. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t moved = PTHREAD_COND_INITIALIZER;
static unsigned waiting;
static bool open_gate;
static atomic_uint ran;

static void wait_at_gate(struct pool_job *job)
{
    pthread_mutex_lock(&lock);
    waiting++;
    pthread_cond_broadcast(&moved);
    while (!open_gate)
        pthread_cond_wait(&moved, &lock);
    pthread_mutex_unlock(&lock);
    atomic_fetch_add(&ran, 1);
    mem_free(job);
}

static void submit(struct pool *p, void (*run)(struct pool_job *))
{
    struct pool_job *job = mem_new(struct pool_job);

    job->run = run;
    pool_submit(p, job);
}

static void wait_for(unsigned n)
{
    pthread_mutex_lock(&lock);
    while (waiting < n)
        pthread_cond_wait(&moved, &lock);
    pthread_mutex_unlock(&lock);
}

static void let_go(void)
{
    pthread_mutex_lock(&lock);
    open_gate = true;
    pthread_cond_broadcast(&moved);
    pthread_mutex_unlock(&lock);
}

TEST(as_many_jobs_run_at_once_as_there_are_threads_and_the_rest_is_counted)
{
    struct pool *p = make(3);

    for (int i = 0; i < 8; i++)
        submit(p, wait_at_gate);
    wait_for(3);
    EQ_INT(pool_queued(p), 5);
    let_go();
    wait_for(8);
    EQ_INT(pool_queued(p), 0);
    OK(!pool_free(p));
    EQ_INT(atomic_load(&ran), 8);
}

static void *open_when_freeing(void *arg)
{
    struct pool *p = arg;

    wait_for(2);
    EQ_INT(pool_queued(p), 48);
    let_go();
    return NULL;
}

TEST(free_waits_for_running_jobs_and_runs_the_queued)
{
    struct pool *p = make(2);
    pthread_t t;

    for (int i = 0; i < 50; i++)
        submit(p, wait_at_gate);
    EQ_INT(pthread_create(&t, NULL, open_when_freeing, p), 0);
    pthread_join(t, NULL);
    pool_free(p);
    EQ_INT(atomic_load(&ran), 50);
}

/* --- jobs that answer by mail, the way the program uses pools --- */

struct task {
    struct pool_job job;
    struct mail mail;
    struct mailbox *answer_to;
    unsigned number, square;
};

struct boss {
    struct loop *loop;
    unsigned got;
    uint64_t sum;
};

static void square(struct pool_job *job)
{
    struct task *t = CONTAINER_OF(job, struct task, job);

    t->square = t->number * t->number;
    mail_post(t->answer_to, &t->mail);
}

static void collect(void *ctx, struct mail *m)
{
    struct boss *b = ctx;
    struct task *t = CONTAINER_OF(m, struct task, mail);

    b->sum += t->square;
    mem_free(t);
    if (++b->got == JOBS)
        loop_stop(b->loop);
}

TEST_SLOW(jobs_answer_by_mail, 60)
{
    struct boss b = {0};
    struct mailbox *box = NULL;
    struct pool *p = make(4);
    struct err e;
    uint64_t want = 0;

    EQ_RC(loop_new(&b.loop, &e), RC_OK);
    EQ_RC(mailbox_new(b.loop, collect, collect, &b, &box, &e), RC_OK);
    for (unsigned i = 0; i < JOBS; i++) {
        struct task *t = mem_new(struct task);

        *t = (struct task){.job.run = square, .answer_to = box, .number = i};
        want += (uint64_t)i * i;
        pool_submit(p, &t->job);
    }
    loop_run(b.loop);
    EQ_INT(b.got, JOBS);
    EQ_INT(b.sum, want);
    pool_free(p);
    mailbox_free(box);
    loop_free(b.loop);
}

static void look_at_thread(struct pool_job *job)
{
    char name[32] = "";
    sigset_t set;

    pthread_getname_np(pthread_self(), name, sizeof name);
    EQ_Z(name, "a pool with a l");
    pthread_sigmask(SIG_SETMASK, NULL, &set);
    OK(sigismember(&set, SIGTERM) && sigismember(&set, SIGUSR1));
    atomic_fetch_add(&ran, 1);
    mem_free(job);
}

TEST(workers_are_named_and_take_no_signals)
{
    struct pool *p = make(1);
    sigset_t set;

    submit(p, look_at_thread);
    pool_free(p);
    EQ_INT(atomic_load(&ran), 1);
    pthread_sigmask(SIG_SETMASK, NULL, &set);
    OK(!sigismember(&set, SIGTERM));
}

TEST(a_pool_whose_threads_cannot_all_start_is_refused)
{
    struct pool *p = NULL;
    struct err e;

    threads_left = 2;
    EQ_RC(pool_new("big", 5, &p, &e), RC_NOMEM);
    EQ_Z(e.text, "cannot start 5 threads of pool big: Resource temporarily unavailable");
    OK(!p);
}
