/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fail: the unit tests' checks (tests/lib/t.h) for a fuzz target: what fails aborts, so
 * that the fuzzer keeps the input.  One include per target.
 */
#pragma once

#include "tests/lib/t.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void t_fail(const char *file, int line, const char *fmt, ...)
{
    va_list ap;

    fprintf(stderr, "%s:%d: ", file, line);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    abort();
}

void t_eq_int(const char *file, int line, const char *what, int64_t got, int64_t want)
{
    if (got != want)
        t_fail(file, line, "%s: got %lld, want %lld", what, (long long)got,
               (long long)want);
}

void t_eq_str(const char *file, int line, const char *what, struct str got,
              struct str want)
{
    if (!str_eq(got, want))
        t_fail(file, line, "%s: got \"%.*s\", want \"%.*s\"", what, STR_ARG(got),
               STR_ARG(want));
}
