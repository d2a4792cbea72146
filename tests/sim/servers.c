/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replaces http/client.c: the upstreams and the receivers of webhooks, and all that can go
 * wrong on the way.  What becomes of a call is drawn when it starts; a server that dies takes
 * along all calls that it has.
 */
#include "tests/sim/sim.h"
#include "tests/sim/loop.h"

#include "base/map.h"
#include "base/mem.h"
#include "core/endpoint.h"
#include "http/client.h"

enum { CALLS = 512, EXECUTIONS = 32768, DELIVERIES = 64 };

struct http_client {
    struct loop *loop;
    unsigned targets;
};

struct http_target {
    struct http_client *client;
    int up;   /* -1: none */
    int hook; /* likewise */
};

/* What will become of a call. */
struct future {
    enum http_fate fate;
    long status;
    int64_t retry_after_ms;
    const char *body;
    bool kills; /* the server, when it is answered */
    usec_t after;
};

struct flight {
    struct http_call *call; /* NULL: free */
    struct http_client *client;
    const struct http_target *target;
    struct future future;
    uint32_t serial; /* of the execution; 0: it is no line */
    int subject, item;
    uint64_t number; /* of this use */
    bool landed;     /* on its way through the loop */
};

struct server {
    bool up;
    unsigned lines; /* of lines that it has now */
    unsigned by_project[PROJECTS];
    uint32_t models; /* of its list */
};

struct execution {
    uint8_t subject, item;
    short status; /* of a whole answer that the process took; 0: none */
};

struct delivery {
    char event[ID_CAP];
    unsigned count[HOOKS];
};

static struct flight flights[CALLS];
static uint64_t n_uses;
static struct server servers[UPS];
static struct execution executions[EXECUTIONS];
static uint32_t n_executions;
static struct delivery deliveries[DELIVERIES];
static unsigned n_deliveries;
static struct http_client *clients[2]; /* the engine's, the webhooks' */
static unsigned open_targets;

unsigned servers_lines_of(const struct subject *s, unsigned item, int *ret_up)
{
    unsigned n = 0;

    for (unsigned i = 0; i < CALLS; i++) {
        const struct flight *f = &flights[i];

        if (!f->call || f->subject != (int)s->number || f->item != (int)item ||
            !f->serial)
            continue;
        *ret_up = f->target->up;
        n++;
    }
    return n;
}

unsigned servers_calls(void)
{
    unsigned n = open_targets;

    for (unsigned i = 0; i < CALLS; i++)
        n += flights[i].call != NULL;
    return n;
}

struct loop *engine_loop(void)
{
    return clients[0] ? clients[0]->loop : NULL;
}

bool execution_find(uint32_t serial, unsigned *ret_subject, unsigned *ret_item,
                    long *ret_status)
{
    if (serial == 0 || serial > n_executions)
        return false;
    *ret_subject = executions[serial - 1].subject;
    *ret_item = executions[serial - 1].item;
    *ret_status = executions[serial - 1].status;
    return true;
}

unsigned hook_deliveries(const char *event, unsigned hook)
{
    for (unsigned i = 0; i < n_deliveries; i++)
        if (strcmp(deliveries[i].event, event) == 0)
            return deliveries[i].count[hook];
    return 0;
}

/* --- Servers die and come back ------------------------------------------------------- */

static void land(void *ctx, uint64_t number);

static void revive(void *ctx, uint64_t up)
{
    (void)ctx;
    servers[up].up = true;
    if (plan.moving_models && !world.calm)
        servers[up].models = chance_below(1u << plan.n_models);
    TOLD("server %u is back", (unsigned)up);
}

static void server_dies(unsigned up, bool for_long)
{
    if (!servers[up].up)
        return;
    truth.deaths++;
    servers[up].up = false;
    TOLD("server %u dies", up);
    for (unsigned i = 0; i < CALLS; i++) {
        struct flight *f = &flights[i];

        if (!f->call || f->landed || f->target->up != (int)up)
            continue;
        f->future = (struct future){HTTP_RESET, 0, -1, NULL, false, 0};
        f->number = ++n_uses;
        life_post(chance_time(1, 2000), land, f, f->number);
    }
    world_post(chance_time(1000, for_long ? 120 * USEC_PER_SEC : 5 * USEC_PER_SEC),
               revive, NULL, up);
}

