/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_multipart: a form fed whole and fed in pieces gives the same events and the same
 * end.  The input: a byte that seeds the cuts, the Content-Type up to the first LF, the
 * body.
 */
/* reaches: src/http/multipart.c 58 */
#include "base/buf.h"
#include "http/multipart.h"

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct log {
    struct buf text;
    bool in_part;
};

static void add(struct buf *b, struct str s)
{
    (void)buf_u64(b, s.p ? s.n : 999999);
    (void)buf_char(b, ':');
    (void)buf_str(b, s);
}

static enum rc on_begin(void *ctx, const struct multipart_part *part)
{
    struct log *l = ctx;

    CHECK(!l->in_part);
    CHECK(part->name.p);
    CHECK(!memchr(part->name.p, '\0', part->name.n));
    l->in_part = true;
    (void)buf_char(&l->text, '[');
    add(&l->text, part->name);
    add(&l->text, part->filename);
    add(&l->text, part->content_type);
    return RC_OK;
}

static enum rc on_data(void *ctx, struct str piece)
{
    struct log *l = ctx;

    CHECK(l->in_part);
    CHECK(piece.n > 0);
    (void)buf_str(&l->text, piece);
    return RC_OK;
}

static enum rc on_end(void *ctx)
{
    struct log *l = ctx;

    CHECK(l->in_part);
    l->in_part = false;
    (void)buf_char(&l->text, ']');
    return RC_OK;
}

/* cuts: 0 for none, else the seed of a sequence of small piece lengths. */
static enum rc parse(struct str type, struct str body, uint32_t cuts, struct log *l)
{
    struct multipart_events ev = {l, on_begin, on_data, on_end};
    struct multipart *m;
    enum rc rc = multipart_new(type, &ev, &m, NULL);

    buf_init(&l->text, 1u << 26);
    l->in_part = false;
    if (rc != RC_OK)
        return rc;
    while (body.n && rc == RC_OK) {
        size_t n = cuts ? 1 + (cuts >> 16) % (cuts & 64 ? 64 : 4) : body.n;
        struct str piece = {body.p, n < body.n ? n : body.n};

        if (cuts)
            cuts = (cuts * 1664525u + 1013904223u) | 1; /* 0 means whole */
        rc = multipart_feed(m, piece);
        body.p += piece.n, body.n -= piece.n;
    }
    if (rc == RC_OK)
        rc = multipart_finish(m);
    CHECK(multipart_finish(m) == rc);
    CHECK(rc != RC_OK || !l->in_part);
    IGNORE(multipart_free(m)); /* always NULL */
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str body = {(const char *)data, size}, type;
    struct log whole, split;
    uint32_t seed;
    enum rc want, got;

    if (size < 2)
        return 0;
    seed = data[0] * 2654435761u + 1;
    body.p++, body.n--;
    type = str_cut(&body, '\n');
    want = parse(type, body, 0, &whole);
    got = parse(type, body, seed, &split);
    CHECK(got == want);
    CHECK(str_eq(buf_peek(&whole.text), buf_peek(&split.text)));
    buf_done(&whole.text);
    buf_done(&split.text);
    return 0;
}
