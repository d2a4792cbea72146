/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fluid: servers that a scheduler can be tried on, in steps of time: so many calls run at
 * once and share what the server can do, the others wait or are refused.
 *
 *     work a second = most * n / (n + half)        with n calls running
 */
#pragma once

#include "base/mem.h"
#include "sched/sched.h"
#include "tests/lib/t.h"

#include <math.h>
#include <string.h>

#define SEC        USEC_PER_SEC
#define FLUID_STEP (5 * USEC_PER_MS)
#define FLUID_UPS  4
#define FLUID_JOBS 8192

enum fluid_metrics { METRICS_TRUE, METRICS_NONE, METRICS_FROZEN, METRICS_FOREIGN };

struct fluid_server {
    double most, half; /* tokens of work a second */
    unsigned slots;    /* run at once */
    unsigned limit;    /* running and waiting, 0: any number; more are refused */
    double refuses;    /* that share of calls whatever there is */
    usec_t retry_after;
    enum fluid_metrics metrics;
    usec_t every;    /* metrics are given no more often */
    unsigned others; /* calls of others, running */
    bool dead;

    unsigned running, waiting, inflight, max_inflight;
    uint64_t came, refused;
    double done; /* work */
    usec_t told;
    struct sched_sample sample;
};

struct fluid_job {
    struct sched_ticket t;
    double left;
    uint32_t tokens;
    bool runs;
};

struct fluid {
    struct sched *s;
    usec_t now;
    uint64_t rng;
    double sigma; /* of the logarithm of the length of answers */
    double mean;  /* their median, tokens */
    unsigned n_ups, n_jobs;
    struct fluid_server up[FLUID_UPS];
    struct fluid_job job[FLUID_JOBS]; /* in the order of their coming */
};

static inline double fluid_random(struct fluid *f)
{
    f->rng ^= f->rng << 13;
    f->rng ^= f->rng >> 7;
    f->rng ^= f->rng << 17;
    return (double)(f->rng >> 11) / 9007199254740992.0;
}

static inline double fluid_normal(struct fluid *f)
{
    double sum = -6;

    for (unsigned i = 0; i < 12; i++)
        sum += fluid_random(f);
    return sum;
}

static inline struct fluid *fluid_new(unsigned n_ups, const struct sched_upstream_opts *o,
                                      const struct fluid_server *like)
{
    struct fluid *f = mem_new(struct fluid);

    f->s = sched_new(&(struct sched_opts){.seed = 5});
    f->rng = 88172645463325252u;
    f->mean = 200;
    f->sigma = 0.7;
    f->n_ups = n_ups;
    f->now = SEC;
    for (unsigned i = 0; i < n_ups; i++) {
        EQ_INT(sched_upstream_add(f->s, o), i);
        f->up[i] = *like;
    }
    return f;
}

static inline void fluid_free(struct fluid *f)
{
    sched_free(f->s);
    mem_free(f);
}

/* More lines than will be done. */
static inline uint32_t fluid_batch(struct fluid *f, bool idle)
{
    return sched_batch_add(f->s,
                           &(struct sched_batch_opts){.n_items = 1000000,
                                                      .deadline = USEC_INFINITY,
                                                      .idle = idle},
                           f->now);
}

static inline void fluid_end(struct fluid *f, const struct sched_ticket *t,
                             enum outcome_class cls, uint32_t tokens)
{
    struct fluid_server *u = &f->up[t->upstream];

    u->inflight--;
    IGNORE(sched_done(
        f->s, t,
        &(struct sched_outcome){.cls = cls,
                                .retry_after = cls == OUTCOME_CAPACITY && u->retry_after
                                                   ? u->retry_after
                                                   : -1,
                                .has_usage = cls == OUTCOME_DONE,
                                .prompt = 10,
                                .output = tokens},
        f->now));
}

