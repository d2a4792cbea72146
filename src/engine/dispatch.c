/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A line has no object until it is in flight: then it is a slot.  Memory is slots in use
 * times what they hold, whatever the size of the batch.
 */
#include "engine/dispatch.h"
#include "core/line.h"
#include "core/ratelimit.h"
#include "engine/follow.h"
#include "engine/journal.h"
#include "engine/queues.h"
#include "engine/roster.h"
#include "engine/scrape.h"

/* Tickets taken from the scheduler at a time. */
#define TICKETS 32

/* A line's memory above it is given back after the call. */
#define KEEP_LINE (64u << 10)

static void answered(struct http_call *c);
static usec_t reprieve(struct http_call *c);

static struct slot *slot_take(struct engine *g)
{
    struct list *node = list_pop(&g->free_slots);
    struct slot *s;

    if (node)
        return list_entry(node, struct slot, link);
    s = mem_new(struct slot);
    http_call_init(&s->call);
    list_init(&s->link);
    list_init(&s->doubt);
    return s;
}

static void slot_give(struct engine *g, struct slot *s)
{
    struct live *l = s->live;

    list_del(&s->link);
    list_del(&s->doubt);
    l->inflight--;
    atomic_fetch_sub_explicit(&g->stats.inflight, 1, memory_order_relaxed);
    s->live = NULL;
    if (s->cap > KEEP_LINE) {
        mem_free(s->line);
        s->line = NULL;
        s->cap = 0;
    }
    list_add_head(&g->free_slots, &s->link);
}

void dispatch_free(struct engine *g)
{
    struct list *node;

    while ((node = list_pop(&g->free_slots))) {
        struct slot *s = list_entry(node, struct slot, link);

        http_call_done(&s->call);
        mem_free(s->line);
        mem_free(s);
    }
}

/* --- Out -----------------------------------------------------------------------------
 */

/* Exactly the line: they go out in the order of their prompts' beginnings, and reading
 * ahead saves less than half a microsecond a line also where that is the file's. */
static enum rc slot_read(struct slot *s, const struct index_entry *entry, struct err *e)
{
    s->n = entry->length;
    return live_read_line(s->live, entry, &s->line, &s->cap, e);
}

/* Puts `name`, a JSON string, in the place of the model that the line names; all other
 * bytes of it stay. */
static enum rc slot_rename(struct slot *s, struct str name, struct index_entry *entry,
                           struct err *e)
{
    struct line line;
    size_t at, behind, n;

    line_reread((struct str){s->line, s->n}, &line);
    if (!line.model.p)
        return RC_OK; /* a line may name none beside those that name the alias */
    at = (size_t)(line.model.p - s->line);
    behind = at + line.model.n;
    n = s->n - line.model.n + name.n;
    if (n > s->cap) {
        char *more = mem_resize(s->line, n);

        if (!more)
            return err_set(e, RC_NOMEM, "no memory for a line");
        s->line = more;
        s->cap = n;
    }
    memmove(s->line + at + name.n, s->line + behind, s->n - behind);
    memcpy(s->line + at, name.p, name.n);
    entry->body_len = (uint32_t)(entry->body_len - line.model.n + name.n);
    s->n = n;
    return RC_OK;
}

/* The scheduler's guess at how long it may take, within what the configuration allows. */
static usec_t total_timeout(const struct engine *g, const struct sched_ticket *t)
{
    usec_t most = g->o.total_timeout;

    return t->timeout && (!most || t->timeout < most) ? t->timeout : most;
}

static void send_line(struct engine *g, const struct sched_ticket *t)
{
    const struct queue *q = g->by_handle[t->batch];
    struct live *l = q->live;
    struct index_entry entry = index_get(l->index, t->item);
    struct slot *s = slot_take(g);
    struct http_call *c = &s->call;
    struct err e;
    enum rc rc;

    s->live = l;
    s->ticket = *t;
    list_add_tail(&l->calls, &s->link);
    l->inflight++;
    atomic_fetch_add_explicit(&g->stats.inflight, 1, memory_order_relaxed);
    rc = slot_read(s, &entry, &e);
    if (rc == RC_OK && q->stands_for)
        rc = slot_rename(s, str_of(q->stands_for), &entry, &e);
    if (rc != RC_OK) {
        if (rc == RC_CORRUPT)
            live_sicken(l, &e);
        else
            engine_die(g, "the input of a batch cannot be read", &e);
        sched_aborted(g->sched, t, t->sent);
        slot_give(g, s);
        return;
    }
    c->target = upstream_target(g->ups[t->upstream]);
    c->path = endpoint_path(l->rec.endpoint) + 3; /* the base URL ends with the /v1 */
    c->method = "POST";
    c->body = (struct str){s->line + entry.body_off, entry.body_len};
    c->connect_timeout = g->o.connect_timeout;
    c->idle_timeout = g->o.idle_timeout;
    c->total_timeout = total_timeout(g, t);
    c->max_body = g->o.max_answer;
    c->done = answered;
    c->more = reprieve;
    s->reprieved = false;
    IGNORE(str_fmt(c->request_id, sizeof c->request_id, "%s/%u/%u", l->id.z, entry.number,
                   t->attempt)); /* 63 + 10 + 5 + 2 fit in 96 */
    http_start(g->client, c);
}

