/* SPDX-License-Identifier: Apache-2.0 */
#include "api/admin.h"
#include "api/auth.h"
#include "api/batches.h"
#include "api/call.h"
#include "api/control.h"
#include "api/events.h"
#include "api/files.h"
#include "api/models.h"
#include "api/progress.h"
#include "api/quota.h"
#include "api/results.h"
#include "api/uploads.h"
#include "api/webhooks.h"
#include "base/limits.h"
#include "base/mem.h"
#include "io/pool.h"

#include <stdatomic.h>
#include <stdio.h>

static const struct route routes[] = {
    {"POST", "/v1/files", files_create, BODY_FILE},
    {"GET", "/v1/files", files_list, BODY_NONE},
    {"GET", "/v1/files/{id}", files_get, BODY_NONE},
    {"DELETE", "/v1/files/{id}", files_delete, BODY_NONE},
    {"GET", "/v1/files/{id}/content", files_content, BODY_NONE},
    {"POST", "/v1/uploads", uploads_create, BODY_JSON},
    {"POST", "/v1/uploads/{id}/parts", uploads_part, BODY_PART},
    {"POST", "/v1/uploads/{id}/complete", uploads_complete, BODY_JSON},
    {"POST", "/v1/uploads/{id}/cancel", uploads_cancel, BODY_NONE},
    {"POST", "/v1/batches", batches_create, BODY_BATCH},
    {"GET", "/v1/batches", batches_list, BODY_NONE},
    {"GET", "/v1/batches/{id}", batches_get, BODY_NONE},
    {"POST", "/v1/batches/validate", batches_validate, BODY_BATCH},
    {"POST", "/v1/batches/{id}", control_edit, BODY_JSON},
    {"POST", "/v1/batches/{id}/cancel", batches_cancel, BODY_NONE},
    {"POST", "/v1/batches/{id}/pause", control_pause, BODY_NONE},
    {"POST", "/v1/batches/{id}/resume", control_resume, BODY_NONE},
    {"GET", "/v1/batches/{id}/progress", progress_get, BODY_NONE},
    {"GET", "/v1/batches/{id}/results", results_get, BODY_NONE},
    {"GET", "/v1/batches/{id}/events", events_get, BODY_NONE},
    {"GET", "/v1/batches/{id}/webhooks", webhooks_list, BODY_NONE},
    {"POST", "/v1/batches/{id}/retry", batches_retry, BODY_JSON},
    {"GET", "/v1/models", models_list, BODY_NONE},
    {"GET", "/v1/models/{path}", models_get, BODY_NONE},
    {"GET", "/healthz", admin_healthz, BODY_NONE},
    {"GET", "/readyz", admin_readyz, BODY_NONE},
    {"GET", "/metrics", admin_metrics, BODY_NONE},
    {"GET", "/", admin_root, BODY_NONE},
};

/* What operators' tools ask without a key.  All else asks for one, new routes too. */
static bool is_open(const struct route *r)
{
    return r->serve == admin_healthz || r->serve == admin_readyz ||
           r->serve == admin_metrics || r->serve == admin_root;
}

size_t route_count(void)
{
    return COUNTOF(routes);
}

size_t api_route_count(void)
{
    return COUNTOF(routes);
}

struct api_route api_route(size_t i)
{
    CHECK(i < COUNTOF(routes));
    return (struct api_route){routes[i].method, routes[i].pattern};
}

size_t route_number(const struct route *r)
{
    return (size_t)(r - routes);
}

struct count_route route_label(size_t route)
{
    return route < COUNTOF(routes)
               ? (struct count_route){routes[route].method, routes[route].pattern}
               : (struct count_route){"", ""};
}

/* --- Finding the route ---------------------------------------------------------------
 */

/* Takes the next segment, with the '/' before it, off *path. */
static struct str segment(struct str *path)
{
    struct str rest = {path->p + 1, path->n - 1}, one = str_cut(&rest, '/');

