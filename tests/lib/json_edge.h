/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json_edge: texts for the reader at the end of the world.
 *
 * Each text lies directly before a page that may not be touched, so that one byte read
 * too much is a crash; its start takes every alignment by its length.
 * agree() compares the real reader with the slow one (tests/lib/json_ref.h).
 */
#pragma once

#include "tests/lib/json_ref.h"
#include "tests/lib/t.h"
#include "base/limits.h"

#include <stdio.h>
#include <sys/mman.h>

#define AREA ((size_t)1 << 20)

static inline struct str at_the_edge(struct str text)
{
    static char *area;

    if (!area) {
        area = mmap(NULL, AREA + 4096, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (area == MAP_FAILED || mprotect(area + AREA, 4096, PROT_NONE) < 0)
            FAIL("mmap");
    }
    OK(text.n <= AREA);
    if (text.n)
        memcpy(area + AREA - text.n, text.p, text.n);
    return (struct str){area + AREA - text.n, text.n};
}

static inline void print_escaped(struct str text)
{
    char line[1024];
    size_t n = 0;

    for (size_t i = 0; i < text.n && n < sizeof line - 8; i++) {
        unsigned char c = (unsigned char)text.p[i];

        n += (size_t)snprintf(line + n, sizeof line - n,
                              c >= 0x20 && c < 0x7f ? "%c" : "<%02x>", c);
    }
    t_note("text: %.*s", (int)n, line);
}

/* The real reader and the slow one agree about the text, keys unique or not. */
static inline void agree_to(struct str text, unsigned depth)
{
    struct str edge = at_the_edge(text);

    for (int unique = 0; unique < 2; unique++) {
        const char *differs = ref_check(edge, depth, unique);

        if (differs) {
            print_escaped(text);
            FAIL("unique %d: %s", unique, differs);
        }
    }
}

static inline void agree(struct str text)
{
    agree_to(text, LIMIT_JSON_DEPTH);
}

static inline bool good(struct str text)
{
    return json_read(at_the_edge(text), NULL, NULL, 0, NULL, NULL, NULL) == RC_OK;
}

static uint64_t dice_state;

static inline unsigned dice(unsigned n)
{
    dice_state ^= dice_state << 13;
    dice_state ^= dice_state >> 7;
    dice_state ^= dice_state << 17;
    return (unsigned)(dice_state >> 33) % n;
}

static inline void random_text(struct buf *b, unsigned depth)
{
    static const char *const scalars[] = {
        "0",
        "-1.5e3",
        "12345678901234567890",
        "true",
        "null",
        "false",
        "\"\"",
        "\"plain text\"",
        "\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x99\x82\"",
        "\"\\u00e4\\n\\ud800\"",
        "\"a much longer string that fills several blocks \xe4\xb8\xad and ends\""};
    static const char *const keys[] = {"\"a\"",
                                       "\"b\"",
                                       "\"\\u0061\"",
                                       "\"\xc3\xa4\"",
                                       "\"\\u00e4\"",
                                       "\"longer key one\"",
                                       "\"longer key two\"",
                                       "\"\"",
                                       "\"k%u\"",
                                       "\"k%u\"",
                                       "\"k%u\"",
                                       "\"k%u\""};
    bool object = dice(2);
    unsigned n = dice(12) == 0 ? 15 + dice(30) : dice(5);

    if (depth == 0 || dice(3) == 0) {
        (void)buf_z(b, scalars[dice(COUNTOF(scalars))]);
        return;
    }
    (void)buf_char(b, object ? '{' : '[');
    for (unsigned i = 0; i < n; i++) {
        const char *key = keys[dice(COUNTOF(keys))];

        (void)buf_z(b, i ? dice(8) ? "," : " ,\t" : "");
        if (object) {
            if (strchr(key, '%'))
                (void)buf_fmt(b, "\"k%u\"", dice(200));
            else
                (void)buf_z(b, key);
            (void)buf_z(b, dice(8) ? ":" : "\n: ");
        }
        random_text(b, depth - 1);
    }
    (void)buf_char(b, object ? '}' : ']');
}
