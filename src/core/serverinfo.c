/* SPDX-License-Identifier: Apache-2.0 */
#include "core/serverinfo.h"
#include "base/limits.h"
#include "json/json.h"

/* A thousand GPUs of 80 GB hold less. */
#define KV_MOST ((uint64_t)1 << 40)

enum {
    V_TOTAL_SLOTS,
    V_RUNNING,
    V_CONCURRENT,
    V_STATES,
    V_TOKENS,
    V_BATCH_TOKENS,
    V_COUNT
};

static const struct json_want wants[V_COUNT] = {
    [V_TOTAL_SLOTS] = {"total_slots", -1},
    [V_RUNNING] = {"max_running_requests", -1},
    [V_CONCURRENT] = {"max_concurrent_requests", -1},
    [V_STATES] = {"internal_states", -1},
    [V_TOKENS] = {"max_total_num_tokens", -1},
    [V_BATCH_TOKENS] = {"max_batch_total_tokens", -1},
};

static uint64_t number(const struct json_val *v, uint64_t most)
{
    uint64_t n = 0;

    if (v->type != JSON_NUMBER || json_u64(v, &n) != RC_OK)
        return 0;
    return n < most ? n : most;
}

/* Of SGLang's data-parallel ranks together. */
static uint64_t of_states(const struct json_val *states)
{
    static const struct json_want want = {"effective_max_running_requests_per_dp", -1};
    struct json_iter it = json_iter(states);
    struct json_val state, v;
    uint64_t sum = 0;

    while (states->type == JSON_ARRAY && json_next(&it, &(struct str){0}, &state))
        if (json_read(state.raw, NULL, &want, 1, &v, NULL, NULL) == RC_OK)
            sum += number(&v, LIMIT_INFLIGHT);
    return sum;
}

static uint64_t first_of(uint64_t a, uint64_t b)
{
    return a ? a : b;
}

bool serverinfo_read(struct str body, struct serverinfo *ret)
{
    struct json_val v[V_COUNT];
    uint64_t slots;

    *ret = (struct serverinfo){0};
    if (json_read(body, NULL, wants, V_COUNT, v, NULL, NULL) != RC_OK)
        return false;
    slots = first_of(of_states(&v[V_STATES]), number(&v[V_RUNNING], LIMIT_INFLIGHT));
    slots = first_of(slots, number(&v[V_TOTAL_SLOTS], LIMIT_INFLIGHT));
    slots = first_of(slots, number(&v[V_CONCURRENT], LIMIT_INFLIGHT));
    ret->slots = (unsigned)(slots < LIMIT_INFLIGHT ? slots : LIMIT_INFLIGHT);
    ret->kv_tokens =
        first_of(number(&v[V_TOKENS], KV_MOST), number(&v[V_BATCH_TOKENS], KV_MOST));
    return ret->slots || ret->kv_tokens;
}
