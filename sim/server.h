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
#include "sim/quota.h"

#include <sys/socket.h>

/* What one read may bring: most requests come whole, and then need no memory of their
 * connection. */
#define SIM_SCRATCH (256u << 10)
#define SIM_FILLING (64u << 10)

/* One entry of the schedule that needs to be told of its time. */
struct sim_alarm {
    struct loop_timer timer;
    struct sim_server *s;
    const struct sim_window *w;
    bool began;
};

struct sim_server {
    const struct sim_options *o; /* &mine */
    struct sim_options mine;
    char *names;   /* the models that a client has set; NULL: those of the options */
    bool unlisted; /* a client has set null: 404 for the list */
    struct loop *loop;
    struct sim_engine *engine;
    struct sim_oracle *oracle;
    struct sim_meter meter;
    struct sim_quota quota;
    uint64_t over_quota;
    unsigned replica; /* from 1 */
    int64_t born_sec; /* since 1970; a crash makes it new */

    int fd; /* of the listener; -1: down */
    struct loop_watch *watch;
    struct sockaddr_storage addr; /* with the port that was taken */
    socklen_t addr_len;
    struct loop_timer back; /* the listener returns, or tries again to accept */
    struct sim_alarm alarms[SIM_SCHEDULE_MAX];
    usec_t started, down_until;

    struct list conns, dead, ghosts; /* dead: closed in this turn */
    uint64_t accepted;

    char scratch[SIM_SCRATCH];
    char filling[SIM_FILLING];   /* of the fault huge */
    struct buf body, spare, out; /* an answer while it is composed */
    struct buf limits;           /* its headers of quotas */
    struct buf stale;            /* /metrics as it was when it stopped to change */
    uint64_t id_state;           /* of the request ids that we make */
    int64_t date_sec;
    char date[40];
};

/* The replica-th of those that the options ask for, from 1: with a port in --listen it is
 * on that port and replica - 1 more. */
NODISCARD enum rc sim_server_new(const struct sim_options *o, unsigned replica,
                                 struct loop *l, struct sim_server **ret, struct err *e);
/* After each turn of the loop. */
void sim_server_tick(struct sim_server *s);
struct sim_server *sim_server_free(struct sim_server *s); /* outside of the loop */
/* "127.0.0.1:8000"; "[::1]:8000" */
void sim_server_address(const struct sim_server *s, char *dst, size_t cap);

/* What models there are from now on: a JSON array of names; null: there is no list.
 * RC_INVALID: it is neither. */
NODISCARD enum rc sim_server_set_models(struct sim_server *s, struct str json);

/* All connections are reset, what was cached and counted for /metrics is forgotten, and
 * nobody listens until then. */
void sim_server_crash(struct sim_server *s, usec_t back);
bool sim_server_unloaded(const struct sim_server *s); /* by the schedule: no model */
enum sim_blur sim_server_blur(const struct sim_server *s);
struct sim_state sim_server_state(struct sim_server *s);
/* Failures stay in dst. */
void sim_server_metrics(struct sim_server *s, enum sim_blur blur, struct buf *dst);
const char *sim_server_date(struct sim_server *s);

static inline usec_t sim_server_time(const struct sim_server *s) /* since the start */
{
    return loop_now(s->loop) - s->started;
}
