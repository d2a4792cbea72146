/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serverinfo: how many requests an inference server runs at a time, and how many tokens it
 * holds, from the JSON in which it tells its settings.  Pure.
 *
 *   llama.cpp  GET /props            total_slots
 *   SGLang     GET /get_server_info  effective_max_running_requests_per_dp of each of its
 *                                    internal_states, else max_running_requests;
 *                                    max_total_num_tokens
 *   TGI        GET /info             max_concurrent_requests; max_batch_total_tokens
 *
 * Threads: any.
 */
#pragma once

#include "base/str.h"

struct serverinfo {
    unsigned slots;     /* 0: not told; at most LIMIT_INFLIGHT */
    uint64_t kv_tokens; /* 0: not told */
};

/* false: nothing of it is told. */
bool serverinfo_read(struct str body, struct serverinfo *ret);
