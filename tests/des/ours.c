/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The scheduler, driven as the engine drives it.
 */
#include "base/mem.h"
#include "tests/des/policy.h"

#define MAX_WINDOW 1024
#define LOOK_EVERY USEC_PER_SEC /* for calls over their time */

struct load {
    struct batch_spec spec;
    uint32_t handle, left;
    usec_t ended;
    bool came, refused;
};

struct ours {
    struct ours_opts o;
    struct world *world;
    const struct work *work;
    struct sched *sched;
    unsigned replicas;
    uint16_t groups[64];
    struct load *batches;
    unsigned n_batches, came, over, until;
    uint32_t *batch_of; /* by handle */
    unsigned n_handles;
    struct call **calls; /* by ticket.call */
    uint32_t n_calls;
    uint64_t hedges;
    usec_t look;
    double answers, answered; /* tokens */
    double given[64];         /* work, by group */
};

static struct load *batch_of(struct ours *u, uint32_t handle)
{
    return &u->batches[u->batch_of[handle]];
}

/* --- Batches in ------------------------------------------------------------------------- */

/* The batch's requests in the order of their prefixes. */
static void items_of(const struct ours *u, const struct batch_spec *b,
                     struct sched_item *items, uint64_t *keys)
{
    uint32_t shared = UINT32_MAX, n = 0;

    for (uint32_t i = 0; i < u->work->n; i++) {
        uint32_t q = u->work->order[i];

        if (u->work->shared[i] < shared)
            shared = u->work->shared[i];
        if (q < b->from || q >= b->from + b->n)
            continue;
        keys[n] = u->work->v[q].prefix.key;
        items[n] = (struct sched_item){.item = q - b->from,
                                       .prompt = u->work->v[q].prefix.length / 4,
                                       .shared = n > 0 ? shared / 4 : 0,
                                       .max_out = u->work->v[q].max_out};
        n++;
        shared = UINT32_MAX;
    }
}

static void batch_in(struct ours *u, unsigned k, usec_t now)
{
    struct load *b = &u->batches[k];
    struct sched_item *items = mem_new_n(struct sched_item, b->spec.n);
    uint64_t *keys = mem_new_n(uint64_t, b->spec.n);
    struct sched_batch_opts o = {.n_items = b->spec.n,
                                 .items = u->o.file_order ? NULL : items,
                                 .keys = u->o.file_order ? NULL : keys,
                                 .deadline =
                                     b->spec.deadline ? b->spec.deadline : USEC_INFINITY,
                                 .window = b->spec.window,
                                 .priority = b->spec.priority,
                                 .idle = b->spec.idle,
                                 .group = u->o.n_groups ? u->groups[b->spec.group] : 0};

    items_of(u, &b->spec, items, keys);
    b->came = true;
    u->came++;
    b->handle = sched_batch_add(u->sched, &o, now);
    if (b->handle >= u->n_handles) {
        u->n_handles = 2 * b->handle + 8;
        u->batch_of = mem_resize(u->batch_of, u->n_handles * sizeof *u->batch_of);
        MEM_CHECK(u->batch_of);
    }
    u->batch_of[b->handle] = k;
    mem_free(items);
    mem_free(keys);
    if (u->o.admission && !sched_batch_fits(u->sched, b->handle, now, NULL)) {
        b->refused = true;
        sched_batch_remove(u->sched, b->handle);
        u->over++;
    }
}

static usec_t next_batch(const struct ours *u)
{
    return u->came < u->n_batches ? u->batches[u->came].spec.at : USEC_INFINITY;
}

/* --- Calls out and back ----------------------------------------------------------------- */

static void send(struct ours *u, const struct sched_ticket *t, usec_t now)
{
    struct load *b = batch_of(u, t->batch);
    struct call *c = world_send(u->world, b->spec.from + t->item, t->upstream, now);

    c->ticket = *t;
    if (t->call >= u->n_calls) {
        uint32_t n = 2 * t->call + 64;

        u->calls = mem_resize(u->calls, n * sizeof(struct call *));
        MEM_CHECK(u->calls);
        for (uint32_t i = u->n_calls; i < n; i++)
            u->calls[i] = NULL;
        u->n_calls = n;
    }
    u->calls[t->call] = c;
    u->hedges += t->hedge;
}

static void drop_losers(struct ours *u, usec_t now)
{
    struct sched_ticket t;

    while (sched_aborts(u->sched, &t, 1) == 1) {
        world_close(u->world, u->calls[t.call], now);
        u->calls[t.call] = NULL;
        sched_aborted(u->sched, &t, now);
    }
}

static void settle(struct ours *u, const struct sched_ticket *t, uint32_t request,
                   const struct sched_outcome *o, usec_t now)
{
    struct load *b = batch_of(u, t->batch);

    u->calls[t->call] = NULL;
    if (o->has_usage) {
        u->answers++;
        u->answered += o->output;
    }
    if (o->has_usage && u->o.n_groups)
        u->given[b->spec.group] +=
            o->prompt - o->cached + o->output * (1 + (o->prompt + o->output / 2.0) / 700);
    if (sched_done(u->sched, t, o, now) == SCHED_FINAL) {
        world_final(u->world, request, o->cls == OUTCOME_DONE, now);
        if (--b->left == 0) {
            b->ended = now;
            u->over++;
        }
    }
    drop_losers(u, now);
}

static void over(void *ctx, struct call *c, const struct sched_outcome *o, usec_t now)
{
    settle(ctx, &c->ticket, c->request, o, now);
}

