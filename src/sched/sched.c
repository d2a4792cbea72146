/* SPDX-License-Identifier: Apache-2.0 */
#include "sched/sched.h"
#include "base/limits.h"
#include "base/list.h"
#include "base/mem.h"

#include <string.h>

#define NO_UPSTREAM UINT16_MAX

/* A pause that rejects without Retry-After bring about, doubled each time in a row. */
#define REJECT_PAUSE (50 * USEC_PER_MS)

/* A line that waits for another try. */
struct retry {
    usec_t not_before;
    uint32_t batch, item;
    uint16_t attempts; /* that counted */
    uint16_t avoid;    /* where it failed */
    bool alone;        /* its last try: see sched_done */
};

struct upstream {
    enum sched_up_state state;
    unsigned max_window, inflight;
    double window;      /* fractional; the effective one is its whole part */
    double reject_ewma; /* share of calls rejected (DCTCP's alpha) */
    usec_t recover;     /* calls sent before this belong to a cut made already */
    usec_t since, reopen;
    unsigned fail_row;   /* failures without a success between them */
    unsigned reject_row; /* rejects likewise */
    unsigned pauses;     /* pauses in a row, for doubling */
    unsigned probes;     /* unhealthy probes and failed trials in a row, likewise */
    bool probing;
    bool alone; /* a line that may be poison is in flight: nothing else goes there */
    uint64_t done, failed;
};

struct batch_queue {
    struct list ring; /* in sched.ring while it may hand out fresh lines */
    uint32_t handle;
    uint32_t n_items, cursor;
    uint32_t inflight, retries; /* of this batch */
    uint32_t fresh;             /* items from the cursor on that are not done */
    uint8_t *done;              /* NULL: none was done at the start */
    usec_t deadline;
    bool used, closed;
};

struct sched {
    struct sched_opts o;
    uint64_t rng;
    struct upstream ups[LIMIT_UPSTREAMS];
    unsigned n_ups;
    struct batch_queue **batches; /* by handle; stable addresses for the ring */
    uint32_t n_batches;
    struct list ring;
    struct retry *heap; /* by not_before */
    size_t n_heap, cap_heap;
    bool paused;
};

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
    list_init(&s->ring);
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
    mem_free(s->batches);
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

static usec_t jitter(struct sched *s, usec_t below)
{
    return below > 0 ? (usec_t)(random_u64(s) % (uint64_t)below) : 0;
}

static usec_t doubled(usec_t base, unsigned times, usec_t cap)
{
    while (times-- && base < cap)
        base *= 2;
    return base < cap ? base : cap;
}

/* --- The heap of lines that wait -----------------------------------------------------
 */

