/* SPDX-License-Identifier: Apache-2.0 */
#include "json/jsonl.h"
#include "json/scan.h"
#include "base/mem.h"

/* Read at once; grows only for longer lines.  64 KiB to 1 MiB measured the same; this one
 * leaves room in a second level cache for what judges the lines. */
#define WINDOW ((size_t)256 << 10)

#define BOM   "\xef\xbb\xbf"
#define BOM_N ((size_t)3)

/*
 * buf[at .. end) is read and not handed out yet; buf[at .. seen) holds no line feed.
 * base is the offset of buf[0] in the source.
 */
struct jsonl {
    jsonl_read_fn *read;
    void *ctx;
    size_t max_line;
    char *buf;
    size_t cap, at, seen, end;
    uint64_t base;
    uint64_t skipped; /* where the line that is being passed over starts */
    uint32_t number;
    bool skipping, eof;
    enum rc dead; /* the failure that ended the walk */
};

struct jsonl *jsonl_new(jsonl_read_fn *read, void *ctx, size_t max_line)
{
    struct jsonl *j = mem_new(struct jsonl);

    CHECK(max_line > 0 && max_line < SIZE_MAX / 4);
    j->read = read;
    j->ctx = ctx;
    j->max_line = max_line;
    return j;
}

struct jsonl *jsonl_free(struct jsonl *j)
{
    if (j)
        mem_free(j->buf);
    mem_free(j);
    return NULL;
}

/* Makes room behind `end`: moves what is left to the front, or grows. */
static enum rc make_room(struct jsonl *j)
{
    size_t left = j->end - j->at;
    char *buf;

    if (j->at > 0) {
        if (left)
            memmove(j->buf, j->buf + j->at, left);
        j->base += j->at;
        j->seen -= j->at;
        j->end = left;
        j->at = 0;
    }
    if (j->cap - j->end >= WINDOW / 2)
        return RC_OK;
    buf = mem_resize(j->buf, j->cap ? 2 * j->cap : WINDOW);
    if (!buf)
        return RC_NOMEM;
    j->buf = buf;
    j->cap = j->cap ? 2 * j->cap : WINDOW;
    return RC_OK;
}

static enum rc fill(struct jsonl *j)
{
    size_t got = 0;
    enum rc rc = make_room(j);

    if (rc == RC_OK)
        rc = j->read(j->ctx, j->buf + j->end, j->cap - j->end, j->base + j->end, &got);
    if (rc != RC_OK) /* a source that is gone must not look like its end */
        return j->dead = rc == RC_NOTFOUND ? RC_IO : rc;
    CHECK(got <= j->cap - j->end);
    j->end += got;
    j->eof = got == 0;
    return RC_OK;
}

static void skip_bom(struct jsonl *j)
{
    if (j->base + j->at == 0 && j->end >= BOM_N && memcmp(j->buf, BOM, BOM_N) == 0)
        j->at = BOM_N;
}

static bool is_blank(struct str s)
{
    return scan_space(s.p, s.p + s.n) == s.p + s.n;
}

/* Hands out buf[at .. stop); the next line starts at `next`. */
static enum rc emit(struct jsonl *j, size_t stop, size_t next, struct jsonl_line *ret)
{
    struct str text;

    if (j->number == UINT32_MAX)
        return j->dead = RC_LIMIT;
    if (!j->skipping)
        skip_bom(j);
    if (next > stop && stop > j->at && j->buf[stop - 1] == '\r')
        stop--;
    text = (struct str){j->buf + j->at, stop - j->at};
    *ret = (struct jsonl_line){.text = text,
                               .offset = j->skipping ? j->skipped : j->base + j->at,
                               .number = ++j->number,
                               .too_long = j->skipping || text.n > j->max_line};
    if (ret->too_long)
        ret->text.n = 0;
    else
        ret->blank = is_blank(text);
    j->skipping = false;
    j->at = j->seen = next;
    return RC_OK;
}

/* No line feed yet: is this line over the limit, whatever comes (a CR may still belong to
 * its end)?  Then its bytes are let go. */
static void let_go(struct jsonl *j)
{
    if (!j->skipping) {
        skip_bom(j);
        if (j->end - j->at <= j->max_line + 1)
            return;
        j->skipping = true;
        j->skipped = j->base + j->at;
    }
    j->at = j->seen = j->end;
}

enum rc jsonl_next(struct jsonl *j, struct jsonl_line *ret)
{
    if (j->dead != RC_OK)
        return j->dead;
    for (;;) {
        const char *lf =
            j->end > j->seen ? memchr(j->buf + j->seen, '\n', j->end - j->seen) : NULL;
        if (lf) {
            size_t stop = (size_t)(lf - j->buf);

            return emit(j, stop, stop + 1, ret);
        }
        j->seen = j->end;
        let_go(j);
        if (j->eof) {
            if (j->at == j->end && !j->skipping)
                return RC_NOTFOUND;
            return emit(j, j->end, j->end, ret);
        }
        if (fill(j) != RC_OK)
            return j->dead;
    }
}
