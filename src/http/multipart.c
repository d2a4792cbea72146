/* SPDX-License-Identifier: Apache-2.0 */
#include "http/multipart.h"
#include "base/buf.h"
#include "base/limits.h"
#include "base/mem.h"
#include "http/head.h"

/*
 * The delimiter is CRLF "--" boundary (RFC 2046 5.1.1).  CR occurs in it at 0 only and LF
 * at 1 only, so a match that breaks off can begin again at the byte that broke it at the
 * earliest: no table of borders is needed, and the bytes of a match under way need not be
 * kept, because they are the delimiter's own.
 */
enum state {
    PREAMBLE, /* before the first delimiter: passed over */
    TAIL,     /* right behind a delimiter */
    TAIL_DASH,
    TAIL_PAD, /* blanks behind a delimiter */
    TAIL_CR,
    HEAD,
    BODY,
    EPILOGUE /* behind the closing delimiter: passed over */
};

#define LIMIT_BOUNDARY 70

struct multipart {
    struct multipart_events ev;
    enum rc rc; /* first failure */
    enum state state;
    bool in_part;
    unsigned parts;
    size_t matched; /* so many bytes of delim are the last ones seen ... */
    size_t from; /* ... of which those from here on were really there: 0 usually, 1 when
                    LF came without CR, 2 when the CRLF is the end of the line before */
    size_t line; /* where in head the line under way begins */
    struct buf head;
    size_t delim_n;
    char delim[4 + LIMIT_BOUNDARY];
};

/* One ";name=value" of a head line; value is decoded in place. */
struct param {
    struct str name;
    struct str value;
};

static bool has_control(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < ' ' || s.p[i] == 0x7f)
            return true;
    return false;
}

static void skip_blanks(struct str *s)
{
    while (s->n && (s->p[0] == ' ' || s->p[0] == '\t'))
        s->p++, s->n--;
}

static struct str take_token(struct str *s)
{
    struct str t = {s->p, 0};

    while (t.n < s->n && head_token_char(s->p[t.n]))
        t.n++;
    s->p += t.n;
    s->n -= t.n;
    return t;
}

/*
 * A quoted value, its quote already taken, unescaped in place.  Clients escape a quote as
 * \" (older curl, Python) or %22 (browsers, undici, httpx), and some send Windows paths
 * with single backslashes: so only \" and \\ are escapes.
 */
static enum rc take_quoted(char *at, size_t n, struct str *ret, size_t *ret_used)
{
    size_t in = 0, out = 0;

    while (in < n && at[in] != '"') {
        if (at[in] == '\\' && in + 1 < n && (at[in + 1] == '"' || at[in + 1] == '\\')) {
            at[out++] = at[in + 1];
            in += 2;
        } else if (n - in >= 3 && memcmp(at + in, "%22", 3) == 0) {
            at[out++] = '"';
            in += 3;
        } else {
            at[out++] = at[in++];
        }
    }
    if (in == n)
        return RC_INVALID;
    *ret = (struct str){at, out};
    *ret_used = in + 1;
    return RC_OK;
}

/* Takes one parameter off *s, whose bytes may be written.  RC_NOTFOUND: nothing left. */
static enum rc take_param(struct str *s, struct param *ret)
{
    size_t used;
    enum rc rc;

    do { /* empty parameters (";;", a last ";") occur */
        skip_blanks(s);
        if (s->n == 0)
            return RC_NOTFOUND;
        if (s->p[0] != ';')
            return RC_INVALID;
        s->p++, s->n--;
        skip_blanks(s);
    } while (s->n == 0 || s->p[0] == ';');
    ret->name = take_token(s);
    if (ret->name.n == 0 || s->n == 0 || s->p[0] != '=')
        return RC_INVALID;
    s->p++, s->n--;
    if (s->n && s->p[0] == '"') {
        char *at = (char *)(uintptr_t)s->p; /* the caller owns these bytes */

        rc = take_quoted(at + 1, s->n - 1, &ret->value, &used);
        if (rc != RC_OK)
            return rc;
        s->p += used + 1, s->n -= used + 1;
        return RC_OK;
    }
    /* Unquoted: more than a token is let through, boundaries with ':' or '=' occur. */
    used = 0;
    while (used < s->n && !strchr(";\" \t", s->p[used]))
        used++;
    ret->value = (struct str){s->p, used};
    s->p += used, s->n -= used;
    return used ? RC_OK : RC_INVALID;
}

