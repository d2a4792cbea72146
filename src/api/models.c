/* SPDX-License-Identifier: Apache-2.0 */
#include "api/models.h"
#include "api/call.h"
#include "json/json.h"

static void put_model(struct json_writer *w, const struct api *a, const char *name)
{
    jw_open(w, NULL, '{');
    jw_z(w, "id", name);
    jw_z(w, "object", "model");
    jw_i64(w, "created", a->started);
    jw_z(w, "owned_by", "batchd");
    jw_close(w, '}');
}

void models_list(struct call *c)
{
    struct json_writer w;
    struct buf body;

    buf_init(&body, CALL_ANSWER_MAX);
    jw_init(&w, &body);
    jw_open(&w, NULL, '{');
    jw_z(&w, "object", "list");
    jw_open(&w, "data", '[');
    for (char **m = c->api->models; *m; m++)
        put_model(&w, c->api, *m);
    jw_close(&w, ']');
    jw_close(&w, '}');
    call_reply_json(c, &body);
}

void models_get(struct call *c)
{
    struct json_writer w;
    struct buf body;
    char **m = c->api->models;

    while (*m && !str_is(c->var, *m))
        m++;
    if (!*m) {
        call_fail_as(c, APIERR_NO_MODEL, "model", "The model '%.*s' does not exist",
                     APIERR_SHOW(c->var));
        return;
    }
    buf_init(&body, CALL_ANSWER_MAX);
    jw_init(&w, &body);
    put_model(&w, c->api, *m);
    call_reply_json(c, &body);
}
