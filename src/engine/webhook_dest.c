/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/webhook_dest.h"
#include "base/mem.h"
#include "core/callback.h"

static const size_t prefix_n = sizeof CALLBACK_PREFIX - 1;

static bool is_callback(struct str destination)
{
    return str_starts(destination, STR(CALLBACK_PREFIX));
}

/* --- URLs --- */

static char *join(const char *a, struct str b)
{
    size_t n = strlen(a);
    char *z = mem_alloc(n + b.n + 1);

    memcpy(z, a, n);
    if (b.p)
        memcpy(z + n, b.p, b.n);
    return z;
}

/* "https://host:1/a?b" is "https://host:1" and "/a?b". */
static void split(struct str url, const struct callback_url *u, struct str *ret_origin,
                  char **ret_path)
{
    size_t n = (size_t)(u->host.p - url.p) + u->host.n;
    struct str rest;

    CHECK(url.p);
    while (n < url.n && url.p[n] != '/' && url.p[n] != '?')
        n++;
    *ret_origin = (struct str){url.p, n};
    rest = (struct str){url.p + n, url.n - n};
    *ret_path = join(rest.n && rest.p[0] == '/' ? "" : "/", rest);
}

/* --- one destination --- */

static struct dest *dest_new(struct dests *ds, char *key)
{
    struct dest *d = mem_new(struct dest);

    d->of = ds;
    d->key = key;
    list_init(&d->waiting);
    list_init(&d->ready);
    return d;
}

static struct dest *dest_free(struct dest *d)
{
    if (!d)
        return NULL;
    CHECK(list_empty(&d->waiting));
    list_del(&d->ready);
    http_target_free(d->target);
    mem_wipe(&d->own, sizeof d->own);
    mem_free(d->project);
    mem_free(d->path);
    mem_free(d->key);
    mem_free(d);
    return NULL;
}

static enum rc make_target(struct dest *d, struct str origin, const char *ca_file,
                           bool public_only, struct err *e)
{
    char *base = mem_dup(origin.p, origin.n);
    struct http_target_opts o = {
        .base_url = base, .ca_file = ca_file, .public_only = public_only};
    enum rc rc = http_target_new(d->of->client, &o, &d->target, e);

    mem_free(base);
    return rc;
}

static enum rc fill_named(struct dest *d, const struct webhooks_destination *o,
                          struct err *e)
{
    struct str url = str_of(o->url), origin;
    struct callback_url u;
    const char *why;
    enum rc rc;

    if (callback_url_read(url, &u, &why) != RC_OK)
        return err_set(e, RC_INVALID, "its url %s", why);
    rc = webhook_secrets_read(str_of(o->secrets), &d->own, e);
    d->secrets = &d->own;
    if (rc == RC_OK)
        rc = webhook_events_read(str_of(o->events), &d->events, e);
    if (rc != RC_OK)
        return rc;
    if (o->project)
        d->project = mem_dup(o->project, strlen(o->project));
    split(url, &u, &origin, &d->path);
    return make_target(d, origin, o->ca_file, false, e);
}

static enum rc add_named(struct dests *ds, const struct webhooks_destination *o,
                         struct err *e)
{
    struct dest *d = dest_new(ds, mem_dup(o->name, strlen(o->name)));
    struct err why = {""};
    enum rc rc;

    CHECK(!strchr(o->name, ':') && ds->n_named < LIMIT_WEBHOOKS);
    d->refs = 1; /* of the configuration */
    ds->named[ds->n_named++] = d;
    IGNORE(map_put(ds->by_key, str_of(d->key), d)); /* names are told apart before */
    rc = fill_named(d, o, &why);
    return rc == RC_OK ? rc : err_set(e, rc, "[webhook %s]: %s", o->name, why.text);
}

/* --- all of them --- */

enum rc dests_new(const struct webhooks_opts *o, struct http_client *client,
                  struct dests **ret, struct err *e)
{
    struct dests *ds = mem_new(struct dests);
    struct err why = {""};
    enum rc rc = RC_OK;

    ds->client = client;
    ds->by_key = map_new();
    ds->callback_private = o->callback_private;
    if (o->callback_hosts)
        ds->callback_hosts = mem_dup(o->callback_hosts, strlen(o->callback_hosts));
    if (o->callback_secrets && *o->callback_secrets)
        rc = webhook_secrets_read(str_of(o->callback_secrets), &ds->callback_secrets,
                                  &why);
    if (rc != RC_OK)
        rc = err_set(e, rc, "callback_secret_file: %s", why.text);
    for (size_t i = 0; i < o->n_destinations && rc == RC_OK; i++)
        rc = add_named(ds, &o->destinations[i], e);
    if (rc != RC_OK) {
        IGNORE(dests_free(ds)); /* always NULL */
        return rc;
    }
    *ret = ds;
    return RC_OK;
}

