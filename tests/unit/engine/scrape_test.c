/* SPDX-License-Identifier: Apache-2.0 */
/* What the engine asks an upstream beside its lines, and what it makes of the answers. */
#include "tests/unit/engine/scripted.h"

static const char vllm[] = "vllm:num_requests_running{engine=\"0\"} 4\n"
                           "vllm:num_requests_waiting{engine=\"0\"} 0\n"
                           "vllm:kv_cache_usage_perc{engine=\"0\"} 0.25\n"
                           "vllm:cache_config_info{num_gpu_blocks=\"573\",block_size="
                           "\"16\"} 1\n"
                           "process_start_time_seconds 1.79e+09\n";

#define SAMPLES "batchd_upstream_samples_total"
#define BLIND   "batchd_upstream_blind_total"

/* Lines take a while, so that there are samples beside them. */
static void chat(char *out, size_t cap)
{
    poll(NULL, 0, 300);
    scripted_answer(out, cap, 200, "", "{\"object\":\"chat.completion\"}");
}

static void nothing(char *out, size_t cap)
{
    scripted_answer(out, cap, 404, "", "{}");
}

static void run_lines(struct rig *r, unsigned n)
{
    char *text = lines(n);
    struct id id = add_batch(r, add_file(r, text), 3600);
    struct batch b = wait_end(r, &id);

    EQ_INT(b.status, BATCH_COMPLETED);
    EQ_INT(b.counts.completed, n);
    batch_done(&b);
    mem_free(text);
}

static void like_vllm(struct scripted *s, const char *path, unsigned nth, char *out,
                      size_t cap)
{
    (void)s, (void)nth;
    if (is_chat(path))
        chat(out, cap);
    else if (strcmp(path, "/metrics") == 0)
        scripted_answer(out, cap, 200, "", vllm);
    else
        nothing(out, cap);
}

TEST_SLOW(a_server_with_metrics_is_asked_for_them_and_for_nothing_else, 60)
{
    static struct scripted s;
    struct rig r = {0};

    scripted_start(&s, like_vllm, &r);
    rig_open(&r);
    run_lines(&r, 400);
    wait_metric(&r, SAMPLES, 2);
    OK(scripted_asked(&s, "/metrics") >= 2);
    OK(scripted_had_key(&s, "/metrics") == false);
    t_row("vLLM tells its memory there");
    EQ_INT(scripted_asked(&s, "/props"), 0);
    EQ_INT(scripted_asked(&s, "/info"), 0);
    rig_end(&r);
    scripted_stop(&s);
}

static void plain(struct scripted *s, const char *path, unsigned nth, char *out,
                  size_t cap)
{
    (void)s, (void)nth;
    if (is_chat(path))
        chat(out, cap);
    else
        nothing(out, cap);
}

TEST_SLOW(a_server_without_metrics_is_asked_once_and_used_all_the_same, 60)
{
    static struct scripted s;
    struct rig r = {0};

    scripted_start(&s, plain, &r);
    rig_open(&r);
    run_lines(&r, 400);
    wait_metric(&r, BLIND, 2);
    EQ_INT(scripted_asked(&s, "/metrics"), 1);
    EQ_INT(scripted_asked(&s, "/props"), 1);
    EQ_INT(scripted_asked(&s, "/get_server_info"), 1);
    EQ_INT(scripted_asked(&s, "/info"), 1);
    EQ_INT(metric(&r, SAMPLES), 0);
    rig_end(&r);
    scripted_stop(&s);
}

/* Its settings are found at the second place. */
static void like_sglang(struct scripted *s, const char *path, unsigned nth, char *out,
                        size_t cap)
{
    (void)s, (void)nth;
    if (is_chat(path))
        chat(out, cap);
    else if (strcmp(path, "/get_server_info") == 0)
        scripted_answer(out, cap, 200, "", "{\"max_running_requests\":48}");
    else
        nothing(out, cap);
}

TEST_SLOW(settings_are_asked_for_until_one_place_tells_them, 60)
{
    static struct scripted s;
    struct rig r = {0};

    scripted_start(&s, like_sglang, &r);
    rig_open(&r);
    run_lines(&r, 100);
    wait_metric(&r, BLIND, 1);
    while (scripted_asked(&s, "/get_server_info") == 0)
        poll(NULL, 0, 10);
    EQ_INT(scripted_asked(&s, "/props"), 1);
    poll(NULL, 0, 200);
    EQ_INT(scripted_asked(&s, "/info"), 0);
    rig_end(&r);
    scripted_stop(&s);
}