void servers_calm(void)
{
    for (unsigned i = 0; i < plan.n_ups; i++)
        servers[i].models = (1u << plan.n_models) - 1;
}

void servers_life_over(void)
{
    for (unsigned i = 0; i < CALLS; i++)
        flights[i].call = NULL;
    for (unsigned i = 0; i < UPS; i++) {
        servers[i].lines = 0;
        memset(servers[i].by_project, 0, sizeof servers[i].by_project);
    }
    clients[0] = clients[1] = NULL;
    open_targets = 0;
}

void servers_reset(void)
{
    servers_life_over();
    n_executions = n_deliveries = 0;
    for (unsigned i = 0; i < UPS; i++)
        servers[i] = (struct server){.up = true, .models = (1u << plan.n_models) - 1};
    if (plan.moving_models)
        for (unsigned i = 0; i < plan.n_ups; i++)
            servers[i].models = chance_below(1u << plan.n_models);
}

/* --- Futures ------------------------------------------------------------------------- */

#define WHOLE(status, retry, body)                                                       \
    {                                                                                    \
        HTTP_ANSWERED, status, retry, body, false, 0                                     \
    }

/* Twenty-odd ways not to answer. */
static const struct future misdeeds[] = {
    WHOLE(429, -1, "{\"error\":{\"message\":\"slow down\"}}"),
    WHOLE(429, 1500, "{\"error\":{}}"),
    WHOLE(429, 900000, "{}"),
    WHOLE(503, -1, "busy"),
    WHOLE(503, 4000, "{}"),
    WHOLE(529, -1, "{}"),
    WHOLE(500, -1, "{\"error\":{\"message\":\"oops\"}}"),
    WHOLE(500, -1, "Internal Server Error"),
    WHOLE(502, -1, "<html>bad gateway</html>"),
    WHOLE(504, -1, ""),
    WHOLE(408, -1, "{}"),
    WHOLE(409, -1, "{}"),
    WHOLE(200, -1, "not JSON"),
    WHOLE(200, -1, "[1,2]"),
    WHOLE(200, -1, ""),
    WHOLE(204, -1, ""),
    WHOLE(400, -1, "{\"error\":{\"message\":\"bad request\"}}"),
    WHOLE(404, -1, "{\"error\":{\"message\":\"no such model\"}}"),
    WHOLE(413, -1, "too large"),
    WHOLE(422, -1, "{\"detail\":[]}"),
    {HTTP_RESET, 0, -1, NULL, false, 0},
    {HTTP_GARBLED, 0, -1, NULL, false, 0},
    {HTTP_TIMEOUT, 0, -1, NULL, false, 0},
    {HTTP_TOO_LARGE, 0, -1, NULL, false, 0},
    {HTTP_NO_CONNECT, 0, -1, NULL, false, 0},
};

static usec_t timeout_of(const struct http_call *c)
{
    usec_t idle = c->idle_timeout, total = c->total_timeout;

    return total && (!idle || total < idle) ? total : idle ? idle : 600 * USEC_PER_SEC;
}

static struct future refused(const struct http_call *c)
{
    usec_t after = chance(1, 8) ? c->connect_timeout : chance_time(50, 5000);

    return (struct future){HTTP_NO_CONNECT, 0, -1, NULL, false, after};
}

static struct future of_line(const struct flight *f, unsigned up, bool poison)
{
    const struct up_plan *p = &plan.ups[up];
    struct future is = WHOLE(200, -1, NULL);

