/* SPDX-License-Identifier: Apache-2.0 */
/*
 * estimate: what the requests of an input file ask for, summed up while it is scanned:
 * how many for each model, and about how many tokens.
 *
 * The tokens of a prompt are its bytes over four, the rule of thumb for English text (it
 * is too low for other scripts, too high for images in the body); where it is given as
 * token numbers these are counted.  The greatest answer is what a request allows itself,
 * times the answers (`n`) it asks for.
 *
 * Owns:    the names of models.  Memory: ESTIMATE_MODELS names at the most.
 * Threads: one at a time.
 */
#pragma once

#include "core/line.h"
#include "base/limits.h"

/* More models than any server of ours lists; the requests of those beyond it count only
 * in the sums. */
#define ESTIMATE_MODELS 1000

/* How input_tokens came about, for whoever reads it. */
#define ESTIMATE_METHOD                                                                  \
    "bytes of messages, prompt, input, instructions and tools over 4; token numbers "    \
    "counted as they are"

/* What one request asks for. */
struct estimate_line {
    uint64_t bytes;      /* of the members that hold the prompt */
    uint64_t prompt;     /* tokens, estimated */
    uint64_t max_output; /* tokens of all its answers; 0: it names no limit, or none that
                            a server would take */
    bool text;           /* its endpoint answers with text of a length to be chosen */
};
void estimate_line(const struct line *line, struct estimate_line *ret);

struct estimate_model {
    char name[LIMIT_MODEL + 1]; /* unescaped; "": the requests that name none */
    uint32_t requests;
};

struct estimate {
    uint64_t input_bytes;          /* of the members that hold the prompt */
    uint64_t input_tokens;         /* estimated */
    uint64_t max_output;           /* tokens; of those requests that name a limit */
    uint32_t unlimited;            /* requests that could have one and name none */
    struct estimate_model *models; /* in the order in which they came */
    size_t n_models;
    struct map *_by_name; /* private: index + 1 */
};

void estimate_init(struct estimate *x);
void estimate_done(struct estimate *x); /* may run twice */
/* An intake_rules.each. */
void estimate_add(void *estimate, const struct line *line);
