/* SPDX-License-Identifier: Apache-2.0 */
/*
 * run: one workload, one policy, one world.
 */
#pragma once

#include "tests/des/policy.h"

struct run {
    const char *policy; /* "ours", "order:N" (its order, a fixed window), "fcfs:N" */
    struct world_opts world;
    struct ours_opts ours;
};

/* As most tests want it: h100-8b, four of them. */
struct run run_of(const char *policy, unsigned replicas, uint64_t seed);
/* false: there is no such policy. */
bool run_valid(const char *policy);
struct result run_do(const struct run *r, const struct work *work);

/* The standard faults, in a run as long as `seconds`: 2 % of calls fail, one replica crashes
 * and comes back, one is five times slow for a fifth. */
#define STANDARD_TROUBLES 2
void standard_faults(struct run *r, double seconds,
                     struct trouble troubles[STANDARD_TROUBLES]);
