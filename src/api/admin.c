/* SPDX-License-Identifier: Apache-2.0 */
#include "api/admin.h"
#include "api/call.h"
#include "json/json.h"

#include <stdatomic.h>

/* reason NULL: all is well; note NULL: nor is there anything else to tell. */
static void reply_health(struct call *c, const char *reason, const char *note)
{
    struct json_writer w;
    struct buf body;

    buf_init(&body, CALL_ANSWER_MAX);
    jw_init(&w, &body);
    jw_open(&w, NULL, '{');
    jw_z(&w, "status", reason ? "unavailable" : "ok");
    if (reason)
        jw_z(&w, "reason", reason);
    if (note)
        jw_z(&w, "note", note);
    jw_close(&w, '}');
    if (reason)
        http_add_header(c->rq, "Retry-After", "1");
    http_add_header(c->rq, "Cache-Control", "no-store");
    call_reply(c, reason ? 503 : 200, "application/json", &body);
}

void admin_healthz(struct call *c)
{
    reply_health(c, NULL, NULL);
}

void admin_readyz(struct call *c)
{
    const struct api_opts *o = &c->api->opts;
    const char *refused = atomic_load(&c->api->refused);
    struct err e = {0};
    char note[240];
    int64_t ahead;
    bool known;
    enum rc rc;

    if (refused)
        reply_health(c, refused, NULL);
    else if (o->keys && (rc = keyring_state(o->keys, &e)) != RC_OK && rc != RC_NOTFOUND)
        reply_health(c, "the keys file cannot be used; the log tells why", NULL);
    else if (o->store->ops->file_known(o->store->self, ID_FILE "readyz", &known, &e) !=
             RC_OK)
        reply_health(c, e.text[0] ? e.text : "the store does not answer", NULL);
    else if (!engine_recovered(o->engine))
        reply_health(c, "batches of the last run are still being recovered", NULL);
    else if (clock_doubtful(&ahead))
        reply_health(
            c, NULL,
            str_fmt(
                note, sizeof note,
                "the wall clock is in doubt, it is %lld s ahead of what it should be: nothing expires or is deleted by it; set it, or send SIGHUP if it is right",
                (long long)ahead) == RC_OK
                ? note
                : NULL);
    else
        reply_health(c, NULL, NULL);
}

static void put_clock(struct buf *out)
{
    int64_t ahead;
    bool doubt = clock_doubtful(&ahead);

    (void)buf_fmt(
        out,
        "# HELP batchd_clock_doubted Whether the wall clock has jumped and is not "
        "believed.\n"
        "# TYPE batchd_clock_doubted gauge\n"
        "batchd_clock_doubted %d\n"
        "# HELP batchd_clock_ahead_seconds How far a wall clock that is not "
        "believed is ahead.\n"
        "# TYPE batchd_clock_ahead_seconds gauge\n"
        "batchd_clock_ahead_seconds %lld\n",
        (int)doubt, (long long)ahead);
}

void admin_metrics(struct call *c)
{
    struct buf body;

    buf_init(&body, CALL_ANSWER_MAX);
    counts_put(c->api->counts, route_label, &body);
    engine_metrics(c->api->opts.engine, &body);
    put_clock(&body);
    call_reply(c, 200, "text/plain; version=0.0.4; charset=utf-8", &body);
}

void admin_root(struct call *c)
{
    struct buf body;

    buf_init(&body, CALL_ANSWER_MAX);
    (void)buf_z(&body, "batchd: a self-hosted Batch API that speaks OpenAI's protocol.\n"
                       "\n"
                       "Point an OpenAI SDK's base URL at /v1 of this address.\n"
                       "\n"
                       "  /v1/files     upload inputs, download results\n"
                       "  /v1/batches   create, watch and cancel batches\n"
                       "  /v1/models    the models behind it\n"
                       "  /healthz      the process lives\n"
                       "  /readyz       it takes work\n"
                       "  /metrics      numbers for Prometheus\n");
    call_reply(c, 200, "text/plain; charset=utf-8", &body);
}
