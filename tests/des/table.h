/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table: every workload with every policy, in percent of the bound.
 */
#pragma once

#include <stdbool.h>

struct table_opts {
    unsigned first, last, jobs; /* seeds */
    bool quick;                 /* one window for those with a fixed one, no sweep */
};

/* 0: printed. */
int table_print(const struct table_opts *o);
