/* SPDX-License-Identifier: Apache-2.0 */
/*
 * upstream: the inference servers as HTTP targets, and the health probe of one.
 *
 * Owns:    targets and probe calls.
 * Threads: the engine's loop only.
 */
#pragma once

#include "engine/engine.h"
#include "http/client.h"

struct upstream;

/* ok: it answered a free GET like a server in order. */
typedef void upstream_probed_fn(void *ctx, uint16_t number, bool ok);

/* A base URL without a path gets "/v1".  number is handed back by the probe. */
NODISCARD enum rc upstream_new(struct http_client *client,
                               const struct engine_upstream *o, uint16_t number,
                               upstream_probed_fn *probed, void *ctx,
                               struct upstream **ret, struct err *e);
struct upstream *upstream_free(struct upstream *u); /* accepts NULL; no call may use it */

const struct http_target *upstream_target(const struct upstream *u);
const char *upstream_name(const struct upstream *u);

/* GET /health beside the API, and where there is none GET /models; one probe at a time.
 */
void upstream_probe(struct upstream *u);
void upstream_probe_cancel(struct upstream *u);
