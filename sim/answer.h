/* SPDX-License-Identifier: Apache-2.0 */
/*
 * answer: the JSON objects that the endpoints answer with, in the real API's shape.
 *
 * An answer of work is a function of seed, body and the time in `created`.  Its id ends
 * in 32 hex digits and its text begins with them: 16 of the seeded hash, 8 of the body's
 * CRC-32 and 8 of its length: whoever sent the body can tell whether the answer is its
 * own.
 */
#pragma once

#include "base/buf.h"
#include "sim/request.h"

/* Failures stay in dst (buf_failed). */
void sim_answer(struct buf *dst, const struct sim_request *rq, int64_t created);
void sim_answer_models(struct buf *dst, const struct sim_options *o);
/* `id` as it stands in the path, percent-encoded or not; RC_NOTFOUND */
NODISCARD enum rc sim_answer_model(struct buf *dst, const struct sim_options *o,
                                   struct str id);
/* The error object, in vLLM's shape. */
void sim_answer_error(struct buf *dst, unsigned status, const char *param,
                      const char *message);
