/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deadlines.  Once a second batches are looked at in the order of their deadlines; those
 * that would miss theirs, and what stands in their way, go first, in that order: so what
 * can be kept is kept (Liu and Layland 1973).  The arithmetic is sched_forecast's.
 */
#include "sched/sched_forecast.h"
#include "base/mem.h"
#include "sched/sched_int.h"

#include <stdlib.h>
#include <string.h>

#define JUDGE_EVERY USEC_PER_SEC

/* Idle work is idle no more when it would take so much of the time that it has. */
#define AGED 0.8

/* --- What there is ------------------------------------------------------------------- */

/* Work a second of each upstream: 0 of one that is dead, the mean of the others' where it
 * is not known yet. */
static void rates(const struct sched *s, bool sure, double *to)
{
    double sum = 0;
    unsigned known = 0;

    for (uint16_t i = 0; i < s->n_ups; i++) {
        const struct capacity *c = &s->ups[i].capacity;

        to[i] = sure ? capacity_sure(c) : capacity_likely(c);
        if (to[i] <= 0)
            to[i] = up_rate(s, i);
        sum += to[i];
        known += to[i] > 0;
    }
    for (uint16_t i = 0; i < s->n_ups; i++) {
        if (s->ups[i].state == SCHED_UP_DEAD)
            to[i] = 0;
        else if (to[i] <= 0 && known)
            to[i] = sum / known;
    }
}

/* What is in flight is half done. */
static double work_left(const struct sched *s, const struct batch_queue *q)
{
    double left = length_left(s, q) + q->mean_work * (q->n_retries + q->inflight / 2.0);

    if (q->hold && q->fresh > place_ready(q)) /* the rest goes when somebody says so */
        left *= (double)(place_ready(q) + q->n_retries + q->inflight) /
                ((double)q->fresh + q->n_retries + q->inflight);
    return left * length_factor(s, q);
}

static bool runs(const struct batch_queue *q)
{
    return q->used && !q->closed && !q->paused && !q->stopped;
}

static struct forecast_job job_of(const struct sched *s, const struct batch_queue *q,
                                  usec_t now)
{
    bool idle = q->idle && !q->aged;

    return (struct forecast_job){
        .work = work_left(s, q),
        .deadline = q->deadline,
        .window = q->window > 0 ? q->window : q->deadline - now,
        .set = &q->lane->set,
        .level = q->critical ? LEVEL_CRITICAL
                 : idle      ? LEVEL_IDLE
                             : LEVEL_LOWEST + q->priority - SCHED_PRIORITY_MIN,
        .group = q->lane->group,
        .weight = s->groups[q->lane->group].weight,
    };
}

static int by_deadline(const void *a, const void *b)
{
    const struct batch_queue *const *p = a, *const *q = b;

    if ((*p)->deadline != (*q)->deadline)
        return (*p)->deadline < (*q)->deadline ? -1 : 1;
    return (*p)->seq < (*q)->seq ? -1 : 1;
}

/* Batches in the order of their deadlines, and what is to be done of them. */
struct all {
    struct batch_queue **queues;
    struct forecast_job *jobs;
    size_t n;
    double rates[LIMIT_UPSTREAMS];
    struct forecast f;
};

/* promised: those alone that have a deadline to be kept. */
static void all_get(const struct sched *s, bool promised, usec_t now, struct all *ret)
{
    ret->queues = mem_new_n(struct batch_queue *, s->n_batches + 1u);
    ret->jobs = mem_new_n(struct forecast_job, s->n_batches + 1u);
    ret->n = 0;
    for (uint32_t i = 0; i < s->n_batches; i++) {
        struct batch_queue *q = s->batches[i];

        if (runs(q) && (!promised ||
                        (!q->idle && q->deadline != USEC_INFINITY && q->deadline > now)))
            ret->queues[ret->n++] = q;
    }
    qsort(ret->queues, ret->n, sizeof *ret->queues, by_deadline);
    for (size_t i = 0; i < ret->n; i++)
        ret->jobs[i] = job_of(s, ret->queues[i], now);
    rates(s, true, ret->rates);
    ret->f = (struct forecast){.rates = ret->rates, .n_ups = s->n_ups, .now = now};
}

static void all_free(struct all *a)
{
    mem_free(a->queues);
    mem_free(a->jobs);
}

/* --- Once a second ------------------------------------------------------------------- */

static void rank(struct sched *s, struct batch_queue *q, bool critical, bool aged)
{
    if (q->critical == critical && q->aged == aged)
        return;
    q->critical = critical;
    q->aged = aged;
    if (q->level >= 0)
        turn_join(s, q);
}

