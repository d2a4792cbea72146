/* SPDX-License-Identifier: Apache-2.0 */
/*
 * endpoint: the paths that a batch may name, and what differs between them.
 * Source: OpenAPI document of the Batch API, `endpoint` of POST /v1/batches.
 */
#pragma once

#include "base/str.h"

/* F, X and L(name, path, title): of the first, of those between and of the last.  The title
 * stands in front of what the real API says about such a request. */
#define ENDPOINT_LIST_OF(F, X, L)                                                        \
    F(RESPONSES, "/v1/responses", "Responses")                                           \
    X(CHAT, "/v1/chat/completions", "Chat Completions")                                  \
    X(EMBEDDINGS, "/v1/embeddings", "Embeddings")                                        \
    X(COMPLETIONS, "/v1/completions", "Completions")                                     \
    X(MODERATIONS, "/v1/moderations", "Moderations")                                     \
    X(IMAGES, "/v1/images/generations", "Images")                                        \
    X(IMAGE_EDITS, "/v1/images/edits", "Image Edits")                                    \
    L(VIDEOS, "/v1/videos", "Videos")
#define ENDPOINT_LIST(X) ENDPOINT_LIST_OF(X, X, X)

enum endpoint {
#define X(name, path, title) ENDPOINT_##name,
    ENDPOINT_LIST(X)
#undef X
        ENDPOINT_COUNT
};

const char *endpoint_path(enum endpoint ep);  /* "/v1/chat/completions" */
const char *endpoint_title(enum endpoint ep); /* "Chat Completions" */
/* RC_NOTFOUND: not one of the list. */
NODISCARD enum rc endpoint_from(struct str path, enum endpoint *ret);
/* "'/v1/responses', '/v1/chat/completions', ... and '/v1/videos'", for messages. */
const char *endpoint_all(void);
