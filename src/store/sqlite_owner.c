/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sqlite_owner.h"
#include "base/clock.h"
#include "base/guard.h"
#include "base/mem.h"
#include "store/sqlite_rows.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A read takes 3 to 7 us, going to sleep and being woken 20 us a side: who waits for the
 * other looks so long before it sleeps (bench/store.c: 15,000 reads a second of one
 * caller without, 45,000 to 80,000 with, on two busy processors).  A change waits for a
 * disk: there it is no use. */
#define LOOK_FOR 20 /* us */

enum { PENDING, SLEEPING, ANSWERED };

struct ledger {
    struct conn *conn;
    pthread_t thread;
    void (*on_dead)(void *ctx, const char *why);
    void *ctx;
    _Atomic(struct request *) inbox; /* latest first */
    atomic_uint asleep;              /* the owner is, or is about to be */
    atomic_bool stop;
    usec_t look_for; /* 0 on one processor */

    /* The owner's. */
    enum rc dead; /* RC_OK: alive */
    struct err why;
    int64_t floor;
};

/* ---- passing requests over ----------------------------------------------------------*/

static void futex_wait(atomic_uint *word, unsigned while_it_is)
{
    /* EAGAIN and EINTR: the caller looks again. */
    (void)syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, while_it_is, NULL, NULL, 0);
}

