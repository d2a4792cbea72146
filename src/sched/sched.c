/* SPDX-License-Identifier: Apache-2.0 */
#include "sched/sched.h"
#include "base/mem.h"
#include "sched/sched_int.h"

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
    list_init(&s->parked);
    sched_group_add(s, 0, 1);
    return s;
}

struct sched *sched_free(struct sched *s)
{
    if (!s)
        return NULL;
    for (uint32_t i = 0; i < s->n_batches; i++) {
        mem_free(s->batches[i]->done);
        mem_free(s->batches[i]);
    }
    for (unsigned i = 0; i < s->n_lanes; i++)
        mem_free(s->lanes[i]);
    mem_free(s->batches);
    mem_free(s->lanes);
    mem_free(s->groups);
    mem_free(s->retries);
    mem_free(s->heap);
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
    s->paused = paused;
}

/* --- Out -----------------------------------------------------------------------------
 */

static void go(struct sched *s, const struct retry *r, uint16_t up, usec_t now,
               struct sched_ticket *out)
{
    struct upstream *u = &s->ups[up];

    u->inflight++;
    u->alone = r->alone;
    up_refresh(s, up);
    s->batches[r->batch]->inflight++;
    *out = (struct sched_ticket){.batch = r->batch,
                                 .item = r->item,
                                 .upstream = up,
                                 .attempt = r->attempts,
                                 .sent = now,
                                 .alone = r->alone};
}

