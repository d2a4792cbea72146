/* SPDX-License-Identifier: Apache-2.0 */
/*
 * results: GET /v1/batches/{id}/results: the lines of a batch as they come to disk, as
 * NDJSON.  Not of the real API.
 *
 * While the batch runs, lines come in the order in which they were finished, which is the
 * same after a restart: ?after=N goes on behind the first N.  ?follow=1 stays until the
 * batch has ended and every line was sent once, also those that only the error file has.
 * At its end a batch has its files, in the order of the input.
 */
#pragma once

struct call;

void results_get(struct call *c);
