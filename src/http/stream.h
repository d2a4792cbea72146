/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream: answers whose bytes come piece by piece, from a function that may block and may
 * have nothing to say for a long time.  Private to the server (http/server.h tells what
 * the function may do).
 *
 * A stream is in one place at a time:
 *
 *   sending   the library asks for bytes       connection thread
 *   pulling   the function fills the buffer    a worker
 *   waiting   nothing to say before a time     the streams' own thread
 *
 * While it is pulled or waits, the library has the connection suspended and does not look
 * at its socket; so whoever ends a wait looks whether the client is still there.
 *
 * Owns:    the thread, waiting streams; each stream until the library drops its response.
 * Threads: as said at each function.
 */
#pragma once

#include "base/err.h"
#include "http/server.h"

#include <microhttpd.h>

struct pool;
struct streams;

/* What streams need of their server.  hold before a connection is suspended: false when
 * the server no longer allows that; put when it is the library's again. */
struct stream_host {
    void *ctx;
    bool (*hold)(void *ctx);
    void (*put)(void *ctx);
    void (*resume)(void *ctx, struct MHD_Connection *mhd);
    struct pool *workers;
};

NODISCARD enum rc streams_new(const struct stream_host *h, struct streams **ret,
                              struct err *e);
/* Every pull from now on is told that the server is stopping; those that wait are pulled
 * at once.  Any thread; may run twice. */
void streams_stop(struct streams *all);
/* Nothing is held any more and the library is gone.  Accepts NULL, returns NULL. */
struct streams *streams_free(struct streams *all);

/* The response of one stream; takes ctx: release runs once, whatever comes.  NULL: no
 * memory (release has run). */
struct MHD_Response *stream_response(struct streams *all, struct MHD_Connection *mhd,
                                     int fd, http_pull_fn *pull, http_release_fn *release,
                                     void *ctx);
