/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rig: the API on a real server over a store in memory and an engine that only notes what
 * it is told; and a client that sends what it is given, byte for byte.
 */
#pragma once

#include "api/api.h"
#include "base/log.h"
#include "json/json.h"
#include "tests/lib/mem_store.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>

/* --- The engine ----------------------------------------------------------------------
 */

struct engine {
    struct store *store;
    atomic_int submits, cancels, edits;
    bool has_progress; /* of every batch: */
    struct engine_progress progress;
    struct id last; /* submitted or cancelled */
    bool recovering;
    atomic_ullong changes;
    struct engine_log log; /* of every batch, unless its spool is NULL */
    bool has_live;         /* every batch is, with: */
    struct engine_live live;
    bool (*model_known)(void *ctx, struct str model); /* NULL: every model is */
};

uint64_t engine_changes(struct engine *g, const char *id)
{
    (void)id;
    return atomic_load(&g->changes);
}

bool engine_log(struct engine *g, const char *id, struct engine_log *ret)
{
    (void)id;
    *ret = g->log;
    return ret->spool != NULL;
}

bool engine_live(struct engine *g, const char *id, struct engine_live *ret)
{
    (void)id;
    *ret = g->live;
    return g->has_live;
}

void engine_submit(struct engine *g, const struct id *batch)
{
    g->last = *batch;
    atomic_fetch_add(&g->submits, 1);
}

void engine_cancel(struct engine *g, const struct id *batch)
{
    g->last = *batch;
    atomic_fetch_add(&g->cancels, 1);
}

struct intake_rules engine_rules(struct engine *g, enum endpoint ep)
{
    return (struct intake_rules){.endpoint = ep, .model_known = g->model_known};
}

enum rc engine_edit(struct engine *g, const struct id *project, const char *id,
                    const struct batch_edit *edit, struct batch *ret, struct err *e)
{
    enum rc rc = g->store->ops->batch_edit(g->store->self, project, id, edit,
                                           clock_wall_sec(), ret, e);

    if (rc == RC_OK)
        atomic_fetch_add(&g->edits, 1);
    return rc;
}

bool engine_progress(struct engine *g, const struct id *batch,
                     struct engine_progress *ret)
{
    (void)batch;
    *ret = g->progress;
    return g->has_progress;
}

bool engine_recovered(struct engine *g)
{
    return !g->recovering;
}

enum rc engine_batch_view(struct engine *g, const struct id *project, const char *id,
                          struct batch *ret, struct err *e)
{
    if (g->recovering)
        return err_set(e, RC_AGAIN, "recovering");
    return g->store->ops->batch_get(g->store->self, project, id, ret, e);
}

enum rc engine_batch_list(struct engine *g, const struct id *project, const char *after,
                          unsigned limit, struct batch **ret, size_t *ret_n,
                          bool *ret_more, struct err *e)
{
    if (g->recovering)
        return err_set(e, RC_AGAIN, "recovering");
    return g->store->ops->batch_list(g->store->self, project, after, limit, ret, ret_n,
                                     ret_more, e);
}

void engine_metrics(struct engine *g, struct buf *out)
{
    (void)buf_fmt(out, "batchd_engine_submits %d\n", atomic_load(&g->submits));
}

void engine_models(struct engine *g, catalog_fn *fn, void *ctx)
{
    static const struct catalog_model models[] = {
        {"gpt-4o-mini", NULL, 0},
        {"meta-llama/Llama-3.1-8B-Instruct", "vllm", 1700000001},
        {"tiny", "lab", 0}};

    (void)g;
    for (size_t i = 0; i < COUNTOF(models); i++)
        fn(ctx, &models[i]);
}

/* --- The rig -------------------------------------------------------------------------
 */

struct rig {
    struct mem_store *m; /* NULL: over a store of the test's own */
    struct engine engine;
    struct api *api;
    struct http_server *server;
    char *replies[8192]; /* freed with the rig */
    size_t n_replies;
};

static unsigned rig_idle_seconds; /* 0: the server's default */