/* It would take most of the time that it has, alone; it stays so then. */
static bool ages(const struct sched *s, const struct batch_queue *q,
                 const struct forecast *f)
{
    struct forecast_job j = job_of(s, q, f->now);

    if (q->deadline == USEC_INFINITY || q->aged)
        return q->aged;
    forecast_edf(f, &j, 1);
    return j.finish < USEC_INFINITY &&
           (double)(j.finish - f->now) > AGED * (double)(q->deadline - f->now);
}

void promise_judge(struct sched *s, usec_t now)
{
    struct all a;

    if (now < s->promises_at)
        return;
    s->promises_at = now + JUDGE_EVERY;
    all_get(s, true, now, &a);
    forecast_edf(&a.f, a.jobs, a.n);
    for (size_t i = 0; i < a.n; i++)
        rank(s, a.queues[i], a.jobs[i].critical, false);
    for (uint32_t i = 0; s->n_idle && i < s->n_batches; i++)
        if (runs(s->batches[i]) && s->batches[i]->idle)
            rank(s, s->batches[i], false, ages(s, s->batches[i], &a.f));
    all_free(&a);
}

void promise_stale(struct sched *s)
{
    s->promises_at = 0;
}

usec_t promise_wake(const struct sched *s)
{
    for (uint32_t i = 0; s->n_idle && i < s->n_batches; i++) {
        const struct batch_queue *q = s->batches[i];

        if (runs(q) && q->idle && !q->aged && q->level >= 0 &&
            q->deadline != USEC_INFINITY)
            return s->promises_at;
    }
    return USEC_INFINITY;
}

/* --- For those who ask --------------------------------------------------------------- */

/* What is in flight last is waited for: the mean time of a call at the slowest. */
static double last_call(const struct sched *s, const struct batch_queue *q)
{
    double most = 0;

    for (uint16_t i = 0; i < s->n_ups; i++) {
        double takes = speed_latency(&s->ups[i]);

        if (sched_set_has(&q->lane->set, i) && s->ups[i].state != SCHED_UP_DEAD &&
            takes > most)
            most = takes;
    }
    return most;
}

/* Its end as turns go; sooner where it will be critical in time. */
static usec_t end_of(const struct all *a, const struct forecast_job *edf, size_t i)
{
    const struct forecast_job *j = &a->jobs[i];
    usec_t first = edf[i].finish, saved = j->deadline == USEC_INFINITY
                                              ? USEC_INFINITY
                                              : j->deadline - forecast_margin(j->window);

    if (a->queues[i]->idle || first >= j->deadline || first == USEC_INFINITY)
        return j->finish;
    saved = saved > first ? saved : first;
    return j->finish < saved ? j->finish : saved;
}

static usec_t forecast_end(const struct sched *s, struct all *a, uint32_t batch,
                           bool sure)
{
    struct forecast_job *edf = mem_new_n(struct forecast_job, a->n + 1);
    usec_t end = USEC_INFINITY;

    rates(s, sure, a->rates);
    for (unsigned i = 0; sure && i < s->n_ups; i++)
        a->rates[i] *= FORECAST_PROMISED;
    memcpy(edf, a->jobs, a->n * sizeof *edf);
    forecast_edf(&a->f, edf, a->n);
    forecast_turns(&a->f, a->jobs, a->n);
    for (size_t i = 0; i < a->n; i++)
        if (a->queues[i]->handle == batch)
            end = end_of(a, edf, i);
    mem_free(edf);
    return end;
}

static usec_t later(usec_t t, double by)
{
    return t == USEC_INFINITY ? t : t + (usec_t)by;
}

void sched_batch_eta(const struct sched *s, uint32_t batch, usec_t now,
                     struct sched_eta *ret)
{
    const struct batch_queue *q = queue_of(s, batch);
    double last = last_call(s, q);
    struct all a;

    *ret = (struct sched_eta){USEC_INFINITY, USEC_INFINITY, work_left(s, q)};
    if (!runs(q))
        return;
    all_get(s, false, now, &a);
    ret->likely = later(forecast_end(s, &a, batch, false), last);
    ret->late = later(forecast_end(s, &a, batch, true), 2 * last);
    if (ret->late < ret->likely)
        ret->late = ret->likely;
    all_free(&a);
}

bool sched_batch_fits(const struct sched *s, uint32_t batch, usec_t now, usec_t *ret_at)
{
    const struct batch_queue *q = queue_of(s, batch);
    struct forecast_job more = job_of(s, q, now);
    size_t others = 0;
    struct all a;
    bool fits;

    all_get(s, true, now, &a);
    for (size_t i = 0; i < a.n; i++)
        if (a.queues[i] != q)
            a.jobs[others++] = a.jobs[i];
    fits = forecast_fits(&a.f, a.jobs, others, &more, ret_at);
    all_free(&a);
    return fits;
}
