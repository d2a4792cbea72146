/* SPDX-License-Identifier: Apache-2.0 */
/*
 * upstream: the inference servers as HTTP targets, the health probe of one and the call
 * for its models.
 *
 * Owns:    targets, and the calls that are no lines.
 * Threads: the engine's loop only.
 */
#pragma once

#include "engine/engine.h"
#include "http/client.h"

struct upstream;

/* What an upstream tells; called on the loop. */
struct upstream_ears {
    /* ok: it answered a free GET like a server in order. */
    void (*probed)(void *ctx, uint16_t number, bool ok);
    /* The end of a GET /models, whatever became of it.  probe: of a probe, right before
     * its `probed`; else of upstream_list. */
    void (*listed)(void *ctx, uint16_t number, const struct http_call *call, bool probe);
    void *ctx;
};

/* A base URL without a path gets "/v1".  number is handed back to the ears. */
NODISCARD enum rc upstream_new(struct http_client *client,
                               const struct engine_upstream *o, uint16_t number,
                               const struct upstream_ears *ears, struct upstream **ret,
                               struct err *e);
struct upstream *upstream_free(struct upstream *u); /* accepts NULL; no call may use it */

const struct http_target *upstream_target(const struct upstream *u);
const char *upstream_name(const struct upstream *u);

/*
 * GET /health beside the API, then GET /models: an upstream that comes back may serve
 * other models than before, and its list must be here before the first line goes there.
 * Where the configuration names the models, they are asked for only when there is no
 * /health.  One probe at a time.
 */
void upstream_probe(struct upstream *u);

/* GET /models; not while one is under way. */
void upstream_list(struct upstream *u);

/* GETs of whoever has the call, which must not be under way: of a path beside the API, and
 * of its metrics, beside the API too unless the configuration says where they are. */
void upstream_ask(struct upstream *u, struct http_call *c, const char *path,
                  http_done_fn *done);
void upstream_ask_metrics(struct upstream *u, struct http_call *c, http_done_fn *done);
