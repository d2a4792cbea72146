/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/handle.h"
#include "base/log.h"
#include "sim/answer.h"

#include <stdio.h>

/* --- Replies -------------------------------------------------------------------------
 */

static struct sim_reply reply_of(struct sim_conn *c, unsigned status)
{
    struct sim_server *s = c->s;

    return (struct sim_reply){
        .status = status,
        .type = "application/json",
        .body = buf_peek(&s->body),
        .id = c->id,
        .date = sim_server_date(s),
        .retry_after =
            status == 429 || status == 503 || status == 529 ? s->o->retry_after : -1,
        .minor = c->head.minor,
        .keep_alive = c->head.keep_alive,
    };
}

static void send_plain(struct sim_conn *c, const struct sim_reply *r)
{
    struct sim_wire wire;

    buf_reset(&c->s->out);
    sim_wire_plain(&c->s->out, r, &wire);
    sim_conn_send(c, &wire);
}

static void send_error(struct sim_conn *c, unsigned status, const char *param,
                       const char *message)
{
    struct sim_reply r;

    buf_reset(&c->s->body);
    sim_answer_error(&c->s->body, status, param, message);
    r = reply_of(c, status);
    if (status == 405)
        r.extra = "allow: GET, POST, PUT\r\n";
    if (status >= 300 && status < 400) /* a client that follows shows up as a GET */
        r.extra = "location: /v1/models\r\n";
    send_plain(c, &r);
}

/* --- The record ----------------------------------------------------------------------
 */

static const char *path_text(enum sim_route route)
{
    static const char *const paths[] = {
#define X(name, method, path) path,
        SIM_ROUTES(X)
#undef X
    };

    return route < SIM_ROUTE_COUNT ? paths[route] : "(unknown)";
}

static void log_request(const struct sim_conn *c, unsigned status, const char *how)
{
    char fault[24];

    log_info("sim.request", "id=%s path=%s status=%u fault=%s how=%s bytes=%zu us=%lld",
             c->id, path_text(c->rq.route), status, sim_hit_text(c->hit, fault), how,
             c->rq.body.n,
             (long long)(c->noted ? loop_now(c->s->loop) - c->job.came : 0));
}

static void note_came(struct sim_conn *c)
{
    struct sim_record r = {
        .path = path_text(c->rq.route),
        .hash = c->rq.hash,
        .crc = c->rq.crc,
        .bytes = c->rq.body.n,
        .attempt = sim_oracle_seen(c->s->oracle, c->rq.hash),
        .came = sim_server_time(c->s),
    };

    memcpy(r.id, c->id, sizeof r.id);
    c->job.came = loop_now(c->s->loop);
    c->attempt = r.attempt;
    c->ticket = sim_oracle_came(c->s->oracle, &r);
    c->noted = true;
}

/* Before the bytes are sent: sending may close, and that must not count again. */
static void note_went(struct sim_conn *c, unsigned status, bool aborted)
{
    if (c->s->o->log)
        log_request(c, status, aborted ? "aborted" : "answered");
    if (!c->noted)
        return;
    c->noted = false;
    sim_oracle_went(c->s->oracle, c->ticket, c->rq.hash, c->hit, status, aborted,
                    sim_server_time(c->s));
}

void sim_handle_gone(struct sim_conn *c, bool by_client)
{
    if (!c->noted)
        return;
    sim_engine_abort(&c->job);
    if (by_client)
        c->s->meter.aborted++;
    c->hit = (struct sim_hit){SIM_FAULT_NONE, 0};
    note_went(c, 0, by_client);
}

static void refuse(struct sim_conn *c, unsigned status, const char *param,
                   const char *message)
{
    note_went(c, status, false);
    send_error(c, status, param, message);
}

/* --- Faults --------------------------------------------------------------------------
 */

/* Which status a client can have read, 0 for none. */
static unsigned status_of(struct sim_hit hit)
{
    switch ((int)hit.kind) { /* int: the others answer 200 */
    case SIM_FAULT_STATUS:
        return hit.status;
    case SIM_FAULT_RESET:
    case SIM_FAULT_STALL:
    case SIM_FAULT_GARBAGE:
    case SIM_FAULT_HTTP09:
    case SIM_FAULT_CLOSE_HEAD:
    case SIM_FAULT_CLOSE:
    case SIM_FAULT_TLS_ALERT:
    case SIM_FAULT_BAD_STATUS:
        return 0;
    case SIM_FAULT_RETRY_HOUR:
    case SIM_FAULT_RETRY_MINUS:
    case SIM_FAULT_RETRY_PAST:
    case SIM_FAULT_RETRY_JUNK:
        return 429;
    default:
        return 200;
    }
}

