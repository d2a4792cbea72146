/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/t.h"
#include "core/promtext.h"

static struct promtext read_text(const char *text)
{
    struct promtext p;

    (void)promtext_read(str_of(text), &p);
    return p;
}

#define EQ_NUM(got, want) EQ_INT((got)*1e6 + ((got) < 0 ? -0.5 : 0.5), (want)*1e6)

TEST(what_vllm_tells_is_read)
{
    static const char text[] =
        "# HELP vllm:num_requests_running Number of requests in execution batches.\n"
        "# TYPE vllm:num_requests_running gauge\n"
        "vllm:num_requests_running{engine=\"0\",model_name=\"meta/llama {3}\"} 12.0\n"
        "vllm:num_requests_waiting{engine=\"0\",model_name=\"m\"} 3.0\n"
        "vllm:num_requests_waiting_by_reason{engine=\"0\",reason=\"capacity\"} 99.0\n"
        "vllm:kv_cache_usage_perc{engine=\"0\",model_name=\"m\"} 0.4125\n"
        "vllm:num_preemptions_total{engine=\"0\",model_name=\"m\"} 7.0\n"
        "vllm:num_preemptions_created{engine=\"0\",model_name=\"m\"} 1.7e+09\n"
        "vllm:prefix_cache_queries_total{engine=\"0\",model_name=\"m\"} 1.5e+06\n"
        "vllm:prefix_cache_hits_total{engine=\"0\",model_name=\"m\"} 25e4\n"
        "vllm:prompt_tokens_total{engine=\"0\",model_name=\"m\"} 50000.0\n"
        "vllm:generation_tokens_total{engine=\"0\",model_name=\"m\"} 2000.0\n"
        "vllm:cache_config_info{block_size=\"16\",cache_dtype=\"auto\",engine=\"0\","
        "gpu_memory_utilization=\"0.82\",num_gpu_blocks=\"573\",sliding_window=\"None\"} 1.0\n"
        "process_start_time_seconds 1.79e+09\n";
    struct promtext p;

    OK(promtext_read(STR(text), &p));
    EQ_NUM(p.running, 12);
    EQ_NUM(p.waiting, 3);
    EQ_NUM(p.kv, 0.4125);
    EQ_NUM(p.preemptions, 7);
    EQ_NUM(p.prefix_queries, 1500000);
    EQ_NUM(p.prefix_hits, 250000);
    EQ_NUM(p.prompt_tokens, 50000);
    EQ_NUM(p.output_tokens, 2000);
    EQ_NUM(p.kv_tokens, 16 * 573);
    EQ_NUM(p.started, 1790000000);
    OK(p.is_vllm);
}

TEST(what_the_other_servers_tell_is_read)
{
    struct promtext p = read_text(
        "sglang:num_running_reqs{model_name=\"m\"} 9.0\n"
        "sglang:num_queue_reqs{model_name=\"m\"} 4.0\n"
        "sglang:token_usage{model_name=\"m\"} 0.28\n"
        "sglang:num_retracted_reqs{model_name=\"m\"} 5.0\n"
        "sglang:num_retracted_requests_total{model_name=\"m\"} 48.0\n"
        "sglang:prompt_tokens_total{model_name=\"m\"} 8.128902e+06\n"
        "sglang:cached_tokens_total{cache_source=\"device\",model_name=\"m\"} 10\n"
        "sglang:cached_tokens_total{cache_source=\"host\",model_name=\"m\"} 5\n"
        "sglang:max_total_num_tokens{model_name=\"m\"} 163840.0\n");

    t_row("SGLang");
    EQ_NUM(p.running, 9);
    EQ_NUM(p.waiting, 4);
    EQ_NUM(p.kv, 0.28);
    EQ_NUM(p.preemptions, 48);
    EQ_NUM(p.prefix_hits, 15);
    EQ_NUM(p.prefix_queries, 8128902);
    EQ_NUM(p.kv_tokens, 163840);
    EQ_NUM(p.started, -1);
    OK(!p.is_vllm);

    t_row("llama.cpp");
    p = read_text("llamacpp:requests_processing 4\nllamacpp:requests_deferred 46\n");
    EQ_NUM(p.running, 4);
    EQ_NUM(p.waiting, 46);
    EQ_NUM(p.kv, -1);
    EQ_NUM(p.prefix_queries, -1);
    p = read_text("llamacpp:requests_processing 0\nllamacpp:kv_cache_usage_ratio 0.5\n");
    EQ_NUM(p.kv, 0.5);

    t_row("TGI");
    p = read_text("tgi_batch_current_size 8\ntgi_queue_size 2\n"
                  "tgi_batch_current_max_tokens 2048\n");
    EQ_NUM(p.running, 8);
    EQ_NUM(p.waiting, 2);
}

TEST(engines_of_one_server_are_summed_and_the_fullest_memory_counts)
{
    struct promtext p = read_text(
        "vllm:num_requests_running{engine=\"0\"} 3\n"
        "vllm:num_requests_running{engine=\"1\"} 4\n"
        "vllm:num_requests_waiting{engine=\"0\"} 0\n"
        "vllm:num_requests_waiting{engine=\"1\"} 2\n"
        "vllm:kv_cache_usage_perc{engine=\"0\"} 0.2\n"
        "vllm:kv_cache_usage_perc{engine=\"1\"} 0.9\n"
        "vllm:cache_config_info{engine=\"0\",num_gpu_blocks=\"10\",block_size=\"16\"} 1\n"
        "vllm:cache_config_info{engine=\"1\",num_gpu_blocks=\"20\",block_size=\"16\"} 1\n");

    EQ_NUM(p.running, 7);
    EQ_NUM(p.waiting, 2);
    EQ_NUM(p.kv, 0.9);
    EQ_NUM(p.kv_tokens, 480);
}

