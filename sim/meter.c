/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/meter.h"
#include "json/json.h"

/* Without a model: KV memory of one H100 with an 8B model (80 GB less 16 GB of weights,
 * 128 KB a token), of which the tokens of running requests are a share. */
#define KV_TOKENS 411000

static const double bounds[SIM_BUCKETS - 1] = {0.001, 0.005, 0.01, 0.05, 0.1,  0.5,
                                               1.0,   5.0,   10.0, 60.0, 600.0};

static void observe(struct sim_histogram *h, usec_t took)
{
    unsigned i = 0;

    while (i < SIM_BUCKETS - 1 && (double)took > bounds[i] * (double)USEC_PER_SEC)
        i++;
    h->count[i]++;
    h->sum += took;
}

void sim_meter_done(struct sim_meter *m, const struct sim_request *rq,
                    const struct sim_job *job, usec_t now)
{
    m->prompt_tokens += rq->prompt_tokens;
    m->generation_tokens += rq->output_tokens * rq->choices;
    if (rq->capped)
        m->capped++;
    else
        m->stopped++;
    observe(&m->latency, now - job->came);
    observe(&m->queue, job->began - job->came);
    if (job->first)
        observe(&m->first, job->first - job->came);
}

/* --- Text ----------------------------------------------------------------------------
 */

/* A model tells while it works, the meter at the end of each request. */
struct told {
    double running, waiting, kv_used, kv_total, preemptions, queries, hits, prompt, made;
};

static struct told told_of(const struct sim_meter *m, const struct sim_state *s)
{
    const struct sim_model_load *l = &s->load.model;
    struct told t = {.running = (double)s->load.running,
                     .waiting = (double)s->load.waiting,
                     .kv_used = (double)u64_min(s->load.tokens, KV_TOKENS),
                     .kv_total = KV_TOKENS,
                     .queries = (double)m->prompt_tokens,
                     .prompt = (double)m->prompt_tokens,
                     .made = (double)m->generation_tokens};

    if (!s->modelled)
        return t;
    t.kv_used = (double)l->kv_used;
    t.kv_total = (double)l->kv_total;
    t.preemptions = (double)l->preemptions;
    t.queries = t.prompt = (double)l->queries;
    t.hits = (double)l->hits;
    t.made = (double)l->generated;
    return t;
}

struct row {
    const char *name, *type, *help;
    double value;
};

static void put_rows(struct buf *dst, const char *lead, const char *labels,
                     const struct row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct row *r = &rows[i];

        (void)buf_fmt(dst, "# HELP %s%s %s\n# TYPE %s%s %s\n%s%s%s %.15g\n", lead,
                      r->name, r->help, lead, r->name, r->type, lead, r->name, labels,
                      r->value);
    }
}

/* `labels`: what stands in the braces, without them. */
static void put_histogram(struct buf *dst, const char *name, const char *help,
                          const char *labels, const struct sim_histogram *h)
{
    uint64_t sum = 0;

    (void)buf_fmt(dst, "# HELP %s %s\n# TYPE %s histogram\n", name, help, name);
    for (unsigned i = 0; i < SIM_BUCKETS; i++) {
        sum += h->count[i];
        (void)buf_fmt(dst, "%s_bucket{%s,le=\"", name, labels);
        if (i < SIM_BUCKETS - 1)
            (void)buf_fmt(dst, "%g", bounds[i]);
        else
            (void)buf_z(dst, "+Inf");
        (void)buf_fmt(dst, "\"} %llu\n", (unsigned long long)sum);
    }
    (void)buf_fmt(dst, "%s_sum{%s} %.6f\n", name, labels,
                  (double)h->sum / (double)USEC_PER_SEC);
    (void)buf_fmt(dst, "%s_count{%s} %llu\n", name, labels, (unsigned long long)sum);
}

static void put_born(struct buf *dst, const struct sim_state *s)
{
    const struct row rows[] = {{"process_start_time_seconds", "gauge",
                                "Start time of the process since unix epoch in seconds.",
                                (double)s->born_sec}};

    put_rows(dst, "", "", rows, COUNTOF(rows));
}

/* --- vLLM ----------------------------------------------------------------------------
 */

