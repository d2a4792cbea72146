/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server_int: what the files of the server share; nobody else includes it.
 *
 * server.c has connections and the life of requests, request.c what a handler does with
 * one, stream.c the answers that come piece by piece.
 */
#pragma once

#include "base/id.h"
#include "http/door.h"
#include "http/head.h"
#include "http/stream.h"
#include "io/pool.h"

#include <pthread.h>
#include <stdatomic.h>

/* Of one answer; the library has room for as much. */
#define SERVER_EXTRA_HEADERS (16u << 10)

/*
 * A request's life.  Up to WHOLE and from ANSWERED on it belongs to its connection's
 * thread; while HANDED, the library has the connection suspended and the request belongs
 * to whoever serves it.  The library's mutexes in suspend and resume order the two.
 *
 *   IDLE -> TARGET -> BODY -> WHOLE -> HANDED -> ANSWERED -> IDLE
 *                \______\________\________\____> REFUSED --> IDLE
 */
enum stage {
    IDLE,
    TARGET, /* the request line is there */
    BODY,   /* the head was accepted */
    WHOLE,  /* the body is there */
    HANDED, /* to serve */
    ANSWERED,
    REFUSED
};

struct http_request {
    struct http_server *server;
    struct MHD_Connection *mhd;
    enum stage stage;
    bool opened; /* close must run */
    bool head_only;
    void *user;
    struct id id;
    struct str method; /* in the library's memory, as the headers are */

    const char *raw_target; /* where the library read it; for head_as_sent */
    size_t raw_n;
    enum rc target_rc;
    struct head_target target; /* in text */
    struct buf text;
    struct head_framing framing;

    struct http_body_plan plan;
    const char *too_large;
    int over_status;
    struct buf body;
    uint64_t body_bytes;
    usec_t body_since;
    bool pass_over; /* the sink gave up: the rest is read and forgotten */

    struct pool_job job;
    struct buf headers; /* of the answer: name NUL value NUL ... */
    int status;
    struct MHD_Response *answer; /* NULL once HANDED is over: it could not be made */
};

struct conn {
    struct door_guest guest;
    struct http_request rq; /* one at a time */
};

struct http_server {
    struct http_handler h;
    struct door *door;
    struct pool *workers;
    struct streams *streams;
    struct MHD_Daemon *daemon;
    bool check_lines; /* see head_as_sent */

    atomic_uint under_way; /* heads accepted, not yet over */
    atomic_uint handed;    /* given to serve or pull, answer not yet taken up */
    atomic_uint replying;  /* threads inside http_reply* or a stream's resume */
    atomic_bool draining;  /* every answer closes its connection */
    atomic_bool stopping;  /* nothing is handed to serve any more */
    atomic_bool waiting;   /* somebody waits for a counter to reach 0 */
    pthread_mutex_t lock;
    pthread_cond_t zero;
};

static inline struct conn *conn_of(struct http_request *rq)
{
    return CONTAINER_OF(rq, struct conn, rq);
}

/* Any thread: the connection is the library's again; its request may be gone when this
 * returns. */
void server_resume(struct http_server *s, struct MHD_Connection *mhd);
