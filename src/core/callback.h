/* SPDX-License-Identifier: Apache-2.0 */
/*
 * callback: what the URL of a callback must look like, and whether its host is one of
 * those that the operator lets batchd call.
 *
 * Pure.  It judges the text only: which address the name leads to is looked at again when
 * it is connected to.
 */
#pragma once

#include "base/str.h"

/* What HTTP clients and proxies take (RFC 9110, 4.1 asks for 8,000 at least; 2,048 is the
 * limit that webhook services have in common). */
#define CALLBACK_URL_MAX 2048

struct callback_url {
    bool tls;        /* https */
    struct str host; /* as it stands; an IPv6 address in its brackets; borrows */
    uint16_t port;   /* 80 or 443 when it names none */
};

/*
 * An http or https URL with a host, without user, password or fragment, in printable
 * ASCII (RFC 3986).  RC_INVALID: *ret_why is a constant that goes on from "the URL ":
 * "holds a user name".
 */
NODISCARD enum rc callback_url_read(struct str url, struct callback_url *ret,
                                    const char **ret_why);

/*
 * Is the host one of the comma-separated list?  HOST lets the scheme's own port through
 * (80 or 443), HOST:PORT that port, and *.DOMAIN every name below the domain, not the
 * domain itself; *.DOMAIN:PORT goes too.  Names compare without regard to case.  A list
 * that is NULL or empty lets nothing through.
 */
bool callback_allowed(const struct callback_url *url, const char *hosts);
