/* SPDX-License-Identifier: Apache-2.0 */
#include "store/reslog_frame.h"
#include "base/crc.h"
#include "base/guard.h"
#include "store/le.h"

#define HEAD_MAGIC   "bdreslog"
#define HEAD_VERSION 1u

/* Where the fields lie; docs/formats.md has the tables. */
enum {
    H_VERSION = 8,
    H_SEGMENT = 12,
    H_GENERATION = 16,
    H_ITEMS = 20,
    H_BATCH = 24,
    H_ZERO = 88,
    H_CRC = 92,

    R_CRC = 4,
    R_GENERATION = 8,
    R_LENGTH = 12,
    R_ITEM = 16,
    R_KIND = 20,
    R_ATTEMPT = 21,
    R_FLAGS = 22,
};
_Static_assert(H_BATCH + ID_CAP == H_ZERO && H_CRC + 4 == FRAME_HEAD_BYTES, "head");
_Static_assert(R_FLAGS + 2 == FRAME_FIXED, "record");

void frame_head_put(uint8_t dst[FRAME_HEAD_BYTES], const struct frame_head *h)
{
    memset(dst, 0, FRAME_HEAD_BYTES);
    memcpy(dst, HEAD_MAGIC, 8);
    le32_put(dst + H_VERSION, HEAD_VERSION);
    le32_put(dst + H_SEGMENT, h->segment);
    le32_put(dst + H_GENERATION, h->generation);
    le32_put(dst + H_ITEMS, h->items);
    memcpy(dst + H_BATCH, h->batch.z, strlen(h->batch.z));
    le32_put(dst + H_CRC, crc32c(0, dst, H_CRC));
}

enum rc frame_head_get(const uint8_t src[FRAME_HEAD_BYTES], struct frame_head *ret,
                       uint32_t *ret_version)
{
    struct frame_head h = {.segment = le32_get(src + H_SEGMENT),
                           .generation = le32_get(src + H_GENERATION),
                           .items = le32_get(src + H_ITEMS)};

    if (memcmp(src, HEAD_MAGIC, 8) != 0 || le32_get(src + H_CRC) != crc32c(0, src, H_CRC))
        return RC_CORRUPT;
    *ret_version = le32_get(src + H_VERSION);
    if (*ret_version != HEAD_VERSION)
        return RC_LIMIT;
    memcpy(h.batch.z, src + H_BATCH, ID_CAP);
    if (h.batch.z[ID_CAP - 1] != '\0')
        return RC_CORRUPT;
    *ret = h;
    return RC_OK;
}

uint32_t frame_seed(const struct id *batch)
{
    return GUARD(LOG_OF_BATCH) ? crc32c(0, batch->z, strlen(batch->z)) : 0;
}

static uint64_t widest(const struct usage *u)
{
    return u64_max(
        u64_max(u64_max(u->input, u->cached), u64_max(u->output, u->reasoning)),
        u->total);
}

static uint16_t usage_flags(const struct reslog_rec *r)
{
    if (!r->has_usage)
        return 0;
    return widest(&r->usage) > UINT32_MAX ? FRAME_USAGE | FRAME_USAGE_WIDE : FRAME_USAGE;
}

static uint32_t usage_bytes(unsigned flags)
{
    if (!(flags & FRAME_USAGE))
        return 0;
    return flags & FRAME_USAGE_WIDE ? 40 : 20;
}

size_t frame_size(const struct reslog_rec *r)
{
    return FRAME_FIXED + usage_bytes(usage_flags(r)) + r->payload.n;
}

static void put_usage(uint8_t *p, unsigned flags, const struct usage *u)
{
    const uint64_t v[5] = {u->input, u->cached, u->output, u->reasoning, u->total};

    for (unsigned i = 0; i < 5 && flags & FRAME_USAGE; i++) {
        if (flags & FRAME_USAGE_WIDE)
            le64_put(p + (size_t)8 * i, v[i]);
        else
            le32_put(p + (size_t)4 * i, (uint32_t)v[i]);
    }
}

