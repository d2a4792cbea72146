/* SPDX-License-Identifier: Apache-2.0 */
/*
 * answers: what an earlier batch answered, to be found again by what was asked: its output
 * file gives the answers, its input file the requests.
 *
 * A request is the same when its custom_id says the same and its body has the same bytes,
 * which is told by a 128-bit hash of them.  (The url is that of the batch's endpoint.)
 *
 * Owns:    40 bytes for each answer of the output file.
 * Threads: one at a time.
 * Errors:  RC_CANCELLED: *stop became true.  RC_NOMEM.  RC_IO and whatever else the source
 *          says.  A line that is no result or no request is passed over: what it held runs
 *          again.
 */
#pragma once

#include "base/err.h"
#include "core/endpoint.h"
#include "json/jsonl.h"

#include <stdatomic.h>

struct answers;

/* Where an answer's line lies in the output file, without its line feed. */
struct answer_place {
    uint64_t offset;
    uint32_t length;
};

struct answers *answers_new(void);
struct answers *answers_free(struct answers *a); /* accepts NULL, returns NULL */

/* The output file, once: every line with an answer of 2xx is noted.  expected: about how
 * many there are. */
NODISCARD enum rc answers_read_output(struct answers *a, jsonl_read_fn *read, void *ctx,
                                      uint32_t expected, const atomic_bool *stop,
                                      struct err *e);
/* Then the input file, once: what each of them was the answer to. */
NODISCARD enum rc answers_read_input(struct answers *a, jsonl_read_fn *read, void *ctx,
                                     enum endpoint ep, const atomic_bool *stop,
                                     struct err *e);

/* Then: is there an answer to that request?  custom_id is raw, with its quotes.  It goes
 * by hashes: the caller compares the custom_id of the line that it reads there. */
bool answers_find(const struct answers *a, struct str custom_id, struct str body,
                  struct answer_place *ret);
uint32_t answers_count(const struct answers *a);