static void give_up_late(struct ours *u, usec_t now)
{
    static const struct sched_outcome stalled = {.cls = OUTCOME_STALLED,
                                                 .retry_after = -1};

    if (now < u->look)
        return;
    u->look = now + LOOK_EVERY;
    for (uint32_t i = 0; i < u->n_calls; i++) {
        struct call *c = u->calls[i];

        if (!c || c->ticket.timeout == 0 || now - c->sent < c->ticket.timeout)
            continue;
        world_close(u->world, c, now);
        settle(u, &c->ticket, c->request, &stalled, now);
    }
}

static void pump(void *ctx, usec_t now)
{
    struct ours *u = ctx;
    struct sched_ticket t[64];
    uint16_t up;
    size_t n;

    while (next_batch(u) <= now)
        batch_in(u, u->came, now);
    give_up_late(u, now);
    drop_losers(u, now);
    while (sched_probe(u->sched, &up, now))
        world_probe(u->world, up, now);
    while (sched_sample_due(u->sched, &up, now))
        world_scrape(u->world, up, now);
    while ((n = sched_next(u->sched, t, COUNTOF(t), now)) > 0)
        for (size_t i = 0; i < n; i++)
            send(u, &t[i], now);
}

static void limited(void *ctx, unsigned replica, const struct sched_limits *l, usec_t now)
{
    struct ours *u = ctx;

    sched_limited(u->sched, (uint16_t)replica, l, now);
}

static void sampled(void *ctx, unsigned replica, const struct sched_sample *m, usec_t now)
{
    struct ours *u = ctx;

    sched_sampled(u->sched, (uint16_t)replica, m, now);
}

static void probed(void *ctx, unsigned replica, bool healthy, usec_t now)
{
    struct ours *u = ctx;

    sched_probe_done(u->sched, (uint16_t)replica, healthy, now);
}

static usec_t wake(void *ctx, usec_t now)
{
    const struct ours *u = ctx;
    usec_t at = sched_next_wake(u->sched, now), in = next_batch(u);

    return at < in ? at : in;
}

static bool done(void *ctx)
{
    const struct ours *u = ctx;

    return u->over == u->n_batches || (u->until && u->batches[u->until - 1].ended);
}

static const char *window(void *ctx, unsigned replica, unsigned *ret)
{
    static const char *const names[] = {"start", "quota", "metrics", "knee", "rejects"};
    static const char *const states[] = {"", "CLOSED", "DEAD", "TRIAL"};
    const struct ours *u = ctx;
    struct sched_up_view v;

    sched_upstream_view(u->sched, (uint16_t)replica, &v);
    *ret = v.window;
    return v.state != SCHED_UP_OPEN ? states[v.state] : v.slow ? "slow" : names[v.by];
}

/* --- What others see -------------------------------------------------------------------- */

struct ours *ours_new(const struct ours_opts *o, const struct world_opts *wo,
                      const struct work *work)
{
    const struct sched_opts so = {.seed = o->seed + 1};
    struct ours *u = mem_new(struct ours);

    u->o = *o;
    u->work = work;
    u->replicas = wo->replicas;
    u->sched = sched_new(&so);
    for (unsigned i = 0; i < wo->replicas; i++) {
        const struct sched_upstream_opts uo = {.window =
                                                   o->window ? o->window : MAX_WINDOW,
                                               .start = o->start,
                                               .fixed = o->fixed,
                                               .aborts = !o->no_aborts};
        uint16_t up = sched_upstream_add(u->sched, &uo);

        if (!o->blind && !o->fixed)
            sched_hint(u->sched, up, 0, wo->model.kv_tokens);
    }
    for (unsigned i = 0; i < o->n_groups; i++)
        u->groups[i] = sched_group_add(u->sched, 0, o->groups[i].weight);
    u->n_batches = o->batches ? o->n_batches : 1;
    u->batches = mem_new_n(struct load, u->n_batches);
    for (unsigned i = 0; i < u->n_batches; i++) {
        u->batches[i].spec =
            o->batches ? o->batches[i] : (struct batch_spec){.n = work->n};
        u->batches[i].left = u->batches[i].spec.n;
    }
    return u;
}

struct ours *ours_free(struct ours *u)
{
    sched_free(u->sched);
    mem_free(u->batches);
    mem_free(u->batch_of);
    mem_free(u->calls);
    mem_free(u);
    return NULL;
}

struct policy ours_policy(struct ours *u, struct world *w)
{
    u->world = w;
    return (struct policy){.ctx = u,
                           .pump = pump,
                           .over = over,
                           .limited = limited,
                           .sampled = sampled,
                           .probed = probed,
                           .wake = wake,
                           .done = done,
                           .window = window};
}

bool ours_refused(const struct ours *u, unsigned batch)
{
    return u->batches[batch].refused;
}

usec_t ours_ended(const struct ours *u, unsigned batch)
{
    return u->batches[batch].ended;
}

uint64_t ours_hedges(const struct ours *u)
{
    return u->hedges;
}

bool ours_stopped(const struct ours *u, unsigned batch)
{
    struct sched_batch_view v;

    sched_batch_view(u->sched, u->batches[batch].handle, &v);
    return v.stopped;
}

double ours_group_work(const struct ours *u, unsigned group)
{
    return u->given[group];
}

void ours_until(struct ours *u, unsigned batch)
{
    u->until = batch + 1;
}