/* Over a store of the caller's. */
static inline struct rig *rig_over(struct store *store, struct blobs *blobs,
                                   const struct api_opts *more)
{
    struct rig *r = mem_new(struct rig);
    struct api_opts o = more ? *more : (struct api_opts){0};
    struct http_server_opts so = {.listen = "127.0.0.1:0",
                                  .idle_seconds = rig_idle_seconds};
    struct http_handler h;
    struct err e;

    log_level_set(LOG_LVL_ERROR);
    r->engine.store = store;
    o.store = store;
    o.blobs = blobs;
    o.engine = &r->engine;
    r->api = api_new(&o);
    h = api_handler(r->api);
    EQ_RC(http_server_new(&so, &h, &r->server, &e), RC_OK);
    return r;
}

static inline struct rig *rig_new(const struct api_opts *more)
{
    struct mem_store *m = mem_store_new();
    struct rig *r = rig_over(&m->store, &m->blobs_if, more);

    r->m = m;
    return r;
}

/* No more requests; what the store holds can be looked at without a lock. */
static inline void rig_stop(struct rig *r)
{
    r->server = r->server ? http_server_free(r->server) : NULL;
}

static inline void rig_free(struct rig *r)
{
    rig_stop(r);
    api_free(r->api);
    if (r->m) {
        EQ_INT(atomic_load(&r->m->puts),
               0); /* whatever happened, no half-written blob is left */
        mem_store_free(r->m);
    }
    for (size_t i = 0; i < r->n_replies; i++)
        mem_free(r->replies[i]);
    mem_free(r);
}

/* --- The client ----------------------------------------------------------------------
 */

struct reply {
    int status;
    struct str head, body;
};

static inline int rig_connect(struct rig *r)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)http_server_port(r->server)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) < 0)
        FAIL("connect: errno %d", errno);
    return fd;
}

/* As much as the server takes: it may close before it has read everything. */
static inline void rig_push(int fd, struct str bytes)
{
    while (bytes.n) {
        ssize_t n = send(fd, bytes.p, bytes.n, MSG_NOSIGNAL);

        if (n <= 0)
            return;
        bytes.p += n;
        bytes.n -= (size_t)n;
    }
}

/* Reads to the end of the connection. */
static inline struct reply rig_pull(struct rig *r, int fd)
{
    struct reply re = {0};
    struct buf b;
    char tmp[16384];
    const char *end;
    ssize_t n;

    buf_init(&b, (size_t)1 << 30);
    while ((n = recv(fd, tmp, sizeof tmp, 0)) > 0)
        IGNORE(buf_add(&b, tmp, (size_t)n)); /* far below its maximum */
    close(fd);
    re.head.p = r->replies[r->n_replies++] = buf_take(&b, &re.head.n);
    CHECK(r->n_replies < COUNTOF(r->replies));
    end = re.head.n ? strstr(re.head.p, "\r\n\r\n") : NULL;
    if (!end || sscanf(re.head.p, "HTTP/1.1 %d", &re.status) != 1)
        FAIL("no answer: \"%.*s\"", STR_ARG(re.head));
    re.body = (struct str){end + 4, re.head.n - (size_t)(end + 4 - re.head.p)};
    re.head.n = (size_t)(end + 2 - re.head.p);
    return re;
}

static inline struct reply rig_send(struct rig *r, struct str bytes)
{
    int fd = rig_connect(r);

    rig_push(fd, bytes);
    return rig_pull(r, fd);
}

/* headers: whole lines with their CRLF, or "". */
static inline struct reply rig_ask(struct rig *r, const char *method, const char *target,
                                   const char *headers, struct str body)
{
    struct reply re;
    struct buf b;

    buf_init(&b, (size_t)1 << 30);
    (void)buf_fmt(&b, "%s %s HTTP/1.1\r\nHost: test\r\nConnection: close\r\n%s", method,
                  target, headers);
    if (body.p)
        (void)buf_fmt(&b, "Content-Length: %zu\r\n", body.n);
    (void)buf_z(&b, "\r\n");
    (void)buf_str(&b, body);
    re = rig_send(r, buf_peek(&b));
    buf_done(&b);
    return re;
}

static inline struct reply rig_get(struct rig *r, const char *target)
{
    return rig_ask(r, "GET", target, "", (struct str){0});
}

