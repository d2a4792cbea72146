/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "tests/des/policy.h"

#define AVOID USEC_PER_SEC /* a replica that does not answer */

struct plain {
    struct world *world;
    const struct work *work;
    unsigned window, replicas, inflight[REPLICAS_MAX];
    usec_t avoid[REPLICAS_MAX]; /* until then */
    uint32_t next, done;
    uint32_t *again; /* those that failed, first in, first out */
    uint32_t head, tail;
};

static bool pick(const struct plain *f, usec_t now, unsigned *ret)
{
    unsigned best = f->replicas;

    for (unsigned i = 0; i < f->replicas; i++)
        if (f->inflight[i] < f->window && f->avoid[i] <= now &&
            (best == f->replicas || f->inflight[i] < f->inflight[best]))
            best = i;
    *ret = best;
    return best < f->replicas;
}

static void pump(void *ctx, usec_t now)
{
    struct plain *f = ctx;
    unsigned replica;

    while ((f->head != f->tail || f->next < f->work->n) && pick(f, now, &replica)) {
        uint32_t q = f->head != f->tail ? f->again[f->head++ % f->work->n] : f->next++;

        (void)world_send(f->world, q, replica, now);
        f->inflight[replica]++;
    }
}

static void over(void *ctx, struct call *c, const struct sched_outcome *o, usec_t now)
{
    struct plain *f = ctx;

    f->inflight[c->replica]--;
    if (o->cls == OUTCOME_DONE || o->cls == OUTCOME_REFUSED) {
        f->done++;
        world_final(f->world, c->request, o->cls == OUTCOME_DONE, now);
        return;
    }
    if (o->cls == OUTCOME_HOST)
        f->avoid[c->replica] = now + AVOID;
    f->again[f->tail++ % f->work->n] = c->request;
}

static usec_t wake(void *ctx, usec_t now)
{
    const struct plain *f = ctx;
    usec_t at = USEC_INFINITY;

    for (unsigned i = 0; i < f->replicas; i++)
        if (f->avoid[i] > now && f->avoid[i] < at)
            at = f->avoid[i];
    return at;
}

static bool done(void *ctx)
{
    const struct plain *f = ctx;

    return f->done == f->work->n;
}

static const char *window(void *ctx, unsigned replica, unsigned *ret)
{
    const struct plain *f = ctx;

    (void)replica;
    *ret = f->window;
    return "fixed";
}

struct plain *plain_new(unsigned window_, unsigned replicas, const struct work *work)
{
    struct plain *f = mem_new(struct plain);

    f->window = window_;
    f->replicas = replicas;
    f->work = work;
    f->again = mem_new_n(uint32_t, work->n);
    return f;
}

struct plain *plain_free(struct plain *f)
{
    mem_free(f->again);
    mem_free(f);
    return NULL;
}

struct policy plain_policy(struct plain *f, struct world *w)
{
    f->world = w;
    return (struct policy){.ctx = f,
                           .pump = pump,
                           .over = over,
                           .wake = wake,
                           .done = done,
                           .window = window};
}
