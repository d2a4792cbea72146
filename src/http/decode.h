/* SPDX-License-Identifier: Apache-2.0 */
/*
 * decode: a compressed body (Content-Encoding: gzip, RFC 1952; zstd, RFC 8878) on its way
 * to a sink, in constant memory and with a bound on what it may become.
 *
 * Several members or frames one after the other are one body, as both formats say.
 *
 * Owns:    the decoder's window (32 KiB, up to 8 MiB for zstd) and 64 KiB.
 * Threads: one at a time.
 * Errors:  RC_INVALID: damaged, cut off, or followed by something else; RC_LIMIT: it
 *          becomes too large for what came; otherwise what the sink returned.  The first
 *          one stays: nothing reaches the sink after it.
 */
#pragma once

#include "base/err.h"
#include "base/str.h"

struct decode;

enum decode_coding { DECODE_NONE, DECODE_GZIP, DECODE_ZSTD };

typedef enum rc decode_sink_fn(void *ctx, struct str piece);

/* What a Content-Encoding header asks for; not there, empty and "identity": NONE.
 * RC_INVALID: another coding, or several. */
NODISCARD enum rc decode_coding(struct str header, enum decode_coding *ret);

/* n bytes may become max_expansion * n + 1 MiB.  coding is not NONE. */
struct decode *decode_new(enum decode_coding coding, unsigned max_expansion,
                          decode_sink_fn *sink, void *ctx);
struct decode *decode_free(struct decode *d); /* accepts NULL, returns NULL */
NODISCARD enum rc decode_feed(struct decode *d, struct str piece);
/* The body is over. */
NODISCARD enum rc decode_end(struct decode *d);
