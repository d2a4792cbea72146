/* SPDX-License-Identifier: Apache-2.0 */
#include "json/scan.h"

#if defined(__x86_64__) && !defined(SCAN_PORTABLE)
#include <tmmintrin.h>
#endif

/* clang-format off */
const uint8_t scan_hex_digit[256] = {
    ['0'] = 16, 17, 18, 19, 20, 21, 22, 23, 24, 25,
    ['A'] = 26, 27, 28, 29, 30, 31,
    ['a'] = 26, 27, 28, 29, 30, 31,
};
/* clang-format on */

/* --- Text that is not only ASCII ---------------------------------------------------- */

static const char *text_portable(const char *p, const char *end)
{
    for (;;) {
        unsigned n;

        p = scan_plain(p, end);
        if (p == end || (unsigned char)*p < 0x80)
            return p;
        do {
            n = scan_utf8(p, end);
            if (n == 0)
                return p;
            p += n;
        } while (p < end && (unsigned char)*p >= 0x80);
    }
}

#if defined(__x86_64__) && !defined(SCAN_PORTABLE)
/*
 * J. Keiser, D. Lemire, "Validating UTF-8 in less than one instruction per byte" (2021):
 * what two neighbouring bytes may be is looked up by the halves of the first and the
 * upper half of the second; each bit is a way to be wrong, and it counts when all three
 * agree. The third and fourth byte of a sequence are told by the first.
 */
enum {
    TOO_SHORT = 1 << 0,  /* a lead, then no continuation */
    TOO_LONG = 1 << 1,   /* ASCII, then a continuation */
    OVERLONG3 = 1 << 2,  /* e0 80..9f */
    TOO_LARGE = 1 << 3,  /* f4 90.., f5.. 90.. */
    SURROGATE = 1 << 4,  /* ed a0..bf */
    OVERLONG2 = 1 << 5,  /* c0, c1 */
    LARGE_OR_4 = 1 << 6, /* f5.. 80..8f; f0 80..8f */
    TWO_CONTS = 1 << 7,  /* right for a third or fourth byte only */
    ANY_LOW = TOO_SHORT | TOO_LONG | TWO_CONTS
};

#define ROW(...) _mm_setr_epi8(__VA_ARGS__)

/* Non-zero where v's byte can't stand behind those before it. */
__attribute__((target("ssse3"))) static __m128i wrong_bytes(__m128i v, __m128i before)
{
    const __m128i low4 = _mm_set1_epi8(0x0f);
    const __m128i first_high =
        ROW(TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG,
            TOO_LONG, (char)TWO_CONTS, (char)TWO_CONTS, (char)TWO_CONTS, (char)TWO_CONTS,
            TOO_SHORT | OVERLONG2, TOO_SHORT, TOO_SHORT | OVERLONG3 | SURROGATE,
            TOO_SHORT | TOO_LARGE | LARGE_OR_4);
    const char five_up = (char)(ANY_LOW | TOO_LARGE | LARGE_OR_4);
    const __m128i first_low = ROW(
        (char)(ANY_LOW | OVERLONG3 | OVERLONG2 | LARGE_OR_4), (char)(ANY_LOW | OVERLONG2),
        (char)ANY_LOW, (char)ANY_LOW, (char)(ANY_LOW | TOO_LARGE), five_up, five_up,
        five_up, five_up, five_up, five_up, five_up, five_up,
        (char)(ANY_LOW | TOO_LARGE | LARGE_OR_4 | SURROGATE), five_up, five_up);
    const char cont = (char)(TOO_LONG | OVERLONG2 | TWO_CONTS);
    const __m128i second_high = ROW(
        TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT,
        TOO_SHORT, (char)(cont | OVERLONG3 | LARGE_OR_4),
        (char)(cont | OVERLONG3 | TOO_LARGE), (char)(cont | SURROGATE | TOO_LARGE),
        (char)(cont | SURROGATE | TOO_LARGE), TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT);
    __m128i one = _mm_alignr_epi8(v, before, 15);
    __m128i two = _mm_alignr_epi8(v, before, 14);
    __m128i three = _mm_alignr_epi8(v, before, 13);
    __m128i pair = _mm_and_si128(
        _mm_and_si128(
            _mm_shuffle_epi8(first_high, _mm_and_si128(_mm_srli_epi16(one, 4), low4)),
            _mm_shuffle_epi8(first_low, _mm_and_si128(one, low4))),
        _mm_shuffle_epi8(second_high, _mm_and_si128(_mm_srli_epi16(v, 4), low4)));
    /* The top bit where e0.. is two or f0.. is three before: two continuations are due.
     */
    __m128i due = _mm_or_si128(_mm_subs_epu8(two, _mm_set1_epi8(0xe0 - 0x80)),
                               _mm_subs_epu8(three, _mm_set1_epi8(0xf0 - 0x80)));

    return _mm_xor_si128(_mm_and_si128(due, _mm_set1_epi8((char)0x80)), pair);
}

