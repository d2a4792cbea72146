/* SPDX-License-Identifier: Apache-2.0 */
/*
 * batches: the handlers of /v1/batches.
 *
 * Errors: 200 of a create means that the row is committed, 200 of a cancel that the move
 * is.  What is wrong with the input file is found by the engine and told in the batch.
 */
#pragma once

#include "api/apierr.h"
#include "core/batch.h"

struct call;

void batches_list(struct call *c);
void batches_get(struct call *c);
void batches_cancel(struct call *c);

/* Answers for a call on one batch that came to nothing: 404 for RC_NOTFOUND. */
void batches_fail(struct call *c, enum rc rc, const struct err *e);

/* create.c: batches made of a file, of requests in the body, of an earlier batch.  The
 * same request with the same Idempotency-Key gets the first one's batch as it is now. */
void batches_create(struct call *c);
void batches_retry(struct call *c);
void batches_validate(
    struct call *c); /* validate.c: what a create would do, and no more */

/* 200 with that batch. */
void batches_reply(struct call *c, const struct batch *b);
/* 200 with it as it is now.  While it is being recovered its row does not know its counts,
 * and they must never fall: 503.  What was asked for is done all the same, and whoever asks
 * again gets it. */
void batches_reply_now(struct call *c, const struct batch *stored);
void batches_not_found(struct call *c); /* of what the path names */
/* RC_NOTFOUND: there is no such file.  RC_INVALID: *fault tells what is wrong with it. */
NODISCARD enum rc batches_judge_input(struct call *c, const struct id *file,
                                      struct apierr *fault, struct err *e);
