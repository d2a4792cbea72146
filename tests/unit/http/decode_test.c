/* SPDX-License-Identifier: Apache-2.0 */
#include "http/decode.h"
#include "base/buf.h"
#include "base/mem.h"
#include "tests/lib/t.h"

#define ZLIB_CONST
#include <zlib.h>
#include <zstd.h>

#define MAX (64u << 20)

static struct buf out;
static enum rc sink_says;

static enum rc sink(void *ctx, struct str piece)
{
    OK(ctx == &out);
    OK(piece.n > 0);
    EQ_RC(buf_str(&out, piece), RC_OK);
    return sink_says;
}

static struct decode *start(enum decode_coding coding, unsigned max_expansion)
{
    buf_done(&out);
    buf_init(&out, MAX);
    sink_says = RC_OK;
    return decode_new(coding, max_expansion, sink, &out);
}

/* Feeds all in pieces of `piece` bytes; the last word of the decoder. */
static enum rc decode_all(enum decode_coding coding, unsigned max_expansion,
                          struct str body, size_t piece)
{
    struct decode *d = start(coding, max_expansion);
    enum rc rc = RC_OK;

    for (size_t at = 0; at < body.n && rc == RC_OK; at += piece)
        rc = decode_feed(d,
                         (struct str){body.p + at, (size_t)u64_min(piece, body.n - at)});
    if (rc == RC_OK)
        rc = decode_end(d);
    else
        EQ_RC(decode_end(d), rc); /* it stays */
    IGNORE(decode_free(d));
    return rc;
}

static void gzip(struct buf *to, struct str text)
{
    z_stream z = {0};
    char *at;

    EQ_INT(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    EQ_RC(buf_reserve(to, deflateBound(&z, text.n), &at), RC_OK);
    z.next_in = (const Bytef *)text.p;
    z.avail_in = (uInt)text.n;
    z.next_out = (Bytef *)at;
    z.avail_out = (uInt)deflateBound(&z, text.n);
    EQ_INT(deflate(&z, Z_FINISH), Z_STREAM_END);
    buf_commit(to, z.total_out);
    deflateEnd(&z);
}

static void zstd(struct buf *to, struct str text, int window_log)
{
    ZSTD_CCtx *c = ZSTD_createCCtx();
    size_t most = ZSTD_compressBound(text.n), n;
    char *at;

    EQ_RC(buf_reserve(to, most, &at), RC_OK);
    ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, 1);
    ZSTD_CCtx_setParameter(c, ZSTD_c_contentSizeFlag, 0);
    if (window_log)
        ZSTD_CCtx_setParameter(c, ZSTD_c_windowLog, window_log);
    n = ZSTD_compress2(c, at, most, text.p, text.n);
    OK(!ZSTD_isError(n));
    buf_commit(to, n);
    ZSTD_freeCCtx(c);
}

static void compress_with(enum decode_coding coding, struct buf *to, struct str text)
{
    if (coding == DECODE_GZIP)
        gzip(to, text);
    else
        zstd(to, text, 0);
}

/* Compresses to about a third. */
static struct str text_of(size_t n)
{
    static char text[3 << 20];
    unsigned seed = 7;

    CHECK(n <= sizeof text);
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        text[i] = "abcdefgh"[seed >> 29];
    }
    return (struct str){text, n};
}

static const enum decode_coding both[] = {DECODE_GZIP, DECODE_ZSTD};

TEST(the_header_names_one_coding_or_none)
{
    static const struct {
        const char *header;
        enum rc rc;
        enum decode_coding coding;
    } cases[] = {{"", RC_OK, DECODE_NONE},
                 {"identity", RC_OK, DECODE_NONE},
                 {" Identity ", RC_OK, DECODE_NONE},
                 {"gzip", RC_OK, DECODE_GZIP},
                 {"GZIP", RC_OK, DECODE_GZIP},
                 {"x-gzip", RC_OK, DECODE_GZIP},
                 {" zstd", RC_OK, DECODE_ZSTD},
                 {"gzip, zstd", RC_INVALID, DECODE_NONE},
                 {"gzip,gzip", RC_INVALID, DECODE_NONE},
                 {"identity, gzip", RC_INVALID, DECODE_NONE},
                 {"deflate", RC_INVALID, DECODE_NONE},
                 {"br", RC_INVALID, DECODE_NONE},
                 {"gzip;q=1", RC_INVALID, DECODE_NONE},
                 {"*", RC_INVALID, DECODE_NONE}};

    for (size_t i = 0; i < COUNTOF(cases); i++) {
        enum decode_coding got = DECODE_NONE;

        t_row(cases[i].header);
        EQ_RC(decode_coding(str_of(cases[i].header), &got), cases[i].rc);
        EQ_INT(got, cases[i].coding);
    }
    EQ_RC(decode_coding((struct str){NULL, 0}, &(enum decode_coding){0}), RC_OK);
}

TEST(bodies_come_out_as_they_went_in_however_they_are_cut)
{
    static const size_t sizes[] = {0, 1, 2, 100, 65535, 65536, 65537, 700000, 3u << 20};

    for (size_t c = 0; c < COUNTOF(both); c++) {
        for (size_t i = 0; i < COUNTOF(sizes); i++) {
            struct str text = text_of(sizes[i]);
            struct buf b;

            buf_init(&b, MAX);
            compress_with(both[c], &b, text);
            for (size_t piece = sizes[i] < 1000 ? 1 : 997; piece < 2 * b.n + 2;
                 piece = piece * 7 + 1) {
                EQ_RC(decode_all(both[c], 100, buf_peek(&b), piece), RC_OK);
                EQ_INT(out.n, text.n);
                OK(text.n == 0 || memcmp(out.p, text.p, text.n) == 0);
            }
            buf_done(&b);
        }
    }
}

