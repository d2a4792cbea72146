/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server: the listener, its connections, and the times at which it is not there.
 *
 * Owns:    everything of one simulated server.  The struct is open to conn.c and handle.c
 *          and to nobody else.
 * Threads: the loop's.
 */
#pragma once

#include "base/list.h"
#include "io/loop.h"
#include "sim/engine.h"
#include "sim/meter.h"
#include "sim/options.h"
#include "sim/oracle.h"

#include <sys/socket.h>

/* What one read may bring: most requests come whole, and then need no memory of their
 * connection. */
#define SIM_SCRATCH (256u << 10)
#define SIM_FILLING (64u << 10)

struct sim_server {
    const struct sim_options *o; /* &mine */
    struct sim_options mine;
    char *names;   /* the models that a client has set; NULL: those of the options */
    bool unlisted; /* a client has set null: 404 for the list */
    struct loop *loop;
    struct sim_engine *engine;
    struct sim_oracle *oracle;
    struct sim_meter meter;

    int fd; /* of the listener; -1: down */
    struct loop_watch *watch;
    struct sockaddr_storage addr; /* with the port that was taken */
    socklen_t addr_len;
    struct loop_timer back; /* the listener returns, or tries again to accept */
    struct loop_timer windows[SIM_SCHEDULE_MAX];
    usec_t started, down_until;

    struct list conns, dead; /* dead: closed in this turn */
    uint64_t accepted;

    char scratch[SIM_SCRATCH];
    char filling[SIM_FILLING];   /* of the fault huge */
    struct buf body, spare, out; /* an answer while it is composed */
    uint64_t id_state;           /* of the request ids that we make */
    int64_t date_sec;
    char date[40];
};

NODISCARD enum rc sim_server_new(const struct sim_options *o, struct loop *l,
                                 struct sim_server **ret, struct err *e);
struct sim_server *sim_server_free(struct sim_server *s); /* outside of the loop */
/* "127.0.0.1:8000"; "[::1]:8000" */
void sim_server_address(const struct sim_server *s, char *dst, size_t cap);

/* What models there are from now on: a JSON array of names; null: there is no list.
 * RC_INVALID: it is neither. */
NODISCARD enum rc sim_server_set_models(struct sim_server *s, struct str json);

/* All connections are reset and nobody listens for --poison-down. */
void sim_server_crash(struct sim_server *s);
const char *sim_server_date(struct sim_server *s);

static inline usec_t sim_server_time(const struct sim_server *s) /* since the start */
{
    return loop_now(s->loop) - s->started;
}
