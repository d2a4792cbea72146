/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t: the unit tests' harness.  One program per file; each TEST registers itself and runs
 * in a process of its own with a process group, an empty working directory and a time
 * limit, so that a crash, a panic or a stray child costs one test.  Prints TAP for
 * prove(1).
 *
 *     TEST(cancel_during_validation_ends_cancelled)
 *     {
 *         EQ_INT(batch_step(&b, BATCH_EV_CANCEL, 5), RC_OK);
 *     }
 *
 * A failed check prints got and want and ends the test.  PANICS(text) { ... } expects
 * that the block panics with text in its message. Run one: ./some_test name; all:
 * ./some_test.
 */
#pragma once

#include "base/base.h"
#include "base/str.h"

typedef void t_fn(void);
void t_register(const char *name, t_fn *fn, unsigned seconds);

/* TEST_SLOW gives seconds instead of the usual 20 (sanitizers take several times as
 * long). */
#define TEST_SLOW(name, seconds)                                                         \
    static void name(void);                                                              \
    __attribute__((constructor)) static void t_reg_##name(void)                          \
    {                                                                                    \
        t_register(#name, name, seconds);                                                \
    }                                                                                    \
    static void name(void)
#define TEST(name) TEST_SLOW(name, 20)

NORETURN PRINTF_FMT(3, 4) void t_fail(const char *file, int line, const char *fmt, ...);
PRINTF_FMT(1, 2) void t_note(const char *fmt, ...); /* a TAP comment */
void t_eq_int(const char *file, int line, const char *what, int64_t got, int64_t want);
void t_eq_str(const char *file, int line, const char *what, struct str got,
              struct str want);
const char *t_dir(void); /* this test's empty directory; removed after it */
void t_expect_panic(const char *file, int line, t_fn *fn, const char *text);

/* For tables: says which row a failure is in. */
void t_row(const char *name);

#define FAIL(...) t_fail(__FILE__, __LINE__, __VA_ARGS__)
#define OK(cond)                                                                         \
    do {                                                                                 \
        if (!(cond))                                                                     \
            FAIL("not true: %s", #cond);                                                 \
    } while (0)
#define EQ_INT(got, want)                                                                \
    t_eq_int(__FILE__, __LINE__, #got, (int64_t)(got), (int64_t)(want))
#define EQ_RC(got, want)                                                                 \
    do {                                                                                 \
        enum rc t_got = (got), t_want = (want);                                          \
        if (t_got != t_want)                                                             \
            FAIL("%s: got RC_%s, want RC_%s", #got, rc_name(t_got), rc_name(t_want));    \
    } while (0)
#define EQ_STR(got, want) t_eq_str(__FILE__, __LINE__, #got, (got), (want))
#define EQ_Z(got, want)   t_eq_str(__FILE__, __LINE__, #got, str_of(got), str_of(want))
/* fn is a function without arguments that must panic with text in what it says. */
#define PANICS(fn, text) t_expect_panic(__FILE__, __LINE__, fn, text)
