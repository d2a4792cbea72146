/* SPDX-License-Identifier: Apache-2.0 */
/* What a call or its target may ask for beyond the usual: header lines of its own, the
 * status only, public addresses only. */
#include "tests/unit/http/peer.h"

#include <dlfcn.h>
#include <netdb.h>

/* --- who is connected to: libcurl finds these first --- */

static unsigned connects;

int connect(int fd, const struct sockaddr *to, socklen_t n)
{
    typedef int fn(int, const struct sockaddr *, socklen_t);
    void *found = dlsym(RTLD_NEXT, "connect");
    fn *real;

    memcpy(&real, &found, sizeof real);
    connects += to->sa_family == AF_INET || to->sa_family == AF_INET6;
    return real(fd, to, n);
}

/* inside.test is at home whatever it says; both.test has an address of each kind. */
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **ret)
{
    static const struct {
        const char *node, *address;
    } names[] = {{"inside.test", "127.0.0.1"},
                 {"metadata.test", "169.254.169.254"},
                 {"private.test", "10.1.2.3"},
                 {"mapped.test", "::ffff:127.0.0.1"},
                 {"six.test", "::1"}};
    typedef int fn(const char *, const char *, const struct addrinfo *,
                   struct addrinfo **);
    void *found = dlsym(RTLD_NEXT, "getaddrinfo");
    fn *real;

    memcpy(&real, &found, sizeof real);
    for (size_t i = 0; i < COUNTOF(names); i++)
        if (strcmp(node, names[i].node) == 0)
            node = names[i].address;
    return real(node, service, hints, ret);
}

TEST(a_target_for_public_addresses_connects_to_no_other)
{
    static const struct step steps[] = {{.send = OK_ANSWER}};
    static const struct {
        const char *host, *reason;
    } rows[] = {
        {"127.0.0.1", "127.0.0.1 is a loopback address, and none of those may be used"},
        {"127.1", "127.0.0.1 is a loopback address, and none of those may be used"},
        {"2130706433", "127.0.0.1 is a loopback address, and none of those may be used"},
        {"0x7f000001", "127.0.0.1 is a loopback address, and none of those may be used"},
        {"[::1]", "::1 is a loopback address, and none of those may be used"},
        {"[::ffff:127.0.0.1]",
         "::ffff:127.0.0.1 is an IPv4 address in an IPv6 one, and none of those may be "
         "used"},
        {"0.0.0.0", "0.0.0.0 is the unspecified address, and none of those may be used"},
        {"inside.test", "127.0.0.1 is a loopback address, and none of those may be used"},
        {"metadata.test",
         "169.254.169.254 is a link-local address, and none of those may be used"},
        {"private.test", "10.1.2.3 is a private address, and none of those may be used"},
        {"mapped.test",
         "::ffff:127.0.0.1 is an IPv4 address in an IPv6 one, and none of those may be "
         "used"},
        {"six.test", "::1 is a loopback address, and none of those may be used"},
    };
    struct http_client_opts o = {.user_agent = "test/1"};

    server_start(&w.server, steps, 1);
    world_open(&o);
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct http_target_opts to = {.base_url = w.url, .public_only = true};
        struct http_target *t;
        struct http_call c;

        t_row(rows[i].host);
        snprintf(w.url, sizeof w.url, "http://%s:%d", rows[i].host, w.server.port);
        t = make_target(&to);
        call_init(&c);
        c.target = t;
        run(&c);
        EQ_INT(c.fate, HTTP_NO_CONNECT);
        EQ_Z(c.reason, rows[i].reason);
        http_call_done(&c);
        http_target_free(t);
    }
    EQ_INT(connects, 0);
    EQ_INT(count_of(&w.server, &w.server.accepted), 0);
    world_stop();
}

TEST(other_targets_of_the_same_client_may_stay_at_home)
{
    static const struct step steps[] = {{.send = OK_ANSWER}};
    struct http_target_opts to = {.public_only = true};
    struct http_target *t;
    struct http_call c;

    world_start(steps, 1);
    call_init(&c);
    run(&c);
    EQ_INT(c.status, 200);
    EQ_INT(connects, 1);
    to.base_url = w.url; /* the connection that stands there is not for this one */
    t = make_target(&to);
    c.target = t;
    run(&c);
    EQ_INT(c.fate, HTTP_NO_CONNECT);
    EQ_INT(connects, 1);
    c.target = w.target;
    run(&c);
    EQ_INT(c.status, 200);
    EQ_INT(connects, 1);
    http_call_done(&c);
    http_target_free(t);
    world_stop();
}

