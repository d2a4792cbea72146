/* SPDX-License-Identifier: Apache-2.0 */
/*
 * batch_body: the body of POST /v1/batches, judged: from bytes to a struct or to the
 * refusal that the real API would give.
 *
 * Pure.  Unknown members are passed over (SDKs send extra_body along).
 */
#pragma once

#include "api/apierr.h"
#include "base/id.h"
#include "core/endpoint.h"

struct batch_rules {
    int64_t min_window, max_window; /* seconds */
};

struct batch_body {
    struct id
        input_file; /* well formed; whether there is such a file is not known here */
    enum endpoint endpoint;
    char window[16];              /* as sent */
    int64_t window_seconds;       /* within the rules */
    struct str metadata;          /* raw, borrows from the text; .p NULL: none */
    int64_t output_expires_after; /* seconds; 0: not asked for */
};

NODISCARD enum rc batch_body_read(struct str text, const struct batch_rules *rules,
                                  struct batch_body *ret, struct apierr *e);
