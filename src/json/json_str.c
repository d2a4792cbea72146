/* SPDX-License-Identifier: Apache-2.0 */
/* json: what a raw string says (json_str_..., json_unescape). */
#include "json/json.h"
#include "json/scan.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

/* What stands between the quotes. */
static struct str inside(struct str raw)
{
    CHECK(raw.n >= 2);
    return (struct str){raw.p + 1, raw.n - 2};
}

static bool has_escape(struct str s)
{
    return s.n && memchr(s.p, '\\', s.n);
}

/* Compares as characters; `raw_b`: b has escapes too, else it is plain text. */
static bool same_chars(struct str a, struct str b, bool raw_b)
{
    const char *p = a.p, *p_end = a.p + a.n, *q = b.p, *q_end = b.p + b.n;

    while (p < p_end && q < q_end)
        if (scan_char(&p, p_end) !=
            (raw_b ? scan_char(&q, q_end) : scan_utf8_char(&q, q_end)))
            return false;
    return p == p_end && q == q_end;
}

bool json_str_is(struct str raw, struct str want)
{
    struct str s = inside(raw);

    return has_escape(s) ? same_chars(s, want, false) : str_eq(s, want);
}

bool json_str_eq(struct str a, struct str b)
{
    if (str_eq(a, b))
        return true;
    a = inside(a);
    b = inside(b);
    return (has_escape(a) || has_escape(b)) && same_chars(a, b, true);
}

uint64_t json_str_hash(struct str raw, uint64_t seed)
{
    struct str s = inside(raw);
    const char *p = s.p, *end = s.p + s.n;
    XXH3_state_t state;
    char some[256];
    size_t n = 0;

    if (!has_escape(s))
        return XXH3_64bits_withSeed(s.p, s.n, seed);
    XXH3_INITSTATE(&state);
    XXH3_64bits_reset_withSeed(&state, seed);
    while (p < end) {
        n += scan_put(some + n, scan_char(&p, end));
        if (n > sizeof some - 4 || p == end) {
            XXH3_64bits_update(&state, some, n);
            n = 0;
        }
    }
    return XXH3_64bits_digest(&state);
}

size_t json_str_len(struct str raw)
{
    struct str s = inside(raw);
    const char *p = s.p, *end = s.p + s.n;
    size_t n = 0;

    for (; p < end; n++)
        (void)scan_char(&p, end);
    return n;
}

/* Bytes of s unescaped; RC_INVALID when it holds a lone surrogate. */
static enum rc measure(struct str s, size_t *ret)
{
    const char *p = s.p, *end = s.p + s.n;
    size_t n = s.n;

    while ((p = memchr(p, '\\', (size_t)(end - p)))) {
        const char *at = p;
        char none[4];
        uint32_t c = scan_char(&p, end);

        if (c >= 0xd800 && c <= 0xdfff)
            return RC_INVALID;
        n -= (size_t)(p - at) - scan_put(none, c);
    }
    *ret = n;
    return RC_OK;
}

enum rc json_unescape(struct str raw, struct buf *dst)
{
    struct str s = inside(raw);
    const char *p = s.p, *end = s.p + s.n;
    char *to;
    size_t n;
    enum rc rc;

    if (!has_escape(s))
        return buf_str(dst, s);
    rc = measure(s, &n);
    if (rc == RC_OK)
        rc = buf_reserve(dst, n, &to);
    if (rc != RC_OK)
        return rc;
    while (p < end) {
        const char *stop = memchr(p, '\\', (size_t)(end - p));
        size_t run = (size_t)((stop ? stop : end) - p);
        char four[4];
        unsigned put;

        memcpy(to, p, run);
        to += run;
        p += run;
        if (p == end)
            break;
        put = scan_put(four, scan_char(&p, end));
        memcpy(to, four, put);
        to += put;
    }
    buf_commit(dst, n);
    return RC_OK;
}
