/* SPDX-License-Identifier: Apache-2.0 */
/*
 * options: what `batchd sim` can be told.  One table gives name, form, default and doc
 * line of every flag; the defaults go through the same parsers as the command line.
 *
 * Owns: nothing; texts are borrowed from argv.
 */
#pragma once

#include "sim/fault.h"
#include "sim/model.h"

#define SIM_MODELS_MAX 64
#define SIM_NAME_MAX   200 /* bytes of a model's name */
#define SIM_TOKENS_MAX 1000000

struct sim_range {
    uint64_t min, max;
};

/* How long answers are: uniform, or log-normal with that mean. */
struct sim_lengths {
    struct sim_range range;
    double mean, sigma; /* mean 0: uniform */
};

/* Whose names /metrics has. */
enum sim_flavour { SIM_VLLM, SIM_SGLANG, SIM_LLAMACPP, SIM_NO_METRICS };

/* Whose headers tell of quotas. */
enum sim_style { SIM_OPENAI, SIM_ANTHROPIC, SIM_AZURE };

/* People who chat with the same machine. */
struct sim_crowd {
    double rate;  /* turns a second of the model's time; 0: nobody */
    usec_t burst; /* so long at that rate, then as long at a tenth of it; 0: even */
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
    struct sim_lengths tokens;
    uint64_t embedding_dim;
    uint64_t created; /* 0: now */

    uint64_t concurrency; /* 0: no limit */
    uint64_t max_queued;
    uint64_t overload_status;
    usec_t retry_after; /* -1: not told */
    uint64_t max_body;

    uint64_t replicas;
    bool modelled; /* a preset was named: `machine` holds */
    struct sim_model_opts machine;
    const char *preset;                   /* NULL: none */
    uint64_t kv_tokens, max_seqs, budget; /* 0: the preset's */
    uint64_t speed;                       /* the model's time for the clock's */
    bool priorities, ignore_disconnect;
    struct sim_crowd crowd;

    enum sim_flavour metrics;
    enum sim_blur blur;

    uint64_t rpm, tpm; /* 0: no quota */
    enum sim_style limit_style;
    usec_t quota_burst;

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

/* 1 to SIM_NAME_MAX printable characters of ASCII but for space, quote and backslash. */
bool sim_name_fits(struct str name);
/* Output tokens, by 64 random bits: 1 to SIM_TOKENS_MAX. */
uint64_t sim_lengths_pick(const struct sim_lengths *l, uint64_t bits);

/* min..max by 64 random bits */
static inline uint64_t sim_range_pick(struct sim_range r, uint64_t bits)
{
    return r.max > r.min ? r.min + bits % (r.max - r.min + 1) : r.min;
}
