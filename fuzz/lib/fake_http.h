/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake_http: http/server.h without sockets: a handler gets one request after the other
 * out of bytes, thousands a second.  It takes the place of http/server.c and request.c
 * and keeps what they promise, as badly for the handler as they may: with the answer the
 * request is closed and freed at once, a streamed body comes in pieces of any size, and a
 * body may stay away.
 *
 * A request is a head as on the wire (lines may end in LF alone) and all that follows.
 * A Content-Length above what follows: the client went away in the middle.
 */
#pragma once

#include "base/buf.h"
#include "base/mem.h"
#include "http/head.h"
#include "http/server.h"
#include "tests/lib/t.h"

#include <unistd.h>

enum { FAKE_FIELDS = 64, FAKE_HEADERS = 32 };

/* What came back; everything owned. */
struct fake_answer {
    int status; /* 0: none: the client went away, or the head was refused */
    bool own;   /* the server's refusal: it came from on_error */
    char *type; /* NULL: none */
    struct buf body;
    size_t n;
    struct {
        char *name, *value;
    } headers[FAKE_HEADERS];
    uint64_t fd_off; /* of an answer out of a descriptor */
    bool of_fd;
    /* of a stream: not pulled yet */
    http_pull_fn *pull;
    http_release_fn *release;
    void *ctx;
};

struct http_request {
    const struct http_handler *h;
    struct fake_answer *answer;
    char *bytes; /* the whole request's */
    struct str method;
    struct head_target target;
    struct head_field fields[FAKE_FIELDS];
    size_t n_fields;
    struct head_framing framing;
    struct http_body_plan plan;
    const char *too_large;
    int over_status;
    struct buf body;
    uint64_t body_bytes;
    bool head_only, pass_over, opened, serving;
    void *user;
};

/* --- The request, read --------------------------------------------------------------- */

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
    for (size_t i = 0; i < rq->n_fields; i++)
        if (str_ieq(rq->fields[i].name, str_of(name)))
            return rq->fields[i].value;
    return (struct str){NULL, 0};
}

bool http_header_again(const struct http_request *rq, const char *name)
{
    size_t n = 0;

    for (size_t i = 0; i < rq->n_fields; i++)
        n += str_ieq(rq->fields[i].name, str_of(name));
    return n > 1;
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
    (void)rq;
    return "req_00000000000000000000000000000000";
}

void http_set_too_large(struct http_request *rq, const char *why)
{
    CHECK(!rq->opened);
    rq->too_large = why;
}

