/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/meter.h"

/* KV memory of one H100 with an 8B model (80 GB less 16 GB of weights, 128 KB a token):
 * what the tokens of running requests are a share of. */
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
}

static void head(struct buf *dst, const char *name, const char *type, const char *help)
{
    (void)buf_fmt(dst, "# HELP vllm:%s %s\n# TYPE vllm:%s %s\n", name, help, name, type);
}

static void put_one(struct buf *dst, const char *name, const char *type, const char *help,
                    const char *model, double value)
{
    head(dst, name, type, help);
    (void)buf_fmt(dst, "vllm:%s{engine=\"0\",model_name=\"%s\"} %.15g\n", name, model,
                  value);
}

static void put_reasons(struct buf *dst, const struct sim_meter *m, const char *model)
{
    const struct {
        const char *reason;
        uint64_t n;
    } row[] = {{"stop", m->stopped}, {"length", m->capped}, {"abort", m->aborted}};

    head(dst, "request_success_total", "counter", "Count of finished requests.");
    for (size_t i = 0; i < COUNTOF(row); i++)
        (void)buf_fmt(dst,
                      "vllm:request_success_total{engine=\"0\",finished_reason=\"%s\","
                      "model_name=\"%s\"} %llu\n",
                      row[i].reason, model, (unsigned long long)row[i].n);
}

static void put_histogram(struct buf *dst, const char *name, const char *help,
                          const char *model, const struct sim_histogram *h)
{
    uint64_t sum = 0;

    head(dst, name, "histogram", help);
    for (unsigned i = 0; i < SIM_BUCKETS; i++) {
        sum += h->count[i];
        (void)buf_fmt(dst, "vllm:%s_bucket{engine=\"0\",le=\"", name);
        if (i < SIM_BUCKETS - 1)
            (void)buf_fmt(dst, "%g", bounds[i]);
        else
            (void)buf_z(dst, "+Inf");
        (void)buf_fmt(dst, "\",model_name=\"%s\"} %llu\n", model,
                      (unsigned long long)sum);
    }
    (void)buf_fmt(dst, "vllm:%s_sum{engine=\"0\",model_name=\"%s\"} %.6f\n", name, model,
                  (double)h->sum / (double)USEC_PER_SEC);
    (void)buf_fmt(dst, "vllm:%s_count{engine=\"0\",model_name=\"%s\"} %llu\n", name,
                  model, (unsigned long long)sum);
}

void sim_meter_text(const struct sim_meter *m, struct sim_load load, const char *model,
                    struct buf *dst)
{
    double used = (double)load.tokens / KV_TOKENS;

    put_one(dst, "num_requests_running", "gauge",
            "Number of requests in model execution batches.", model,
            (double)load.running);
    put_one(dst, "num_requests_waiting", "gauge",
            "Number of requests waiting to be processed.", model, (double)load.waiting);
    put_one(dst, "kv_cache_usage_perc", "gauge",
            "KV-cache usage. 1 means 100 percent usage.", model, used > 1 ? 1 : used);
    put_one(dst, "num_preemptions_total", "counter",
            "Cumulative number of preemptions from the engine.", model, 0);
    put_one(dst, "prefix_cache_queries_total", "counter",
            "Prefix cache queries, in terms of number of queried tokens.", model,
            (double)m->prompt_tokens);
    put_one(dst, "prefix_cache_hits_total", "counter",
            "Prefix cache hits, in terms of number of cached tokens.", model, 0);
    put_one(dst, "prompt_tokens_total", "counter", "Number of prefill tokens processed.",
            model, (double)m->prompt_tokens);
    put_one(dst, "generation_tokens_total", "counter",
            "Number of generation tokens processed.", model,
            (double)m->generation_tokens);
    put_reasons(dst, m, model);
    put_histogram(dst, "e2e_request_latency_seconds",
                  "Histogram of e2e request latency in seconds.", model, &m->latency);
    put_histogram(dst, "request_queue_time_seconds",
                  "Histogram of time spent in WAITING phase for request.", model,
                  &m->queue);
}
