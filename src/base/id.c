/* SPDX-License-Identifier: Apache-2.0 */
#include "base/id.h"

#include <errno.h>
#include <sys/random.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static const char hex[] = "0123456789abcdef";

void random_bytes(void *p, size_t n)
{
    char *at = p;

    while (n) {
        ssize_t got = getrandom(at, n, 0);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            PANIC("getrandom failed: errno %d", errno);
        at += got;
        n -= (size_t)got;
    }
}

static void put_hex(char *dst, const uint8_t *src, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        dst[2 * i] = hex[src[i] >> 4];
        dst[2 * i + 1] = hex[src[i] & 15];
    }
    dst[2 * n] = '\0';
}

struct id id_make(const char *prefix)
{
    size_t n = strlen(prefix);
    uint8_t raw[16];
    struct id id = {{0}};

    CHECK(n + 33 <= sizeof id.z);
    random_bytes(raw, sizeof raw);
    memcpy(id.z, prefix, n);
    put_hex(id.z + n, raw, sizeof raw);
    return id;
}

bool id_ok(struct str s)
{
    if (s.n == 0 || s.n >= ID_CAP)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
              (c >= '0' && c <= '9') || c == '_' || c == '-'))
            return false;
    }
    return true;
}

enum rc id_from(struct str s, struct id *ret)
{
    if (!id_ok(s))
        return RC_INVALID;
    *ret = (struct id){{0}};
    memcpy(ret->z, s.p, s.n);
    return RC_OK;
}

/* Finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection of 64 bits. */
static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/*
 * The low half is a bijection of seed + item: within a batch no two items collide.  The
 * seed is a hash of the batch id's text, so an id not made by id_make works too.
 */
void id_request(const struct id *batch, uint32_t item, char ret_hex[33])
{
    size_t n = strlen(batch->z);
    uint64_t half[2];
    uint8_t raw[16];

    half[1] = mix(XXH3_64bits(batch->z, n) + item);
    half[0] = mix(XXH3_64bits_withSeed(batch->z, n, 1) ^ half[1]);
    memcpy(raw, half, sizeof raw);
    put_hex(ret_hex, raw, sizeof raw);
}
