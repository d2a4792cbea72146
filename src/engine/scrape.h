/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scrape: asks the upstreams how much they have to do, when the scheduler wants to know, and
 * once how much they can have.
 *
 *   GET /metrics                            each sample (core/promtext.h)
 *   GET /props, /get_server_info, /info     once, and again when it has come back
 *                                           (core/serverinfo.h)
 *
 * An upstream that has no metrics, or none that say anything, is asked again after 30 s, 1,
 * 2 ... 10 min; the scheduler is told at once that there are none.  Metrics that are those
 * of several servers by turns are not believed.
 *
 * From the samples it is also seen, once for each upstream, whether closing a call stops its
 * work (stops.h): for that a few young calls are closed when there are others that could
 * take their lines.
 *
 * Threads: the engine's loop, but for scrape_open and scrape_close, which run while it does
 * not.
 */
#pragma once

#include "engine/work.h"

struct scrape;

void scrape_open(struct engine *g);  /* makes g->scrape; all upstreams are there */
void scrape_close(struct engine *g); /* may run twice; no call may be under way */

/* Asks those whose samples are due. */
void scrape_due(struct engine *g, usec_t now);
/* It was away, and may be another server now. */
void scrape_back(struct engine *g, uint16_t up);

/* A good answer took so long. */
void scrape_took(struct engine *g, uint16_t up, usec_t took);
/* A call there was closed for another reason than scrape's. */
void scrape_closed(struct engine *g, uint16_t up, usec_t now);
/* Is it known, by what it said a moment ago, to be at work? */
bool scrape_at_work(const struct engine *g, uint16_t up, usec_t now);