    path->p += 1 + one.n;
    path->n -= 1 + one.n;
    return (struct str){one.p, one.n};
}

static bool matches(const char *pattern, struct str path, struct str *ret_var)
{
    struct str want = str_of(pattern), var = {0};

    while (want.n && path.n) {
        struct str w = segment(&want), whole = path, got = segment(&path);

        if (str_is(w, "{path}")) {
            *ret_var = (struct str){whole.p + 1, whole.n - 1};
            return whole.n > 1;
        }
        if (str_is(w, "{id}") && got.n)
            var = got;
        else if (!str_eq(w, got))
            return false;
    }
    if (want.n || path.n)
        return false;
    *ret_var = var;
    return true;
}

static bool is_method(struct str got, const char *method)
{
    return str_is(got, method) || (str_is(got, "HEAD") && strcmp(method, "GET") == 0);
}

/* Writes the methods of the path's routes as Allow wants them. */
static void put_allowed(struct str path, struct buf *allow)
{
    struct str var;

    for (size_t i = 0; i < COUNTOF(routes); i++) {
        if (!matches(routes[i].pattern, path, &var))
            continue;
        if (allow->n)
            (void)buf_z(allow, ", ");
        (void)buf_z(allow, strcmp(routes[i].method, "GET") == 0 ? "GET, HEAD"
                                                                : routes[i].method);
    }
}

static void refuse_route(struct call *c, struct str method, struct str path)
{
    struct str shown = http_path(c->rq);
    struct buf allow;
    char *methods;

    buf_init(&allow, 256); /* the longest list, "POST, GET, HEAD, DELETE", has 23 */
    put_allowed(path, &allow);
    c->refused = true;
    if (allow.n == 0) {
        apierr_set(&c->refusal, APIERR_NO_ROUTE, NULL,
                   "Unknown request URL: %.*s %.*s. Please check the URL for typos.",
                   APIERR_SHOW(method), APIERR_SHOW(shown));
    } else {
        apierr_set(&c->refusal, APIERR_METHOD, NULL,
                   "Not allowed to %.*s on %.*s. (HINT: Perhaps you meant to make your "
                   "HTTP request using a different method?)",
                   APIERR_SHOW(method), APIERR_SHOW(shown));
        methods = buf_take(&allow, NULL);
        if (methods)
            http_add_header(c->rq, "Allow", methods);
        mem_free(methods);
    }
    buf_done(&allow);
}

static void find_route(struct call *c)
{
    struct str method = http_method(c->rq), path = http_path(c->rq);

    if (path.n > 1 && path.p[path.n - 1] == '/')
        path.n--;
    for (size_t i = 0; i < COUNTOF(routes); i++) {
        if (is_method(method, routes[i].method) && path.n && path.p[0] == '/' &&
            matches(routes[i].pattern, path, &c->var)) {
            c->route = &routes[i];
            return;
        }
    }
    if (path.n == 0 || path.p[0] != '/')
        path = STR("/v1/*"); /* "OPTIONS *" and the like: no route of ours */
    refuse_route(c, method, path);
}

/* --- The server's callbacks ----------------------------------------------------------
 */

static enum rc judge_coding(struct call *c)
{
    struct str header = http_header(c->rq, "Content-Encoding");
    bool taken = c->api->opts.max_expansion != 0;

    if (decode_coding(header, &c->coding) == RC_OK &&
        !http_header_again(c->rq, "Content-Encoding") &&
        (taken || c->coding == DECODE_NONE))
        return RC_OK;
    return apierr_set(
        &c->refusal, APIERR_ENCODING, NULL,
        "Content-Encoding '%.*s' is not supported; send the body as it is%s.",
        APIERR_SHOW(header), taken ? ", or as either gzip or zstd" : "");
}

