/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_int: how the scenarios tell what they measured.
 *
 *   check_window.c  windows, prefixes, whole runs
 *   check_share.c   interactive load, tenants, deadlines
 *   check_fault.c   faults, quotas
 */
#pragma once

#include "tests/des/check.h"
#include "tests/des/run.h"

#define CHECK_SEED 11 /* windows and the like were tuned on 1 to 3 */
#define CLAIMS_MAX 24

struct claim {
    char what[120];
    double value, goal;
    bool most; /* the goal is the most it may be, not the least */
};

struct report {
    struct claim claims[CLAIMS_MAX];
    unsigned n;
};

PRINTF_FMT(4, 5)
void claim(struct report *r, double value, double goal, const char *what, ...);
PRINTF_FMT(4, 5)
void claim_most(struct report *r, double value, double goal, const char *what, ...);

typedef void check_fn(struct report *r);

/* A run that does not come to its end takes forever. */
double check_seconds(const struct run *r, const struct work *work);
/* Of our order and placement with windows that do not move: the shortest. */
double check_best(const struct run *r, const struct work *work);

/* One run of ours with batches, until the world says so, or batch `until` (-1: all) has
 * ended; what became of them is asked by `ask` (NULL is fine). */
typedef void ask_fn(const struct ours *u, void *ctx);
struct result check_batches(const struct run *r, const struct work *work, int until,
                            ask_fn *ask, void *ctx);

check_fn check_start, check_scrape, check_knee, check_capacity, check_hard_limit,
    check_hits, check_replicas, check_slow, check_mean, check_mean_faults;
check_fn check_interactive, check_weights, check_small, check_deadlines;
check_fn check_requests_quota, check_tokens_quota, check_transient, check_denied,
    check_poison;
