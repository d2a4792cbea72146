/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jsonl: walk the lines of a JSON Lines file without loading it.
 *
 * Owns:    one window over the source, grown up to the line limit; nothing else.
 * Threads: one scanner, one thread.
 * Errors:  a line over the limit comes with `too_long` set and text.n == 0: the rest of
 * it is passed over and the walk goes on.  RC_IO (or whatever read returned): the scanner
 *          is dead.  RC_NOTFOUND is the end of the file and nothing else: when read
 *          returns it, RC_IO comes out.  RC_LIMIT: more than 2^32 - 2 lines.
 *
 * CRLF and LF end a line, the last one needs neither; a UTF-8 byte order mark at the
 * start of the file is passed over.  Blank lines (white space only) are reported like
 * others: the caller counts them and passes over.
 */
#pragma once

#include "base/str.h"

struct jsonl;

/* Fills dst with up to cap bytes from offset off; *ret_n == 0 is the end of the source.
 */
typedef enum rc jsonl_read_fn(void *ctx, char *dst, size_t cap, uint64_t off,
                              size_t *ret_n);

struct jsonl_line {
    struct str text; /* without its line ending; valid until the next call */
    uint64_t offset; /* of the text's first byte in the file */
    uint32_t number; /* physical line, from 1 */
    bool too_long;   /* over max_line */
    bool blank;
};

struct jsonl *jsonl_new(jsonl_read_fn *read, void *ctx,
                        size_t max_line);  /* borrows ctx */
struct jsonl *jsonl_free(struct jsonl *j); /* accepts NULL, returns NULL */
NODISCARD enum rc jsonl_next(struct jsonl *j, struct jsonl_line *ret);