void dispatch(struct engine *g, usec_t now)
{
    struct sched_ticket tickets[TICKETS];
    size_t n;
    uint16_t up;

    while (sched_probe(g->sched, &up, now))
        upstream_probe(g->ups[up]);
    scrape_due(g, now);
    do {
        n = sched_next(g->sched, tickets, TICKETS, now);
        for (size_t i = 0; i < n; i++)
            send_line(g, &tickets[i]);
    } while (n == TICKETS);
}

/* Gives it up: nothing is learnt from it.  Not for one whose answer is there and waits. */
static void close_call(struct slot *s, usec_t now)
{
    struct engine *g = s->live->engine;

    http_cancel(&s->call);
    atomic_fetch_add_explicit(&g->stats.closed, 1, memory_order_relaxed);
    sched_aborted(g->sched, &s->ticket, now);
    slot_give(g, s);
}

void dispatch_abort(struct live *l, usec_t now)
{
    list_each_safe (it, &l->calls) {
        struct slot *s = list_entry(it, struct slot, link);

        scrape_closed(l->engine, s->ticket.upstream, now);
        close_call(s, now);
    }
}

/* A call is with the server, and not only on its way, after: */
#define ARRIVED (USEC_PER_SEC / 2)

/* No part of a pair, nothing that must not be done twice, nothing that may be poison. */
static bool may_sacrifice(const struct slot *s, uint16_t up, usec_t young, usec_t now)
{
    const struct sched_ticket *t = &s->ticket;
    usec_t age = now - t->sent;

    return t->upstream == up && !t->alone && !t->hedge && t->attempt == 0 &&
           s->call._easy && age >= ARRIVED && age <= young;
}

/* With more to do than is under way: its end comes no later for it. */
static bool may_wait(const struct live *l)
{
    return l->phase == LIVE_RUN && !l->busy && !l->rec.paused && !l->once &&
           queues_waiting(l) > l->inflight;
}

unsigned dispatch_sacrifice(struct engine *g, uint16_t up, unsigned n, usec_t young,
                            usec_t now)
{
    enum { MOST = 8 };
    struct slot *found[MOST];
    const struct live *l;
    size_t cursor = 0;
    unsigned have = 0;

    CHECK(n <= MOST);
    while (have < n && (l = map_next(g->lives, &cursor))) {
        if (!may_wait(l))
            continue;
        list_each (it, &l->calls) {
            struct slot *s = list_entry(it, struct slot, link);

            if (have < n && may_sacrifice(s, up, young, now))
                found[have++] = s;
        }
    }
    if (have < n)
        return 0;
    for (unsigned i = 0; i < n; i++)
        close_call(found[i], now);
    return n;
}

static struct slot *slot_of(const struct engine *g, const struct sched_ticket *t)
{
    list_each (it, &g->by_handle[t->batch]->live->calls) {
        struct slot *s = list_entry(it, struct slot, link);

        if (s->ticket.call == t->call)
            return s;
    }
    return NULL;
}

/* Their twins have brought the results: what they would bring is not needed. */
static void close_losers(struct engine *g, usec_t now)
{
    struct sched_ticket t;

    while (sched_aborts(g->sched, &t, 1) == 1) {
        struct slot *s = slot_of(g, &t);

        CHECK(s);
        live_touch(s->live);
        scrape_closed(g, t.upstream, now);
        close_call(s, now);
    }
}

/* --- In ------------------------------------------------------------------------------
 */

/* Times that are moments are the server's: its clock may not be ours. */
static bool limits_of(const struct http_call *c, struct ratelimit *ret)
{
    usec_t wall = c->date ? c->date * USEC_PER_SEC : clock_wall();

    return c->quota_n && ratelimit_read((struct str){c->quota, c->quota_n}, wall, ret);
}

static struct outcome outcome_of_answered(const struct http_call *c)
{
    struct outcome o = outcome_of_answer(c->status, buf_peek(&c->answer));
    struct ratelimit r;

    if (limits_of(c, &r))
        o.cls = outcome_heed(o.cls, r.retry == RETRY_YES, r.retry == RETRY_NO);
    return o;
}

/* Late, but its server is at work: it may be at work on this.  It gets as long again, once,
 * and never longer than the configuration allows. */
