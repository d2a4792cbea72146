/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client: HTTP requests to upstream servers from one loop: one call in, one outcome out.
 *
 * libcurl's multi interface under our loop, handles reused.  Everything unused is off:
 * redirects, cookies, netrc, HSTS, proxies unless configured, protocols but http and
 * https.
 *
 * Owns:    connections and handles.  A call is embedded in its owner (the engine's slot)
 * and must stay put until `done` ran or http_cancel returned. Threads: the loop's thread
 * only. Errors:  all in the call's outcome; http_start itself cannot fail.
 *
 * Descriptors: one a connection, and two more for each 16 calls in flight.  The program
 * must ignore SIGPIPE, which writing to TLS may raise.
 */
#pragma once

#include "base/buf.h"
#include "base/clock.h"
#include "io/loop.h"

struct http_client;
struct http_target; /* one upstream: base URL, fixed headers, TLS; made once, shared by
                       calls */

struct http_client_opts {
    unsigned max_connections; /* kept open, over all targets; 0: 1024 */
    const char *user_agent;
};

struct http_target_opts {
    const char *base_url; /* "http://127.0.0.1:8000/v1"; a trailing slash is dropped */
    const char
        *bearer; /* Authorization: Bearer ...; NULL or "": none.  Copied, wiped on free */
    const char *const *headers; /* more fixed header lines, NULL-terminated; NULL: none */
    const char *proxy;          /* NULL: none */
    const char *ca_file; /* whom to believe, also for the proxy; NULL: the system's */
    bool insecure;       /* do not verify TLS; only by explicit configuration */
    /* Connect to public addresses only (http/address.h), whatever the host's name
     * resolves to at that moment.  Not together with a proxy, which would connect. */
    bool public_only;
};

/* What happened, in the order in which the first true one is taken. */
enum http_fate {
    HTTP_ANSWERED,   /* a whole answer: status, headers and body are set */
    HTTP_NO_CONNECT, /* DNS, refused, unreachable, connect timeout, TLS, an address that is
                        not public: nothing was sent */
    HTTP_RESET,      /* the connection ended before a whole answer came */
    HTTP_TIMEOUT,    /* no progress within the call's limits */
    HTTP_TOO_LARGE,  /* the answer's body exceeds the cap */
    HTTP_GARBLED,    /* not HTTP, or framing that cannot be */
    HTTP_ABORTED     /* by http_client_free, which takes no new call; not by http_cancel
                        (which calls nothing) */
};

enum { HTTP_CALL_HEADERS = 4 };

struct http_call;
typedef void http_done_fn(struct http_call *c);   /* the owner may start c again inside */
typedef usec_t http_more_fn(struct http_call *c); /* starts and cancels no call */

struct http_call {
    /* set by the owner before http_start; borrowed until done */
    const struct http_target *target;
    const char *path;   /* behind the base URL: "/chat/completions"; NULL-terminated */
    const char *method; /* "POST" or "GET" */
    struct str body;
    /* More header lines of this call alone, NULL-terminated, at most HTTP_CALL_HEADERS;
     * NULL: none.  They must be of the form that a target's are. */
    const char *const *headers;
    char request_id[96];    /* sent as X-Request-Id when not "" and printable ASCII */
    usec_t connect_timeout; /* 0: 5 s */
    usec_t idle_timeout;    /* no byte in or out for so long; 0: none */
    usec_t total_timeout;   /* 0: none */
    size_t max_body;        /* 0: LIMIT_ANSWER_BYTES */
    /* Only the status counts: the answer's body is passed over, and one that is over
     * max_body is cut off and no failure. */
    bool status_only;
    http_done_fn *done;
    /* Asked when idle_timeout or total_timeout has gone: how much longer it may take, from
     * now; 0: it is given up.  NULL: it is. */
    http_more_fn *more;

    /* the outcome; valid inside done, answer until the next start or http_call_done;
     * all but fate and reason are empty unless ANSWERED */
    enum http_fate fate;
    long status;
    struct buf answer;  /* init'ed by http_call_init; memory kept between calls */
    char answer_id[96]; /* the answer's x-request-id, "" when none or not printable ASCII
                         */
    int64_t
        retry_after_ms; /* from retry-after-ms, Retry-After (seconds or date); -1: none */
    /* The answer's lines that tell of quotas (http/answer.h), each ended by LF, and the
     * answer's own Date in seconds since the epoch where there are any; 0: not told. */
    char quota[1024];
    size_t quota_n;
    int64_t date;
    char reason[160]; /* for people: "Connection refused", "no byte for 60 s" */

    void *_easy; /* private */
    struct http_client *_client;
    char _id_line[128];
};

NODISCARD enum rc http_client_new(struct loop *l, const struct http_client_opts *o,
                                  struct http_client **ret, struct err *e);
struct http_client *
http_client_free(struct http_client *c); /* running calls end ABORTED */

/* RC_NOTFOUND, RC_DENIED: the CA file cannot be read.  RC_INVALID: the URL is not
 * http(s)://host[:port][/path] or names credentials, or a header line is malformed.  POST
 * sends Content-Type: application/json unless headers say otherwise.  Not freed inside
 * `done`; before or after its client, both is fine. */
NODISCARD enum rc http_target_new(struct http_client *c, const struct http_target_opts *o,
                                  struct http_target **ret, struct err *e);
struct http_target *http_target_free(struct http_target *t); /* no call may be using it */

void http_call_init(struct http_call *c);
void http_call_done(
    struct http_call *c); /* frees the answer's memory; not while running */
void http_start(struct http_client *c, struct http_call *call);
void http_cancel(
    struct http_call *call); /* closes it; done is not called; idle is fine */
