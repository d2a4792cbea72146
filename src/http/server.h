/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server: an HTTP/1.1 server over libmicrohttpd: heads, bounded bodies, answers.
 *
 * A request passes two callbacks.  `open` runs on a connection thread when the head is
 * there and says where the body goes: kept in memory up to a limit, or streamed into a
 * sink.  `serve` runs on a worker thread when the whole body has arrived; it may block
 * (store, disk), and exactly one http_reply* must follow, from any thread, then or later.
 *
 * Owns:    connections; a request lives until its reply was sent and `close` ran.
 * Threads: as said at each callback.  Slow clients cost a connection, never a thread.
 * Errors:  a request that is not HTTP, too large or too slow never reaches `serve`; the
 * server answers with `on_error`'s body (the API's error envelope) and closes, so that
 * every refusal looks alike.  All but what libmicrohttpd refuses by itself with a little
 * HTML and no request id: a Content-Length that is no number, a line without a colon, a
 * broken chunk, a head that does not fit 64 KiB, another version of HTTP.
 *
 * Answers to chunked requests close the connection (see add_headers in server.c), as do
 * all once draining has begun.
 */
#pragma once

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/str.h"

struct http_server;
struct http_request;

/* Where a streamed body goes; on a connection thread.  Not RC_OK: the rest of the body is
 * passed over and `serve` still runs (it asks the sink what went wrong). */
typedef enum rc http_sink_fn(void *ctx, struct http_request *rq, struct str piece);

struct http_body_plan {
    size_t max_bytes;   /* over it: 413 without `serve`, at the head when Content-Length
                           says so */
    http_sink_fn *sink; /* NULL: keep in memory */
};

struct http_handler {
    void *ctx;
    /* Head is there: method, path, query, headers readable.  May call http_set_user. */
    struct http_body_plan (*open)(void *ctx, struct http_request *rq);
    /* Whole body is there.  On a worker. */
    void (*serve)(void *ctx, struct http_request *rq);
    /* The request is over (answered, refused or the client went away): free the user
     * data.  On a connection thread. */
    void (*close)(void *ctx, struct http_request *rq);
    /* Fills body with the error envelope for a refusal of the server's own: 400, 408,
     * 411, 413, 414, 431, 500, 503, and what http_set_over_status said.  rq NULL: there is no
     * request yet.  Content-Type application/json is set by the server.  Any thread; must
     * not block; at most 4 KiB. */
    void (*on_error)(void *ctx, struct http_request *rq, int status, const char *message,
                     struct buf *body);
};

struct http_server_opts {
    const char *listen;       /* "127.0.0.1:8080", "[::1]:0"; port 0 picks a free one */
    unsigned io_threads;      /* connection threads; 0: 2 */
    unsigned workers;         /* threads for `serve`; 0: 4 */
    unsigned max_connections; /* 0: 8192; lowered to half the fd limit */
    unsigned idle_seconds;    /* no byte for so long closes the connection; 0: 60 */
};

/* RC_CONFLICT: the address is in use; RC_INVALID: not HOST:PORT; RC_DENIED: a privileged
 * port. */
NODISCARD enum rc http_server_new(const struct http_server_opts *o,
                                  const struct http_handler *h, struct http_server **ret,
                                  struct err *e);
unsigned http_server_port(const struct http_server *s);
/* No new connections; requests under way get up to `seconds` to be answered.  Streams are
 * told at once. */
void http_server_drain(struct http_server *s, unsigned seconds);
/* Waits until whatever was given to `serve` has been replied to; closes the rest. */
struct http_server *http_server_free(struct http_server *s);

struct str http_method(const struct http_request *rq);
struct str
http_path(const struct http_request *rq); /* percent-decoded once; no NUL in it */
struct str http_header(const struct http_request *rq,
                       const char *name); /* .p NULL: none */
bool http_header_again(const struct http_request *rq,
                       const char *name); /* is it there more than once? */
struct str http_query(const struct http_request *rq, const char *name); /* .p NULL: none;
                                                          "?limit=" is .p set, .n == 0 */
struct str http_body(const struct http_request *rq); /* kept in memory; for `serve` */
/* In a sink: appends to what http_body will give, at most max bytes (the same each time):
 * for bodies that are not kept as they come.  RC_LIMIT, RC_NOMEM. */
NODISCARD enum rc http_keep(struct http_request *rq, struct str piece, size_t max);
uint64_t http_body_bytes(const struct http_request *rq); /* streamed or kept */
const char *
http_request_id(const struct http_request *rq); /* "req_" + 32 hex; also sent as
                                                   x-request-id on every answer */
/* In `open` only: what on_error is told when the body is over its plan, instead of a
 * plain sentence; borrowed until `close`. */
void http_set_too_large(struct http_request *rq, const char *why);
/* In `open` only: the status of a body over its plan, instead of 413. */
void http_set_over_status(struct http_request *rq, int status);
void http_set_user(struct http_request *rq, void *user);
void *http_user(const struct http_request *rq);

/* Adds a header to the answer to come; name and value are copied; values with control
 * bytes are refused by PANIC (they must have been encoded). */
void http_add_header(struct http_request *rq, const char *name, const char *value);

/* Takes the bytes of body (it is empty afterwards).  HEAD requests get the same head. */
void http_reply(struct http_request *rq, int status, const char *content_type,
                struct buf *body);
/* Sends n bytes of fd from off; the server closes fd.  Range is the caller's business. */
void http_reply_fd(struct http_request *rq, int status, const char *content_type, int fd,
                   uint64_t off, uint64_t n);

/* ---- answers that come piece by piece ---- */

/* What a stream holds of an answer at most: all that a slow client costs. */
#define HTTP_STREAM_BUFFER ((size_t)256 << 10)

enum http_more {
    HTTP_MORE, /* ask again when this was sent */
    HTTP_WAIT, /* send this, and ask again at *again */
    HTTP_END,  /* send this; the answer is over, in good order */
    HTTP_BREAK /* send this and close without the last chunk: the client sees that it was
                  cut */
};

/*
 * Fills out, which is empty and takes HTTP_STREAM_BUFFER bytes (over it: the answer is
 * broken off).  *again is a monotonic time.  stopping: the server drains; what can be said
 * soon should be, then END or BREAK; WAIT means BREAK.  On a worker, one call at a time;
 * may block for as long as `serve` may, never for news to come: that is what WAIT is for.
 */
typedef enum http_more http_pull_fn(void *ctx, struct buf *out, bool stopping,
                                    usec_t *again);
/* The stream is over, however it ended.  Any thread; must not wait. */
typedef void http_release_fn(void *ctx);

/*
 * Sends what pull says, in chunks (RFC 9112, 7.1), to a client of HTTP/1.0 until the
 * connection closes.  Takes ctx, which must not borrow from the request: release runs
 * exactly once, also when nothing was ever pulled (HEAD gets the head only), and perhaps
 * after `close`.
 *
 * A stream that waits costs no thread, and no timeout cuts it.  A client that goes away
 * or ends its sending side while its stream waits is noticed within a second; one that
 * does not read is closed after idle_seconds, as ever.
 */
void http_reply_stream(struct http_request *rq, int status, const char *content_type,
                       http_pull_fn *pull, http_release_fn *release, void *ctx);