void http_set_over_status(struct http_request *rq, int status)
{
    CHECK(!rq->opened);
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

/* --- Answers ------------------------------------------------------------------------- */

static void fake_free(struct http_request *rq)
{
    if (rq->opened)
        rq->h->close(rq->h->ctx, rq);
    buf_done(&rq->body);
    mem_free(rq->bytes);
    mem_free(rq);
}

static void fake_done(struct fake_answer *a)
{
    for (size_t i = 0; i < a->n; i++) {
        mem_free(a->headers[i].name);
        mem_free(a->headers[i].value);
    }
    if (a->release)
        a->release(a->ctx);
    mem_free(a->type);
    buf_done(&a->body);
}

void http_add_header(struct http_request *rq, const char *name, const char *value)
{
    struct fake_answer *a = rq->answer;

    CHECK(head_name_ok(str_of(name)) && head_value_ok(str_of(value)));
    CHECK(a->n < FAKE_HEADERS && strlen(value) < 8192);
    a->headers[a->n].name = mem_dup(name, strlen(name));
    a->headers[a->n++].value = mem_dup(value, strlen(value));
}

/* .p NULL: not there. */
static struct str fake_header(const struct fake_answer *a, const char *name)
{
    for (size_t i = 0; i < a->n; i++)
        if (str_ieq(str_of(a->headers[i].name), str_of(name)))
            return str_of(a->headers[i].value);
    return (struct str){NULL, 0};
}

/* Exactly one answer, and that from `serve` only; then the request is gone. */
static struct fake_answer *fake_reply(struct http_request *rq, int status,
                                      const char *type)
{
    struct fake_answer *a = rq->answer;

    CHECK(rq->serving && a->status == 0);
    CHECK(status >= 200 && status <= 599);
    a->status = status;
    a->type = type ? mem_dup(type, strlen(type)) : NULL;
    return a;
}

void http_reply(struct http_request *rq, int status, const char *content_type,
                struct buf *body)
{
    struct fake_answer *a = fake_reply(rq, status, content_type);
    size_t n = 0;
    char *p = buf_take(body, &n);

    CHECK(p); /* a failed buffer is answered for before */
    (void)buf_add(&a->body, p, n);
    mem_free(p);
    fake_free(rq);
}

void http_reply_fd(struct http_request *rq, int status, const char *content_type, int fd,
                   uint64_t off, uint64_t n)
{
    struct fake_answer *a = fake_reply(rq, status, content_type);
    char *to = NULL;

    a->of_fd = true;
    a->fd_off = off;
    CHECK(buf_reserve(&a->body, (size_t)n, &to) == RC_OK);
    if (n)
        CHECK(pread(fd, to, (size_t)n, (off_t)off) == (ssize_t)n);
    buf_commit(&a->body, (size_t)n);
    CHECK(close(fd) == 0);
    fake_free(rq);
}

void http_reply_stream(struct http_request *rq, int status, const char *content_type,
                       http_pull_fn *pull, http_release_fn *release, void *ctx)
{
    struct fake_answer *a = fake_reply(rq, status, content_type);

    a->pull = rq->head_only ? NULL : pull;
    a->release = release;
    a->ctx = ctx;
    fake_free(rq);
}

/* --- The request, made --------------------------------------------------------------- */

static void fake_refuse(struct http_request *rq, int status, const char *why)
{
    struct fake_answer *a = rq->answer;

    a->status = status;
    a->own = true;
    a->type = mem_dup("application/json", 16);
    rq->h->on_error(rq->h->ctx, rq->opened ? rq : NULL, status, why, &a->body);
    CHECK(buf_failed(&a->body) == RC_OK && a->body.n <= 4096);
    fake_free(rq);
}

/* Lines as the library cuts them; 0, or the status of a refusal. */
static int fake_read_head(struct http_request *rq, struct str *rest)
{
    struct str line = str_cut(rest, '\n'), version;
    const char *why;
    char *raw;

    rq->method = str_cut(&line, ' ');
    raw = rq->bytes + (line.p - rq->bytes);
    version = line;
    version = (struct str){line.p, line.n};
    for (size_t i = line.n; i > 0; i--) {
        if (line.p[i - 1] != ' ')
            continue;
        version = (struct str){line.p + i, line.n - i};
        line.n = i - 1;
        break;
    }
    while (rest->n) {
        struct str field = str_cut(rest, '\n'), name;

        if (str_trim(field).n == 0)
            break;
        if (rq->n_fields == FAKE_FIELDS)
            return 431;
        name = str_cut(&field, ':');
        rq->fields[rq->n_fields++] = (struct head_field){name, str_trim(field)};
    }
    if (!head_name_ok(rq->method) || head_target(raw, line.n, &rq->target) != RC_OK)
        return 400;
    return head_framing(rq->fields, rq->n_fields, str_is(str_trim(version), "HTTP/1.1"),
                        &rq->framing, &why);
}

/* false: it was refused and rq is gone. */
static bool fake_body(struct http_request *rq, struct str body, uint32_t cuts)
{
    while (body.n) {
        size_t n = cuts ? 1 + (cuts >> 16) % (cuts & 64 ? 61 : 5) : body.n;
        struct str piece = {body.p, n < body.n ? n : body.n};

        if (cuts)
            cuts = (cuts * 1664525u + 1013904223u) | 1;
        body.p += piece.n, body.n -= piece.n;
        if (piece.n > rq->plan.max_bytes - rq->body_bytes) {
            fake_refuse(rq, rq->over_status, rq->too_large);
            return false;
        }
        rq->body_bytes += piece.n;
        if (!rq->plan.sink)
            (void)buf_str(&rq->body, piece);
        else if (!rq->pass_over)
            rq->pass_over = rq->plan.sink(rq->h->ctx, rq, piece) != RC_OK;
    }
    return true;
}

/* One request with all its bytes.  cuts: 0: the body in one piece, else a seed.  *ret is
 * fake_done'd by the caller; false: the connection is of no more use. */
static bool fake_ask(const struct http_handler *h, struct str bytes, uint32_t cuts,
                     struct fake_answer *ret)
{
    struct http_request *rq = mem_new(struct http_request);
    struct str rest;
    int status;

    *ret = (struct fake_answer){0};
    buf_init(&ret->body, (size_t)1 << 28);
    rq->h = h;
    rq->answer = ret;
    rq->bytes = mem_dup(bytes.p, bytes.n);
    rest = (struct str){rq->bytes, bytes.n};
    buf_init(&rq->body, 1);
    status = fake_read_head(rq, &rest);
    if (status) {
        fake_refuse(rq, status, "The request line or a request header is malformed.");
        return false;
    }
    rq->head_only = str_is(rq->method, "HEAD");
    rq->too_large = "The request body is too large.";
    rq->over_status = 413;
    rq->plan = h->open(h->ctx, rq);
    rq->opened = true;
    if (rq->framing.length > rq->plan.max_bytes) {
        fake_refuse(rq, rq->over_status, rq->too_large);
        return false;
    }
    if (!rq->plan.sink && rq->plan.max_bytes)
        buf_init(&rq->body, rq->plan.max_bytes);
    if (http_header(rq, "Content-Length").p && rest.n > rq->framing.length)
        rest.n = (size_t)rq->framing.length;
    if (!fake_body(rq, rest, cuts))
        return false;
    if (rest.n < rq->framing.length) { /* the client went away */
        fake_free(rq);
        return false;
    }
    rq->serving = true;
    h->serve(h->ctx, rq); /* rq is gone when it has answered */
    CHECK(ret->status);
    return true;
}