/* What is wrong whatever the body says. */
static void judge_head(struct call *c)
{
    const char *why = atomic_load(&c->api->refused);

    if (c->refused)
        return;
    c->refused = true;
    if (!is_open(c->route) && auth_judge(c, &c->refusal) != RC_OK)
        return;
    if (why && strcmp(c->route->method, "GET") != 0)
        apierr_set(&c->refusal, APIERR_UNAVAILABLE, NULL,
                   "This server takes no new work at present: %s", why);
    else
        c->refused = judge_coding(c) != RC_OK;
}

/* Boundaries, part heads and small fields around a file of the greatest size. */
#define FORM_OVERHEAD (64u << 10)

/* A project that is full is told before it has sent a large file for nothing.  This waits
 * for the store on a connection thread; so does writing what is received for the disk,
 * and a file of this size takes more of that. */
#define ROOM_BYTES (1u << 20)

static void judge_room(struct call *c)
{
    struct err why = {0};
    uint64_t n;

    if (c->route->body != BODY_FILE ||
        str_u64(http_header(c->rq, "Content-Length"), &n) != RC_OK || n < ROOM_BYTES)
        return;
    if (n - FORM_OVERHEAD > quota_file_bytes(c, c->api->opts.max_file_bytes))
        return; /* too large whatever is there: open_form tells */
    /* A store that fails is told when the file is there. */
    c->refused = quota_room(c, n - FORM_OVERHEAD, &c->refusal, &why) == RC_INVALID;
}

static enum rc pass_over(void *ctx, struct http_request *rq, struct str piece)
{
    (void)ctx, (void)rq, (void)piece;
    return RC_INVALID;
}

static enum rc feed_form(void *ctx, struct http_request *rq, struct str piece)
{
    struct call *c = http_user(rq);

    (void)ctx;
    return form_feed(c->form, piece);
}

static enum rc feed_coded(void *ctx, struct http_request *rq, struct str piece)
{
    struct call *c = http_user(rq);

    (void)ctx;
    return coded_feed(c->coded, piece);
}

/* plan is that of a plain body. */
static void open_coded(struct call *c, struct http_body_plan *plan)
{
    struct coded_opts o = {.coding = c->coding,
                           .max_expansion = c->api->opts.max_expansion,
                           .rq = c->rq,
                           .form = c->form,
                           .max_bytes = plan->sink ? 0 : (size_t)plan->max_bytes};

    if (c->coding == DECODE_NONE || plan->sink == pass_over)
        return;
    c->coded = coded_new(&o);
    plan->sink = feed_coded;
}

static struct http_body_plan open_form(struct call *c, const struct form_spec *spec,
                                       uint64_t max)
{
    uint64_t max_bytes = quota_file_bytes(c, max);
    bool part = spec == &part_form;
    struct form_opts o = {.spec = spec,
                          .into = &c->file,
                          .blobs = c->api->opts.blobs,
                          .max_bytes = max_bytes,
                          .too_large = c->too_large};

    c->too_large_field = part ? "data" : "file";
    snprintf(c->too_large, sizeof c->too_large,
             "The %s is larger than %llu bytes, the most that this %s takes.",
             part ? "part" : "file", (unsigned long long)max_bytes,
             max_bytes < max ? "project" : "server");

    c->form = form_new(&o, http_header(c->rq, "Content-Type"));
    http_set_too_large(c->rq, c->too_large);
    return (struct http_body_plan){.max_bytes = max_bytes + FORM_OVERHEAD,
                                   .sink = feed_form};
}

static struct http_body_plan on_open(void *ctx, struct http_request *rq)
{
    struct call *c = mem_new(struct call);
    struct http_body_plan plan = {.max_bytes = LIMIT_API_BODY, .sink = pass_over};

