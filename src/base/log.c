/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static _Atomic int min_level = LOG_LVL_INFO;
static const char *const names[] = {"debug", "info", "warn", "error"};

void log_level_set(enum log_level min)
{
    atomic_store(&min_level, (int)min);
}

bool log_on(enum log_level lvl)
{
    return (int)lvl >= atomic_load_explicit(&min_level, memory_order_relaxed);
}

static size_t stamp(char *dst, size_t cap)
{
    struct timespec t;
    struct tm tm;
    size_t n;

    clock_gettime(CLOCK_REALTIME, &t);
    gmtime_r(&t.tv_sec, &tm);
    n = strftime(dst, cap, "ts=%Y-%m-%dT%H:%M:%S", &tm);
    return n + (size_t)snprintf(dst + n, cap - n, ".%03ldZ", t.tv_nsec / 1000000);
}

/* Cuts at the end of the line's space: a log line is for people and bounded. */
void log_ev(enum log_level lvl, const char *ev, const char *fmt, ...)
{
    char line[2048];
    size_t cap = sizeof line - 1, n;
    va_list ap;
    int m;

    if (!log_on(lvl))
        return;
    n = stamp(line, cap);
    n += (size_t)snprintf(line + n, cap - n, " lvl=%s ev=%.64s ", names[lvl], ev);
    va_start(ap, fmt);
    m = vsnprintf(line + n, cap - n, fmt, ap);
    va_end(ap);
    if (m > 0)
        n += (size_t)m < cap - n ? (size_t)m : cap - n - 1;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = '?';
    line[n++] = '\n';
    if (write(STDERR_FILENO, line, n) < 0)
        return; /* nobody reads our log: nothing sensible is left to do */
}

const char *log_q(char *dst, size_t cap, const char *p, size_t n)
{
    size_t at = 0;

    CHECK(cap >= 16);
    dst[at++] = '"';
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)p[i];

        if (at + 10 > cap) {
            memcpy(dst + at, "...", 3);
            at += 3;
            break;
        }
        if (c == '"' || c == '\\') {
            dst[at++] = '\\';
            dst[at++] = (char)c;
        } else if (c < 0x20 || c == 0x7f) {
            at += (size_t)snprintf(dst + at, cap - at, "\\x%02x", c);
        } else {
            dst[at++] = (char)c;
        }
    }
    dst[at++] = '"';
    dst[at] = '\0';
    return dst;
}
