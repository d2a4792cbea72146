/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json_ref: a slow reader of JSON to check the real one against: one byte at a time, by
 * recursion, straight from the grammar of RFC 8259 and table 3-7 of Unicode.  It builds a
 * tree and shares no code with src/json.
 *
 * ref_parse tells whether the text is good; when not, where it is wrong: at the first
 * byte that can't stand there, except that a bad UTF-8 sequence is told at its first byte
 * and a key that is there twice at its quote.  ref_free for every tree.
 */
#pragma once

#include "json/json.h"

#include <stdlib.h>

struct ref {
    enum json_type type;
    size_t at, end;         /* of the value */
    size_t key_at, key_end; /* raw, with its quotes; equal when it is an element */
    uint32_t *chars;        /* the key, unescaped; lone surrogates as they are */
    size_t n_chars;
    struct ref *kids;
    size_t n_kids;
};

struct ref_reader {
    const unsigned char *p;
    size_t i, n;
    unsigned depth;
    bool unique;
    size_t wrong; /* SIZE_MAX: nothing yet */
};

static bool ref_bad(struct ref_reader *r, size_t at)
{
    if (r->wrong == SIZE_MAX)
        r->wrong = at;
    return false;
}

static int ref_peek(const struct ref_reader *r)
{
    return r->i < r->n ? r->p[r->i] : -1;
}

static bool ref_eat(struct ref_reader *r, int c)
{
    if (ref_peek(r) != c)
        return ref_bad(r, r->i);
    r->i++;
    return true;
}

static void ref_space(struct ref_reader *r)
{
    int c;

    while ((c = ref_peek(r)) == ' ' || c == '\t' || c == '\n' || c == '\r')
        r->i++;
}

static void ref_push(struct ref *key, uint32_t c)
{
    if ((key->n_chars & (key->n_chars - 1)) == 0)
        key->chars = realloc(key->chars,
                             (key->n_chars ? 2 * key->n_chars : 1) * sizeof *key->chars);
    key->chars[key->n_chars++] = c;
}

/* One of the rows of table 3-7, tried one by one. */
static bool ref_utf8(struct ref_reader *r, struct ref *key)
{
    static const struct {
        unsigned char lo[4], hi[4];
        size_t n;
    } rows[] = {
        {{0xc2, 0x80}, {0xdf, 0xbf}, 2},
        {{0xe0, 0xa0, 0x80}, {0xe0, 0xbf, 0xbf}, 3},
        {{0xe1, 0x80, 0x80}, {0xec, 0xbf, 0xbf}, 3},
        {{0xed, 0x80, 0x80}, {0xed, 0x9f, 0xbf}, 3},
        {{0xee, 0x80, 0x80}, {0xef, 0xbf, 0xbf}, 3},
        {{0xf0, 0x90, 0x80, 0x80}, {0xf0, 0xbf, 0xbf, 0xbf}, 4},
        {{0xf1, 0x80, 0x80, 0x80}, {0xf3, 0xbf, 0xbf, 0xbf}, 4},
        {{0xf4, 0x80, 0x80, 0x80}, {0xf4, 0x8f, 0xbf, 0xbf}, 4},
    };

    for (size_t row = 0; row < COUNTOF(rows); row++) {
        uint32_t c;
        size_t k = 0;

        while (k < rows[row].n && r->i + k < r->n && r->p[r->i + k] >= rows[row].lo[k] &&
               r->p[r->i + k] <= rows[row].hi[k])
            k++;
        if (k < rows[row].n)
            continue;
        c = r->p[r->i] & (k == 2 ? 0x1fu : k == 3 ? 0x0fu : 0x07u);
        for (size_t m = 1; m < k; m++)
            c = c << 6 | (r->p[r->i + m] & 0x3fu);
        ref_push(key, c);
        r->i += k;
        return true;
    }
    return ref_bad(r, r->i);
}

static bool ref_escape(struct ref_reader *r, struct ref *key)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    int c = ref_peek(r);
    const char *at = c > 0 ? strchr(from, c) : NULL;
    uint32_t v = 0;

    if (at) {
        ref_push(key, (unsigned char)to[at - from]);
        r->i++;
        return true;
    }
    if (!ref_eat(r, 'u'))
        return false;
    for (int k = 0; k < 4; k++, r->i++) {
        c = ref_peek(r);
        if (c >= '0' && c <= '9')
            v = v * 16 + (uint32_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            v = v * 16 + (uint32_t)(c - 'a' + 10);
        else if (c >= 'A' && c <= 'F')
            v = v * 16 + (uint32_t)(c - 'A' + 10);
        else
            return ref_bad(r, r->i);
    }
    ref_push(key, v);
    return true;
}

