/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ratelimit: what the headers of an answer say of quotas, and whether to try again.  Pure.
 *
 *   x-ratelimit-limit-requests, -remaining-, -reset-, and the same with tokens, with
 *   -minute behind them (OpenAI, Azure, Groq, vLLM's gateways; -minute: Cerebras, Mistral)
 *   anthropic-ratelimit-requests-limit, -remaining, -reset; tokens, input-tokens and
 *   output-tokens: tokens count, else what is the nearer to its end
 *   x-should-retry: true or false (OpenAI, Anthropic)
 *   x-llm-d-request-dropped-reason: rejected-... or evicted... (llm-d)
 *
 * A reset is a time to wait ("1s", "6m0s", "17ms", "59.7", "1h2m3.5s"), a moment (RFC 3339,
 * an HTTP date) or seconds, or milliseconds, since the epoch; each form with either name.
 *
 * Nothing of it is believed beyond reason: numbers have at most 15 digits, what is left is
 * at most the limit, a reset is at most a day away, and one that has passed is now.  A
 * negative number (Azure tells -1) and a limit of 0 are not told.
 *
 * Owns:    nothing.
 * Threads: any.
 */
#pragma once

#include "base/str.h"

struct ratelimit_quota {
    double limit, left; /* less than 0: not told */
    usec_t reset;       /* from now until the quota is whole again; -1: not told */
};

struct ratelimit {
    struct ratelimit_quota requests, tokens;
    enum { RETRY_UNTOLD, RETRY_YES, RETRY_NO } retry;
    bool
        evicted; /* what was running was thrown out for others: it says nothing of room */
};

#define RATELIMIT_RESET_MAX (86400 * USEC_PER_SEC)

/* `head`: lines "name: value", each ended by LF or CRLF; of a name that is there several
 * times the last one counts.  wall: in microseconds since the epoch, for resets that are
 * moments.  false: none of them was there. */
bool ratelimit_read(struct str head, usec_t wall, struct ratelimit *ret);
