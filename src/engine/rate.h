/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rate: results a second, over the last 60 s or what there is of them.
 *
 * Pure: `now` is monotonic and passed in.
 */
#pragma once

#include "base/base.h"
#include "base/clock.h"

#define RATE_SLOT  (5 * USEC_PER_SEC)
#define RATE_SLOTS 12

struct rate {
    usec_t since;   /* when it began to count; 0: it has not */
    usec_t slot_at; /* when the newest slot began */
    unsigned slot;  /* the newest */
    uint32_t slots[RATE_SLOTS];
};

void rate_start(struct rate *r, usec_t now); /* from nothing */
void rate_add(struct rate *r, uint32_t n, usec_t now);
/* Less than 0: it cannot be told yet: not a second has gone, or nothing came at all. */
double rate_now(const struct rate *r, usec_t now);
