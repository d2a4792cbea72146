/* SPDX-License-Identifier: Apache-2.0 */
/*
 * promtext: what an inference server's metrics (Prometheus text, exposition format 0.0.4)
 * say of its load, and whether they are those of one server.  Pure.
 *
 * The names that are known, each server's own:
 *
 *   vLLM       vllm:num_requests_running, _waiting; vllm:kv_cache_usage_perc (before 0.10
 *              gpu_cache_usage_perc); vllm:num_preemptions_total; prefix_cache_hits_total,
 *              prefix_cache_queries_total (before that with gpu_); the labels num_gpu_blocks
 *              and block_size of vllm:cache_config_info (docs.vllm.ai, Production Metrics)
 *   SGLang     sglang:num_running_reqs, num_queue_reqs, token_usage,
 *              num_retracted_requests_total, cached_tokens_total of prompt_tokens_total,
 *              max_total_num_tokens (docs.sglang.io, Production Metrics)
 *   llama.cpp  llamacpp:requests_processing, requests_deferred, kv_cache_usage_ratio
 *              (tools/server/README.md; newer ones have no ratio)
 *   TGI        tgi_batch_current_size, tgi_queue_size (huggingface.co, TGI metrics)
 *
 * A server that runs several engines tells each on its own (labels): they are summed, of
 * their KV memory the fullest counts.  A name that another one replaced counts only where
 * the new one is not told: vLLM told both for a while.
 *
 * Whatever else stands in the text is passed over, and a line that makes no sense says
 * nothing: a body that is no metrics at all leaves everything untold.
 *
 * Owns:    nothing.
 * Threads: any.
 */
#pragma once

#include "base/str.h"

/* Numbers below 0: not told. */
struct promtext {
    double running, waiting;             /* requests */
    double kv;                           /* share of the KV memory in use, 0 to 1 */
    double preemptions;                  /* so far */
    double prefix_hits, prefix_queries;  /* tokens, so far */
    double prompt_tokens, output_tokens; /* so far */
    double kv_tokens; /* what the KV memory holds, all engines together */
    bool is_vllm;     /* the load is told in its words */
    double started;   /* process_start_time_seconds: since the epoch */
};

/* One pass, nothing allocated.  false: not a single load figure (running or waiting). */
bool promtext_read(struct str text, struct promtext *ret);

/*
 * Is what comes from one address all of one server?  Behind a load balancer each answer
 * may be another's: then counters fall and start times come back.  A server that was
 * started again makes that once, and its start time is a later one.
 */
struct promwatch {
    usec_t distrusted_until; /* 0: it is believed */
    usec_t fell;             /* when counters fell last without a reason; 0: never */
    bool known;              /* last is filled in */
    struct promtext last;
};

#define PROMWATCH_AGAIN (600 * USEC_PER_SEC) /* so long after the last sign of several */

void promwatch_init(struct promwatch *w);
/* false: these are several servers' by turns, or were within PROMWATCH_AGAIN. */
bool promwatch_see(struct promwatch *w, const struct promtext *p, usec_t now);
