/* SPDX-License-Identifier: Apache-2.0 */
#include "base/base.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static const struct {
    const char *name, *text;
} rc_table[RC_COUNT] = {
#define X(name, text) {#name, text},
    RC_LIST(X)
#undef X
};

const char *rc_name(enum rc rc)
{
    return (unsigned)rc < RC_COUNT ? rc_table[rc].name : "?";
}

const char *rc_text(enum rc rc)
{
    return (unsigned)rc < RC_COUNT ? rc_table[rc].text : "unknown error";
}

void panic_at(const char *file, int line, const char *fmt, ...)
{
    va_list ap;

    fprintf(stderr, "batchd: bug at %s:%d: ", file, line);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    fflush(stderr);
    abort();
}
