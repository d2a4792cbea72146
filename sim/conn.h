/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn: one connection: reads requests, sends what it is told to, and ends as told.
 *
 *   READING -whole request-> BUSY -reply-> SENDING -all sent-> READING (SIM_KEEP)
 *                                                           -> DRAINING (SIM_CLOSE)
 *                                                           -> HOLDING (SIM_RESET, HOLD)
 *   CLOSED from everywhere; the memory goes at the end of the turn, or with the work that
 *   goes on for nobody (--ignore-disconnect: server.ghosts).
 *
 * A reply that leaves in one write goes from BUSY to READING at once: one read and one
 * write a request, and no memory taken.
 *
 * Owns:    its descriptor and the bytes of at most one request (and what came behind it).
 * Threads: the loop's.
 */
#pragma once

#include "http/http1.h"
#include "sim/server.h"
#include "sim/wire.h"

enum sim_conn_state {
    SIM_READING,
    SIM_BUSY,
    SIM_SENDING,
    SIM_HOLDING,
    SIM_DRAINING,
    SIM_CLOSED
};

struct sim_conn {
    struct list link; /* in server.conns, server.dead or server.ghosts */
    struct sim_server *s;
    enum sim_conn_state state;

    /* what handle.c reads and keeps: the request */
    const char *base; /* its first byte, in `in` or in the server's scratch */
    struct http1_head head;
    struct sim_request rq;
    struct sim_hit hit;
    struct sim_job job;
    char id[SIM_ID_MAX + 1];
    uint32_t attempt; /* how often the body came before */
    uint64_t ticket;
    bool noted;    /* the oracle waits for its end */
    bool started;  /* its job was, so that it has times */
    bool ghost;    /* closed, and its job goes on */
    uint64_t held; /* tokens against a quota */
    uint64_t *ids; /* of the prompt's blocks; as many fit as cap_ids */
    size_t cap_ids;

    int fd; /* private from here */
    struct loop_watch *watch;
    struct loop_timer timer;
    struct buf in;
    size_t have; /* bytes from base on */
    size_t used; /* of them, of this request, once it is whole */
    struct http1_chunks chunks;
    bool in_body, told_100;
    size_t body_n; /* decoded bytes of a chunked body */

    struct buf out;
    size_t sent;
    struct sim_wire wire;
};

/* Takes fd, also when it fails. */
NODISCARD enum rc sim_conn_new(struct sim_server *s, int fd);
void sim_conn_free(struct sim_conn *c); /* after it was closed */
/* The request under way is over for the oracle, too. */
void sim_conn_close(struct sim_conn *c, bool reset);

/* Sends server.out as `w` says. */
void sim_conn_send(struct sim_conn *c, const struct sim_wire *w);
/* The reply comes later, by sim_conn_send and then sim_conn_resume. */
void sim_conn_wait(struct sim_conn *c);
void sim_conn_resume(struct sim_conn *c);
