/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stops: does a server stop its work when a call is closed?  Seen in its own metrics: what
 * it says that it has, less our calls, is what others have and what it goes on with for
 * nobody.  That is watched until it is steady; then some calls are closed, and it stays
 * what it was or grows by as many.
 *
 * Worth it, because only then may a line be sent twice: vLLM's maintainers say that it
 * stops (vllm issue 32442), and not every version did (issue 54947).
 *
 * Pure.  Threads: one.
 */
#pragma once

#include "base/base.h"
#include "base/clock.h"

enum stops_verdict { STOPS_UNKNOWN, STOPS_YES, STOPS_NO };

enum { STOPS_BEFORE = 4, STOPS_AFTER = 3 }; /* samples */

/* A call that is closed shows in samples from then on. */
#define STOPS_SETTLE USEC_PER_SEC

/* The calls that are closed for it must have so long to go, or they would have ended
 * by themselves before it is seen. */
#define STOPS_NEEDS (4 * USEC_PER_SEC)

struct stops {
    enum stops_verdict verdict;
    double before[STOPS_BEFORE]; /* what it had beyond our calls: the last ones, a ring */
    unsigned n, at;
    unsigned closed; /* calls, for the check that is under way; 0: none is */
    usec_t closed_at;
    double mean, sum; /* before; after, so far */
    unsigned after;   /* samples in sum */
};

/* Forgets all: it may be another server now. */
void stops_init(struct stops *s);
/* load: requests that it runs or has waiting; inflight: our calls there; asked: when the
 * question went out.  true: there is a verdict now. */
bool stops_sample(struct stops *s, double load, unsigned inflight, usec_t asked);
/* How many calls may be closed now, so that it is seen; 0: none, or no more need. */
unsigned stops_wants(const struct stops *s);
/* So many calls were closed, for this or another reason. */
void stops_closed(struct stops *s, unsigned n, usec_t now);