static usec_t reprieve(struct http_call *c)
{
    struct slot *s = CONTAINER_OF(c, struct slot, call);
    struct engine *g = s->live->engine;
    usec_t now = loop_now(g->loop), age = now - s->ticket.sent;
    usec_t more = age, most = g->o.total_timeout;

    if (s->reprieved || !scrape_at_work(g, s->ticket.upstream, now))
        return 0;
    if (most && more > most - age)
        more = most > age ? most - age : 0;
    s->reprieved = true;
    if (more)
        atomic_fetch_add_explicit(&g->stats.reprieves, 1, memory_order_relaxed);
    return more;
}

static struct outcome outcome_of_call(const struct http_call *c)
{
    switch (c->fate) {
    case HTTP_ANSWERED:
        return outcome_of_answered(c);
    case HTTP_NO_CONNECT:
        return (struct outcome){.cls = OUTCOME_HOST};
    case HTTP_TIMEOUT:
        return (struct outcome){.cls = OUTCOME_STALLED};
    case HTTP_TOO_LARGE:
        return (struct outcome){.cls = OUTCOME_OVERSIZE};
    case HTTP_RESET:
    case HTTP_GARBLED:
    case HTTP_ABORTED:
        break;
    }
    return (struct outcome){.cls = OUTCOME_BROKEN};
}

/* The real API's request_id is the server's own; where an upstream gives none the line's
 * id does. */
static enum rc compose_answer(struct buf *b, const struct http_call *c, const char *hex,
                              struct str custom_id)
{
    return outcome_line(b, hex, custom_id, c->status,
                        c->answer_id[0] ? c->answer_id : hex, buf_peek(&c->answer));
}

static enum rc compose_failure(struct buf *b, const struct slot *s,
                               enum outcome_class cls, const char *hex,
                               struct str custom_id)
{
    const struct http_call *c = &s->call;
    const char *code = "upstream_error";
    char message[320];

    if (cls == OUTCOME_STALLED)
        code = "upstream_timeout";
    else if (cls == OUTCOME_OVERSIZE)
        code = "response_too_large";
    IGNORE(str_fmt(message, sizeof message,
                   "The upstream server gave no usable answer after %u attempts: %s.",
                   s->ticket.attempt + 1u,
                   c->fate == HTTP_ANSWERED ? "the answer's body is not a JSON object"
                                            : c->reason));
    return outcome_error_line(b, hex, custom_id, code, message);
}

static void write_result(struct engine *g, const struct slot *s, const struct outcome *o,
                         usec_t now)
{
    const struct http_call *c = &s->call;
    bool whole = c->fate == HTTP_ANSWERED && o->cls != OUTCOME_BROKEN;
    struct reslog_rec rec = {.item = s->ticket.item,
                             .kind =
                                 o->cls == OUTCOME_DONE ? RESULT_OUTPUT : RESULT_ERROR,
                             .attempt = (uint8_t)s->ticket.attempt,
                             .has_usage = o->has_usage,
                             .usage = o->usage};
    struct line line;
    char hex[33];
    enum rc rc;

    line_reread((struct str){s->line, s->n}, &line);
    id_request(&s->live->id, s->ticket.item, hex);
    buf_shrink(&g->line, 1u << 20);
    rc = whole ? compose_answer(&g->line, c, hex, line.custom_id)
               : compose_failure(&g->line, s, o->cls, hex, line.custom_id);
    if (rc != RC_OK &&
        rc != RC_NOMEM) { /* a body that is not JSON grows sixfold as a string */
        rec.kind = RESULT_ERROR;
        rec.has_usage = false;
        buf_reset(&g->line);
        rc = outcome_error_line(&g->line, hex, line.custom_id, "response_too_large",
                                "The upstream server's answer is too large to be kept.");
    }
    if (rc != RC_OK)
        PANIC("%s (the result of a line)", rc_text(rc));
    rec.payload = buf_peek(&g->line);
    journal_append(s->live, &rec, now);
    follow_answered(s->live, rec.item, rec.kind, rec.payload);
}

/* A batch that is closing keeps what was answered for good; what failed is accounted for
 * as cancelled or expired when the files are written.  While a job finds out whether the
 * batch expires it is not closing yet. */
static bool keeps(const struct slot *s, enum outcome_class cls)
{
    return s->live->phase == LIVE_RUN || cls == OUTCOME_DONE || cls == OUTCOME_REFUSED ||
           cls == OUTCOME_OVERSIZE || cls == OUTCOME_DENIED;
}

static void give_up(struct slot *s, usec_t now)
{
    struct live *l = s->live;

    sched_aborted(l->engine->sched, &s->ticket, now);
    slot_give(l->engine, s);
    live_touch(l);
}