static inline void fluid_come(struct fluid *f, const struct sched_ticket *t)
{
    struct fluid_server *u = &f->up[t->upstream];

    u->came++;
    u->inflight++;
    if (u->inflight > u->max_inflight)
        u->max_inflight = u->inflight;
    if (u->dead) {
        fluid_end(f, t, OUTCOME_HOST, 0);
    } else if ((u->limit && u->running + u->waiting >= u->limit) ||
               fluid_random(f) < u->refuses) {
        u->refused++;
        fluid_end(f, t, OUTCOME_CAPACITY, 0);
    } else {
        struct fluid_job *j = &f->job[f->n_jobs++];

        OK(f->n_jobs < FLUID_JOBS);
        *j = (struct fluid_job){.t = *t};
        j->tokens = 1 + (uint32_t)(f->mean * exp(f->sigma * fluid_normal(f)));
        j->left = j->tokens;
        u->waiting++;
    }
}

static inline void fluid_work(struct fluid *f)
{
    double each[FLUID_UPS];
    unsigned keep = 0, n = f->n_jobs;

    for (unsigned i = 0; i < f->n_ups; i++) {
        struct fluid_server *u = &f->up[i];
        double calls = u->running + u->others;

        each[i] = calls > 0 ? u->most / (calls + u->half) * FLUID_STEP / SEC : 0;
    }
    for (unsigned i = 0; i < n; i++) {
        struct fluid_job j = f->job[i];
        struct fluid_server *u = &f->up[j.t.upstream];

        if (!j.runs && u->running + u->others < u->slots) {
            j.runs = true;
            u->running++;
            u->waiting--;
        }
        if (j.runs) {
            j.left -= each[j.t.upstream];
            u->done += each[j.t.upstream];
        }
        if (j.runs && (j.left <= 0 || u->dead)) {
            u->running--;
            fluid_end(f, &j.t, u->dead ? OUTCOME_BROKEN : OUTCOME_DONE, j.tokens);
            continue;
        }
        f->job[keep++] = j;
    }
    f->n_jobs = keep;
}

static inline void fluid_metrics(struct fluid *f)
{
    uint16_t up;

    while (sched_sample_due(f->s, &up, f->now)) {
        struct fluid_server *u = &f->up[up];
        struct sched_sample m = {.running = u->running + u->others,
                                 .waiting = u->waiting,
                                 .kv = 0.5 + 0.0001 * u->running,
                                 .preemptions = -1,
                                 .prefix_hits = -1,
                                 .prefix_queries = (double)u->came};

        if (u->metrics == METRICS_FROZEN)
            m = u->sample;
        if (u->metrics == METRICS_FOREIGN)
            m.running = m.waiting = 0;
        if (f->now - u->told < u->every)
            m = u->sample;
        else
            u->told = f->now;
        u->sample = m;
        sched_sampled(f->s, up, u->metrics == METRICS_NONE || u->dead ? NULL : &m,
                      f->now);
    }
}

static inline void fluid_step(struct fluid *f)
{
    struct sched_ticket t[64];
    size_t n;
    uint16_t up;

    f->now += FLUID_STEP;
    fluid_metrics(f);
    while (sched_probe(f->s, &up, f->now))
        sched_probe_done(f->s, up, !f->up[up].dead, f->now);
    for (unsigned rounds = 0; rounds < 64; rounds++) {
        n = sched_next(f->s, t, COUNTOF(t), f->now);
        for (size_t i = 0; i < n; i++)
            fluid_come(f, &t[i]);
        if (n == 0)
            break;
    }
    fluid_work(f);
}

/* Work done by all meanwhile, a second. */
static inline double fluid_run(struct fluid *f, usec_t time)
{
    usec_t from = f->now;
    double done = 0;

    for (unsigned i = 0; i < f->n_ups; i++) {
        done -= f->up[i].done;
        f->up[i].came = f->up[i].refused = 0;
        f->up[i].max_inflight = f->up[i].inflight;
    }
    while (f->now < from + time)
        fluid_step(f);
    for (unsigned i = 0; i < f->n_ups; i++)
        done += f->up[i].done;
    return done / ((double)time / SEC);
}

static inline struct sched_up_view fluid_view(const struct fluid *f, uint16_t up)
{
    struct sched_up_view v;

    sched_upstream_view(f->s, up, &v);
    return v;
}

/* What a server does with n calls, all the time. */
static inline double fluid_best(const struct fluid_server *u, double n)
{
    n = n < u->slots ? n : u->slots;
    return u->most * n / (n + u->half);
}
