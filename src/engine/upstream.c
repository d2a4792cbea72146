/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/upstream.h"
#include "base/limits.h"
#include "base/mem.h"

#define ASK_TIMEOUT     (5 * USEC_PER_SEC)
#define METRICS_TIMEOUT (2 * USEC_PER_SEC) /* later they would tell of what is past */

struct upstream {
    struct http_client *client;
    struct http_target *api;     /* http://host/v1 */
    struct http_target *root;    /* http://host */
    struct http_target *metrics; /* where the configuration says; NULL: root's /metrics */
    char *name;
    uint16_t number;
    bool fixed;   /* the configuration names its models */
    bool healthy; /* what the probe's first question said */
    struct http_call probe, list;
    struct upstream_ears ears;
};

/* The URL up to its path: "http://host:8000/v1" gives 16 characters. */
static size_t root_length(const char *url)
{
    const char *host = strstr(url, "://");
    const char *path = host ? strchr(host + 3, '/') : NULL;

    return path ? (size_t)(path - url) : strlen(url);
}

/* A key is for who gave it out: another server, or another port, is not told. */
static bool same_origin(const char *a, const char *b)
{
    size_t n = root_length(a);

    return root_length(b) == n && strncmp(a, b, n) == 0;
}

static enum rc make_metrics_target(struct upstream *u, const struct engine_upstream *o,
                                   const struct http_target_opts *like, struct err *e)
{
    struct http_target_opts t = *like;

    if (!o->metrics)
        return RC_OK;
    t.base_url = o->metrics;
    if (!same_origin(o->metrics, o->url))
        t.bearer = NULL;
    return http_target_new(u->client, &t, &u->metrics, e);
}

static enum rc make_targets(struct upstream *u, const struct engine_upstream *o,
                            struct err *e)
{
    size_t root = root_length(o->url), n = strlen(o->url);
    struct http_target_opts t = {.bearer = o->key,
                                 .proxy = o->proxy,
                                 .ca_file = o->ca_file,
                                 .insecure = o->insecure};
    struct buf url;
    enum rc rc;

    while (n > root && o->url[n - 1] == '/')
        n--;
    buf_init(&url, 4096);
    (void)buf_add(&url, o->url, n);
    if (n == root)
        (void)buf_z(&url, "/v1");
    (void)buf_char(&url, '\0');
    rc = buf_failed(&url);
    if (rc == RC_OK) {
        t.base_url = url.p;
        rc = http_target_new(u->client, &t, &u->api, e);
    }
    buf_reset(&url);
    (void)buf_add(&url, o->url, root);
    (void)buf_char(&url, '\0');
    if (rc == RC_OK) {
        t.base_url = url.p;
        rc = http_target_new(u->client, &t, &u->root, e);
    }
    buf_done(&url);
    if (rc == RC_OK)
        rc = make_metrics_target(u, o, &t, e);
    return rc;
}

enum rc upstream_new(struct http_client *client, const struct engine_upstream *o,
                     uint16_t number, const struct upstream_ears *ears,
                     struct upstream **ret, struct err *e)
{
    struct upstream *u = mem_new(struct upstream);
    const char *name = o->name ? o->name : o->url;
    enum rc rc;

    u->client = client;
    u->number = number;
    u->fixed = o->models != NULL;
    u->ears = *ears;
    u->name = mem_dup(name, strlen(name));
    http_call_init(&u->probe);
    http_call_init(&u->list);
    rc = make_targets(u, o, e);
    if (rc != RC_OK) {
        upstream_free(u);
        return rc;
    }
    *ret = u;
    return RC_OK;
}

struct upstream *upstream_free(struct upstream *u)
{
    if (!u)
        return NULL;
    http_call_done(&u->probe);
    http_call_done(&u->list);
    http_target_free(u->api);
    http_target_free(u->root);
    http_target_free(u->metrics);
    mem_free(u->name);
    mem_free(u);
    return NULL;
}

const struct http_target *upstream_target(const struct upstream *u)
{
    return u->api;
}

const char *upstream_name(const struct upstream *u)
{
    return u->name;
}

static void ask_within(struct upstream *u, struct http_call *c,
                       const struct http_target *target, const char *path, usec_t timeout,
                       http_done_fn *done)
{
    c->target = target;
    c->path = path;
    c->method = "GET";
    c->connect_timeout = c->total_timeout = timeout;
    c->max_body = LIMIT_MODEL_LIST;
    c->done = done;
    http_start(u->client, c);
}

static void ask(struct upstream *u, struct http_call *c, const struct http_target *target,
                const char *path, http_done_fn *done)
{
    ask_within(u, c, target, path, ASK_TIMEOUT, done);
}

void upstream_ask(struct upstream *u, struct http_call *c, const char *path,
                  http_done_fn *done)
{
    ask(u, c, u->root, path, done);
}

void upstream_ask_metrics(struct upstream *u, struct http_call *c, http_done_fn *done)
{
    ask_within(u, c, u->metrics ? u->metrics : u->root, u->metrics ? "" : "/metrics",
               METRICS_TIMEOUT, done);
}

/* The probe's second answer.  Any but a 5xx says that the API is up: 401 is a matter of
 * the key.  Where there is a /health, it is believed, as long as somebody is there. */
static void probe_listed(struct http_call *c)
{
    struct upstream *u = CONTAINER_OF(c, struct upstream, probe);
    bool ok = c->status < 500 && c->status != 429;

    if (c->fate == HTTP_ABORTED)
        return;
    if (c->fate != HTTP_ANSWERED)
        ok = false;
    if (u->healthy)
        ok = c->fate != HTTP_NO_CONNECT && c->fate != HTTP_RESET;
    if (!u->fixed)
        u->ears.listed(u->ears.ctx, u->number, c, true);
    u->ears.probed(u->ears.ctx, u->number, ok);
}

static void probe_answered(struct http_call *c)
{
    struct upstream *u = CONTAINER_OF(c, struct upstream, probe);
    bool absent = c->status >= 400 && c->status < 500;

    if (c->fate == HTTP_ABORTED)
        return;
    u->healthy = c->fate == HTTP_ANSWERED && c->status < 300;
    if (c->fate == HTTP_ANSWERED && (absent || (u->healthy && !u->fixed)))
        ask(u, c, u->api, "/models", probe_listed);
    else
        u->ears.probed(u->ears.ctx, u->number, u->healthy);
}

void upstream_probe(struct upstream *u)
{
    ask(u, &u->probe, u->root, "/health", probe_answered);
}

static void list_answered(struct http_call *c)
{
    struct upstream *u = CONTAINER_OF(c, struct upstream, list);

    if (c->fate != HTTP_ABORTED)
        u->ears.listed(u->ears.ctx, u->number, c, false);
}

void upstream_list(struct upstream *u)
{
    ask(u, &u->list, u->api, "/models", list_answered);
}
