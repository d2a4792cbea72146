/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model: one replica of a server with continuous batching: iterations that mix prefill and
 * decode under a token budget, KV memory in blocks with preemption, a prefix cache.
 *
 * Pure: time is passed in, nothing is drawn at random.  `batchd sim` runs it on the clock,
 * the simulation of the scheduler on virtual time.
 *
 * An iteration takes
 *     t0 + max(w, (prefill + decode tokens) * c1) + c3 * sum(ctx of decoding)
 *        + c4 * sum(chunk * mean ctx of the chunk)
 * and does, like vLLM's V1 scheduler: a token of each that decodes, the next chunk of a
 * prefill that was cut, then those that wait, by arrival (or priority), while sequences,
 * budget and KV blocks are left.  When there is no block the last admitted loses its own and
 * is computed anew later.  The blocks of a prompt are found by others from the iteration on
 * that computes them; idle ones are kept until their memory is wanted, the least recently
 * used go first.  A request that arrives during an iteration is seen by the next one.
 *
 * Many iterations in which nothing but decoding happens are one step here: the cost of a
 * request does not grow with its output.
 *
 * Owns:    the order and the memory of requests; a request is embedded in its owner and must
 *          stay put until it is over (handed over, aborted or gone with a crash).
 * Threads: one at a time.
 */
#pragma once

#include "base/clock.h"
#include "base/list.h"
#include "base/str.h"

#define SIM_BLOCK 16 /* tokens */

struct sim_model;

struct sim_model_opts {
    double t0, w, c1, c3, c4; /* microseconds; taken to the nearest picosecond */
    uint64_t kv_tokens;       /* KV memory */
    unsigned max_seqs;        /* running at once; at most `budget` */
    unsigned budget;          /* tokens an iteration */
    uint64_t max_queued;      /* UINT64_MAX: no limit */
    bool cache;               /* the prefix cache */
    bool priorities; /* the waiting go by `priority` (lower first), then by arrival */
};

/* "h100-8b", "a100-8b", "l40s-8b", "h100-70b-tp4", "cpu-llamacpp"; RC_NOTFOUND */
NODISCARD enum rc sim_model_preset(struct str name, struct sim_model_opts *ret);
/* The names, "" ends: for those who list them. */
extern const char *const sim_model_presets[];

struct sim_seq {
    /* set by the owner */
    const uint64_t *blocks; /* a chained id of each full block of the prompt; borrowed */
    uint32_t n_blocks; /* of them; fewer than prompt / SIM_BLOCK: the rest is unshared */
    uint32_t prompt, out; /* tokens; both at least 1 */
    int priority;
    /* set by the model, valid when it is over; usec on the model's clock, rounded up */
    usec_t came, began, first, ended; /* first: of the first token; 0: none yet */
    uint32_t cached, made,
        preempted;     /* prompt tokens found in the cache; tokens made; times */
    uint32_t computed; /* tokens of prefill, begun ones and repeated ones, too */
    /* private */
    struct list _link;
    uint64_t _no, _joined, _finish;
    uint32_t _where, _at, _computed, _chunk, _leaf, _published;
};

struct sim_model *sim_model_new(const struct sim_model_opts *o);
struct sim_model *sim_model_free(struct sim_model *m); /* accepts NULL, returns NULL */

/* RC_LIMIT: too many wait.  RC_INVALID: prompt and output can never fit into the KV memory. */
NODISCARD enum rc sim_model_add(struct sim_model *m, struct sim_seq *q, usec_t now);
/* It may be gone already (then nothing happens); its blocks are free at once. */
void sim_model_abort(struct sim_model *m, struct sim_seq *q, usec_t now);
/* When there is something to be done by sim_model_step; USEC_INFINITY: it is idle.  An
 * arrival, an abort or a change of speed can make it earlier. */
usec_t sim_model_next(const struct sim_model *m);
/* Ends what is due at `now` and goes on; hands over the requests that are done, one a call,
 * NULL: none more. */
struct sim_seq *sim_model_step(struct sim_model *m, usec_t now);
/* 0.1: ten times slower from the next iteration on; 1: as it was.  (For time that runs
 * faster as a whole, scale `now` instead.) */
void sim_model_speed(struct sim_model *m, double factor, usec_t now);
/* Forgets the cache and all requests: of their fields nothing is set. */
void sim_model_crash(struct sim_model *m);

struct sim_model_load {
    unsigned running, waiting;
    uint64_t kv_used, kv_total;   /* tokens; used: what is not idle, in whole blocks */
    uint64_t preemptions;         /* so far, as all below */
    uint64_t hits, queries;       /* prompt tokens found, looked up; each request once */
    uint64_t computed, generated; /* tokens of prefill, made */
};
void sim_model_load(const struct sim_model *m, usec_t now, struct sim_model_load *ret);