static void send_fault(struct sim_conn *c)
{
    struct sim_server *s = c->s;
    struct sim_reply r = reply_of(c, 200);
    struct sim_wire wire;

    buf_reset(&s->out);
    sim_wire_fault(&s->out, &s->spare, &r, c->hit.kind, c->rq.hash + c->attempt, s->o,
                   &wire);
    sim_conn_send(c, &wire);
}

static struct sim_hit pick_fault(const struct sim_conn *c)
{
    const struct sim_options *o = c->s->o;
    const struct sim_window *w = sim_schedule_at(&o->schedule, sim_server_time(c->s));

    return w ? w->hit : sim_mix_pick(&o->faults, c->rq.hash, c->attempt);
}

/* Those that happen before any work. */
static void early_fault(struct sim_conn *c)
{
    char message[64];

    note_went(c, status_of(c->hit), false);
    if (c->hit.kind == SIM_FAULT_STATUS) {
        (void)snprintf(message, sizeof message, "status %u by --fault", c->hit.status);
        send_error(c, c->hit.status, NULL, message);
        return;
    }
    buf_reset(&c->s->body);
    send_fault(c);
}

/* --- Work ----------------------------------------------------------------------------
 */

static void finish(struct sim_conn *c, usec_t now)
{
    struct sim_server *s = c->s;
    int64_t created = s->o->created ? (int64_t)s->o->created : clock_wall_sec();
    struct sim_reply r;

    buf_reset(&s->body);
    sim_answer(&s->body, &c->rq, created);
    if (buf_failed(&s->body) != RC_OK) {
        c->hit = (struct sim_hit){SIM_FAULT_NONE, 0};
        refuse(c, 500, NULL, "the answer is too large");
        return;
    }
    sim_meter_done(&s->meter, &c->rq, &c->job, now);
    note_went(c, status_of(c->hit), false);
    if (c->hit.kind != SIM_FAULT_NONE) {
        send_fault(c);
        return;
    }
    r = reply_of(c, 200);
    send_plain(c, &r);
}

static void on_job_done(struct sim_job *job, usec_t now)
{
    struct sim_conn *c = CONTAINER_OF(job, struct sim_conn, job);

    finish(c, now);
    sim_conn_resume(c);
}

static void start_work(struct sim_conn *c)
{
    struct sim_server *s = c->s;
    enum rc rc;

    c->job.done = on_job_done;
    c->job.takes = sim_request_time(&c->rq, s->o);
    c->job.tokens = c->rq.prompt_tokens + c->rq.output_tokens * c->rq.choices;
    rc = sim_engine_start(s->engine, &c->job);
    if (rc == RC_OK) {
        finish(c, loop_now(s->loop));
    } else if (rc == RC_AGAIN) {
        sim_conn_wait(c);
    } else {
        c->hit = (struct sim_hit){SIM_FAULT_NONE, 0};
        refuse(c, (unsigned)s->o->overload_status, NULL, "too many requests are waiting");
    }
}

static void work(struct sim_conn *c)
{
    struct sim_refusal why;

    note_came(c);
    c->hit = pick_fault(c);
    if (sim_fault_early(c->hit.kind) && c->hit.kind != SIM_FAULT_NONE) {
        early_fault(c);
    } else if (sim_request_read(&c->rq, c->s->o, &why) != RC_OK) {
        c->hit = (struct sim_hit){SIM_FAULT_NONE, 0};
        refuse(c, why.status, why.param, why.text);
    } else {
        start_work(c);
    }
}

/* --- What is only read ---------------------------------------------------------------
 */

static void put_model_or_404(struct sim_conn *c, struct str path, struct sim_reply *r)
{
    static const struct str prefix = {"/v1/models/", 11};
    struct str id = {path.p + prefix.n, path.n - prefix.n};

    if (sim_answer_model(&c->s->body, c->s->o, id) == RC_OK)
        return;
    sim_answer_error(&c->s->body, 404, "model", "The model does not exist.");
    r->status = 404;
}