static void futex_wake(atomic_uint *word)
{
    /* The word may be gone by now (it was answered): the kernel only uses its address. */
    (void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void ring(struct ledger *l)
{
    if (atomic_exchange(&l->asleep, 0))
        futex_wake(&l->asleep);
}

/* Behind others the wait is long and the processor better left to the owner. */
static void wait_for(struct ledger *l, struct request *rq, bool behind_others)
{
    bool sleep_now = rq->change || behind_others || !l->look_for;
    usec_t until = sleep_now ? 0 : clock_mono() + l->look_for;
    unsigned pending = PENDING;

    while (until && clock_mono() < until) {
        if (atomic_load(&rq->state) == ANSWERED)
            return;
        sched_yield(); /* the owner may be waiting for this very processor */
    }
    if (atomic_compare_exchange_strong(&rq->state, &pending, SLEEPING))
        while (atomic_load(&rq->state) != ANSWERED)
            futex_wait(&rq->state, SLEEPING);
}

enum rc ledger_call(struct ledger *l, struct request *rq)
{
    struct request *head = atomic_load(&l->inbox);

    atomic_init(&rq->state, PENDING);
    do {
        rq->next = head;
    } while (!atomic_compare_exchange_weak(&l->inbox, &head, rq));
    ring(l);
    wait_for(l, rq, head != NULL);
    return rq->rc;
}

/* From here on *rq is the caller's again and may be gone. */
static void answer(struct request *rq, enum rc rc)
{
    rq->rc = rc;
    if (atomic_exchange(&rq->state, ANSWERED) == SLEEPING)
        futex_wake(&rq->state);
}

static void look(const struct ledger *l)
{
    usec_t until = l->look_for ? clock_mono() + l->look_for : 0;

    while (until && !atomic_load(&l->inbox) && clock_mono() < until)
        sched_yield(); /* as above */
}

/* All requests there are, in the order they came; NULL: stop. */
static struct request *take_all(struct ledger *l)
{
    struct request *rq, *first = NULL;

    look(l);
    while (!(rq = atomic_exchange(&l->inbox, NULL))) {
        if (atomic_load(&l->stop))
            return NULL;
        atomic_store(&l->asleep, 1);
        if (atomic_load(&l->inbox) || atomic_load(&l->stop))
            atomic_store(&l->asleep, 0);
        else
            futex_wait(&l->asleep, 1);
    }
    while (rq) {
        struct request *next = rq->next;

        rq->next = first;
        first = rq;
        rq = next;
    }
    return first;
}

/* ---- the owner ----------------------------------------------------------------------*/

static bool fatal(enum rc rc)
{
    return rc == RC_IO || rc == RC_CORRUPT;
}

static void die(struct ledger *l, enum rc rc, const struct err *why)
{
    if (l->dead != RC_OK)
        return;
    l->dead = rc;
    l->why = *why;
    if (l->on_dead)
        l->on_dead(l->ctx, l->why.text);
}

static enum rc say_dead(const struct ledger *l, struct err *e)
{
    return err_set(e, l->dead, "%.500s", l->why.text);
}

/* Runs one request; its error is kept also when the caller does not care. */
static enum rc run(struct ledger *l, struct request *rq, struct err *why)
{
    struct err *wanted = rq->e;
    enum rc rc;

    rq->e = why;
    rc = rq->fn(l->conn, rq);
    rq->e = wanted;
    if (rc != RC_OK && wanted)
        *wanted = *why;
    return rc;
}

static void do_read(struct ledger *l, struct request *rq)
{
    struct err why = {{0}};
    enum rc rc = l->dead != RC_OK ? say_dead(l, rq->e) : run(l, rq, &why);

    if (fatal(rc))
        die(l, rc, &why);
    answer(rq, rc);
}

/*
 * One change of a group.  rq->rc is what its caller hears when the group is committed;
 * the return value is other than RC_OK when the whole group has to be undone.
 */
static enum rc do_change(struct ledger *l, struct request *rq, bool alone,
                         struct err *why)
{
    enum rc rc = alone ? RC_OK : conn_exec(l->conn, "SAVEPOINT one", why);

    if (rc != RC_OK)
        return rc;
    rq->rc = run(l, rq, why);
    if (rq->rc == RC_NOSPACE || rq->rc == RC_NOMEM || fatal(rq->rc))
        return rq->rc;
    if (!conn_in_transaction(l->conn))
        return err_set(why, RC_IO, "SQLite gave up a transaction: %.400s", why->text);
    if (alone)
        return RC_OK;
    if (rq->rc != RC_OK)
        rc = conn_exec(l->conn, "ROLLBACK TO one", why);
    return rc == RC_OK ? conn_exec(l->conn, "RELEASE one", why) : rc;
}

/* A failed change that is alone leaves nothing to commit. */
static enum rc end_group(struct ledger *l, bool any, int64_t now, struct err *why)
{
    enum rc rc = RC_OK;

    if (!any)
        return conn_exec(l->conn, "ROLLBACK", why);
    if (now > l->floor)
        rc = rows_floor_set(l->conn, now, why);
    if (rc == RC_OK && GUARD(ANSWER_COMMITTED))
        rc = conn_exec(l->conn, "COMMIT", why);
    if (rc == RC_OK && now > l->floor)
        l->floor = now;
    return rc;
}

static enum rc begin_group(struct ledger *l, struct err *why)
{
    enum rc rc = RC_OK;

    if (!GUARD(ANSWER_COMMITTED) && conn_in_transaction(l->conn))
        rc = conn_exec(l->conn, "COMMIT", why); /* what the group before left open */
    return rc == RC_OK ? conn_exec(l->conn, "BEGIN IMMEDIATE", why) : rc;
}

static enum rc do_group(struct ledger *l, struct request *first, struct err *why)
{
    bool alone = !first->next, any = false;
    int64_t now = 0;
    enum rc rc = begin_group(l, why);

    for (struct request *rq = first; rq && rc == RC_OK; rq = rq->next) {
        rc = do_change(l, rq, alone, why);
        if (rc == RC_OK && rq->rc == RC_OK) {
            any = true;
            now = rq->now > now ? rq->now : now;
        }
    }
    if (rc == RC_OK)
        rc = end_group(l, any, now, why);
    if (rc == RC_OK)
        return RC_OK;
    /* The first failure is the one to tell; a rollback writes nothing that lasts. */
    if (conn_in_transaction(l->conn) && conn_exec(l->conn, "ROLLBACK", NULL) != RC_OK)
        rc = RC_IO;
    if (rc != RC_NOSPACE && rc != RC_NOMEM && !fatal(rc))
        rc = RC_IO; /* nothing else may come of BEGIN, COMMIT and savepoints */
    return rc;
}

static void do_changes(struct ledger *l, struct request *first)
{
    struct err why = {{0}};
    enum rc rc = l->dead;

    if (rc == RC_OK)
        rc = do_group(l, first, &why);
    else
        why = l->why;
    if (fatal(rc))
        die(l, rc, &why);
    for (struct request *rq = first, *next; rq; rq = next) {
        next = rq->next;
        if (rc != RC_OK)
            err_set(rq->e, rc, "%.500s", why.text);
        answer(rq, rc != RC_OK ? rc : rq->rc);
    }
}

/* After the answers, so that nobody waits for it. */
static void checkpoint(struct ledger *l)
{
    struct err why = {{0}};
    enum rc rc = l->dead == RC_OK ? conn_checkpoint(l->conn, &why) : RC_OK;

    /* A full disk only puts it off: the WAL still has everything. */
    if (rc != RC_OK && rc != RC_NOSPACE && rc != RC_NOMEM)
        die(l, fatal(rc) ? rc : RC_IO, &why);
}

static void *owner(void *arg)
{
    struct ledger *l = arg;
    struct request *rq;

    while ((rq = take_all(l))) {
        struct request *changes = NULL, **tail = &changes;

        while (rq) {
            struct request *next = rq->next;

            if (rq->change) {
                rq->next = NULL;
                *tail = rq;
                tail = &rq->next;
            } else {
                do_read(l, rq);
            }
            rq = next;
        }
        if (changes) {
            do_changes(l, changes);
            checkpoint(l);
        }
    }
    return NULL;
}

/* ---- opening and closing ------------------------------------------------------------*/

/* Signals are the main thread's. */
static enum rc start_owner(struct ledger *l, struct err *e)
{
    sigset_t all, before;
    int rc;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(&l->thread, NULL, owner, l);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0)
        return err_sys(e, RC_NOMEM, rc, "cannot start the store's thread");
    (void)pthread_setname_np(l->thread, "batchd-store"); /* for people only */
    return RC_OK;
}

enum rc ledger_open(const struct store_sqlite_opts *o, struct ledger **ret, struct err *e)
{
    struct ledger *l = mem_new(struct ledger);
    enum rc rc = conn_open(o->path, &l->conn, e);

    l->look_for = sysconf(_SC_NPROCESSORS_ONLN) > 1 ? LOOK_FOR : 0;
    l->on_dead = o->on_dead;
    l->ctx = o->ctx;
    if (rc == RC_OK)
        rc = rows_floor_get(l->conn, &l->floor, e);
    if (rc == RC_OK)
        rc = start_owner(l, e);
    if (rc != RC_OK) {
        conn_close(l->conn, false);
        mem_free(l);
        return rc;
    }
    *ret = l;
    return RC_OK;
}

void ledger_close(struct ledger *l)
{
    int rc;

    atomic_store(&l->stop, true);
    ring(l);
    rc = pthread_join(l->thread, NULL);
    CHECK(rc == 0);
    conn_close(l->conn, l->dead == RC_OK);
    mem_free(l);
}