TEST(public_addresses_only_and_a_proxy_do_not_go_together)
{
    static const struct step steps[] = {{.send = OK_ANSWER}};
    struct http_target_opts to = {.base_url = "http://example.com",
                                  .proxy = "http://127.0.0.1:1",
                                  .public_only = true};
    struct http_target *t = NULL;
    struct err e;

    world_start(steps, 1);
    EQ_RC(http_target_new(w.client, &to, &t, &e), RC_INVALID);
    EQ_Z(e.text, "behind a proxy it cannot be seen whether an address is public");
    world_stop();
}

/* --- header lines --- */

TEST(a_call_has_header_lines_of_its_own_behind_its_id)
{
    static const struct step steps[] = {{.send = OK_ANSWER}};
    const char *first[] = {"webhook-id: evt_1", "webhook-timestamp: 12", NULL};
    const char *then[] = {"webhook-id: evt_2", "a: 1", "b: 2", "c: 3", NULL};
    struct http_call c;
    char want[1024];

    world_start(steps, 1);
    call_init(&c);
    c.headers = first;
    snprintf(c.request_id, sizeof c.request_id, "req-1");
    run(&c);
    snprintf(want, sizeof want,
             "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n"
             "X-Request-Id: req-1\r\nwebhook-id: evt_1\r\nwebhook-timestamp: 12\r\n"
             "Content-Type: application/json\r\nUser-Agent: test/1\r\n"
             "Content-Length: 7\r\n\r\n{\"a\":1}",
             w.server.port);
    EQ_Z(seen(&w.server), want);
    c.headers = then;
    c.request_id[0] = '\0';
    run(&c);
    snprintf(want, sizeof want,
             "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n"
             "webhook-id: evt_2\r\na: 1\r\nb: 2\r\nc: 3\r\n"
             "Content-Type: application/json\r\nUser-Agent: test/1\r\n"
             "Content-Length: 7\r\n\r\n{\"a\":1}",
             w.server.port);
    EQ_Z(seen(&w.server), want);
    c.headers = NULL;
    run(&c);
    OK(!strstr(seen(&w.server), "webhook-id"));
    EQ_INT(count_of(&w.server, &w.server.accepted), 1);
    http_call_done(&c);
    world_stop();
}

TEST(a_header_line_that_would_be_two_is_not_sent)
{
    static const struct step steps[] = {{.send = OK_ANSWER}};
    static const char *const rows[] = {"webhook-id: a\r\nX-Evil: 1", "no colon", ": x",
                                       "name:"};
    struct http_call c;

    world_start(steps, 1);
    call_init(&c);
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        const char *lines[] = {"a: 1", rows[i], NULL};

        t_row(rows[i]);
        c.headers = lines;
        run(&c);
        EQ_INT(c.fate, HTTP_NO_CONNECT);
        OK(strncmp(c.reason, "a header line", 13) == 0 ||
           strncmp(c.reason, "header ", 7) == 0);
    }
    EQ_INT(count_of(&w.server, &w.server.requests), 0);
    http_call_done(&c);
    world_stop();
}

/* --- the status only --- */

#define CHUNKED HEAD "Transfer-Encoding: chunked\r\n\r\n"

TEST(where_only_the_status_counts_the_body_is_passed_over)
{
    static const struct {
        const char *name;
        struct step step;
        enum http_fate fate;
        long status;
        unsigned connections; /* after two calls */
    } rows[] = {
        {"a small one", {.send = OK_ANSWER}, HTTP_ANSWERED, 200, 1},
        {"none", {.send = "HTTP/1.1 204 No\r\n\r\n"}, HTTP_ANSWERED, 204, 1},
        {"a length over the cap",
         {.send = HEAD "Content-Length: 100000\r\n\r\n", .pad = 100000},
         HTTP_ANSWERED,
         200,
         2},
        {"a length that nobody would wait for",
         {.send = HEAD "Content-Length: 9000000000000\r\n\r\n",
          .pad = 5000,
          .then = HOLD},
         HTTP_ANSWERED,
         200,
         2},
        {"a body without an end",
         {.send = "HTTP/1.1 500 Oh\r\n\r\n", .pad = 5000, .then = HOLD},
         HTTP_ANSWERED,
         500,
         2},
        {"one that is cut short",
         {.send = HEAD "Content-Length: 10\r\n\r\nabc", .then = CLOSE},
         HTTP_RESET,
         0,
         2},
        {"one that is garbled",
         {.send = CHUNKED "xyz\r\n", .then = HOLD},
         HTTP_GARBLED,
         0,
         2},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct http_call c;

        t_row(rows[i].name);
        world_start(&rows[i].step, 1);
        call_init(&c);
        c.status_only = true;
        c.max_body = 4096;
        for (int times = 0; times < 2; times++) {
            run(&c);
            if ((int)c.fate != (int)rows[i].fate)
                FAIL("fate %d: %s", c.fate, c.reason);
            EQ_INT(c.status, rows[i].status);
            EQ_INT(c.answer.n, 0);
        }
        EQ_INT(count_of(&w.server, &w.server.accepted), rows[i].connections);
        http_call_done(&c);
        world_stop();
    }
}

