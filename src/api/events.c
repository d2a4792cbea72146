/* SPDX-License-Identifier: Apache-2.0 */
#include "api/events.h"
#include "api/auth.h"
#include "api/batches.h"
#include "api/call.h"
#include "base/log.h"
#include "base/mem.h"
#include "json/json.h"

#define EVENT_EVERY (200 * USEC_PER_MS) /* at the most */
#define QUIET_MOST  (1 * USEC_PER_SEC)  /* between two looks at what has changed */
#define HEARTBEAT   (15 * USEC_PER_SEC) /* proxies cut connections that are silent */

struct events {
    struct api *api;
    struct id project, key, batch, req;
    struct batch b;   /* as it was looked at last; the counts are newer */
    uint64_t changes; /* as engine_changes said before */
    bool fresh;       /* b has not been told yet */
    uint64_t number;  /* of the next event */
    struct buf text;  /* an event on its way */
    size_t sent;      /* of text */
    usec_t told_at, quiet;
};

static void release(void *ctx)
{
    struct events *v = ctx;

    batch_done(&v->b);
    buf_done(&v->text);
    mem_free(v);
}

/* --- What there is to tell -----------------------------------------------------------
 */

static bool same(const struct batch *a, const struct batch *b)
{
    return a->status == b->status && a->counts.total == b->counts.total &&
           a->counts.completed == b->counts.completed &&
           a->counts.failed == b->counts.failed;
}

/* The status from the store, and that only when it may have changed. */
static enum rc look_at_row(struct events *v, uint64_t changes, struct err *e)
{
    struct batch now = {0};
    enum rc rc = engine_batch_view(v->api->opts.engine, &v->project, v->batch.z, &now, e);

    if (rc == RC_OK) {
        v->fresh = v->fresh || !same(&v->b, &now);
        v->changes = changes;
        batch_done(&v->b);
        v->b = now;
    }
    return rc == RC_AGAIN ? RC_OK : rc; /* recovery: later */
}

static void look_at_counts(struct events *v)
{
    struct engine_live live;

    if (v->b.status != BATCH_IN_PROGRESS && v->b.status != BATCH_CANCELLING &&
        v->b.status != BATCH_FINALIZING)
        return;
    if (!engine_live(v->api->opts.engine, v->batch.z, &live))
        return;
    if (live.counts.completed == v->b.counts.completed &&
        live.counts.failed == v->b.counts.failed)
        return;
    v->b.counts = live.counts;
    v->b.usage = live.usage;
    v->b.has_usage = live.has_usage;
    v->fresh = true;
}

static enum rc look(struct events *v, struct err *e)
{
    uint64_t changes = engine_changes(v->api->opts.engine, v->batch.z);

    if (changes != v->changes)
        return look_at_row(v, changes, e);
    look_at_counts(v);
    return RC_OK;
}

/* --- The stream ----------------------------------------------------------------------
 */

/* data is one line: what the client sent as metadata may have several. */
static void tell(struct events *v, usec_t now)
{
    struct buf json;

    buf_init(&json, CALL_ANSWER_MAX);
    batch_put_json(&v->b, &json);
    (void)buf_z(&v->text, "event: batch\nid: ");
    (void)buf_u64(&v->text, v->number++);
    (void)buf_z(&v->text, "\ndata: ");
    (void)json_one_line(&v->text, buf_peek(&json));
    (void)buf_z(&v->text, "\n\n");
    buf_done(&json);
    v->fresh = false;
    v->told_at = now;
    v->quiet = EVENT_EVERY;
}

static void send_text(struct events *v, struct buf *out)
{
    size_t n = (size_t)u64_min(v->text.n - v->sent, HTTP_STREAM_BUFFER - out->n);

    if (n == 0)
        return;
    (void)buf_add(out, v->text.p + v->sent, n);
    v->sent += n;
    if (v->sent == v->text.n) {
        buf_shrink(&v->text, 0);
        v->sent = 0;
    }
}

static enum http_more broken(struct events *v, enum rc rc, const struct err *e)
{
    char quoted[2 * sizeof e->text];

    log_warn("events.broken", "req=%s batch=%s rc=%s err=%s", v->req.z, v->batch.z,
             rc_name(rc), log_q(quoted, sizeof quoted, e->text, strlen(e->text)));
    return HTTP_BREAK;
}

static enum http_more pull(void *ctx, struct buf *out, bool stopping, usec_t *again)
{
    struct events *v = ctx;
    usec_t now = clock_mono();
    struct err e = {0};
    enum rc rc = v->text.n ? RC_OK : look(v, &e);

    if (rc != RC_OK)
        return broken(v, rc, &e);
    if (!auth_stands(v->api, &v->key))
        return HTTP_BREAK;
    if (v->text.n == 0 && v->fresh && now - v->told_at >= EVENT_EVERY)
        tell(v, now);
    else if (v->text.n == 0 && now - v->told_at >= HEARTBEAT) {
        (void)buf_z(&v->text, ": still here\n\n");
        v->told_at = now;
    }
    if (buf_failed(&v->text))
        return broken(v, buf_failed(&v->text), &e);
    send_text(v, out);
    if (v->text.n)
        return HTTP_MORE;
    if (stopping || (batch_terminal(v->b.status) && !v->fresh))
        return HTTP_END; /* who watches comes again by itself, as the standard says */
    *again = v->fresh ? v->told_at + EVENT_EVERY : now + v->quiet;
    v->quiet = (usec_t)u64_min((uint64_t)v->quiet * 2, QUIET_MOST);
    return HTTP_WAIT;
}

/* --- The request ---------------------------------------------------------------------
 */

/* A client that comes again says what it heard last; it shall not hear a number twice. */
static uint64_t first_number(struct call *c)
{
    uint64_t last = 0;

    if (str_u64(str_trim(http_header(c->rq, "Last-Event-ID")), &last) != RC_OK ||
        last == UINT64_MAX)
        return 1;
    return last + 1;
}

void events_get(struct call *c)
{
    struct engine *g = c->api->opts.engine;
    struct events *v = mem_new(struct events);
    struct err e = {0};
    enum rc rc = id_from(c->var, &v->batch) == RC_OK ? RC_OK : RC_NOTFOUND;

    buf_init(&v->text, CALL_ANSWER_MAX);
    if (rc == RC_OK) {
        v->changes = engine_changes(g, v->batch.z);
        rc = engine_batch_view(g, &c->project, v->batch.z, &v->b, &e);
    }
    if (rc != RC_OK) {
        release(v);
        batches_fail(c, rc, &e);
        return;
    }
    v->api = c->api;
    v->project = c->project;
    v->key = c->key;
    v->fresh = true;
    v->number = first_number(c);
    v->told_at = clock_mono() - EVENT_EVERY;
    v->quiet = EVENT_EVERY;
    IGNORE(str_fmt(v->req.z, sizeof v->req.z, "%s", http_request_id(c->rq)));
    http_add_header(c->rq, "Cache-Control", "no-store");
    http_add_header(c->rq, "X-Accel-Buffering", "no"); /* nginx would hold events back */
    call_reply_stream(c, "text/event-stream", pull, release, v);
}