static void put_models_or_404(struct sim_conn *c, struct sim_reply *r)
{
    if (!c->s->unlisted) {
        sim_answer_models(&c->s->body, c->s->o);
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

static void send_told(struct sim_conn *c, struct str path)
{
    struct sim_server *s = c->s;
    struct sim_reply r = reply_of(c, 200);

    buf_reset(&s->body);
    switch ((int)c->rq.route) { /* int: only those that are no work come here */
    case SIM_MODELS:
        put_models_or_404(c, &r);
        break;
    case SIM_SET_MODELS:
        set_models(c, &r);
        break;
    case SIM_MODEL:
        put_model_or_404(c, path, &r);
        break;
    case SIM_HEALTH:
        r.type = NULL; /* vLLM: 200 and nothing */
        break;
    case SIM_METRICS:
        r.type = "text/plain; version=0.0.4; charset=utf-8";
        sim_meter_text(&s->meter, sim_engine_load(s->engine),
                       s->o->n_models ? s->o->models[0] : "", &s->body);
        break;
    case SIM_ORACLE:
        r.type = "application/jsonl";
        sim_oracle_lines(s->oracle, &s->body);
        break;
    default: /* SIM_COUNTS */
        sim_oracle_counts(s->oracle, &s->body);
        break;
    }
    r.body = buf_peek(&s->body);
    note_went(c, r.status, false);
    send_plain(c, &r);
}

/* --- Requests ------------------------------------------------------------------------
 */

static bool printable(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < ' ' || s.p[i] > '~')
            return false;
    return true;
}

/* The client's id when it can be echoed, else one of ours: "req_" and 32 hex digits. */
static void set_id(struct sim_conn *c)
{
    struct str id = http1_field(&c->head, c->base, "x-request-id");
    uint64_t n;

    if (id.n && id.n <= SIM_ID_MAX && printable(id)) {
        memcpy(c->id, id.p, id.n);
        c->id[id.n] = '\0';
        return;
    }
    n = c->s->id_state++;
    memcpy(c->id, "req_", 5);
    for (int half = 0; half < 2; half++) {
        uint64_t bits = sim_mix64(n * 2 + (uint64_t)half);

        for (int i = 0; i < 16; i++)
            c->id[4 + half * 16 + i] = "0123456789abcdef"[bits >> (60 - 4 * i) & 15];
    }
    c->id[36] = '\0';
}

static bool may_enter(const struct sim_conn *c, struct str path)
{
    static const struct str v1 = {"/v1/", 4}, bearer = {"Bearer ", 7};
    struct str given;

    if (!c->s->o->api_key || !str_starts(path, v1))
        return true;
    given = http1_field(&c->head, c->base, "authorization");
    if (!given.p || !str_starts(given, bearer))
        return false;
    given.p += bearer.n, given.n -= bearer.n;
    return str_is(given, c->s->o->api_key);
}

static bool is_poison(const struct sim_conn *c, struct str body)
{
    const char *poison = c->s->o->poison;

    return poison && body.n && memmem(body.p, body.n, poison, strlen(poison));
}

void sim_handle(struct sim_conn *c, struct str body)
{
    struct str path = http1_path(&c->head, c->base);
    enum sim_route route = sim_route_of(http1_method(&c->head, c->base), path);

    set_id(c);
    c->hit = (struct sim_hit){SIM_FAULT_NONE, 0};
    sim_request_init(&c->rq, route, body, c->s->o->seed);
    if (is_poison(c, body))
        sim_server_crash(c->s);
    else if (!may_enter(c, path))
        refuse(c, 401, NULL, "Incorrect API key provided.");
    else if (route == SIM_NO_PATH)
        refuse(c, 404, NULL, "Not Found");
    else if (route == SIM_NO_METHOD)
        refuse(c, 405, NULL, "Method Not Allowed");
    else if (sim_route_works(route))
        work(c);
    else
        send_told(c, path);
}

void sim_handle_bad(struct sim_conn *c, int status, const char *why)
{
    c->head.keep_alive = false;
    c->hit = (struct sim_hit){SIM_FAULT_NONE, 0};
    c->rq = (struct sim_request){.route = SIM_NO_PATH};
    c->id[0] = '\0';
    set_id(c);
    refuse(c, (unsigned)status, NULL, why);
}
