/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_sqlite: the store in ledger.db.
 *
 * One thread owns the connection.  Callers put a request, which lies on their own stack,
 * on a stack of requests and sleep; the owner takes all there are, answers the reads, and
 * makes the changes in one transaction with one sync, each in a savepoint of its own.
 *
 * Owns:    the connection, the owner thread.
 * Threads: what callers and owner share is `inbox` and `asleep`, and of a request, before
 *          and after, everything: `state` passes it over.
 * Errors:  as store.h.  RC_NOSPACE and RC_NOMEM undo the whole group: nothing changed.
 */
#include "base/clock.h"
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

struct request;
typedef enum rc request_fn(struct conn *c, struct request *rq);

struct request {
    struct request *next;
    request_fn *fn;
    bool change;
    int64_t now; /* for the clock's floor; 0: does not count */
    struct err *e;
    enum rc rc;
    atomic_uint state;
};

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

static enum rc call(struct ledger *l, struct request *rq)
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
    if (rc == RC_OK)
        rc = conn_exec(l->conn, "COMMIT", why);
    if (rc == RC_OK && now > l->floor)
        l->floor = now;
    return rc;
}

static enum rc do_group(struct ledger *l, struct request *first, struct err *why)
{
    bool alone = !first->next, any = false;
    int64_t now = 0;
    enum rc rc = conn_exec(l->conn, "BEGIN IMMEDIATE", why);

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

/* ---- files --------------------------------------------------------------------------*/

struct file_call {
    struct request rq;
    const char *id;
    const struct file_rec *in;
    const struct file_query *query;
    struct file_rec *ret;
    struct file_rec **ret_all;
    size_t *ret_n;
    bool *ret_bool;
};
#define FILE_CALL(rq) CONTAINER_OF(rq, struct file_call, rq)

static enum rc do_file_add(struct conn *c, struct request *rq)
{
    return rows_file_add(c, FILE_CALL(rq)->in, rq->e);
}

static enum rc op_file_add(void *self, const struct file_rec *f, struct err *e)
{
    struct file_call x = {
        {.fn = do_file_add, .change = true, .now = f->created_at, .e = e}, .in = f};

    return call(self, &x.rq);
}

static enum rc do_file_get(struct conn *c, struct request *rq)
{
    return rows_file_get(c, FILE_CALL(rq)->id, FILE_CALL(rq)->ret, rq->e);
}

static enum rc op_file_get(void *self, const char *id, struct file_rec *ret,
                           struct err *e)
{
    struct file_call x = {{.fn = do_file_get, .e = e}, .id = id, .ret = ret};

    return call(self, &x.rq);
}

static enum rc do_file_list(struct conn *c, struct request *rq)
{
    const struct file_call *x = FILE_CALL(rq);

    return rows_file_list(c, x->query, x->ret_all, x->ret_n, x->ret_bool, rq->e);
}

static enum rc op_file_list(void *self, const struct file_query *q, struct file_rec **ret,
                            size_t *ret_n, bool *ret_more, struct err *e)
{
    struct file_call x = {{.fn = do_file_list, .e = e},
                          .query = q,
                          .ret_all = ret,
                          .ret_n = ret_n,
                          .ret_bool = ret_more};

    return call(self, &x.rq);
}

static enum rc do_file_delete(struct conn *c, struct request *rq)
{
    return rows_file_delete(c, FILE_CALL(rq)->id, rq->now, rq->e);
}

static enum rc op_file_delete(void *self, const char *id, int64_t now, struct err *e)
{
    struct file_call x = {{.fn = do_file_delete, .change = true, .now = now, .e = e},
                          .id = id};

    return call(self, &x.rq);
}

struct reap_call {
    struct request rq;
    int64_t now; /* not in rq: looking for what has expired must not write the floor */
    struct id *ret;
    size_t max, *ret_n;
};

static enum rc do_file_reap(struct conn *c, struct request *rq)
{
    const struct reap_call *x = CONTAINER_OF(rq, struct reap_call, rq);

    return rows_file_reap(c, x->now, x->ret, x->max, x->ret_n, rq->e);
}

static enum rc op_file_reap(void *self, int64_t now, struct id *ret, size_t max,
                            size_t *ret_n, struct err *e)
{
    struct reap_call x = {{.fn = do_file_reap, .change = true, .e = e},
                          .now = now,
                          .ret = ret,
                          .max = max,
                          .ret_n = ret_n};

    return call(self, &x.rq);
}

static enum rc do_file_forget(struct conn *c, struct request *rq)
{
    return rows_file_forget(c, FILE_CALL(rq)->id, rq->e);
}

static enum rc op_file_forget(void *self, const char *id, struct err *e)
{
    struct file_call x = {{.fn = do_file_forget, .change = true, .e = e}, .id = id};

    return call(self, &x.rq);
}

static enum rc do_file_known(struct conn *c, struct request *rq)
{
    return rows_file_known(c, FILE_CALL(rq)->id, FILE_CALL(rq)->ret_bool, rq->e);
}

static enum rc op_file_known(void *self, const char *id, bool *ret, struct err *e)
{
    struct file_call x = {{.fn = do_file_known, .e = e}, .id = id, .ret_bool = ret};

