/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json: one strict, bounded, zero-copy reader that yields raw spans, and a small writer.
 *
 * Bodies must pass through the program untouched, so the reader never builds a tree: it
 * checks a whole text once (RFC 8259, strict UTF-8, depth, optionally no duplicate keys)
 * and hands back the raw bytes of the members that the caller asked for.
 *
 * Owns:    nothing; every span borrows from the text.
 * Threads: any.
 * Errors:  RC_INVALID with the byte offset and a reason.  No recursion: depth costs no
 * stack.
 */
#pragma once

#include "base/buf.h"
#include "base/str.h"

enum json_type {
    JSON_NONE, /* the member was not there */
    JSON_NULL,
    JSON_FALSE,
    JSON_TRUE,
    JSON_NUMBER,
    JSON_STRING,
    JSON_ARRAY,
    JSON_OBJECT
};

struct json_val {
    enum json_type type;
    uint32_t count; /* elements of an array, members of an object; else 0 */
    struct str raw; /* the exact bytes: a string with its quotes */
};

struct json_limits {
    unsigned depth;   /* deepest nesting allowed; 0 means LIMIT_JSON_DEPTH */
    bool unique_keys; /* refuse an object that names a key twice (compared unescaped) */
};

struct json_err {
    size_t offset;      /* of the first byte that is wrong */
    const char *reason; /* a constant: "unescaped control character in a string" */
    struct str key;     /* raw: the key that is there twice; else .p is NULL */
};

/*
 * One member to look for: `key` in the object found by wants[parent], or in the top
 * object when parent is -1 (a parent must stand before its children).  Keys compare
 * unescaped.  With duplicates allowed the last one counts (as in Python and JavaScript).
 */
struct json_want {
    const char *key;
    int parent;
};

/*
 * Checks the text (one value with white space around it, nothing else; under 1 GiB) and
 * fills vals[i] for wants[i]; n_wants <= 32, wants nest at most 8 deep.  top and e may be
 * NULL.  One pass.  Failed: every value is JSON_NONE.  RC_NOMEM only with unique_keys.
 */
NODISCARD enum rc json_read(struct str text, const struct json_limits *limits,
                            const struct json_want *wants, size_t n_wants,
                            struct json_val *vals, struct json_val *top,
                            struct json_err *e);

/* --- Walking a value that json_read has accepted ------------------------------------ */

struct json_iter {
    const char *_p, *_end;
};

struct json_iter json_iter(const struct json_val *v); /* an object or array; else empty */
/* The next member or element; key->p is NULL in arrays; the key comes raw, with quotes.
 */
bool json_next(struct json_iter *it, struct str *key, struct json_val *v);

/* Unescapes a raw string (with quotes) into dst; RC_LIMIT when over the buffer's maximum,
 * RC_INVALID for a lone surrogate escape (which JSON allows and UTF-8 cannot hold). */
NODISCARD enum rc json_unescape(struct str raw, struct buf *dst);
/* Does the raw string (with quotes) say exactly `want`?  Compares unescaped. */
bool json_str_is(struct str raw, struct str want);
/* Two raw strings: do they say the same?  A lone surrogate is only itself. */
bool json_str_eq(struct str a, struct str b);
/* XXH3 of what a raw string says: equal for two that json_str_eq. */
uint64_t json_str_hash(struct str raw, uint64_t seed);
/* Characters (code points) that a raw string says. */
size_t json_str_len(struct str raw);
/* A whole number without fraction or exponent; RC_INVALID / RC_LIMIT. */
NODISCARD enum rc json_u64(const struct json_val *v, uint64_t *ret);

/* Appends the text without the line feeds and carriage returns between its tokens (inside
 * strings a valid text has none): the value then fits one line, otherwise byte for byte.
 */
enum rc json_one_line(struct buf *dst, struct str valid_text);

/* --- Writing ------------------------------------------------------------------------ */

/* Appends s as a JSON string with quotes; bytes that are not UTF-8 become U+FFFD. */
enum rc json_put_str(struct buf *b, struct str s);

/*
 * A writer that keeps the commas: open, put keys and values, close.  Failures stay in the
 * buf (buf_failed).  Key NULL inside arrays.
 */
struct json_writer {
    struct buf *_b;
    bool _comma;
};

void jw_init(struct json_writer *w, struct buf *b);
void jw_open(struct json_writer *w, const char *key, char bracket); /* '{' or '[' */
void jw_close(struct json_writer *w, char bracket);                 /* '}' or ']' */
void jw_str(struct json_writer *w, const char *key, struct str s);  /* s.p NULL: null */
void jw_z(struct json_writer *w, const char *key, const char *z);   /* NULL or "": null */
void jw_i64(struct json_writer *w, const char *key, int64_t v);
void jw_time(struct json_writer *w, const char *key, int64_t sec); /* 0: null */
void jw_bool(struct json_writer *w, const char *key, bool v);
void jw_null(struct json_writer *w, const char *key);
void jw_raw(struct json_writer *w, const char *key,
            struct str raw); /* valid JSON as it stands */
