/* SPDX-License-Identifier: Apache-2.0 */
#include "sched/sched_int.h"

/* A pause that rejects without Retry-After bring about, doubled each time in a row. */
#define REJECT_PAUSE (50 * USEC_PER_MS)

uint16_t sched_upstream_add(struct sched *s, const struct sched_upstream_opts *o)
{
    struct upstream *u = &s->ups[s->n_ups];

    CHECK(s->n_ups < LIMIT_UPSTREAMS && o->window > 0);
    u->o = *o;
    u->max_window = o->window;
    u->window = o->start ? o->start : SCHED_START;
    if (o->fixed || u->window > o->window)
        u->window = o->window;
    u->reserved = NO_RETRY;
    up_refresh(s, (uint16_t)s->n_ups);
    return (uint16_t)s->n_ups++;
}

void sched_upstream_view(const struct sched *s, uint16_t up, struct sched_up_view *ret)
{
    const struct upstream *u = &s->ups[up];

    CHECK(up < s->n_ups);
    *ret = (struct sched_up_view){
        .state = u->state,
        .inflight = u->inflight,
        .window = u->state == SCHED_UP_TRIAL ? 1 : (unsigned)u->window,
        .since = u->since,
        .reopen = u->reopen,
        .done = u->done,
        .failed = u->failed,
    };
}

static void up_enter(struct upstream *u, enum sched_up_state state, usec_t now)
{
    if (u->state != state)
        u->since = now;
    u->state = state;
}

static void up_pause(struct upstream *u, usec_t until, usec_t now)
{
    if (u->state == SCHED_UP_DEAD)
        return;
    if (u->state != SCHED_UP_CLOSED || until > u->reopen)
        u->reopen = until;
    up_enter(u, SCHED_UP_CLOSED, now);
}

void up_refresh(struct sched *s, uint16_t up)
{
    struct upstream *u = &s->ups[up];
    bool down = u->state == SCHED_UP_CLOSED || u->state == SCHED_UP_DEAD;
    unsigned window = u->state == SCHED_UP_TRIAL ? 1 : (unsigned)u->window;
    bool room;

    if (down && u->reserved != NO_RETRY)
        queue_unreserve(s, up);
    room = !down && !u->alone && u->reserved == NO_RETRY && u->inflight < window;
    set_put(&s->roomy, up, room);
    set_put(&s->closed, up, u->state == SCHED_UP_CLOSED);
    if (room && u->inflight == 0)
        s->unpark = true;
}

