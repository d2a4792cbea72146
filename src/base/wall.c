/* SPDX-License-Identifier: Apache-2.0 */
#include "base/wall.h"

static bool near(usec_t a, usec_t b, usec_t tolerance)
{
    return a - b <= tolerance && b - a <= tolerance;
}

static void doubt(struct wall *w, enum wall_doubt why, const struct wall_look *at)
{
    w->doubt = why;
    w->strange = at->wall - at->steady;
    w->since = at->steady;
}

static void follow(struct wall *w, const struct wall_look *at)
{
    w->doubt = WALL_TRUSTED;
    w->told = w->due = at->wall - at->steady;
}

void wall_start(struct wall *w, const struct wall_look *at, usec_t floor, usec_t settle)
{
    *w = (struct wall){.settle = settle, .latest = floor};
    follow(w, at);
    if (!floor)
        return;
    if (at->wall < floor - WALL_TOLERANCE) {
        doubt(w, WALL_BEHIND, at);
        w->told = w->due = floor - at->steady;
    } else if (at->wall > floor + WALL_ABSENCE && !at->synced) {
        doubt(w, WALL_AHEAD, at);
        w->due = floor - at->steady;
    }
}

void wall_accept(struct wall *w, const struct wall_look *at)
{
    if (w->doubt == WALL_TRUSTED)
        return;
    follow(w, at);
    if (w->latest - at->wall > WALL_TOLERANCE)
        w->latest = at->wall; /* a step back, the one that is allowed */
}

/* Is the clock where it should be?  Of one that was ahead at the start only a day is known. */
static bool plausible(const struct wall *w, usec_t offset)
{
    if (w->doubt == WALL_AHEAD)
        return near(offset, w->due, WALL_ABSENCE);
    return near(offset, w->told, WALL_TOLERANCE);
}

bool wall_see(struct wall *w, const struct wall_look *at)
{
    usec_t offset = at->wall - at->steady;

    if (w->doubt == WALL_TRUSTED) {
        if (near(offset, w->told, WALL_TOLERANCE)) {
            follow(w, at);
            return false;
        }
        doubt(w, WALL_JUMPED, at);
        return true;
    }
    if (!near(offset, w->strange, WALL_TOLERANCE)) {
        w->strange = offset;
        w->since = at->steady;
    }
    if (w->doubt == WALL_AHEAD)
        w->told = w->strange;
    if (plausible(w, offset) || at->steady - w->since >= w->settle ||
        (at->synced && at->steady - w->since >= WALL_SYNCED)) {
        wall_accept(w, at);
        return true;
    }
    return false;
}

usec_t wall_told(struct wall *w, usec_t steady)
{
    usec_t now = w->told + steady;

    if (w->latest > now)
        return w->latest;
    return w->latest = now;
}

usec_t wall_due(const struct wall *w, usec_t steady)
{
    return w->due + steady;
}

usec_t wall_strange(const struct wall *w)
{
    return w->doubt == WALL_TRUSTED ? 0 : w->strange - w->due;
}
