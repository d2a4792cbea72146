/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jobs: pieces of work by number, each in one of some processes; their results are in memory
 * that all share.
 */
#pragma once

#include <stddef.h>

typedef void job_fn(void *ctx, unsigned job, void *result);

/* Zeroed; of n results of so many bytes. */
void *jobs_results(size_t n, size_t bytes);
/* false: a process did not come to its end. */
int jobs_run(job_fn *fn, void *ctx, unsigned n, void *results, size_t bytes,
             unsigned jobs);
