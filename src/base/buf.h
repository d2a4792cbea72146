/* SPDX-License-Identifier: Apache-2.0 */
/*
 * buf: growable bytes that cannot be made without a maximum.
 *
 * Owns:    its memory, until buf_done() or buf_take().
 * Threads: one at a time.
 * Errors:  appends return RC_LIMIT (over the maximum; nothing was appended) or RC_NOMEM.
 *          A failed buffer stays failed (buf_failed), so a chain of appends may be
 * checked once at its end: that is why the appends may be ignored.
 */
#pragma once

#include "base/str.h"

struct buf {
    char *p;     /* read only from outside; may be NULL when n == 0 */
    size_t n;    /* bytes held */
    size_t _cap; /* private */
    size_t _max; /* private */
    enum rc _rc; /* private: first failure */
};

void buf_init(struct buf *b, size_t max); /* no memory is taken before the first append */
void buf_done(struct buf *b);  /* frees; may run twice; b can be init'ed again */
void buf_reset(struct buf *b); /* empties, forgets a failure, keeps the memory */
void buf_shrink(struct buf *b, size_t keep); /* gives memory back when more than keep is
                                                held; empties the buffer */
enum rc buf_add(struct buf *b, const void *p, size_t n);
enum rc buf_str(struct buf *b, struct str s);
enum rc buf_z(struct buf *b, const char *z);
enum rc buf_char(struct buf *b, char c);
enum rc buf_u64(struct buf *b, uint64_t v); /* decimal */
enum rc buf_i64(struct buf *b, int64_t v);
PRINTF_FMT(2, 3) enum rc buf_fmt(struct buf *b, const char *fmt, ...);

/* Makes room for n more bytes and gives their place; they count only after buf_commit. */
NODISCARD enum rc buf_reserve(struct buf *b, size_t n, char **ret_p);
void buf_commit(struct buf *b, size_t n);

static inline enum rc buf_failed(const struct buf *b)
{
    return b->_rc;
}

static inline struct str buf_peek(const struct buf *b)
{
    return (struct str){b->p, b->n};
}

/* Ownership of the bytes passes to the caller (mem_free), with a NUL behind them that
 * does not count; NULL when the buffer had failed.  b is empty afterwards. */
NODISCARD char *buf_take(struct buf *b, size_t *ret_n);