    if (!servers[up].up)
        return refused(f->call);
    is.after = chance_time(p->fast, p->slow);
    if (poison)
        is.kills = true;
    else if (p->room && servers[up].lines > p->room && !world.calm)
        is =
            (struct future)WHOLE(chance(1, 2) ? 429 : 503, chance(1, 2) ? 700 : -1, "{}");
    else if (fault(p->bad, 1000))
        is = misdeeds[chance_below(COUNTOF(misdeeds))];
    else if (fault(p->deaths, 1000))
        is.kills = true;
    if (is.fate == HTTP_TIMEOUT || is.after > timeout_of(f->call)) {
        is = (struct future){HTTP_TIMEOUT, 0, -1, NULL, false, timeout_of(f->call)};
    } else if (!is.after) {
        is.after = chance_time(100, p->slow);
    }
    return is;
}

static bool is_metrics(const struct flight *f)
{
    return strcmp(f->call->path, "/metrics") == 0;
}

static struct future of_question(const struct flight *f, unsigned up)
{
    const struct up_plan *p = &plan.ups[up];
    bool list = strcmp(f->call->path, "/models") == 0;
    struct future is = WHOLE(200, -1, NULL);

    if (!servers[up].up)
        return refused(f->call);
    is.after = chance_time(100, 200 * USEC_PER_MS);
    if (fault(1, 12)) {
        usec_t after = is.after;

        is = misdeeds[chance_below(COUNTOF(misdeeds))];
        is.after = is.fate == HTTP_TIMEOUT ? timeout_of(f->call) : after;
    } else if (is_metrics(f) && p->measured) {
        is.body = NULL;
    } else if (list ? !p->tells : !p->healthy || strcmp(f->call->path, "/health") != 0) {
        is.status = 404;
        is.body = "{}";
    }
    return is;
}

static struct future of_hook(const struct flight *f)
{
    static const short statuses[] = {200, 204, 500, 503, 404, 301};
    struct future is = WHOLE(200, -1, "");

    (void)f;
    is.after = chance_time(100, 2 * USEC_PER_SEC);
    if (fault(1, 4))
        is.status = statuses[chance_below(COUNTOF(statuses))];
    else if (fault(1, 8))
        is = (struct future){HTTP_RESET, 0, -1, NULL, false, chance_time(100, 5000)};
    else if (fault(1, 200))
        is.status = 410;
    return is;
}

/* --- Answers ------------------------------------------------------------------------- */

static void put_models(struct buf *b, uint32_t models)
{
    (void)buf_z(b, "{\"object\":\"list\",\"data\":[");
    for (unsigned i = 0, n = 0; i < plan.n_models; i++)
        if (models >> i & 1)
            (void)buf_fmt(b, "%s{\"id\":\"m%u\",\"object\":\"model\"}", n++ ? "," : "",
                          i);
    (void)buf_z(b, "]}");
}

static void put_body(const struct flight *f)
{
    struct buf *b = &f->call->answer;
    unsigned u = f->serial % 7;

    if (f->future.body)
        (void)buf_z(b, f->future.body);
    else if (is_metrics(f))
        (void)buf_fmt(b,
                      "vllm:num_requests_running %u\nvllm:num_requests_waiting 0\n"
                      "vllm:kv_cache_usage_perc 0.5\n",
                      servers[f->target->up].lines);
    else if (!f->serial)
        put_models(b, servers[f->target->up].models);
    else if (u)
        (void)buf_fmt(
            b,
            "{\"object\":\"chat.completion\",\n\"serial\":%u,\"usage\":{"
            "\"prompt_tokens\":%u,\"completion_tokens\":1,\"total_tokens\":%u}}",
            f->serial, u, u + 1);
    else
        (void)buf_fmt(b, "{\"serial\":%u}", f->serial);
}

static void note_delivery(const struct flight *f)
{
    const char *id = f->call->headers[0] + sizeof "webhook-id: " - 1;
    unsigned i = 0;

    while (i < n_deliveries && strcmp(deliveries[i].event, id) != 0)
        i++;
    if (i == n_deliveries) {
        CHECK(n_deliveries < DELIVERIES);
        deliveries[n_deliveries++] = (struct delivery){.count = {0}};
        CHECK(str_fmt(deliveries[i].event, ID_CAP, "%s", id) == RC_OK);
    }
    deliveries[i].count[f->target->hook]++;
}

