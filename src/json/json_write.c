/* SPDX-License-Identifier: Apache-2.0 */
/* json: the writer (json_put_str, json_one_line, jw_...). */
#include "json/json.h"
#include "json/scan.h"

#include <stdio.h>

enum rc json_one_line(struct buf *dst, struct str text)
{
    const char *p = text.p, *end = text.p + text.n;

    while (p < end) {
        const char *stop = scan_either(p, end, '\n', '\r');

        (void)buf_add(dst, p, (size_t)(stop - p));
        for (p = stop; p < end && (*p == '\n' || *p == '\r');)
            p++;
    }
    return buf_failed(dst);
}

static void put_control(struct buf *b, unsigned char c)
{
    static const char letters[] = "btn?fr"; /* 0x08 to 0x0d; 0x0b has none */
    char hex[8];

    if (c >= 0x08 && c <= 0x0d && c != 0x0b) {
        (void)buf_char(b, '\\');
        (void)buf_char(b, letters[c - 0x08]);
    } else {
        (void)snprintf(hex, sizeof hex, "\\u%04x", c);
        (void)buf_z(b, hex);
    }
}

/* What scan_plain stopped at; hands back what is behind it. */
static const char *put_special(struct buf *b, const char *p, const char *end)
{
    unsigned n;

    if (*p == '"' || *p == '\\') {
        (void)buf_char(b, '\\');
        (void)buf_char(b, *p);
        return p + 1;
    }
    if ((unsigned char)*p < 0x20) {
        put_control(b, (unsigned char)*p);
        return p + 1;
    }
    n = scan_utf8(p, end);
    if (n)
        (void)buf_add(b, p, n);
    else
        (void)buf_z(b, "\xef\xbf\xbd"); /* U+FFFD */
    return p + (n ? n : 1);
}

enum rc json_put_str(struct buf *b, struct str s)
{
    const char *p = s.p, *end = s.p + s.n;

    (void)buf_char(b, '"');
    while (p < end) {
        const char *stop = scan_plain(p, end);

        (void)buf_add(b, p, (size_t)(stop - p));
        p = stop < end ? put_special(b, stop, end) : end;
    }
    return buf_char(b, '"');
}

void jw_init(struct json_writer *w, struct buf *b)
{
    *w = (struct json_writer){._b = b};
}

/* The comma before and the key of what comes next. */
static void lead(struct json_writer *w, const char *key)
{
    if (w->_comma)
        (void)buf_char(w->_b, ',');
    w->_comma = true;
    if (key) {
        (void)json_put_str(w->_b, str_of(key));
        (void)buf_char(w->_b, ':');
    }
}

void jw_open(struct json_writer *w, const char *key, char bracket)
{
    lead(w, key);
    (void)buf_char(w->_b, bracket);
    w->_comma = false;
}

void jw_close(struct json_writer *w, char bracket)
{
    (void)buf_char(w->_b, bracket);
    w->_comma = true;
}

void jw_raw(struct json_writer *w, const char *key, struct str raw)
{
    lead(w, key);
    (void)buf_str(w->_b, raw);
}

void jw_null(struct json_writer *w, const char *key)
{
    jw_raw(w, key, STR("null"));
}

void jw_str(struct json_writer *w, const char *key, struct str s)
{
    if (!s.p) {
        jw_null(w, key);
        return;
    }
    lead(w, key);
    (void)json_put_str(w->_b, s);
}

void jw_z(struct json_writer *w, const char *key, const char *z)
{
    jw_str(w, key, z && *z ? str_of(z) : (struct str){NULL, 0});
}

void jw_i64(struct json_writer *w, const char *key, int64_t v)
{
    lead(w, key);
    (void)buf_i64(w->_b, v);
}

void jw_time(struct json_writer *w, const char *key, int64_t sec)
{
    if (sec)
        jw_i64(w, key, sec);
    else
        jw_null(w, key);
}

void jw_bool(struct json_writer *w, const char *key, bool v)
{
    jw_raw(w, key, v ? STR("true") : STR("false"));
}
