/* SPDX-License-Identifier: Apache-2.0 */
#include "api/models.h"
#include "api/call.h"
#include "json/json.h"

struct put {
    struct json_writer w;
    struct str want; /* .p NULL: all of them */
    int64_t started; /* for models whose upstream tells no time, and for aliases */
    bool found;
};

static void put_model(void *ctx, const struct catalog_model *m)
{
    struct put *p = ctx;

    if (p->want.p && !str_is(p->want, m->name))
        return;
    p->found = true;
    jw_open(&p->w, NULL, '{');
    jw_z(&p->w, "id", m->name);
    jw_z(&p->w, "object", "model");
    jw_i64(&p->w, "created", m->created ? m->created : p->started);
    jw_z(&p->w, "owned_by", m->owned_by ? m->owned_by : "batchd");
    jw_close(&p->w, '}');
}

void models_list(struct call *c)
{
    struct put p = {.started = c->api->started};
    struct buf body;

    buf_init(&body, CALL_ANSWER_MAX);
    jw_init(&p.w, &body);
    jw_open(&p.w, NULL, '{');
    jw_z(&p.w, "object", "list");
    jw_open(&p.w, "data", '[');
    engine_models(c->api->opts.engine, put_model, &p);
    jw_close(&p.w, ']');
    jw_close(&p.w, '}');
    call_reply_json(c, &body);
}

void models_get(struct call *c)
{
    struct put p = {.started = c->api->started, .want = c->var};
    struct buf body;

    buf_init(&body, CALL_ANSWER_MAX);
    jw_init(&p.w, &body);
    engine_models(c->api->opts.engine, put_model, &p);
    if (p.found) {
        call_reply_json(c, &body);
        return;
    }
    buf_done(&body);
    call_fail_as(c, APIERR_NO_MODEL, "model", "The model '%.*s' does not exist",
                 APIERR_SHOW(c->var));
}
