/* SPDX-License-Identifier: Apache-2.0 */
/*
 * events: GET /v1/batches/{id}/events: the Batch object whenever its status or counts have
 * changed, as server-sent events (HTML Living Standard, 9.2).  Not of the real API.
 */
#pragma once

struct call;

void events_get(struct call *c);
