/* SPDX-License-Identifier: Apache-2.0 */
#include "http/address.h"
#include "tests/lib/t.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

static enum address_class class_of(const char *text, char shown[64])
{
    struct sockaddr_in in = {.sin_family = AF_INET};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};

    if (inet_pton(AF_INET, text, &in.sin_addr) == 1) {
        address_text((const struct sockaddr *)&in, sizeof in, shown);
        return address_class((const struct sockaddr *)&in, sizeof in);
    }
    EQ_INT(inet_pton(AF_INET6, text, &in6.sin6_addr), 1);
    address_text((const struct sockaddr *)&in6, sizeof in6, shown);
    return address_class((const struct sockaddr *)&in6, sizeof in6);
}

TEST(every_special_range_is_known_at_both_its_ends)
{
    static const struct {
        const char *text;
        enum address_class is;
    } rows[] = {
        {"0.0.0.0", ADDRESS_UNSPECIFIED},
        {"0.0.0.1", ADDRESS_RESERVED},
        {"0.255.255.255", ADDRESS_RESERVED},
        {"1.0.0.0", ADDRESS_PUBLIC},
        {"9.255.255.255", ADDRESS_PUBLIC},
        {"10.0.0.0", ADDRESS_PRIVATE},
        {"10.255.255.255", ADDRESS_PRIVATE},
        {"11.0.0.0", ADDRESS_PUBLIC},
        {"100.63.255.255", ADDRESS_PUBLIC},
        {"100.64.0.0", ADDRESS_PRIVATE},
        {"100.127.255.255", ADDRESS_PRIVATE},
        {"100.128.0.0", ADDRESS_PUBLIC},
        {"126.255.255.255", ADDRESS_PUBLIC},
        {"127.0.0.1", ADDRESS_LOOPBACK},
        {"127.255.255.254", ADDRESS_LOOPBACK},
        {"128.0.0.0", ADDRESS_PUBLIC},
        {"169.253.255.255", ADDRESS_PUBLIC},
        {"169.254.169.254", ADDRESS_LINK_LOCAL},
        {"169.255.0.0", ADDRESS_PUBLIC},
        {"172.15.255.255", ADDRESS_PUBLIC},
        {"172.16.0.0", ADDRESS_PRIVATE},
        {"172.31.255.255", ADDRESS_PRIVATE},
        {"172.32.0.0", ADDRESS_PUBLIC},
        {"192.0.0.170", ADDRESS_RESERVED},
        {"192.0.1.0", ADDRESS_PUBLIC},
        {"192.0.2.9", ADDRESS_RESERVED},
        {"192.88.99.1", ADDRESS_RESERVED},
        {"192.167.255.255", ADDRESS_PUBLIC},
        {"192.168.0.0", ADDRESS_PRIVATE},
        {"192.168.255.255", ADDRESS_PRIVATE},
        {"192.169.0.0", ADDRESS_PUBLIC},
        {"198.17.255.255", ADDRESS_PUBLIC},
        {"198.18.0.0", ADDRESS_RESERVED},
        {"198.19.255.255", ADDRESS_RESERVED},
        {"198.20.0.0", ADDRESS_PUBLIC},
        {"198.51.100.7", ADDRESS_RESERVED},
        {"203.0.113.7", ADDRESS_RESERVED},
        {"223.255.255.255", ADDRESS_PUBLIC},
        {"224.0.0.1", ADDRESS_MULTICAST},
        {"239.255.255.255", ADDRESS_MULTICAST},
        {"240.0.0.0", ADDRESS_RESERVED},
        {"255.255.255.255", ADDRESS_RESERVED},
        {"93.184.216.34", ADDRESS_PUBLIC},

        {"::", ADDRESS_UNSPECIFIED},
        {"::1", ADDRESS_LOOPBACK},
        {"::2", ADDRESS_TRANSLATED},
        {"::7f00:1", ADDRESS_TRANSLATED},
        {"::ffff:127.0.0.1", ADDRESS_TRANSLATED},
        {"::ffff:93.184.216.34", ADDRESS_TRANSLATED},
        {"::ffff:0:10.0.0.1", ADDRESS_TRANSLATED},
        {"64:ff9b::10.0.0.1", ADDRESS_TRANSLATED},
        {"64:ff9b:1::1", ADDRESS_TRANSLATED},
        {"64:ff9b:2::1", ADDRESS_RESERVED},
        {"100::1", ADDRESS_RESERVED},
        {"1fff:ffff::", ADDRESS_RESERVED},
        {"2001::1", ADDRESS_TRANSLATED},
        {"2001:1::1", ADDRESS_RESERVED},
        {"2001:1ff:ffff::", ADDRESS_RESERVED},
        {"2001:200::", ADDRESS_PUBLIC},
        {"2001:db7:ffff::1", ADDRESS_PUBLIC},
        {"2001:db8::1", ADDRESS_RESERVED},
        {"2001:db9::1", ADDRESS_PUBLIC},
        {"2002:7f00:1::", ADDRESS_TRANSLATED},
        {"2003::1", ADDRESS_PUBLIC},
        {"2606:2800:220:1::1", ADDRESS_PUBLIC},
        {"3fff:ffff::1", ADDRESS_PUBLIC},
        {"3fff:0fff::1", ADDRESS_RESERVED},
        {"3fff:1000::1", ADDRESS_PUBLIC},
        {"4000::1", ADDRESS_RESERVED},
        {"fbff:ffff::1", ADDRESS_RESERVED},
        {"fc00::1", ADDRESS_PRIVATE},
        {"fdff:ffff::1", ADDRESS_PRIVATE},
        {"fe00::1", ADDRESS_RESERVED},
        {"fe80::1", ADDRESS_LINK_LOCAL},
        {"febf:ffff::1", ADDRESS_LINK_LOCAL},
        {"fec0::1", ADDRESS_PRIVATE},
        {"ff00::1", ADDRESS_MULTICAST},
        {"ff02::1", ADDRESS_MULTICAST},
    };
    char shown[64];

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        t_row(rows[i].text);
        EQ_Z(address_class_text(class_of(rows[i].text, shown)),
             address_class_text(rows[i].is));
    }
}

TEST(an_address_is_told_as_people_write_it)
{
    char shown[64];

    IGNORE(class_of("169.254.169.254", shown)); /* the text is what counts */
    EQ_Z(shown, "169.254.169.254");
    IGNORE(class_of("2606:2800:0:0::1", shown));
    EQ_Z(shown, "2606:2800::1");
}

TEST(what_is_no_internet_address_or_is_cut_short_is_not_public)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x01010101)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    char shown[64];

    EQ_INT(address_class((const struct sockaddr *)&un, sizeof un), ADDRESS_UNKNOWN);
    EQ_INT(address_class((const struct sockaddr *)&in, sizeof in), ADDRESS_PUBLIC);
    EQ_INT(address_class((const struct sockaddr *)&in, sizeof in - 1), ADDRESS_UNKNOWN);
    EQ_INT(address_class((const struct sockaddr *)&in6, sizeof in6 - 1), ADDRESS_UNKNOWN);
    address_text((const struct sockaddr *)&un, sizeof un, shown);
    EQ_Z(shown, "?");
}
