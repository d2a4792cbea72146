/* SPDX-License-Identifier: Apache-2.0 */
/* The states of upstreams, and who has room. */
#include "sched/sched_int.h"

#include <math.h>

/* A pause that rejects without Retry-After bring about, doubled each time in a row. */
#define REJECT_PAUSE (50 * USEC_PER_MS)

/* After a pause that a reject asked for, a ceiling is not tried for so many times it. */
#define HOLD_TIMES 30

/* Failures without a success between that make an upstream dead: of hosts; of what answers
 * badly, a window of calls within these. */
#define DEAD_HOSTS 3
#define DEAD_LEAST 8
#define DEAD_MOST  64

/* Calls for lines that failed before: this share of the successes of a minute and some
 * more, or so many at a time. */
#define BUDGET_SHARE 0.2
#define BUDGET_MORE  3
#define BUDGET_FADE  (60.0 * USEC_PER_SEC)

#define END_FADE (5.0 * USEC_PER_SEC)

uint16_t sched_upstream_add(struct sched *s, const struct sched_upstream_opts *o)
{
    struct upstream *u = &s->ups[s->n_ups];

    CHECK(s->n_ups < LIMIT_UPSTREAMS && o->window > 0);
    u->o = *o;
    u->reserved = NO_RETRY;
    window_init(u);
    bucket_init(u);
    up_refresh(s, (uint16_t)s->n_ups);
    if (UNLIKELY(s->trace.fn))
        trace_upstream(&s->trace, o, (uint16_t)s->n_ups);
    return (uint16_t)s->n_ups++;
}

void sched_upstream_aborts(struct sched *s, uint16_t up, bool aborts)
{
    CHECK(up < s->n_ups);
    s->ups[up].o.aborts = aborts;
    TRACE(s, ABORTS, up, aborts);
}

void sched_upstream_view(const struct sched *s, uint16_t up, struct sched_up_view *ret)
{
    const struct upstream *u = &s->ups[up];

    CHECK(up < s->n_ups);
    *ret = (struct sched_up_view){
        .state = u->state,
        .inflight = u->inflight,
        .window = window_now(u),
        .by = u->by,
        .since = u->since,
        .reopen = u->reopen,
        .done = u->done,
        .failed = u->failed,
        .hedges = u->hedges,
        .rate = u->rate,
        .hit_rate = u->queries > 0 ? u->hits / u->queries : -1,
        .slow = u->slow,
    };
}

static void up_enter(struct upstream *u, enum sched_up_state state, usec_t now)
{
    if (u->state != state)
        u->since = now;
    u->state = state;
}

static void up_pause(struct sched *s, struct upstream *u, usec_t pause, usec_t now)
{
    usec_t until = now + (pause < s->o.retry_after_cap ? pause : s->o.retry_after_cap);

    if (u->state == SCHED_UP_DEAD)
        return;
    if (u->state != SCHED_UP_CLOSED || until > u->reopen)
        u->reopen = until;
    up_enter(u, SCHED_UP_CLOSED, now);
}

/* --- Room ---------------------------------------------------------------------------- */

void up_refresh(struct sched *s, uint16_t up)
{
    struct upstream *u = &s->ups[up];
    bool down = u->state == SCHED_UP_CLOSED || u->state == SCHED_UP_DEAD;
    bool room, dry;

    if (down && u->reserved != NO_RETRY)
        queue_unreserve(s, up);
    u->filled = u->filled || u->inflight >= window_now(u);
    room = !down && !u->alone && u->reserved == NO_RETRY && u->inflight < window_now(u);
    dry = room && !bucket_room(u);
    set_put(&s->roomy, up, room && !dry);
    set_put(&s->dry, up, dry);
    set_put(&s->closed, up, u->state == SCHED_UP_CLOSED);
    if (room && u->inflight == 0)
        s->unpark = true;
}

void up_reopen(struct sched *s, usec_t now)
{
    struct sched_set rest = s->closed;
    uint16_t up;

    s->now = now;
    speed_judge(s, now);
    while ((up = set_pop(&rest)) != NO_UPSTREAM) {
        if (now < s->ups[up].reopen)
            continue;
        up_enter(&s->ups[up], SCHED_UP_OPEN, now);
        bucket_fill(&s->ups[up], now);
        up_refresh(s, up);
    }
    rest = s->dry;
    while ((up = set_pop(&rest)) != NO_UPSTREAM) {
        s->ups[up].dried = now > 0 ? now : 1;
        bucket_fill(&s->ups[up], now);
        up_refresh(s, up);
    }
}