TEST(a_name_that_was_replaced_counts_only_without_its_heir)
{
    struct promtext p = read_text("vllm:num_requests_running 1\n"
                                  "vllm:gpu_cache_usage_perc 0.9\n"
                                  "vllm:gpu_prefix_cache_hits_total 50\n"
                                  "vllm:gpu_prefix_cache_queries_total 100\n");

    EQ_NUM(p.kv, 0.9);
    EQ_NUM(p.prefix_hits, 50);
    EQ_NUM(p.prefix_queries, 100);
    p = read_text(
        "vllm:gpu_cache_usage_perc 0.9\nvllm:kv_cache_usage_perc 0.3\n"
        "vllm:gpu_prefix_cache_hits_total 50\nvllm:prefix_cache_hits_total 50\n");
    EQ_NUM(p.kv, 0.3);
    EQ_NUM(p.prefix_hits, 50);
}

TEST(rubbish_says_nothing)
{
    static const char *const rows[] = {
        "",
        "\n\n\n",
        "<html>vllm:num_requests_running 5</html>",
        "vllm:num_requests_running",
        "vllm:num_requests_running ",
        "vllm:num_requests_running{ 5",
        "vllm:num_requests_running{a=\"} 5",
        "vllm:num_requests_running{a=\"b\"}",
        "vllm:num_requests_running NaN",
        "vllm:num_requests_running +Inf",
        "vllm:num_requests_running -1",
        "vllm:num_requests_running 5x",
        "vllm:num_requests_running 1e",
        "vllm:num_requests_running .",
        "vllm:num_requests_running 1e999",
        "vllm:num_requests_running 99999999999999999999999999999999999999",
        "vllm:num_requests_runnin 5",
        "vllm:num_requests_running_total 5",
        "# vllm:num_requests_running 5",
        "{\"vllm:num_requests_running\": 5}",
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct promtext p;

        t_row(rows[i]);
        OK(!promtext_read(str_of(rows[i]), &p));
        EQ_NUM(p.running, -1);
        EQ_NUM(p.waiting, -1);
    }
}

TEST(forms_of_numbers_and_lines)
{
    static const struct {
        const char *text;
        double want;
    } rows[] = {
        {"tgi_queue_size 7\r\n", 7},
        {"\t tgi_queue_size\t7 1690000000000\n", 7},
        {"tgi_queue_size {a=\"b\\\"}\"} 7", 7},
        {"tgi_queue_size{} +7", 7},
        {"tgi_queue_size 70e-1", 7},
        {"tgi_queue_size 0.7E1", 7},
        {"tgi_queue_size 7.", 7},
        {"x\ntgi_queue_size 7\n\0y", 7},
        {"tgi_queue_size 1e-400", 0},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        t_row(rows[i].text);
        EQ_NUM(read_text(rows[i].text).waiting, rows[i].want);
    }
}

TEST(blocks_that_are_no_numbers_are_not_told)
{
    static const char *const rows[] = {
        "vllm:cache_config_info{num_gpu_blocks=\"None\",block_size=\"16\"} 1\n",
        "vllm:cache_config_info{num_gpu_blocks=\"10\"} 1\n",
        "vllm:cache_config_info{num_gpu_blocks=10,block_size=\"16\"} 1\n",
        "vllm:cache_config_info{block_size=\"16\",num_gpu_blocks=\"10} 1\n",
        "vllm:cache_config_info{x=\"num_gpu_blocks=\\\"10\\\"\",block_size=\"16\"} 1\n",
        "vllm:cache_config_info{} 1\n",
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        t_row(rows[i]);
        OK(read_text(rows[i]).kv_tokens <= 1);
    }
}

/* --- One server or several --- */

static struct promwatch watch;

static bool see(double started, double tokens, unsigned second)
{
    struct promtext p = {.preemptions = -1,
                         .prefix_queries = -1,
                         .prompt_tokens = tokens,
                         .output_tokens = -1,
                         .started = started};

    return promwatch_see(&watch, &p, second * USEC_PER_SEC);
}

TEST(one_server_that_is_started_again_is_believed)
{
    promwatch_init(&watch);
    OK(see(1000, 5, 1));
    OK(see(1000.4, 9, 2));
    OK(see(2000, 1, 3)); /* a new process counts from the beginning */
    OK(see(2000, 7, 4));
    t_row("without start times");
    promwatch_init(&watch);
    OK(see(-1, 500, 1));
    OK(see(-1, 3, 2));
    OK(see(-1, 9, 3));
    OK(see(-1, 1, 700)); /* and again, much later */
}

TEST(servers_that_answer_by_turns_are_not_believed_until_they_stop)
{
    promwatch_init(&watch);
    OK(see(1000, 5, 1));
    OK(see(2000, 50, 2));
    OK(!see(1000, 6, 3));
    OK(!see(1000, 7, 4));
    OK(!see(1000, 8, 602));
    OK(see(1000, 8, 603));
}

TEST(counters_that_fall_twice_are_of_several_servers)
{
    promwatch_init(&watch);
    OK(see(-1, 500, 1));
    OK(see(-1, 90, 2));
    OK(see(-1, 501, 3));
    OK(!see(-1, 91, 4));
    OK(!see(-1, 502, 5));
}