static void put_reasons(struct buf *dst, const struct sim_meter *m, const char *model)
{
    const struct {
        const char *reason;
        uint64_t n;
    } row[] = {{"stop", m->stopped}, {"length", m->capped}, {"abort", m->aborted}};

    (void)buf_z(dst, "# HELP vllm:request_success_total Count of finished requests.\n"
                     "# TYPE vllm:request_success_total counter\n");
    for (size_t i = 0; i < COUNTOF(row); i++)
        (void)buf_fmt(dst,
                      "vllm:request_success_total{engine=\"0\",finished_reason=\"%s\","
                      "model_name=\"%s\"} %llu\n",
                      row[i].reason, model, (unsigned long long)row[i].n);
}

static void put_cache_config(struct buf *dst, const struct sim_state *s)
{
    if (!s->modelled)
        return;
    (void)buf_fmt(dst,
                  "# HELP vllm:cache_config_info Information of the LLMEngine "
                  "CacheConfig\n# TYPE vllm:cache_config_info gauge\n"
                  "vllm:cache_config_info{block_size=\"%d\",cache_dtype=\"auto\","
                  "enable_prefix_caching=\"True\",engine=\"0\","
                  "gpu_memory_utilization=\"0.9\",num_gpu_blocks=\"%llu\"} 1.0\n",
                  SIM_BLOCK, (unsigned long long)s->load.model.kv_total / SIM_BLOCK);
}

static void put_vllm(struct buf *dst, const struct sim_meter *m,
                     const struct sim_state *s)
{
    struct told t = told_of(m, s);
    const struct row rows[] = {
        {"num_requests_running", "gauge",
         "Number of requests in model execution batches.", t.running},
        {"num_requests_waiting", "gauge", "Number of requests waiting to be processed.",
         t.waiting},
        {"kv_cache_usage_perc", "gauge", "KV-cache usage. 1 means 100 percent usage.",
         t.kv_used / t.kv_total},
        {"num_preemptions_total", "counter",
         "Cumulative number of preemptions from the engine.", t.preemptions},
        {"prefix_cache_queries_total", "counter",
         "Prefix cache queries, in terms of number of queried tokens.", t.queries},
        {"prefix_cache_hits_total", "counter",
         "Prefix cache hits, in terms of number of cached tokens.", t.hits},
        {"prompt_tokens_total", "counter", "Number of prefill tokens processed.",
         t.prompt},
        {"generation_tokens_total", "counter", "Number of generation tokens processed.",
         t.made}};
    char labels[SIM_NAME_MAX + 64], braces[SIM_NAME_MAX + 64];

    IGNORE(str_fmt(labels, sizeof labels, "engine=\"0\",model_name=\"%s\"", s->model));
    IGNORE(str_fmt(braces, sizeof braces, "{%s}", labels)); /* a name fits, both times */
    put_rows(dst, "vllm:", braces, rows, COUNTOF(rows));
    put_cache_config(dst, s);
    put_reasons(dst, m, s->model);
    if (s->modelled)
        put_histogram(dst, "vllm:time_to_first_token_seconds",
                      "Histogram of time to first token in seconds.", labels, &m->first);
    put_histogram(dst, "vllm:e2e_request_latency_seconds",
                  "Histogram of e2e request latency in seconds.", labels, &m->latency);
    put_histogram(dst, "vllm:request_queue_time_seconds",
                  "Histogram of time spent in WAITING phase for request.", labels,
                  &m->queue);
    put_born(dst, s);
}

/* --- SGLang and llama.cpp ------------------------------------------------------------
 */