struct dests *dests_free(struct dests *ds)
{
    if (!ds)
        return NULL;
    for (size_t i = 0; i < ds->n_named; i++) {
        IGNORE(map_del(ds->by_key, str_of(ds->named[i]->key))); /* it is ours to free */
        dest_free(ds->named[i]);
    }
    CHECK(map_len(ds->by_key) == 0);
    map_free(ds->by_key);
    mem_wipe(&ds->callback_secrets, sizeof ds->callback_secrets);
    mem_free(ds->callback_hosts);
    mem_free(ds);
    return NULL;
}

/* NULL: *why tells. */
static struct dest *server_of(struct dests *ds, struct str origin, struct err *why)
{
    char *key = join(CALLBACK_PREFIX, origin);
    struct dest *d = map_get(ds->by_key, str_of(key));

    if (d) {
        mem_free(key);
        return d;
    }
    d = dest_new(ds, key);
    d->secrets = &ds->callback_secrets;
    if (make_target(d, origin, NULL, !ds->callback_private, why) != RC_OK)
        return dest_free(d);
    IGNORE(map_put(ds->by_key, str_of(d->key), d)); /* it was not there */
    return d;
}

/* Whether it may be called is decided anew for each try: the operator may have changed
 * his mind since the batch was made. */
static enum rc find_callback(struct dests *ds, struct str url, struct dest **ret,
                             char **ret_path, struct err *why)
{
    struct callback_url u;
    const char *wrong;
    struct str origin;
    struct dest *d;
    char *path;

    if (callback_url_read(url, &u, &wrong) != RC_OK)
        return err_set(why, RC_DENIED, "the callback_url %s", wrong);
    if (!callback_allowed(&u, ds->callback_hosts))
        return err_set(why, RC_DENIED,
                       "the callback_url's host is not one of callback_hosts");
    if (ds->callback_secrets.n == 0)
        return err_set(why, RC_DENIED,
                       "callback_secret_file is not set, and unsigned it is not sent");
    split(url, &u, &origin, &path);
    d = server_of(ds, origin, why);
    if (!d) {
        mem_free(path);
        return RC_DENIED;
    }
    d->refs++;
    *ret = d;
    *ret_path = path;
    return RC_OK;
}

enum rc dests_find(struct dests *ds, const char *destination, struct dest **ret,
                   char **ret_path, struct err *why)
{
    struct str s = str_of(destination);
    struct dest *d;

    if (is_callback(s))
        return find_callback(ds, (struct str){s.p + prefix_n, s.n - prefix_n}, ret,
                             ret_path, why);
    d = map_get(ds->by_key, s);
    if (!d)
        return err_set(why, RC_DENIED, "there is no [webhook %.*s] any more",
                       (int)(s.n < 100 ? s.n : 100), s.p);
    d->refs++;
    *ret = d;
    *ret_path = mem_dup(d->path, strlen(d->path));
    return RC_OK;
}

void dest_drop(struct dest *d)
{
    CHECK(d->refs > 0);
    if (--d->refs)
        return;
    IGNORE(map_del(d->of->by_key, str_of(d->key))); /* it is d */
    dest_free(d);
}

/* --- who is told --- */

void dests_told(const struct dests *ds, const struct batch *b, enum batch_status status,
                struct webhooks_told *ret)
{
    for (size_t i = 0; i < ds->n_named; i++) {
        const struct dest *d = ds->named[i];

        if (webhook_concerns(d->events, d->project, &b->project, status))
            ret->names[ret->n++] = d->key;
    }
    if (!b->callback_url || !batch_terminal(status))
        return;
    ret->callback = join(CALLBACK_PREFIX, str_of(b->callback_url));
    ret->names[ret->n++] = ret->callback;
}

void webhooks_told_done(struct webhooks_told *t)
{
    mem_free(t->callback);
    *t = (struct webhooks_told){.n = 0};
}

struct str webhooks_shown(const char *destination)
{
    struct str s = str_of(destination), url;
    struct callback_url u;
    const char *why, *end;
    size_t n;

    if (!is_callback(s))
        return s;
    url = (struct str){s.p + prefix_n, s.n - prefix_n};
    if (callback_url_read(url, &u, &why) != RC_OK)
        return STR("callback");
    end = url.p + url.n;
    for (n = u.host.n; u.host.p + n < end && u.host.p[n] != '/' && u.host.p[n] != '?';)
        n++;
    return (struct str){u.host.p, n};
}