/* A line that must run alone and whose upstream is idle by now. */
static bool reserved_next(struct sched *s, usec_t now, struct sched_ticket *out)
{
    struct sched_set rest = s->taken;
    uint16_t up;

    while (s->n_reserved && (up = set_pop(&rest)) != NO_UPSTREAM) {
        struct upstream *u = &s->ups[up];
        uint32_t retry = u->reserved;

        if (retry == NO_RETRY || u->inflight)
            continue;
        u->reserved = NO_RETRY;
        s->n_reserved--;
        s->batches[s->retries[retry].batch]->n_retries--;
        go(s, &s->retries[retry], up, now, out);
        retry_free(s, retry);
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

/* The batch whose turn it is; NULL: none can go now. */
static struct batch_queue *next_turn(const struct sched *s)
{
    struct batch_queue *best = NULL;

    for (unsigned i = 0; i < s->n_lanes; i++) {
        const struct lane *l = s->lanes[i];
        struct batch_queue *q;
        int level;

        if (!l->levels || group_full(s, l->group) || !set_meets(&l->set, &s->roomy))
            continue;
        level = 31 - __builtin_clz(l->levels);
        q = list_entry(l->rings[level].next, struct batch_queue, ring);
        if (!best || level > best->level ||
            (level == best->level && q->turn < best->turn))
            best = q;
    }
    return best;
}

static struct retry take_line(struct sched *s, struct batch_queue *q)
{
    uint32_t retry = retries_pop(s, &q->ready);
    struct retry r = {.batch = q->handle, .item = q->cursor, .avoid = NO_UPSTREAM};

    if (retry != NO_RETRY) {
        r = s->retries[retry];
        retry_free(s, retry);
        q->n_retries--;
    } else {
        q->cursor++;
        q->fresh--;
        queue_done_skip(q);
    }
    return r;
}

/* One line of the batch whose turn it is.  false: none, but others may have one. */
static bool take_turn(struct sched *s, struct batch_queue *q, usec_t now,
                      struct sched_ticket *out)
{
    struct retry r;

    if (q->alone.head != NO_RETRY && reserve(s, q)) {
        queue_join(s, q);
        return reserved_next(s, now, out);
    }
    if (q->ready.head == NO_RETRY && !queue_has_fresh(q)) {
        queue_park(s, q);
        return false;
    }
    r = take_line(s, q);
    s->groups[q->lane->group].inflight++;
    go(s, &r, up_pick(s, &q->lane->set, r.avoid, false), now, out);
    queue_join(s, q); /* its turn comes again after the others' */
    return true;
}

size_t sched_next(struct sched *s, struct sched_ticket *out, size_t max, usec_t now)
{
    struct batch_queue *q;
    size_t n = 0;

    retry_collect(s, now);
    up_reopen(s, now);
    if (s->paused)
        return 0;
    while (n < max) {
        if (s->unpark)
            queue_unpark(s);
        if (s->n_reserved && reserved_next(s, now, &out[n])) {
            n++;
            continue;
        }
        q = next_turn(s);
        if (!q)
            break;
        n += take_turn(s, q, now, &out[n]);
    }
    return n;
}

/* --- Back ----------------------------------------------------------------------------
 */

static void landed(struct sched *s, struct batch_queue *q, const struct sched_ticket *t)
{
    struct upstream *u = &s->ups[t->upstream];

    CHECK(u->inflight > 0 && q->inflight > 0);
    u->inflight--;
    q->inflight--;
    s->groups[q->lane->group].inflight--;
    if (t->alone) {
        u->alone = false;
        sched_set_del(&s->taken, t->upstream);
        s->unpark = true;
    }
}

/*
 * A request that kills its server takes those beside it along, and in the end only they are
 * left, and fail together.  So the last try of a line whose calls broke is made alone, on an
 * upstream that is idle or drained for it.  What fails alone is poison; what was beside it is
 * answered.
 */
enum sched_verdict sched_done(struct sched *s, const struct sched_ticket *t,
                              const struct sched_outcome *o, usec_t now)
{
    struct batch_queue *q = queue_of(s, t->batch);
    enum outcome_class cls = o->cls;
    usec_t retry_after = o->retry_after;
    unsigned attempts = t->attempt;
    usec_t wait = 0;
    bool counts;

    landed(s, q, t);
    counts = up_learn(s, t, cls, retry_after, now);
    up_refresh(s, t->upstream);
    if (outcome_final(cls) || q->closed)
        return SCHED_FINAL;
    if (counts && ++attempts >= s->o.max_attempts)
        return SCHED_FINAL;
    if (cls == OUTCOME_CAPACITY)
        wait = retry_after > 0 ? 0 : sched_jitter(s, s->o.backoff_base / 4);
    else if (counts)
        wait = sched_jitter(
            s, sched_doubled(s->o.backoff_base, attempts - 1, s->o.backoff_cap));
    retry_wait(s,
               &(struct retry){.batch = t->batch,
                               .item = t->item,
                               .attempts = (uint16_t)attempts,
                               .avoid = t->upstream,
                               .alone = attempts + 1 == s->o.max_attempts &&
                                        (cls == OUTCOME_BROKEN || t->alone)},
               now + wait);
    q->n_retries++;
    return SCHED_RETRY;
}

void sched_aborted(struct sched *s, const struct sched_ticket *t, usec_t now)
{
    struct batch_queue *q = queue_of(s, t->batch);

    landed(s, q, t);
    up_refresh(s, t->upstream);
    if (q->closed)
        return;
    retry_wait(s,
               &(struct retry){.batch = t->batch,
                               .item = t->item,
                               .attempts = t->attempt,
                               .avoid = NO_UPSTREAM,
                               .alone = t->alone},
               now);
    q->n_retries++;
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

static struct sched_set closed_and_wanted(const struct sched *s)
{
    struct sched_set want = {{0}};

    if (set_meets(&s->closed, &s->closed) && !s->paused)
        want = wanted(s);
    return set_both(&want, &s->closed);
}

usec_t sched_next_wake(const struct sched *s, usec_t now)
{
    struct sched_set closed = closed_and_wanted(s);
    usec_t at = USEC_INFINITY;
    uint16_t up;

    while ((up = set_pop(&closed)) != NO_UPSTREAM)
        if (s->ups[up].reopen < at)
            at = s->ups[up].reopen;
    for (unsigned i = 0; i < s->n_ups; i++) {
        const struct upstream *u = &s->ups[i];

        if (u->state == SCHED_UP_DEAD && !u->probing && u->reopen < at)
            at = u->reopen;
    }
    if (s->n_heap && s->heap[0].at < at)
        at = s->heap[0].at;
    return at > now ? at : now;
}
