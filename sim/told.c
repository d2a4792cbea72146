/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/told.h"
#include "sim/answer.h"

static void put_model_or_404(struct sim_conn *c, struct str path, struct sim_reply *r)
{
    static const struct str prefix = {"/v1/models/", 11};
    struct str id = {path.p + prefix.n, path.n - prefix.n};

    if (!sim_server_unloaded(c->s) && sim_answer_model(&c->s->body, c->s->o, id) == RC_OK)
        return;
    sim_answer_error(&c->s->body, 404, "model", "The model does not exist.");
    r->status = 404;
}

static void put_models_or_404(struct sim_conn *c, struct sim_reply *r)
{
    static const struct sim_options none = {.n_models = 0};

    if (!c->s->unlisted) {
        sim_answer_models(&c->s->body, sim_server_unloaded(c->s) ? &none : c->s->o);
        return;
    }
    sim_answer_error(&c->s->body, 404, NULL, "Not Found");
    r->status = 404;
}

static void set_models(struct sim_conn *c, struct sim_reply *r)
{
    if (sim_server_set_models(c->s, c->rq.body) == RC_OK) {
        r->type = NULL;
        return;
    }
    sim_answer_error(&c->s->body, 400, NULL,
                     "the body must be a JSON array of models' names, or null");
    r->status = 400;
}

static void put_404(struct sim_conn *c, struct sim_reply *r)
{
    sim_answer_error(&c->s->body, 404, NULL, "Not Found");
    r->status = 404;
}

/* Slow ones are sent as the fault of that name is. */
static bool put_metrics(struct sim_conn *c, struct sim_reply *r)
{
    struct sim_server *s = c->s;
    enum sim_blur blur = sim_server_blur(s);

    if (s->o->metrics == SIM_NO_METRICS) {
        put_404(c, r);
        return false;
    }
    if (blur == SIM_BLUR_500) {
        sim_answer_error(&s->body, 500, NULL, "no metrics by --metrics-fault");
        r->status = 500;
        return false;
    }
    r->type = "text/plain; version=0.0.4; charset=utf-8";
    sim_server_metrics(s, blur, &s->body);
    return blur == SIM_BLUR_SLOW;
}

static void put_own(struct sim_conn *c, struct sim_reply *r, enum sim_flavour flavour,
                    void (*put)(const struct sim_state *s, struct buf *dst))
{
    struct sim_state state = sim_server_state(c->s);

    if (c->s->o->metrics == flavour)
        put(&state, &c->s->body);
    else
        put_404(c, r);
}

static void put_crowd(void *ctx, struct json_writer *w)
{
    struct sim_server *s = ctx;
    struct sim_machine *m = sim_engine_machine(s->engine);

    if (sim_quota_set(&s->quota))
        jw_i64(w, "over_quota", (int64_t)s->over_quota);
    if (!m)
        return;
    jw_i64(w, "late_us", sim_machine_late(m));
    if (sim_machine_crowd(m))
        sim_crowd_put(sim_machine_crowd(m), "interactive", w);
}

bool sim_told(struct sim_conn *c, struct str path, struct sim_reply *r)
{
    struct sim_server *s = c->s;

    switch ((int)c->rq.route) { /* int: only those that are no work come here */
    case SIM_MODELS:
        put_models_or_404(c, r);
        break;
    case SIM_SET_MODELS:
        set_models(c, r);
        break;
    case SIM_MODEL:
        put_model_or_404(c, path, r);
        break;
    case SIM_HEALTH:
        r->type = NULL; /* vLLM: 200 and nothing */
        break;
    case SIM_METRICS:
        return put_metrics(c, r);
    case SIM_PROPS:
        put_own(c, r, SIM_LLAMACPP, sim_meter_props);
        break;
    case SIM_SERVER_INFO:
        put_own(c, r, SIM_SGLANG, sim_meter_info);
        break;
    case SIM_ORACLE:
        r->type = "application/jsonl";
        sim_oracle_lines(s->oracle, &s->body);
        break;
    default: /* SIM_COUNTS */
        sim_oracle_counts(s->oracle, &s->body, put_crowd, s);
        break;
    }
    return false;
}