/* charset'language'percent-encoded (RFC 5987 3.2), in place.  RC_NOTFOUND: not UTF-8, so
 * the plain filename counts. */
static enum rc decode_extended(struct str v, struct str *ret)
{
    struct str charset = str_cut(&v, '\''), language = str_cut(&v, '\'');
    char *out = (char *)(uintptr_t)v.p; /* the part head's bytes: ours */
    size_t n = 0;

    if (charset.n == 0 || language.p + language.n == v.p)
        return RC_INVALID; /* fewer than two quotes */
    if (!str_ieq(charset, STR("UTF-8")))
        return RC_NOTFOUND;
    for (size_t i = 0; i < v.n; i++) {
        if (v.p[i] != '%') {
            out[n++] = v.p[i];
            continue;
        }
        if (v.n - i < 3 || head_hex(v.p[i + 1]) < 0 || head_hex(v.p[i + 2]) < 0)
            return RC_INVALID;
        out[n++] = (char)(head_hex(v.p[i + 1]) << 4 | head_hex(v.p[i + 2]));
        i += 2;
    }
    *ret = (struct str){out, n};
    return RC_OK;
}

static enum rc set_once(struct str *field, struct str value)
{
    if (field->p)
        return RC_INVALID;
    *field = value;
    return RC_OK;
}

static enum rc parse_disposition(struct str v, struct multipart_part *part)
{
    struct str plain = {0}, extended = {0};
    struct param q;
    enum rc rc;

    if (part->name.p || !str_ieq(take_token(&v), STR("form-data")))
        return RC_INVALID;
    while ((rc = take_param(&v, &q)) == RC_OK) {
        if (str_ieq(q.name, STR("name")))
            rc = set_once(&part->name, q.value);
        else if (str_ieq(q.name, STR("filename")))
            rc = set_once(&plain, q.value);
        else if (str_ieq(q.name, STR("filename*")))
            rc = set_once(&extended, q.value);
        if (rc != RC_OK)
            return rc;
    }
    if (rc != RC_NOTFOUND || !part->name.p)
        return RC_INVALID;
    part->filename = plain;
    if (extended.p && decode_extended(extended, &part->filename) == RC_INVALID)
        return RC_INVALID;
    if (has_control(part->name) || has_control(part->filename))
        return RC_INVALID;
    return RC_OK;
}

static enum rc parse_line(struct str line, struct multipart_part *part)
{
    struct str name = take_token(&line);

    if (name.n == 0 || line.n == 0 || line.p[0] != ':') /* folded lines end here, too */
        return RC_INVALID;
    line.p++, line.n--;
    line = str_trim(line);
    if (str_ieq(name, STR("Content-Disposition")))
        return parse_disposition(line, part);
    if (str_ieq(name, STR("Content-Type")))
        return has_control(line) ? RC_INVALID : set_once(&part->content_type, line);
    /* RFC 7578 4.7: nobody may send encodings, and we would store them undecoded. */
    if (str_ieq(name, STR("Content-Transfer-Encoding")) &&
        !str_ieq(line, STR("binary")) && !str_ieq(line, STR("8bit")) &&
        !str_ieq(line, STR("7bit")))
        return RC_INVALID;
    return RC_OK;
}

static enum rc begin_part(struct multipart *m)
{
    struct multipart_part part = {0};
    struct str rest = buf_peek(&m->head), line;
    enum rc rc;

    while (rest.n) {
        line = str_cut(&rest, '\n');
        line.n--; /* its CR: head_line() has seen it */
        rc = parse_line(line, &part);
        if (rc != RC_OK)
            return rc;
    }
    if (!part.name.p)
        return RC_INVALID;
    m->state = BODY;
    m->in_part = true;
    m->matched = m->from = 2; /* the blank line's CRLF may be the delimiter's */
    return m->ev.begin(m->ev.ctx, &part);
}

