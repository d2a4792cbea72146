/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/meter.h"
#include "tests/lib/t.h"

#include <stdlib.h>

static const struct sim_state state = {.load = {.running = 3,
                                                .waiting = 2,
                                                .tokens = 41100,
                                                .model = {.running = 3,
                                                          .waiting = 2,
                                                          .kv_used = 1600,
                                                          .kv_total = 16000,
                                                          .preemptions = 4,
                                                          .hits = 250,
                                                          .queries = 1000,
                                                          .generated = 77}},
                                       .model = "m",
                                       .modelled = true,
                                       .slots = 4,
                                       .born_sec = 1795564800};

/* The value in the line that begins with `name`; -1: there is none. */
static double value(const struct buf *b, const char *name)
{
    struct str text = buf_peek(b);

    while (text.n) {
        struct str line = str_cut(&text, '\n');

        if (str_starts(line, str_of(name))) /* the line feed ends the number */
            return strtod((const char *)memrchr(line.p, ' ', line.n) + 1, NULL);
    }
    return -1;
}

static struct buf told(const struct sim_state *s, enum sim_flavour flavour)
{
    struct sim_meter m = {.prompt_tokens = 500, .generation_tokens = 60, .stopped = 5};
    struct buf b;

    buf_init(&b, 1 << 20);
    sim_meter_text(&m, s, flavour, &b);
    EQ_RC(buf_failed(&b), RC_OK);
    return b;
}

TEST(vllm_has_the_names_and_labels_of_vllm)
{
    struct buf b = told(&state, SIM_VLLM);

    EQ_INT(value(&b, "vllm:num_requests_running{engine=\"0\",model_name=\"m\"} "), 3);
    EQ_INT(value(&b, "vllm:num_requests_waiting{"), 2);
    OK(value(&b, "vllm:kv_cache_usage_perc{") == 0.1);
    EQ_INT(value(&b, "vllm:num_preemptions_total{"), 4);
    EQ_INT(value(&b, "vllm:prefix_cache_queries_total{"), 1000);
    EQ_INT(value(&b, "vllm:prefix_cache_hits_total{"), 250);
    EQ_INT(value(&b, "vllm:generation_tokens_total{"), 77);
    EQ_INT(value(&b, "vllm:request_success_total{engine=\"0\",finished_reason=\"stop\""),
           5);
    EQ_INT(value(&b, "vllm:time_to_first_token_seconds_count{"), 0);
    EQ_INT(value(&b, "process_start_time_seconds "), 1795564800);
    OK(memmem(b.p, b.n, "num_gpu_blocks=\"1000\"} 1.0\n", 27));
    OK(memmem(b.p, b.n, "block_size=\"16\"", 15));
    buf_done(&b);
}

TEST(sglang_has_the_names_of_sglang)
{
    struct buf b = told(&state, SIM_SGLANG);

    EQ_INT(value(&b, "sglang:num_running_reqs{"), 3);
    EQ_INT(value(&b, "sglang:num_queue_reqs{"), 2);
    OK(value(&b, "sglang:token_usage{") == 0.1);
    OK(value(&b, "sglang:cache_hit_rate{") == 0.25);
    EQ_INT(value(&b, "sglang:num_used_tokens{"), 1600);
    EQ_INT(value(&b, "sglang:max_total_num_tokens{"), 16000);
    OK(!memmem(b.p, b.n, "vllm:", 5));
    buf_done(&b);
}

TEST(llamacpp_has_names_without_labels)
{
    struct buf b = told(&state, SIM_LLAMACPP);

    EQ_INT(value(&b, "llamacpp:requests_processing "), 3);
    EQ_INT(value(&b, "llamacpp:requests_deferred "), 2);
    EQ_INT(value(&b, "llamacpp:prompt_tokens_total "), 750);
    EQ_INT(value(&b, "llamacpp:tokens_predicted_total "), 77);
    OK(!memchr(b.p, '{', b.n));
    buf_done(&b);
}

TEST(without_a_model_the_meter_itself_is_told)
{
    struct sim_state plain = state;
    struct buf b;

    plain.modelled = false;
    b = told(&plain, SIM_VLLM);
    OK(value(&b, "vllm:kv_cache_usage_perc{") == 0.1);
    EQ_INT(value(&b, "vllm:prompt_tokens_total{"), 500);
    EQ_INT(value(&b, "vllm:generation_tokens_total{"), 60);
    EQ_INT(value(&b, "vllm:prefix_cache_hits_total{"), 0);
    OK(!memmem(b.p, b.n, "cache_config_info", 17));
    buf_done(&b);
    b = told(&plain, SIM_NO_METRICS);
    EQ_INT(b.n, 0);
    buf_done(&b);
}

TEST(servers_tell_how_many_they_run_at_once)
{
    struct sim_state plain = state;
    struct buf b;

    buf_init(&b, 4096);
    sim_meter_props(&state, &b);
    OK(memmem(b.p, b.n, "\"total_slots\":4,", 16) &&
       memmem(b.p, b.n, "\"n_ctx\":4000", 12));
    buf_reset(&b);
    sim_meter_info(&state, &b);
    OK(memmem(b.p, b.n, "\"max_running_requests\":4,", 25));
    OK(memmem(b.p, b.n, "\"max_total_num_tokens\":16000", 28));
    plain.slots = 0;
    buf_reset(&b);
    sim_meter_info(&plain, &b);
    OK(memmem(b.p, b.n, "\"max_running_requests\":null", 27));
    buf_done(&b);
}
