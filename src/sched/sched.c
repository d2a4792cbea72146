/* SPDX-License-Identifier: Apache-2.0 */
#include "sched/sched.h"
#include "base/mem.h"
#include "sched/sched_int.h"

#include <string.h>

static uint64_t or_default(uint64_t v, uint64_t fallback)
{
    return v ? v : fallback;
}

struct sched *sched_new(const struct sched_opts *o)
{
    struct sched *s = mem_new(struct sched);

    s->o = *o;
    s->o.max_attempts = (unsigned)or_default(o->max_attempts, 5);
    s->o.backoff_base = (usec_t)or_default((uint64_t)o->backoff_base, USEC_PER_SEC);
    s->o.backoff_cap = (usec_t)or_default((uint64_t)o->backoff_cap, 60 * USEC_PER_SEC);
    s->o.probe_base = (usec_t)or_default((uint64_t)o->probe_base, USEC_PER_SEC);
    s->o.probe_cap = (usec_t)or_default((uint64_t)o->probe_cap, 30 * USEC_PER_SEC);
    s->o.retry_after_cap =
        (usec_t)or_default((uint64_t)o->retry_after_cap, 600 * USEC_PER_SEC);
    s->rng = o->seed * 0x9e3779b97f4a7c15u + 1;
    s->free_retry = NO_RETRY;
    s->free_call = s->lost = NO_CALL;
    list_init(&s->parked);
    sched_group_add(s, 0, 1);
    return s;
}

struct sched *sched_free(struct sched *s)
{
    if (!s)
        return NULL;
    for (uint32_t i = 0; i < s->n_batches; i++) {
        place_free(s->batches[i]);
        mem_free(s->batches[i]);
    }
    for (unsigned i = 0; i < s->n_lanes; i++)
        mem_free(s->lanes[i]);
    mem_free(s->batches);
    mem_free(s->lanes);
    mem_free(s->groups);
    mem_free(s->retries);
    mem_free(s->heap);
    mem_free(s->calls);
    mem_free(s->cuts);
    mem_free(s);
    return NULL;
}

/* xorshift64* (Vigna 2016); the seed is part of the options, so a run replays. */
static uint64_t random_u64(struct sched *s)
{
    s->rng ^= s->rng >> 12;
    s->rng ^= s->rng << 25;
    s->rng ^= s->rng >> 27;
    return s->rng * 0x2545f4914f6cdd1du;
}

usec_t sched_jitter(struct sched *s, usec_t below)
{
    return below > 0 ? (usec_t)(random_u64(s) % (uint64_t)below) : 0;
}

usec_t sched_doubled(usec_t base, unsigned times, usec_t cap)
{
    while (times-- && base < cap)
        base *= 2;
    return base < cap ? base : cap;
}

void sched_pause(struct sched *s, bool paused)
{
    TRACE(s, PAUSE, paused);
    s->paused = paused;
    for (unsigned i = 0; i < s->n_ups; i++)
        speed_idle(&s->ups[i]);
}

/* --- Out ----------------------------------------------------------------------------- */

/* A line on its way to an upstream. */
struct line_out {
    uint32_t batch, pos;
    uint16_t attempts;
    bool alone;
    uint32_t twin; /* the call that it hedges; NO_CALL: none */
};

static void go(struct sched *s, const struct line_out *l, uint16_t up, usec_t now,
               struct sched_ticket *out)
{
    struct batch_queue *q = s->batches[l->batch];
    const struct sched_item *item = &q->items[l->pos];
    uint32_t i = call_new(s);
    struct call *c = &s->calls[i];

    q->inflight++;
    c->pos = l->pos;
    c->work = length_work(s, q, item);
    c->cost =
        item->prompt + (item->max_out ? item->max_out : length_out(s, q, item->max_out));
    c->t = (struct sched_ticket){.batch = l->batch,
                                 .item = item->item,
                                 .call = i,
                                 .upstream = up,
                                 .attempt = l->attempts,
                                 .sent = now,
                                 .alone = l->alone,
                                 .hedge = l->twin != NO_CALL};
    if (l->twin != NO_CALL) {
        c->twin = l->twin;
        s->calls[l->twin].twin = i;
        q->hedged++;
    }
    up_sent(s, &c->t,
            item->max_out ? work_of(item->prompt, item->prompt, item->max_out) : 0,
            c->cost, now);
    turn_charge(s, q, c->work);
    q->mean_work += (c->work - q->mean_work) / (q->mean_work > 0 ? 64 : 1);
    *out = c->t;
}

