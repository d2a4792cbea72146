/* SPDX-License-Identifier: Apache-2.0 */
/*
 * endpoint: the paths that a batch may name, and what differs between them.
 * Source: OpenAPI document of the Batch API, `endpoint` of POST /v1/batches.
 */
#pragma once

#include "base/str.h"

/* X(name, path) */
#define ENDPOINT_LIST(X)                                                                 \
    X(RESPONSES, "/v1/responses")                                                        \
    X(CHAT, "/v1/chat/completions")                                                      \
    X(EMBEDDINGS, "/v1/embeddings")                                                      \
    X(COMPLETIONS, "/v1/completions")                                                    \
    X(MODERATIONS, "/v1/moderations")

enum endpoint {
#define X(name, path) ENDPOINT_##name,
    ENDPOINT_LIST(X)
#undef X
        ENDPOINT_COUNT
};

const char *endpoint_path(enum endpoint ep); /* "/v1/chat/completions" */
/* RC_NOTFOUND: not one of the list. */
NODISCARD enum rc endpoint_from(struct str path, enum endpoint *ret);
/* "'/v1/responses', '/v1/chat/completions', ... and '/v1/moderations'", for messages. */
const char *endpoint_all(void);
