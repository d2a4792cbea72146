/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/rate.h"

void rate_start(struct rate *r, usec_t now)
{
    *r = (struct rate){.since = now, .slot_at = now};
}

/* Slots between the newest and the one that `now` is in. */
static usec_t behind(const struct rate *r, usec_t now)
{
    return now > r->slot_at ? (now - r->slot_at) / RATE_SLOT : 0;
}

void rate_add(struct rate *r, uint32_t n, usec_t now)
{
    usec_t skip = behind(r, now);

    for (usec_t i = 0; i < skip && i < RATE_SLOTS; i++) {
        r->slot = (r->slot + 1) % RATE_SLOTS;
        r->slots[r->slot] = 0;
    }
    r->slot_at += skip * RATE_SLOT;
    r->slots[r->slot] += n;
}

double rate_now(const struct rate *r, usec_t now)
{
    usec_t skip = behind(r, now), span;
    uint64_t sum = 0;
    bool any = false;

    if (r->since == 0 || now - r->since < USEC_PER_SEC)
        return -1;
    for (unsigned i = 0; i < RATE_SLOTS; i++) { /* i slots before the newest */
        uint32_t n = r->slots[(r->slot + RATE_SLOTS - i) % RATE_SLOTS];

        any = any || n;
        sum += i + skip < RATE_SLOTS ? n : 0;
    }
    if (!any)
        return -1;
    span = (RATE_SLOTS - 1) * RATE_SLOT + (now - r->slot_at - skip * RATE_SLOT);
    if (now - r->since < span)
        span = now - r->since;
    return (double)sum * (double)USEC_PER_SEC / (double)span;
}