TEST(members_and_frames_one_after_the_other_are_one_body)
{
    for (size_t c = 0; c < COUNTOF(both); c++) {
        struct buf b;

        buf_init(&b, MAX);
        compress_with(both[c], &b, STR("one"));
        compress_with(both[c], &b, STR(""));
        compress_with(both[c], &b, STR(" two"));
        for (size_t piece = 1; piece <= b.n; piece++) {
            EQ_RC(decode_all(both[c], 100, buf_peek(&b), piece), RC_OK);
            EQ_STR(buf_peek(&out), STR("one two"));
        }
        (void)buf_char(&b, 'x');
        EQ_RC(decode_all(both[c], 100, buf_peek(&b), 5), RC_INVALID);
        buf_done(&b);
    }
}

TEST(a_body_that_is_cut_anywhere_is_refused)
{
    for (size_t c = 0; c < COUNTOF(both); c++) {
        struct buf b;

        buf_init(&b, MAX);
        compress_with(both[c], &b, text_of(300));
        for (size_t n = 0; n < b.n; n++)
            EQ_RC(decode_all(both[c], 100, (struct str){b.p, n}, 50), RC_INVALID);
        buf_done(&b);
    }
}

TEST(frames_of_before_the_standard_are_refused_however_they_are_cut)
{
    static const char old[] = "\x25\xb5\x2f\xfd\x04\0\0\0\0\0";

    for (size_t piece = 1; piece < sizeof old; piece++)
        EQ_RC(decode_all(DECODE_ZSTD, 100, (struct str){old, sizeof old - 1}, piece),
              RC_INVALID);
}

TEST(damage_anywhere_is_found_or_harmless)
{
    for (size_t c = 0; c < COUNTOF(both); c++) {
        struct str text = text_of(2000);
        unsigned found = 0;
        struct buf b;

        buf_init(&b, MAX);
        compress_with(both[c], &b, text);
        for (size_t i = 0; i < b.n; i++) {
            enum rc rc;

            b.p[i] ^= 0x10;
            rc = decode_all(both[c], 100, buf_peek(&b), 333);
            found += rc != RC_OK;
            /* The heads have bits that mean nothing: times, names, flags of others. */
            OK(rc != RC_OK || (out.n == 2000 && memcmp(out.p, text.p, 2000) == 0));
            b.p[i] ^= 0x10;
        }
        OK(found > b.n - 12);
        buf_done(&b);
        EQ_RC(decode_all(both[c], 100, text, 100), RC_INVALID); /* not packed at all */
    }
}

TEST(what_grows_beyond_the_bound_is_refused_before_it_is_handed_on)
{
    static char zeros[32 << 20];

    for (size_t c = 0; c < COUNTOF(both); c++) {
        struct buf b;

        buf_init(&b, MAX);
        compress_with(both[c], &b, (struct str){zeros, sizeof zeros});
        for (unsigned most = 1; most <= 100; most *= 10) {
            EQ_RC(decode_all(both[c], most, buf_peek(&b), 1000), RC_LIMIT);
            OK(out.n <= b.n * most + (1u << 20));
        }
        EQ_RC(decode_all(both[c], (unsigned)(sizeof zeros / b.n), buf_peek(&b), 1000),
              RC_OK);
        EQ_INT(out.n, sizeof zeros);
        buf_done(&b);
        buf_init(&b, MAX); /* a small one may grow as it likes */
        compress_with(both[c], &b, (struct str){zeros, 1u << 20});
        EQ_RC(decode_all(both[c], 1, buf_peek(&b), b.n), RC_OK);
        buf_done(&b);
    }
}

TEST(a_window_that_would_cost_more_than_8_MiB_is_refused)
{
    static char text[12 << 20];
    struct buf b;

    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)(i * 2654435761u >> 16);
    for (int log = 23; log <= 24; log++) {
        buf_init(&b, MAX);
        zstd(&b, (struct str){text, sizeof text}, log);
        EQ_RC(decode_all(DECODE_ZSTD, 100, buf_peek(&b), 30000),
              log == 23 ? RC_OK : RC_INVALID);
        buf_done(&b);
    }
}

TEST(what_the_sink_says_ends_it)
{
    for (size_t c = 0; c < COUNTOF(both); c++) {
        struct decode *d = start(both[c], 100);
        struct buf b;

        buf_init(&b, MAX);
        compress_with(both[c], &b, text_of(500000));
        sink_says = RC_NOSPACE;
        EQ_RC(decode_feed(d, buf_peek(&b)), RC_NOSPACE);
        EQ_INT(out.n, 64 << 10);
        sink_says = RC_OK;
        EQ_RC(decode_feed(d, STR("more")), RC_NOSPACE);
        EQ_RC(decode_end(d), RC_NOSPACE);
        EQ_INT(out.n, 64 << 10);
        IGNORE(decode_free(d));
        buf_done(&b);
    }
    IGNORE(decode_free(NULL));
}
