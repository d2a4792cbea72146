/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http1: reading HTTP/1.x requests: heads (RFC 9112 2-6) and chunked bodies (7.1).
 *
 * Pure: no I/O, no memory of its own.  The caller keeps the bytes of one request in one
 * place and calls again with more of them; nothing is looked at twice.  Whatever two
 * parsers could read differently is refused: bare line feeds, folded lines, white space
 * before a colon, length and chunking together, several lengths.
 *
 * Owns:    nothing; what it finds are offsets into the caller's bytes, which may move
 *          between calls.
 * Threads: any.
 * Errors:  RC_AGAIN more bytes are needed; RC_INVALID or RC_LIMIT: `refuse` is the HTTP
 *          status that fits and `why` a constant sentence.  A failure is final.
 */
#pragma once

#include "base/str.h"

/* nginx and Apache take 8 KiB lines and 100 fields; SDK clients send about 25 fields and
 * heads under 4 KiB. */
#define HTTP1_HEAD_MAX   65536u
#define HTTP1_TARGET_MAX 8192u
#define HTTP1_FIELDS_MAX 100u

/* Chunk extensions and trailers carry nothing that we read: room for a signature. */
#define HTTP1_CHUNK_EXT_MAX 1024u
#define HTTP1_TRAILER_MAX   8192u

struct http1_span { /* private */
    uint32_t at, n;
};

struct http1_head {
    /* valid after RC_OK */
    uint32_t bytes; /* of the head, with its empty line; the body follows */
    uint32_t n_fields;
    unsigned minor; /* 0: HTTP/1.0; 1: HTTP/1.1 or a later 1.x */
    bool keep_alive;
    bool expect_continue;
    bool chunked;
    bool has_length; /* never with chunked; neither: there is no body */
    uint64_t content_length;

    /* valid after RC_INVALID and RC_LIMIT */
    int refuse;
    const char *why;

    enum rc _rc; /* private from here: RC_OK means nothing was decided yet */
    bool _whole, _blank, _host, _encoded, _close, _keep;
    uint32_t _line, _scan; /* start of the unfinished line; how far it was looked at */
    struct http1_span _method, _target;
    struct http1_span _names[HTTP1_FIELDS_MAX], _values[HTTP1_FIELDS_MAX];
};

void http1_head_init(struct http1_head *h);

/* `have` is everything since the first byte of the request: what was there at the last
 * call and what came since; bytes of the body or of the next request may follow. */
NODISCARD enum rc http1_head_read(struct http1_head *h, struct str have);

/* After RC_OK.  base is where the request's first byte is now. */
struct str http1_method(const struct http1_head *h, const char *base);
struct str http1_target(const struct http1_head *h, const char *base);
/* The target without scheme, authority and query; "*" for OPTIONS *. */
struct str http1_path(const struct http1_head *h, const char *base);
/* The first field of that name (case folded), without white space around; .p NULL: none
 */
struct str http1_field(const struct http1_head *h, const char *base, const char *name);
void http1_field_at(const struct http1_head *h, const char *base, uint32_t i,
                    struct str *ret_name, struct str *ret_value);

/* --- Chunked bodies ----------------------------------------------------------------- */

struct http1_chunks {
    uint64_t body_bytes; /* given out so far */
    int refuse;          /* as above */
    const char *why;

    uint64_t _left, _max; /* private from here */
    uint32_t _state, _seen, _digits;
    enum rc _rc;
};

void http1_chunks_init(struct http1_chunks *c, uint64_t max_body);

/*
 * Takes bytes off the front of *in.  RC_OK with a piece: bytes of the body, borrowed from
 * the input, call again.  RC_OK with an empty piece: the body is over and *in is what
 * follows it.  RC_AGAIN: *in is used up.
 */
NODISCARD enum rc http1_chunks_read(struct http1_chunks *c, struct str *in,
                                    struct str *ret_piece);
