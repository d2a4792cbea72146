/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/stops.h"

/* Above this calls come and go too fast, ours or others', to see a few among them. */
#define SPREAD_MAX 1.0

void stops_init(struct stops *s)
{
    *s = (struct stops){.verdict = STOPS_UNKNOWN};
}

static void spread(const struct stops *s, double *ret_min, double *ret_max)
{
    *ret_min = *ret_max = s->before[0];
    for (unsigned i = 1; i < STOPS_BEFORE; i++) {
        if (s->before[i] < *ret_min)
            *ret_min = s->before[i];
        if (s->before[i] > *ret_max)
            *ret_max = s->before[i];
    }
}

unsigned stops_wants(const struct stops *s)
{
    double min, max;

    if (s->verdict != STOPS_UNKNOWN || s->closed || s->n < STOPS_BEFORE)
        return 0;
    spread(s, &min, &max);
    if (max - min > SPREAD_MAX)
        return 0;
    return max > min ? 3 : 1; /* so that it stands out */
}

void stops_closed(struct stops *s, unsigned n, usec_t now)
{
    unsigned enough = stops_wants(s);

    if (n == 0)
        return;
    if (enough == 0 || n < enough) { /* it must be steady anew */
        if (s->closed)               /* two checks at a time tell nothing */
            s->closed = 0;
        s->n = 0;
        return;
    }
    s->mean = 0;
    for (unsigned i = 0; i < STOPS_BEFORE; i++)
        s->mean += s->before[i] / STOPS_BEFORE;
    s->closed = n;
    s->closed_at = now;
    s->sum = 0;
    s->after = s->n = 0;
}

static bool judge(struct stops *s)
{
    double grown = s->sum / STOPS_AFTER - s->mean;

    s->verdict = grown < s->closed / 2.0 ? STOPS_YES : STOPS_NO;
    s->closed = 0;
    return true;
}

bool stops_sample(struct stops *s, double load, unsigned inflight, usec_t asked)
{
    double beyond = load - inflight;

    if (s->verdict != STOPS_UNKNOWN)
        return false;
    if (!s->closed) {
        s->before[s->at] = beyond;
        s->at = (s->at + 1) % STOPS_BEFORE;
        s->n += s->n < STOPS_BEFORE;
        return false;
    }
    if (asked < s->closed_at + STOPS_SETTLE)
        return false;
    s->sum += beyond;
    return ++s->after == STOPS_AFTER && judge(s);
}
