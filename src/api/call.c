/* SPDX-License-Identifier: Apache-2.0 */
#include "api/call.h"
#include "json/json.h"
#include "base/limits.h"
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

/* --- Answers -------------------------------------------------------------------------
 */

/* What every answer carries besides the server's own x-request-id. */
static void put_headers(struct call *c, int status)
{
    usec_t took = clock_mono() - c->began;
    char ms[24];
    size_t route = c->route ? route_number(c->route) : route_count();

    snprintf(ms, sizeof ms, "%lld", (long long)(took / USEC_PER_MS));
    http_add_header(c->rq, "openai-version", "2020-10-01");
    http_add_header(c->rq, "openai-processing-ms", ms);
    if (status == 401) /* RFC 9110 11.6.1 */
        http_add_header(c->rq, "WWW-Authenticate", "Bearer realm=\"batchd\"");
    count_answer(c->api->counts, route, status);
    log_debug("api.answer", "req=%s route=\"%s %s\" status=%d us=%lld key=%s",
              http_request_id(c->rq), route_label(route).method,
              route_label(route).pattern, status, (long long)took,
              id_none(&c->key) ? "-" : c->key.z);
}

void call_reply(struct call *c, int status, const char *content_type, struct buf *body)
{
    struct err e;

    if (buf_failed(body) != RC_OK) {
        enum rc rc = buf_failed(body);

        IGNORE(err_set(&e, rc, "an answer of over %zu bytes", body->n)); /* says rc */
        buf_done(body);
        call_fail_rc(c, rc, &e);
        return;
    }
    put_headers(c, status);
    http_reply(c->rq, status, content_type, body);
}

void call_reply_json(struct call *c, struct buf *body)
{
    call_reply(c, 200, "application/json", body);
}

void call_reply_fd(struct call *c, int status, const char *content_type, int fd,
                   uint64_t off, uint64_t n)
{
    put_headers(c, status);
    http_reply_fd(c->rq, status, content_type, fd, off, n);
}

void call_reply_stream(struct call *c, const char *content_type, http_pull_fn *pull,
                       http_release_fn *release, void *ctx)
{
    put_headers(c, 200);
    http_reply_stream(c->rq, 200, content_type, pull, release, ctx);
}

void call_fail(struct call *c, const struct apierr *e)
{
    unsigned retry_after = apierr_retry_after(e->kind);
    struct buf body;

    if (retry_after) {
        char s[16];

        snprintf(s, sizeof s, "%u", retry_after);
        http_add_header(c->rq, "Retry-After", s);
    }
    /* SDKs try a 409 and a 429 again within seconds unless told; none of our 409s ever turns
     * into something else, and room for a batch comes when another one has ended. */
    if (e->kind == APIERR_CONFLICT || e->kind == APIERR_TOO_MANY_BATCHES)
        http_add_header(c->rq, "x-should-retry", "false");
    if (e->kind == APIERR_ENCODING) /* RFC 9110, 12.5.3 */
        http_add_header(c->rq, "Accept-Encoding",
                        c->api->opts.max_expansion ? "gzip, zstd" : "identity");
    buf_init(&body, sizeof *e * 8); /* a byte becomes \u00XX at the most */
    apierr_put(e, &body);
    CHECK(buf_failed(&body) != RC_LIMIT);
    put_headers(c, apierr_status(e->kind));
    http_reply(c->rq, apierr_status(e->kind), "application/json", &body);
}

void call_fail_as(struct call *c, enum apierr_kind kind, const char *param,
                  const char *fmt, ...)
{
    struct apierr e;
    char text[sizeof e.message];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap); /* for people: may be cut */
    va_end(ap);
    apierr_set(&e, kind, param, "%s", text);
    call_fail(c, &e);
}

/* Recovery is no news, and a full disk is told by whoever waits for room. */
static enum log_level level_of(enum rc rc)
{
    if (rc == RC_AGAIN)
        return LOG_LVL_DEBUG;
    return rc == RC_NOSPACE || rc == RC_NOMEM ? LOG_LVL_WARN : LOG_LVL_ERROR;
}

void call_fail_rc(struct call *c, enum rc rc, const struct err *why)
{
    struct apierr e;
    char quoted[2 * sizeof why->text];

    apierr_of_rc(&e, rc);
    if (log_on(level_of(rc)))
        log_ev(level_of(rc), "api.fail", "req=%s status=%d rc=%s err=%s",
               http_request_id(c->rq), apierr_status(e.kind), rc_name(rc),
               log_q(quoted, sizeof quoted, why->text, strlen(why->text)));
    call_fail(c, &e);
}

/* --- Queries -------------------------------------------------------------------------
 */

enum rc call_limit(struct call *c, unsigned dflt, unsigned max, unsigned *ret,
                   struct apierr *e)
{
    struct str text = http_query(c->rq, "limit");
    uint64_t n;
    enum rc rc;

    if (text.n == 0) { /* not there, or "?limit=" as some SDKs send for None */
        *ret = dflt;
        return RC_OK;
    }
    rc = str_u64(text, &n);
    if (rc == RC_INVALID)
        return apierr_set(e, APIERR_TYPE, "limit",
                          "Invalid type for 'limit': expected an integer, but got '%.*s' "
                          "instead.",
                          APIERR_SHOW(text));
    if (rc == RC_LIMIT || n > max)
        return apierr_set(
            e, APIERR_TOO_GREAT, "limit",
            "Invalid 'limit': integer above maximum value. Expected a value "
            "<= %u, but got %.*s instead.",
            max, APIERR_SHOW(text));
    if (n == 0)
        return apierr_set(
            e, APIERR_TOO_SMALL, "limit",
            "Invalid 'limit': integer below minimum value. Expected a value "
            ">= 1, but got 0 instead.");
    *ret = (unsigned)n;
    return RC_OK;
}

enum rc call_after(struct call *c, struct id *ret)
{
    struct str text = http_query(c->rq, "after");

    if (text.n == 0) {
        ret->z[0] = '\0';
        return RC_OK;
    }
    return id_from(text, ret) == RC_OK ? RC_OK : RC_NOTFOUND;
}

void call_reply_list(struct call *c, call_item_fn *put, const void *items, size_t n,
                     bool more)
{
    struct json_writer w;
    struct buf body, one;

    buf_init(&body, CALL_ANSWER_MAX);
    buf_init(&one, CALL_ANSWER_MAX);
    jw_init(&w, &body);
    jw_open(&w, NULL, '{');
    jw_z(&w, "object", "list");
    jw_open(&w, "data", '[');
    for (size_t i = 0; i < n; i++) {
        buf_reset(&one);
        put(items, i, &one);
        jw_raw(&w, NULL, buf_peek(&one));
    }
    jw_close(&w, ']');
    jw_z(&w, "first_id", n ? put(items, 0, NULL) : NULL);
    jw_z(&w, "last_id", n ? put(items, n - 1, NULL) : NULL);
    jw_bool(&w, "has_more", more);
    jw_close(&w, '}');
    buf_done(&one);
    call_reply_json(c, &body);
}
