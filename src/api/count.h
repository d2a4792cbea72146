/* SPDX-License-Identifier: Apache-2.0 */
/*
 * count: the room's counters for /metrics.
 *
 * Owns:    its numbers.
 * Threads: any; relaxed atomics, no locks.
 */
#pragma once

#include "base/buf.h"

struct counts;

struct count_route {
    const char *method, *pattern;
};

/* Routes go by number, 0..n_routes-1; number n_routes stands for "none matched". */
struct counts *counts_new(size_t n_routes);
struct counts *counts_free(struct counts *c); /* accepts NULL, returns NULL */
void count_answer(struct counts *c, size_t route, int status);
void count_upload(struct counts *c, uint64_t bytes);
/* Appends Prometheus text; `label` names a route (method and pattern). */
void counts_put(const struct counts *c, struct count_route (*label)(size_t route),
                struct buf *out);
