/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replaces io/loop.c, io/mailbox.c and io/pool.c.  A turn of a loop is one event: mail and
 * the ends of calls in an order that is drawn, then the timers that are due, then the tick,
 * as in the real one.
 */
#include "tests/sim/world.h"
#include "tests/sim/loop.h"

#include "base/mem.h"
#include "io/mailbox.h"
#include "io/pool.h"

#include <string.h>

enum { TIMERS = 256, PARCELS = 512, LOOPS = 4 };

struct parcel {
    event_fn *fn;
    void *ctx;
    uint64_t arg;
};

struct loop {
    usec_t now;
    loop_tick_fn *tick;
    void *tick_ctx;
    struct loop_timer *timers[TIMERS]; /* slot: index + 1 */
    size_t n_timers;
    struct mailbox *box;
    struct parcel parcels[PARCELS];
    size_t n_parcels;
    usec_t turn_at; /* when the next turn was posted for */
    uint64_t turn;  /* number of the turn that is posted; no two have one */
    struct loop **slot;
    bool running, stop, woken, in_timers;
};

static struct loop *loops[LOOPS]; /* events find them here, or that they are gone */
static uint64_t n_turns;
static unsigned n_pools;

void loops_reset(void)
{
    memset(loops, 0, sizeof loops);
    n_pools = 0;
}

unsigned loops_open(void)
{
    unsigned n = 0;

    for (unsigned i = 0; i < LOOPS; i++)
        n += loops[i] != NULL;
    return n;
}

unsigned pools_open(void)
{
    return n_pools;
}

static void schedule(struct loop *l);

enum rc loop_new(struct loop **ret, struct err *e)
{
    struct loop *l = mem_new(struct loop);

    (void)e;
    l->now = world.now;
    l->turn_at = USEC_INFINITY;
    for (l->slot = loops; *l->slot; l->slot++)
        CHECK(l->slot + 1 < loops + LOOPS);
    *l->slot = l;
    *ret = l;
    return RC_OK;
}

struct loop *loop_free(struct loop *l)
{
    if (!l)
        return NULL;
    *l->slot = NULL;
    mem_free(l);
    return NULL;
}

/* --- Timers -------------------------------------------------------------------------- */

void loop_timer_set(struct loop *l, struct loop_timer *t, usec_t at, loop_timer_fn *fn,
                    void *ctx)
{
    CHECK(fn);
    t->_fn = fn;
    t->_ctx = ctx;
    t->_at = l->in_timers && at <= l->now ? l->now + 1 : at;
    if (!t->_slot) {
        CHECK(l->n_timers < TIMERS);
        l->timers[l->n_timers++] = t;
        t->_slot = l->n_timers;
    }
    schedule(l);
}

void loop_timer_clear(struct loop *l, struct loop_timer *t)
{
    struct loop_timer *last;

    if (!t->_slot)
        return;
    CHECK(t->_slot <= l->n_timers && l->timers[t->_slot - 1] == t);
    last = l->timers[--l->n_timers];
    l->timers[t->_slot - 1] = last;
    last->_slot = t->_slot;
    t->_slot = 0;
}

size_t loop_timers(const struct loop *l)
{
    return l->n_timers;
}

static struct loop_timer *first_timer(const struct loop *l)
{
    struct loop_timer *first = NULL;

    for (size_t i = 0; i < l->n_timers; i++)
        if (!first || l->timers[i]->_at < first->_at)
            first = l->timers[i];
    return first;
}

static void run_timers(struct loop *l)
{
    struct loop_timer *t;

    l->in_timers = true;
    while ((t = first_timer(l)) && t->_at <= l->now) {
        loop_timer_clear(l, t);
        t->_fn(t->_ctx, l->now);
    }
    l->in_timers = false;
}

/* --- Turns --------------------------------------------------------------------------- */

static void mail_deliver(struct mailbox *b);
static bool mail_waits(const struct mailbox *b);

static void run_parcels(struct loop *l)
{
    struct parcel all[PARCELS];
    size_t n = l->n_parcels;

    memcpy(all, l->parcels, n * sizeof *all);
    l->n_parcels = 0;
    while (n) {
        size_t i = chance_below((uint32_t)n);
        struct parcel p = all[i];

        all[i] = all[--n];
        p.fn(p.ctx, p.arg);
    }
}

static void turn(void *ctx, uint64_t number)
{
    struct loop *l = *(struct loop **)ctx;
    bool mail_first = chance(1, 2);

    if (!l || number != l->turn)
        return; /* an earlier one was posted since */
    l->turn_at = USEC_INFINITY;
    l->now = world.now;
    l->woken = false;
    if (mail_first)
        mail_deliver(l->box);
    run_parcels(l);
    if (!mail_first)
        mail_deliver(l->box);
    run_timers(l);
    if (l->tick)
        l->tick(l->tick_ctx, l->now);
    if (l->stop) {
        l->running = false;
        coro_wake(l);
    }
    schedule(l);
}

