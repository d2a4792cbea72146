/* SPDX-License-Identifier: Apache-2.0 */
/*
 * meter: the counters behind /metrics, and their text under the names of several servers:
 *
 *   vLLM       https://docs.vllm.ai/en/latest/usage/metrics.html
 *   SGLang     https://docs.sglang.io/references/production_metrics.html
 *   llama.cpp  tools/server/README.md, GET /metrics
 *
 * Threads: one.
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
    /* Whole requests; the wait for a slot; until the first token, when that is known. */
    struct sim_histogram latency, queue, first;
};

/* What there is to tell beside the counters. */
struct sim_state {
    struct sim_load load;
    const char *model;
    bool modelled;    /* load.model is true */
    uint64_t slots;   /* that run at once; 0: no limit */
    int64_t born_sec; /* when the process began, as it seems; since 1970 */
};

void sim_meter_done(struct sim_meter *m, const struct sim_request *rq,
                    const struct sim_job *job, usec_t now);
/* Failures stay in dst.  Of SIM_NO_METRICS: nothing. */
void sim_meter_text(const struct sim_meter *m, const struct sim_state *s,
                    enum sim_flavour flavour, struct buf *dst);
/* What llama.cpp answers under /props, and SGLang under /get_server_info. */
void sim_meter_props(const struct sim_state *s, struct buf *dst);
void sim_meter_info(const struct sim_state *s, struct buf *dst);
