/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "http/server_int.h"

#include <unistd.h>

/* ---- the request, read ---- */

struct str http_method(const struct http_request *rq)
{
    return rq->method;
}

struct str http_path(const struct http_request *rq)
{
    return rq->target.path;
}

struct str http_header(const struct http_request *rq, const char *name)
{
    struct str value = {NULL, 0};

    if (MHD_lookup_connection_value_n(rq->mhd, MHD_HEADER_KIND, name, strlen(name),
                                      &value.p, &value.n) != MHD_YES)
        return (struct str){NULL, 0};
    return value;
}

struct seeker {
    const char *name;
    unsigned seen;
};

static enum MHD_Result count_name(void *ctx, enum MHD_ValueKind kind, const char *key,
                                  const char *value)
{
    struct seeker *s = ctx;

    (void)kind, (void)value;
    s->seen += str_ieq(str_of(key), str_of(s->name));
    return MHD_YES;
}

bool http_header_again(const struct http_request *rq, const char *name)
{
    struct seeker s = {name, 0};

    MHD_get_connection_values(rq->mhd, MHD_HEADER_KIND, count_name, &s);
    return s.seen > 1;
}

struct str http_query(const struct http_request *rq, const char *name)
{
    return head_query(&rq->target, name);
}

struct str http_body(const struct http_request *rq)
{
    return buf_peek(&rq->body);
}

enum rc http_keep(struct http_request *rq, struct str piece, size_t max)
{
    if (rq->body.n == 0)
        buf_init(&rq->body, max);
    return buf_str(&rq->body, piece);
}

uint64_t http_body_bytes(const struct http_request *rq)
{
    return rq->body_bytes;
}

const char *http_request_id(const struct http_request *rq)
{
    return rq->id.z;
}

void http_set_too_large(struct http_request *rq, const char *why)
{
    CHECK(rq->stage < BODY);
    rq->too_large = why;
}

void http_set_over_status(struct http_request *rq, int status)
{
    CHECK(rq->stage < BODY);
    rq->over_status = status;
}

void http_set_user(struct http_request *rq, void *user)
{
    rq->user = user;
}

void *http_user(const struct http_request *rq)
{
    return rq->user;
}

/* ---- answers ---- */

void http_add_header(struct http_request *rq, const char *name, const char *value)
{
    if (!head_name_ok(str_of(name)) || !head_value_ok(str_of(value)))
        PANIC("an answer's header %s was not encoded", name);
    (void)buf_add(&rq->headers, name, strlen(name) + 1);
    (void)buf_add(&rq->headers, value, strlen(value) + 1);
    if (buf_failed(&rq->headers) == RC_NOMEM)
        PANIC("out of memory for an answer's headers");
    if (buf_failed(&rq->headers))
        PANIC("an answer's headers are over %u bytes", SERVER_EXTRA_HEADERS);
}

static bool add_headers(const struct http_request *rq, const char *type,
                        struct MHD_Response *r)
{
    const char *at = rq->headers.p, *end = at + rq->headers.n;
    bool ok = !type || MHD_add_response_header(r, "content-type", type);

    ok = ok && MHD_add_response_header(r, "x-content-type-options", "nosniff");
    ok = ok && MHD_add_response_header(r, "x-request-id", rq->id.z);
    while (ok && at < end) {
        const char *value = at + strlen(at) + 1;

        ok = MHD_add_response_header(r, at, value);
        at = value + strlen(value) + 1;
    }
    /* The library takes chunk lines ended by LF alone.  A request that some proxy saw in
     * what follows such a body must not be read as one: so nothing follows. */
    if (ok && (atomic_load(&rq->server->draining) ||
               (rq->framing.chunked && rq->server->check_lines)))
        ok = MHD_add_response_header(r, "Connection", "close");
    return ok;
}

/* Any thread.  r NULL: out of memory, told to the client by on_answer. */
static void reply(struct http_request *rq, int status, const char *type,
                  struct MHD_Response *r)
{
    struct http_server *s = rq->server;

    CHECK(rq->stage == HANDED &&
          !rq->answer); /* exactly one reply, and not before serve */
    if (r && !add_headers(rq, type, r)) {
        MHD_destroy_response(r);
        r = NULL;
    }
    rq->answer = r;
    rq->status = status;
    server_resume(s, rq->mhd); /* rq may be gone when this returns */
}

void http_reply(struct http_request *rq, int status, const char *content_type,
                struct buf *body)
{
    struct MHD_Response *r = NULL;
    size_t n = 0;
    char *p = buf_take(body, &n);

    if (p)
        r = MHD_create_response_from_buffer_with_free_callback(n, p, mem_free);
    if (!r)
        mem_free(p);
    reply(rq, status, content_type, r);
}

void http_reply_fd(struct http_request *rq, int status, const char *content_type, int fd,
                   uint64_t off, uint64_t n)
{
    struct MHD_Response *r;

    r = MHD_create_response_from_fd_at_offset64(n, fd, off);
    if (!r)
        close(fd);
    reply(rq, status, content_type, r);
}

void http_reply_stream(struct http_request *rq, int status, const char *content_type,
                       http_pull_fn *pull, http_release_fn *release, void *ctx)
{
    struct MHD_Response *r = stream_response(rq->server->streams, rq->mhd,
                                             conn_of(rq)->guest._fd, pull, release, ctx);

    /* To HEAD, version 0.9.75 of the library sends the last chunk as well, which the
     * client would take for its next answer; so no chunks there, and nothing follows. */
    if (r && rq->head_only)
        MHD_set_response_options(r, MHD_RF_HTTP_1_0_COMPATIBLE_STRICT, MHD_RO_END);
    reply(rq, status, content_type, r);
}
