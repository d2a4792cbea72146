/* SPDX-License-Identifier: Apache-2.0 */
#include "core/callback.h"
#include "tests/lib/t.h"

#include <stdio.h>

TEST(a_callback_is_an_http_url_with_a_host)
{
    static const struct {
        const char *url;
        bool tls;
        const char *host;
        int port;
    } rows[] = {
        {"http://a", false, "a", 80},
        {"https://a", true, "a", 443},
        {"HTTPS://Hooks.Example.COM/x?y=z", true, "Hooks.Example.COM", 443},
        {"https://a:8443/x", true, "a", 8443},
        {"http://127.0.0.1:65535", false, "127.0.0.1", 65535},
        {"http://[::1]/x", false, "[::1]", 80},
        {"http://[2001:DB8::7.7.7.7]:81?q", false, "[2001:DB8::7.7.7.7]", 81},
        {"https://a_b-c.d./@:x", true, "a_b-c.d.", 443},
        {"https://a?u=b@c:1", true, "a", 443},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct callback_url u;
        const char *why;

        t_row(rows[i].url);
        EQ_RC(callback_url_read(str_of(rows[i].url), &u, &why), RC_OK);
        EQ_INT(u.tls, rows[i].tls);
        EQ_STR(u.host, str_of(rows[i].host));
        EQ_INT(u.port, rows[i].port);
    }
}

TEST(what_is_no_such_url_is_refused_with_the_reason)
{
    static const struct {
        const char *url, *why;
    } rows[] = {
        {"", "does not begin"},
        {"http", "does not begin"},
        {"http:/", "does not begin"},
        {"ftp://a/", "does not begin"},
        {"file:///etc/passwd", "does not begin"},
        {"gopher://a", "does not begin"},
        {"//a/b", "does not begin"},
        {"http://", "has no host"},
        {"http:///x", "has no host"},
        {"http://?x", "has no host"},
        {"http://:80/", "has no host"},
        {"http://a b/", "holds a character"},
        {"http://a\r\nX: y/", "holds a character"},
        {"http://a\\@b/", "holds a character"},
        {"http://\xc3\xa9/", "holds a character"},
        {"http://a/\x7f", "holds a character"},
        {"http://a/#x", "has a fragment"},
        {"http://u@a/", "holds a user name"},
        {"http://u:p@a/", "holds a user name"},
        {"http://a:0/", "has a port"},
        {"http://a:65536/", "has a port"},
        {"http://a:/", "has a port"},
        {"http://a:99999999999999999999/", "has a port"},
        {"http://a:b/", "has no host"},
        {"http://a%2eb/", "has no host"},
        {"http://[::1/", "has no host"},
        {"http://[]/", "has no host"},
        {"http://[::1%25eth0]/", "has no host"},
        {"http://a,b/", "has no host"},
        {"http://*.a/", "has no host"},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct callback_url u;
        const char *why = "";

        t_row(rows[i].url);
        EQ_RC(callback_url_read(str_of(rows[i].url), &u, &why), RC_INVALID);
        OK(strncmp(why, rows[i].why, strlen(rows[i].why)) == 0);
    }
}

TEST(a_callback_url_has_at_most_2048_bytes)
{
    char url[CALLBACK_URL_MAX + 2];
    struct callback_url u;
    const char *why;

    memset(url, 'a', sizeof url);
    memcpy(url, "https://a/", 10);
    EQ_RC(callback_url_read((struct str){url, CALLBACK_URL_MAX}, &u, &why), RC_OK);
    EQ_RC(callback_url_read((struct str){url, CALLBACK_URL_MAX + 1}, &u, &why),
          RC_INVALID);
    EQ_Z(why, "is longer than 2048 bytes");
}

TEST(only_a_listed_host_may_be_called)
{
    static const struct {
        const char *hosts, *url;
        bool allowed;
    } rows[] = {
        {NULL, "http://a/", false},
        {"", "http://a/", false},
        {" , ,", "http://a/", false},
        {"a", "http://a/", true},
        {"a", "https://a/", true},
        {"a", "https://A/", true},
        {"A.b", "https://a.B/", true},
        {"x, a ,y", "http://a/", true},
        {"a", "http://ab/", false},
        {"a", "http://b.a/", false},
        {"a", "http://a./", false},
        /* A bare host means the port that belongs to the scheme. */
        {"a", "http://a:8080/", false},
        {"a", "http://a:443/", false},
        {"a:8080", "http://a:8080/", true},
        {"a:8080", "https://a:8080/", true},
        {"a:8080", "http://a/", false},
        {"a:80", "http://a/", true},
        {"a:80", "https://a/", false},
        {"a:x", "http://a/", false},
        {"a:0", "http://a/", false},
        {"[::1]", "http://[::1]/", true},
        {"[::1]:81", "http://[::1]:81/", true},
        {"[::1]", "http://[::2]/", false},
        {"*.b.c", "https://a.b.c/", true},
        {"*.b.c", "https://x.a.B.C/", true},
        {"*.b.c", "https://b.c/", false},
        {"*.b.c", "https://.b.c/", false},
        {"*.b.c", "https://ab.c/", false},
        {"*.b.c", "https://a.b.c.d/", false},
        {"*.b.c", "https://a.b.c:444/", false},
        {"*.b.c:444", "https://a.b.c:444/", true},
        {"*", "http://a/", false},
        {"*.", "http://a/", false},
        {"b*", "http://bc/", false},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct callback_url u;
        const char *why;
        char row[80];

        snprintf(row, sizeof row, "%s for %s", rows[i].hosts ? rows[i].hosts : "NULL",
                 rows[i].url);
        t_row(row);
        EQ_RC(callback_url_read(str_of(rows[i].url), &u, &why), RC_OK);
        EQ_INT(callback_allowed(&u, rows[i].hosts), rows[i].allowed);
    }
}
