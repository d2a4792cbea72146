/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads of the process under test.  One runs at a time, and gives way only where it may
 * block: at a lock that is taken, a condition, and in what stands for the disk.
 */
#ifndef __SANITIZE_ADDRESS__
#undef _FORTIFY_SOURCE /* its longjmp refuses to go to another stack */
#endif

#include "tests/sim/world.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

enum { CORO_MAX = 64, STACK = 256 << 10 };

struct coro {
    coro_fn *fn;
    void *ctx;
    const void *on; /* waits for it */
    uint32_t gen;   /* of who uses the stack */
    bool alive;
    char *stack;
    ucontext_t context; /* where it begins */
    jmp_buf here;       /* where it goes on */
    bool begun;
};

static struct coro coros[CORO_MAX];
static struct coro *self;
static unsigned n_waiting;
static bool held;

bool coro_inside(void)
{
    return self != NULL && !held;
}

void coro_hold(bool on)
{
    held = on;
}

size_t coro_count(void)
{
    size_t n = 0;

    for (unsigned i = 0; i < CORO_MAX; i++)
        n += coros[i].alive;
    return n;
}

/* Saving the signal mask, as swapcontext does, would be most of the time of a switch; but
 * only that can be followed by the address sanitizer. */
#ifdef __SANITIZE_ADDRESS__
static ucontext_t main_context;

static void to_main(struct coro *c)
{
    CHECK(swapcontext(&c->context, &main_context) == 0);
}

static void to_coro(struct coro *c)
{
    c->begun = true;
    CHECK(swapcontext(&main_context, &c->context) == 0);
}
#else
static jmp_buf main_here;

static void to_main(struct coro *c)
{
    if (_setjmp(c->here) == 0)
        _longjmp(main_here, 1);
}

static void to_coro(struct coro *c)
{
    if (_setjmp(main_here) != 0)
        return;
    if (c->begun)
        _longjmp(c->here, 1);
    c->begun = true;
    CHECK(setcontext(&c->context) == 0);
}
#endif

static void body(void)
{
    struct coro *c = self;

    c->fn(c->ctx);
    c->alive = false;
    to_main(c);
    PANIC("a thread that had ended runs");
}

static void resume(void *ctx, uint64_t gen)
{
    struct coro *c = ctx;

    if (!c->alive || c->gen != gen)
        return;
    self = c;
    to_coro(c);
    self = NULL;
}

void coro_spawn(coro_fn *fn, void *ctx)
{
    struct coro *c = coros;

    while (c < coros + CORO_MAX && c->alive)
        c++;
    CHECK(c < coros + CORO_MAX);
    if (!c->stack) {
        c->stack =
            mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(c->stack != MAP_FAILED);
    }
    CHECK(getcontext(&c->context) == 0);
    c->context.uc_stack.ss_sp = c->stack;
    c->context.uc_stack.ss_size = STACK;
    makecontext(&c->context, body, 0);
    c->fn = fn;
    c->ctx = ctx;
    c->on = NULL;
    c->alive = true;
    c->begun = false;
    c->gen++;
    life_post(chance(1, 2) ? 0 : chance_time(1, 2000), resume, c, c->gen);
}

void coro_yield(usec_t after)
{
    struct coro *c = self;

    if (!c)
        return;
    life_post(after, resume, c, c->gen);
    to_main(c);
}

void coro_wait(const void *on)
{
    struct coro *c = self;

    CHECK(c); /* the loop's thread never blocks */
    c->on = on;
    n_waiting++;
    to_main(c);
}

void coro_wake(const void *on)
{
    for (unsigned i = 0; n_waiting && i < CORO_MAX; i++) {
        struct coro *c = &coros[i];

        if (c->alive && c->on == on) {
            c->on = NULL;
            n_waiting--;
            life_post(chance(1, 2) ? 0 : chance_time(1, 500), resume, c, c->gen);
        }
    }
}

bool life_end(void)
{
    bool ran = world.life != 0;

    CHECK(!self);
    for (unsigned i = 0; i < CORO_MAX; i++)
        coros[i].alive = false;
    n_waiting = 0;
    world.life++;
    arena_drop(ARENA_LIFE);
    return ran;
}

/* --- pthread ------------------------------------------------------------------------- */

struct thread {
    void *(*run)(void *);
    void *arg;
    bool over;
};

enum { THREADS = 8 };
static struct thread threads[THREADS];
static unsigned n_threads;

static void thread_body(void *ctx)
{
    struct thread *t = ctx;

    t->run(t->arg);
    t->over = true;
    coro_wake(t);
}

int __wrap_pthread_create(pthread_t *ret, const pthread_attr_t *attr,
                          void *(*run)(void *), void *arg);
int __wrap_pthread_create(pthread_t *ret, const pthread_attr_t *attr,
                          void *(*run)(void *), void *arg)
{
    unsigned i = n_threads++ % THREADS;

    (void)attr;
    threads[i] = (struct thread){run, arg, false};
    coro_spawn(thread_body, &threads[i]);
    *ret = i + 1;
    return 0;
}

int __wrap_pthread_join(pthread_t thread, void **ret);
int __wrap_pthread_join(pthread_t thread, void **ret)
{
    struct thread *t = &threads[thread - 1];

    (void)ret;
    while (!t->over)
        coro_wait(t);
    return 0;
}

/* A lock is its first word: whether it is taken. */
static int *word(void *lock)
{
    return lock;
}

int __wrap_pthread_mutex_init(pthread_mutex_t *m, const pthread_mutexattr_t *a);
int __wrap_pthread_mutex_init(pthread_mutex_t *m, const pthread_mutexattr_t *a)
{
    (void)a;
    memset(m, 0, sizeof *m);
    return 0;
}

int __wrap_pthread_mutex_destroy(pthread_mutex_t *m);
int __wrap_pthread_mutex_destroy(pthread_mutex_t *m)
{
    CHECK(!*word(m));
    return 0;
}

int __wrap_pthread_mutex_lock(pthread_mutex_t *m);
int __wrap_pthread_mutex_lock(pthread_mutex_t *m)
{
    while (*word(m))
        coro_wait(m);
    *word(m) = 1;
    return 0;
}

int __wrap_pthread_mutex_unlock(pthread_mutex_t *m);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *m)
{
    CHECK(*word(m));
    *word(m) = 0;
    if (coro_inside()) /* only who may block may have kept others waiting */
        coro_wake(m);
    return 0;
}

int __wrap_pthread_cond_init(pthread_cond_t *c, const pthread_condattr_t *a);
int __wrap_pthread_cond_init(pthread_cond_t *c, const pthread_condattr_t *a)
{
    (void)c, (void)a;
    return 0;
}

int __wrap_pthread_cond_destroy(pthread_cond_t *c);
int __wrap_pthread_cond_destroy(pthread_cond_t *c)
{
    (void)c;
    return 0;
}

int __wrap_pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *m);
int __wrap_pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *m)
{
    __wrap_pthread_mutex_unlock(m);
    coro_wait(c);
    return __wrap_pthread_mutex_lock(m);
}

int __wrap_pthread_cond_signal(pthread_cond_t *c);
int __wrap_pthread_cond_signal(pthread_cond_t *c)
{
    coro_wake(c);
    return 0;
}

int __wrap_pthread_cond_broadcast(pthread_cond_t *c);
int __wrap_pthread_cond_broadcast(pthread_cond_t *c)
{
    coro_wake(c);
    return 0;
}
