/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/handle.h"
#include "base/log.h"
#include "base/mem.h"
#include "sim/answer.h"
#include "sim/told.h"

#include <stdio.h>

/* --- Replies -------------------------------------------------------------------------
 */

/* Quotas are told with every answer to work. */
static struct str limits_of(struct sim_conn *c)
{
    struct sim_server *s = c->s;

    if (!sim_quota_set(&s->quota) || !sim_route_works(c->rq.route))
        return (struct str){NULL, 0};
    buf_reset(&s->limits);
    sim_quota_headers(&s->quota, loop_now(s->loop), clock_wall(), &s->limits);
    return buf_peek(&s->limits);
}

static struct sim_reply reply_of(struct sim_conn *c, unsigned status)
{
    struct sim_server *s = c->s;

    return (struct sim_reply){
        .limits = limits_of(c),
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

static struct sim_work work_of(const struct sim_conn *c)
{
    const struct sim_seq *q = &c->job.task.member.seq;
    struct sim_work w = {.modelled = c->s->o->modelled && c->started};

    if (!c->started)
        return w;
    if (!w.modelled) {
        w.began = c->job.began - c->s->started;
        return w;
    }
    w.began = q->began ? c->job.began - c->s->started : 0;
    w.first = q->first ? c->job.first - c->s->started : 0;
    w.prompt = q->prompt;
    w.cached = q->cached;
    w.computed = q->computed;
    w.made = q->made;
    w.preempted = q->preempted;
    return w;
}

/* Before the bytes are sent: sending may close, and that must not count again. */
static void note_went(struct sim_conn *c, unsigned status, bool aborted)
{
    struct sim_end end;

    if (c->s->o->log)
        log_request(c, status, aborted ? "aborted" : "answered");
    if (!c->noted)
        return;
    c->noted = false;
    end = (struct sim_end){.hit = c->hit,
                           .status = status,
                           .aborted = aborted,
                           .now = sim_server_time(c->s)};
    if (!c->ghost) /* of a ghost it is told when it is over */
        end.work = work_of(c);
    sim_oracle_went(c->s->oracle, c->ticket, c->rq.hash, &end);
}

void sim_handle_gone(struct sim_conn *c, bool by_client)
{
    if (!c->noted)
        return;
    c->ghost = by_client && c->s->o->ignore_disconnect && sim_engine_has(&c->job);
    if (!c->ghost)
        sim_engine_abort(&c->job);
    if (by_client)
        c->s->meter.aborted++;
    c->hit = (struct sim_hit){SIM_FAULT_NONE, 0};
    note_went(c, 0, by_client);
}

void sim_handle_lay(struct sim_conn *c)
{
    struct sim_work w;

    sim_engine_abort(&c->job);
    w = work_of(c);
    sim_oracle_worked(c->s->oracle, c->ticket, &w);
    c->ghost = false;
    list_del(&c->link);
    list_add_tail(&c->s->dead, &c->link);
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
    case SIM_FAULT_NO_QUOTA:
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
    const struct sim_server *s = c->s;
    const struct sim_window *w =
        sim_schedule_at(&s->o->schedule, SIM_ACT_FAULT, s->replica, sim_server_time(s));

    /* Another replica is a new draw, as another attempt is. */
    return w ? w->hit
             : sim_mix_pick(&s->o->faults, c->rq.hash + s->replica - 1, c->attempt);
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

    if (s->o->modelled)
        c->rq.cached = c->job.task.member.seq.cached;
    buf_reset(&s->body);
    sim_answer(&s->body, &c->rq, created);
    if (buf_failed(&s->body) != RC_OK) {
        c->hit = (struct sim_hit){SIM_FAULT_NONE, 0};
        refuse(c, 500, NULL, "the answer is too large");
        return;
    }
    sim_meter_done(&s->meter, &c->rq, &c->job, now);
    sim_quota_settle(&s->quota, c->held,
                     c->rq.prompt_tokens + c->rq.output_tokens * c->rq.choices, now);
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

    if (c->ghost) {
        sim_handle_lay(c);
        return;
    }
    finish(c, now);
    sim_conn_resume(c);
}

/* The prompt in blocks, for the model.  RC_NOMEM */
static enum rc set_task(struct sim_conn *c)
{
    uint32_t n = sim_request_blocks(&c->rq);
    uint64_t *bigger;

    if (n > c->cap_ids) {
        bigger = mem_resize(c->ids, n * sizeof *bigger);
        if (!bigger)
            return RC_NOMEM;
        c->ids = bigger;
        c->cap_ids = n;
    }
    if (n)
        sim_request_ids(&c->rq, c->ids);
    c->job.task.member.seq = (struct sim_seq){
        .blocks = c->ids,
        .n_blocks = n,
        .prompt = (uint32_t)u64_min(c->rq.prompt_tokens, UINT32_MAX),
        .out = (uint32_t)u64_max(
            1, u64_min(c->rq.output_tokens * c->rq.choices, UINT32_MAX)),
        .priority = c->rq.priority,
    };
    return RC_OK;
}

static enum rc start_job(struct sim_conn *c)
{
    struct sim_server *s = c->s;

    c->job.done = on_job_done;
    c->job.takes = sim_request_time(&c->rq, s->o);
    c->job.tokens = c->rq.prompt_tokens + c->rq.output_tokens * c->rq.choices;
    if (s->o->modelled && set_task(c) != RC_OK)
        return RC_NOMEM;
    return sim_engine_start(s->engine, &c->job);
}

static void start_work(struct sim_conn *c)
{
    struct sim_server *s = c->s;
    enum rc rc = start_job(c);

    c->started = rc == RC_OK || rc == RC_AGAIN;
    if (c->started && rc == RC_OK) {
        finish(c, loop_now(s->loop));
        return;
    }
    if (c->started) {
        sim_conn_wait(c);
        return;
    }
    sim_quota_settle(&s->quota, c->held, 0, loop_now(s->loop));
    c->hit = (struct sim_hit){SIM_FAULT_NONE, 0};
    if (rc == RC_LIMIT)
        refuse(c, (unsigned)s->o->overload_status, NULL, "too many requests are waiting");
    else if (rc == RC_INVALID)
        refuse(c, 400, NULL, "the prompt and its answer are longer than the KV memory");
    else
        refuse(c, 500, NULL, "out of memory");
}

/* --- Quotas --------------------------------------------------------------------------
 */

static void refuse_quota(struct sim_conn *c, const struct sim_quota_no *why)
{
    struct sim_server *s = c->s;
    struct sim_reply r;

    c->hit = (struct sim_hit){SIM_FAULT_NONE, 0};
    note_went(c, 429, false);
    s->over_quota++;
    buf_reset(&s->body);
    sim_quota_refusal(&s->quota, why, c->held, &s->body);
    r = reply_of(c, 429);
    if (r.retry_after < 0) /* to the millisecond, and never 0 */
        r.retry_after = (why->after / USEC_PER_MS + 1) * USEC_PER_MS;
    send_plain(c, &r);
}

/* false: it was refused. */
static bool within_quota(struct sim_conn *c)
{
    struct sim_server *s = c->s;
    struct sim_quota_no why;

    if (!sim_quota_set(&s->quota))
        return true;
    c->held = sim_request_reserve(&c->rq);
    if (sim_quota_take(&s->quota, c->held, loop_now(s->loop), &why) == RC_OK)
        return true;
    refuse_quota(c, &why);
    return false;
}

static void work(struct sim_conn *c)
{
    struct sim_refusal why;

    c->started = false;
    note_came(c);
    c->hit = pick_fault(c);
    if (sim_fault_early(c->hit.kind) && c->hit.kind != SIM_FAULT_NONE) {
        early_fault(c);
    } else if (sim_request_read(&c->rq, c->s->o, &why) != RC_OK) {
        c->hit = (struct sim_hit){SIM_FAULT_NONE, 0};
        refuse(c, why.status, why.param, why.text);
    } else if (sim_server_unloaded(c->s)) {
        c->hit = (struct sim_hit){SIM_FAULT_NONE, 0};
        refuse(c, 404, "model", "The model does not exist.");
    } else if (within_quota(c)) {
        start_work(c);
    }
}

/* --- Requests that are no work --------------------------------------------------------
 */

static void send_told(struct sim_conn *c, struct str path)
{
    struct sim_server *s = c->s;
    struct sim_reply r = reply_of(c, 200);
    struct sim_wire wire;
    bool slow;

    buf_reset(&s->body);
    slow = sim_told(c, path, &r);
    r.body = buf_peek(&s->body);
    note_went(c, r.status, false);
    if (!slow) {
        send_plain(c, &r);
        return;
    }
    buf_reset(&s->out);
    sim_wire_fault(&s->out, &s->spare, &r, SIM_FAULT_SLOW, 0, s->o, &wire);
    sim_conn_send(c, &wire);
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
    c->held = 0;
    sim_request_init(&c->rq, route, body, c->s->o->seed);
    if (is_poison(c, body))
        sim_server_crash(c->s, loop_now(c->s->loop) + c->s->o->poison_down);
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
