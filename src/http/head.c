/* SPDX-License-Identifier: Apache-2.0 */
#include "http/head.h"

bool head_token_char(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           (c && strchr("!#$%&'*+-.^_`|~", c));
}

int head_hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decodes %XX, once, in place.  A NUL is refused: behind it C code would see another
 * name. %2F becomes a slash like any other: model names have them, ids have none. */
static enum rc decode(char *p, struct str in, bool plus, struct str *ret)
{
    size_t n = 0;

    for (size_t i = 0; i < in.n; i++) {
        char c = in.p[i];

        if (c == '+' && plus) {
            c = ' ';
        } else if (c == '%') {
            if (in.n - i < 3 || head_hex(in.p[i + 1]) < 0 || head_hex(in.p[i + 2]) < 0)
                return RC_INVALID;
            c = (char)(head_hex(in.p[i + 1]) << 4 | head_hex(in.p[i + 2]));
            i += 2;
        }
        if (c == '\0')
            return RC_INVALID;
        p[n++] = c;
    }
    *ret = (struct str){p, n};
    return RC_OK;
}

static enum rc parse_query(char *p, struct str rest, struct head_target *t)
{
    const char *start = rest.p;
    enum rc rc = RC_OK;

    while (rest.n && rc == RC_OK) {
        struct str value = str_cut(&rest, '&'), name;

        if (value.n == 0)
            continue;
        if (t->n == HEAD_QUERY_MAX)
            return RC_LIMIT;
        name = str_cut(&value, '=');
        rc = decode(p + (name.p - start), name, true, &t->query[t->n].name);
        if (rc == RC_OK)
            rc = decode(p + (value.p - start), value, true, &t->query[t->n].value);
        t->n++;
    }
    return rc;
}

/* Proxies may send the whole URL (RFC 9112 3.2.2): what stands before the path goes. */
static struct str without_origin(struct str s)
{
    static const struct str schemes[] = {{"http://", 7}, {"https://", 8}};

    for (size_t i = 0; i < COUNTOF(schemes); i++) {
        size_t n = schemes[i].n;

        if (s.n < n || !str_ieq((struct str){s.p, n}, schemes[i]))
            continue;
        while (n < s.n && s.p[n] != '/')
            n++;
        return (struct str){s.p + n, s.n - n};
    }
    return s;
}

enum rc head_target(char *raw, size_t n, struct head_target *ret)
{
    struct str query = {raw, n}, path;
    bool asked = memchr(raw, '?', n) != NULL;

    ret->n = 0;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)raw[i] <= ' ' || raw[i] == 0x7f)
            return RC_INVALID;
    path = without_origin(str_cut(&query, '?'));
    if (!str_starts(path, STR("/")) && !str_is(path, "*"))
        return RC_INVALID;
    if (decode(raw + (path.p - raw), path, false, &ret->path) != RC_OK)
        return RC_INVALID;
    return asked ? parse_query(raw + (query.p - raw), query, ret) : RC_OK;
}

struct str head_query(const struct head_target *t, const char *name)
{
    for (unsigned i = 0; i < t->n; i++)
        if (str_is(t->query[i].name, name))
            return t->query[i].value;
    return (struct str){NULL, 0};
}

bool head_name_ok(struct str name)
{
    for (size_t i = 0; i < name.n; i++)
        if (!head_token_char(name.p[i]))
            return false;
    return name.n > 0;
}

bool head_value_ok(struct str value)
{
    for (size_t i = 0; i < value.n; i++)
        if (((unsigned char)value.p[i] < ' ' && value.p[i] != '\t') || value.p[i] == 0x7f)
            return false;
    return true;
}

/* What the fields say that decide about framing. */
struct facts {
    unsigned hosts, lengths, encodings;
    struct str length, encoding;
};

static int refuse(const char **ret_why, int status, const char *why)
{
    *ret_why = why;
    return status;
}

static bool gather(const struct head_field *f, size_t n, struct facts *ret)
{
    *ret = (struct facts){0};
    for (size_t i = 0; i < n; i++) {
        if (!head_name_ok(f[i].name) || !head_value_ok(f[i].value))
            return false;
        if (str_ieq(f[i].name, STR("Host"))) {
            ret->hosts++;
        } else if (str_ieq(f[i].name, STR("Content-Length"))) {
            ret->lengths++;
            ret->length = str_trim(f[i].value);
        } else if (str_ieq(f[i].name, STR("Transfer-Encoding"))) {
            ret->encodings++;
            ret->encoding = str_trim(f[i].value);
        }
    }
    return true;
}

static int read_length(struct str length, uint64_t *ret, const char **ret_why)
{
    enum rc rc = str_u64(length, ret);

    if (rc == RC_LIMIT)
        return refuse(ret_why, 413, "The request body is too large.");
    if (rc != RC_OK)
        return refuse(ret_why, 400, "Content-Length is not a number.");
    return 0;
}

/* RFC 9112 6.3 with its every "ought to" taken for "must". */
static int check_lengths(const struct facts *is, bool http11, const char **ret_why)
{
    if (is->encodings && is->lengths)
        return refuse(
            ret_why, 400,
            "A request may have Content-Length or Transfer-Encoding, not both.");
    if (is->encodings > 1 || is->lengths > 1)
        return refuse(ret_why, 400, "The request's length is given more than once.");
    if (is->encodings && (!http11 || !str_ieq(is->encoding, STR("chunked"))))
        return refuse(ret_why, 400, "The only Transfer-Encoding understood is chunked.");
    return 0;
}

int head_framing(const struct head_field *f, size_t n, bool http11,
                 struct head_framing *ret, const char **ret_why)
{
    struct facts is;
    int status;

    *ret = (struct head_framing){false, 0};
    if (!gather(f, n, &is))
        return refuse(ret_why, 400, "A request header is malformed.");
    if (is.hosts > 1 || (http11 && is.hosts == 0))
        return refuse(ret_why, 400, "The request must have exactly one Host header.");
    status = check_lengths(&is, http11, ret_why);
    if (status == 0 && is.lengths)
        status = read_length(is.length, &ret->length, ret_why);
    if (status)
        return status;
    ret->chunked = is.encodings == 1;
    return 0;
}
