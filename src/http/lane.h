/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lane: libcurl's multi handles under our loop, a few calls in each.  Private to the
 * client.
 *
 * libcurl walks all connections that a multi handle has to a host whenever a transfer
 * begins (to find an idle one) and again when it ends, so that a request costs more the
 * more calls are in flight.  Therefore the calls of a target are spread over lanes.
 *
 * Owns:    multi handles, their timers, and the loop's watches of their descriptors.
 * Threads: the loop's.
 * Errors:  a descriptor that cannot be watched is told through hub.deaf; what else can
 *          fail is memory, which panics.
 */
#pragma once

#include "base/list.h"
#include "io/loop.h"

#include <curl/curl.h>

struct sock;
struct lane;

/* A transfer as its lane sees it; embedded in what the caller keeps of it.  The easy
 * handle's CURLOPT_PRIVATE must point at it. */
struct ride {
    CURL *easy;
    struct lane *lane;
    int fd;       /* that libcurl waits for; -1: none */
    usec_t moved; /* when bytes last came in or could go out */
    struct list _stalled;
};

/* What all lanes of a client share. */
struct hub {
    struct loop *loop;
    struct list due;                /* lanes with ended transfers to be taken */
    struct list idle;               /* lanes without calls, the longest idle first */
    unsigned connections;           /* open, in use or not */
    void (*ended)(struct hub *hub); /* due is not empty; not called inside hub_starting */
    void (*deaf)(struct hub *hub, struct ride *r, const struct err *e);

    struct sock **_socks; /* by descriptor */
    size_t _n_socks;
    struct lane *_starting;
};

/* Of one target. */
struct lanes {
    struct list room; /* lanes that take one more call, the fullest first */
    struct list full; /* lanes that do not */
    unsigned size;    /* most calls of one lane */
};

struct lane {
    struct list link; /* in lanes.room or lanes.full */
    struct list due;  /* in hub.due */
    struct list idle; /* in hub.idle */
    struct lanes *of;
    struct hub *hub;
    CURLM *multi;
    struct list stalled; /* rides to be nudged */
    struct list socks;   /* its connections */
    struct loop_timer timer, nudge;
    unsigned calls, connections;
    usec_t idle_since;
};

void hub_init(struct hub *hub, struct loop *l);
void hub_done(struct hub *hub); /* no lane may be left */

/* Frees lanes that have been idle since before `since`, and the longest idle ones as
 * long as more than `most` connections are open. */
void hub_close_idle(struct hub *hub, usec_t since, unsigned most);

void lanes_init(struct lanes *ls, unsigned size);
void lanes_done(struct lanes *ls); /* no call may be running */

/* A place for one call more, and its end (which also ends its transfer). */
void lane_join(struct lanes *ls, struct hub *hub, struct ride *r);
void lane_leave(struct ride *r);

/* Begins a transfer.  If it ends at once, the lane is due; hub.ended is not called. */
void lane_start(struct ride *r);

/* Bytes that the other side has not yet taken. */
int lane_unsent(const struct ride *r);

/* The next ended transfer of a lane that was due; *ret_left: how many more there are. */
struct ride *lane_next_ended(struct lane *lane, CURLcode *ret_code, int *ret_left);

/* For CURLOPT_OPENSOCKETFUNCTION to tell of what it opened, and the function and data
 * that must be set with it (data: the hub). */
void lane_opened(struct ride *r, int fd);
int hub_close_socket(void *hub, curl_socket_t fd);

/*
 * Is there something to read on the idle connection of the ride's lane that has this local
 * port?  Nobody asked for it, and it would be taken for the answer to the next request.
 * libcurl 7.88 does not look: of an answer whose length is told it reads so many bytes, and
 * leaves in the socket what follows.  In TLS it sees whole records only: what came in one
 * with the end of a long answer stays unseen.
 */
bool lane_stray(const struct ride *r, int local_port);

/* To be called at the end of a transfer that opened something. */
void lane_kept(const struct ride *r);
