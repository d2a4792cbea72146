/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "sched/sched_int.h"

#include <string.h>

static const struct sched_set every_upstream = {
    {~(uint64_t)0, ~(uint64_t)0, ~(uint64_t)0, ~(uint64_t)0}};
_Static_assert(SET_WORDS == 4, "every_upstream has all its words");

uint16_t sched_group_add(struct sched *s, unsigned max_inflight, double weight)
{
    CHECK(s->n_groups < UINT16_MAX);
    s->groups = mem_resize(s->groups, (s->n_groups + 1) * sizeof *s->groups);
    MEM_CHECK(s->groups);
    s->groups[s->n_groups] =
        (struct group){.max = max_inflight, .weight = weight > 0 ? weight : 1};
    if (UNLIKELY(s->trace.fn))
        trace_put(&s->trace, TRACE_GROUP, (const int64_t[]){max_inflight, s->n_groups}, 2,
                  &weight, 1);
    return (uint16_t)s->n_groups++;
}

/* --- Lines that are due -------------------------------------------------------------- */

static bool is_held(const struct batch_queue *q, const struct retry *r)
{
    return q->hold && q->items[r->pos].item >= q->hold;
}

static struct retries *queue_for(struct batch_queue *q, const struct retry *r)
{
    if (is_held(q, r))
        return &q->held;
    return r->alone ? &q->alone : &q->ready;
}

void queue_retry(struct sched *s, uint32_t retry)
{
    struct batch_queue *q = queue_of(s, s->retries[retry].batch);

    if (q->closed) {
        q->n_retries--;
        retry_free(s, retry);
        return;
    }
    retries_push(s, queue_for(q, &s->retries[retry]), retry);
    if (q->level < 0)
        turn_join(s, q);
}

void queue_unreserve(struct sched *s, uint16_t up)
{
    struct upstream *u = &s->ups[up];
    struct batch_queue *q = queue_of(s, s->retries[u->reserved].batch);

    retries_push_front(s, &q->alone, u->reserved);
    u->reserved = NO_RETRY;
    s->groups[q->lane->group].inflight--;
    s->n_reserved--;
    sched_set_del(&s->taken, up);
    s->unpark = true; /* now another may be drained */
    if (q->level < 0)
        turn_join(s, q);
}

/* Before a change of the batch: no upstream waits for a line of it. */
static void unreserve_all(struct sched *s, const struct batch_queue *q)
{
    struct sched_set rest = s->taken;
    uint16_t up;

    while (s->n_reserved && (up = set_pop(&rest)) != NO_UPSTREAM) {
        const struct upstream *u = &s->ups[up];

        if (u->reserved == NO_RETRY || s->retries[u->reserved].batch != q->handle)
            continue;
        queue_unreserve(s, up);
        up_refresh(s, up);
    }
}

static void drop_all(struct sched *s, struct batch_queue *q, struct retries *from)
{
    uint32_t retry;

    while ((retry = retries_pop(s, from)) != NO_RETRY) {
        retry_free(s, retry);
        q->n_retries--;
    }
}

/* --- Batches ------------------------------------------------------------------------- */

struct batch_queue *queue_of(const struct sched *s, uint32_t batch)
{
    CHECK(batch < s->n_batches && s->batches[batch]->used);
    return s->batches[batch];
}

static uint32_t free_handle(struct sched *s)
{
    for (uint32_t i = 0; i < s->n_batches; i++)
        if (!s->batches[i]->used)
            return i;
    s->batches = mem_resize(s->batches, (s->n_batches + 1) * sizeof *s->batches);
    MEM_CHECK(s->batches);
    s->batches[s->n_batches] = mem_new(struct batch_queue);
    return s->n_batches++;
}

