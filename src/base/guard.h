/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guard: the places that stand between a crash and a broken promise.
 *
 * GUARD(NAME) is true.  A build with -DBREAK_NAME makes it false, and that program loses
 * something in a crash: tests/crash/mutants builds one for each name and shows that a test
 * notices.  A constant, so nothing of it is left in the program; no release is built with
 * such a switch.
 */
#pragma once

#include <stdbool.h>

#define GUARD(name)              GUARD_LOOK_(BREAK_##name)
#define GUARD_LOOK_(value)       GUARD_MARK_(value)
#define GUARD_MARK_(value)       GUARD_TAKE_(GUARD_BROKEN_##value)
#define GUARD_TAKE_(mark)        GUARD_SECOND_(mark false, true, )
#define GUARD_SECOND_(_, v, ...) v
#define GUARD_BROKEN_1           0, /* moves `false` to the second place */