/* Two escaped halves become one character; halves from different sources never meet. */
static bool ref_string(struct ref_reader *r, struct ref *key)
{
    size_t half_end = SIZE_MAX; /* where an escaped high half ended */

    if (!ref_eat(r, '"'))
        return false;
    for (;;) {
        int c = ref_peek(r);
        size_t start = r->i;

        if (c < 0x20)
            return ref_bad(r, r->i);
        r->i++;
        if (c == '"')
            return true;
        if (c == '\\') {
            if (!ref_escape(r, key))
                return false;
        } else if (c >= 0x80) {
            r->i--;
            if (!ref_utf8(r, key))
                return false;
        } else {
            ref_push(key, (uint32_t)c);
        }
        if (half_end == start && key->chars[key->n_chars - 1] >= 0xdc00 &&
            key->chars[key->n_chars - 1] <= 0xdfff) {
            key->n_chars--;
            key->chars[key->n_chars - 1] =
                0x10000 + ((key->chars[key->n_chars - 1] - 0xd800) << 10) +
                (key->chars[key->n_chars] - 0xdc00);
            half_end = SIZE_MAX;
        } else if (key->chars[key->n_chars - 1] >= 0xd800 &&
                   key->chars[key->n_chars - 1] <= 0xdbff) {
            half_end = r->i;
        }
    }
}

static bool ref_is_digit(const struct ref_reader *r)
{
    return ref_peek(r) >= '0' && ref_peek(r) <= '9';
}

static bool ref_digits(struct ref_reader *r)
{
    if (!ref_is_digit(r))
        return ref_bad(r, r->i);
    while (ref_is_digit(r))
        r->i++;
    return true;
}

static bool ref_number(struct ref_reader *r)
{
    if (ref_peek(r) == '-')
        r->i++;
    if (ref_peek(r) == '0')
        r->i++;
    else if (!ref_digits(r))
        return false;
    if (ref_peek(r) == '.') {
        r->i++;
        if (!ref_digits(r))
            return false;
    }
    if (ref_peek(r) == 'e' || ref_peek(r) == 'E') {
        r->i++;
        if (ref_peek(r) == '+' || ref_peek(r) == '-')
            r->i++;
        if (!ref_digits(r))
            return false;
    }
    return true;
}

static bool ref_word(struct ref_reader *r, const char *word)
{
    for (; *word; word++)
        if (!ref_eat(r, *word))
            return false;
    return true;
}

static void ref_free(struct ref *v)
{
    for (size_t i = 0; i < v->n_kids; i++)
        ref_free(&v->kids[i]);
    free(v->kids);
    free(v->chars);
    *v = (struct ref){0};
}

static bool ref_same_key(const struct ref *a, const struct ref *b)
{
    return a->n_chars == b->n_chars &&
           (a->n_chars == 0 ||
            memcmp(a->chars, b->chars, a->n_chars * sizeof *a->chars) == 0);
}

static bool ref_value(struct ref_reader *r, struct ref *v, unsigned depth);

static struct ref *ref_add_kid(struct ref *v)
{
    if ((v->n_kids & (v->n_kids - 1)) == 0)
        v->kids = realloc(v->kids, (v->n_kids ? 2 * v->n_kids : 1) * sizeof *v->kids);
    v->kids[v->n_kids] = (struct ref){0};
    return &v->kids[v->n_kids++];
}

static bool ref_key(struct ref_reader *r, struct ref *v, struct ref *kid)
{
    kid->key_at = r->i;
    if (!ref_string(r, kid))
        return false;
    kid->key_end = r->i;
    for (size_t i = 0; r->unique && i + 1 < v->n_kids; i++)
        if (ref_same_key(&v->kids[i], kid))
            return ref_bad(r, kid->key_at);
    ref_space(r);
    if (!ref_eat(r, ':'))
        return false;
    ref_space(r);
    return true;
}

static bool ref_bracket(struct ref_reader *r, struct ref *v, unsigned depth)
{
    bool object = r->p[r->i] == '{';

    if (depth == r->depth)
        return ref_bad(r, r->i);
    v->type = object ? JSON_OBJECT : JSON_ARRAY;
    r->i++;
    ref_space(r);
    while (ref_peek(r) != (object ? '}' : ']')) {
        struct ref *kid;

        if (v->n_kids > 0) {
            if (!ref_eat(r, ','))
                return false;
            ref_space(r);
        }
        kid = ref_add_kid(v);
        if (object && !ref_key(r, v, kid))
            return false;
        if (!ref_value(r, kid, depth + 1))
            return false;
        ref_space(r);
    }
    r->i++;
    return true;
}

static bool ref_value(struct ref_reader *r, struct ref *v, unsigned depth)
{
    struct ref text = {0};
    bool ok;

    v->at = r->i;
    switch (ref_peek(r)) {
    case '{':
    case '[':
        ok = ref_bracket(r, v, depth);
        break;
    case '"':
        v->type = JSON_STRING;
        ok = ref_string(r, &text);
        ref_free(&text);
        break;
    case 't':
        v->type = JSON_TRUE;
        ok = ref_word(r, "true");
        break;
    case 'f':
        v->type = JSON_FALSE;
        ok = ref_word(r, "false");
        break;
    case 'n':
        v->type = JSON_NULL;
        ok = ref_word(r, "null");
        break;
    default:
        v->type = JSON_NUMBER;
        ok = ref_number(r);
    }
    v->end = r->i;
    return ok;
}

