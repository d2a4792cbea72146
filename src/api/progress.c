/* SPDX-License-Identifier: Apache-2.0 */
#include "api/progress.h"
#include "api/batches.h"
#include "api/call.h"
#include "json/json.h"

#include <stdio.h>
#include <time.h>

/* A batch and what the engine says of it. */
struct view {
    struct batch b;
    struct engine_progress p;
    bool live;       /* p is filled in */
    bool recovering; /* its counts are not known yet */
};

static const char *utc(int64_t at, char ret[32])
{
    time_t t = (time_t)at;
    struct tm tm;

    if (!gmtime_r(&t, &tm) || strftime(ret, 32, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        ret[0] = '\0';
    return ret;
}

/* --- What is known -------------------------------------------------------------------
 */

static enum rc get_row(struct call *c, const struct id *id, struct view *v, struct err *e)
{
    struct store *s = c->api->opts.store;
    enum rc rc = engine_batch_view(c->api->opts.engine, &c->project, id->z, &v->b, e);

    v->recovering = rc == RC_AGAIN;
    return rc == RC_AGAIN ? s->ops->batch_get(s->self, &c->project, id->z, &v->b, e) : rc;
}

/* The row first: it says whose the batch is.  A batch that the engine does not have while
 * its row says it should is on its way in or out: looking again tells. */
static enum rc look(struct call *c, const struct id *id, struct view *v, struct err *e)
{
    enum rc rc = RC_OK;

    for (int i = 0; i < 3; i++) {
        batch_done(&v->b);
        *v = (struct view){.p = {.rate = -1, .eta = -1, .eta_late = -1}};
        rc = get_row(c, id, v, e);
        if (rc != RC_OK || batch_terminal(v->b.status))
            return rc;
        v->live = engine_progress(c->api->opts.engine, id, &v->p);
        if (v->live)
            return RC_OK;
    }
    return rc;
}

/* --- What is told --------------------------------------------------------------------
 */

static const char *why(const struct view *v, char *text, size_t cap)
{
    const struct batch *b = &v->b;
    char at[32];

    if (v->live)
        return v->p.why;
    if (b->status == BATCH_COMPLETED)
        snprintf(text, cap, "Completed at %s.", utc(b->completed_at, at));
    else if (b->status == BATCH_FAILED)
        snprintf(text, cap, "Failed at %s: its errors say what is wrong with its input.",
                 utc(b->failed_at, at));
    else if (b->status == BATCH_EXPIRED)
        snprintf(text, cap, "Expired at %s, when its time was over.",
                 utc(b->expired_at, at));
    else if (b->status == BATCH_CANCELLED)
        snprintf(text, cap, "Cancelled at %s.", utc(b->cancelled_at, at));
    else
        snprintf(text, cap, "It is about to be taken up.");
    return text;
}

static void put_counts(struct json_writer *w, const struct view *v)
{
    const struct batch_counts *n = &v->b.counts;

    if (v->recovering) {
        jw_null(w, "request_counts");
        return;
    }
    jw_open(w, "request_counts", '{');
    jw_i64(w, "total", n->total);
    jw_i64(w, "completed", n->completed);
    jw_i64(w, "failed", n->failed);
    jw_close(w, '}');
}

/* Of a batch whose lines the engine does not have: those that nobody has answered. */
static int64_t waiting(const struct view *v)
{
    const struct batch_counts *n = &v->b.counts;

    if (v->live && v->p.counted)
        return v->p.waiting;
    if (batch_terminal(v->b.status))
        return 0;
    return (int64_t)n->total - n->completed - n->failed;
}

static void put_rate(struct json_writer *w, const struct view *v)
{
    char text[32];

    if (!v->live || v->p.rate < 0) {
        jw_null(w, "rate_per_second");
        return;
    }
    snprintf(text, sizeof text, "%.3f", v->p.rate);
    jw_raw(w, "rate_per_second", str_of(text));
}

static void put_eta(struct json_writer *w, const struct view *v)
{
    int64_t at = clock_wall_sec() + v->p.eta;

    if (!v->live || v->p.eta < 0) {
        jw_null(w, "eta_seconds");
        jw_null(w, "eta_at");
        jw_null(w, "eta_late_at");
        jw_time(w, "expires_at", v->b.expires_at);
        jw_null(w, "on_time");
        return;
    }
    jw_i64(w, "eta_seconds", v->p.eta);
    jw_time(w, "eta_at", at);
    if (v->p.eta_late < 0)
        jw_null(w, "eta_late_at");
    else
        jw_time(w, "eta_late_at", clock_wall_sec() + v->p.eta_late);
    jw_time(w, "expires_at", v->b.expires_at);
    jw_bool(w, "on_time", at <= v->b.expires_at);
}

/* Only of a batch that was found too late when it came. */
static void put_late(struct json_writer *w, const struct engine_progress *p)
{
    jw_open(w, "admission", '{');
    jw_bool(w, "fits", false);
    jw_time(w, "feasible_at", p->fits_at);
    jw_close(w, '}');
}

static void put(const struct view *v, struct buf *out)
{
    const struct batch *b = &v->b;
    struct json_writer w;
    char text[128];

    jw_init(&w, out);
    jw_open(&w, NULL, '{');
    jw_z(&w, "object", "batch.progress");
    jw_z(&w, "id", b->id.z);
    jw_z(&w, "status", batch_status_name(b->status));
    put_counts(&w, v);
    jw_i64(&w, "in_flight", v->p.inflight);
    if (v->recovering && !v->p.counted)
        jw_null(&w, "waiting");
    else
        jw_i64(&w, "waiting", waiting(v));
    jw_i64(&w, "retrying", v->p.retrying);
    jw_i64(&w, "following", v->p.following);
    jw_i64(&w, "reused", b->reused);
    jw_i64(&w, "priority", b->priority);
    jw_z(&w, "tier", b->idle ? "idle" : "standard");
    jw_bool(&w, "critical", v->live && v->p.critical);
    jw_bool(&w, "paused", b->paused);
    if (b->hold)
        jw_i64(&w, "sample", b->hold);
    else
        jw_null(&w, "sample");
    put_rate(&w, v);
    put_eta(&w, v);
    if (v->live && v->p.late)
        put_late(&w, &v->p);
    jw_z(&w, "why", why(v, text, sizeof text));
    jw_close(&w, '}');
}

void progress_get(struct call *c)
{
    struct view v = {0};
    struct err e = {0};
    struct buf body;
    struct id id;
    enum rc rc = id_from(c->var, &id) == RC_OK ? look(c, &id, &v, &e) : RC_NOTFOUND;

    if (rc == RC_OK) {
        buf_init(&body, CALL_ANSWER_MAX);
        put(&v, &body);
        call_reply_json(c, &body);
    } else if (rc == RC_NOTFOUND) {
        batches_not_found(c);
    } else {
        call_fail_rc(c, rc, &e);
    }
    batch_done(&v.b);
}
