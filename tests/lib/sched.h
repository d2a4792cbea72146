/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sched: the scheduler's calls as tests use them most.
 */
#pragma once

#include "sched/sched.h"

/* An upstream whose window is open from the start. */
static inline uint16_t up_add(struct sched *s, unsigned window)
{
    return sched_upstream_add(
        s, &(struct sched_upstream_opts){.window = window, .start = window});
}

/* An end that tells nothing of tokens. */
static inline enum sched_verdict back(struct sched *s, const struct sched_ticket *t,
                                      enum outcome_class cls, usec_t retry_after,
                                      usec_t now)
{
    return sched_done(
        s, t, &(struct sched_outcome){.cls = cls, .retry_after = retry_after}, now);
}
