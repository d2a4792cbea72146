/* SPDX-License-Identifier: Apache-2.0 */
#include "base/str.h"

#include <stdarg.h>
#include <stdio.h>

static char fold(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

bool str_ieq(struct str a, struct str b)
{
    if (a.n != b.n)
        return false;
    for (size_t i = 0; i < a.n; i++)
        if (fold(a.p[i]) != fold(b.p[i]))
            return false;
    return true;
}

bool str_starts(struct str s, struct str prefix)
{
    return s.n >= prefix.n && memcmp(s.p, prefix.p, prefix.n) == 0;
}

bool str_ends(struct str s, struct str suffix)
{
    return s.n >= suffix.n && memcmp(s.p + s.n - suffix.n, suffix.p, suffix.n) == 0;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct str str_trim(struct str s)
{
    while (s.n && is_blank(s.p[0]))
        s.p++, s.n--;
    while (s.n && is_blank(s.p[s.n - 1]))
        s.n--;
    return s;
}

struct str str_cut(struct str *s, char sep)
{
    const char *at = s->n ? memchr(s->p, sep, s->n) : NULL;
    struct str head = *s;

    if (at) {
        head.n = (size_t)(at - s->p);
        s->p = at + 1;
        s->n -= head.n + 1;
    } else if (s->n) { /* a text that is not there has no end to point at */
        s->p += s->n;
        s->n = 0;
    }
    return head;
}

enum rc str_u64(struct str s, uint64_t *ret)
{
    uint64_t v = 0;
    bool over = false;

    if (s.n == 0)
        return RC_INVALID;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return RC_INVALID;
        over = over || __builtin_mul_overflow(v, 10u, &v) ||
               __builtin_add_overflow(v, (uint64_t)(s.p[i] - '0'), &v);
    }
    if (over) /* of the form it is all the same */
        return RC_LIMIT;
    *ret = v;
    return RC_OK;
}

/* Splits "24h" into the digits and the unit; the number may not be empty. */
static enum rc number_and_unit(struct str s, uint64_t *ret_v, struct str *ret_unit)
{
    size_t digits = 0;

    while (digits < s.n && s.p[digits] >= '0' && s.p[digits] <= '9')
        digits++;
    *ret_unit = (struct str){s.p + digits, s.n - digits};
    return str_u64((struct str){s.p, digits}, ret_v);
}

enum rc str_duration(struct str s, usec_t *ret)
{
    static const struct {
        const char *unit;
        usec_t usec;
    } units[] = {{"ms", USEC_PER_MS},
                 {"s", USEC_PER_SEC},
                 {"m", 60 * USEC_PER_SEC},
                 {"h", 3600 * USEC_PER_SEC},
                 {"d", 86400 * USEC_PER_SEC}};
    struct str unit;
    uint64_t v;
    usec_t out;
    enum rc rc = number_and_unit(s, &v, &unit);

    if (rc != RC_OK)
        return rc;
    for (size_t i = 0; i < COUNTOF(units); i++) {
        if (!str_is(unit, units[i].unit))
            continue;
        if (__builtin_mul_overflow(v, units[i].usec, &out))
            return RC_LIMIT;
        *ret = out;
        return RC_OK;
    }
    return RC_INVALID;
}

enum rc str_size(struct str s, uint64_t *ret)
{
    static const char letters[] = "KMGT";
    struct str unit;
    uint64_t v;
    unsigned shift = 0;
    enum rc rc = number_and_unit(s, &v, &unit);

    if (rc != RC_OK)
        return rc;
    if (unit.n) {
        const char *at = memchr(letters, unit.p[0], 4);
        struct str tail = {unit.p + 1, unit.n - 1};

        if (!at)
            return str_is(unit, "B") ? (*ret = v, RC_OK) : RC_INVALID;
        if (tail.n && !str_is(tail, "B") && !str_is(tail, "iB"))
            return RC_INVALID;
        shift = 10u * (unsigned)(at - letters + 1);
    }
    if (shift && v > (UINT64_MAX >> shift))
        return RC_LIMIT;
    *ret = v << shift;
    return RC_OK;
}

enum rc str_bool(struct str s, bool *ret)
{
    static const char *const yes[] = {"yes", "true", "on", "1"};
    static const char *const no[] = {"no", "false", "off", "0"};

    for (size_t i = 0; i < COUNTOF(yes); i++) {
        if (str_is(s, yes[i]))
            return *ret = true, RC_OK;
        if (str_is(s, no[i]))
            return *ret = false, RC_OK;
    }
    return RC_INVALID;
}

enum rc str_fmt(char *dst, size_t cap, const char *fmt, ...)
{
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(dst, cap, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < cap)
        return RC_OK;
    dst[0] = '\0';
    return RC_LIMIT;
}