static inline struct reply rig_post(struct rig *r, const char *target, const char *json)
{
    return rig_ask(r, "POST", target, "Content-Type: application/json\r\n", str_of(json));
}

/* .p NULL: not there. */
static inline struct str rig_header(const struct reply *re, const char *name)
{
    struct str rest = re->head;

    while (rest.n) {
        struct str line = str_cut(&rest, '\n'), key = str_cut(&line, ':');

        if (str_ieq(key, str_of(name)))
            return str_trim(line);
    }
    return (struct str){0};
}

/* --- JSON ----------------------------------------------------------------------------
 */

/* The raw text at "error.code"; "" when it is not there. */
static inline struct str rig_json(struct str text, const char *path)
{
    struct json_limits limits = {0};
    struct json_want wants[8];
    struct json_val vals[8];
    struct json_err bad;
    char keys[256];
    size_t n = 0;

    CHECK(strlen(path) < sizeof keys);
    memcpy(keys, path, strlen(path) + 1);
    for (char *key = keys, *next; key; key = next, n++) {
        next = strchr(key, '.');
        if (next)
            *next++ = '\0';
        wants[n] = (struct json_want){key, (int)n - 1};
    }
    if (json_read(text, &limits, wants, n, vals, NULL, &bad) != RC_OK)
        FAIL("not JSON: \"%.*s\"", STR_ARG(text));
    return vals[n - 1].type == JSON_NONE ? STR("") : vals[n - 1].raw;
}

#define EQ_JSON(re, path, want)                                                          \
    t_eq_str(__FILE__, __LINE__, path, rig_json((re).body, path), str_of(want))

/* The whole envelope: code and param as raw JSON. */
#define EQ_REFUSED(re, want_status, want_type, want_code, want_param)                    \
    do {                                                                                 \
        EQ_INT((re).status, want_status);                                                \
        EQ_JSON(re, "error.type", "\"" want_type "\"");                                  \
        EQ_JSON(re, "error.code", want_code);                                            \
        EQ_JSON(re, "error.param", want_param);                                          \
        EQ_STR(rig_header(&(re), "Content-Type"), STR("application/json"));              \
    } while (0)

static inline bool rig_has(struct str s, const char *needle)
{
    return s.n && memmem(s.p, s.n, needle, strlen(needle));
}

/* --- Forms ---------------------------------------------------------------------------
 */

#define FORM_TYPE "Content-Type: multipart/form-data; boundary=xYzZY\r\n"

/* filename NULL: a plain field. */
static inline void form_add(struct buf *b, const char *name, const char *filename,
                            struct str content)
{
    (void)buf_fmt(b, "--xYzZY\r\nContent-Disposition: form-data; name=\"%s\"", name);
    if (filename)
        (void)buf_fmt(b, "; filename=\"%s\"\r\nContent-Type: application/octet-stream",
                      filename);
    (void)buf_z(b, "\r\n\r\n");
    (void)buf_str(b, content);
    (void)buf_z(b, "\r\n");
}

static inline void form_end(struct buf *b)
{
    (void)buf_z(b, "--xYzZY--\r\n");
}

static inline struct reply rig_upload(struct rig *r, const char *purpose,
                                      const char *filename, struct str content)
{
    struct reply re;
    struct buf b;

    buf_init(&b, (size_t)1 << 30);
    form_add(&b, "purpose", NULL, str_of(purpose));
    form_add(&b, "file", filename, content);
    form_end(&b);
    re = rig_ask(r, "POST", "/v1/files", FORM_TYPE, buf_peek(&b));
    buf_done(&b);
    return re;
}

/* The value of "id", without its quotes. */
static inline struct id rig_id(const struct reply *re)
{
    struct str raw = rig_json(re->body, "id");
    struct id id = {0};

    if (raw.n < 2 || id_from((struct str){raw.p + 1, raw.n - 2}, &id) != RC_OK)
        FAIL("no id in \"%.*s\"", STR_ARG(re->body));
    return id;
}

/* "/v1/files/" + id + rest; valid until the next call. */
static inline const char *rig_path(const char *before, const struct id *id,
                                   const char *rest)
{
    static char path[512];

    CHECK(str_fmt(path, sizeof path, "%s%s%s", before, id->z, rest) == RC_OK);
    return path;
}
