/* SPDX-License-Identifier: Apache-2.0 */
/*
 * str: text as pointer and length, and strict parsing of the few scalar forms that
 * settings and queries use.
 *
 * Owns: nothing; a struct str borrows.  Threads: any.
 * Errors: parsers return RC_INVALID (not of the form) or RC_LIMIT (does not fit) and
 * leave the out-parameter untouched.
 */
#pragma once

#include "base/base.h"
#include "base/clock.h"

#include <string.h>

struct str {
    const char *p;
    size_t n;
};

#define STR(lit)   ((struct str){(lit), sizeof(lit) - 1})
#define STR_ARG(s) (int)(s).n, (s).p /* for "%.*s" */

static inline struct str str_of(const char *z)
{
    return (struct str){z, z ? strlen(z) : 0};
}

static inline bool str_eq(struct str a, struct str b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline bool str_is(struct str a, const char *z)
{
    return str_eq(a, str_of(z));
}

bool str_ieq(struct str a, struct str b); /* ASCII case folded */
bool str_starts(struct str s, struct str prefix);
bool str_ends(struct str s, struct str suffix);
struct str str_trim(struct str s);           /* spaces, tabs, CR, LF at both ends */
struct str str_cut(struct str *s, char sep); /* takes the part before sep off *s */

/* Decimal digits only: no sign, no space, no leading '+'. */
NODISCARD enum rc str_u64(struct str s, uint64_t *ret);

/* A whole number with s, m, h or d behind it ("24h"), also ms; plain digits are refused.
 */
NODISCARD enum rc str_duration(struct str s, usec_t *ret);

/* A whole number of bytes, or with K, M, G, T (powers of 1024; an optional B or iB). */
NODISCARD enum rc str_size(struct str s, uint64_t *ret);

/* yes/no, true/false, on/off, 1/0. */
NODISCARD enum rc str_bool(struct str s, bool *ret);

/* Formats into a fixed array; RC_LIMIT when it would be cut (the array then holds ""). */
NODISCARD PRINTF_FMT(3, 4) enum rc str_fmt(char *dst, size_t cap, const char *fmt, ...);
