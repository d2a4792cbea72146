/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recovered: starts the program's own rooms on a directory that a crash left and looks
 * whether everything that was promised is true; without upstreams, so that nothing goes on
 * meanwhile, or with one, and to the end of every batch.
 *
 * Threads: the caller's process has no other threads; it is forked for each directory.
 */
#pragma once

#include "tests/crash/promise.h"

enum recovered_how {
    RECOVERED_ONCE,
    RECOVERED_TWICE,     /* from a cut in another recovery */
    RECOVERED_AGAIN,     /* stops in good order and recovers once more */
    RECOVERED_TO_THE_END /* there is an upstream: every batch ends, and is looked at */
};

/* Ends the process: 0 all is well, 1 a violation, told on standard error in one line for
 * each. */
NORETURN void recovered_check(const char *dir, const struct promises *p,
                              enum recovered_how how);
