/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/roster.h"
#include "engine/dispatch.h"
#include "engine/phases.h"
#include "engine/queues.h"

/* A new batch waits so long for upstreams that have not answered yet. */
#define READY_WAIT (5 * USEC_PER_SEC)

#define AGAIN_FIRST (1 * USEC_PER_SEC)
#define AGAIN_LAST  (30 * USEC_PER_SEC)

/* An upstream that says 503 to the question for its models so often in a row may never
 * say anything else: it does not tell. */
#define LATER_MAX 3

struct question {
    struct engine *engine;
    uint16_t up;
    bool fixed;     /* by the configuration */
    bool once;      /* its first question has ended */
    unsigned later; /* failures in a row that may pass */
    uint64_t asked; /* how often, probes apart */
    bool asking;    /* and the last one has no answer yet */
    struct loop_timer timer;
};

struct roster {
    struct question *ups;
    struct loop_timer ready_by;
    atomic_bool ready;
};

bool roster_ready(const struct engine *g)
{
    return atomic_load(&g->roster->ready);
}

/* --- Who waits for it ----------------------------------------------------------------
 */

static void set_ready(struct engine *g)
{
    struct live *l;
    size_t cursor = 0;

    if (roster_ready(g))
        return;
    loop_timer_clear(g->loop, &g->roster->ready_by);
    atomic_store(&g->roster->ready, true);
    while ((l = map_next(g->lives, &cursor)))
        phase_resume(l);
}

static void ready_by(void *ctx, usec_t now)
{
    (void)now;
    set_ready(ctx);
}

static void check_ready(struct engine *g)
{
    for (size_t i = 0; i < g->o.n_upstreams; i++)
        if (!g->roster->ups[i].once)
            return;
    set_ready(g);
}

/* --- Asking --------------------------------------------------------------------------
 */

static void ask_now(struct question *q)
{
    if (q->asking)
        return; /* its answer will come */
    q->asking = true;
    q->asked++;
    upstream_list(q->engine->ups[q->up]);
}

static void ask(void *ctx, usec_t now)
{
    struct question *q = ctx;

    (void)now;
    if (!q->engine->draining)
        ask_now(q);
}

/* One that is under way may have been answered before the line was. */
uint64_t roster_doubts(struct engine *g, uint16_t up)
{
    struct question *q = &g->roster->ups[up];
    uint64_t next = q->asked + 1;

    if (q->fixed || catalog_count(g->catalog, up) == 0)
        return 0;
    ask_now(q);
    return next;
}

/* Who waits for a later answer than this one has the next question asked. */
static void settle(struct question *q, const struct http_call *c)
{
    struct engine *g = q->engine;
    bool away = c->fate == HTTP_NO_CONNECT || c->fate == HTTP_RESET;

    dispatch_settle(g, q->up, q->asked, away);
    list_each (it, &g->doubted) {
        if (list_entry(it, struct slot, doubt)->ticket.upstream == q->up) {
            ask_now(q);
            return;
        }
    }
}

static void ask_later(struct question *q)
{
    struct engine *g = q->engine;
    usec_t wait = g->o.models_refresh, again = AGAIN_FIRST;

    if (!catalog_asked(g->catalog, q->up)) {
        for (unsigned i = 1; i < q->later && again < AGAIN_LAST; i++)
            again *= 2;
        again = again < AGAIN_LAST ? again : AGAIN_LAST;
        wait = wait && wait < again ? wait : again;
    }
    if (wait)
        loop_timer_set(g->loop, &q->timer, loop_now(g->loop) + wait, ask, q);
}

enum verdict { V_LIST, V_NONE, V_KEEP, V_LATER };

static enum verdict verdict_of(const struct http_call *c)
{
    if (c->fate == HTTP_NO_CONNECT || c->fate == HTTP_RESET)
        return V_LATER;
    if (c->fate != HTTP_ANSWERED)
        return V_KEEP;
    if (c->status >= 200 && c->status < 300)
        return V_LIST;
    switch (c->status) {
    case 404:
    case 405:
    case 501:
        return V_NONE;
    case 429:
    case 502:
    case 503:
    case 504:
        return V_LATER;
    default:
        return V_KEEP;
    }
}

/* true: something is different now. */
static bool take(struct question *q, const struct http_call *c)
{
    struct catalog *catalog = q->engine->catalog;
    enum verdict v = verdict_of(c);

    q->later = v == V_LATER ? q->later + 1 : 0;
    switch (v) {
    case V_LIST:
        return catalog_learn(catalog, q->up, buf_peek(&c->answer));
    case V_NONE:
        return catalog_unlisted(catalog, q->up, false);
    case V_KEEP:
        return catalog_unlisted(catalog, q->up, true);
    case V_LATER:
        break;
    }
    return c->fate == HTTP_ANSWERED && q->later >= LATER_MAX &&
           catalog_unlisted(catalog, q->up, true);
}

void roster_listed(void *ctx, uint16_t up, const struct http_call *call, bool probe)
{
    struct engine *g = ctx;
    struct question *q = &g->roster->ups[up];

    if (take(q, call)) {
        queues_follow(g);
        log_info("upstream.models", "upstream=\"%s\" models=%zu",
                 upstream_name(g->ups[up]), catalog_count(g->catalog, up));
    }
    q->once = true;
    if (!probe) {
        q->asking = false;
        settle(q, call);
    }
    if (!q->asking)
        ask_later(q);
    check_ready(g);
}

/* --- Start and end -------------------------------------------------------------------
 */

void roster_open(struct engine *g)
{
    struct roster *r = mem_new(struct roster);
    usec_t now = loop_now(g->loop);

    g->roster = r;
    g->catalog = catalog_new(g->o.n_upstreams, g->o.aliases, g->o.n_aliases);
    r->ups = mem_new_n(struct question, g->o.n_upstreams + 1);
    loop_timer_set(g->loop, &r->ready_by, now + READY_WAIT, ready_by, g);
    for (uint16_t i = 0; i < g->o.n_upstreams; i++) {
        struct question *q = &r->ups[i];
        const char *models = g->o.upstreams[i].models;

        *q = (struct question){
            .engine = g, .up = i, .fixed = models != NULL, .once = models != NULL};
        if (models)
            IGNORE(catalog_fix(g->catalog, i, models)); /* nobody looks yet */
        else
            loop_timer_set(g->loop, &q->timer, now, ask, q);
    }
    check_ready(g);
}

void roster_close(struct engine *g)
{
    struct roster *r = g->roster;

    if (!r)
        return;
    loop_timer_clear(g->loop, &r->ready_by);
    for (size_t i = 0; i < g->o.n_upstreams; i++)
        loop_timer_clear(g->loop, &r->ups[i].timer);
    mem_free(r->ups);
    mem_free(r);
    g->roster = NULL;
    g->catalog = catalog_free(g->catalog);
}
