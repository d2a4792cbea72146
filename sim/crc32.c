/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/crc32.h"

#include <pthread.h>
#include <string.h>

static uint32_t table[8][256];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void fill_table(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;

        for (int k = 0; k < 8; k++)
            c = c & 1 ? c >> 1 ^ 0xedb88320u : c >> 1;
        table[0][i] = c;
    }
    for (uint32_t i = 0; i < 256; i++)
        for (int k = 1; k < 8; k++)
            table[k][i] = table[0][table[k - 1][i] & 255] ^ table[k - 1][i] >> 8;
}

/* Slicing by eight (Kounavis and Berry 2005); the words are read low byte first. */
uint32_t sim_crc32(uint32_t crc, const void *p, size_t n)
{
    const uint8_t *s = p;

    (void)pthread_once(&once, fill_table);
    crc = ~crc;
    for (; n >= 8; s += 8, n -= 8) {
        uint32_t lo = crc ^ ((uint32_t)s[0] | (uint32_t)s[1] << 8 | (uint32_t)s[2] << 16 |
                             (uint32_t)s[3] << 24);

        crc = table[7][lo & 255] ^ table[6][lo >> 8 & 255] ^ table[5][lo >> 16 & 255] ^
              table[4][lo >> 24] ^ table[3][s[4]] ^ table[2][s[5]] ^ table[1][s[6]] ^
              table[0][s[7]];
    }
    for (; n; s++, n--)
        crc = table[0][(crc ^ *s) & 255] ^ crc >> 8;
    return ~crc;
}
