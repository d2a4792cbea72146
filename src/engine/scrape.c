/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/scrape.h"
#include "core/promtext.h"
#include "core/serverinfo.h"
#include "engine/dispatch.h"
#include "engine/stops.h"

/* An upstream without metrics is asked again after: */
#define AGAIN_FIRST (30 * USEC_PER_SEC)
#define AGAIN_LAST  (600 * USEC_PER_SEC)

/* What a sample said counts for so long as what is. */
#define FRESH (5 * USEC_PER_SEC)

/* What servers tell their settings at; each is asked until one has told something. */
static const char *const info_paths[] = {"/props", "/get_server_info", "/info"};

struct watch {
    struct engine *engine;
    uint16_t up;
    bool off; /* by the configuration */
    struct http_call metrics, info;

    usec_t asked;   /* when the last question for metrics went out */
    usec_t again;   /* it has none; not asked before */
    unsigned empty; /* answers without anything, in a row */
    struct promwatch trust;
    bool told;       /* its settings were, or all questions for them have been asked */
    bool asking;     /* info is under way */
    unsigned info_n; /* which is the next question */
    uint64_t kv_tokens;
    usec_t at_work; /* when a sample last said that something runs; 0: never */

    bool may_check; /* whether closing a call stops its work */
    struct stops stops;
    double typical; /* what a good answer takes, in usec (EWMA); 0: not known */
};

struct scrape {
    struct watch *ups;
};

static struct watch *watch_of(const struct engine *g, uint16_t up)
{
    return &g->scrape->ups[up];
}

/* --- Settings ------------------------------------------------------------------------ */

static void ask_info(struct watch *w);

static void info_answered(struct http_call *c)
{
    struct watch *w = CONTAINER_OF(c, struct watch, info);
    struct serverinfo info;

    if (c->fate == HTTP_ABORTED)
        return;
    w->asking = false;
    if (c->fate != HTTP_ANSWERED) /* it is away: asked anew when it is back */
        return;
    if (c->status >= 200 && c->status < 300 &&
        serverinfo_read(buf_peek(&c->answer), &info)) {
        w->told = true;
        sched_hint(w->engine->sched, w->up, info.slots,
                   info.kv_tokens ? info.kv_tokens : w->kv_tokens);
        log_info("upstream.settings", "upstream=\"%s\" slots=%u kv_tokens=%llu",
                 upstream_name(w->engine->ups[w->up]), info.slots,
                 (unsigned long long)info.kv_tokens);
        return;
    }
    w->info_n++;
    ask_info(w);
}

static void ask_info(struct watch *w)
{
    struct engine *g = w->engine;

    if (w->told || w->asking || g->draining)
        return;
    if (w->info_n == COUNTOF(info_paths)) {
        w->told = true;
        return;
    }
    w->asking = true;
    upstream_ask(g->ups[w->up], &w->info, info_paths[w->info_n], info_answered);
}

/* vLLM tells its memory in its metrics, and nothing else. */
static void take_hints(struct watch *w, const struct promtext *p)
{
    if (w->told)
        return;
    if (p->kv_tokens > 0) {
        w->kv_tokens = (uint64_t)p->kv_tokens;
        sched_hint(w->engine->sched, w->up, 0, w->kv_tokens);
    }
    if (p->is_vllm)
        w->told = true;
}

/* --- Whether closing a call stops its work ------------------------------------------- */

static void check_stops(struct watch *w, const struct promtext *p, usec_t now)
{
    struct engine *g = w->engine;
    struct sched_up_view v;
    double load = (p->running > 0 ? p->running : 0) + (p->waiting > 0 ? p->waiting : 0);
    unsigned n;

    sched_upstream_view(g->sched, w->up, &v);
    if (stops_sample(&w->stops, load, v.inflight, w->asked)) {
        bool yes = w->stops.verdict == STOPS_YES;

        sched_upstream_aborts(g->sched, w->up, yes);
        atomic_store(&g->gauges[w->up].stops, yes);
        atomic_store(&g->gauges[w->up].stops_known, true);
        log_info("upstream.closing_stops", "upstream=\"%s\" stops=%d",
                 upstream_name(g->ups[w->up]), yes);
    }
    n = stops_wants(&w->stops);
    if (n && w->typical >= 2.0 * STOPS_NEEDS && v.inflight >= 2 * n)
        stops_closed(
            &w->stops,
            dispatch_sacrifice(g, w->up, n, (usec_t)w->typical - STOPS_NEEDS, now), now);
}

void scrape_took(struct engine *g, uint16_t up, usec_t took)
{
    struct watch *w = watch_of(g, up);

    w->typical =
        w->typical > 0 ? w->typical + ((double)took - w->typical) / 16 : (double)took;
}

void scrape_closed(struct engine *g, uint16_t up, usec_t now)
{
    stops_closed(&watch_of(g, up)->stops, 1, now);
}

bool scrape_at_work(const struct engine *g, uint16_t up, usec_t now)
{
    const struct watch *w = watch_of(g, up);

    return w->at_work && now - w->at_work < FRESH;
}

