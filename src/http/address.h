/* SPDX-License-Identifier: Apache-2.0 */
/*
 * address: is a socket address one of the public internet, or one that only this machine
 * or this network can reach?  A URL that a stranger wrote must not lead to the latter
 * (server-side request forgery), whatever its host's name resolves to.
 *
 * Pure.  Source: the IANA special-purpose registries of IPv4 and IPv6 (RFC 6890).
 */
#pragma once

#include "base/base.h"

#include <sys/socket.h>

/* X(name, text): the text reads behind "10.0.0.1 is ". */
#define ADDRESS_CLASS_LIST(X)                                                            \
    X(PUBLIC, "a public address")                                                        \
    X(UNSPECIFIED, "the unspecified address")                                            \
    X(LOOPBACK, "a loopback address")                                                    \
    X(PRIVATE, "a private address")                                                      \
    X(LINK_LOCAL, "a link-local address")                                                \
    X(MULTICAST, "a multicast address")                                                  \
    X(RESERVED, "a reserved address")                                                    \
    X(TRANSLATED, "an IPv4 address in an IPv6 one")                                      \
    X(UNKNOWN, "no internet address")

enum address_class {
#define X(name, text) ADDRESS_##name,
    ADDRESS_CLASS_LIST(X)
#undef X
        ADDRESS_CLASS_COUNT
};

/*
 * The class of an AF_INET or AF_INET6 address of n bytes.  All that is not PUBLIC is to be
 * kept from.  An IPv4 address inside an IPv6 one (mapped, compatible, NAT64, 6to4, Teredo)
 * is TRANSLATED whatever it is: no public service needs to be reached that way.
 */
enum address_class address_class(const struct sockaddr *sa, size_t n);
const char *address_class_text(enum address_class c);

/* "192.0.2.1" or "2001:db8::1" in ret; "?" for what is no internet address. */
void address_text(const struct sockaddr *sa, size_t n, char ret[64]);