uint16_t up_pick(const struct sched *s, const struct sched_set *set, uint16_t avoid,
                 bool idle)
{
    uint16_t best = NO_UPSTREAM;
    double best_share = 2;

    for (unsigned i = 0; i < SET_WORDS; i++) {
        for (uint64_t w = set->w[i] & s->roomy.w[i]; w; w &= w - 1) {
            uint16_t up = (uint16_t)(i * 64 + (unsigned)__builtin_ctzll(w));
            const struct upstream *u = &s->ups[up];
            double share = u->inflight / u->window + (up == avoid ? 1 : 0);

            if (share >= best_share || (idle && u->inflight))
                continue;
            best_share = share;
            best = up;
        }
    }
    return best;
}

/* Opens again; DEAD: is to be probed. */
static usec_t opens(const struct upstream *u)
{
    if (u->state == SCHED_UP_DEAD && u->probing)
        return USEC_INFINITY;
    return u->reopen;
}

usec_t up_wake(const struct sched *s, const struct sched_set *wanted, usec_t now)
{
    struct sched_set closed = set_both(wanted, &s->closed);
    struct sched_set dry = set_both(wanted, &s->dry);
    usec_t at = sample_wake(s), idle = idle_wake(s, now);
    uint16_t up;

    at = idle < at ? idle : at;
    while ((up = set_pop(&closed)) != NO_UPSTREAM)
        if (opens(&s->ups[up]) < at)
            at = opens(&s->ups[up]);
    while ((up = set_pop(&dry)) != NO_UPSTREAM) {
        const struct upstream *u = &s->ups[up];
        usec_t from = u->requests.limit > 0 ? u->requests.at : u->tokens.at;
        usec_t full = from + bucket_wait(u);

        if (full < at)
            at = full > now ? full : now + 1;
    }
    for (unsigned i = 0; i < s->n_ups; i++)
        if (s->ups[i].state == SCHED_UP_DEAD && opens(&s->ups[i]) < at)
            at = opens(&s->ups[i]);
    return at;
}

/* --- Out ----------------------------------------------------------------------------- */

static void budget_fade(struct upstream *u, usec_t now)
{
    double keep = exp(-(double)(now - u->budget_at) / BUDGET_FADE);

    u->budget_at = now;
    if (keep < 1) {
        u->retries *= keep;
        u->successes *= keep;
    }
}

bool up_may_retry(const struct sched *s, uint16_t up)
{
    const struct upstream *u = &s->ups[up];

    return u->retrying < BUDGET_MORE ||
           u->retries < BUDGET_SHARE * u->successes + BUDGET_MORE;
}

void up_sent(struct sched *s, struct sched_ticket *t, double most, double cost,
             usec_t now)
{
    struct upstream *u = &s->ups[t->upstream];

    u->inflight++;
    u->alone = t->alone;
    u->hedges += t->hedge;
    if (t->attempt > 0) {
        budget_fade(u, now);
        u->retries++;
        u->retrying++;
    }
    bucket_take(u, cost, now);
    if (s->batches[t->batch]->idle)
        idle_sent(u, now);
    t->timeout = up_timeout(s, t->upstream, most);
    sample_busy(s, u, now);
    speed_sent(u, now);
    up_refresh(s, t->upstream);
}

/* --- Back ---------------------------------------------------------------------------- */

void up_landed(struct sched *s, const struct sched_ticket *t)
{
    struct upstream *u = &s->ups[t->upstream];

    CHECK(u->inflight > 0);
    u->inflight--;
    u->retrying -= t->attempt > 0;
    if (t->alone) {
        u->alone = false;
        sched_set_del(&s->taken, t->upstream);
        s->unpark = true;
    }
}

static void succeeded(struct upstream *u, const struct sched_ticket *t,
                      const struct sched_outcome *o, double work, double cost, usec_t now)
{
    u->done++;
    u->end_rate *= exp(-(double)(now > u->ended ? now - u->ended : 0) / END_FADE);
    u->end_rate += USEC_PER_SEC / END_FADE;
    u->ended = now;
    u->fail_row = u->pauses = u->probes = 0;
    budget_fade(u, now);
    u->successes++;
    if (u->state == SCHED_UP_TRIAL)
        up_enter(u, SCHED_UP_OPEN, now);
    if (o->has_usage) {
        double used = o->prompt + (double)o->output;

        bucket_refund(u, cost - used, now);
        used -= o->cached < o->prompt ? o->cached : o->prompt;
        u->tokens_mean += (used - u->tokens_mean) / (u->done < 64 ? (double)u->done : 64);
        if (u->sampled == 0 || u->sample.prefix_queries < 0) {
            u->queries += o->prompt - u->queries / 256;
            u->hits += o->cached - u->hits / 256;
        }
    }
    if (o->cls == OUTCOME_DONE)
        speed_done(u, now - t->sent, work, now);
    window_succeeded(u, t, work, now);
}