/* A line that must run alone and whose upstream is idle by now. */
static bool reserved_next(struct sched *s, usec_t now, struct sched_ticket *out)
{
    struct sched_set rest = s->taken;
    uint16_t up;

    while (s->n_reserved && (up = set_pop(&rest)) != NO_UPSTREAM) {
        struct upstream *u = &s->ups[up];
        uint32_t retry = u->reserved;
        struct retry r;

        if (retry == NO_RETRY || u->inflight)
            continue;
        u->reserved = NO_RETRY;
        s->n_reserved--;
        r = s->retries[retry];
        retry_free(s, retry);
        s->batches[r.batch]->n_retries--;
        go(s,
           &(struct line_out){.batch = r.batch,
                              .pos = r.pos,
                              .attempts = r.attempts,
                              .alone = true,
                              .twin = NO_CALL},
           up, now, out);
        return true;
    }
    return false;
}

/* Finds an upstream for the first of the batch's lines that must run alone: an idle one, or
 * one to be drained when no other of its set is. */
static bool reserve(struct sched *s, struct batch_queue *q)
{
    const struct lane *l = q->lane;
    uint16_t avoid = s->retries[q->alone.head].avoid;
    uint16_t up = up_pick(s, &l->set, avoid, true);

    if (up == NO_UPSTREAM && !set_meets(&l->set, &s->taken))
        up = up_pick(s, &l->set, avoid, false);
    if (up == NO_UPSTREAM)
        return false;
    s->ups[up].reserved = retries_pop(s, &q->alone);
    s->n_reserved++;
    s->groups[l->group].inflight++;
    sched_set_add(&s->taken, up);
    up_refresh(s, up);
    return true;
}

struct next {
    usec_t now;
    struct sched_ticket *out;
    bool got; /* *out is set; else what can be had is another than before */
};

/* May a line that failed at `up` wait for another upstream, that has room now? */
static bool has_choice(const struct sched *s, const struct batch_queue *q, uint16_t up)
{
    struct sched_set others = set_both(&q->lane->set, &s->roomy);

    sched_set_del(&others, up);
    return set_meets(&others, &others);
}

static bool take_line(struct sched *s, struct batch_queue *q, uint16_t up,
                      struct line_out *l)
{
    uint32_t retry = retries_pop_for(s, &q->ready, up, has_choice(s, q, up));

    *l = (struct line_out){.batch = q->handle, .twin = NO_CALL};
    if (retry != NO_RETRY && s->retries[retry].attempts > 0 && !up_may_retry(s, up)) {
        retries_push_front(s, &q->ready, retry);
        retry = NO_RETRY;
    }
    if (retry == NO_RETRY) {
        l->pos = place_take(s, q, up);
        return l->pos != NO_POS;
    }
    l->pos = s->retries[retry].pos;
    l->attempts = s->retries[retry].attempts;
    l->alone = s->retries[retry].alone;
    retry_free(s, retry);
    q->n_retries--;
    return true;
}

/* A turn_fn: one line of the batch for the upstream. */
static bool take_turn(struct sched *s, struct batch_queue *q, uint16_t up, void *ctx)
{
    struct next *x = ctx;
    struct line_out l;

    if (q->alone.head != NO_RETRY && reserve(s, q)) {
        turn_join(s, q);
        x->got = reserved_next(s, x->now, x->out);
        return true;
    }
    if (q->ready.head == NO_RETRY && place_ready(q) == 0) {
        turn_park(s, q);
        return false;
    }
    if (!q->trusted && q->inflight + q->denied >= SCOUTS_MAX)
        return false;
    if (!take_line(s, q, up, &l))
        return false;
    s->groups[q->lane->group].inflight++;
    go(s, &l, up, x->now, x->out);
    turn_join(s, q); /* it may have been its last */
    x->got = true;
    return true;
}

static bool hedge(struct sched *s, uint16_t up, usec_t now, struct sched_ticket *out)
{
    uint32_t late = call_late(s, up, now);
    const struct call *c = &s->calls[late == NO_CALL ? 0 : late];

    if (late == NO_CALL)
        return false;
    s->groups[s->batches[c->t.batch]->lane->group].inflight++;
    go(s,
       &(struct line_out){
           .batch = c->t.batch, .pos = c->pos, .attempts = c->t.attempt, .twin = late},
       up, now, out);
    return true;
}

static size_t next_tickets(struct sched *s, struct sched_ticket *out, size_t max,
                           usec_t now)
{
    struct sched_set open;
    size_t n = 0;

    retry_collect(s, now);
    up_reopen(s, now);
    if (s->paused)
        return 0;
    promise_judge(s, now);
    memset(&open, 0xff, sizeof open);
    while (n < max) {
        struct next x = {.now = now, .out = &out[n]};
        uint16_t up;

        if (s->unpark)
            turn_unpark(s);
        if (s->n_reserved && reserved_next(s, now, &out[n])) {
            n++;
            continue;
        }
        up = up_pick(s, &open, NO_UPSTREAM, false);
        if (up == NO_UPSTREAM)
            break;
        if (turn_each(s, up, take_turn, &x)) {
            n += x.got;
        } else if (hedge(s, up, now, &out[n])) {
            n++;
        } else {
            speed_idle(&s->ups[up]);
            sched_set_del(&open, up);
        }
    }
    return n;
}

