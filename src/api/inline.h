/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inline: the `requests` of POST /v1/batches as the JSON Lines of an input file.
 *
 * Pure.  Each element becomes one line, byte for byte but for line ends between its
 * tokens; an object without `method` or `url` gets POST and the endpoint in front.  What
 * is wrong with an element is left for the scan to find, so that line numbers are those of
 * the elements, from 1.
 */
#pragma once

#include "core/endpoint.h"
#include "json/json.h"

/* requests: an array that json_read accepted.  RC_LIMIT, RC_NOMEM: of the buffer. */
NODISCARD enum rc inline_lines(const struct json_val *requests, enum endpoint ep,
                               struct buf *out);
