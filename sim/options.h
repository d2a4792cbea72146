/* SPDX-License-Identifier: Apache-2.0 */
/*
 * options: what `batchd sim` can be told.  One table gives name, form, default and doc
 * line of every flag; the defaults go through the same parsers as the command line.
 *
 * Owns: nothing; texts are borrowed from argv.
 */
#pragma once

#include "sim/fault.h"

#define SIM_MODELS_MAX 64
#define SIM_MODEL_MAX  200 /* bytes of a name */

struct sim_range {
    uint64_t min, max;
};

struct sim_options {
    const char *listen;
    const char *models[SIM_MODELS_MAX];
    unsigned n_models;
    bool strict_models;
    const char *api_key; /* NULL: none needed */

    uint64_t seed;
    struct sim_range latency; /* usec */
    usec_t token_latency;
    struct sim_range tokens;
    uint64_t embedding_dim;
    uint64_t created; /* 0: now */

    uint64_t concurrency; /* 0: no limit */
    uint64_t max_queued;
    uint64_t overload_status;
    usec_t retry_after; /* -1: not told */
    uint64_t max_body;

    struct sim_mix faults;
    uint64_t slow_rate, huge_bytes, big_head_bytes;
    const char *poison; /* NULL: none */
    usec_t poison_down;
    struct sim_schedule schedule;

    uint64_t oracle;
    bool log;
    bool help; /* nothing else was looked at */
};

/* RC_INVALID with a sentence that names the flag. */
NODISCARD enum rc sim_options_parse(int argc, char **argv, struct sim_options *ret,
                                    struct err *e);
void sim_options_help(void); /* on stdout */

/* 1 to SIM_MODEL_MAX printable characters of ASCII but for space, quote and backslash. */
bool sim_model_name(struct str name);

/* min..max by 64 random bits */
static inline uint64_t sim_range_pick(struct sim_range r, uint64_t bits)
{
    return r.max > r.min ? r.min + bits % (r.max - r.min + 1) : r.min;
}
