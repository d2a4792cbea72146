/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quota: requests and tokens a minute, as providers grant them: two token buckets
 * (https://en.wikipedia.org/wiki/Token_bucket), told in headers as OpenAI
 * (https://platform.openai.com/docs/guides/rate-limits), Anthropic
 * (https://docs.anthropic.com/en/api/rate-limits) or Azure OpenAI tell them.  Pure; times
 * are of the clock, not of a model.
 *
 * Tokens are held when a request comes: its prompt and the most output that it allows.
 * Anthropic gives back what was not used; the others do not.  What is refused costs
 * nothing.
 */
#pragma once

#include "base/buf.h"
#include "sim/options.h"

struct sim_bucket {
    uint64_t per_minute; /* 0: no limit */
    double level, most;  /* most: that can be saved up */
};

struct sim_quota {
    struct sim_bucket requests, tokens;
    enum sim_style style;
    usec_t at; /* when the levels were true */
};

struct sim_quota_no {
    bool tokens;  /* it is those that lack, else requests */
    bool never;   /* the request is larger than all that can be saved up */
    usec_t after; /* then there is enough, if nobody else takes it */
};

void sim_quota_init(struct sim_quota *q, const struct sim_options *o, usec_t now);

static inline bool sim_quota_set(const struct sim_quota *q) /* is there any? */
{
    return q->requests.per_minute || q->tokens.per_minute;
}

/* Takes one request of so many tokens.  RC_LIMIT: nothing was taken, and *why. */
NODISCARD enum rc sim_quota_take(struct sim_quota *q, uint64_t tokens, usec_t now,
                                 struct sim_quota_no *why);
/* The request held `held` tokens and used `used`. */
void sim_quota_settle(struct sim_quota *q, uint64_t held, uint64_t used, usec_t now);

/* Header lines, each with its CRLF; wall: microseconds since 1970.  Failures stay in
 * dst. */
void sim_quota_headers(struct sim_quota *q, usec_t now, usec_t wall, struct buf *dst);
/* The body of the 429, in the provider's shape. */
void sim_quota_refusal(const struct sim_quota *q, const struct sim_quota_no *why,
                       uint64_t tokens, struct buf *dst);
