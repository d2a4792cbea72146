/* SPDX-License-Identifier: Apache-2.0 */
#include "json/json.h"
#include "json/keys.h"
#include "json/scan.h"
#include "base/limits.h"

#define MAX_WANTS 32u
#define MAX_DEPTH 1024u
#define MAX_TEXT  (1u << 30)

/* A slot says where a value goes: `top`, vals[slot - 1], or nowhere. */
#define SLOT_TOP    0u
#define SLOT_NOBODY (MAX_WANTS + 1)

static const char too_short[] = "the text ends too early";

struct frame {
    uint32_t first_key; /* in keys */
    uint32_t count;
    uint8_t slot;
    bool object;
};

/* The stack of frames stands in place of recursion; frame 0 is the text itself. */
struct reader {
    const char *text, *end;
    unsigned depth, max_depth;
    unsigned slot; /* of the value that comes next */
    bool opened;   /* the last value was only a bracket */
    bool unique;
    enum rc rc;
    size_t n_wants;
    const struct json_want *wants;
    struct json_val *vals, *top;
    struct json_err *e;
    uint32_t children[MAX_WANTS + 2]; /* by slot: bit i set when wants[i] lies in it */
    char first[MAX_WANTS]; /* of each other's key: most keys are none of them */
    struct keys keys;
    struct frame frames[MAX_DEPTH + 1];
};

static const char *fail(struct reader *r, const char *at, const char *reason)
{
    r->rc = RC_INVALID;
    *r->e = (struct json_err){.offset = (size_t)(at - r->text),
                              .reason = at == r->end ? too_short : reason};
    return NULL;
}

static struct json_val *place(const struct reader *r, unsigned slot)
{
    if (slot == SLOT_TOP)
        return r->top;
    return slot == SLOT_NOBODY ? NULL : &r->vals[slot - 1];
}

/* --- Strings ------------------------------------------------------------------------ */

/* p: behind the backslash. */
static const char *escape(struct reader *r, const char *p)
{
    if (p == r->end)
        return fail(r, p, too_short);
    switch (*p) {
    case '"':
    case '\\':
    case '/':
    case 'b':
    case 'f':
    case 'n':
    case 'r':
    case 't':
        return p + 1;
    case 'u':
        p++;
        if (scan_hex4(p, r->end) >= 0)
            return p + 4;
        while (p < r->end && scan_hex_digit[(unsigned char)*p])
            p++;
        return fail(r, p, "four hex digits were expected");
    default:
        return fail(r, p, "unknown escape in a string");
    }
}

/* p: behind the opening quote; hands back what is behind the closing one. */
static const char *string(struct reader *r, const char *p, bool *escaped)
{
    const char *end = r->end;
    bool wide = false; /* some was not ASCII, so more will be */

    *escaped = false;
    for (;;) {
        p = wide ? scan_text(p, end) : scan_plain(p, end);
        if (UNLIKELY(p == end))
            return fail(r, p, too_short);
        if (*p == '"')
            return p + 1;
        if (*p == '\\') {
            *escaped = true;
            p = escape(r, p + 1);
            if (UNLIKELY(!p))
                return NULL;
        } else if ((unsigned char)*p < 0x20) {
            return fail(r, p, "unescaped control character in a string");
        } else if (wide) {
            return fail(r, p, "not UTF-8");
        } else {
            wide = true;
        }
    }
}

/* --- Keys --------------------------------------------------------------------------- */

static bool key_is(const char *z, struct str raw, bool escaped)
{
    size_t n = raw.n - 2;

    if (escaped)
        return json_str_is(raw, str_of(z));
    for (size_t i = 0; i < n; i++)
        if (z[i] != raw.p[1 + i]) /* ends at z's NUL too: no key holds one */
            return false;
    return z[n] == '\0';
}

/* wants[i] is there once more: what was found in the one before it does not count. */
static void forget(struct reader *r, unsigned i)
{
    uint32_t gone = 1u << i;

    r->vals[i] = (struct json_val){0};
    for (unsigned k = i + 1; k < r->n_wants; k++) {
        int parent = r->wants[k].parent;

        if (parent < 0 || !(gone >> parent & 1))
            continue;
        gone |= 1u << k;
        r->vals[k] = (struct json_val){0};
    }
}

static unsigned slot_of(struct reader *r, unsigned parent, struct str raw, bool escaped)
{
    uint32_t left = r->children[parent];

    if (left && !escaped)
        left &= scan_marks32(r->first, raw.p[1]);
    for (; left; left &= left - 1) {
        unsigned i = (unsigned)__builtin_ctz(left);

        if (!key_is(r->wants[i].key, raw, escaped))
            continue;
        if (r->vals[i].type != JSON_NONE)
            forget(r, i);
        return i + 1;
    }
    return SLOT_NOBODY;
}

static bool add_key(struct reader *r, const struct frame *f, struct str raw, bool escaped)
{
    r->rc = keys_add(&r->keys, f->first_key, raw, escaped);
    if (r->rc == RC_OK)
        return true;
    *r->e =
        (struct json_err){.offset = (size_t)(raw.p - r->text), .reason = rc_text(r->rc)};
    if (r->rc == RC_CONFLICT) {
        r->rc = RC_INVALID;
        r->e->reason = "a key is there twice in one object";
        r->e->key = raw;
    }
    return false;
}

