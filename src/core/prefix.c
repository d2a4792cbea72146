/* SPDX-License-Identifier: Apache-2.0 */
#include "core/prefix.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* Lengths of an octave, in eighths of its start. */
#define OCTAVE(n)                                                                        \
    (n) / 8 * 9, (n) / 8 * 10, (n) / 8 * 11, (n) / 8 * 12, (n) / 8 * 14, (n)*2

static const uint32_t lengths[PREFIX_LEVELS] = {
    64,
    128,
    192,
    256,
    320,
    384,
    448,
    512,
    OCTAVE(512u),
    OCTAVE(1u << 10),
    OCTAVE(2u << 10),
    OCTAVE(4u << 10),
    OCTAVE(8u << 10),
    OCTAVE(16u << 10),
    OCTAVE(32u << 10),
    96u << 10,
    128u << 10,
    192u << 10,
    256u << 10,
    384u << 10,
    512u << 10,
    768u << 10,
    1u << 20,
};

/* The 16 of them that make `key`, as bits: 192, 512, and from there on two an octave (768,
 * 1,024, 1,536 ...) to 65,536, where the beginnings lie that are worth it. */
#define IN_KEY UINT64_C(0x28a28a28a2884)

/* --- One key -------------------------------------------------------------------------- */

/* Blocks are what the hash is chained over, so they depend on the place alone, never on
 * how the bytes came; every length is the end of one. */
static size_t block_at(uint64_t n)
{
    return n < 1024 ? 64 : PREFIX_BLOCK;
}

static uint64_t turned(uint64_t x, unsigned bits)
{
    bits %= 64;
    return x << bits | x >> ((64 - bits) % 64);
}

void prefix_begin(struct prefix_feed *f)
{
    f->hash = f->n = 0;
    f->level = 0;
    f->block = block_at(0);
    f->got = 0;
    f->out = (struct prefix){0};
}

static void note(struct prefix_feed *f)
{
    f->out.level[f->level] = (uint8_t)(f->hash >> 32);
    if (IN_KEY >> f->level & 1)
        f->out.key = f->out.key << 4 | f->hash >> 60;
    f->level++;
}

static void take_block(struct prefix_feed *f, const char *p)
{
    /* Blocks are hashed beside each other in the processor, then chained by one
     * multiplication: twice as quick as with the hash so far for a seed. */
    uint64_t block = f->block == 64 ? XXH3_64bits(p, 64) : XXH3_64bits(p, PREFIX_BLOCK);

    f->hash = (turned(f->hash, 23) ^ block) * UINT64_C(0x9e3779b97f4a7c15);
    f->n += f->block;
    if (f->level < PREFIX_LEVELS && f->n == lengths[f->level]) {
        note(f);
        f->block = block_at(f->n);
    }
}

void prefix_feed(struct prefix_feed *f, const void *bytes, size_t n)
{
    const char *p = bytes;

    while (f->got + n >= f->block) {
        size_t room = f->block - f->got;

        if (f->got == 0) {
            take_block(f, p);
            p += room;
        } else {
            memcpy(f->carry + f->got, p, room);
            p += room;
            f->got = 0;
            take_block(f, f->carry);
        }
        n -= room;
    }
    if (n > 0) {
        memcpy(f->carry + f->got, p, n);
        f->got += n;
    }
}

/* Fills what no length was there for with the hash of the whole. */
static void fill_up(struct prefix *p, unsigned level, uint64_t whole)
{
    unsigned have = (unsigned)__builtin_popcountll(IN_KEY & ((UINT64_C(1) << level) - 1));
    unsigned bits = 64 - 4 * have;
    uint64_t words[8];

    if (bits > 0)
        p->key = (bits < 64 ? p->key << bits : 0) | whole >> (64 - bits);
    for (unsigned i = 0; i < COUNTOF(words); i++)
        words[i] = whole;
    memcpy(p->level + level, words, PREFIX_LEVELS - level);
    p->whole = (uint16_t)(whole >> 16);
}

