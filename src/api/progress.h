/* SPDX-License-Identifier: Apache-2.0 */
/*
 * progress: GET /v1/batches/{id}/progress: figures of this moment, and one sentence that
 * says what the batch does or waits for.  An extension.
 *
 * Unlike the Batch object's, in_flight, waiting and retrying are not durable; request_counts
 * are.
 */
#pragma once

struct call;

void progress_get(struct call *c);
