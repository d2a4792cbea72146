/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base: attributes, tiny macros and the one domain of return codes.
 *
 * Every fallible function of the project returns NODISCARD enum rc.  Human detail goes
 * into an optional last parameter `struct err *` (base/err.h).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NODISCARD        __attribute__((warn_unused_result))
#define NORETURN         __attribute__((noreturn))
#define PRINTF_FMT(f, a) __attribute__((format(printf, f, a)))
#define LIKELY(x)        __builtin_expect(!!(x), 1)
#define UNLIKELY(x)      __builtin_expect(!!(x), 0)

#define COUNTOF(a) (sizeof(a) / sizeof((a)[0]))
/* A result that is left unread on purpose: (void) does not silence gcc.  Say why beside
 * it. */
#define IGNORE(expr)                                                                     \
    do {                                                                                 \
        if (expr) {                                                                      \
        }                                                                                \
    } while (0)
#define CONTAINER_OF(p, type, member)                                                    \
    ((type *)(void *)((char *)(p)-offsetof(type, member)))

/* X(name, text): the text is what a person reads when nothing better is known. */
#define RC_LIST(X)                                                                       \
    X(OK, "success")                                                                     \
    X(AGAIN, "not now, try again later")                                                 \
    X(NOTFOUND, "not found")                                                             \
    X(CONFLICT, "conflicts with the present state")                                      \
    X(INVALID, "invalid")                                                                \
    X(LIMIT, "over a limit")                                                             \
    X(DENIED, "not permitted")                                                           \
    X(NOMEM, "out of memory")                                                            \
    X(NOSPACE, "no space left on the device")                                            \
    X(IO, "input/output error")                                                          \
    X(CORRUPT, "stored data is damaged")                                                 \
    X(UPSTREAM, "the upstream server failed")                                            \
    X(CANCELLED, "cancelled")

enum rc {
#define X(name, text) RC_##name,
    RC_LIST(X)
#undef X
        RC_COUNT
};

const char *rc_name(enum rc rc); /* "NOTFOUND" */
const char *rc_text(enum rc rc); /* "not found" */

/*
 * An invariant of ours is broken: says where and why, then aborts with a core dump.
 * Never for anything a user, a disk or a network can cause.
 */
NORETURN PRINTF_FMT(3, 4) void panic_at(const char *file, int line, const char *fmt, ...);
#define PANIC(...) panic_at(__FILE__, __LINE__, __VA_ARGS__)
#define CHECK(cond)                                                                      \
    do {                                                                                 \
        if (UNLIKELY(!(cond)))                                                           \
            PANIC("check failed: %s", #cond);                                            \
    } while (0)

static inline uint64_t u64_min(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t u64_max(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}