static void sift_up(struct sched *s, size_t i)
{
    struct retry r = s->heap[i];

    while (i && s->heap[(i - 1) / 2].not_before > r.not_before) {
        s->heap[i] = s->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    s->heap[i] = r;
}

static void sift_down(struct sched *s, size_t i)
{
    struct retry r = s->heap[i];

    for (;;) {
        size_t kid = 2 * i + 1;

        if (kid >= s->n_heap)
            break;
        if (kid + 1 < s->n_heap && s->heap[kid + 1].not_before < s->heap[kid].not_before)
            kid++;
        if (s->heap[kid].not_before >= r.not_before)
            break;
        s->heap[i] = s->heap[kid];
        i = kid;
    }
    s->heap[i] = r;
}

static void heap_push(struct sched *s, struct retry r)
{
    if (s->n_heap == s->cap_heap) {
        s->cap_heap = s->cap_heap ? s->cap_heap * 2 : 64;
        s->heap = mem_resize(s->heap, s->cap_heap * sizeof *s->heap);
        CHECK(s->heap);
    }
    s->heap[s->n_heap] = r;
    sift_up(s, s->n_heap++);
}

static struct retry heap_pop(struct sched *s)
{
    struct retry r = s->heap[0];

    s->heap[0] = s->heap[--s->n_heap];
    if (s->n_heap)
        sift_down(s, 0);
    return r;
}

/* --- Upstreams -----------------------------------------------------------------------
 */

uint16_t sched_upstream_add(struct sched *s, unsigned window)
{
    struct upstream *u = &s->ups[s->n_ups];

    CHECK(s->n_ups < LIMIT_UPSTREAMS && window > 0);
    u->max_window = window;
    u->window = window;
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

static unsigned up_room(struct upstream *u, usec_t now)
{
    unsigned window;

    if (u->state == SCHED_UP_CLOSED && now >= u->reopen)
        up_enter(u, SCHED_UP_OPEN, now);
    if (u->state == SCHED_UP_CLOSED || u->state == SCHED_UP_DEAD || u->alone)
        return 0;
    window = u->state == SCHED_UP_TRIAL ? 1 : (unsigned)u->window;
    return window > u->inflight ? window - u->inflight : 0;
}

/* The smallest share of its window in use; `avoid` only when there is no other.  idle: only
 * one with nothing in flight. */
static uint16_t pick_upstream(struct sched *s, uint16_t avoid, bool idle, usec_t now)
{
    uint16_t best = NO_UPSTREAM;
    double best_share = 2;

    for (uint16_t i = 0; i < s->n_ups; i++) {
        struct upstream *u = &s->ups[i];
        double share;

        if (up_room(u, now) == 0 || (idle && u->inflight))
            continue;
        share = u->inflight / u->window + (i == avoid ? 1 : 0);
        if (share < best_share) {
            best_share = share;
            best = i;
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
        usec_t pause = doubled(REJECT_PAUSE, u->pauses, s->o.probe_cap);

        u->pauses += u->pauses < 32;
        u->reject_row = 0;
        up_pause(u, now + pause / 2 + jitter(s, pause), now);
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
    u->reopen = now + doubled(s->o.probe_base, u->probes, s->o.probe_cap);
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
        return;
    }
    u->probes += u->probes < 32;
    wait = doubled(s->o.probe_base, u->probes, s->o.probe_cap);
    u->reopen = now + wait * 3 / 4 + jitter(s, wait / 2);
}

/* --- Batches -------------------------------------------------------------------------
 */

static struct batch_queue *queue_of(const struct sched *s, uint32_t batch)
{
    CHECK(batch < s->n_batches && s->batches[batch]->used);
    return s->batches[batch];
}

static bool is_done(const struct batch_queue *q, uint32_t item)
{
    return q->done && (q->done[item / 8] >> (item % 8) & 1);
}

static void skip_done(struct batch_queue *q)
{
    while (q->cursor < q->n_items && is_done(q, q->cursor))
        q->cursor++;
}

static uint32_t free_handle(struct sched *s)
{
    for (uint32_t i = 0; i < s->n_batches; i++)
        if (!s->batches[i]->used)
            return i;
    s->batches = mem_resize(s->batches, (s->n_batches + 1) * sizeof *s->batches);
    CHECK(s->batches);
    s->batches[s->n_batches] = mem_new(struct batch_queue);
    return s->n_batches++;
}

uint32_t sched_batch_add(struct sched *s, uint32_t n_items, const uint8_t *done,
                         usec_t deadline, usec_t now)
{
    uint32_t handle = free_handle(s);
    struct batch_queue *q = s->batches[handle];
    size_t bytes = ((size_t)n_items + 7) / 8;

    (void)now;
    *q = (struct batch_queue){.used = true,
                              .handle = handle,
                              .n_items = n_items,
                              .deadline = deadline,
                              .fresh = n_items};
    list_init(&q->ring);
    if (done) {
        q->done = mem_new_n(uint8_t, bytes);
        memcpy(q->done, done, bytes);
        for (uint32_t i = 0; i < n_items; i++)
            q->fresh -= is_done(q, i);
    }
    skip_done(q);
    if (q->fresh)
        list_add_tail(&s->ring, &q->ring);
    return handle;
}

void sched_batch_close(struct sched *s, uint32_t batch)
{
    struct batch_queue *q = queue_of(s, batch);

    q->closed = true;
    list_del(&q->ring);
}

void sched_batch_remove(struct sched *s, uint32_t batch)
{
    struct batch_queue *q = queue_of(s, batch);
    size_t kept = 0;

    CHECK(q->inflight == 0);
    list_del(&q->ring);
    for (size_t i = 0; i < s->n_heap; i++)
        if (s->heap[i].batch != batch)
            s->heap[kept++] = s->heap[i];
    if (kept != s->n_heap) {
        s->n_heap = kept;
        for (size_t i = kept / 2; i-- > 0;)
            sift_down(s, i);
    }
    mem_free(q->done);
    *q = (struct batch_queue){0};
    list_init(&q->ring);
}

uint32_t sched_batch_waiting(const struct sched *s, uint32_t batch)
{
    const struct batch_queue *q = queue_of(s, batch);

    return q->closed ? 0 : q->fresh + q->retries;
}

void sched_pause(struct sched *s, bool paused)
{
    s->paused = paused;
}

/* --- Tickets -------------------------------------------------------------------------
 */

/* Drops what closed batches left on the heap, so that its top is a line that may go. */
static bool retry_due(struct sched *s, usec_t now)
{
    while (s->n_heap && s->heap[0].not_before <= now) {
        struct batch_queue *q = queue_of(s, s->heap[0].batch);

        if (!q->closed)
            return true;
        heap_pop(s);
        q->retries--;
    }
    return false;
}

static struct retry next_fresh(struct sched *s)
{
    struct batch_queue *q = list_entry(s->ring.next, struct batch_queue, ring);
    struct retry r = {.batch = q->handle, .item = q->cursor, .avoid = NO_UPSTREAM};

    q->cursor++;
    q->fresh--;
    skip_done(q);
    list_del(&q->ring);
    if (q->fresh)
        list_add_tail(&s->ring, &q->ring); /* its turn comes again after the others' */
    return r;
}

size_t sched_next(struct sched *s, struct sched_ticket *out, size_t max, usec_t now)
{
    size_t n = 0;

    while (n < max && !s->paused) {
        bool retry = retry_due(s, now);
        struct retry r;
        uint16_t up;

        if (!retry && list_empty(&s->ring))
            break;
        up = pick_upstream(s, retry ? s->heap[0].avoid : NO_UPSTREAM,
                           retry && s->heap[0].alone, now);
        if (up == NO_UPSTREAM)
            break;
        if (retry) {
            r = heap_pop(s);
            s->batches[r.batch]->retries--;
        } else {
            r = next_fresh(s);
        }
        s->ups[up].inflight++;
        s->ups[up].alone = r.alone;
        s->batches[r.batch]->inflight++;
        out[n++] = (struct sched_ticket){.batch = r.batch,
                                         .item = r.item,
                                         .upstream = up,
                                         .attempt = r.attempts,
                                         .sent = now,
                                         .alone = r.alone};
    }
    return n;
}

static bool is_final(enum outcome_class cls)
{
    return cls == OUTCOME_DONE || cls == OUTCOME_REFUSED || cls == OUTCOME_OVERSIZE;
}

/* Learns about the upstream; says whether the failure counts against the line. */
static bool learn(struct sched *s, struct upstream *u, const struct sched_ticket *t,
                  enum outcome_class cls, usec_t retry_after, usec_t now)
{
    bool in_order = u->state != SCHED_UP_DEAD;

    if (is_final(cls)) { /* it answered: also a 400 shows a server in order */
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

/*
 * A request that kills its server takes those beside it along, and in the end only they are
 * left, and fail together.  So the last try of a line whose calls broke is made alone: all else
 * waits until an upstream is idle.  What fails alone is poison; what was beside it is answered.
 */
enum sched_verdict sched_done(struct sched *s, const struct sched_ticket *t,
                              enum outcome_class cls, usec_t retry_after, usec_t now)
{
    struct batch_queue *q = queue_of(s, t->batch);
    struct upstream *u = &s->ups[t->upstream];
    unsigned attempts = t->attempt;
    usec_t wait = 0;
    bool counts;

    CHECK(u->inflight > 0 && q->inflight > 0);
    u->inflight--;
    u->alone = false;
    q->inflight--;
    counts = learn(s, u, t, cls, retry_after, now);
    if (is_final(cls) || q->closed)
        return SCHED_FINAL;
    if (counts && ++attempts >= s->o.max_attempts)
        return SCHED_FINAL;
    if (cls == OUTCOME_CAPACITY)
        wait = retry_after > 0 ? 0 : jitter(s, s->o.backoff_base / 4);
    else if (counts)
        wait = jitter(s, doubled(s->o.backoff_base, attempts - 1, s->o.backoff_cap));
    heap_push(s, (struct retry){.not_before = now + wait,
                                .batch = t->batch,
                                .item = t->item,
                                .attempts = (uint16_t)attempts,
                                .avoid = t->upstream,
                                .alone = attempts + 1 == s->o.max_attempts &&
                                         (cls == OUTCOME_BROKEN || t->alone)});
    q->retries++;
    return SCHED_RETRY;
}

void sched_aborted(struct sched *s, const struct sched_ticket *t, usec_t now)
{
    struct batch_queue *q = queue_of(s, t->batch);

    CHECK(s->ups[t->upstream].inflight > 0 && q->inflight > 0);
    s->ups[t->upstream].inflight--;
    s->ups[t->upstream].alone = false;
    q->inflight--;
    if (q->closed)
        return;
    heap_push(s, (struct retry){.not_before = now,
                                .batch = t->batch,
                                .item = t->item,
                                .attempts = t->attempt,
                                .avoid = NO_UPSTREAM,
                                .alone = t->alone});
    q->retries++;
}

usec_t sched_next_wake(const struct sched *s, usec_t now)
{
    bool work = !list_empty(&s->ring) || (s->n_heap && s->heap[0].not_before <= now);
    usec_t at = USEC_INFINITY;

    for (unsigned i = 0; i < s->n_ups; i++) {
        const struct upstream *u = &s->ups[i];

        if ((u->state == SCHED_UP_CLOSED && work) ||
            (u->state == SCHED_UP_DEAD && !u->probing))
            at = u->reopen < at ? u->reopen : at;
    }
    if (s->n_heap && s->heap[0].not_before > now && s->heap[0].not_before < at)
        at = s->heap[0].not_before;
    return at;
}