static bool is_final(const struct http_call *c)
{
    struct outcome o;

    if (c->fate == HTTP_TOO_LARGE)
        return true;
    if (c->fate != HTTP_ANSWERED)
        return false;
    o = outcome_of_answer(c->status, buf_peek(&c->answer));
    return o.cls == OUTCOME_DONE || (o.cls == OUTCOME_REFUSED && c->status != 404);
}

/* A call has ended without an answer for good; its twin, which was excused when it was
 * sent, may bring one. */
static void note_end(struct line_run *run)
{
    if (--run->flights > 0 || run->state == LINE_ANSWERED)
        return;
    run->state = LINE_IDLE;
    run->excused++;
}

/* The process takes the answer to a line. */
static void note_answer(const struct flight *f)
{
    struct subject *s = &truth.subjects[f->subject];
    struct line_run *run = &s->run[f->item];

    executions[f->serial - 1].status = (short)f->call->status;
    if (is_final(f->call)) {
        run->state = LINE_ANSWERED;
        run->flights--;
    } else {
        note_end(run);
    }
}

static void leave(struct flight *f)
{
    if (f->serial) {
        servers[f->target->up].lines--;
        servers[f->target->up].by_project[truth.subjects[f->subject].project]--;
    }
    f->call->_easy = NULL;
    f->call = NULL;
}

/* In a turn of the loop. */
static void finish(void *ctx, uint64_t number)
{
    static const char *const reasons[] = {
        "", "Connection refused", "reset", "no byte", "too large", "garbled", "aborted"};
    struct flight *f = ctx;
    struct http_call *c = f->call;

    if (!c || f->number != number)
        return; /* cancelled meanwhile */
    c->fate = f->future.fate;
    CHECK(str_fmt(c->reason, sizeof c->reason, "%s", reasons[c->fate]) == RC_OK);
    if (c->fate == HTTP_ANSWERED) {
        c->status = f->future.status;
        c->retry_after_ms = f->future.retry_after_ms;
        if (f->target->hook < 0)
            put_body(f);
    }
    if (f->serial)
        note_answer(f);
    trace_mix(f->serial * 16u + (uint64_t)c->fate + (uint64_t)c->status);
    TOLD("answer %s/%d execution %u: fate %d status %ld", f->serial ? "line" : c->path,
         f->item, f->serial, (int)c->fate, c->status);
    leave(f);
    c->done(c);
}

static void land(void *ctx, uint64_t number)
{
    struct flight *f = ctx;

    if (!f->call || f->number != number)
        return;
    if (f->future.kills) {
        server_dies((unsigned)f->target->up, !world.calm);
        return;
    }
    f->landed = true;
    if (f->target->hook >= 0 && f->future.fate == HTTP_ANSWERED && f->future.status < 300)
        note_delivery(f);
    loop_deliver(f->client->loop, finish, f, number);
}

/* --- The calls of http/client.h ------------------------------------------------------ */

enum rc http_client_new(struct loop *l, const struct http_client_opts *o,
                        struct http_client **ret, struct err *e)
{
    struct http_client *c = mem_new(struct http_client);

    (void)e;
    c->loop = l;
    clients[strcmp(o->user_agent, "hooks") == 0] = c;
    *ret = c;
    return RC_OK;
}

struct http_client *http_client_free(struct http_client *c)
{
    if (!c)
        return NULL;
    for (unsigned i = 0; i < CALLS; i++) {
        struct flight *f = &flights[i];
        struct http_call *call = f->call;

        if (!call || f->client != c)
            continue;
        call->fate = HTTP_ABORTED;
        leave(f);
        call->done(call);
    }
    for (unsigned i = 0; i < COUNTOF(clients); i++)
        if (clients[i] == c)
            clients[i] = NULL;
    mem_free(c);
    return NULL;
}

enum rc http_target_new(struct http_client *c, const struct http_target_opts *o,
                        struct http_target **ret, struct err *e)
{
    struct http_target *t = mem_new(struct http_target);

    (void)e;
    t->client = c;
    t->up = t->hook = -1;
    if (str_starts(str_of(o->base_url), STR("http://up")))
        t->up = o->base_url[9] - '0';
    else
        t->hook = o->base_url[11] - '0'; /* http://hook */
    open_targets++;
    *ret = t;
    return RC_OK;
}

