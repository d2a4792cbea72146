/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_decode: compressed bodies.  The first byte says the coding (bit 0) and how much may
 * come of a byte (bits 1-3); the second seeds the cuts.
 *
 * The rest as it is: fed whole and fed in pieces it ends alike, with the same bytes, never
 * more than may come of it; and what libraries that see all of it at once make of it is
 * the same.  The rest compressed: it comes back, and cut off anywhere it is refused.
 */
/* reaches: src/http/decode.c 30 */
#include "fuzz/lib/quiet.h"

#include "base/buf.h"
#include "http/decode.h"

#define ZLIB_CONST
#include <zlib.h>
#include <zstd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { OUT_MAX = 8 << 20, FREE_BYTES = 1 << 20 };

struct sink {
    struct buf out;
    bool over; /* it failed: nothing may come after */
};

static enum rc take(void *ctx, struct str piece)
{
    struct sink *s = ctx;

    CHECK(piece.n > 0 && !s->over);
    if (s->out.n + piece.n <= OUT_MAX)
        return buf_str(&s->out, piece);
    s->over = true;
    return RC_NOSPACE;
}

static enum rc run(enum decode_coding coding, unsigned most, struct str in, uint32_t cuts,
                   struct sink *s)
{
    struct decode *d = decode_new(coding, most, take, s);
    uint64_t fed = 0;
    enum rc rc = RC_OK, end;

    *s = (struct sink){.over = false};
    buf_init(&s->out, OUT_MAX + 1);
    while (in.n) {
        size_t n = cuts ? 1 + (cuts >> 16) % (cuts & 64 ? 300 : 3) : in.n;
        struct str piece = {in.p, n < in.n ? n : in.n};
        enum rc again;

        if (cuts)
            cuts = (cuts * 1664525u + 1013904223u) | 1;
        in.p += piece.n, in.n -= piece.n;
        fed += piece.n;
        again = decode_feed(d, piece);
        CHECK(rc == RC_OK || again == rc); /* the first failure stays */
        CHECK(s->out.n <= fed * most + FREE_BYTES);
        rc = again;
    }
    end = decode_end(d);
    CHECK(rc == RC_OK || end == rc);
    IGNORE(decode_free(d)); /* always NULL */
    return end;
}

/* --- Second opinions: all at once, member by member ---------------------------------- */

static bool whole_gzip(struct str in, struct buf *out)
{
    bool good = in.n > 0;

    while (good && in.n) {
        z_stream z = {.next_in = (const Bytef *)in.p, .avail_in = (uInt)in.n};
        int rc = Z_OK;

        CHECK(inflateInit2(&z, 15 + 16) == Z_OK);
        while (rc == Z_OK && out->n <= OUT_MAX) {
            char *to;

            CHECK(buf_reserve(out, 4096, &to) == RC_OK);
            z.next_out = (Bytef *)to;
            z.avail_out = 4096;
            rc = inflate(&z, Z_NO_FLUSH);
            buf_commit(out, 4096 - z.avail_out);
        }
        good = rc == Z_STREAM_END;
        in.p = (const char *)z.next_in;
        in.n = z.avail_in;
        inflateEnd(&z);
    }
    return good;
}

static bool whole_zstd(struct str in, struct buf *out)
{
    ZSTD_DCtx *x = ZSTD_createDCtx();
    ZSTD_inBuffer from = {in.p, in.n, 0};
    size_t rc = 1;

    static const char frame[] = "\x28\xb5\x2f\xfd", skippable[] = "\x2a\x4d\x18";

    if (in.n >= 4 && memcmp(in.p, frame, 4) != 0 && /* what was before RFC 8878 */
        ((in.p[0] & 0xf0) != 0x50 || memcmp(in.p + 1, skippable, 3) != 0)) {
        ZSTD_freeDCtx(x);
        return false;
    }
    CHECK(x && !ZSTD_isError(ZSTD_DCtx_setParameter(x, ZSTD_d_windowLogMax, 23)));
    for (bool full = true; (from.pos < from.size || full) && out->n <= OUT_MAX;) {
        ZSTD_outBuffer to = {NULL, 4096, 0};
        char *at;

        CHECK(buf_reserve(out, 4096, &at) == RC_OK);
        to.dst = at;
        rc = ZSTD_decompressStream(x, &to, &from);
        if (ZSTD_isError(rc))
            break;
        buf_commit(out, to.pos);
        full = to.pos == to.size && rc != 0;
    }
    ZSTD_freeDCtx(x);
    return in.n && rc == 0;
}

static void check_bytes(enum decode_coding coding, unsigned most, struct str in,
                        uint32_t cuts)
{
    struct sink one, two;
    struct buf ref;
    enum rc rc = run(coding, most, in, 0, &one),
            split = run(coding, most, in, cuts, &two);
    bool good;

    buf_init(&ref, OUT_MAX + 8192);
    good = coding == DECODE_GZIP ? whole_gzip(in, &ref) : whole_zstd(in, &ref);
    CHECK(rc == RC_OK || rc == RC_INVALID || rc == RC_LIMIT || rc == RC_NOSPACE);
    /* In pieces the bound is met sooner: what came so far counts. */
    CHECK(split == rc || split == RC_LIMIT ||
          (split != RC_OK && rc != RC_OK)); /* and which fault comes first may differ */
    if (rc == RC_OK)
        CHECK(good && str_eq(buf_peek(&one.out), buf_peek(&ref)));
    if (split == RC_OK)
        CHECK(str_eq(buf_peek(&two.out), buf_peek(&one.out)));
    if (rc == RC_INVALID)
        CHECK(!good);
    buf_done(&one.out);
    buf_done(&two.out);
    buf_done(&ref);
}

/* --- There and back ------------------------------------------------------------------ */

static struct str compress_it(enum decode_coding coding, struct str in, char *dst,
                              size_t cap)
{
    z_stream z = {.next_in = (const Bytef *)in.p,
                  .avail_in = (uInt)in.n,
                  .next_out = (Bytef *)dst,
                  .avail_out = (uInt)cap};
    size_t n;

    if (coding == DECODE_ZSTD) {
        n = ZSTD_compress(dst, cap, in.p, in.n, 1);
        CHECK(!ZSTD_isError(n));
        return (struct str){dst, n};
    }
    CHECK(deflateInit2(&z, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
    CHECK(deflate(&z, Z_FINISH) == Z_STREAM_END);
    n = cap - z.avail_out;
    deflateEnd(&z);
    return (struct str){dst, n};
}

static void check_back(enum decode_coding coding, struct str in, uint32_t cuts)
{
    size_t cap = in.n * 2 + 1024;
    char *dst = mem_try(cap);
    struct str packed = compress_it(coding, in, dst, cap), shorter = packed;
    struct sink s;

    CHECK(run(coding, 2000, packed, cuts, &s) == RC_OK);
    CHECK(str_eq(buf_peek(&s.out), in));
    buf_done(&s.out);
    shorter.n = cuts % packed.n;
    CHECK(run(coding, 2000, shorter, cuts, &s) == RC_INVALID);
    buf_done(&s.out);
    mem_free(dst);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct str in = {(const char *)data + 2, n - 2};
    enum decode_coding coding;
    uint32_t cuts;

    if (n < 2)
        return 0;
    coding = data[0] & 1 ? DECODE_ZSTD : DECODE_GZIP;
    cuts = data[1] * 2654435761u + 1;
    check_bytes(coding, 1u << (data[0] >> 1 & 7), in, cuts);
    check_back(coding, in, cuts);
    return 0;
}
