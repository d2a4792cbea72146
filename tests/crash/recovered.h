/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recovered: starts the program's own rooms on a directory that a crash left, without
 * upstreams, and looks whether everything that was promised is true.
 *
 * Threads: the caller's process has no other threads; it is forked for each directory.
 */
#pragma once

#include "tests/crash/promise.h"

/* Ends the process: 0 all is well, 1 a violation, told on standard error in one line for
 * each.  again: stops in good order and recovers once more. */
NORETURN void recovered_check(const char *dir, const struct promises *p, bool again);
