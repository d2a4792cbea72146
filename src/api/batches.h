/* SPDX-License-Identifier: Apache-2.0 */
/*
 * batches: the handlers of /v1/batches.
 *
 * Errors: 200 of a create means that the row is committed, 200 of a cancel that the move
 * is.  What is wrong with the input file is found by the engine and told in the batch.
 */
#pragma once

#include "base/err.h"

struct call;

void batches_create(struct call *c);
void batches_list(struct call *c);
void batches_get(struct call *c);
void batches_cancel(struct call *c);

/* Answers for a call on one batch that came to nothing: 404 for RC_NOTFOUND. */
void batches_fail(struct call *c, enum rc rc, const struct err *e);
