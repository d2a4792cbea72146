/* SPDX-License-Identifier: Apache-2.0 */
#include "api/entity.h"

/* --- Ranges: RFC 9110 section 14 -----------------------------------------------------
 */

/* Digits; a number beyond 64 bits is beyond every file and becomes the greatest one. */
static bool read_pos(struct str s, uint64_t *ret)
{
    enum rc rc = str_u64(s, ret);

    if (rc == RC_LIMIT)
        *ret = UINT64_MAX;
    return rc != RC_INVALID;
}

static enum range_verdict suffix(struct str count, uint64_t size, uint64_t *ret_off,
                                 uint64_t *ret_n)
{
    uint64_t n;

    if (!read_pos(count, &n))
        return RANGE_WHOLE;
    if (n == 0 || size == 0)
        return RANGE_OUTSIDE;
    *ret_n = u64_min(n, size);
    *ret_off = size - *ret_n;
    return RANGE_PART;
}

enum range_verdict range_read(struct str header, uint64_t size, uint64_t *ret_off,
                              uint64_t *ret_n)
{
    struct str rest = str_trim(header), unit = str_cut(&rest, '='), from;
    uint64_t first, last = UINT64_MAX;

    /* Several ranges may be answered by the whole (14.2); no client of ours needs more.
     */
    if (!str_ieq(unit, STR("bytes")) || rest.n == 0 || memchr(rest.p, ',', rest.n) ||
        !memchr(rest.p, '-', rest.n))
        return RANGE_WHOLE;
    from = str_cut(&rest, '-');
    if (from.n == 0)
        return suffix(rest, size, ret_off, ret_n);
    if (!read_pos(from, &first) || (rest.n && !read_pos(rest, &last)) || last < first)
        return RANGE_WHOLE;
    if (first >= size)
        return RANGE_OUTSIDE;
    *ret_off = first;
    *ret_n = u64_min(last, size - 1) - first + 1;
    return RANGE_PART;
}

/* --- Tags: RFC 9110 sections 13.1.1 and 13.1.2 ---------------------------------------------------
 */

static bool listed(struct str header, const char *tag, bool weakly)
{
    struct str rest = str_trim(header);

    if (str_is(rest, "*"))
        return true;
    while (rest.n) { /* our tags hold no comma, so one inside a foreign tag cannot matter
                      */
        struct str one = str_trim(str_cut(&rest, ','));

        if (weakly && str_starts(one, STR("W/")))
            one.p += 2, one.n -= 2;
        if (str_is(one, tag))
            return true;
    }
    return false;
}

bool etag_listed(struct str header, const char *tag)
{
    return listed(header, tag, true);
}

bool etag_matches(struct str header, const char *tag)
{
    return listed(header, tag, false);
}

/* --- Names: RFC 6266, RFC 8187 -------------------------------------------------------
 */

/* attr-char of RFC 8187: what needs no percent-encoding in filename*. */
static bool is_attr_char(unsigned char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           (c != '\0' && strchr("!#$&+-.^_`|~", c));
}

/* Kept as it is in the quoted fallback: printable, and nothing that a browser or a shell
 * user would take for a path, an escape or the end of the string. */
static bool is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x7f && !strchr("\"\\/%:*?<>|", c);
}

static void put_percent(struct buf *out, unsigned char c)
{
    static const char hex[] = "0123456789ABCDEF";

    (void)buf_char(out, '%');
    (void)buf_char(out, hex[c >> 4]);
    (void)buf_char(out, hex[c & 15]);
}

void disposition_put(const char *filename, struct buf *out)
{
    bool exact = true;

    (void)buf_z(out, "attachment; filename=\"");
    for (const char *p = filename; *p; p++) {
        unsigned char c = (unsigned char)*p;

        exact = exact && is_plain(c);
        if ((c & 0xc0) != 0x80) /* the rest of a character has its _ already */
            (void)buf_char(out, is_plain(c) ? (char)c : '_');
    }
    (void)buf_char(out, '"');
    if (exact)
        return;
    (void)buf_z(out, "; filename*=UTF-8''");
    for (const char *p = filename; *p; p++) {
        unsigned char c = (unsigned char)*p;

        if (is_attr_char(c))
            (void)buf_char(out, (char)c);
        else
            put_percent(out, c);
    }
}