/* The thread may be late; mostly it is not. */
static usec_t late(void)
{
    uint32_t v = chance_below(64);

    return v < 40 ? 0 : v < 63 ? chance_time(1, 5000) : chance_time(1, 2 * USEC_PER_SEC);
}

static void schedule(struct loop *l)
{
    const struct loop_timer *t = first_timer(l);
    usec_t at = t ? t->_at : USEC_INFINITY;

    if (l->n_parcels || mail_waits(l->box) || l->stop || l->woken)
        at = world.now;
    if (!l->running || at >= l->turn_at)
        return;
    if (at < world.now)
        at = world.now;
    at += late();
    if (at >= l->turn_at)
        return;
    l->turn_at = at;
    l->turn = ++n_turns;
    life_post(at - world.now, turn, l->slot, l->turn);
}

void loop_deliver(struct loop *l, event_fn *fn, void *ctx, uint64_t arg)
{
    CHECK(l->n_parcels < PARCELS);
    l->parcels[l->n_parcels++] = (struct parcel){fn, ctx, arg};
    schedule(l);
}

void loop_on_tick(struct loop *l, loop_tick_fn *fn, void *ctx)
{
    l->tick = fn;
    l->tick_ctx = ctx;
}

usec_t loop_now(const struct loop *l)
{
    return l->now;
}

void loop_run(struct loop *l)
{
    l->running = true;
    schedule(l);
    while (l->running)
        coro_wait(l);
    l->stop = false;
}

void loop_wake(struct loop *l)
{
    l->woken = true;
    schedule(l);
}

void loop_stop(struct loop *l)
{
    l->stop = true;
    schedule(l);
}

/* --- Mail ---------------------------------------------------------------------------- */

struct mailbox {
    struct loop *loop;
    mail_fn *receive, *drop;
    void *ctx;
    struct list waiting;
    uint64_t posted, received;
};

enum rc mailbox_new(struct loop *l, mail_fn *receive, mail_fn *drop, void *ctx,
                    struct mailbox **ret, struct err *e)
{
    struct mailbox *b = mem_new(struct mailbox);

    (void)e;
    CHECK(!l->box);
    *b = (struct mailbox){.loop = l, .receive = receive, .drop = drop, .ctx = ctx};
    list_init(&b->waiting);
    l->box = b;
    *ret = b;
    return RC_OK;
}

struct mailbox *mailbox_free(struct mailbox *b)
{
    struct list *node;

    if (!b)
        return NULL;
    while ((node = list_pop(&b->waiting)))
        b->drop(b->ctx, list_entry(node, struct mail, _link));
    b->loop->box = NULL;
    mem_free(b);
    return NULL;
}

static bool mail_waits(const struct mailbox *b)
{
    return b && !list_empty(&b->waiting);
}

/* What is posted meanwhile comes with the next turn. */
static void mail_deliver(struct mailbox *b)
{
    uint64_t until = b ? b->posted : 0;

    while (b && b->received < until) {
        struct list *node = list_pop(&b->waiting);

        b->received++;
        b->receive(b->ctx, list_entry(node, struct mail, _link));
    }
}

void mail_post(struct mailbox *b, struct mail *m)
{
    list_add_tail(&b->waiting, &m->_link);
    b->posted++;
    schedule(b->loop);
}

uint64_t loop_mail_posted(const struct loop *l)
{
    return l->box->posted;
}

uint64_t loop_mail_received(const struct loop *l)
{
    return l->box->received;
}

/* --- Workers ------------------------------------------------------------------------- */

struct pool {
    unsigned threads, running;
    struct list queued;
};

enum rc pool_new(const char *name, unsigned n, struct pool **ret, struct err *e)
{
    struct pool *p = mem_new(struct pool);

    (void)name, (void)e;
    p->threads = n;
    list_init(&p->queued);
    n_pools++;
    *ret = p;
    return RC_OK;
}

static void work(void *ctx)
{
    struct pool *p = ctx;
    struct list *node;

    while ((node = list_pop(&p->queued))) {
        struct pool_job *job = list_entry(node, struct pool_job, _link);

        job->run(job);
        coro_yield(chance(1, 2) ? 0 : chance_time(1, 1000));
    }
    p->running--;
    coro_wake(p);
}

void pool_submit(struct pool *p, struct pool_job *job)
{
    list_add_tail(&p->queued, &job->_link);
    if (p->running < p->threads) {
        p->running++;
        coro_spawn(work, p);
    }
}

struct pool *pool_free(struct pool *p)
{
    if (!p)
        return NULL;
    while (p->running)
        coro_wait(p);
    n_pools--;
    mem_free(p);
    return NULL;
}

size_t pool_queued(struct pool *p)
{
    size_t n = 0;

    list_each (it, &p->queued)
        n++;
    return n;
}