    c->api = ctx;
    c->rq = rq;
    http_set_user(rq, c);
    find_route(c);
    judge_head(c);
    if (!c->refused)
        judge_room(c);
    if (c->refused) {
        /* A small body is passed over and the connection lives; a large one is cut. */
        http_set_over_status(rq, apierr_status(c->refusal.kind));
        return plan;
    }
    switch (c->route->body) {
    case BODY_FILE:
        plan = open_form(c, &files_form, c->api->opts.max_file_bytes);
        break;
    case BODY_PART:
        plan = open_form(c, &part_form, LIMIT_PART_BYTES);
        break;
    case BODY_BATCH:
        plan.max_bytes = c->api->opts.max_inline_bytes;
        plan.sink = NULL;
        break;
    case BODY_JSON:
        plan.sink = NULL;
        break;
    case BODY_NONE:
        break;
    }
    open_coded(c, &plan);
    return plan;
}

static void on_serve(void *ctx, struct http_request *rq)
{
    struct call *c = http_user(rq);

    (void)ctx;
    c->began = clock_mono();
    judge_head(c); /* again: during a long upload the server may have begun to refuse, or
                    * the key been revoked */
    if (!c->refused && c->coded)
        c->refused = coded_end(c->coded, &c->refusal) != RC_OK;
    if (c->refused)
        call_fail(c, &c->refusal);
    else
        c->route->serve(c);
}

static void on_close(void *ctx, struct http_request *rq)
{
    struct call *c = http_user(rq);

    (void)ctx;
    if (!c)
        return;
    coded_free(c->coded);
    form_free(c->form);
    mem_free(c);
}

static void on_error(void *ctx, struct http_request *rq, int status, const char *message,
                     struct buf *body)
{
    const struct call *c = rq ? http_user(rq) : NULL;
    struct api *a = ctx;
    struct apierr e;

    if (c && c->refused && status == apierr_status(c->refusal.kind))
        e = c->refusal;
    else if (c && message == c->too_large) /* the server hands back what on_open told */
        apierr_set(&e, APIERR_FILE_TOO_LARGE, c->too_large_field, "%s", message);
    else
        apierr_set(&e, apierr_of_status(status), NULL, "%s", message);
    apierr_put(&e, body);
    count_answer(a->counts, COUNTOF(routes), status);
}

struct http_handler api_handler(struct api *a)
{
    return (struct http_handler){.ctx = a,
                                 .open = on_open,
                                 .serve = on_serve,
                                 .close = on_close,
                                 .on_error = on_error};
}

/* --- Life ----------------------------------------------------------------------------
 */

struct api *api_new(const struct api_opts *o)
{
    struct api *a = mem_new(struct api);

    CHECK(o->store && o->blobs && o->engine);
    a->opts = *o;
    if (!a->opts.max_file_bytes)
        a->opts.max_file_bytes = LIMIT_FILE_BYTES;
    if (!a->opts.max_upload_bytes)
        a->opts.max_upload_bytes = LIMIT_UPLOAD_BYTES;
    if (!a->opts.max_inline_bytes)
        a->opts.max_inline_bytes = 16u << 20;
    if (a->opts.max_inline_bytes < LIMIT_API_BODY) /* metadata needs it */
        a->opts.max_inline_bytes = LIMIT_API_BODY;
    if (!a->opts.min_window)
        a->opts.min_window = 1;
    if (!a->opts.max_window)
        a->opts.max_window = 30 * 86400;
    a->started = clock_wall_sec();
    a->counts = counts_new(COUNTOF(routes));
    if (pool_new("api-slow", 2, &a->slow, NULL) != RC_OK)
        a->slow = NULL;
    return a;
}

struct api *api_free(struct api *a)
{
    if (!a)
        return NULL;
    mem_free(atomic_load(&a->refused));
    IGNORE(pool_free(a->slow)); /* always NULL; idle, as all calls are answered */
    counts_free(a->counts);
    mem_free(a);
    return NULL;
}

void api_refuse(struct api *a, const char *why)
{
    char *none = NULL, *copy = mem_dup(why, strlen(why));

    /* The first reason stays: it is the cause, and a reader may hold it already. */
    if (!atomic_compare_exchange_strong(&a->refused, &none, copy))
        mem_free(copy);
}