struct http_target *http_target_free(struct http_target *t)
{
    if (t)
        open_targets--;
    mem_free(t);
    return NULL;
}

void http_call_init(struct http_call *c)
{
    memset(c, 0, sizeof *c);
    buf_init(&c->answer, 1 << 20);
    c->retry_after_ms = -1;
}

void http_call_done(struct http_call *c)
{
    CHECK(!c->_easy);
    buf_done(&c->answer);
}

/* "batch/number/attempt" */
static void note_start(struct flight *f)
{
    struct str rest = str_of(f->call->request_id), batch = str_cut(&rest, '/');
    char id[ID_CAP];
    uint64_t number = 0;
    struct subject *s;
    struct input *in;

    CHECK(str_fmt(id, sizeof id, "%.*s", STR_ARG(batch)) == RC_OK);
    CHECK(str_u64(str_cut(&rest, '/'), &number) == RC_OK);
    s = subject_find(id);
    CHECK(s && n_executions < EXECUTIONS);
    in = &truth.inputs[s->input];
    f->subject = (int)s->number;
    for (f->item = 0; in->line[f->item].number != number; f->item++)
        CHECK(f->item + 1 < (int)in->lines);
    check_send(s, (unsigned)f->item, f->call, f->target->up);
    executions[n_executions++] =
        (struct execution){(uint8_t)s->number, (uint8_t)f->item, 0};
    f->serial = n_executions;
    s->run[f->item].state = LINE_FLYING;
    s->run[f->item].life = world.life;
    truth.hedges += s->run[f->item].flights++ > 0;
    s->run[f->item].executions++;
    truth.executions++;
    servers[f->target->up].lines++;
    servers[f->target->up].by_project[s->project]++;
    trace_mix(f->serial);
    TOLD("send batch %u line %d to server %d: execution %u, %s", s->number, f->item,
         f->target->up, f->serial, f->call->request_id + batch.n + 1);
}

/* Lines in flight. */
static void check_caps(unsigned up)
{
    unsigned sums[PROJECTS] = {0};

    if (servers[up].lines > plan.ups[up].window)
        violated(P3, "server %u has %u calls in flight, its window is %u", up,
                 servers[up].lines, plan.ups[up].window);
    for (unsigned p = 0; p < plan.n_projects; p++) {
        unsigned max = plan.projects[p].max_inflight;

        for (unsigned i = 0; i < plan.n_ups; i++)
            sums[p] += servers[i].by_project[p];
        if (max && sums[p] > max)
            violated(P3, "project %u has %u calls in flight, its limit is %u", p, sums[p],
                     max);
    }
}

void http_start(struct http_client *c, struct http_call *call)
{
    struct flight *f = flights;
    bool line = strcmp(call->method, "POST") == 0 && call->target->up >= 0;

    CHECK(!call->_easy && call->done && call->target->client == c);
    while (f < flights + CALLS && f->call)
        f++;
    CHECK(f < flights + CALLS);
    *f = (struct flight){.call = call, .client = c, .target = call->target, .item = -1};
    f->number = ++n_uses;
    call->_easy = f;
    call->status = 0;
    call->retry_after_ms = -1;
    call->answer_id[0] = call->reason[0] = '\0';
    buf_reset(&call->answer);
    if (line) {
        unsigned up = (unsigned)call->target->up;

        note_start(f);
        check_caps(up);
        f->future = of_line(
            f, up, truth.inputs[truth.subjects[f->subject].input].line[f->item].poison);
    } else if (call->target->up >= 0) {
        f->future = of_question(f, (unsigned)call->target->up);
    } else {
        f->future = of_hook(f);
    }
    life_post(f->future.after, land, f, f->number);
}

void http_cancel(struct http_call *call)
{
    struct flight *f = call->_easy;

    if (!f)
        return;
    if (f->serial)
        note_end(&truth.subjects[f->subject].run[f->item]);
    leave(f);
    buf_reset(&call->answer);
}