static void put_sglang(struct buf *dst, const struct sim_meter *m,
                       const struct sim_state *s)
{
    struct told t = told_of(m, s);
    const struct row rows[] = {
        {"num_running_reqs", "gauge", "The number of running requests.", t.running},
        {"num_used_tokens", "gauge", "The number of used tokens.", t.kv_used},
        {"token_usage", "gauge", "The token usage.", t.kv_used / t.kv_total},
        {"num_queue_reqs", "gauge", "The number of requests in the waiting queue.",
         t.waiting},
        {"cache_hit_rate", "gauge", "The prefix cache hit rate.",
         t.queries > 0 ? t.hits / t.queries : 0},
        {"max_total_num_tokens", "gauge",
         "Maximum total number of tokens in the KV cache pool.", t.kv_total},
        {"num_retracted_requests_total", "counter", "Total number of retracted requests.",
         t.preemptions},
        {"prompt_tokens_total", "counter", "Number of prefill tokens processed.",
         t.prompt},
        {"cached_tokens_total", "counter", "Number of cached prompt tokens.", t.hits},
        {"generation_tokens_total", "counter", "Number of generation tokens processed.",
         t.made},
        {"num_requests_total", "counter", "Number of requests processed.",
         (double)(m->stopped + m->capped)},
        {"num_aborted_requests_total", "counter", "Number of requests aborted.",
         (double)m->aborted}};
    char labels[SIM_NAME_MAX + 64], braces[SIM_NAME_MAX + 64];

    IGNORE(str_fmt(labels, sizeof labels,
                   "engine_type=\"unified\",model_name=\"%s\",pp_rank=\"0\","
                   "tp_rank=\"0\"",
                   s->model)); /* a name fits, both times */
    IGNORE(str_fmt(braces, sizeof braces, "{%s}", labels));
    put_rows(dst, "sglang:", braces, rows, COUNTOF(rows));
    if (s->modelled)
        put_histogram(dst, "sglang:time_to_first_token_seconds",
                      "Histogram of time to first token in seconds.", labels, &m->first);
    put_histogram(dst, "sglang:e2e_request_latency_seconds",
                  "Histogram of End-to-end request latency in seconds", labels,
                  &m->latency);
    put_born(dst, s);
}

/* No labels, no cache, no start of the process. */
static void put_llamacpp(struct buf *dst, const struct sim_meter *m,
                         const struct sim_state *s)
{
    struct told t = told_of(m, s);
    const struct row rows[] = {
        {"prompt_tokens_total", "counter", "Number of prompt tokens processed.",
         t.prompt - t.hits},
        {"tokens_predicted_total", "counter", "Number of generation tokens processed.",
         t.made},
        {"requests_processing", "gauge", "Number of requests processing.", t.running},
        {"requests_deferred", "gauge", "Number of requests deferred.", t.waiting}};

    put_rows(dst, "llamacpp:", "", rows, COUNTOF(rows));
}

void sim_meter_text(const struct sim_meter *m, const struct sim_state *s,
                    enum sim_flavour flavour, struct buf *dst)
{
    switch (flavour) {
    case SIM_VLLM:
        put_vllm(dst, m, s);
        break;
    case SIM_SGLANG:
        put_sglang(dst, m, s);
        break;
    case SIM_LLAMACPP:
        put_llamacpp(dst, m, s);
        break;
    case SIM_NO_METRICS:
        break;
    }
}

/* --- What servers tell of themselves -------------------------------------------------
 */

static uint64_t kv_of(const struct sim_state *s)
{
    return s->modelled ? s->load.model.kv_total : KV_TOKENS;
}

void sim_meter_props(const struct sim_state *s, struct buf *dst)
{
    struct json_writer w;

    jw_init(&w, dst);
    jw_open(&w, NULL, '{');
    jw_open(&w, "default_generation_settings", '{');
    jw_i64(&w, "n_ctx", (int64_t)(kv_of(s) / u64_max(1, s->slots)));
    jw_close(&w, '}');
    jw_i64(&w, "total_slots", (int64_t)u64_max(1, s->slots));
    jw_z(&w, "model_alias", s->model);
    jw_z(&w, "model_path", s->model);
    jw_z(&w, "build_info", "batchd-sim");
    jw_close(&w, '}');
}

void sim_meter_info(const struct sim_state *s, struct buf *dst)
{
    struct json_writer w;

    jw_init(&w, dst);
    jw_open(&w, NULL, '{');
    jw_z(&w, "model_path", s->model);
    jw_z(&w, "served_model_name", s->model);
    if (s->slots)
        jw_i64(&w, "max_running_requests", (int64_t)s->slots);
    else
        jw_null(&w, "max_running_requests");
    jw_i64(&w, "max_total_num_tokens", (int64_t)kv_of(s));
    jw_bool(&w, "disable_radix_cache", false);
    jw_z(&w, "version", "batchd-sim");
    jw_close(&w, '}');
}
