/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log: one event per line on stderr, logfmt: ts=... lvl=... ev=... key=value ...
 *
 * Threads: any (one write(2) a line).  Library rooms do not log above debug: the function
 * that decides, logs, once.  Never bodies, keys or prompts.  Values are quoted and
 * control bytes escaped, so that one event is one line whatever a client sent.
 */
#pragma once

#include "base/base.h"

enum log_level { LOG_LVL_DEBUG, LOG_LVL_INFO, LOG_LVL_WARN, LOG_LVL_ERROR };

void log_level_set(enum log_level min);
bool log_on(enum log_level lvl);

/*
 * ev is the event's fixed name; then pairs by format: log_ev(LOG_LVL_INFO, "batch.done",
 * "batch=%s lines=%u", id, n).  A %s value is put in quotes by the caller when it may
 * hold spaces; control bytes and quotes inside are escaped here by log_q().
 */
PRINTF_FMT(3, 4) void log_ev(enum log_level lvl, const char *ev, const char *fmt, ...);

#define log_debug(ev, ...)                                                               \
    do {                                                                                 \
        if (log_on(LOG_LVL_DEBUG))                                                       \
            log_ev(LOG_LVL_DEBUG, ev, __VA_ARGS__);                                      \
    } while (0)
#define log_info(ev, ...)  log_ev(LOG_LVL_INFO, ev, __VA_ARGS__)
#define log_warn(ev, ...)  log_ev(LOG_LVL_WARN, ev, __VA_ARGS__)
#define log_error(ev, ...) log_ev(LOG_LVL_ERROR, ev, __VA_ARGS__)

/* Escapes text from outside into dst as a quoted value; longer text ends in "...".
 * Returns dst. */
const char *log_q(char *dst, size_t cap, const char *p, size_t n);