/* The last character boundary at or before p, when all up to p is right so far. */
static const char *boundary(const char *start, const char *p)
{
    for (unsigned back = 1; back <= 3 && p - back >= start; back++) {
        unsigned char c = (unsigned char)p[-(int)back];

        if (c >= 0xc0) {
            unsigned n = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;

            return n > back ? p - back : p;
        }
        if (c < 0x80)
            break;
    }
    return p;
}

__attribute__((target("ssse3"))) static const char *text_ssse3(const char *p,
                                                               const char *end)
{
    const __m128i quote = _mm_set1_epi8('"'), slash = _mm_set1_epi8('\\');
    const __m128i control = _mm_set1_epi8(0x1f), zero = _mm_setzero_si128();
    const char *start = p;
    __m128i before = zero;

    for (; end - p >= 16; p += 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
        __m128i stop =
            _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(v, quote), _mm_cmpeq_epi8(v, slash)),
                         _mm_cmpeq_epi8(_mm_max_epu8(v, control), control));
        unsigned stops = (unsigned)_mm_movemask_epi8(stop);
        unsigned right =
            (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(wrong_bytes(v, before), zero));
        unsigned wrong = right ^ 0xffffu;

        /* Behind the stop anything may be; at it, what is cut short before it shows. */
        if (stops)
            wrong &= stops ^ (stops - 1);
        if (UNLIKELY(wrong))
            return text_portable(start, end); /* finds where, and fails or not */
        if (stops)
            return p + __builtin_ctz(stops);
        before = v;
    }
    return text_portable(boundary(start, p), end);
}
#endif

const char *scan_text(const char *p, const char *end)
{
#if defined(__x86_64__) && !defined(SCAN_PORTABLE)
    if (LIKELY(__builtin_cpu_supports("ssse3")))
        return text_ssse3(p, end);
#endif
    return text_portable(p, end);
}

/* --- Characters ---------------------------------------------------------------------
 */

/* *at: the 'u'; a high half takes the low one behind it along. */
static uint32_t unicode_escape(const char **at, const char *end)
{
    const char *p = *at;
    int32_t c = scan_hex4(p + 1, end), low;

    if (c < 0) {
        *at = p + 1;
        return 'u';
    }
    *at = p + 5;
    if (c < 0xd800 || c > 0xdbff || end - *at < 6 || p[5] != '\\' || p[6] != 'u')
        return (uint32_t)c;
    low = scan_hex4(p + 7, end);
    if (low < 0xdc00 || low > 0xdfff)
        return (uint32_t)c;
    *at = p + 11;
    return (uint32_t)(0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00));
}

/* *at: the backslash. */
static uint32_t escaped_char(const char **at, const char *end)
{
    static const char letters[] = "bfnrt", meant[] = "\b\f\n\r\t";
    const char *p = *at + 1, *letter;

    *at = p;
    if (p == end)
        return '\\';
    if (*p == 'u')
        return unicode_escape(at, end);
    *at = p + 1;
    letter = memchr(letters, *p, sizeof letters - 1);
    return letter ? (uint32_t)meant[letter - letters] : (unsigned char)*p;
}

uint32_t scan_utf8_char(const char **at, const char *end)
{
    const unsigned char *p = (const unsigned char *)*at;
    unsigned n = *p < 0x80 ? 1 : scan_utf8(*at, end);

    *at += n ? n : 1;
    switch (n) {
    case 2:
        return (p[0] & 0x1fu) << 6 | (p[1] & 0x3fu);
    case 3:
        return (p[0] & 0x0fu) << 12 | (p[1] & 0x3fu) << 6 | (p[2] & 0x3fu);
    case 4:
        return (p[0] & 0x07u) << 18 | (p[1] & 0x3fu) << 12 | (p[2] & 0x3fu) << 6 |
               (p[3] & 0x3fu);
    default:
        return *p;
    }
}

uint32_t scan_char(const char **at, const char *end)
{
    return **at == '\\' ? escaped_char(at, end) : scan_utf8_char(at, end);
}

unsigned scan_put(char dst[4], uint32_t c)
{
    if (c < 0x80) {
        dst[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        dst[0] = (char)(0xc0 | c >> 6);
        dst[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        dst[0] = (char)(0xe0 | c >> 12);
        dst[1] = (char)(0x80 | (c >> 6 & 0x3f));
        dst[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    dst[0] = (char)(0xf0 | c >> 18);
    dst[1] = (char)(0x80 | (c >> 12 & 0x3f));
    dst[2] = (char)(0x80 | (c >> 6 & 0x3f));
    dst[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}
