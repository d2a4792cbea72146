/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wall: how much of a wall clock to believe that may have jumped.
 *
 * Time as the program tells it follows the wall clock while the two agree with the steady
 * one (CLOCK_BOOTTIME).  After a jump it goes on by the steady clock from where it was: what
 * expires expires when it would have, and no stamp goes back.  At a start the latest time
 * that the process before knew (the floor) is all there is to compare with; a clock far
 * ahead of it that nobody has set (NTP) is told to clients, but nothing is expired or
 * deleted by it.
 *
 * Doubt ends when the wall clock is near to where it should be, when it is said to be
 * synchronised and has been steady for a minute, when it has been steady for `settle`, or
 * when an operator says so.
 *
 * Pure: all clocks are passed in.  Steps back below WALL_TOLERANCE make time stand still.
 */
#pragma once

#include "base/clock.h"

#include <stdbool.h>

#define WALL_TOLERANCE (600 * USEC_PER_SEC)   /* further apart is a jump */
#define WALL_ABSENCE   (86400 * USEC_PER_SEC) /* an absence above this is doubted */
#define WALL_SYNCED    (60 * USEC_PER_SEC)
#define WALL_SETTLE    (3600 * USEC_PER_SEC) /* unless somebody says otherwise */

enum wall_doubt {
    WALL_TRUSTED,
    WALL_JUMPED, /* while we looked */
    WALL_BEHIND, /* at the start: before the floor */
    WALL_AHEAD   /* at the start: long after the floor, and nobody has set it */
};

/* The clocks of one moment. */
struct wall_look {
    usec_t wall, steady;
    bool synced; /* read only while in doubt */
};

struct wall {
    enum wall_doubt doubt;
    usec_t settle;
    usec_t told, due; /* what is told and what ends things, less steady */
    usec_t latest;    /* what was told last */
    usec_t strange;   /* wall less steady of the clock in doubt */
    usec_t since;     /* steady: so long it has been that strange */
};

/* floor: 0 is none. */
void wall_start(struct wall *w, const struct wall_look *at, usec_t floor, usec_t settle);
/* Looks at the clocks; true: w->doubt has changed. */
bool wall_see(struct wall *w, const struct wall_look *at);
/* The operator says that the wall clock is right. */
void wall_accept(struct wall *w, const struct wall_look *at);

/* After wall_see: the time for stamps and clients; before what was told last only when the
 * doubt ended with a clock far behind it. */
usec_t wall_told(struct wall *w, usec_t steady);
/* The time by which something may end for good: expiry, deletion, giving up.  Not after
 * wall_told. */
usec_t wall_due(const struct wall *w, usec_t steady);
/* How far the wall clock is ahead of wall_due; 0 when it is trusted. */
usec_t wall_strange(const struct wall *w);