/* Has it brought the whole batch, or all of one model, to a stop? */
static void note_denial(struct slot *s)
{
    struct live *l = s->live;
    struct engine *g = l->engine;
    struct denial *d = &l->denial;
    struct sched_batch_view v;

    d->status = s->call.status;
    d->up = s->ticket.upstream;
    outcome_message(buf_peek(&s->call.answer), d->text, sizeof d->text);
    sched_batch_view(g->sched, s->ticket.batch, &v);
    if (!v.stopped || l->stopped)
        return;
    l->stopped = true;
    log_warn("batch.stopped", "batch=%s upstream=\"%s\" status=%ld calls=%u", l->id.z,
             upstream_name(g->ups[d->up]), d->status, v.denied);
}

static uint32_t tokens(uint64_t n)
{
    return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
}

static void tell_limits(struct engine *g, const struct slot *s, usec_t now)
{
    struct ratelimit r;

    if (s->call.fate != HTTP_ANSWERED || !limits_of(&s->call, &r))
        return;
    if (r.evicted)
        atomic_fetch_add_explicit(&g->stats.evicted, 1, memory_order_relaxed);
    sched_limited(g->sched, s->ticket.upstream,
                  &(struct sched_limits){.requests = r.requests.limit,
                                         .requests_left = r.requests.left,
                                         .tokens = r.tokens.limit,
                                         .tokens_left = r.tokens.left,
                                         .requests_reset = r.requests.reset,
                                         .tokens_reset = r.tokens.reset},
                  now);
}

static enum sched_verdict tell_outcome(struct engine *g, const struct slot *s,
                                       const struct outcome *o, usec_t now)
{
    const struct http_call *c = &s->call;
    struct sched_outcome so = {
        .cls = o->cls,
        .retry_after = c->retry_after_ms >= 0 ? c->retry_after_ms * USEC_PER_MS : -1,
        .has_usage = o->has_usage,
        .prompt = tokens(o->usage.input),
        .cached = tokens(o->usage.cached),
        .output = tokens(o->usage.output)};

    atomic_fetch_add_explicit(&g->stats.calls[o->cls], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&g->stats.answer_bytes, c->answer.n, memory_order_relaxed);
    tell_limits(g, s, now);
    return sched_done(g->sched, &s->ticket, &so, now);
}

/* The first result for a line counts; what its twin brings later is dropped. */
static void settle(struct slot *s, const struct outcome *o, usec_t now)
{
    struct live *l = s->live;
    struct engine *g = l->engine;
    enum sched_verdict verdict = tell_outcome(g, s, o, now);

    if (o->cls == OUTCOME_DONE)
        scrape_took(g, s->ticket.upstream, now - s->ticket.sent);
    else if (o->cls == OUTCOME_STALLED)
        scrape_closed(g, s->ticket.upstream, now);
    if (verdict == SCHED_RETRY)
        atomic_fetch_add_explicit(&g->stats.retries, 1, memory_order_relaxed);
    else if (verdict == SCHED_DROP)
        atomic_fetch_add_explicit(&g->stats.dropped, 1, memory_order_relaxed);
    else if (keeps(s, o->cls))
        write_result(g, s, o, now);
    if (o->cls == OUTCOME_DENIED)
        note_denial(s);
    slot_give(g, s);
    live_touch(l);
    close_losers(g, now);
}

static void answered(struct http_call *c)
{
    struct slot *s = CONTAINER_OF(c, struct slot, call);
    struct engine *g = s->live->engine;
    usec_t now = loop_now(g->loop);
    struct outcome o;

    if (c->fate == HTTP_ABORTED) { /* the client is being freed: the process ends */
        give_up(s, now);
        return;
    }
    o = outcome_of_call(c);
    s->question = c->fate == HTTP_ANSWERED && c->status == 404
                      ? roster_doubts(g, s->ticket.upstream)
                      : 0;
    if (s->question)
        list_add_tail(&g->doubted, &s->doubt);
    else
        settle(s, &o, now);
}

/* One that waits for the answer to that question, or to one before; NULL: there is none.
 * Looked for anew each time: to settle one may end others. */
static struct slot *doubted(struct engine *g, uint16_t up, uint64_t question)
{
    list_each (it, &g->doubted) {
        struct slot *s = list_entry(it, struct slot, doubt);

        if (s->ticket.upstream == up && s->question <= question)
            return s;
    }
    return NULL;
}

void dispatch_settle(struct engine *g, uint16_t up, uint64_t question, bool away)
{
    usec_t now = loop_now(g->loop);
    struct slot *s;

    while ((s = doubted(g, up, question))) {
        const char *model = g->by_handle[s->ticket.batch]->model;
        struct outcome o = outcome_of_call(&s->call);

        CHECK(s->live); /* it is in flight until it is settled */
        list_del(&s->doubt);
        if (away || !catalog_serves(g->catalog, up, str_of(model)))
            give_up(s, now);
        else
            settle(s, &o, now);
    }
}