size_t sched_next(struct sched *s, struct sched_ticket *out, size_t max, usec_t now)
{
    size_t n = next_tickets(s, out, max, now);

    if (UNLIKELY(s->trace.fn))
        trace_tickets(&s->trace, TRACE_NEXT, max, now, out, n);
    return n;
}

/* --- Back ---------------------------------------------------------------------------- */

static void landed(struct sched *s, struct batch_queue *q, const struct sched_ticket *t)
{
    CHECK(q->inflight > 0);
    q->inflight--;
    s->groups[q->lane->group].inflight--;
    up_landed(s, t);
}

/* The call is over; *ret is what it was. */
static void call_over(struct sched *s, const struct sched_ticket *t, struct call *ret)
{
    uint32_t *at = &s->lost;

    *ret = *call_of(s, t);
    CHECK(ret->t.batch == t->batch && ret->t.upstream == t->upstream);
    while (ret->lost && *at != NO_CALL && *at != t->call)
        at = &s->calls[*at].next;
    if (ret->lost && *at == t->call)
        *at = ret->next;
    call_free(s, t->call);
}

/* The result is there: the second call for its line is not needed any more. */
static void lose(struct sched *s, uint32_t twin)
{
    struct call *c = &s->calls[twin];

    c->lost = true;
    c->twin = NO_CALL;
    c->next = s->lost;
    s->lost = twin;
}

/* What says that the upstream would answer another as well, or that it would not. */
static void trust(struct sched *s, struct batch_queue *q, uint16_t up,
                  enum outcome_class cls)
{
    if (cls == OUTCOME_DONE || cls == OUTCOME_REFUSED || cls == OUTCOME_OVERSIZE) {
        q->trusted = true;
        q->denied = 0;
        sched_set_add(&q->good, up);
    } else if (cls == OUTCOME_DENIED) {
        q->denied++;
        if (q->denied >= SCOUTS_ROW)
            q->trusted = false;
        if (q->denied >= SCOUTS_MAX) {
            q->stopped = true;
            turn_leave(s, q);
        }
    }
}

/* It was refused for what is the upstream's fault: others answer well. */
static bool is_elsewhere(const struct batch_queue *q, uint16_t up, enum outcome_class cls)
{
    struct sched_set others = set_both(&q->good, &q->lane->set);

    return cls == OUTCOME_DENIED && !sched_set_has(&others, up) &&
           set_meets(&others, &others);
}

static double work_done(const struct call *c, const struct sched_outcome *o)
{
    if (!o->has_usage)
        return c->work;
    return work_of(o->prompt - (o->cached < o->prompt ? o->cached : o->prompt), o->prompt,
                   o->output);
}

static void wait_again(struct sched *s, struct batch_queue *q, const struct retry *r,
                       usec_t until)
{
    retry_wait(s, r, until);
    q->n_retries++;
}

/*
 * A request that kills its server takes those beside it along, and in the end only they are
 * left, and fail together.  So the last try of a line whose calls broke is made alone, on an
 * upstream that is idle or drained for it.  What fails alone is poison; what was beside it is
 * answered.
 */
static bool last_is_alone(const struct sched *s, const struct sched_ticket *t,
                          enum outcome_class cls, unsigned attempts)
{
    return attempts + 1 == s->o.max_attempts && (cls == OUTCOME_BROKEN || t->alone);
}

/* When the line may be tried again. */
static usec_t backoff(struct sched *s, const struct sched_outcome *o, unsigned attempts)
{
    if (o->cls == OUTCOME_CAPACITY)
        return o->retry_after > 0 ? 0 : sched_jitter(s, s->o.backoff_base / 4);
    if (attempts == 0 || o->cls == OUTCOME_DENIED)
        return 0;
    return sched_jitter(s,
                        sched_doubled(s->o.backoff_base, attempts - 1, s->o.backoff_cap));
}

/* The line is not in flight any more: is this its end? */
static enum sched_verdict line_back(struct sched *s, struct batch_queue *q,
                                    const struct call *c, const struct sched_outcome *o,
                                    bool counts, usec_t now)
{
    unsigned attempts = c->t.attempt + counts;
    usec_t wait;

    if (q->closed || attempts >= s->o.max_attempts)
        return SCHED_FINAL;
    wait = counts || o->cls == OUTCOME_CAPACITY ? backoff(s, o, attempts) : 0;
    wait_again(s, q,
               &(struct retry){.batch = q->handle,
                               .pos = c->pos,
                               .attempts = (uint16_t)attempts,
                               .avoid = c->t.upstream,
                               .alone = last_is_alone(s, &c->t, o->cls, attempts)},
               now + wait);
    return SCHED_RETRY;
}