static void rejected(struct sched *s, struct upstream *u, const struct sched_ticket *t,
                     usec_t retry_after, usec_t now)
{
    bool by_quota = bucket_rejected(u, now);
    bool only = !by_quota && window_rejected(u, t, now);

    if (retry_after > 0) {
        up_pause(s, u, retry_after, now);
        u->hold = u->reopen + HOLD_TIMES * (u->reopen - now);
    } else if (only) {
        usec_t pause = sched_doubled(REJECT_PAUSE, u->pauses, s->o.probe_cap);

        u->pauses += u->pauses < 32;
        u->reject_row = 0;
        up_pause(s, u, pause / 2 + sched_jitter(s, pause), now);
    }
}

/* A host that cannot be reached is dead after three calls; one that answers badly when a
 * whole window of calls failed without a success between (Postfix: pseudo-cohorts). */
static void failed(struct sched *s, struct upstream *u, enum outcome_class cls,
                   usec_t now)
{
    unsigned cohort = (unsigned)u->window;

    if (cohort < DEAD_LEAST)
        cohort = DEAD_LEAST;
    if (cohort > DEAD_MOST)
        cohort = DEAD_MOST;
    if (cls == OUTCOME_HOST)
        cohort = DEAD_HOSTS;
    u->fail_row++;
    if (u->state == SCHED_UP_DEAD)
        return;
    if (u->state != SCHED_UP_TRIAL && u->fail_row < cohort)
        return;
    if (u->state == SCHED_UP_TRIAL)
        u->probes += u->probes < 32;
    speed_idle(u);
    up_enter(u, SCHED_UP_DEAD, now);
    window_died(u);
    u->reopen = now + sched_doubled(s->o.probe_base, u->probes, s->o.probe_cap);
}

bool outcome_final(enum outcome_class cls)
{
    return cls == OUTCOME_DONE || cls == OUTCOME_REFUSED || cls == OUTCOME_OVERSIZE ||
           cls == OUTCOME_DENIED;
}

bool up_learn(struct sched *s, const struct sched_ticket *t,
              const struct sched_outcome *o, double work, double cost, usec_t now)
{
    struct upstream *u = &s->ups[t->upstream];
    bool in_order = u->state != SCHED_UP_DEAD;

    bucket_fill(u, now);
    if (outcome_final(o->cls)) { /* it answered: also a 400 shows a server in order */
        succeeded(u, t, o, work, cost, now);
        return true;
    }
    u->failed++;
    if (o->cls == OUTCOME_CAPACITY) {
        rejected(s, u, t, o->retry_after, now);
        return false;
    }
    failed(s, u, o->cls, now);
    if (o->retry_after > 0)
        up_pause(s, u, o->retry_after, now);
    return in_order && o->cls != OUTCOME_HOST;
}

/* --- Probes -------------------------------------------------------------------------- */

static bool next_probe(struct sched *s, uint16_t *ret_up, usec_t now)
{
    for (uint16_t i = 0; i < s->n_ups; i++) {
        struct upstream *u = &s->ups[i];

        if (u->state != SCHED_UP_DEAD || u->probing || now < u->reopen)
            continue;
        u->probing = true;
        *ret_up = i;
        return true;
    }
    return false;
}

bool sched_probe(struct sched *s, uint16_t *ret_up, usec_t now)
{
    bool got = next_probe(s, ret_up, now);

    TRACE(s, PROBE, now, got, got ? *ret_up : 0);
    return got;
}

void sched_probe_done(struct sched *s, uint16_t up, bool healthy, usec_t now)
{
    struct upstream *u = &s->ups[up];
    usec_t wait;

    CHECK(up < s->n_ups && u->probing);
    TRACE(s, PROBED, now, up, healthy);
    u->probing = false;
    if (u->state != SCHED_UP_DEAD)
        return;
    if (healthy) {
        u->fail_row = 0;
        up_enter(u, SCHED_UP_TRIAL, now);
        up_refresh(s, up);
        return;
    }
    u->probes += u->probes < 32;
    wait = sched_doubled(s->o.probe_base, u->probes, s->o.probe_cap);
    u->reopen = now + wait * 3 / 4 + sched_jitter(s, wait / 2);
}
