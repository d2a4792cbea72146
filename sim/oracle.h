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
#include "json/json.h"
#include "sim/fault.h"

#define SIM_ID_MAX 96

struct sim_oracle;

/* What a request cost, as a model has it; times since the start of the server, 0: it did
 * not come so far. */
struct sim_work {
    usec_t began, first;
    uint32_t prompt, cached, computed; /* tokens; as sim_seq */
    uint32_t made, preempted;          /* tokens; times */
    bool modelled;                     /* false: nothing of it is known but `began` */
};

struct sim_record {
    char id[SIM_ID_MAX + 1];
    const char *path; /* a constant */
    uint64_t hash, bytes;
    uint32_t crc, attempt; /* attempt: from 0 */
    uint32_t status;       /* 0: not answered (yet, or ever) */
    struct sim_hit hit;
    bool aborted;      /* the client left before the answer */
    usec_t came, went; /* since the start of the server; went 0: still here */
    struct sim_work work;
};

/* How a request ended. */
struct sim_end {
    struct sim_hit hit;
    uint32_t status; /* 0 with `aborted`: the client left; without: never answered */
    bool aborted;
    usec_t now;
    struct sim_work work;
};

struct sim_oracle *sim_oracle_new(uint64_t ring);
struct sim_oracle *sim_oracle_free(struct sim_oracle *o);

/* One more request with that body: how often it came before. */
uint32_t sim_oracle_seen(struct sim_oracle *o, uint64_t hash);
/* The ticket of the record, for the end. */
uint64_t sim_oracle_came(struct sim_oracle *o, const struct sim_record *r);
void sim_oracle_went(struct sim_oracle *o, uint64_t ticket, uint64_t hash,
                     const struct sim_end *end);
/* It went on without its client, and this is what became of it. */
void sim_oracle_worked(struct sim_oracle *o, uint64_t ticket, const struct sim_work *w);
void sim_oracle_refused(struct sim_oracle *o); /* a connection, by the fault `refuse` */
void sim_oracle_crashed(struct sim_oracle *o);

void sim_oracle_lines(const struct sim_oracle *o, struct buf *dst); /* JSON lines */
/* One object, with the members that `more` adds (NULL: none). */
void sim_oracle_counts(const struct sim_oracle *o, struct buf *dst,
                       void (*more)(void *ctx, struct json_writer *w), void *ctx);

struct sim_totals {
    uint64_t requests, good, faults, aborted;
    /* tokens, of those that a model worked on; wasted: made or computed for nobody */
    uint64_t prompt, cached, computed, made, wasted, preempted;
};
struct sim_totals sim_oracle_totals(const struct sim_oracle *o);
