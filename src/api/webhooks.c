/* SPDX-License-Identifier: Apache-2.0 */
#include "api/webhooks.h"
#include "api/call.h"
#include "engine/webhooks.h"
#include "json/json.h"

static void put_delivery(struct json_writer *w, const struct outbox_rec *o)
{
    bool given_up = o->settled_at && !o->delivered;

    jw_open(w, NULL, '{');
    jw_z(w, "object", "webhook.delivery");
    jw_str(w, "event", id_str(&o->event));
    jw_z(w, "type", o->type);
    jw_str(w, "destination", webhooks_shown(o->destination));
    jw_i64(w, "created_at", o->created_at);
    jw_i64(w, "tries", o->tries);
    jw_time(w, "next_try_at", o->settled_at ? 0 : o->next_at);
    jw_time(w, "delivered_at", o->delivered ? o->settled_at : 0);
    jw_time(w, "given_up_at", given_up ? o->settled_at : 0);
    if (o->status)
        jw_i64(w, "status_code", o->status);
    else
        jw_null(w, "status_code");
    jw_z(w, "error", o->error);
    jw_close(w, '}');
}

static void reply(struct call *c, const struct outbox_rec *all, size_t n)
{
    struct buf body;
    struct json_writer w;

    buf_init(&body, CALL_ANSWER_MAX);
    jw_init(&w, &body);
    jw_open(&w, NULL, '{');
    jw_z(&w, "object", "list");
    jw_open(&w, "data", '[');
    for (size_t i = 0; i < n; i++)
        put_delivery(&w, &all[i]);
    jw_close(&w, ']');
    jw_close(&w, '}');
    call_reply_json(c, &body);
}

void webhooks_list(struct call *c)
{
    const struct store *s = c->api->opts.store;
    struct outbox_rec *all = NULL;
    struct batch b = {0};
    struct err e = {""};
    struct id id;
    size_t n = 0;
    enum rc rc = id_from(c->var, &id) == RC_OK ? RC_OK : RC_NOTFOUND;

    if (rc == RC_OK)
        rc = s->ops->batch_get(s->self, &c->project, id.z, &b, &e);
    batch_done(&b);
    if (rc == RC_OK)
        rc = s->ops->outbox_list(s->self, &c->project, id.z, &all, &n, &e);
    if (rc == RC_OK)
        reply(c, all, n);
    else if (rc == RC_NOTFOUND)
        call_fail_as(c, APIERR_NOT_FOUND, NULL, "No batch found with id '%.*s'.",
                     APIERR_SHOW(c->var));
    else
        call_fail_rc(c, rc, &e);
    outbox_free(all, n);
}
