/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/des/world.h"
#include "base/mem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define RETRY_AFTER_SLACK (10 * USEC_PER_MS)

enum kind {
    ARRIVE,
    CLOSE,
    BACK,
    SCRAPED,
    PROBED,
    TROUBLE,
    TROUBLE_OVER,
    FOREGROUND,
    TICK
};

struct event {
    usec_t at;
    uint64_t seq;
    enum kind kind;
    unsigned replica;
    struct call *call;
    struct sched_sample sample;
    bool yes;
};

/* What is left of a quota: filled evenly. */
struct bucket {
    double most, left;
    usec_t at;
};

struct replica {
    struct sim_model *model;
    struct list calls;
    struct bucket requests, tokens;
    bool down;
};

struct world {
    struct world_opts o;
    const struct work *work;
    const struct policy *policy;
    struct replica r[REPLICAS_MAX];
    struct event *heap;
    size_t n, cap;
    uint64_t seq;
    struct rng rng;
    uint16_t *tries; /* of each request: calls so far */
    uint32_t finals;
    usec_t t95, last;
    struct result res;
    float *ttft;
    size_t n_ttft, cap_ttft;
    bool dirty;
    uint32_t done_before; /* the last line of the timeline */
};

/* --- Events ------------------------------------------------------------------------------- */

static bool sooner(const struct event *a, const struct event *b)
{
    return a->at != b->at ? a->at < b->at : a->seq < b->seq;
}

