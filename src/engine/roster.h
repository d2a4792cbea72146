/* SPDX-License-Identifier: Apache-2.0 */
/*
 * roster: asks the upstreams which models they serve, at the start and from then on, and
 * has the catalog and the live batches follow.
 *
 * An upstream whose models the configuration names is not asked.  One that was not reached
 * is asked again after 1, 2, 4 ... 30 s; one that was, every `models_refresh`.  What it
 * answers, and what that means:
 *
 *   2xx with a list                       the list
 *   404, 405, 501, JSON without a list    it does not tell: ANY
 *   other answers, none in time, too      the list stays; without one: ANY
 *   large, garbled
 *   no connection, reset, 429, 502, 503,  the list stays; without one it is UNASKED until
 *   504                                   it was reached, or answered so three times
 *
 * Threads: the engine's loop, but for roster_open and roster_close, which run while it
 * does not.
 */
#pragma once

#include "engine/work.h"

struct roster;

/* Makes g->catalog and g->roster; the first questions go out when the loop turns. */
void roster_open(struct engine *g);
void roster_close(struct engine *g); /* may run twice */

/*
 * A line came back with 404: may its model have gone from the upstream's list since it was
 * asked for?  Then it is asked for again, and dispatch_settle will be called with the
 * number of that question.  0: there is no doubt.
 */
uint64_t roster_doubts(struct engine *g, uint16_t up);

/* The `listed` of upstream_ears; ctx is the engine. */
void roster_listed(void *ctx, uint16_t up, const struct http_call *call, bool probe);

/*
 * Has each upstream answered, or failed to, once; or are 5 s gone?  A new batch is not
 * judged before.  Any thread.
 */
bool roster_ready(const struct engine *g);
