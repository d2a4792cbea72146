/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sched_trace_int: how the scheduler's calls get into its trace.  Each public function that
 * changes something ends with one of these; without a trace that is one test.
 */
#pragma once

#include "sched/sched.h"

/* X(kind, integers, doubles): the least of each that a record has. */
#define TRACE_KINDS(X)                                                                   \
    X(NEW, 7, 0)       /* max_attempts, base, cap, probe base, cap, retry-after, seed */ \
    X(UPSTREAM, 5, 3)  /* window, start, fixed, aborts, handle; quotas, reserve */       \
    X(ABORTS, 2, 0)    /* upstream, aborts */                                            \
    X(HINT, 3, 0)      /* upstream, slots, KV tokens */                                  \
    X(DUE, 3, 0)       /* now, was one, upstream: sched_sample_due */                    \
    X(SAMPLED, 3, 6)   /* now, upstream, was one; the sample */                          \
    X(LIMITED, 4, 4)   /* now, upstream, resets; the limits */                           \
    X(PROBE, 3, 0)     /* now, was one, upstream */                                      \
    X(PROBED, 3, 0)    /* now, upstream, healthy */                                      \
    X(GROUP, 2, 1)     /* max in flight, handle; weight */                               \
    X(LINES, 0, 0)     /* of the next batch: item, prompt, shared, max_out of each */    \
    X(KEYS, 0, 0)      /* likewise */                                                    \
    X(DONE_BITS, 0, 0) /* likewise: 8 bits each */                                       \
    X(BATCH, 11, 0)    /* see trace_batch; the set */                                    \
    X(EDIT, 5, 0)      /* batch, priority, paused, hold, deadline */                     \
    X(IDLE, 2, 0)      /* batch, idle */                                                 \
    X(SET, 1, 0)       /* batch; the set, or none */                                     \
    X(RESUME, 1, 0)    /* batch */                                                       \
    X(CLOSE, 1, 0)     /* batch */                                                       \
    X(REMOVE, 1, 0)    /* batch */                                                       \
    X(PAUSE, 1, 0)                                                                       \
    X(NEXT, 2, 0)    /* max, now; the tickets */                                         \
    X(DONE, 8, 0)    /* now, call, class, retry_after, usage; verdict at the end */      \
    X(LOSERS, 1, 0)  /* max; the calls */                                                \
    X(ABORTED, 2, 0) /* now, call */

enum trace_kind {
#define X(kind, ints, doubles) TRACE_##kind,
    TRACE_KINDS(X)
#undef X
        TRACE_KIND_COUNT
};

#define TRACE_MAX 512 /* integers of a record */

struct trace_rec {
    enum trace_kind kind;
    unsigned n, nd;
    int64_t v[TRACE_MAX];
    double d[8];
};

struct trace_out {
    void (*fn)(void *ctx, const void *bytes, size_t n); /* NULL: there is no trace */
    void *ctx;
};

void trace_put(const struct trace_out *to, enum trace_kind kind, const int64_t *v,
               unsigned n, const double *d, unsigned nd);

/* Integers alone. */
#define TRACE(s, kind, ...)                                                              \
    do {                                                                                 \
        if (UNLIKELY((s)->trace.fn)) {                                                   \
            const int64_t trace_v_[] = {__VA_ARGS__};                                    \
            trace_put(&(s)->trace, TRACE_##kind, trace_v_, COUNTOF(trace_v_), NULL, 0);  \
        }                                                                                \
    } while (0)

void trace_upstream(const struct trace_out *to, const struct sched_upstream_opts *o,
                    uint16_t handle);
void trace_sampled(const struct trace_out *to, uint16_t up, const struct sched_sample *m,
                   usec_t now);
void trace_limited(const struct trace_out *to, uint16_t up, const struct sched_limits *l,
                   usec_t now);
void trace_batch(const struct trace_out *to, const struct sched_batch_opts *o,
                 uint32_t handle, usec_t now);
void trace_set(const struct trace_out *to, uint32_t batch, const struct sched_set *set);
void trace_tickets(const struct trace_out *to, enum trace_kind kind, size_t max,
                   usec_t now, const struct sched_ticket *t, size_t n);
