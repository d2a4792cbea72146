/* SPDX-License-Identifier: Apache-2.0 */
#include "sched/sched_int.h"

static uint32_t count(const struct sched *s, const struct retries *q)
{
    uint32_t n = 0;

    for (uint32_t i = q->head; i != NO_RETRY; i = s->retries[i].next)
        n++;
    return n;
}

static uint32_t ready(const struct sched *s, const struct batch_queue *q)
{
    return q->closed ? 0 : count(s, &q->ready) + count(s, &q->alone) + place_ready(q);
}

static uint32_t suspects(const struct sched *s, const struct batch_queue *q)
{
    uint32_t n = count(s, &q->alone);

    for (unsigned i = 0; i < s->n_ups; i++) {
        uint32_t reserved = s->ups[i].reserved;

        n += reserved != NO_RETRY && s->retries[reserved].batch == q->handle;
    }
    return n;
}

void sched_batch_view(const struct sched *s, uint32_t batch, struct sched_batch_view *ret)
{
    const struct batch_queue *q = queue_of(s, batch);

    *ret = (struct sched_batch_view){
        .fresh = q->closed ? 0 : q->fresh,
        .retrying = q->closed ? 0 : q->n_retries,
        .ready = ready(s, q),
        .due = USEC_INFINITY,
        .suspects = suspects(s, q),
        .denied = q->trusted ? 0 : q->denied,
        .stopped = q->stopped,
        .critical = q->critical,
        .group_full = group_full(s, q->lane->group),
        .room = set_meets(&q->lane->set, &s->roomy),
        .upstreams = q->lane->set,
    };
    for (size_t i = 0; i < s->n_heap; i++) {
        const struct retry *r = &s->retries[s->heap[i].retry];

        if (r->batch == batch && !q->closed && s->heap[i].at < ret->due &&
            (q->hold == 0 || q->items[r->pos].item < q->hold))
            ret->due = s->heap[i].at;
    }
}

uint64_t sched_batch_ahead(const struct sched *s, uint32_t batch)
{
    const struct batch_queue *mine = queue_of(s, batch);
    uint64_t n = 0;

    for (uint32_t i = 0; i < s->n_batches; i++) {
        const struct batch_queue *q = s->batches[i];

        if (!q->used || q->paused || q->stopped || q->priority <= mine->priority ||
            !set_meets(&q->lane->set, &mine->lane->set))
            continue;
        n += ready(s, q);
    }
    return n;
}
