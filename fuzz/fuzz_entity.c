/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_entity: the headers around a file's bytes.  The input: eight bytes of a size, a
 * header up to the first LF, a file's name.  A range against the grammar of RFC 9110
 * read once more; tags against a loop over the list; a name's Content-Disposition is
 * printable and says the name again.
 */
/* reaches: src/api/entity.c 76 */
#include "fuzz/lib/quiet.h"

#include "api/entity.h"
#include "api/file_rules.h"
#include "http/head.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char tag[] = "\"0123456789abcdef\"";

/* --- Ranges -------------------------------------------------------------------------- */

static bool digits(const char **p, const char *end, unsigned __int128 *ret)
{
    const char *start = *p;

    for (*ret = 0; *p < end && **p >= '0' && **p <= '9'; ++*p)
        if (*ret < UINT64_MAX)
            *ret = *ret * 10 + (unsigned)(**p - '0');
    return *p > start;
}

struct asked {
    unsigned __int128 first, last; /* far beyond 64 bits at the most */
    bool has_first, has_last;
};

/* bytes=FIRST-[LAST] or bytes=-N. */
static bool slow_read(struct str s, struct asked *a)
{
    const char *p = s.p + 6, *end = s.p + s.n;

    if (s.n < 6 || !str_ieq((struct str){s.p, 6}, STR("bytes=")))
        return false;
    a->has_first = digits(&p, end, &a->first);
    if (p == end || *p++ != '-')
        return false;
    a->has_last = digits(&p, end, &a->last);
    if (p != end || (!a->has_first && !a->has_last))
        return false;
    return !a->has_first || !a->has_last || a->last >= a->first || a->last >= UINT64_MAX;
}

static enum range_verdict slow_range(struct str h, uint64_t size, uint64_t *off,
                                     uint64_t *n)
{
    struct asked a;
    bool to_end;

    if (!slow_read(str_trim(h), &a))
        return RANGE_WHOLE;
    if (a.has_first ? a.first >= size : a.last == 0 || size == 0)
        return RANGE_OUTSIDE;
    to_end = !a.has_first || !a.has_last || a.last >= size;
    *off = a.has_first ? (uint64_t)a.first : a.last < size ? size - (uint64_t)a.last : 0;
    *n = to_end ? size - *off : (uint64_t)(a.last - a.first) + 1;
    return RANGE_PART;
}

static void check_range(struct str header, uint64_t size)
{
    uint64_t off = 0, n = 0, want_off = 0, want_n = 0;
    enum range_verdict got = range_read(header, size, &off, &n);

    CHECK(got == slow_range(header, size, &want_off, &want_n));
    if (got != RANGE_PART)
        return;
    CHECK(n > 0 && off < size && n <= size - off);
    CHECK(off == want_off && n == want_n);
}

/* --- Tags ---------------------------------------------------------------------------- */

static bool slow_listed(struct str h, bool weakly)
{
    size_t at = 0;

    if (str_is(str_trim(h), "*"))
        return true;
    while (at <= h.n && h.n) {
        struct str one = {h.p + at, 0};

        while (at + one.n < h.n && one.p[one.n] != ',')
            one.n++;
        at += one.n + 1;
        one = str_trim(one);
        if (weakly && one.n > 2 && memcmp(one.p, "W/", 2) == 0)
            one = (struct str){one.p + 2, one.n - 2};
        if (str_is(one, tag))
            return true;
    }
    return false;
}

/* --- Names --------------------------------------------------------------------------- */

static int hex(char c)
{
    return c >= 'a' ? c - 'a' + 10 : c >= 'A' ? c - 'A' + 10 : c - '0';
}

/* What filename* says, or filename when it stands alone. */
static void said(struct str header, struct buf *name)
{
    static const char mark[] = "; filename*=UTF-8''";
    const char *at = memmem(header.p, header.n, mark, sizeof mark - 1);
    struct str s = header;

    if (!at) {
        s = (struct str){header.p + 22, header.n - 23}; /* attachment; filename="NAME" */
        (void)buf_str(name, s);
        return;
    }
    s.n -= (size_t)(at + sizeof mark - 1 - s.p);
    s.p = at + sizeof mark - 1;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];

        if (c == '%') {
            CHECK(s.n - i > 2);
            c = (char)(hex(s.p[i + 1]) << 4 | hex(s.p[i + 2]));
            i += 2;
        }
        (void)buf_char(name, c);
    }
}

static void check_name(struct str raw)
{
    struct apierr e;
    struct buf header, name;
    char *clean = NULL;

    if (file_name(raw, "file", &clean, &e) != RC_OK) {
        CHECK(raw.n > 255 && e.message[0]);
        return;
    }
    buf_init(&header, 64 + 4 * strlen(clean)); /* as content.c has it */
    buf_init(&name, 4096);
    disposition_put(clean, &header);
    CHECK(buf_failed(&header) == RC_OK && header.n >= 23);
    for (size_t i = 0; i < header.n; i++)
        CHECK(header.p[i] >= ' ' && header.p[i] <= '~');
    said(buf_peek(&header), &name);
    CHECK(str_is(buf_peek(&name), clean));
    buf_done(&header);
    buf_done(&name);
    mem_free(clean);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct str rest = {(const char *)data + 8, n - 8}, header;
    uint64_t size = 0;

    if (n < 8)
        return 0;
    memcpy(&size, data, 8);
    header = str_cut(&rest, '\n');
    check_range(header, size);
    check_range(header, size & 15);
    CHECK(etag_listed(header, tag) == slow_listed(header, true));
    CHECK(etag_matches(header, tag) == slow_listed(header, false));
    if (!memchr(rest.p, '\0', rest.n)) /* forms let none through */
        check_name(rest);
    return 0;
}
