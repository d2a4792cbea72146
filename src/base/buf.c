/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"
#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>

void buf_init(struct buf *b, size_t max)
{
    CHECK(max > 0 && max < SIZE_MAX / 2);
    *b = (struct buf){._max = max};
}

void buf_done(struct buf *b)
{
    size_t max = b->_max;

    mem_free(b->p);
    *b = (struct buf){._max = max};
}

void buf_reset(struct buf *b)
{
    b->n = 0;
    b->_rc = RC_OK;
}

void buf_shrink(struct buf *b, size_t keep)
{
    if (b->_cap > keep)
        buf_done(b);
    else
        buf_reset(b);
}

/* One byte more than asked is kept, so that buf_take can put its NUL without growing. */
static enum rc grow(struct buf *b, size_t need)
{
    size_t cap = b->_cap ? b->_cap : 64;
    char *p;

    while (cap < need + 1)
        cap *= 2;
    if (cap > b->_max + 1)
        cap = b->_max + 1;
    p = mem_resize(b->p, cap);
    if (!p)
        return b->_rc = RC_NOMEM;
    b->p = p;
    b->_cap = cap;
    return RC_OK;
}

enum rc buf_reserve(struct buf *b, size_t n, char **ret_p)
{
    enum rc rc = b->_rc;

    if (rc == RC_OK && (n > b->_max || b->n > b->_max - n))
        rc = b->_rc = RC_LIMIT;
    if (rc == RC_OK && b->n + n + 1 > b->_cap)
        rc = grow(b, b->n + n);
    if (rc != RC_OK)
        return rc;
    *ret_p = b->p + b->n;
    return RC_OK;
}

void buf_commit(struct buf *b, size_t n)
{
    CHECK(b->n + n < b->_cap || (n == 0 && b->n == 0));
    b->n += n;
}

enum rc buf_add(struct buf *b, const void *p, size_t n)
{
    char *at;
    enum rc rc = buf_reserve(b, n, &at);

    if (rc != RC_OK)
        return rc;
    if (n)
        memcpy(at, p, n);
    b->n += n;
    return RC_OK;
}

enum rc buf_str(struct buf *b, struct str s)
{
    return buf_add(b, s.p, s.n);
}

enum rc buf_z(struct buf *b, const char *z)
{
    return buf_add(b, z, strlen(z));
}

enum rc buf_char(struct buf *b, char c)
{
    return buf_add(b, &c, 1);
}

enum rc buf_u64(struct buf *b, uint64_t v)
{
    char tmp[20];
    size_t at = sizeof tmp;

    do {
        tmp[--at] = (char)('0' + v % 10);
        v /= 10;
    } while (v);
    return buf_add(b, tmp + at, sizeof tmp - at);
}

enum rc buf_i64(struct buf *b, int64_t v)
{
    if (v >= 0)
        return buf_u64(b, (uint64_t)v);
    (void)buf_char(b, '-');
    return buf_u64(b, 0 - (uint64_t)v);
}

enum rc buf_fmt(struct buf *b, const char *fmt, ...)
{
    va_list ap, again;
    char *at;
    int n;
    enum rc rc;

    va_start(ap, fmt);
    va_copy(again, ap);
    n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    CHECK(n >= 0);
    rc = buf_reserve(b, (size_t)n, &at);
    if (rc == RC_OK) {
        (void)vsnprintf(at, (size_t)n + 1, fmt, again); /* the NUL has room: see grow() */
        b->n += (size_t)n;
    }
    va_end(again);
    return rc;
}

char *buf_take(struct buf *b, size_t *ret_n)
{
    char *at, *p;

    if (buf_reserve(b, 0, &at) != RC_OK) {
        buf_done(b);
        return NULL;
    }
    p = b->p;
    p[b->n] = '\0';
    if (ret_n)
        *ret_n = b->n;
    *b = (struct buf){._max = b->_max};
    return p;
}
