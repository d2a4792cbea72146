/* SPDX-License-Identifier: Apache-2.0 */
/*
 * work: the requests of a workload, made from a seed: their prompts are real bytes, four a
 * token, of which the keys of the prefix order and the ids of the KV blocks are hashed.
 *
 *   W1   classification: 20 instructions of U(1024,2048) tokens, texts of U(150,300),
 *        answers LN(mean 40, 0.5), at most 256
 *   W1b  the same with 500 instructions
 *   W2   questions on documents: 320 tokens in common, documents LN(3500, 0.5) in
 *        [512, 12000], ten questions of U(40,100) each, answers LN(150, 0.6), at most 1024
 *   W3   few-shot evaluation: 64 tokens in common, 57 tasks of U(600,1500), questions of
 *        U(60,180), answers LN(6, 0.5), at most 32
 *   W4   synthesis: LN(220, 0.7), answers LN(400, 1.0), at most 4096, nothing in common
 *   W5   40 % of W1, 20 % of W2, 40 % of W4
 *   W7   embeddings: 300 tokens, nothing in common, one token of answer
 *   short  U(100,200) tokens, nothing in common, answers LN(40, 0.5), at most 256
 *   conv, synth   like the two Mooncake traces (FAST '25) in number, lengths and what is in
 *        common: 12,031 requests of 12,035 tokens with answers of 343, in order 4.3 % and at
 *        most 36.6 % of them cached; 3,993 of 15,325 with 149, 7.1 % and 64.0 %
 *
 * In random order.  The limit that a request gives itself is one for its whole workload.
 */
#pragma once

#include "core/prefix.h"
#include "sim/model.h"

#include <stdio.h>

struct request {
    const uint64_t *blocks;
    uint32_t n_blocks, prompt, out, max_out; /* out: what only the server knows */
    struct prefix prefix;
};

struct work {
    const char *name;
    struct request *v;
    uint32_t n;
    uint32_t *order, *shared; /* of prefix_sort */
    struct chunk *chunks;     /* private: memory of the blocks */
    FILE *out;                /* likewise */
};

/* n 0: as many as the workload has (50,000; the traces fewer).  NULL: no such workload. */
struct work *work_new(const char *name, uint32_t n, uint64_t seed);
/* The same, and as an input file for a server: its requests in the order in which they were
 * made, each with the length of its answer in `metadata`, for `batchd sim`. */
struct work *work_write(const char *name, uint32_t n, uint64_t seed, FILE *out);
struct work *work_free(struct work *w);

/* What no scheduler can beat: seconds that `replicas` take with all of every prefix computed
 * once, iterations that cost no t0, and no bubbles. */
struct bound {
    double seconds, hits; /* hits: share of the prompt tokens that need not be computed */
};
struct bound work_bound(const struct work *w, const struct sim_model_opts *o,
                        unsigned replicas);

/* --- Random numbers (splitmix64; Steele, Lea, Flood 2014) ------------------------------- */

struct rng {
    uint64_t state;
};
uint64_t rng_next(struct rng *r);
double rng_unit(struct rng *r);                              /* [0, 1) */
uint32_t rng_between(struct rng *r, uint32_t a, uint32_t b); /* both included */
double rng_lognormal(struct rng *r, double mean, double sigma);
double rng_exponential(struct rng *r, double mean);
uint64_t rng_hash(uint64_t a, uint64_t b, uint64_t c);
