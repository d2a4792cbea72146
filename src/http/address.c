/* SPDX-License-Identifier: Apache-2.0 */
#include "http/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

/* A prefix of an address and what lies under it; the first row that fits counts. */
struct row {
    uint8_t prefix[16];
    uint8_t bits;
    enum address_class is;
};

static const struct row four[] = {
    {{0, 0, 0, 0}, 32, ADDRESS_UNSPECIFIED},
    {{0}, 8, ADDRESS_RESERVED},             /* "this network", RFC 791 */
    {{10}, 8, ADDRESS_PRIVATE},             /* RFC 1918 */
    {{100, 64}, 10, ADDRESS_PRIVATE},       /* carriers' NAT, RFC 6598 */
    {{127}, 8, ADDRESS_LOOPBACK},           /* RFC 1122 */
    {{169, 254}, 16, ADDRESS_LINK_LOCAL},   /* RFC 3927; clouds' metadata */
    {{172, 16}, 12, ADDRESS_PRIVATE},       /* RFC 1918 */
    {{192, 0, 0}, 24, ADDRESS_RESERVED},    /* RFC 6890 */
    {{192, 0, 2}, 24, ADDRESS_RESERVED},    /* documentation, RFC 5737 */
    {{192, 88, 99}, 24, ADDRESS_RESERVED},  /* 6to4 relays, RFC 7526 */
    {{192, 168}, 16, ADDRESS_PRIVATE},      /* RFC 1918 */
    {{198, 18}, 15, ADDRESS_RESERVED},      /* benchmarks, RFC 2544 */
    {{198, 51, 100}, 24, ADDRESS_RESERVED}, /* documentation, RFC 5737 */
    {{203, 0, 113}, 24, ADDRESS_RESERVED},  /* documentation, RFC 5737 */
    {{224}, 4, ADDRESS_MULTICAST},          /* RFC 5771 */
    {{240}, 4, ADDRESS_RESERVED},           /* RFC 1112, and broadcast */
};

static const struct row six[] = {
    {{0}, 128, ADDRESS_UNSPECIFIED},
    {{[15] = 1}, 128, ADDRESS_LOOPBACK},
    {{0}, 96, ADDRESS_TRANSLATED},                            /* ::a.b.c.d, RFC 4291 */
    {{[10] = 0xff, [11] = 0xff}, 96, ADDRESS_TRANSLATED},     /* mapped, RFC 4291 */
    {{[8] = 0xff, [9] = 0xff}, 96, ADDRESS_TRANSLATED},       /* SIIT, RFC 2765 */
    {{0x00, 0x64, 0xff, 0x9b}, 96, ADDRESS_TRANSLATED},       /* NAT64, RFC 6052 */
    {{0x00, 0x64, 0xff, 0x9b, 0, 1}, 48, ADDRESS_TRANSLATED}, /* RFC 8215 */
    {{0x20, 0x02}, 16, ADDRESS_TRANSLATED},                   /* 6to4, RFC 3056 */
    {{0x20, 0x01, 0, 0}, 32, ADDRESS_TRANSLATED},             /* Teredo, RFC 4380 */
    {{0x20, 0x01, 0}, 23, ADDRESS_RESERVED},                  /* RFC 2928 */
    {{0x20, 0x01, 0x0d, 0xb8}, 32, ADDRESS_RESERVED},         /* RFC 3849 */
    {{0x3f, 0xff}, 20, ADDRESS_RESERVED},                     /* RFC 9637 */
    {{0xfc}, 7, ADDRESS_PRIVATE},                             /* RFC 4193 */
    {{0xfe, 0x80}, 10, ADDRESS_LINK_LOCAL},                   /* RFC 4291 */
    {{0xfe, 0xc0}, 10, ADDRESS_PRIVATE},                      /* site-local, RFC 3879 */
    {{0xff}, 8, ADDRESS_MULTICAST},                           /* RFC 4291 */
    {{0x20}, 3, ADDRESS_PUBLIC},                              /* all that was given out */
    {{0}, 0, ADDRESS_RESERVED},
};

static bool under(const uint8_t *address, const struct row *r)
{
    size_t whole = r->bits / 8;
    unsigned rest = r->bits % 8;
    uint8_t mask = (uint8_t)(0xff00u >> rest);

    return memcmp(address, r->prefix, whole) == 0 &&
           (rest == 0 || ((address[whole] ^ r->prefix[whole]) & mask) == 0);
}

static enum address_class look_up(const uint8_t *address, const struct row *rows,
                                  size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (under(address, &rows[i]))
            return rows[i].is;
    return ADDRESS_PUBLIC;
}

enum address_class address_class(const struct sockaddr *sa, size_t n)
{
    struct sockaddr_in in;
    struct sockaddr_in6 in6;

    if (n >= sizeof in && sa->sa_family == AF_INET) {
        memcpy(&in, sa, sizeof in);
        return look_up((const uint8_t *)&in.sin_addr, four, COUNTOF(four));
    }
    if (n >= sizeof in6 && sa->sa_family == AF_INET6) {
        memcpy(&in6, sa, sizeof in6);
        return look_up(in6.sin6_addr.s6_addr, six, COUNTOF(six));
    }
    return ADDRESS_UNKNOWN;
}

const char *address_class_text(enum address_class c)
{
    static const char *const texts[] = {
#define X(name, text) text,
        ADDRESS_CLASS_LIST(X)
#undef X
    };

    CHECK(c < ADDRESS_CLASS_COUNT);
    return texts[c];
}

void address_text(const struct sockaddr *sa, size_t n, char ret[64])
{
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    const char *text = NULL;

    if (n >= sizeof in && sa->sa_family == AF_INET) {
        memcpy(&in, sa, sizeof in);
        text = inet_ntop(AF_INET, &in.sin_addr, ret, 64);
    } else if (n >= sizeof in6 && sa->sa_family == AF_INET6) {
        memcpy(&in6, sa, sizeof in6);
        text = inet_ntop(AF_INET6, &in6.sin6_addr, ret, 64);
    }
    if (!text)
        memcpy(ret, "?", 2);
}
