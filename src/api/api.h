/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api: the OpenAI Files and Batches API over the store, the blobs and the engine; plus
 * /healthz, /readyz, /metrics.  HTTP meaning only: no policy, no state of its own but
 * uploads under way.
 *
 * Threads: its handlers run on the server's threads (http/server.h says which).
 */
#pragma once

#include "engine/engine.h"
#include "http/server.h"

struct api;

struct api_opts {
    struct store *store;
    struct blobs *blobs;
    struct engine *engine;
    uint64_t max_file_bytes;        /* 0: LIMIT_FILE_BYTES */
    int64_t min_window, max_window; /* seconds; 0: 1 s and 30 d */
    int64_t file_expires;       /* default expiry of purpose batch, seconds; 0: never */
    uint64_t max_inline_bytes;  /* body of a create that holds its requests; 0: 16 MiB */
    const char *callback_hosts; /* core/callback.h; borrowed; NULL: none */
    const char *const
        *models; /* names for /v1/models, NULL-terminated; copied; NULL: none
                  */
};

struct api *api_new(const struct api_opts *o);
struct api *api_free(struct api *a); /* the server is gone already */
struct http_handler api_handler(struct api *a);
/* A promise could not be kept: /readyz says 503 with `why`, and nothing new is accepted.
 */
void api_refuse(struct api *a, const char *why);
