/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_head: what a request's head asks for.  The input is a head: its target and its
 * fields go through http/head.h, and the whole through the project's other reader
 * (http/http1.h).  Where both take it they must agree on how the body is framed: what two
 * parsers read differently is how requests are smuggled.
 */
/* reaches: src/http/head.c 42 */
#include "fuzz/lib/quiet.h"

#include "http/head.h"
#include "http/http1.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { FIELDS = HTTP1_FIELDS_MAX };

/* --- Targets ------------------------------------------------------------------------- */

static int slow_hex(char c)
{
    static const char digits[] = "0123456789abcdef", upper[] = "0123456789ABCDEF";
    const char *at = c ? strchr(digits, c) : NULL;

    if (!at && c)
        at = strchr(upper, c) ? digits + (strchr(upper, c) - upper) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* true: `got` is `raw` with its escapes undone. */
static bool says(struct str raw, struct str got, bool plus)
{
    size_t k = 0;

    for (size_t i = 0; i < raw.n; i++, k++) {
        char c = raw.p[i];

        if (c == '%') {
            if (raw.n - i < 3 || slow_hex(raw.p[i + 1]) < 0 || slow_hex(raw.p[i + 2]) < 0)
                return false;
            c = (char)(slow_hex(raw.p[i + 1]) * 16 + slow_hex(raw.p[i + 2]));
            i += 2;
        } else if (c == '+' && plus) {
            c = ' ';
        }
        if (k >= got.n || got.p[k] != c || c == '\0')
            return false;
    }
    return k == got.n;
}

static void check_query(struct str query, const struct head_target *t)
{
    unsigned i = 0;

    while (query.n) {
        struct str value = str_cut(&query, '&'), name;

        if (value.n == 0)
            continue;
        name = str_cut(&value, '=');
        CHECK(i < t->n);
        CHECK(says(name, t->query[i].name, true));
        CHECK(says(value, t->query[i].value, true));
        i++;
    }
    CHECK(i == t->n && i <= HEAD_QUERY_MAX);
}

static void check_target(struct str raw)
{
    char *copy = mem_dup(raw.p ? raw.p : "", raw.n);
    struct str rest = raw, path = str_cut(&rest, '?');
    struct head_target t;

    if (raw.n && head_target(copy, raw.n, &t) == RC_OK) {
        CHECK(t.path.n > 0 && (t.path.p[0] == '/' || str_is(t.path, "*")));
        CHECK(!memchr(t.path.p, '\0', t.path.n));
        if (path.n && path.p[0] == '/')
            CHECK(says(path, t.path, false));
        check_query(rest, &t);
    }
    mem_free(copy);
}

/* --- Framing ------------------------------------------------------------------------- */

static void check_framing(const struct http1_head *h, struct str all)
{
    struct head_field f[FIELDS];
    struct head_framing framing;
    const char *why = NULL;
    int status;

    for (uint32_t i = 0; i < h->n_fields; i++)
        http1_field_at(h, all.p, i, &f[i].name, &f[i].value);
    status = head_framing(f, h->n_fields, h->minor > 0, &framing, &why);
    if (status) {
        CHECK(status >= 400 && status < 500 && why && *why);
        return;
    }
    CHECK(framing.chunked == h->chunked);
    CHECK(framing.length == (h->has_length ? h->content_length : 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct str all = {(const char *)data, n}, rest = all, line;
    struct http1_head h;
    enum rc rc;

    line = str_cut(&rest, '\n');
    (void)str_cut(&line, ' ');
    check_target(str_cut(&line, ' '));
    http1_head_init(&h);
    rc = http1_head_read(&h, all);
    if (rc == RC_OK)
        check_framing(&h, all);
    return 0;
}
