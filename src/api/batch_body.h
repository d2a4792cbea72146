/* SPDX-License-Identifier: Apache-2.0 */
/*
 * batch_body: the bodies of POST /v1/batches and of those calls that make a batch of
 * another, judged: from bytes to a struct or to the refusal that the real API would give.
 *
 * Pure.  Unknown members are passed over (SDKs send extra_body along).
 */
#pragma once

#include "api/apierr.h"
#include "base/id.h"
#include "core/callback.h"
#include "core/endpoint.h"
#include "json/json.h"

struct batch_rules {
    int64_t min_window, max_window; /* seconds */
    const char *callback_hosts;     /* as callback_allowed; NULL: none */
};

/* Strings without an owner borrow from the text that was read. */
struct batch_body {
    struct id
        input_file; /* well formed; whether there is such a file is not known here; "":
                       the requests are in the body */
    struct json_val requests; /* JSON_ARRAY of at least one element, or JSON_NONE */
    enum endpoint endpoint;
    char window[16];              /* as sent; "": not given (only of a retry) */
    int64_t window_seconds;       /* within the rules */
    struct str metadata;          /* raw; .p NULL: none */
    int64_t output_expires_after; /* seconds; 0: not asked for */

    /* Not the real API's; absent from what its SDKs send by themselves. */
    struct id continue_from; /* "": none; whether there is such a batch is not known */
    uint32_t sample;         /* 0: all lines run */
    int priority;            /* -10..10; 0 unless given */
    bool has_priority;       /* it was given */
    bool idle, has_tier;     /* tier: "idle"; it was given */
    bool paused;
    char callback_url[CALLBACK_URL_MAX + 1]; /* "": none; its host is one of the list */
};

NODISCARD enum rc batch_body_read(struct str text, const struct batch_rules *rules,
                                  struct batch_body *ret, struct apierr *e);
/* Of POST /v1/batches/validate: only the input and the endpoint. */
NODISCARD enum rc batch_body_read_input(struct str text, struct batch_body *ret,
                                        struct apierr *e);
/* Of POST /v1/batches/{id}/retry: only completion_window and metadata, none of which must
 * be there; an empty text is an empty object. */
NODISCARD enum rc batch_body_read_retry(struct str text, const struct batch_rules *rules,
                                        struct batch_body *ret, struct apierr *e);
/* Of POST /v1/batches/{id}: priority, tier and completion_window, one of which must be there. */
NODISCARD enum rc batch_body_read_edit(struct str text, const struct batch_rules *rules,
                                       struct batch_body *ret, struct apierr *e);
