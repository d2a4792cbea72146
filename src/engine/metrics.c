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

/* A series for each upstream; value: less than 0, it has none at present. */
static void each(const struct engine *g, struct buf *b, const char *name,
                 const char *type, const char *help,
                 double (*value)(const struct up_gauge *u))
{
    head(b, name, type, help);
    for (size_t i = 0; i < g->o.n_upstreams; i++) {
        double v = value(&g->gauges[i]);

        if (v < 0)
            continue;
        labelled(b, name, upstream_name(g->ups[i]));
        (void)buf_fmt(b, "} %.15g\n", v);
    }
}

/* 1 for the one of several states that an upstream is in. */
static void one_of(const struct engine *g, struct buf *b, const char *name,
                   const char *label, const char *help, const char *const *states,
                   size_t n, unsigned (*value)(const struct up_gauge *u))
{
    head(b, name, "gauge", help);
    for (size_t i = 0; i < g->o.n_upstreams; i++) {
        for (size_t s = 0; s < n; s++) {
            labelled(b, name, upstream_name(g->ups[i]));
            (void)buf_fmt(b, ",%s=\"%s\"} %d\n", label, states[s],
                          value(&g->gauges[i]) == s);
        }
    }
}

static double inflight(const struct up_gauge *u)
{
    return atomic_load(&u->inflight);
}

static double window(const struct up_gauge *u)
{
    return atomic_load(&u->window);
}

static double rate(const struct up_gauge *u)
{
    return (double)atomic_load(&u->rate);
}

static double hit_ratio(const struct up_gauge *u)
{
    return (double)atomic_load(&u->hit_permill) / 1000;
}

static double slow(const struct up_gauge *u)
{
    return atomic_load(&u->slow);
}

static double hedges(const struct up_gauge *u)
{
    return (double)atomic_load(&u->hedges);
}

static double samples(const struct up_gauge *u)
{
    return (double)atomic_load(&u->samples);
}

static double blind(const struct up_gauge *u)
{
    return (double)atomic_load(&u->blind);
}

static double stops(const struct up_gauge *u)
{
    return atomic_load(&u->stops_known) ? atomic_load(&u->stops) : -1;
}

static unsigned state(const struct up_gauge *u)
{
    return atomic_load(&u->state);
}

static unsigned signal_of(const struct up_gauge *u)
{
    return atomic_load(&u->by);
}

static void upstreams(const struct engine *g, struct buf *b)
{
    static const char *const states[] = {"open", "closed", "dead", "trial"};
    static const char *const signals[] = {"nothing", "quota", "metrics", "knee",
                                          "rejects"};

    each(g, b, "batchd_upstream_inflight", "gauge", "Calls in flight.", inflight);
    each(g, b, "batchd_upstream_window", "gauge", "Most calls in flight at the moment.",
         window);
    one_of(g, b, "batchd_upstream_window_signal", "signal",
           "1 for what moved the window last.", signals, COUNTOF(signals), signal_of);
    one_of(g, b, "batchd_upstream_state", "state", "1 for the state the upstream is in.",
           states, COUNTOF(states), state);
    each(g, b, "batchd_upstream_work_rate", "gauge",
         "Work done a second, in tokens of prompt computed.", rate);
    each(g, b, "batchd_upstream_prefix_hit_ratio", "gauge",
         "Share of prompt tokens found in its cache.", hit_ratio);
    each(g, b, "batchd_upstream_slow", "gauge", "1 while it gets short work only.", slow);
    each(g, b, "batchd_upstream_samples_total", "counter",
         "Answers of its metrics that told its load.", samples);
    each(g, b, "batchd_upstream_blind_total", "counter",
         "Times its load was wanted and not told.", blind);
    each(g, b, "batchd_upstream_closing_stops", "gauge",
         "1 when closing a call was seen to stop its work, 0 when not.", stops);
    each(g, b, "batchd_upstream_hedges_total", "counter",
         "Calls for lines that were in flight elsewhere.", hedges);
}

static void call_totals(const struct engine_stats *st, struct buf *b)
{
    one(b, "batchd_calls_closed_total", "counter",
        "Calls closed before their answer: second ones, cancelled batches, checks.",
        atomic_load(&st->closed));
    one(b, "batchd_answers_dropped_total", "counter",
        "Answers for lines that another call has answered, or will.",
        atomic_load(&st->dropped));
    one(b, "batchd_calls_prolonged_total", "counter",
        "Late calls that got more time because their upstream was at work.",
        atomic_load(&st->reprieves));
    one(b, "batchd_calls_evicted_total", "counter",
        "Calls that a gateway threw out for more urgent ones.",
        atomic_load(&st->evicted));
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
    one(b, "batchd_lines_deduplicated_total", "counter",
        "Lines that got the answer of another line that asks the same.",
        atomic_load(&st->deduplicated));
    one(b, "batchd_batches_late_total", "counter",
        "New batches that would not have been in time (see the setting admission).",
        atomic_load(&st->late));
    one(b, "batchd_retries_total", "counter", "Lines put back for another try.",
        atomic_load(&st->retries));
    one(b, "batchd_log_commits_total", "counter", "Group commits of the results logs.",
        atomic_load(&st->commits));
    one(b, "batchd_log_bytes_total", "counter", "Bytes of result lines logged.",
        atomic_load(&st->log_bytes));
    one(b, "batchd_answer_bytes_total", "counter", "Bytes of upstream answers.",
        atomic_load(&st->answer_bytes));
    one(b, "batchd_batches_stopped", "gauge",
        "Batches that were stopped because every call was refused.",
        atomic_load(&st->stopped));
    calls(st, b);
    call_totals(st, b);
    ended(st, b);
    upstreams(g, b);
    if (g->o.webhooks)
        webhooks_metrics(g->o.webhooks, b);
}
