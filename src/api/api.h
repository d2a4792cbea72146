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
#include "store/keyring.h"

struct api;

/* What one project may have; 0: no limit. */
struct api_quota {
    uint64_t bytes, files;   /* stored; parts of pending uploads count */
    uint64_t batches, lines; /* of batches that are not at their end */
};
/* Any thread; must not block. */
typedef void api_quota_fn(void *ctx, const struct id *project, struct api_quota *ret);

struct api_opts {
    struct store *store;
    struct blobs *blobs;
    struct engine *engine;
    struct keyring *keys;      /* borrowed; NULL: no key is ever asked for */
    uint64_t max_file_bytes;   /* 0: LIMIT_FILE_BYTES */
    uint64_t max_upload_bytes; /* of a file in parts; 0: LIMIT_UPLOAD_BYTES */
    uint64_t max_total_bytes;  /* of all files of all projects; 0: no limit */
    api_quota_fn *quota;       /* NULL: no project has a limit */
    void *quota_ctx;
    int64_t min_window, max_window; /* seconds; 0: 1 s and 30 d */
    int64_t file_expires;       /* default expiry of purpose batch, seconds; 0: never */
    uint64_t max_inline_bytes;  /* body of a create that holds its requests; 0: 16 MiB */
    unsigned max_expansion;     /* of compressed bodies; 0: they are refused */
    const char *callback_hosts; /* core/callback.h; borrowed; NULL: none */
};

struct api *api_new(const struct api_opts *o);
struct api *api_free(struct api *a); /* the server is gone already */
struct http_handler api_handler(struct api *a);

/* The routes, for who wants to try each of them: "{id}" in a pattern stands for one
 * segment, "{path}" for all that is left.  i < api_route_count(). */
struct api_route {
    const char *method, *pattern;
};
size_t api_route_count(void);
struct api_route api_route(size_t i);

/* A promise could not be kept: /readyz says 503 with `why`, and nothing new is accepted.
 */
void api_refuse(struct api *a, const char *why);