    return call(self, &x.rq);
}

/* ---- batches ------------------------------------------------------------------------*/

struct batch_call {
    struct request rq;
    const char *id;
    const struct batch *in;
    struct batch *ret;
    struct batch **ret_all;
    unsigned limit;
    size_t *ret_n;
    bool *ret_more;
    enum batch_event ev;
    const struct batch_change *change;
};
#define BATCH_CALL(rq) CONTAINER_OF(rq, struct batch_call, rq)

static enum rc do_batch_add(struct conn *c, struct request *rq)
{
    return rows_batch_add(c, BATCH_CALL(rq)->in, rq->e);
}

static enum rc op_batch_add(void *self, const struct batch *b, struct err *e)
{
    struct batch_call x = {
        {.fn = do_batch_add, .change = true, .now = b->created_at, .e = e}, .in = b};

    return call(self, &x.rq);
}

static enum rc do_batch_get(struct conn *c, struct request *rq)
{
    return rows_batch_get(c, BATCH_CALL(rq)->id, BATCH_CALL(rq)->ret, rq->e);
}

static enum rc op_batch_get(void *self, const char *id, struct batch *ret, struct err *e)
{
    struct batch_call x = {{.fn = do_batch_get, .e = e}, .id = id, .ret = ret};

    return call(self, &x.rq);
}

static enum rc do_batch_list(struct conn *c, struct request *rq)
{
    const struct batch_call *x = BATCH_CALL(rq);

    return rows_batch_list(c, x->id, x->limit, x->ret_all, x->ret_n, x->ret_more, rq->e);
}

static enum rc op_batch_list(void *self, const char *after, unsigned limit,
                             struct batch **ret, size_t *ret_n, bool *ret_more,
                             struct err *e)
{
    struct batch_call x = {{.fn = do_batch_list, .e = e},
                           .id = after,
                           .limit = limit,
                           .ret_all = ret,
                           .ret_n = ret_n,
                           .ret_more = ret_more};

    return call(self, &x.rq);
}

static enum rc do_batch_live(struct conn *c, struct request *rq)
{
    return rows_batch_live(c, BATCH_CALL(rq)->ret_all, BATCH_CALL(rq)->ret_n, rq->e);
}

static enum rc op_batch_live(void *self, struct batch **ret, size_t *ret_n, struct err *e)
{
    struct batch_call x = {{.fn = do_batch_live, .e = e}, .ret_all = ret, .ret_n = ret_n};

    return call(self, &x.rq);
}

static enum rc do_batch_move(struct conn *c, struct request *rq)
{
    const struct batch_call *x = BATCH_CALL(rq);

    return rows_batch_move(c, x->id, x->ev, rq->now, x->change, x->ret, rq->e);
}

static enum rc op_batch_move(void *self, const char *id, enum batch_event ev, int64_t now,
                             const struct batch_change *change, struct batch *ret,
                             struct err *e)
{
    struct batch b = {0};
    struct batch_call x = {{.fn = do_batch_move, .change = true, .now = now, .e = e},
                           .id = id,
                           .ev = ev,
                           .change = change,
                           .ret = &b};
    enum rc rc = call(self, &x.rq);

    /* What a group that was undone left in b never became true. */
    if (ret && (rc == RC_OK || rc == RC_CONFLICT))
        *ret = b;
    else
        batch_done(&b);
    return rc;
}

struct floor_call {
    struct request rq;
    int64_t *ret;
};

static enum rc do_clock_floor(struct conn *c, struct request *rq)
{
    return rows_floor_get(c, CONTAINER_OF(rq, struct floor_call, rq)->ret, rq->e);
}

static enum rc op_clock_floor(void *self, int64_t *ret, struct err *e)
{
    struct floor_call x = {{.fn = do_clock_floor, .e = e}, .ret = ret};

    return call(self, &x.rq);
}

/* ---- opening and closing ------------------------------------------------------------*/

static void op_close(void *self)
{
    struct ledger *l = self;
    int rc;

    atomic_store(&l->stop, true);
    ring(l);
    rc = pthread_join(l->thread, NULL);
    CHECK(rc == 0);
    conn_close(l->conn, l->dead == RC_OK);
    mem_free(l);
}

static const struct store_ops ops = {
    .file_add = op_file_add,
    .file_get = op_file_get,
    .file_list = op_file_list,
    .file_delete = op_file_delete,
    .file_reap = op_file_reap,
    .file_forget = op_file_forget,
    .file_known = op_file_known,
    .batch_add = op_batch_add,
    .batch_get = op_batch_get,
    .batch_list = op_batch_list,
    .batch_live = op_batch_live,
    .batch_move = op_batch_move,
    .clock_floor = op_clock_floor,
    .close = op_close,
};

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

enum rc store_sqlite_open(const struct store_sqlite_opts *o, struct store **ret,
                          struct err *e)
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
    *ret = mem_new(struct store);
    (*ret)->ops = &ops;
    (*ret)->self = l;
    return RC_OK;
}
