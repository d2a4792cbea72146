/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls in flight.  Where an upstream has room and nothing more to send while another is
 * late with a line, it gets that line, too, and the first answer counts (Dean and Barroso,
 * "The Tail at Scale", 2013): within a budget, and only where closing the call that lost
 * stops its work.
 */
#include "base/mem.h"
#include "sched/sched_int.h"

/* Second calls, as a share of a batch's lines; and so many for a small one. */
#define HEDGE_SHARE 0.02
#define HEDGE_MIN   2

/* The other must be so much later than the second call would be. */
#define HEDGE_GAIN 1.5

/* How often the calls in flight are looked through. */
#define HEDGE_EVERY (50 * USEC_PER_MS)

uint32_t call_new(struct sched *s)
{
    uint32_t i = s->free_call;

    if (i == NO_CALL) {
        uint32_t n = s->n_calls ? s->n_calls * 2 : 64;

        s->calls = mem_resize(s->calls, n * sizeof *s->calls);
        MEM_CHECK(s->calls);
        for (uint32_t k = n; k-- > s->n_calls;) {
            s->calls[k] = (struct call){.next = s->free_call};
            s->free_call = k;
        }
        i = s->free_call;
        s->n_calls = n;
    }
    s->free_call = s->calls[i].next;
    s->calls[i] = (struct call){.twin = NO_CALL, .next = NO_CALL, .used = true};
    s->n_inflight++;
    return i;
}

void call_free(struct sched *s, uint32_t call)
{
    s->calls[call].used = false;
    s->calls[call].next = s->free_call;
    s->free_call = call;
    s->n_inflight--;
}

struct call *call_of(const struct sched *s, const struct sched_ticket *t)
{
    CHECK(t->call < s->n_calls && s->calls[t->call].used);
    return &s->calls[t->call];
}

/* --- Late ones ----------------------------------------------------------------------- */

static bool has_budget(const struct batch_queue *q)
{
    return q->hedged < HEDGE_MIN || q->hedged < HEDGE_SHARE * q->n_items;
}

/* Is nothing left of it to be sent that is not in flight? */
static bool is_out(const struct batch_queue *q)
{
    return place_ready(q) == 0 && q->ready.head == NO_RETRY;
}

/* May a second call of it go out? */
static bool may_resend(const struct batch_queue *q, const struct call *c)
{
    return !q->closed && !q->paused && !q->once && has_budget(q) &&
           (q->hold == 0 || c->t.item < q->hold);
}

static bool may_hedge(const struct sched *s, const struct call *c, uint16_t up)
{
    const struct batch_queue *q = s->batches[c->t.batch];
    const struct upstream *its = &s->ups[c->t.upstream];

    return c->used && !c->lost && c->twin == NO_CALL && !c->t.alone && its->o.aborts &&
           c->t.upstream != up && may_resend(q, c) && sched_set_has(&q->lane->set, up) &&
           !group_full(s, q->lane->group) && (is_out(q) || up_slow(s, c->t.upstream));
}

/* How much sooner the line would be there if it went to `up` now; 0 or less: it would not,
 * or that cannot be told.  What takes longer than was thought is longer than was thought, as
 * a rule: it would take the other as much more, for its speed. */
static double gain(const struct sched *s, const struct call *c, uint16_t up, usec_t now)
{
    double takes = (double)up_expect(s, c->t.upstream, c->work),
           age = (double)(now - c->t.sent);
    double mine = (double)up_expect(s, up, c->work), rest;

    if (takes <= 0 || mine <= 0)
        return 0;
    if (age > takes)
        mine *= age / takes;
    rest = age > takes ? age : takes - age; /* overdue: as long again */
    return rest > HEDGE_GAIN * mine ? rest - mine : 0;
}

uint32_t call_late(struct sched *s, uint16_t up, usec_t now)
{
    uint32_t best = NO_CALL;
    double most = 0;

    if (now < s->hedge_at)
        return NO_CALL;
    for (uint32_t i = 0; i < s->n_calls; i++) {
        double sooner;

        if (!may_hedge(s, &s->calls[i], up))
            continue;
        sooner = gain(s, &s->calls[i], up, now);
        if (sooner > most) {
            most = sooner;
            best = i;
        }
    }
    if (best == NO_CALL)
        s->hedge_at = now + HEDGE_EVERY;
    return best;
}

usec_t call_wake(const struct sched *s)
{
    bool late = false, room = false;

    if (s->n_inflight == 0)
        return USEC_INFINITY;
    for (uint16_t up = 0; up < s->n_ups; up++) {
        const struct upstream *u = &s->ups[up];

        late = late || (u->o.aborts && u->inflight > 0);
        room = room || (sched_set_has(&s->roomy, up) && up_rate(s, up) > 0);
    }
    return late && room ? s->hedge_at : USEC_INFINITY;
}