uint32_t sched_batch_add(struct sched *s, const struct sched_batch_opts *o, usec_t now)
{
    const struct sched_set *set = o->upstreams ? o->upstreams : &every_upstream;
    const struct retries none = {NO_RETRY, NO_RETRY};
    uint32_t handle = free_handle(s);
    struct batch_queue *q = s->batches[handle];

    CHECK(o->priority >= SCHED_PRIORITY_MIN && o->priority <= SCHED_PRIORITY_MAX);
    *q = (struct batch_queue){.used = true,
                              .handle = handle,
                              .seq = ++s->seq,
                              .lane = lane_take(s, set, o->group),
                              .level = -1,
                              .priority = o->priority,
                              .paused = o->paused,
                              .idle = o->idle,
                              .once = o->once,
                              .deadline = o->deadline,
                              .window = o->window,
                              .ready = none,
                              .alone = none,
                              .held = none};
    list_init(&q->ring);
    place_add(s, q, o);
    s->n_idle += q->idle;
    promise_stale(s);
    turn_join(s, q);
    if (UNLIKELY(s->trace.fn))
        trace_batch(&s->trace, o, handle, now);
    return handle;
}

void sched_batch_edit(struct sched *s, uint32_t batch, int priority, bool paused,
                      uint32_t hold, usec_t deadline)
{
    struct batch_queue *q = queue_of(s, batch);
    struct retries all[3];
    bool moved = q->priority != priority || q->paused != paused || q->hold != hold ||
                 q->deadline != deadline;

    CHECK(priority >= SCHED_PRIORITY_MIN && priority <= SCHED_PRIORITY_MAX);
    TRACE(s, EDIT, batch, priority, paused, hold, deadline);
    if (!moved)
        return;
    unreserve_all(s, q);
    turn_leave(s, q);
    q->deadline = deadline;
    promise_stale(s);
    q->priority = priority;
    q->paused = paused;
    if (q->hold != hold)
        place_hold(q, hold);
    all[0] = q->held, all[1] = q->alone, all[2] = q->ready;
    q->held = q->alone = q->ready = (struct retries){NO_RETRY, NO_RETRY};
    for (unsigned i = 0; i < COUNTOF(all); i++) {
        uint32_t retry;

        while ((retry = retries_pop(s, &all[i])) != NO_RETRY)
            retries_push(s, queue_for(q, &s->retries[retry]), retry);
    }
    turn_join(s, q);
}

void sched_batch_idle(struct sched *s, uint32_t batch, bool idle)
{
    struct batch_queue *q = queue_of(s, batch);

    TRACE(s, IDLE, batch, idle);
    if (q->idle == idle)
        return;
    q->idle = idle;
    q->aged = q->critical = false;
    s->n_idle += idle ? 1 : -1u;
    promise_stale(s);
    if (q->level >= 0)
        turn_join(s, q);
}

void sched_batch_upstreams(struct sched *s, uint32_t batch, const struct sched_set *set)
{
    struct batch_queue *q = queue_of(s, batch);
    struct lane *old = q->lane;

    if (UNLIKELY(s->trace.fn))
        trace_set(&s->trace, batch, set);
    set = set ? set : &every_upstream;
    if (memcmp(set, &old->set, sizeof *set) == 0)
        return;
    unreserve_all(s, q);
    turn_leave(s, q);
    q->lane = lane_take(s, set, old->group);
    lane_give(s, old);
    place_cut(s, q, NULL);
    turn_join(s, q);
}

void sched_batch_resume(struct sched *s, uint32_t batch)
{
    struct batch_queue *q = queue_of(s, batch);

    TRACE(s, RESUME, batch);
    q->stopped = q->trusted = false;
    q->denied = 0;
    if (q->level < 0)
        turn_join(s, q);
}

void sched_batch_close(struct sched *s, uint32_t batch)
{
    struct batch_queue *q = queue_of(s, batch);

    TRACE(s, CLOSE, batch);
    unreserve_all(s, q);
    q->closed = true;
    turn_leave(s, q);
    drop_all(s, q, &q->ready);
    drop_all(s, q, &q->alone);
    drop_all(s, q, &q->held);
}

void sched_batch_remove(struct sched *s, uint32_t batch)
{
    struct batch_queue *q = queue_of(s, batch);

    CHECK(q->inflight == 0);
    sched_batch_close(s, batch);
    TRACE(s, REMOVE, batch);
    if (q->n_retries)
        retry_forget(s, batch);
    lane_give(s, q->lane);
    place_free(q);
    s->n_idle -= q->idle;
    *q = (struct batch_queue){.level = -1};
    list_init(&q->ring);
}

uint32_t sched_batch_waiting(const struct sched *s, uint32_t batch)
{
    const struct batch_queue *q = queue_of(s, batch);

    return q->closed ? 0 : q->fresh + q->n_retries;
}
