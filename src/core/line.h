/* SPDX-License-Identifier: Apache-2.0 */
/*
 * line: judge one input line of a batch; the only place that says what a good line is.
 *
 * Pure.  Source: the Batch guide's input format and recorded validation errors of the
 * real API (docs/api.md, "Input lines").
 */
#pragma once

#include "base/buf.h"
#include "core/endpoint.h"
#include "json/json.h"

/* X(name, code).  The codes are the real API's. */
#define LINE_FAULT_LIST(X)                                                               \
    X(NONE, "")                                                                          \
    X(INVALID_JSON, "invalid_json_line")                                                 \
    X(MISSING, "missing_required_parameter")                                             \
    X(TYPE, "invalid_type")                                                              \
    X(METHOD, "invalid_method")                                                          \
    X(URL, "invalid_url")                                                                \
    X(DUPLICATE, "duplicate_custom_id")                                                  \
    X(STREAM, "streaming_unsupported")                                                   \
    X(MODEL_UNKNOWN, "model_not_found")                                                  \
    X(MODEL_MISMATCH, "mismatched_model")                                                \
    X(MODELS, "too_many_models")                                                         \
    X(TOO_LONG, "line_too_long")                                                         \
    X(CUSTOM_ID, "invalid_custom_id")

enum line_fault {
#define X(name, code) LINE_##name,
    LINE_FAULT_LIST(X)
#undef X
        LINE_FAULT_COUNT
};

const char *line_fault_code(enum line_fault f);

/* X(name, key).  The members of a body that tell what it asks for, each where an API has
 * it.  First those that a server puts into the prompt, in the order in which the usual
 * chat templates do (tools, then the messages); then those that limit the answer; those
 * that say how it is made; and those that change nothing of it. */
#define LINE_PART_LIST(X)                                                                \
    X(TOOLS, "tools")                                                                    \
    X(FORMAT, "response_format")                                                         \
    X(INSTRUCTIONS, "instructions")                                                      \
    X(MESSAGES, "messages")                                                              \
    X(INPUT, "input")                                                                    \
    X(PROMPT, "prompt")                                                                  \
    X(MAX_TOKENS, "max_tokens")                                                          \
    X(MAX_COMPLETION, "max_completion_tokens")                                           \
    X(MAX_OUTPUT, "max_output_tokens")                                                   \
    X(N, "n")                                                                            \
    X(TEMPERATURE, "temperature")                                                        \
    X(FUNCTIONS, "functions")                                                            \
    X(CONVERSATION, "conversation")                                                      \
    X(USER, "user")                                                                      \
    X(METADATA, "metadata")                                                              \
    X(STORE, "store")                                                                    \
    X(SAFETY_ID, "safety_identifier")                                                    \
    X(CACHE_KEY, "prompt_cache_key")

enum line_part {
#define X(name, key) PART_##name,
    LINE_PART_LIST(X)
#undef X
        PART_COUNT,
    PART_PROMPT_END = PART_MAX_TOKENS, /* those before it are the prompt */
    PART_LIMITS = PART_MAX_TOKENS,
    PART_LIMITS_END = PART_N,
    PART_REMARKS = PART_USER /* from it on: they change nothing of the answer */
};

struct line {
    struct str custom_id; /* raw JSON string, with quotes: echoed as it stands */
    struct str body;      /* raw JSON object: sent as it stands */
    struct str model;     /* raw JSON string or .p NULL */
    uint32_t inputs;      /* embedding inputs: elements of `input` when it is an array of
                             strings or arrays, else 1; 0 for other endpoints */
    enum endpoint endpoint; /* that its url names */
    struct json_val parts[PART_COUNT];
};

struct line_error {
    enum line_fault fault;
    const char *param; /* constant: "body.stream"; NULL is null */
    char message[400]; /* the real API's words where known */
    const char
        *reason; /* constant: what is wrong with the JSON; NULL with other faults */
    size_t at;   /* the byte of the line, from 1, where it is wrong */
};

/*
 * Judges one line on its own: JSON, types, method, url, stream.  What needs the other
 * lines (duplicates, one model a file) is the scan's (engine/intake.h).  The first fault
 * counts.  ENDPOINT_COUNT: any endpoint will do.
 * RC_OK: *ret borrows from text.  RC_INVALID: *e tells.  RC_NOMEM.
 */
NODISCARD enum rc line_read(struct str text, enum endpoint ep, struct line *ret,
                            struct line_error *e);

/* Only the first three spans of a line that line_read accepted before (inputs is 0,
 * endpoint is ENDPOINT_COUNT, the parts are not told); panics when it is not one. */
void line_reread(struct str text, struct line *ret);

/* Copies a raw JSON string without its quotes for a message, cut with "..." where it
 * would not fit.  It stays escaped, so that no control character gets to a terminal or a
 * log. */
void line_quote(struct str raw, char *dst, size_t cap);
