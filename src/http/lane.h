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

/* What all lanes of a client share. */
struct hub {
    struct loop *loop;
    struct list due;                /* lanes with ended transfers to be taken */
    struct list idle;               /* lanes without calls, the longest idle first */
    unsigned connections;           /* open, in use or not */
    void (*ended)(struct hub *hub); /* due is not empty; not called inside hub_starting */
    void (*deaf)(struct hub *hub, CURL *easy, const struct err *e);

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
    struct loop_timer timer;
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

/* A place for one call more, and its end. */
struct lane *lane_join(struct lanes *ls, struct hub *hub);
void lane_leave(struct lane *lane);

/* Begins a transfer.  If it ends at once, the lane is due, and hub.ended is not called.
 */
void lane_start(struct lane *lane, CURL *easy);

/* For CURLOPT_OPENSOCKETFUNCTION to tell of what it opened, and the function and data
 * that must be set with it; hub outlives every handle. */
void lane_opened(struct lane *lane, int fd);
int hub_close_socket(void *hub, curl_socket_t fd);