void prefix_end(struct prefix_feed *f, struct prefix *ret)
{
    fill_up(&f->out, f->level,
            XXH3_64bits_withSeed(f->carry, f->got, f->hash) ^ (f->n + f->got));
    f->out.length = (uint32_t)u64_min(f->n + f->got, UINT32_MAX);
    *ret = f->out;
}

/* --- Many ----------------------------------------------------------------------------- */

/* Levels on which two agree. */
static unsigned agree(const struct prefix *a, const struct prefix *b)
{
    unsigned i = 0;

    while (i < PREFIX_LEVELS && a->level[i] == b->level[i])
        i++;
    return i;
}

uint32_t prefix_shared(const struct prefix *a, const struct prefix *b)
{
    unsigned n = agree(a, b);
    uint32_t shorter = a->length < b->length ? a->length : b->length;

    if (n == PREFIX_LEVELS && a->whole == b->whole && a->length == b->length)
        return a->length;
    if (n == 0)
        return 0;
    /* Behind the end of one the bytes agree by chance only. */
    return lengths[n - 1] < shorter ? lengths[n - 1] : shorter;
}

struct place {
    uint64_t key;
    uint32_t at;
};

struct keys {
    const struct prefix *p;
};

/* What sorts by the key has left equal; a stable sort needs no index in it. */
static int by_levels(const void *a, const void *b, void *ctx)
{
    const struct place *x = a, *y = b;
    const struct keys *all = ctx;
    const struct prefix *p = &all->p[x->at], *q = &all->p[y->at];
    int diff = memcmp(p->level, q->level, sizeof p->level);

    if (diff)
        return diff;
    if (p->whole != q->whole)
        return p->whole < q->whole ? -1 : 1;
    if (p->length != q->length)
        return p->length < q->length ? -1 : 1;
    return x->at < y->at ? -1 : 1;
}

static unsigned digit(const struct place *p, unsigned pass)
{
    return p->key >> (8 * pass) & 0xff;
}

/* Radix sort from the lowest byte on, between two arrays; the sorted one comes back. */
static struct place *by_key(struct place *a, struct place *b, uint32_t n)
{
    uint32_t counts[8][256] = {{0}};

    for (uint32_t i = 0; i < n; i++)
        for (unsigned pass = 0; pass < 8; pass++)
            counts[pass][digit(&a[i], pass)]++;
    for (unsigned pass = 0; pass < 8; pass++) {
        uint32_t start = 0;
        struct place *t = a;

        if (counts[pass][digit(&a[0], pass)] == n)
            continue; /* all have the same: nothing moves */
        for (unsigned d = 0; d < 256; d++) {
            uint32_t here = counts[pass][d];

            counts[pass][d] = start;
            start += here;
        }
        for (uint32_t i = 0; i < n; i++)
            b[counts[pass][digit(&a[i], pass)]++] = a[i];
        a = b;
        b = t;
    }
    return a;
}

enum rc prefix_sort(const struct prefix *p, uint32_t n, uint32_t *order, uint32_t *shared)
{
    struct keys all = {p};
    struct place *both, *sorted;

    if (n == 0)
        return RC_OK;
    both = mem_try((size_t)n * 2 * sizeof *both);
    if (!both)
        return RC_NOMEM;
    for (uint32_t i = 0; i < n; i++)
        both[i] = (struct place){p[i].key, i};
    sorted = by_key(both, both + n, n);
    for (uint32_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && sorted[end].key == sorted[i].key;)
            end++;
        if (end - i > 1)
            qsort_r(sorted + i, end - i, sizeof *sorted, by_levels, &all);
    }
    for (uint32_t i = 0; i < n; i++) {
        order[i] = sorted[i].at;
        shared[i] = i ? prefix_shared(&p[order[i - 1]], &p[order[i]]) : 0;
    }
    mem_free(both);
    return RC_OK;
}