/* --- Samples ------------------------------------------------------------------------- */

static void tell_nothing(struct watch *w, usec_t now)
{
    atomic_fetch_add_explicit(&w->engine->gauges[w->up].blind, 1, memory_order_relaxed);
    sched_sampled(w->engine->sched, w->up, NULL, now);
}

static void take_sample(struct watch *w, const struct promtext *p, usec_t now)
{
    struct engine *g = w->engine;
    struct sched_sample m = {.running = p->running,
                             .waiting = p->waiting,
                             .kv = p->kv,
                             .preemptions = p->preemptions,
                             .prefix_hits = p->prefix_hits,
                             .prefix_queries = p->prefix_queries};
    bool believed = !w->trust.distrusted_until;

    w->empty = 0;
    if (!promwatch_see(&w->trust, p, now)) {
        if (believed)
            log_warn("upstream.metrics",
                     "upstream=\"%s\" err=\"they are of several servers by turns\" "
                     "remedy=\"name each server, or set metrics in its section\"",
                     upstream_name(g->ups[w->up]));
        stops_init(&w->stops);
        tell_nothing(w, now);
        return;
    }
    if (p->running > 0)
        w->at_work = now;
    atomic_fetch_add_explicit(&g->gauges[w->up].samples, 1, memory_order_relaxed);
    sched_sampled(g->sched, w->up, &m, now);
    take_hints(w, p);
    if (w->may_check && w->stops.verdict == STOPS_UNKNOWN && !g->draining)
        check_stops(w, p, now);
}

/* It answered, but with nothing of use: 404, a page, another program's metrics. */
static void take_nothing(struct watch *w, usec_t now)
{
    usec_t wait = AGAIN_FIRST;

    for (unsigned i = 0; i < w->empty && wait < AGAIN_LAST; i++)
        wait *= 2;
    w->empty++;
    w->again = now + (wait < AGAIN_LAST ? wait : AGAIN_LAST);
    tell_nothing(w, now);
}

/* Answers that pass: it is starting, overloaded, or somebody before it is. */
static bool is_passing(const struct http_call *c)
{
    return c->fate != HTTP_ANSWERED || c->status == 429 || c->status == 500 ||
           (c->status > 501 && c->status <= 599);
}

static void metrics_answered(struct http_call *c)
{
    struct watch *w = CONTAINER_OF(c, struct watch, metrics);
    usec_t now = loop_now(w->engine->loop);
    struct promtext p;

    if (c->fate == HTTP_ABORTED)
        return;
    if (is_passing(c))
        tell_nothing(w, now);
    else if (c->status >= 200 && c->status < 300 &&
             promtext_read(buf_peek(&c->answer), &p))
        take_sample(w, &p, now);
    else
        take_nothing(w, now);
    if (c->fate == HTTP_ANSWERED)
        ask_info(w);
}

void scrape_due(struct engine *g, usec_t now)
{
    uint16_t up;

    for (size_t n = 0; n < g->o.n_upstreams && sched_sample_due(g->sched, &up, now);
         n++) {
        struct watch *w = watch_of(g, up);

        if (w->off) {
            sched_sampled(g->sched, up, NULL, now);
        } else if (now < w->again) {
            tell_nothing(w, now);
        } else {
            w->asked = now;
            upstream_ask_metrics(g->ups[up], &w->metrics, metrics_answered);
        }
    }
}

void scrape_back(struct engine *g, uint16_t up)
{
    struct watch *w = watch_of(g, up);

    w->again = 0;
    w->empty = w->info_n = 0;
    w->told = false;
    w->at_work = 0;
    if (!w->may_check || w->stops.verdict == STOPS_UNKNOWN)
        return;
    stops_init(&w->stops);
    sched_upstream_aborts(g->sched, up, false);
    atomic_store(&g->gauges[up].stops_known, false);
}

/* --- Start and end ------------------------------------------------------------------- */

void scrape_open(struct engine *g)
{
    size_t n = g->o.n_upstreams;

    g->scrape = mem_new(struct scrape);
    g->scrape->ups = mem_new_n(struct watch, n + 1);
    for (uint16_t i = 0; i < n; i++) {
        struct watch *w = &g->scrape->ups[i];

        w->engine = g;
        w->up = i;
        w->off = g->o.upstreams[i].no_metrics;
        w->may_check = g->o.upstreams[i].hedge == HEDGE_AUTO && n > 1;
        http_call_init(&w->metrics);
        http_call_init(&w->info);
        promwatch_init(&w->trust);
        stops_init(&w->stops);
    }
}

void scrape_close(struct engine *g)
{
    if (!g->scrape)
        return;
    for (size_t i = 0; i < g->o.n_upstreams; i++) {
        http_call_done(&g->scrape->ups[i].metrics);
        http_call_done(&g->scrape->ups[i].info);
    }
    mem_free(g->scrape->ups);
    mem_free(g->scrape);
    g->scrape = NULL;
}