/* Two servers behind one address, by turns. */
static void by_turns(struct scripted *s, const char *path, unsigned nth, char *out,
                     size_t cap)
{
    char text[200];

    (void)s;
    if (is_chat(path)) {
        chat(out, cap);
    } else if (strcmp(path, "/metrics") == 0) {
        snprintf(text, sizeof text,
                 "vllm:num_requests_running 4\nprocess_start_time_seconds %s\n",
                 nth % 2 ? "1790000000" : "1780000000");
        scripted_answer(out, cap, 200, "", text);
    } else {
        nothing(out, cap);
    }
}

TEST_SLOW(metrics_of_several_servers_by_turns_are_not_believed, 60)
{
    static struct scripted s;
    struct rig r = {0};
    double samples;

    scripted_start(&s, by_turns, &r);
    rig_open(&r);
    run_lines(&r, 700);
    wait_metric(&r, BLIND, 1);
    samples = metric(&r, SAMPLES);
    OK(samples >= 1 && samples <= 3);
    wait_metric(&r, BLIND, 2);
    EQ_INT(metric(&r, SAMPLES), samples);
    rig_end(&r);
    scripted_stop(&s);
}

/* Everything but metrics, a different kind each time. */
static void rubbish(struct scripted *s, const char *path, unsigned nth, char *out,
                    size_t cap)
{
    static const char *const bodies[] = {"<html>metrics</html>", "", "{\"a\":1}",
                                         "vllm:num_requests_running NaN\n"};

    (void)s;
    if (is_chat(path))
        chat(out, cap);
    else
        scripted_answer(out, cap, 200, "", bodies[nth % 4]);
}

TEST_SLOW(a_server_that_answers_rubbish_is_used_all_the_same, 60)
{
    static struct scripted s;
    struct rig r = {0};

    scripted_start(&s, rubbish, &r);
    rig_open(&r);
    run_lines(&r, 100);
    wait_metric(&r, BLIND, 1);
    EQ_INT(metric(&r, SAMPLES), 0);
    rig_end(&r);
    scripted_stop(&s);
}

/* --- What the configuration says --- */

static void open_with(struct rig *r, struct engine_upstream *up)
{
    struct err e;

    up->url = r->url;
    rig_open(r);
    r->engine = engine_free(r->engine);
    r->o.upstreams = up;
    r->o.n_upstreams = 1;
    EQ_RC(engine_new(&r->o, &r->engine, &e), RC_OK);
}

TEST_SLOW(metrics_off_asks_for_nothing, 60)
{
    static struct scripted s;
    struct rig r = {0};
    struct engine_upstream up = {.no_metrics = true};

    scripted_start(&s, like_vllm, &r);
    open_with(&r, &up);
    run_lines(&r, 100);
    EQ_INT(scripted_asked(&s, "/props"), 0);
    EQ_INT(metric(&r, SAMPLES), 0);
    rig_end(&r);
    scripted_stop(&s);
}

TEST_SLOW(metrics_elsewhere_are_asked_for_without_the_key, 60)
{
    static struct scripted s, exporter;
    struct rig r = {0};
    char url[80];
    struct engine_upstream up = {.key = "sekret", .metrics = url};

    scripted_start(&s, like_vllm, &r);
    scripted_start(&exporter, like_vllm, NULL);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/metrics", exporter.port);
    open_with(&r, &up);
    run_lines(&r, 400);
    wait_metric(&r, SAMPLES, 1);
    OK(scripted_had_key(&s, "/v1/chat/completions"));
    OK(!scripted_had_key(&exporter, "/metrics"));
    t_row("on the same host and port they are asked for with it");
    snprintf(url, sizeof url, "http://127.0.0.1:%d/other/metrics", s.port);
    r.engine = engine_free(r.engine);
    EQ_RC(engine_new(&r.o, &r.engine, &(struct err){""}), RC_OK);
    while (!scripted_had_key(&s, "/other/metrics"))
        poll(NULL, 0, 10);
    rig_end(&r);
    scripted_stop(&s);
    scripted_stop(&exporter);
}
