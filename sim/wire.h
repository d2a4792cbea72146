/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wire: from an answer to the bytes of a connection, right or wrong on purpose, and what
 * becomes of the connection behind them.  Pure.
 */
#pragma once

#include "base/buf.h"
#include "sim/options.h"

struct sim_reply {
    unsigned status;
    const char *type; /* Content-Type; NULL: none */
    struct str body;
    const char *id, *date;
    const char *extra;  /* more header lines, each with its CRLF; NULL: none */
    struct str limits;  /* likewise: the quotas */
    usec_t retry_after; /* -1: none */
    unsigned minor;     /* of the request's version */
    bool keep_alive;
};

enum sim_after {
    SIM_KEEP,  /* the next request may come */
    SIM_CLOSE, /* FIN */
    SIM_RESET, /* RST */
    SIM_HOLD   /* nothing, for as long as the client waits */
};

struct sim_wire {
    enum sim_after after;
    uint64_t rate; /* bytes a second; 0: as fast as it goes */
    size_t fill_at;
    uint64_t fill; /* so many bytes 'x' are put in at fill_at of the bytes */
};

/* Appends the bytes to out; failures stay in it (buf_failed). */
void sim_wire_plain(struct buf *out, const struct sim_reply *r, struct sim_wire *ret);
/* As fault `kind` has it; hash decides what is random.  Empties and uses `spare`. */
void sim_wire_fault(struct buf *out, struct buf *spare, const struct sim_reply *r,
                    enum sim_fault kind, uint64_t hash, const struct sim_options *o,
                    struct sim_wire *ret);