/* Collects the head up to its blank line. */
static enum rc step_head(struct multipart *m, struct str *in)
{
    const char *lf = memchr(in->p, '\n', in->n);
    size_t n = lf ? (size_t)(lf - in->p) + 1 : in->n;
    enum rc rc = buf_add(&m->head, in->p, n);
    struct str line;

    if (rc != RC_OK)
        return rc;
    in->p += n, in->n -= n;
    if (!lf)
        return RC_OK;
    line = (struct str){m->head.p + m->line, m->head.n - m->line};
    if (line.n < 2 || line.p[line.n - 2] != '\r')
        return RC_INVALID;
    if (line.n > 2) {
        m->line = m->head.n;
        return RC_OK;
    }
    m->head.n = m->line; /* without the blank line */
    return begin_part(m);
}

static enum rc end_part(struct multipart *m, enum state next)
{
    m->state = next;
    if (!m->in_part)
        return RC_OK;
    m->in_part = false;
    return m->ev.end(m->ev.ctx);
}

static enum rc begin_head(struct multipart *m)
{
    if (m->parts == LIMIT_MULTIPART_PARTS)
        return RC_LIMIT;
    m->parts++;
    buf_reset(&m->head);
    m->line = 0;
    return end_part(m, HEAD);
}

/* What may stand behind a delimiter: "--", or blanks and CRLF.  Nothing else: RFC 2046
 * has any line that begins with a delimiter be one. */
static enum rc step_tail(struct multipart *m, struct str *in)
{
    char c = in->p[0];

    in->p++, in->n--;
    if (m->state == TAIL_CR)
        return c == '\n' ? begin_head(m) : RC_INVALID;
    if (m->state == TAIL_DASH)
        return c == '-' ? end_part(m, EPILOGUE) : RC_INVALID;
    if (c == '-' && m->state == TAIL)
        m->state = TAIL_DASH;
    else if (c == ' ' || c == '\t')
        m->state = TAIL_PAD;
    else if (c == '\r')
        m->state = TAIL_CR;
    else
        return RC_INVALID;
    return RC_OK;
}

static enum rc emit(struct multipart *m, const char *p, size_t n)
{
    if (n == 0 || m->state != BODY)
        return RC_OK;
    return m->ev.data(m->ev.ctx, (struct str){p, n});
}

/* A whole delimiter was seen. */
static enum rc delimiter(struct multipart *m)
{
    /* LF without CR: whoever wrote that took it for a delimiter, and others would. */
    bool lone_lf = m->from == 1;

    m->matched = m->from = 0;
    if (lone_lf)
        return RC_INVALID;
    m->state = TAIL;
    return RC_OK;
}

/* Goes on with the match under way; when it breaks, its bytes were data. */
static enum rc resume_match(struct multipart *m, struct str *in)
{
    const char *held = m->delim + m->from;
    size_t n;

    while (in->n && m->matched < m->delim_n && in->p[0] == m->delim[m->matched])
        in->p++, in->n--, m->matched++;
    if (m->matched == m->delim_n)
        return delimiter(m);
    if (in->n == 0)
        return RC_OK;
    n = m->matched - m->from;
    m->matched = m->from = 0;
    return emit(m, held, n);
}

/* How many bytes at the end of in may begin a delimiter; notes them as matched. */
static size_t hold_back(struct multipart *m, struct str in)
{
    size_t look = u64_min(in.n, m->delim_n - 1);
    const char *end = in.p + in.n, *lf = memrchr(end - look, '\n', look);
    size_t n = lf ? (size_t)(end - lf) : 0;

    if (lf && memcmp(lf, m->delim + 1, n) == 0) {
        m->matched = 1 + n;
        m->from = lf > in.p && lf[-1] == '\r' ? 0 : 1;
    } else if (end[-1] == '\r') {
        m->matched = 1;
        m->from = 0;
    }
    return m->matched - m->from;
}