static struct event *event_add(struct world *w, usec_t at, enum kind kind,
                               unsigned replica, struct call *c)
{
    size_t i = w->n++;
    struct event e = {
        .at = at, .seq = w->seq++, .kind = kind, .replica = replica, .call = c};

    if (w->n > w->cap) {
        w->cap = w->cap ? 2 * w->cap : 1024;
        w->heap = mem_resize(w->heap, w->cap * sizeof *w->heap);
        MEM_CHECK(w->heap);
    }
    for (; i > 0 && sooner(&e, &w->heap[(i - 1) / 2]); i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = e;
    return &w->heap[i];
}

static struct event event_pop(struct world *w)
{
    struct event top = w->heap[0], e = w->heap[--w->n];
    size_t i = 0, child;

    while ((child = 2 * i + 1) < w->n) {
        if (child + 1 < w->n && sooner(&w->heap[child + 1], &w->heap[child]))
            child++;
        if (!sooner(&w->heap[child], &e))
            break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    if (w->n > 0)
        w->heap[i] = e;
    return top;
}

/* --- Servers ------------------------------------------------------------------------------ */

static void answer(struct world *w, struct call *c, enum outcome_class cls, usec_t now)
{
    c->state = CALL_BACK;
    c->outcome.cls = cls;
    event_add(w, now + w->o.latency, BACK, c->replica, c);
}

static void fill(struct bucket *b, usec_t now)
{
    b->left = fmin(b->most, b->left + b->most * (double)(now - b->at) / 60e6);
    b->at = now;
}

static usec_t until(const struct bucket *b, double wants)
{
    return wants <= b->left ? 0 : (usec_t)((wants - b->left) / b->most * 60e6) + 1;
}

static void tell_limits(const struct world *w, const struct replica *r, struct call *c)
{
    bool asks_r = w->o.requests_per_min > 0, asks_t = w->o.tokens_per_min > 0;

    c->has_limits = true;
    c->limits = (struct sched_limits){
        .requests = asks_r ? w->o.requests_per_min : -1,
        .requests_left = asks_r ? floor(r->requests.left) : -1,
        .tokens = asks_t ? w->o.tokens_per_min : -1,
        .tokens_left = asks_t ? floor(r->tokens.left) : -1,
        .requests_reset = asks_r ? until(&r->requests, r->requests.most) : -1,
        .tokens_reset = asks_t ? until(&r->tokens, r->tokens.most) : -1};
}

/* As hosted APIs do: the request and the tokens that it may take count when it comes. */
static bool over_quota(struct world *w, struct replica *r, struct call *c, usec_t now)
{
    const struct request *q = &w->work->v[c->request];
    double cost = q->prompt + q->max_out;
    bool asks_r = w->o.requests_per_min > 0, asks_t = w->o.tokens_per_min > 0, over;
    usec_t wait = 0;

    if (!asks_r && !asks_t)
        return false;
    fill(&r->requests, now);
    fill(&r->tokens, now);
    if (asks_r)
        wait = until(&r->requests, 1);
    if (asks_t && until(&r->tokens, cost) > wait)
        wait = until(&r->tokens, cost);
    over = wait > 0;
    if (!over) {
        r->requests.left -= 1;
        r->tokens.left -= cost;
    }
    tell_limits(w, r, c);
    if (over)
        c->outcome.retry_after = wait + RETRY_AFTER_SLACK;
    return over;
}

static bool falls(struct world *w, const struct call *c)
{
    uint64_t h = rng_hash(w->o.seed, c->request, w->tries[c->request]);

    return (double)(h >> 11) / 9007199254740992.0 < w->o.transient;
}

static void arrive(struct world *w, struct call *c, usec_t now)
{
    struct replica *r = &w->r[c->replica];

    if (r->down) {
        answer(w, c, OUTCOME_HOST, now);
    } else if (!c->foreground && w->o.denied) {
        answer(w, c, OUTCOME_DENIED, now);
    } else if (!c->foreground && w->o.poison && c->request % w->o.poison == 7) {
        answer(w, c, OUTCOME_BROKEN, now);
    } else if (!c->foreground && falls(w, c)) {
        answer(w, c, OUTCOME_TRANSIENT, now);
    } else if (!c->foreground && over_quota(w, r, c, now)) {
        answer(w, c, OUTCOME_CAPACITY, now);
    } else {
        enum rc rc = sim_model_add(r->model, &c->seq, now);

        if (rc != RC_OK) {
            answer(w, c, rc == RC_LIMIT ? OUTCOME_CAPACITY : OUTCOME_REFUSED, now);
            return;
        }
        c->state = CALL_SERVED;
        list_add_tail(&r->calls, &c->at);
    }
}

static void note_ttft(struct world *w, const struct call *c)
{
    if (w->n_ttft == w->cap_ttft) {
        w->cap_ttft = w->cap_ttft ? 2 * w->cap_ttft : 1024;
        w->ttft = mem_resize(w->ttft, w->cap_ttft * sizeof *w->ttft);
        MEM_CHECK(w->ttft);
    }
    w->ttft[w->n_ttft++] = (float)(c->seq.first - c->seq.came) / 1e6f;
}

static void served(struct world *w, struct call *c, usec_t now)
{
    list_del(&c->at);
    w->res.preempted += c->seq.preempted;
    if (c->foreground) {
        note_ttft(w, c);
        mem_free(c);
        return;
    }
    if (w->o.refunds) {
        const struct request *q = &w->work->v[c->request];
        struct bucket *b = &w->r[c->replica].tokens;

        fill(b, now);
        b->left = fmin(b->most, b->left + q->max_out - c->seq.made);
        tell_limits(w, &w->r[c->replica], c);
    }
    c->outcome.has_usage = true;
    c->outcome.prompt = c->seq.prompt;
    c->outcome.cached = c->seq.cached;
    c->outcome.output = c->seq.made;
    answer(w, c, OUTCOME_DONE, now);
}

static void servers_step(struct world *w, usec_t now)
{
    for (unsigned i = 0; i < w->o.replicas; i++) {
        struct sim_seq *q;

        if (sim_model_next(w->r[i].model) > now)
            continue;
        while ((q = sim_model_step(w->r[i].model, now)))
            served(w, CONTAINER_OF(q, struct call, seq), now);
    }
}

static void crash(struct world *w, struct replica *r, usec_t now)
{
    struct list *node;

    r->down = true;
    sim_model_crash(r->model);
    while ((node = list_pop(&r->calls))) {
        struct call *c = list_entry(node, struct call, at);

        if (c->foreground)
            mem_free(c);
        else
            answer(w, c, OUTCOME_BROKEN, now);
    }
}

static void close_at_server(struct world *w, struct call *c, usec_t now)
{
    if (c->state == CALL_SERVED) {
        list_del(&c->at);
        sim_model_abort(w->r[c->replica].model, &c->seq, now);
    }
    c->closing = false;
    if (c->state != CALL_BACK) /* its answer, which nobody wants, frees it */
        mem_free(c);
}

/* --- Interactive load --------------------------------------------------------------------- */

/* 90 s of bursts, 90 s at a tenth. */
static void foreground(struct world *w, usec_t now)
{
    static const uint64_t no_blocks;
    bool burst = now / (90 * USEC_PER_SEC) % 2 == 0;
    double rate = w->o.foreground * (burst ? 1 : 0.1);
    struct call *c = mem_new(struct call);

    c->foreground = true;
    c->replica = rng_between(&w->rng, 0, w->o.replicas - 1);
    c->seq.prompt = (uint32_t)fmin(4000, 1 + rng_lognormal(&w->rng, 400, 0.7));
    c->seq.out = (uint32_t)fmin(1000, 1 + rng_lognormal(&w->rng, 150, 0.7));
    c->seq.blocks = &no_blocks;
    arrive(w, c, now);
    if (c->state == CALL_BACK)
        c->closed = true;
    event_add(w, now + 1 + (usec_t)rng_exponential(&w->rng, 1e6 / rate), FOREGROUND, 0,
              NULL);
}

/* --- For policies ------------------------------------------------------------------------- */

struct call *world_send(struct world *w, uint32_t request, unsigned replica, usec_t now)
{
    const struct request *q = &w->work->v[request];
    struct call *c = mem_new(struct call);

    c->request = request;
    c->replica = replica;
    c->sent = now;
    c->outcome.retry_after = -1;
    c->seq.blocks = q->blocks;
    c->seq.n_blocks = q->n_blocks;
    c->seq.prompt = q->prompt;
    c->seq.out = q->out;
    w->tries[request]++;
    if (w->tries[request] > w->res.most_calls)
        w->res.most_calls = w->tries[request];
    w->res.calls++;
    event_add(w, now + w->o.latency, ARRIVE, replica, c);
    return c;
}

void world_close(struct world *w, struct call *c, usec_t now)
{
    c->closed = c->closing = true;
    w->res.closed++;
    event_add(w, now + w->o.latency, CLOSE, c->replica, c);
}

static struct sched_sample sample_of(const struct replica *r, usec_t now)
{
    struct sim_model_load l;

    sim_model_load(r->model, now, &l);
    return (struct sched_sample){.running = l.running,
                                 .waiting = l.waiting,
                                 .kv = (double)l.kv_used / (double)l.kv_total,
                                 .preemptions = (double)l.preemptions,
                                 .prefix_hits = (double)l.hits,
                                 .prefix_queries = (double)l.queries};
}

/* With `scrape` metrics are as old as the last time that is a multiple of it. */
void world_scrape(struct world *w, unsigned replica, usec_t now)
{
    usec_t at = now + w->o.latency;

    if (w->o.scrape)
        at = (now / w->o.scrape + 1) * w->o.scrape;
    event_add(w, at, SCRAPED, replica, NULL);
}

void world_probe(struct world *w, unsigned replica, usec_t now)
{
    event_add(w, now + w->o.latency, PROBED, replica, NULL);
}

void world_final(struct world *w, uint32_t request, bool good, usec_t now)
{
    const struct request *q = &w->work->v[request];

    w->finals++;
    w->last = now;
    if (w->finals == w->work->n - w->work->n / 20)
        w->t95 = now;
    if (good)
        w->res.tokens += q->prompt + q->out;
    else
        w->res.failed++;
}

/* --- The run ------------------------------------------------------------------------------ */

static void back(struct world *w, struct call *c, usec_t now)
{
    if (!c->closed) {
        if (c->outcome.cls == OUTCOME_CAPACITY)
            w->res.rejects++;
        if (c->has_limits && w->policy->limited)
            w->policy->limited(w->policy->ctx, c->replica, &c->limits, now);
        w->policy->over(w->policy->ctx, c, &c->outcome, now);
        w->dirty = true;
    }
    if (c->closing)
        c->state = CALL_GONE;
    else
        mem_free(c);
}

static void trouble(struct world *w, const struct trouble *t, bool begins, usec_t now)
{
    struct replica *r = &w->r[t->replica];

    if (t->factor > 0)
        sim_model_speed(r->model, begins ? t->factor : 1, now);
    else if (begins)
        crash(w, r, now);
    else
        r->down = false;
}

static void sampled(struct world *w, const struct event *e, bool back_home)
{
    struct replica *r = &w->r[e->replica];

    if (!back_home) {
        struct event *n = event_add(w, e->at + w->o.latency, SCRAPED, e->replica, NULL);

        n->yes = true;
        n->call = r->down || w->o.no_metrics ? NULL : (struct call *)(void *)w;
        n->sample = sample_of(r, e->at);
        return;
    }
    w->policy->sampled(w->policy->ctx, e->replica, e->call ? &e->sample : NULL, e->at);
    w->dirty = true;
}

static void probed(struct world *w, const struct event *e)
{
    if (!e->yes) {
        bool healthy = !w->r[e->replica].down;
        struct event *n = event_add(w, e->at + w->o.latency, PROBED, e->replica, NULL);

        n->yes = true;
        n->sample.running = healthy;
        return;
    }
    w->policy->probed(w->policy->ctx, e->replica, e->sample.running > 0, e->at);
    w->dirty = true;
}

static void tick(struct world *w, usec_t now)
{
    double seconds = (double)w->o.trace / 1e6;

    printf("%9.2f s  done %6u (%5.0f/s)", (double)now / 1e6, w->finals,
           (w->finals - w->done_before) / seconds);
    w->done_before = w->finals;
    for (unsigned i = 0; i < w->o.replicas; i++) {
        struct sim_model_load l;
        unsigned window = 0;
        const char *why = w->policy->window(w->policy->ctx, i, &window);

        sim_model_load(w->r[i].model, now, &l);
        printf(" | %4u %-7s run %3u wait %3u kv %3.0f%% hit %3.0f%%%s", window, why,
               l.running, l.waiting, 100 * (double)l.kv_used / (double)l.kv_total,
               l.queries ? 100 * (double)l.hits / (double)l.queries : 0,
               w->r[i].down ? " DOWN" : "");
    }
    putchar('\n');
    event_add(w, now + w->o.trace, TICK, 0, NULL);
}

static void handle(struct world *w, const struct event *e)
{
    switch (e->kind) {
    case ARRIVE:
        if (!e->call->closed)
            arrive(w, e->call, e->at);
        break;
    case CLOSE:
        close_at_server(w, e->call, e->at);
        break;
    case BACK:
        back(w, e->call, e->at);
        break;
    case SCRAPED:
        sampled(w, e, e->yes);
        break;
    case PROBED:
        probed(w, e);
        break;
    case TROUBLE:
    case TROUBLE_OVER:
        trouble(w, &w->o.troubles[e->replica], e->kind == TROUBLE, e->at);
        break;
    case FOREGROUND:
        foreground(w, e->at);
        break;
    case TICK:
        tick(w, e->at);
        break;
    }
}

static usec_t next_time(const struct world *w, usec_t wake)
{
    usec_t at = wake;

    if (w->n > 0 && w->heap[0].at < at)
        at = w->heap[0].at;
    for (unsigned i = 0; i < w->o.replicas; i++)
        if (sim_model_next(w->r[i].model) < at)
            at = sim_model_next(w->r[i].model);
    return at;
}

static int by_size(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;

    return (x > y) - (x < y);
}

static void sum_up(struct world *w, struct result *ret)
{
    double hits = 0, queries = 0;

    for (unsigned i = 0; i < w->o.replicas; i++) {
        struct sim_model_load l;

        sim_model_load(w->r[i].model, w->last, &l);
        hits += (double)l.hits;
        queries += (double)l.queries;
    }
    if (w->n_ttft > 0)
        qsort(w->ttft, w->n_ttft, sizeof *w->ttft, by_size);
    *ret = w->res;
    ret->seconds = (double)w->last / 1e6;
    ret->t95 = (double)w->t95 / 1e6;
    ret->hits = queries > 0 ? hits / queries : 0;
    ret->foregrounds = w->n_ttft;
    ret->ttft_p99 = w->n_ttft ? w->ttft[w->n_ttft * 99 / 100] : 0;
}

static void events_start(struct world *w)
{
    for (unsigned i = 0; i < w->o.n_troubles; i++) {
        event_add(w, w->o.troubles[i].from, TROUBLE, i, NULL);
        event_add(w, w->o.troubles[i].to, TROUBLE_OVER, i, NULL);
    }
    if (w->o.foreground > 0)
        event_add(w, 0, FOREGROUND, 0, NULL);
    if (w->o.trace)
        event_add(w, w->o.trace, TICK, 0, NULL);
}

void world_run(struct world *w, const struct policy *p, struct result *ret)
{
    usec_t now = 0, end = w->o.until ? w->o.until : (usec_t)366 * 86400 * USEC_PER_SEC;
    unsigned idle = 0;

    w->policy = p;
    events_start(w);
    p->pump(p->ctx, 0);
    while (!p->done(p->ctx)) {
        usec_t wake = p->wake(p->ctx, now), at = next_time(w, wake);

        /* A policy that wants to be asked again and again at one time makes no way. */
        idle = at > now ? 0 : idle + 1;
        if (at > end || idle > 1000000) {
            w->res.stuck = at == USEC_INFINITY || idle > 0 || !w->o.until;
            break;
        }
        w->dirty = wake <= at;
        now = at > now ? at : now;
        servers_step(w, now);
        while (w->n > 0 && w->heap[0].at <= now) {
            struct event e = event_pop(w);

            handle(w, &e);
        }
        if (w->dirty)
            p->pump(p->ctx, now);
    }
    sum_up(w, ret);
}

struct world *world_new(const struct world_opts *o, const struct work *work)
{
    struct world *w = mem_new(struct world);

    CHECK(o->replicas > 0 && o->replicas <= REPLICAS_MAX);
    w->o = *o;
    w->o.latency = o->latency ? o->latency : USEC_PER_MS / 2;
    w->work = work;
    w->rng.state = rng_hash(o->seed, 0x776f726c64, 1);
    w->tries = mem_new_n(uint16_t, work->n);
    for (unsigned i = 0; i < o->replicas; i++) {
        struct replica *r = &w->r[i];

        r->model = sim_model_new(&o->model);
        r->requests = (struct bucket){o->requests_per_min, o->requests_per_min, 0};
        r->tokens = (struct bucket){o->tokens_per_min, o->tokens_per_min, 0};
        list_init(&r->calls);
    }
    return w;
}

struct world *world_free(struct world *w)
{
    if (!w)
        return NULL;
    /* Each call is at a server, or in an event that frees it. */
    for (size_t i = 0; i < w->n; i++) {
        const struct event *e = &w->heap[i];

        if (e->kind == CLOSE && e->call->state == CALL_SERVED)
            list_del(&e->call->at);
        if (e->kind == CLOSE ||
            ((e->kind == BACK || e->kind == ARRIVE) && !e->call->closing))
            mem_free(e->call);
    }
    for (unsigned i = 0; i < w->o.replicas; i++) {
        struct list *node;

        sim_model_free(w->r[i].model);
        while ((node = list_pop(&w->r[i].calls)))
            mem_free(list_entry(node, struct call, at));
    }
    mem_free(w->heap);
    mem_free(w->tries);
    mem_free(w->ttft);
    mem_free(w);
    return NULL;
}
