/* SPDX-License-Identifier: Apache-2.0 */
/*
 * meter: the counters behind /metrics, under vLLM's names.  Threads: one.
 */
#pragma once

#include "base/buf.h"
#include "sim/engine.h"
#include "sim/request.h"

#define SIM_BUCKETS 12 /* the last one is +Inf */

struct sim_histogram {
    uint64_t count[SIM_BUCKETS]; /* each on its own; summed up when told */
    usec_t sum;
};

struct sim_meter {
    uint64_t prompt_tokens, generation_tokens;
    uint64_t stopped, capped, aborted;
    struct sim_histogram latency, queue; /* whole requests; the wait for a slot */
};

void sim_meter_done(struct sim_meter *m, const struct sim_request *rq,
                    const struct sim_job *job, usec_t now);
void sim_meter_text(const struct sim_meter *m, struct sim_load load, const char *model,
                    struct buf *dst);
