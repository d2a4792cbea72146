/* SPDX-License-Identifier: Apache-2.0 */
/*
 * head: what a request's head asks for and how its body is framed; pure.
 *
 * Stricter than the library in front of it: whatever two parsers could read differently
 * is refused (RFC 9112 11.2), so that nothing hides behind a proxy.
 * Owns: nothing; results borrow what was parsed.
 */
#pragma once

#include "base/str.h"

#define HEAD_QUERY_MAX 32 /* parameters; the API's longest call has 4 */

struct head_target {
    struct str path; /* decoded once; begins with '/' or is "*" */
    unsigned n;
    struct {
        struct str name, value;
    } query[HEAD_QUERY_MAX];
};

struct head_field {
    struct str name, value;
};

struct head_framing {
    bool chunked;
    uint64_t length; /* 0 when chunked or when there is no body */
};

/* Decodes in place; ret borrows raw.  RC_INVALID: neither a path nor a URL, an escape
 * that is none, a NUL or a control byte; RC_LIMIT: too many parameters. */
NODISCARD enum rc head_target(char *raw, size_t n, struct head_target *ret);

/* The first of that name; .p NULL: none; .n == 0: present and empty. */
struct str head_query(const struct head_target *t, const char *name);

/* 0, or the HTTP status of the refusal with a sentence in *ret_why. */
int head_framing(const struct head_field *f, size_t n, bool http11,
                 struct head_framing *ret, const char **ret_why);

bool head_token_char(char c); /* tchar of RFC 9110 5.6.2 */
int head_hex(char c);         /* 0..15, -1: no hexadecimal digit */

/* A token of RFC 9110 5.6.2; and text without control bytes but the tab. */
bool head_name_ok(struct str name);
bool head_value_ok(struct str value);
