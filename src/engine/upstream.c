/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/upstream.h"
#include "base/mem.h"

#define PROBE_TIMEOUT (5 * USEC_PER_SEC)
#define PROBE_ANSWER  (256u << 10) /* a hosted API's list of models is some 50 kB */

struct upstream {
    struct http_client *client;
    struct http_target *api;  /* http://host/v1 */
    struct http_target *root; /* http://host */
    char *name;
    uint16_t number;
    bool asked_models; /* the probe's second question */
    struct http_call call;
    upstream_probed_fn *probed;
    void *ctx;
};

/* The URL up to its path: "http://host:8000/v1" gives 16 characters. */
static size_t root_length(const char *url)
{
    const char *host = strstr(url, "://");
    const char *path = host ? strchr(host + 3, '/') : NULL;

    return path ? (size_t)(path - url) : strlen(url);
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
    return rc;
}

enum rc upstream_new(struct http_client *client, const struct engine_upstream *o,
                     uint16_t number, upstream_probed_fn *probed, void *ctx,
                     struct upstream **ret, struct err *e)
{
    struct upstream *u = mem_new(struct upstream);
    const char *name = o->name ? o->name : o->url;
    enum rc rc;

    u->client = client;
    u->number = number;
    u->probed = probed;
    u->ctx = ctx;
    u->name = mem_dup(name, strlen(name));
    http_call_init(&u->call);
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
    http_call_done(&u->call);
    http_target_free(u->api);
    http_target_free(u->root);
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

static void ask(struct upstream *u, const struct http_target *target, const char *path);

/* Any answer but a 5xx to /models says that the API is up: 401 is a matter of the key. */
static void answered(struct http_call *c)
{
    struct upstream *u = CONTAINER_OF(c, struct upstream, call);

    if (c->fate == HTTP_ABORTED)
        return;
    if (c->fate != HTTP_ANSWERED) {
        u->probed(u->ctx, u->number, false);
    } else if (u->asked_models) {
        u->probed(u->ctx, u->number, c->status < 500 && c->status != 429);
    } else if (c->status >= 400 && c->status < 500) {
        u->asked_models = true;
        ask(u, u->api, "/models");
    } else {
        u->probed(u->ctx, u->number, c->status < 300);
    }
}

static void ask(struct upstream *u, const struct http_target *target, const char *path)
{
    u->call.target = target;
    u->call.path = path;
    u->call.method = "GET";
    u->call.connect_timeout = u->call.total_timeout = PROBE_TIMEOUT;
    u->call.max_body = PROBE_ANSWER;
    u->call.done = answered;
    http_start(u->client, &u->call);
}

void upstream_probe(struct upstream *u)
{
    u->asked_models = false;
    ask(u, u->root, "/health");
}

void upstream_probe_cancel(struct upstream *u)
{
    http_cancel(&u->call);
}
