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
#if defined(__SSE2__) && !defined(SCAN_PORTABLE)
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

/* The first byte that is no digit; else end.  Numbers end where no branch can guess, so
 * eight bytes at once are worth it even for short ones. */
static inline const char *scan_digits(const char *p, const char *end)
{
    for (; end - p >= 8; p += 8) {
        uint64_t w, other;

        memcpy(&w, p, 8);
        w ^= SCAN_ONES * '0'; /* digits are 0 to 9 now */
        other = (((w & ~SCAN_HIGHS) + SCAN_ONES * (0x80 - 10)) | w) & SCAN_HIGHS;
        if (!other)
            continue;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
        return p + __builtin_ctzll(other) / 8;
#else
        return p + __builtin_clzll(other) / 8;
#endif
    }
    while (p < end && (unsigned char)(*p - '0') < 10)
        p++;
    return p;
}

/* The first byte that is '"', '\\', a control character or not ASCII; else end. */
static inline const char *scan_plain(const char *p, const char *end)
{
#if defined(__SSE2__) && !defined(SCAN_PORTABLE)
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

/* Bit i: p[i] is c, of 32 bytes. */
static inline uint32_t scan_marks32(const char p[32], char c)
{
#if defined(__SSE2__) && !defined(SCAN_PORTABLE)
    const __m128i v = _mm_set1_epi8(c);
    const __m128i low = _mm_loadu_si128((const __m128i *)(const void *)p);
    const __m128i high = _mm_loadu_si128((const __m128i *)(const void *)(p + 16));

    return (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(low, v)) |
           (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(high, v)) << 16;
#else
    uint32_t marks = 0;

    for (unsigned i = 0; i < 32; i++)
        marks |= (uint32_t)(p[i] == c) << i;
    return marks;
#endif
}

/* The first byte that is a or b; else end. */
static inline const char *scan_either(const char *p, const char *end, char a, char b)
{
#if defined(__SSE2__) && !defined(SCAN_PORTABLE)
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
    uint32_t w = 0;

    if (LIKELY(end - p >= 4))
        memcpy(&w, p, 4);
    else /* a zero is no continuation byte: what is cut short fails */
        memcpy(&w, p, (size_t)(end - p));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    w = __builtin_bswap32(w);
#endif
    if ((w & 0xc0e0) == 0x80c0)
        return (w & 0x1e) != 0 ? 2 : 0;
    if ((w & 0xc0c0f0) == 0x8080e0)
        return (w & 0x200f) != 0 && (w & 0x200f) != 0x200d ? 3 : 0;
    if ((w & 0xc0c0c0f8) == 0x808080f0)
        return (w & 0x3007) != 0 && ((w & 7) < 4 || (w & 0x3007) == 4) ? 4 : 0;
    return 0;
}

/* The first byte from p (where a character starts) that is '"', '\\' or a control
 * character, or that starts something that is not UTF-8; else end.  scan_plain and
 * scan_utf8 in one, quicker when much is not ASCII. */
const char *scan_text(const char *p, const char *end);

/* 16 + the value of a hex digit; 0 for what is none. */
extern const uint8_t scan_hex_digit[256];

/* The four hex digits at p, or -1. */
static inline int32_t scan_hex4(const char *p, const char *end)
{
    const unsigned char *u = (const unsigned char *)p;
    unsigned a, b, c, d;

    if (end - p < 4)
        return -1;
    a = scan_hex_digit[u[0]], b = scan_hex_digit[u[1]];
    c = scan_hex_digit[u[2]], d = scan_hex_digit[u[3]];
    if (!(a & b & c & d))
        return -1;
    return (int32_t)((a << 12) + (b << 8) + (c << 4) + d - 0x11110);
}

/*
 * The next character of what stands between the quotes of a valid string, unescaped; p <
 * end.  A surrogate that has no partner comes as it is.  What is not valid never makes it
 * read behind end.
 */
uint32_t scan_char(const char **p, const char *end);
uint32_t scan_utf8_char(const char **p, const char *end); /* a backslash is itself */
/* Puts it as UTF-8, 1 to 4 bytes; also a surrogate (which UTF-8 forbids: to compare
 * only). */
unsigned scan_put(char dst[4], uint32_t c);
