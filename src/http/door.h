/* SPDX-License-Identifier: Apache-2.0 */
/*
 * door: where connections come in and what becomes of those that misbehave.
 *
 * One thread accepts connections and hands them on, ends those whose request head takes
 * too long, tells the library of clients whose end it has overlooked, and keeps refused
 * ones open for a while, reading and forgetting, so that a client that is still sending
 * can read why (a closed socket with unread bytes resets the connection, and the answer
 * is lost on the way).
 *
 * The library could accept by itself; but taking its listening socket away under load
 * aborts the process now and then (MHD_quiesce_daemon of 0.9.75 removes it from an epoll
 * set that its thread has already removed it from: seen once in 600 tries), and it
 * leaves a lock held at its own connection limit.
 *
 * Owns:    the listening socket, lingering sockets, its thread.
 * Threads: as said at each function.
 */
#pragma once

#include "base/clock.h"
#include "base/err.h"
#include "base/list.h"

#include <stdatomic.h>
#include <sys/socket.h>

struct door;

struct door_opts {
    const char *listen; /* HOST:PORT */
    unsigned max_connections;
    void *ctx;
    /* A new connection; takes fd.  On the door's thread.  door_enter and door_leave, once
     * each, follow. */
    void (*accepted)(void *ctx, int fd, const struct sockaddr *addr, socklen_t n);
    /* A head was too slow; the connection will be shut down afterwards.  Must not block.
     * On the door's thread. */
    void (*slow)(void *ctx, int fd);
};

/* Embedded in the connection of whoever serves it. */
struct door_guest {
    struct list _link;
    int _fd;
    atomic_uint _turn; /* odd while a request is under way; +1 at each change */
    unsigned _seen;    /* the rest: the door's thread only */
    uint64_t _bytes;
    usec_t _since; /* the head under way began; 0: none is under way */
};

/* Binds and listens; nobody is let in before door_open.  RC_CONFLICT: the address is in
 * use; RC_INVALID: not HOST:PORT; RC_DENIED: a privileged port. */
NODISCARD enum rc door_new(const struct door_opts *o, struct door **ret, struct err *e);
NODISCARD enum rc door_open(struct door *d, struct err *e);
unsigned door_port(const struct door *d);

/* A connection is being served from now on; before its socket is closed.  Any thread. */
void door_enter(struct door *d, struct door_guest *g, int fd);
void door_leave(struct door *d, struct door_guest *g);

/* Its request's head is there (true) or its request is over (false).  Any one thread. */
void door_busy(struct door_guest *g, bool busy);

/* Takes fd, a duplicate of a connection's socket that was refused.  Any thread. */
void door_linger(struct door *d, int fd);

/* Lets those in who wait already, then nobody more.  Any thread but the door's. */
void door_shut(struct door *d);
/* Ends the thread; calls of other threads stay allowed until door_free. */
void door_stop(struct door *d);
struct door *door_free(struct door *d); /* accepts NULL, returns NULL */