/* From a key to the value behind its colon. */
static const char *key(struct reader *r, const struct frame *f, const char *p)
{
    struct str raw = {p, 0};
    bool escaped;

    if (p == r->end || *p != '"')
        return fail(r, p, "a key in quotes was expected");
    p = string(r, p + 1, &escaped);
    if (!p)
        return NULL;
    raw.n = (size_t)(p - raw.p);
    if (r->unique && !add_key(r, f, raw, escaped))
        return NULL;
    r->slot = slot_of(r, f->slot, raw, escaped);
    p = scan_space(p, r->end);
    if (p == r->end || *p != ':')
        return fail(r, p, "':' was expected");
    return scan_space(p + 1, r->end);
}

/* --- Values ------------------------------------------------------------------------- */

static const char *literal(struct reader *r, const char *p, const char *word)
{
    for (; *word; p++, word++)
        if (p == r->end || *p != *word)
            return fail(r, p, "a value was expected");
    return p;
}

static bool is_digit(const char *p, const char *end)
{
    return p < end && (unsigned char)(*p - '0') < 10;
}

static const char *digits(struct reader *r, const char *p)
{
    if (!is_digit(p, r->end))
        return fail(r, p, "a digit was expected");
    return scan_digits(p, r->end);
}

static const char *number(struct reader *r, const char *p)
{
    if (*p == '-')
        p++;
    p = p < r->end && *p == '0' ? p + 1 : digits(r, p);
    if (p && p < r->end && *p == '.')
        p = digits(r, p + 1);
    if (p && p < r->end && (*p | 0x20) == 'e') {
        p++;
        if (p < r->end && (*p == '+' || *p == '-'))
            p++;
        p = digits(r, p);
    }
    return p;
}

static const char *open_bracket(struct reader *r, const char *p)
{
    struct json_val *v = place(r, r->slot);
    struct frame *f;

    if (r->depth == r->max_depth)
        return fail(r, p, "nested too deeply");
    f = &r->frames[++r->depth];
    *f = (struct frame){
        .first_key = r->keys.n, .slot = (uint8_t)r->slot, .object = *p == '{'};
    if (v)
        v->raw.p = p;
    r->opened = true;
    return p + 1;
}

static const char *close_bracket(struct reader *r, const char *p)
{
    const struct frame *f = &r->frames[r->depth--];
    struct json_val *v = place(r, f->slot);

    if (r->unique && f->object)
        keys_leave(&r->keys, f->first_key);
    p++;
    if (v) {
        v->type = f->object ? JSON_OBJECT : JSON_ARRAY;
        v->count = f->count;
        v->raw.n = (size_t)(p - v->raw.p);
    }
    return p;
}

/* A whole scalar, or the opening bracket of what is not one. */
static const char *value(struct reader *r, const char *p)
{
    const char *at = p;
    enum json_type type;
    struct json_val *v;
    bool escaped;

    if (UNLIKELY(p == r->end))
        return fail(r, p, too_short);
    switch (*p) {
    case '"':
        p = string(r, p + 1, &escaped);
        type = JSON_STRING;
        break;
    case '{':
    case '[':
        return open_bracket(r, p);
    case 't':
        p = literal(r, p, "true");
        type = JSON_TRUE;
        break;
    case 'f':
        p = literal(r, p, "false");
        type = JSON_FALSE;
        break;
    case 'n':
        p = literal(r, p, "null");
        type = JSON_NULL;
        break;
    default:
        if (*p != '-' && !is_digit(p, r->end))
            return fail(r, p, "a value was expected");
        p = number(r, p);
        type = JSON_NUMBER;
    }
    v = place(r, r->slot);
    if (v && p)
        *v = (struct json_val){.type = type, .raw = {at, (size_t)(p - at)}};
    return p;
}

/* From behind a value or an opening bracket to the start of the next value, closing what
 * ends before it; r->end when the text is through. */
static const char *advance(struct reader *r, const char *p)
{
    bool first = r->opened;

    r->opened = false;
    for (;;) {
        struct frame *f = &r->frames[r->depth];

        p = scan_space(p, r->end);
        if (r->depth == 0)
            return p == r->end ? p : fail(r, p, "text behind the value");
        if (p == r->end)
            return fail(r, p, too_short);
        if (*p == (f->object ? '}' : ']')) {
            p = close_bracket(r, p);
            first = false;
            continue;
        }
        if (!first) {
            if (*p != ',')
                return fail(r, p,
                            f->object ? "',' or '}' was expected"
                                      : "',' or ']' was expected");
            p = scan_space(p + 1, r->end);
        }
        f->count++;
        if (f->object)
            return key(r, f, p);
        r->slot = SLOT_NOBODY;
        return p;
    }
}

static enum rc run(struct reader *r)
{
    const char *p = scan_space(r->text, r->end);