void up_reopen(struct sched *s, usec_t now)
{
    struct sched_set rest = s->closed;
    uint16_t up;

    while ((up = set_pop(&rest)) != NO_UPSTREAM) {
        if (now < s->ups[up].reopen)
            continue;
        up_enter(&s->ups[up], SCHED_UP_OPEN, now);
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

static void up_succeeded(struct upstream *u, usec_t sent, usec_t now)
{
    u->fail_row = u->reject_row = u->pauses = u->probes = 0;
    u->reject_ewma *= 1 - 1 / (u->window + 1);
    if (u->state == SCHED_UP_TRIAL)
        up_enter(u, SCHED_UP_OPEN, now);
    if (sent >= u->recover && u->window < u->max_window) {
        u->window += 1 / u->window;
        if (u->window > u->max_window)
            u->window = u->max_window;
    }
}

/* One cut per flight, by half the share that was rejected: a server that refuses
 * everything halves the window, one that refuses one call in a hundred hardly moves it.
 */
static void up_rejected(struct sched *s, struct upstream *u, usec_t sent,
                        usec_t retry_after, usec_t now)
{
    double weight = 1 / (u->window + 1);

    u->reject_row++;
    u->reject_ewma += (1 - u->reject_ewma) * weight;
    if (retry_after > 0) {
        up_pause(u,
                 now + (retry_after < s->o.retry_after_cap ? retry_after
                                                           : s->o.retry_after_cap),
                 now);
    } else if (u->reject_row >= 3 && u->reject_row >= (unsigned)u->window) {
        usec_t pause = sched_doubled(REJECT_PAUSE, u->pauses, s->o.probe_cap);

        u->pauses += u->pauses < 32;
        u->reject_row = 0;
        up_pause(u, now + pause / 2 + sched_jitter(s, pause), now);
    }
    if (sent < u->recover)
        return;
    u->recover = now;
    u->window *= 1 - (u->reject_ewma > weight ? u->reject_ewma : weight) / 2;
    if (u->window < 1)
        u->window = 1;
}

/* A host that cannot be reached is dead after three calls; one that answers badly when a
 * whole window of calls failed without a success between (Postfix: pseudo-cohorts). */
static void up_failed(struct sched *s, struct upstream *u, enum outcome_class cls,
                      usec_t now)
{
    unsigned cohort = (unsigned)u->window > 8 ? (unsigned)u->window : 8;

    u->fail_row++;
    if (u->state == SCHED_UP_DEAD)
        return;
    if (u->state != SCHED_UP_TRIAL && u->fail_row < (cls == OUTCOME_HOST ? 3 : cohort))
        return;
    if (u->state == SCHED_UP_TRIAL)
        u->probes += u->probes < 32;
    up_enter(u, SCHED_UP_DEAD, now);
    u->window = u->max_window / 4 > 1 ? u->max_window / 4 : 1; /* when it comes back */
    u->reopen = now + sched_doubled(s->o.probe_base, u->probes, s->o.probe_cap);
}

bool sched_probe(struct sched *s, uint16_t *ret_up, usec_t now)
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

void sched_probe_done(struct sched *s, uint16_t up, bool healthy, usec_t now)
{
    struct upstream *u = &s->ups[up];
    usec_t wait;

    CHECK(up < s->n_ups && u->probing);
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

bool outcome_final(enum outcome_class cls)
{
    return cls == OUTCOME_DONE || cls == OUTCOME_REFUSED || cls == OUTCOME_OVERSIZE ||
           cls == OUTCOME_DENIED;
}

void up_sent(struct sched *s, struct sched_ticket *t, double work, double cost,
             usec_t now)
{
    struct upstream *u = &s->ups[t->upstream];

    (void)cost;
    (void)now;
    u->inflight++;
    u->alone = t->alone;
    u->hedges += t->hedge;
    t->timeout = up_timeout(s, t->upstream, work);
    up_refresh(s, t->upstream);
}

void up_landed(struct sched *s, const struct sched_ticket *t)
{
    struct upstream *u = &s->ups[t->upstream];

    CHECK(u->inflight > 0);
    u->inflight--;
    if (t->alone) {
        u->alone = false;
        sched_set_del(&s->taken, t->upstream);
        s->unpark = true;
    }
}

bool up_learn(struct sched *s, const struct sched_ticket *t,
              const struct sched_outcome *o, double work, double cost, usec_t now)
{
    struct upstream *u = &s->ups[t->upstream];
    enum outcome_class cls = o->cls;
    usec_t retry_after = o->retry_after;
    bool in_order = u->state != SCHED_UP_DEAD;

    (void)work;
    (void)cost;
    if (outcome_final(cls)) { /* it answered: also a 400 shows a server in order */
        u->done++;
        up_succeeded(u, t->sent, now);
        return true;
    }
    u->failed++;
    if (cls == OUTCOME_CAPACITY) {
        up_rejected(s, u, t->sent, retry_after, now);
        return false;
    }
    up_failed(s, u, cls, now);
    if (retry_after > 0)
        up_pause(u,
                 now + (retry_after < s->o.retry_after_cap ? retry_after
                                                           : s->o.retry_after_cap),
                 now);
    return in_order && cls != OUTCOME_HOST;
}

/* --- What is known of its speed: nothing yet ----------------------------------------- */

double up_rate(const struct sched *s, uint16_t up)
{
    return s->ups[up].work_rate;
}

usec_t up_expect(const struct sched *s, uint16_t up, double work)
{
    double rate = up_rate(s, up);

    return rate > 0 ? (usec_t)(work / rate * (double)USEC_PER_SEC) : 0;
}

usec_t up_timeout(const struct sched *s, uint16_t up, double work)
{
    (void)s;
    (void)up;
    (void)work;
    return 0;
}

bool up_slow(const struct sched *s, uint16_t up)
{
    (void)s;
    (void)up;
    return false;
}

bool up_idle_room(const struct sched *s, uint16_t up)
{
    return sched_set_has(&s->roomy, up);
}

usec_t up_wake(const struct sched *s, const struct sched_set *wanted, usec_t now)
{
    struct sched_set closed = set_both(wanted, &s->closed);
    usec_t at = USEC_INFINITY;
    uint16_t up;

    (void)now;
    while ((up = set_pop(&closed)) != NO_UPSTREAM)
        if (s->ups[up].reopen < at)
            at = s->ups[up].reopen;
    for (unsigned i = 0; i < s->n_ups; i++) {
        const struct upstream *u = &s->ups[i];

        if (u->state == SCHED_UP_DEAD && !u->probing && u->reopen < at)
            at = u->reopen;
    }
    return at;
}
