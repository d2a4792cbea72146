/* SPDX-License-Identifier: Apache-2.0 */
/*
 * upstream: an inference server within the process that is under test: it answers every
 * request at once and well, and counts which lines came.
 *
 * Threads: its own, a thread a connection; they end with the process.
 */
#pragma once

#include "base/id.h"

/* The base URL; one in a process. */
const char *upstream_start(void);
/* Requests that came for the batch; *ret_twice: for a line that had come before. */
uint32_t upstream_calls(const struct id *batch, uint32_t *ret_twice);