static enum sched_verdict call_done(struct sched *s, const struct sched_ticket *t,
                                    const struct sched_outcome *o, usec_t now)
{
    struct batch_queue *q = queue_of(s, t->batch);
    bool elsewhere = is_elsewhere(q, t->upstream, o->cls), counts;
    bool final = outcome_final(o->cls) && !elsewhere;
    struct call c;
    double work;

    call_over(s, t, &c);
    landed(s, q, t);
    work = work_done(&c, o);
    counts = up_learn(s, t, o, work, c.cost, now) || elsewhere;
    up_refresh(s, t->upstream);
    turn_charge(s, q, work - c.work); /* what was charged was an estimate */
    length_seen(s, q, &q->items[c.pos], o);
    if (o->cls == OUTCOME_DONE && o->has_usage)
        length_bias(s, q, c.work, work);
    if (c.lost)
        return SCHED_DROP;
    if (!elsewhere)
        trust(s, q, t->upstream, o->cls);
    if (final) {
        if (c.twin != NO_CALL)
            lose(s, c.twin);
        return SCHED_FINAL;
    }
    if (c.twin != NO_CALL) {
        s->calls[c.twin].twin = NO_CALL;
        return SCHED_DROP;
    }
    return line_back(s, q, &c, o, counts, now);
}

enum sched_verdict sched_done(struct sched *s, const struct sched_ticket *t,
                              const struct sched_outcome *o, usec_t now)
{
    uint32_t call = t->call;
    enum sched_verdict v = call_done(s, t, o, now);

    TRACE(s, DONE, now, call, o->cls, o->retry_after, o->has_usage, o->prompt, o->cached,
          o->output, v);
    return v;
}

size_t sched_aborts(struct sched *s, struct sched_ticket *out, size_t max)
{
    size_t n = 0;

    while (n < max && s->lost != NO_CALL) {
        struct call *c = &s->calls[s->lost];

        out[n++] = c->t;
        s->lost = c->next;
        c->next = NO_CALL;
    }
    if (UNLIKELY(s->trace.fn))
        trace_tickets(&s->trace, TRACE_LOSERS, max, 0, out, n);
    return n;
}

void sched_aborted(struct sched *s, const struct sched_ticket *t, usec_t now)
{
    struct batch_queue *q = queue_of(s, t->batch);
    struct call c;

    TRACE(s, ABORTED, now, t->call);
    call_over(s, t, &c);
    landed(s, q, t);
    up_refresh(s, t->upstream);
    turn_charge(s, q, -c.work);
    if (c.twin != NO_CALL)
        s->calls[c.twin].twin = NO_CALL;
    if (q->closed || c.lost || c.twin != NO_CALL)
        return;
    wait_again(s, q,
               &(struct retry){.batch = t->batch,
                               .pos = c.pos,
                               .attempts = t->attempt,
                               .avoid = NO_UPSTREAM,
                               .alone = t->alone},
               now);
}

/* --- Time ----------------------------------------------------------------------------
 */

static void set_join(struct sched_set *set, const struct sched_set *more)
{
    for (unsigned i = 0; i < SET_WORDS; i++)
        set->w[i] |= more->w[i];
}

/* The upstreams that some line could go to if they had room. */
static struct sched_set wanted(const struct sched *s)
{
    struct sched_set set = {{0}};

    for (unsigned i = 0; i < s->n_lanes; i++)
        if (s->lanes[i]->levels && !group_full(s, s->lanes[i]->group))
            set_join(&set, &s->lanes[i]->set);
    list_each (it, &s->parked) {
        const struct batch_queue *q = list_entry(it, struct batch_queue, ring);

        if (!group_full(s, q->lane->group))
            set_join(&set, &q->lane->set);
    }
    return set;
}

usec_t sched_next_wake(const struct sched *s, usec_t now)
{
    struct sched_set want = {{0}};
    usec_t at;

    if (!s->paused && (set_meets(&s->closed, &s->closed) || set_meets(&s->dry, &s->dry)))
        want = wanted(s);
    at = up_wake(s, &want, now);
    if (s->n_heap && s->heap[0].at < at)
        at = s->heap[0].at;
    if (!s->paused && call_wake(s) < at)
        at = call_wake(s);
    if (!s->paused && promise_wake(s) < at)
        at = promise_wake(s);
    return at > now ? at : now;
}