static enum rc step_data(struct multipart *m, struct str *in)
{
    const char *at;
    size_t n;
    enum rc rc;

    if (m->matched)
        return resume_match(m, in);
    at = memmem(in->p, in->n, m->delim + 1, m->delim_n - 1);
    if (at) {
        m->from = at > in->p && at[-1] == '\r' ? 0 : 1;
        n = (size_t)(at - in->p) - (m->from == 0);
        m->matched = m->delim_n;
    } else {
        n = in->n - hold_back(m, *in);
    }
    rc = emit(m, in->p, n);
    if (rc != RC_OK)
        return rc;
    n += m->matched - m->from;
    in->p += n, in->n -= n;
    return at ? delimiter(m) : RC_OK;
}

static enum rc step(struct multipart *m, struct str *in)
{
    switch (m->state) {
    case PREAMBLE:
    case BODY:
        return step_data(m, in);
    case TAIL:
    case TAIL_DASH:
    case TAIL_PAD:
    case TAIL_CR:
        return step_tail(m, in);
    case HEAD:
        return step_head(m, in);
    case EPILOGUE:
        break;
    }
    in->n = 0;
    return RC_OK;
}

enum rc multipart_feed(struct multipart *m, struct str piece)
{
    while (m->rc == RC_OK && piece.n)
        m->rc = step(m, &piece);
    return m->rc;
}

enum rc multipart_finish(struct multipart *m)
{
    if (m->rc == RC_OK && m->state != EPILOGUE)
        m->rc = RC_INVALID;
    return m->rc;
}

/* 1..70 of bchars, the last of which is no space (RFC 2046 5.1.1). */
static bool boundary_ok(struct str b)
{
    if (b.n == 0 || b.n > LIMIT_BOUNDARY || b.p[b.n - 1] == ' ')
        return false;
    for (size_t i = 0; i < b.n; i++)
        if (!head_token_char(b.p[i]) && (!b.p[i] || !strchr("(),/:=? ", b.p[i])))
            return false;
    return true;
}

static enum rc find_boundary(struct str v, struct str *ret)
{
    struct str boundary = {0};
    struct param q;
    enum rc rc;

    v = str_trim(v);
    if (!str_ieq(take_token(&v), STR("multipart")) || !str_starts(v, STR("/")))
        return RC_INVALID;
    v.p++, v.n--;
    if (!str_ieq(take_token(&v), STR("form-data")))
        return RC_INVALID;
    while ((rc = take_param(&v, &q)) == RC_OK)
        if (str_ieq(q.name, STR("boundary")) && set_once(&boundary, q.value) != RC_OK)
            return RC_INVALID;
    if (rc != RC_NOTFOUND || !boundary.p || !boundary_ok(boundary))
        return RC_INVALID;
    *ret = boundary;
    return RC_OK;
}

enum rc multipart_new(struct str content_type, const struct multipart_events *ev,
                      struct multipart **ret, struct err *e)
{
    char *copy = mem_dup(content_type.p, content_type.n); /* a head line: bounded */
    struct multipart *m;
    struct str boundary;

    if (find_boundary((struct str){copy, content_type.n}, &boundary) != RC_OK) {
        mem_free(copy);
        return err_set(e, RC_INVALID,
                       "the Content-Type is not multipart/form-data with a boundary of 1 "
                       "to %d characters",
                       LIMIT_BOUNDARY);
    }
    m = mem_new(struct multipart);
    m->ev = *ev;
    m->state = PREAMBLE;
    m->matched = m->from = 2; /* a delimiter at the very start needs no CRLF */
    buf_init(&m->head, LIMIT_MULTIPART_HEAD);
    memcpy(m->delim, "\r\n--", 4);
    memcpy(m->delim + 4, boundary.p, boundary.n);
    m->delim_n = 4 + boundary.n;
    mem_free(copy);
    *ret = m;
    return RC_OK;
}

struct multipart *multipart_free(struct multipart *m)
{
    if (!m)
        return NULL;
    buf_done(&m->head);
    mem_free(m);
    return NULL;
}