static struct usage get_usage(const uint8_t *p, unsigned flags)
{
    uint64_t v[5] = {0};

    for (unsigned i = 0; i < 5 && flags & FRAME_USAGE; i++)
        v[i] = flags & FRAME_USAGE_WIDE ? le64_get(p + (size_t)8 * i)
                                        : le32_get(p + (size_t)4 * i);
    return (struct usage){v[0], v[1], v[2], v[3], v[4]};
}

static void seal(uint8_t *p, uint32_t seed, size_t size)
{
    le32_put(p + R_CRC, crc32c(seed, p + R_GENERATION, size - R_GENERATION));
}

void frame_put(uint8_t *dst, uint32_t seed, uint32_t generation, bool synced_before,
               const struct reslog_rec *r)
{
    unsigned flags = usage_flags(r);
    uint32_t head = FRAME_FIXED + usage_bytes(flags);

    memcpy(dst, FRAME_MAGIC, FRAME_MAGIC_LEN);
    le32_put(dst + R_GENERATION, generation);
    le32_put(dst + R_LENGTH, (uint32_t)r->payload.n);
    le32_put(dst + R_ITEM, r->item);
    dst[R_KIND] = (uint8_t)r->kind;
    dst[R_ATTEMPT] = r->attempt;
    le16_put(dst + R_FLAGS,
             (uint16_t)(flags | (synced_before ? (unsigned)FRAME_SYNCED_BEFORE : 0u)));
    put_usage(dst + FRAME_FIXED, flags, &r->usage);
    if (r->payload.n)
        memcpy(dst + head, r->payload.p, r->payload.n);
    seal(dst, seed, head + r->payload.n);
}

bool frame_parse(const uint8_t *p, struct frame *ret)
{
    struct frame f = {.generation = le32_get(p + R_GENERATION),
                      .item = le32_get(p + R_ITEM),
                      .payload_n = le32_get(p + R_LENGTH),
                      .flags = le16_get(p + R_FLAGS),
                      .kind = p[R_KIND],
                      .attempt = p[R_ATTEMPT]};

    if (memcmp(p, FRAME_MAGIC, FRAME_MAGIC_LEN) != 0 || f.flags & ~FRAME_FLAGS ||
        (f.flags & FRAME_USAGE_WIDE && !(f.flags & FRAME_USAGE)) ||
        (f.kind != RESULT_OUTPUT && f.kind != RESULT_ERROR) ||
        f.payload_n > FRAME_MAX_PAYLOAD || f.generation == 0)
        return false;
    f.head_n = FRAME_FIXED + usage_bytes(f.flags);
    *ret = f;
    return true;
}

bool frame_good(const uint8_t *p, const struct frame *f, uint32_t seed)
{
    size_t n = (size_t)f->head_n + f->payload_n;

    return !GUARD(LOG_CRC) ||
           le32_get(p + R_CRC) == crc32c(seed, p + R_GENERATION, n - R_GENERATION);
}

void frame_rec(const uint8_t *p, const struct frame *f, struct reslog_rec *ret)
{
    *ret = (struct reslog_rec){
        .item = f->item,
        .kind = (enum result_kind)f->kind,
        .attempt = f->attempt,
        .has_usage = f->flags & FRAME_USAGE,
        .usage = get_usage(p + FRAME_FIXED, f->flags),
        .payload = {(const char *)p + f->head_n, f->payload_n},
    };
}

void frame_restamp(uint8_t *p, const struct frame *f, uint32_t seed, uint32_t generation)
{
    le32_put(p + R_GENERATION, generation);
    le16_put(p + R_FLAGS, (uint16_t)(f->flags | (unsigned)FRAME_SYNCED_BEFORE));
    seal(p, seed, (size_t)f->head_n + f->payload_n);
}
