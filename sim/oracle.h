/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oracle: what the server knows that its clients cannot: how often each body came, what
 * it was given, and when.  Tests ask it.
 *
 * Owns:    a ring of the last requests, counters, and a table of the bodies seen.  The
 *          table forgets all at 4 M bodies (64 MiB): their next requests count as first.
 * Threads: one.
 */
#pragma once

#include "base/buf.h"
#include "base/clock.h"
#include "sim/fault.h"

#define SIM_ID_MAX 96

struct sim_oracle;

struct sim_record {
    char id[SIM_ID_MAX + 1];
    const char *path; /* a constant */
    uint64_t hash, bytes;
    uint32_t crc, attempt; /* attempt: from 0 */
    uint32_t status;       /* 0: not answered (yet, or ever) */
    struct sim_hit hit;
    bool aborted;      /* the client left before the answer */
    usec_t came, went; /* since the start of the server; went 0: still here */
};

struct sim_oracle *sim_oracle_new(uint64_t ring);
struct sim_oracle *sim_oracle_free(struct sim_oracle *o);

/* One more request with that body: how often it came before. */
uint32_t sim_oracle_seen(struct sim_oracle *o, uint64_t hash);
/* The ticket of the record, for the end. */
uint64_t sim_oracle_came(struct sim_oracle *o, const struct sim_record *r);
/* status 0 with `aborted`: the client left; without: never answered on purpose. */
void sim_oracle_went(struct sim_oracle *o, uint64_t ticket, uint64_t hash,
                     struct sim_hit hit, uint32_t status, bool aborted, usec_t now);
void sim_oracle_refused(struct sim_oracle *o); /* a connection, by the fault `refuse` */
void sim_oracle_crashed(struct sim_oracle *o);

void sim_oracle_lines(const struct sim_oracle *o, struct buf *dst);  /* JSON lines */
void sim_oracle_counts(const struct sim_oracle *o, struct buf *dst); /* one object */

struct sim_totals {
    uint64_t requests, good, faults, aborted;
};
struct sim_totals sim_oracle_totals(const struct sim_oracle *o);
