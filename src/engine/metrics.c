/* SPDX-License-Identifier: Apache-2.0 */
/* metrics: the engine's figures as Prometheus text; read from atomics, never from the
 * loop. */
#include "engine/work.h"

static void head(struct buf *b, const char *name, const char *type, const char *help)
{
    (void)buf_fmt(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void one(struct buf *b, const char *name, const char *type, const char *help,
                unsigned long long v)
{
    head(b, name, type, help);
    (void)buf_fmt(b, "%s %llu\n", name, v);
}

static void calls(const struct engine_stats *st, struct buf *b)
{
    head(b, "batchd_upstream_calls_total", "counter",
         "Calls to upstream servers by what became of them.");
    for (unsigned i = 0; i < OUTCOME_COUNT; i++)
        (void)buf_fmt(b, "batchd_upstream_calls_total{outcome=\"%s\"} %llu\n",
                      outcome_name((enum outcome_class)i), atomic_load(&st->calls[i]));
}

static void ended(const struct engine_stats *st, struct buf *b)
{
    head(b, "batchd_batches_ended_total", "counter",
         "Batches that reached a terminal status.");
    for (unsigned i = 0; i < BATCH_STATUS_COUNT; i++)
        if (batch_terminal((enum batch_status)i))
            (void)buf_fmt(b, "batchd_batches_ended_total{status=\"%s\"} %llu\n",
                          batch_status_name((enum batch_status)i),
                          atomic_load(&st->ended[i]));
}

/* {upstream="NAME" -- a label's value escapes what would end it (exposition format 0.0.4). */
static void labelled(struct buf *b, const char *metric, const char *name)
{
    (void)buf_fmt(b, "%s{upstream=\"", metric);
    for (; *name; name++) {
        if (*name == '"' || *name == '\\')
            (void)buf_char(b, '\\');
        (void)buf_char(b, (unsigned char)*name < 0x20 ? ' ' : *name);
    }
    (void)buf_char(b, '"');
}

static void upstreams(const struct engine *g, struct buf *b)
{
    static const char *const states[] = {"open", "closed", "dead", "trial"};

    head(b, "batchd_upstream_inflight", "gauge", "Calls in flight.");
    for (size_t i = 0; i < g->o.n_upstreams; i++) {
        labelled(b, "batchd_upstream_inflight", upstream_name(g->ups[i]));
        (void)buf_fmt(b, "} %u\n", atomic_load(&g->gauges[i].inflight));
    }
    head(b, "batchd_upstream_window", "gauge", "Most calls in flight at the moment.");
    for (size_t i = 0; i < g->o.n_upstreams; i++) {
        labelled(b, "batchd_upstream_window", upstream_name(g->ups[i]));
        (void)buf_fmt(b, "} %u\n", atomic_load(&g->gauges[i].window));
    }
    head(b, "batchd_upstream_state", "gauge", "1 for the state the upstream is in.");
    for (size_t i = 0; i < g->o.n_upstreams; i++) {
        for (unsigned s = 0; s < COUNTOF(states); s++) {
            labelled(b, "batchd_upstream_state", upstream_name(g->ups[i]));
            (void)buf_fmt(b, ",state=\"%s\"} %d\n", states[s],
                          atomic_load(&g->gauges[i].state) == s);
        }
    }
}

void engine_metrics(struct engine *g, struct buf *b)
{
    const struct engine_stats *st = &g->stats;

    one(b, "batchd_batches_live", "gauge", "Batches being worked on.",
        atomic_load(&st->live));
    one(b, "batchd_inflight", "gauge", "Lines in flight.", atomic_load(&st->inflight));
    one(b, "batchd_dispatch_paused", "gauge",
        "1 while nothing new is sent: full disk, results ahead of the disk, shutdown.",
        atomic_load(&st->paused));
    one(b, "batchd_lines_completed_total", "counter",
        "Lines with an answer, on disk, since the start.", atomic_load(&st->results_ok));
    one(b, "batchd_lines_failed_total", "counter",
        "Lines with an error for good, on disk, since the start.",
        atomic_load(&st->results_error));
    one(b, "batchd_retries_total", "counter", "Lines put back for another try.",
        atomic_load(&st->retries));
    one(b, "batchd_log_commits_total", "counter", "Group commits of the results logs.",
        atomic_load(&st->commits));
    one(b, "batchd_log_bytes_total", "counter", "Bytes of result lines logged.",
        atomic_load(&st->log_bytes));
    one(b, "batchd_answer_bytes_total", "counter", "Bytes of upstream answers.",
        atomic_load(&st->answer_bytes));
    calls(st, b);
    ended(st, b);
    upstreams(g, b);
    if (g->o.webhooks)
        webhooks_metrics(g->o.webhooks, b);
}
