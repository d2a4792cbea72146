/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scan: runs of bytes inside strings, sixteen at a time; private to json/.
 *
 * Nearly all bytes of a chat request lie in long strings, so these loops decide the speed
 * of the room.  SSE2 is the baseline of x86-64; elsewhere eight bytes at a time in a
 * word. Nothing reads behind `end`: the last bytes are taken one by one. Threads: any.
 */
#pragma once

#include "base/base.h"

#include <string.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#define SCAN_ONES  UINT64_C(0x0101010101010101)
#define SCAN_HIGHS UINT64_C(0x8080808080808080)

static inline bool scan_is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static inline const char *scan_space(const char *p, const char *end)
{
    while (p < end && scan_is_space(*p))
        p++;
    return p;
}

static inline bool scan_is_plain(char c)
{
    return (unsigned char)c - 0x20u < 0x60u && c != '"' && c != '\\';
}

/* Marks (in the top bit) the bytes of w that equal c; exact up to the lowest mark. */
static inline uint64_t scan_word_eq(uint64_t w, char c)
{
    uint64_t x = w ^ (SCAN_ONES * (unsigned char)c);

    return (x - SCAN_ONES) & ~x & SCAN_HIGHS;
}

/* The first byte that is '"', '\\', a control character or not ASCII; else end. */
static inline const char *scan_plain(const char *p, const char *end)
{
#if defined(__SSE2__)
    const __m128i quote = _mm_set1_epi8('"'), slash = _mm_set1_epi8('\\');
    const __m128i space = _mm_set1_epi8(' ');

    for (; end - p >= 16; p += 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
        /* Signed: bytes from 0x80 on are below the space too. */
        __m128i stop =
            _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(v, quote), _mm_cmpeq_epi8(v, slash)),
                         _mm_cmplt_epi8(v, space));
        unsigned mask = (unsigned)_mm_movemask_epi8(stop);

        if (mask)
            return p + __builtin_ctz(mask);
    }
#else
    for (; end - p >= 8; p += 8) {
        uint64_t w;

        memcpy(&w, p, 8);
        if (scan_word_eq(w, '"') | scan_word_eq(w, '\\') |
            ((w | (w - SCAN_ONES * ' ')) & SCAN_HIGHS))
            break;
    }
#endif
    while (p < end && scan_is_plain(*p))
        p++;
    return p;
}

/* The first byte that is a or b; else end. */
static inline const char *scan_either(const char *p, const char *end, char a, char b)
{
#if defined(__SSE2__)
    const __m128i va = _mm_set1_epi8(a), vb = _mm_set1_epi8(b);

    for (; end - p >= 16; p += 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
        unsigned mask = (unsigned)_mm_movemask_epi8(
            _mm_or_si128(_mm_cmpeq_epi8(v, va), _mm_cmpeq_epi8(v, vb)));

        if (mask)
            return p + __builtin_ctz(mask);
    }
#else
    for (; end - p >= 8; p += 8) {
        uint64_t w;

        memcpy(&w, p, 8);
        if (scan_word_eq(w, a) | scan_word_eq(w, b))
            break;
    }
#endif
    while (p < end && *p != a && *p != b)
        p++;
    return p;
}

/*
 * Bytes of the UTF-8 sequence at p (2 to 4; its first byte is not ASCII); 0 when it is
 * not one: Unicode 15, table 3-7: no overlong forms, no surrogates, nothing above
 * U+10FFFF.
 */
static inline unsigned scan_utf8(const char *p, const char *end)
{
    unsigned char b[4] = {0};
    size_t n = (size_t)(end - p);

    memcpy(b, p, n < 4 ? n : 4); /* a zero is no continuation byte: short ones fail */
    if (b[0] < 0xe0)
        return b[0] >= 0xc2 && (b[1] & 0xc0) == 0x80 ? 2 : 0;
    if ((b[1] & 0xc0) != 0x80 || (b[2] & 0xc0) != 0x80)
        return 0;
    if (b[0] < 0xf0) {
        if (b[0] == 0xe0)
            return b[1] >= 0xa0 ? 3 : 0;
        return b[0] != 0xed || b[1] < 0xa0 ? 3 : 0;
    }
    if ((b[3] & 0xc0) != 0x80 || b[0] > 0xf4 || (b[0] == 0xf0 && b[1] < 0x90) ||
        (b[0] == 0xf4 && b[1] > 0x8f))
        return 0;
    return 4;
}

static inline int scan_hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The four hex digits at p, or -1. */
static inline int32_t scan_hex4(const char *p, const char *end)
{
    int32_t v = 0;

    if (end - p < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        int digit = scan_hex(p[i]);

        if (digit < 0)
            return -1;
        v = v << 4 | digit;
    }
    return v;
}

/*
 * The next character of what stands between the quotes of a valid string, unescaped; p <
 * end.  A surrogate that has no partner comes as it is.  What is not valid never makes it
 * read behind end.
 */
uint32_t scan_char(const char **p, const char *end);
/* Puts it as UTF-8, 1 to 4 bytes; also a surrogate (which UTF-8 forbids: to compare
 * only). */
unsigned scan_put(char dst[4], uint32_t c);
