/* SPDX-License-Identifier: Apache-2.0 */
/*
 * world: a virtual clock, replicas of sim/model behind a network, faults, and a policy that
 * sends calls to them.
 *
 * Owns: the calls; a call is gone when `over` has returned, or world_close.
 */
#pragma once

#include "core/outcome.h"
#include "sched/sched.h"
#include "tests/des/work.h"

#define REPLICAS_MAX 16

struct world;

struct call {
    /* the policy's */
    uint32_t request; /* of the workload */
    unsigned replica;
    usec_t sent;
    struct sched_ticket ticket;
    /* private */
    struct sim_seq seq;
    struct list at; /* of those at its replica */
    enum { CALL_WAY, CALL_SERVED, CALL_BACK, CALL_GONE } state;
    bool closed, closing, foreground; /* closing: a CLOSE is on its way, and frees it */
    struct sched_outcome outcome;
    struct sched_limits limits;
    bool has_limits;
};

struct policy {
    void *ctx;
    void (*pump)(void *ctx, usec_t now); /* something may have changed */
    void (*over)(void *ctx, struct call *c, const struct sched_outcome *o, usec_t now);
    void (*limited)(void *ctx, unsigned replica, const struct sched_limits *l,
                    usec_t now);
    void (*sampled)(void *ctx, unsigned replica, const struct sched_sample *m,
                    usec_t now);
    void (*probed)(void *ctx, unsigned replica, bool healthy, usec_t now);
    usec_t (*wake)(void *ctx, usec_t now);
    bool (*done)(void *ctx); /* nothing is left to be done */
    /* For the timeline: its window of a replica, and why. */
    const char *(*window)(void *ctx, unsigned replica, unsigned *ret);
};

/* Of a replica in [from, to): speed is `factor`; factor 0: it is down, its cache lost. */
struct trouble {
    unsigned replica;
    usec_t from, to;
    double factor;
};

struct world_opts {
    struct sim_model_opts model;
    unsigned replicas;
    uint64_t seed;
    usec_t latency;   /* one way; 0: 0.5 ms */
    usec_t scrape;    /* metrics are renewed so often; 0: always */
    bool no_metrics;  /* there are none */
    double transient; /* share of calls that fail with a 500 */
    bool denied;      /* every call is refused with a 401 */
    uint32_t poison;  /* every so many-th request breaks its connection; 0: none */
    double requests_per_min, tokens_per_min; /* quotas, told in headers; 0: none */
    bool refunds; /* tokens that a request could have taken and did not are given back */
    const struct trouble *troubles;
    unsigned n_troubles;
    double
        foreground; /* interactive requests a second in bursts, on all replicas; 0: none */
    usec_t until;   /* it ends then at the latest; 0: a year */
    usec_t trace;   /* a line of the timeline so often; 0: none */
};

struct result {
    double seconds, t95; /* the last result, that of the 95 % of the batch requests */
    uint64_t calls, rejects, hedges, closed, failed, preempted;
    double hits;     /* share of prompt tokens found */
    double tokens;   /* prompt and output of batch requests that are done */
    double ttft_p99; /* of interactive requests; seconds */
    uint64_t foregrounds;
    bool stuck;          /* it did not come to its end */
    unsigned most_calls; /* of one request */
};

struct world *world_new(const struct world_opts *o, const struct work *work);
struct world *world_free(struct world *w);
void world_run(struct world *w, const struct policy *p, struct result *ret);

/* For policies. */
struct call *world_send(struct world *w, uint32_t request, unsigned replica, usec_t now);
void world_close(struct world *w, struct call *c, usec_t now); /* c is gone */
void world_scrape(struct world *w, unsigned replica, usec_t now);
void world_probe(struct world *w, unsigned replica, usec_t now);
/* A request of the batch has its result; `good`: not an error. */
void world_final(struct world *w, uint32_t request, bool good, usec_t now);
