/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "sched/sched_int.h"

/* --- Where they are kept -------------------------------------------------------------
 */

static uint32_t retry_new(struct sched *s, const struct retry *r)
{
    uint32_t i = s->free_retry;

    if (i == NO_RETRY) {
        uint32_t n = s->n_retries ? s->n_retries * 2 : 64;

        s->retries = mem_resize(s->retries, n * sizeof *s->retries);
        MEM_CHECK(s->retries);
        for (uint32_t k = n; k-- > s->n_retries;) {
            s->retries[k].next = s->free_retry;
            s->free_retry = k;
        }
        i = s->free_retry;
        s->n_retries = n;
    }
    s->free_retry = s->retries[i].next;
    s->retries[i] = *r;
    return i;
}

void retry_free(struct sched *s, uint32_t retry)
{
    s->retries[retry].next = s->free_retry;
    s->free_retry = retry;
}

void retries_push(struct sched *s, struct retries *q, uint32_t retry)
{
    s->retries[retry].next = NO_RETRY;
    if (q->head == NO_RETRY)
        q->head = retry;
    else
        s->retries[q->tail].next = retry;
    q->tail = retry;
}

void retries_push_front(struct sched *s, struct retries *q, uint32_t retry)
{
    s->retries[retry].next = q->head;
    if (q->head == NO_RETRY)
        q->tail = retry;
    q->head = retry;
}

uint32_t retries_pop(struct sched *s, struct retries *q)
{
    uint32_t retry = q->head;

    if (retry != NO_RETRY)
        q->head = s->retries[retry].next;
    return retry;
}

uint32_t retries_pop_for(struct sched *s, struct retries *q, uint16_t up, bool choice)
{
    uint32_t last = NO_RETRY, retry = q->head;

    while (choice && retry != NO_RETRY && s->retries[retry].avoid == up) {
        last = retry;
        retry = s->retries[retry].next;
    }
    if (retry == NO_RETRY)
        return NO_RETRY;
    if (last == NO_RETRY)
        q->head = s->retries[retry].next;
    else
        s->retries[last].next = s->retries[retry].next;
    if (q->tail == retry)
        q->tail = last;
    return retry;
}

/* --- The heap of those that are not due ----------------------------------------------
 */

static void sift_up(struct sched *s, size_t i)
{
    struct due d = s->heap[i];

    while (i && s->heap[(i - 1) / 2].at > d.at) {
        s->heap[i] = s->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    s->heap[i] = d;
}

static void sift_down(struct sched *s, size_t i)
{
    struct due d = s->heap[i];

    for (;;) {
        size_t kid = 2 * i + 1;

        if (kid >= s->n_heap)
            break;
        if (kid + 1 < s->n_heap && s->heap[kid + 1].at < s->heap[kid].at)
            kid++;
        if (s->heap[kid].at >= d.at)
            break;
        s->heap[i] = s->heap[kid];
        i = kid;
    }
    s->heap[i] = d;
}

void retry_wait(struct sched *s, const struct retry *r, usec_t until)
{
    if (s->n_heap == s->cap_heap) {
        s->cap_heap = s->cap_heap ? s->cap_heap * 2 : 64;
        s->heap = mem_resize(s->heap, s->cap_heap * sizeof *s->heap);
        MEM_CHECK(s->heap);
    }
    s->heap[s->n_heap] = (struct due){until, retry_new(s, r)};
    sift_up(s, s->n_heap++);
}

void retry_collect(struct sched *s, usec_t now)
{
    while (s->n_heap && s->heap[0].at <= now) {
        uint32_t retry = s->heap[0].retry;

        s->heap[0] = s->heap[--s->n_heap];
        if (s->n_heap)
            sift_down(s, 0);
        queue_retry(s, retry);
    }
}

void retry_forget(struct sched *s, uint32_t batch)
{
    size_t kept = 0;

    for (size_t i = 0; i < s->n_heap; i++) {
        if (s->retries[s->heap[i].retry].batch == batch)
            retry_free(s, s->heap[i].retry);
        else
            s->heap[kept++] = s->heap[i];
    }
    s->n_heap = kept;
    for (size_t i = kept / 2; i-- > 0;)
        sift_down(s, i);
}
