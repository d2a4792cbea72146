/* SPDX-License-Identifier: Apache-2.0 */
#include "core/callback.h"

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* RFC 3986, unreserved of a reg-name; what is percent-encoded in a host is refused, since
 * it would compare unlike it resolves. */
static bool host_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) || c == '-' ||
           c == '.' || c == '_';
}

static bool host_good(struct str host)
{
    bool bracketed = host.n > 2 && host.p[0] == '[' && host.p[host.n - 1] == ']';

    if (host.n == 0 || host.n > 255)
        return false;
    for (size_t i = bracketed; i < host.n - bracketed; i++) {
        char c = host.p[i];
        bool hex = is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');

        if (bracketed ? !hex && c != ':' && c != '.' : !host_char(c))
            return false;
    }
    return true;
}

/* Takes ":PORT" off the end of *authority; none: *port stays.  RC_INVALID: not a port. */
static enum rc cut_port(struct str *authority, uint16_t *port)
{
    size_t i = authority->n;
    uint64_t n;

    while (i > 0 && is_digit(authority->p[i - 1]))
        i--;
    if (i == 0 || authority->p[i - 1] != ':')
        return RC_OK;
    if (str_u64((struct str){authority->p + i, authority->n - i}, &n) != RC_OK ||
        n == 0 || n > UINT16_MAX)
        return RC_INVALID;
    *port = (uint16_t)n;
    authority->n = i - 1;
    return RC_OK;
}

static const char *judge_text(struct str url)
{
    if (url.n > CALLBACK_URL_MAX)
        return "is longer than 2048 bytes";
    for (size_t i = 0; i < url.n; i++) {
        if (url.p[i] <= ' ' || url.p[i] > '~' || strchr("\"<>\\^`{|}", url.p[i]))
            return "holds a character that no URL may hold as it is";
        if (url.p[i] == '#')
            return "has a fragment, which no server would see";
    }
    return NULL;
}

enum rc callback_url_read(struct str url, struct callback_url *ret, const char **ret_why)
{
    static const struct str schemes[] = {{"http://", 7}, {"https://", 8}};
    struct callback_url u = {0};
    struct str rest = url;

    *ret_why = judge_text(url);
    if (*ret_why)
        return RC_INVALID;
    for (size_t i = 0; i < COUNTOF(schemes); i++) {
        struct str s = {url.p, schemes[i].n < url.n ? schemes[i].n : url.n};

        if (str_ieq(s, schemes[i])) {
            u = (struct callback_url){.tls = i == 1, .port = i == 1 ? 443 : 80};
            rest = (struct str){url.p + s.n, url.n - s.n};
        }
    }
    *ret_why = "does not begin with http:// or https://";
    if (!u.port)
        return RC_INVALID;
    u.host = rest;
    for (size_t i = 0; i < rest.n && u.host.n == rest.n; i++)
        if (rest.p[i] == '/' || rest.p[i] == '?')
            u.host.n = i;
    *ret_why = "holds a user name or a password";
    if (u.host.n && memchr(u.host.p, '@', u.host.n))
        return RC_INVALID;
    *ret_why = "has a port that is none";
    if (cut_port(&u.host, &u.port) != RC_OK)
        return RC_INVALID;
    *ret_why = "has no host, or one that is not a name or an address";
    if (!host_good(u.host))
        return RC_INVALID;
    *ret = u;
    return RC_OK;
}

static bool entry_matches(struct str entry, const struct callback_url *url)
{
    uint16_t port = url->tls ? 443 : 80;
    struct str tail;

    if (cut_port(&entry, &port) != RC_OK || port != url->port)
        return false;
    if (!str_starts(entry, STR("*.")))
        return entry.n && str_ieq(entry, url->host);
    if (url->host.n < entry.n) /* a name before the dot */
        return false;
    tail = (struct str){url->host.p + (url->host.n - entry.n) + 1, entry.n - 1};
    return str_ieq(tail, (struct str){entry.p + 1, entry.n - 1});
}

bool callback_allowed(const struct callback_url *url, const char *hosts)
{
    struct str rest = str_of(hosts);

    while (rest.n)
        if (entry_matches(str_trim(str_cut(&rest, ',')), url))
            return true;
    return false;
}