TEST(a_call_may_want_the_status_and_then_the_body_again)
{
    static const struct step steps[] = {{.send = OK_ANSWER}};
    struct http_call c;

    world_start(steps, 1);
    call_init(&c);
    for (int i = 0; i < 4; i++) {
        c.status_only = i % 2 == 0;
        c.max_body = i < 2 ? 0 : 1;
        run(&c);
        EQ_INT(c.fate, i == 3 ? HTTP_TOO_LARGE : HTTP_ANSWERED);
        EQ_INT(c.answer.n, i == 1 ? 2 : 0);
    }
    http_call_done(&c);
    world_stop();
}

/* --- answers to nobody --- */

#define STRAY "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray"

/* libcurl reads so many bytes as the length says, and leaves what follows. */
TEST(an_answer_behind_a_long_one_is_not_taken_for_the_next)
{
    enum { LONG = 100000 };
    static char text[LONG + 200];
    const struct step steps[] = {
        {.send = text}, {.send = OK_ANSWER}, {.send = OK_ANSWER}};
    struct http_call c;
    int n = snprintf(text, 100, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", LONG);

    memset(text + n, 'x', LONG);
    memcpy(text + n + LONG, STRAY, sizeof STRAY);
    world_start(steps, COUNTOF(steps));
    call_init(&c);
    run(&c);
    EQ_INT(c.answer.n, LONG);
    for (int i = 0; i < 2; i++) {
        run(&c);
        EQ_INT(c.fate, HTTP_ANSWERED);
        EQ_STR(buf_peek(&c.answer), STR("ok"));
    }
    EQ_INT(count_of(&w.server, &w.server.accepted), 2);
    EQ_INT(count_of(&w.server, &w.server.requests), 3);
    http_call_done(&c);
    world_stop();
}

TEST(an_answer_that_comes_while_nobody_asks_ends_its_connection)
{
    static const struct step steps[] = {{.send = OK_ANSWER}};
    struct http_call c;

    world_start(steps, 1);
    call_init(&c);
    for (unsigned i = 1; i <= 5; i++) {
        run(&c);
        EQ_INT(c.fate, HTTP_ANSWERED);
        EQ_STR(buf_peek(&c.answer), STR("ok"));
        EQ_INT(count_of(&w.server, &w.server.accepted), i);
        pthread_mutex_lock(&w.server.lock);
        OK(say(w.server.peer_fd[i - 1], STRAY, sizeof STRAY - 1));
        pthread_mutex_unlock(&w.server.lock);
        if (i % 2) /* the client may or may not see it before it is told to call */
            loop_turn(w.loop, 20 * MS);
    }
    http_call_done(&c);
    world_stop();
}

TEST(what_an_answer_says_of_quotas_is_handed_over)
{
    static const struct step steps[] = {
        {.send = "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
                 "x-ratelimit-limit-tokens: 60000\r\nContent-Length: 0\r\n\r\n"},
        {.send = "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
                 "Content-Length: 0\r\n\r\n"},
        {.send = "HTTP/1.1 429 No\r\nx-should-retry: false\r\n", .then = CLOSE},
    };
    struct http_call c;

    world_start(steps, COUNTOF(steps));
    call_init(&c);
    run(&c);
    EQ_STR(((struct str){c.quota, c.quota_n}), STR("x-ratelimit-limit-tokens: 60000\n"));
    EQ_INT(c.date, 784111777);
    t_row("nothing is left of it in the next one");
    run(&c);
    EQ_INT(c.quota_n, 0);
    EQ_INT(c.date, 0);
    t_row("nothing of half an answer");
    run(&c);
    OK(c.fate != HTTP_ANSWERED);
    EQ_INT(c.quota_n, 0);
    http_call_done(&c);
    world_stop();
}
