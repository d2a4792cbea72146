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
    return (uint16_t)s->n_groups++;
}

/* --- Lanes ---------------------------------------------------------------------------
 */

static struct lane *lane_take(struct sched *s, const struct sched_set *set,
                              uint16_t group)
{
    struct lane *l;

    CHECK(group < s->n_groups);
    for (unsigned i = 0; i < s->n_lanes; i++) {
        l = s->lanes[i];
        if (l->group == group && memcmp(&l->set, set, sizeof *set) == 0) {
            l->n_batches++;
            return l;
        }
    }
    s->lanes = mem_resize(s->lanes, (s->n_lanes + 1) * sizeof *s->lanes);
    MEM_CHECK(s->lanes);
    l = s->lanes[s->n_lanes++] = mem_new(struct lane);
    l->set = *set;
    l->group = group;
    l->n_batches = 1;
    for (unsigned i = 0; i < LEVELS; i++)
        list_init(&l->rings[i]);
    return l;
}

static void lane_give(struct sched *s, struct lane *l)
{
    if (--l->n_batches)
        return;
    for (unsigned i = 0; i < s->n_lanes; i++) {
        if (s->lanes[i] == l) {
            s->lanes[i] = s->lanes[--s->n_lanes];
            break;
        }
    }
    mem_free(l);
}

/* --- Rings ---------------------------------------------------------------------------
 */

bool queue_has_fresh(const struct batch_queue *q)
{
    return q->cursor < q->n_items && (q->hold == 0 || q->cursor < q->hold);
}

static bool may_go(const struct batch_queue *q)
{
    return !q->closed && !q->paused &&
           (q->ready.head != NO_RETRY || q->alone.head != NO_RETRY || queue_has_fresh(q));
}

void queue_leave(struct batch_queue *q)
{
    list_del(&q->ring);
    if (q->level >= 0 && list_empty(&q->lane->rings[q->level]))
        q->lane->levels &= ~(1u << q->level);
    q->level = -1;
}

void queue_join(struct sched *s, struct batch_queue *q)
{
    int level = may_go(q) ? q->priority - SCHED_PRIORITY_MIN : -1;

    if (q->level != level)
        queue_leave(q);
    if (level < 0)
        return;
    list_del(&q->ring); /* of its level, or of the parked */
    list_add_tail(&q->lane->rings[level], &q->ring);
    q->lane->levels |= 1u << level;
    q->level = level;
    q->turn = ++s->turn;
}

void queue_park(struct sched *s, struct batch_queue *q)
{
    queue_leave(q);
    list_add_tail(&s->parked, &q->ring);
}

void queue_unpark(struct sched *s)
{
    struct list *node;

    s->unpark = false;
    while ((node = list_pop(&s->parked)))
        queue_join(s, list_entry(node, struct batch_queue, ring));
}

/* --- Lines that are due --------------------------------------------------------------
 */

static struct retries *queue_for(struct batch_queue *q, const struct retry *r)
{
    if (q->hold && r->item >= q->hold)
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
        queue_join(s, q);
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
        queue_join(s, q);
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

/* --- Batches -------------------------------------------------------------------------
 */

struct batch_queue *queue_of(const struct sched *s, uint32_t batch)
{
    CHECK(batch < s->n_batches && s->batches[batch]->used);
    return s->batches[batch];
}

bool queue_is_done(const struct batch_queue *q, uint32_t item)
{
    return q->done && (q->done[item / 8] >> (item % 8) & 1);
}

void queue_done_skip(struct batch_queue *q)
{
    while (q->cursor < q->n_items && queue_is_done(q, q->cursor))
        q->cursor++;
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
    size_t bytes = ((size_t)o->n_items + 7) / 8;

    (void)now;
    CHECK(o->priority >= SCHED_PRIORITY_MIN && o->priority <= SCHED_PRIORITY_MAX);
    *q = (struct batch_queue){.used = true,
                              .handle = handle,
                              .lane = lane_take(s, set, o->group),
                              .level = -1,
                              .priority = o->priority,
                              .paused = o->paused,
                              .hold = o->hold,
                              .n_items = o->n_items,
                              .deadline = o->deadline,
                              .fresh = o->n_items,
                              .ready = none,
                              .alone = none,
                              .held = none};
    list_init(&q->ring);
    if (o->done) {
        q->done = mem_new_n(uint8_t, bytes);
        memcpy(q->done, o->done, bytes);
        for (uint32_t i = 0; i < o->n_items; i++)
            q->fresh -= queue_is_done(q, i);
    }
    queue_done_skip(q);
    queue_join(s, q);
    return handle;
}

void sched_batch_edit(struct sched *s, uint32_t batch, int priority, bool paused,
                      uint32_t hold, usec_t deadline)
{
    struct batch_queue *q = queue_of(s, batch);
    struct retries all[3];
    bool moved = q->priority != priority || q->paused != paused || q->hold != hold;

    CHECK(priority >= SCHED_PRIORITY_MIN && priority <= SCHED_PRIORITY_MAX);
    q->deadline = deadline;
    if (!moved)
        return; /* it keeps its turn */
    unreserve_all(s, q);
    q->priority = priority;
    q->paused = paused;
    q->hold = hold;
    all[0] = q->held, all[1] = q->alone, all[2] = q->ready;
    q->held = q->alone = q->ready = (struct retries){NO_RETRY, NO_RETRY};
    for (unsigned i = 0; i < COUNTOF(all); i++) {
        uint32_t retry;

        while ((retry = retries_pop(s, &all[i])) != NO_RETRY)
            retries_push(s, queue_for(q, &s->retries[retry]), retry);
    }
    queue_join(s, q);
}

void sched_batch_upstreams(struct sched *s, uint32_t batch, const struct sched_set *set)
{
    struct batch_queue *q = queue_of(s, batch);
    struct lane *old = q->lane;

    set = set ? set : &every_upstream;
    if (memcmp(set, &old->set, sizeof *set) == 0)
        return;
    unreserve_all(s, q);
    queue_leave(q);
    q->lane = lane_take(s, set, old->group);
    lane_give(s, old);
    queue_join(s, q);
}

void sched_batch_close(struct sched *s, uint32_t batch)
{
    struct batch_queue *q = queue_of(s, batch);

    unreserve_all(s, q);
    q->closed = true;
    queue_leave(q);
    drop_all(s, q, &q->ready);
    drop_all(s, q, &q->alone);
    drop_all(s, q, &q->held);
}

void sched_batch_remove(struct sched *s, uint32_t batch)
{
    struct batch_queue *q = queue_of(s, batch);

    CHECK(q->inflight == 0);
    sched_batch_close(s, batch);
    if (q->n_retries)
        retry_forget(s, batch);
    lane_give(s, q->lane);
    mem_free(q->done);
    *q = (struct batch_queue){.level = -1};
    list_init(&q->ring);
}

uint32_t sched_batch_waiting(const struct sched *s, uint32_t batch)
{
    const struct batch_queue *q = queue_of(s, batch);

    return q->closed ? 0 : q->fresh + q->n_retries;
}