static bool ref_parse(struct str text, unsigned depth, bool unique, struct ref *ret,
                      size_t *ret_wrong)
{
    struct ref_reader r = {.p = (const unsigned char *)text.p,
                           .n = text.n,
                           .depth = depth,
                           .unique = unique,
                           .wrong = SIZE_MAX};
    bool ok;

    *ret = (struct ref){0};
    ref_space(&r);
    ok = ref_value(&r, ret, 0);
    if (ok) {
        ref_space(&r);
        ok = r.i == r.n || ref_bad(&r, r.i);
    }
    *ret_wrong = r.wrong;
    return ok;
}

/* What the string text[at .. end) says, as UTF-8; false: it holds a lone surrogate. */
static bool ref_says(struct str text, size_t at, size_t end, struct buf *dst)
{
    struct ref_reader r = {
        .p = (const unsigned char *)text.p, .i = at, .n = end, .wrong = SIZE_MAX};
    struct ref s = {0};
    bool whole = ref_string(&r, &s);

    for (size_t i = 0; whole && i < s.n_chars; i++) {
        uint32_t c = s.chars[i];

        whole = c < 0xd800 || c > 0xdfff;
        if (c < 0x80) {
            (void)buf_char(dst, (char)c);
            continue;
        }
        for (int shift = c < 0x800     ? 6
                         : c < 0x10000 ? 12
                                       : 18,
                 lead = 1;
             shift >= 0; shift -= 6, lead = 0)
            (void)buf_char(dst, (char)(lead ? (c < 0x800     ? 0xc0
                                               : c < 0x10000 ? 0xe0
                                                             : 0xf0) |
                                                  c >> shift
                                            : 0x80 | (c >> shift & 0x3f)));
    }
    ref_free(&s);
    return whole;
}

/* --- The comparison that tests and fuzzing share: NULL, or what differs -------------
 */

static const char *ref_compare_strings(struct str text, const struct ref *v)
{
    struct str raw = {text.p + v->at, v->end - v->at};
    struct buf want, got;
    const char *differs = NULL;
    enum rc rc;

    buf_init(&want, text.n * 4 + 16);
    buf_init(&got, text.n * 4 + 16);
    rc = json_unescape(raw, &got);
    if (ref_says(text, v->at, v->end, &want) != (rc == RC_OK))
        differs = "json_unescape judges a lone surrogate";
    else if (rc == RC_OK && !str_eq(buf_peek(&got), buf_peek(&want)))
        differs = "json_unescape says something else";
    else if (rc != RC_OK && got.n > 0)
        differs = "json_unescape left something behind";
    else if (rc == RC_OK && !json_str_is(raw, buf_peek(&want)))
        differs = "json_str_is does not know it again";
    buf_done(&want);
    buf_done(&got);
    return differs;
}

/* Walks the value with json_next and compares all of it with the tree. */
static const char *ref_compare(struct str text, const struct ref *want,
                               const struct json_val *got)
{
    struct json_iter it = json_iter(got);
    struct json_val v;
    struct str key;
    const char *differs = NULL;

    if (got->type != want->type)
        return "the type of a value";
    if (got->raw.p != text.p + want->at || got->raw.n != want->end - want->at)
        return "the bytes of a value";
    if (got->count != want->n_kids)
        return "the count of elements";
    if (got->type == JSON_STRING)
        return ref_compare_strings(text, want);
    for (size_t i = 0; i < want->n_kids && !differs; i++) {
        const struct ref *kid = &want->kids[i];

        if (!json_next(&it, &key, &v))
            return "json_next ends early";
        if (got->type == JSON_ARRAY
                ? key.p != NULL
                : key.p != text.p + kid->key_at || key.n != kid->key_end - kid->key_at)
            return "the bytes of a key";
        differs = ref_compare(text, kid, &v);
    }
    if (!differs && json_next(&it, &key, &v))
        return "json_next goes on";
    return differs;
}

/* The whole check of one text: verdict, place of the fault, and all values. */
static inline const char *ref_check(struct str text, unsigned depth, bool unique)
{
    struct json_limits limits = {.depth = depth, .unique_keys = unique};
    struct json_val top;
    struct json_err e = {0};
    struct ref tree;
    size_t wrong;
    bool good = ref_parse(text, depth, unique, &tree, &wrong);
    enum rc rc = json_read(text, &limits, NULL, 0, NULL, &top, &e);
    const char *differs = NULL;

    if (rc != (good ? RC_OK : RC_INVALID))
        differs = good ? "a good text is refused" : "a bad text is accepted";
    else if (good)
        differs = ref_compare(text, &tree, &top);
    else if (e.offset != wrong)
        differs = "the place of the fault";
    else if (!e.reason || top.type != JSON_NONE)
        differs = "what a failure leaves";
    ref_free(&tree);
    return differs;
}
