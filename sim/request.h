/* SPDX-License-Identifier: Apache-2.0 */
/*
 * request: what one request asks for: its route, and the few members of its body that
 * decide the answer's size and shape.  Pure.
 *
 * Owns:    nothing; spans borrow from the request's bytes (sim_request_move when those
 *          move).
 */
#pragma once

#include "json/json.h"
#include "sim/options.h"

/* X(NAME, method, path): the work comes first, SIM_MODEL's path is a prefix. */
#define SIM_ROUTES(X)                                                                    \
    X(CHAT, "POST", "/v1/chat/completions")                                              \
    X(COMPLETIONS, "POST", "/v1/completions")                                            \
    X(EMBEDDINGS, "POST", "/v1/embeddings")                                              \
    X(RESPONSES, "POST", "/v1/responses")                                                \
    X(MODERATIONS, "POST", "/v1/moderations")                                            \
    X(IMAGES, "POST", "/v1/images/generations")                                          \
    X(IMAGE_EDITS, "POST", "/v1/images/edits")                                           \
    X(VIDEOS, "POST", "/v1/videos")                                                      \
    X(MODELS, "GET", "/v1/models")                                                       \
    X(MODEL, "GET", "/v1/models/")                                                       \
    X(HEALTH, "GET", "/health")                                                          \
    X(METRICS, "GET", "/metrics")                                                        \
    X(ORACLE, "GET", "/oracle")                                                          \
    X(COUNTS, "GET", "/oracle/counts")                                                   \
    X(SET_MODELS, "PUT", "/sim/models")                                                  \
    X(PROPS, "GET", "/props")                                                            \
    X(SERVER_INFO, "GET", "/get_server_info")

enum sim_route {
#define X(name, method, path) SIM_##name,
    SIM_ROUTES(X)
#undef X
        SIM_ROUTE_COUNT,
    SIM_NO_PATH = SIM_ROUTE_COUNT,
    SIM_NO_METHOD /* the path is known, by another method */
};

#define SIM_CHOICES_MAX 4096u

struct sim_request {
    enum sim_route route;
    struct str body;
    uint64_t hash; /* seeded, of the body */
    uint32_t crc;  /* zlib's CRC-32 of the body: any language can check it */

    /* from here on after sim_request_read */
    struct str model;      /* a JSON string with its quotes */
    struct json_val input; /* messages, prompt or input */
    struct str parts[3];   /* of the prompt: tools, instructions, input; .n 0: none */
    bool list;             /* input holds several prompts */
    uint32_t choices;      /* answers of the list: choices, vectors, verdicts, images */
    uint64_t prompt_tokens, output_tokens; /* output: of one choice */
    bool capped;                           /* the request's limit cut the output */
    uint64_t limit;  /* output that it allows, of one choice; 0: it does not say */
    uint64_t cached; /* prompt tokens; set by who knows, for the answer */
    int priority;
    bool base64;
    bool by_url; /* images: where they are instead of what they are */
    uint64_t dims;
};

struct sim_refusal {
    unsigned status;
    const char *param; /* NULL: none */
    char text[160];
};

enum sim_route sim_route_of(struct str method, struct str path);

static inline bool sim_route_works(enum sim_route r) /* an endpoint of inference */
{
    return r <= SIM_VIDEOS;
}

/* Sets route, body, hash and crc. */
void sim_request_init(struct sim_request *rq, enum sim_route route, struct str body,
                      uint64_t seed);
/* RC_INVALID: *why is the 400 or 404 to answer. */
NODISCARD enum rc sim_request_read(struct sim_request *rq, const struct sim_options *o,
                                   struct sim_refusal *why);
/* The bytes that the spans are in were copied from `from` to `to`. */
void sim_request_move(struct sim_request *rq, const char *from, const char *to);

/* Full blocks of SIM_BLOCK tokens of the prompt. */
static inline uint32_t sim_request_blocks(const struct sim_request *rq)
{
    return (uint32_t)(rq->prompt_tokens / SIM_BLOCK);
}
/* Their ids: each a hash of its 64 bytes and of all before it, from the model's name on. */
void sim_request_ids(const struct sim_request *rq, uint64_t *ids);
/* What a provider holds against a quota: the prompt and the most output. */
uint64_t sim_request_reserve(const struct sim_request *rq);
/* Without a model: how long the work takes. */
usec_t sim_request_time(const struct sim_request *rq, const struct sim_options *o);
