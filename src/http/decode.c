/* SPDX-License-Identifier: Apache-2.0 */
#include "http/decode.h"
#include "base/mem.h"

#define ZLIB_CONST /* its input is not written to */
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#define OUT ((size_t)64 << 10)

/* What may come of the first bytes: small bodies that repeat themselves are no attack. */
#define FREE_BYTES ((uint64_t)1 << 20)

/* RFC 9659: as a content coding, zstd needs no window above 8 MiB. */
#define ZSTD_WINDOW_LOG 23

struct decode {
    enum decode_coding coding;
    unsigned max_expansion;
    decode_sink_fn *sink;
    void *ctx;
    enum rc rc;       /* the first failure */
    uint64_t in, out; /* bytes so far */
    bool whole;       /* what came so far ends with the end of a member or frame */
    z_stream gzip;
    ZSTD_DCtx *zstd;
    unsigned begun; /* bytes seen of the first frame's magic number */
    bool skippable;
    char buf[OUT];
};

enum rc decode_coding(struct str header, enum decode_coding *ret)
{
    struct str name = str_trim(header);

    if (name.n == 0 || str_ieq(name, STR("identity")))
        *ret = DECODE_NONE;
    else if (str_ieq(name, STR("gzip")) ||
             str_ieq(name, STR("x-gzip"))) /* RFC 9110, 8.4.1.3 */
        *ret = DECODE_GZIP;
    else if (str_ieq(name, STR("zstd")))
        *ret = DECODE_ZSTD;
    else
        return RC_INVALID;
    return RC_OK;
}

struct decode *decode_new(enum decode_coding coding, unsigned max_expansion,
                          decode_sink_fn *sink, void *ctx)
{
    struct decode *d = mem_new(struct decode);

    d->coding = coding;
    d->max_expansion = max_expansion;
    d->sink = sink;
    d->ctx = ctx;
    switch (coding) {
    case DECODE_GZIP:
        if (inflateInit2(&d->gzip, 15 + 16) != Z_OK) /* 16: gzip's head and sum */
            d->rc = RC_NOMEM;
        break;
    case DECODE_ZSTD:
        d->zstd = ZSTD_createDCtx();
        if (!d->zstd || ZSTD_isError(ZSTD_DCtx_setParameter(d->zstd, ZSTD_d_windowLogMax,
                                                            ZSTD_WINDOW_LOG)))
            d->rc = RC_NOMEM;
        break;
    case DECODE_NONE:
        PANIC("a body without a coding has no decoder");
    }
    return d;
}

struct decode *decode_free(struct decode *d)
{
    if (!d)
        return NULL;
    if (d->coding == DECODE_GZIP)
        (void)inflateEnd(&d->gzip); /* complains when a body was cut */
    ZSTD_freeDCtx(d->zstd);
    mem_free(d);
    return NULL;
}

/* What the decoder has put into buf goes on. */
static enum rc hand_on(struct decode *d, size_t n)
{
    d->out += n;
    if (d->out > d->in * d->max_expansion + FREE_BYTES)
        return RC_LIMIT;
    return n ? d->sink(d->ctx, (struct str){d->buf, n}) : RC_OK;
}

/* One step: takes from *piece and hands on at most a buffer.  *ret_full: there may be more
 * without another byte of input. */
static enum rc step_gzip(struct decode *d, struct str *piece, bool *ret_full)
{
    z_stream *z = &d->gzip;
    int rc;

    if (d->whole && piece->n) {
        if (inflateReset(z) != Z_OK) /* another member */
            return RC_INVALID;
        d->whole = false;
    }
    z->next_in = (const Bytef *)piece->p;
    z->avail_in = (uInt)u64_min(piece->n, 1u << 30);
    z->next_out = (Bytef *)d->buf;
    z->avail_out = (uInt)sizeof d->buf;
    rc = inflate(z, Z_NO_FLUSH);
    if (rc == Z_MEM_ERROR)
        return RC_NOMEM;
    if (rc != Z_OK && rc != Z_STREAM_END && rc != Z_BUF_ERROR)
        return RC_INVALID;
    d->whole = rc == Z_STREAM_END;
    piece->n -= (size_t)((const char *)z->next_in - piece->p);
    piece->p = (const char *)z->next_in;
    *ret_full = z->avail_out == 0;
    return hand_on(d, sizeof d->buf - z->avail_out);
}

/* Does it begin as a frame of RFC 8878 does?  The library may read formats of before it,
 * too, whose decoders nobody looks after and which end a cut frame as if it were whole. */
static bool begins_well(struct decode *d, struct str piece)
{
    static const uint8_t frame[4] = {0x28, 0xb5, 0x2f, 0xfd};
    static const uint8_t skippable[4] = {0x50, 0x2a, 0x4d, 0x18};

    for (size_t i = 0; i < piece.n && d->begun < 4; i++, d->begun++) {
        uint8_t b = (uint8_t)piece.p[i];

        if (d->begun == 0)
            d->skippable = (b & 0xf0) == skippable[0];
        if (d->begun == 0 && d->skippable)
            continue;
        if (b != (d->skippable ? skippable : frame)[d->begun])
            return false;
    }
    return true;
}

static enum rc step_zstd(struct decode *d, struct str *piece, bool *ret_full)
{
    ZSTD_inBuffer in = {piece->p, piece->n, 0};
    ZSTD_outBuffer out = {d->buf, sizeof d->buf, 0};
    size_t rc;

    if (!begins_well(d, *piece))
        return RC_INVALID;
    rc = ZSTD_decompressStream(d->zstd, &out, &in);
    if (ZSTD_isError(rc))
        return ZSTD_getErrorCode(rc) == ZSTD_error_memory_allocation ? RC_NOMEM
                                                                     : RC_INVALID;
    d->whole = rc == 0;
    piece->p += in.pos;
    piece->n -= in.pos;
    *ret_full = out.pos == out.size;
    return hand_on(d, out.pos);
}

enum rc decode_feed(struct decode *d, struct str piece)
{
    bool full = false;

    d->in += piece.n;
    while (d->rc == RC_OK && (piece.n || (full && !d->whole)))
        d->rc = d->coding == DECODE_GZIP ? step_gzip(d, &piece, &full)
                                         : step_zstd(d, &piece, &full);
    return d->rc;
}

enum rc decode_end(struct decode *d)
{
    if (d->rc == RC_OK && !d->whole)
        d->rc = RC_INVALID;
    return d->rc;
}