    r->slot = SLOT_TOP;
    do {
        p = value(r, p);
        if (p)
            p = advance(r, p);
    } while (p && (p < r->end || r->depth > 0));
    return r->rc;
}

enum rc json_read(struct str text, const struct json_limits *limits,
                  const struct json_want *wants, size_t n_wants, struct json_val *vals,
                  struct json_val *top, struct json_err *e)
{
    struct reader r; /* its stacks are left as they are: most of them is never touched */
    struct json_val no_top = {0};
    struct json_err no_err = {0};

    r.text = text.p ? text.p : "";
    r.end = r.text + text.n;
    r.depth = 0;
    r.max_depth = limits && limits->depth ? limits->depth : LIMIT_JSON_DEPTH;
    r.opened = false;
    r.unique = limits && limits->unique_keys;
    r.rc = RC_OK;
    r.n_wants = n_wants;
    r.wants = wants;
    r.vals = vals;
    r.top = top ? top : &no_top;
    r.e = e ? e : &no_err;
    CHECK(n_wants <= MAX_WANTS && r.max_depth <= MAX_DEPTH);
    memset(r.children, 0, sizeof r.children);
    for (unsigned i = 0; i < n_wants; i++) {
        CHECK(wants[i].parent < (int)i);
        r.children[wants[i].parent + 1] |= 1u << i;
        r.first[i] = wants[i].key[0];
        vals[i] = (struct json_val){0};
    }
    *r.top = (struct json_val){0};
    keys_init(&r.keys, (struct str){r.text, text.n});
    if (text.n >= MAX_TEXT)
        fail(&r, r.text, "longer than 1 GiB");
    else
        run(&r);
    keys_done(&r.keys);
    if (r.rc != RC_OK) {
        *r.top = (struct json_val){0};
        for (size_t i = 0; i < n_wants; i++)
            vals[i] = (struct json_val){0};
    }
    return r.rc;
}

/* --- Walking ------------------------------------------------------------------------
 * The text was accepted once, so nothing is judged here; but no text, whatever it holds,
 * makes these functions read outside of it. */

static const char *skip_string(const char *p, const char *end)
{
    for (p++;;) {
        p = scan_either(p, end, '"', '\\');
        if (end - p < 2)
            return end;
        if (*p == '"')
            return p + 1;
        p += 2;
    }
}

/* Counts the elements on the way: one more than commas, when there is anything. */
static const char *skip_brackets(const char *p, const char *end, uint32_t *count)
{
    unsigned depth = 0;
    bool any = false;
    uint32_t commas = 0;

    while (p < end) {
        if (*p == '"') {
            any = true;
            p = skip_string(p, end);
            continue;
        }
        if (*p == '[' || *p == '{') {
            any |= depth > 0;
            depth++;
        } else if (*p == ']' || *p == '}') {
            if (--depth == 0) {
                p++;
                break;
            }
        } else if (*p == ',') {
            commas += depth == 1;
        } else if (!scan_is_space(*p)) {
            any = true;
        }
        p++;
    }
    *count = any ? commas + 1 : 0;
    return p;
}

static const char *skip_value(const char *p, const char *end, struct json_val *v)
{
    const char *at = p;
    uint32_t count = 0;

    if (*p == '"') {
        v->type = JSON_STRING;
        p = skip_string(p, end);
    } else if (*p == '{' || *p == '[') {
        v->type = *p == '{' ? JSON_OBJECT : JSON_ARRAY;
        p = skip_brackets(p, end, &count);
    } else {
        v->type = *p == 't'   ? JSON_TRUE
                  : *p == 'f' ? JSON_FALSE
                  : *p == 'n' ? JSON_NULL
                              : JSON_NUMBER;
        do /* at least one: whatever it is, the walk goes on */
            p++;
        while (p < end && *p != ',' && *p != '}' && *p != ']' && !scan_is_space(*p));
    }
    v->count = count;
    v->raw = (struct str){at, (size_t)(p - at)};
    return p;
}

/* _end is the closing bracket: it tells objects from arrays. */
struct json_iter json_iter(const struct json_val *v)
{
    struct json_iter it = {NULL, NULL};

    if (v && (v->type == JSON_OBJECT || v->type == JSON_ARRAY) && v->raw.n >= 2) {
        it._p = v->raw.p + 1;
        it._end = v->raw.p + v->raw.n - 1;
    }
    return it;
}

bool json_next(struct json_iter *it, struct str *ret_key, struct json_val *v)
{
    const char *p = it->_p, *end = it->_end;
    struct str name = {NULL, 0};

    while (p < end && (scan_is_space(*p) || *p == ','))
        p++;
    if (p < end && *end == '}') {
        name.p = p;
        p = skip_string(p, end);
        name.n = (size_t)(p - name.p);
        while (p < end && (scan_is_space(*p) || *p == ':'))
            p++;
    }
    if (p >= end) {
        it->_p = end;
        return false;
    }
    it->_p = skip_value(p, end, v);
    if (ret_key)
        *ret_key = name;
    return true;
}

enum rc json_u64(const struct json_val *v, uint64_t *ret)
{
    return v->type == JSON_NUMBER ? str_u64(v->raw, ret) : RC_INVALID;
}
