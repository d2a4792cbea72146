/* SPDX-License-Identifier: Apache-2.0 */
/* The client's connections, time limits, and calls that end before their answer. */
#include "tests/unit/http/peer.h"

#include <netdb.h>

static void wait_for_open(unsigned n)
{
    for (int i = 0; count_of(&w.server, &w.server.open) > n; i++) {
        if (i == 2000)
            FAIL("%u connections are still open", count_of(&w.server, &w.server.open));
        loop_turn(w.loop, 5 * MS);
    }
}

/* --- connections --- */

TEST(a_refused_connection_is_no_connection)
{
    struct http_client_opts o = {.user_agent = "test/1"};
    struct http_call c;
    int fd = listen_on_loopback(1, &w.server.port);

    close(fd); /* nobody listens there now */
    world_open(&o);
    call_init(&c);
    run(&c);
    EQ_INT(c.fate, HTTP_NO_CONNECT);
    EQ_Z(c.reason, "Connection refused");
    http_call_done(&c);
    http_target_free(w.target);
    http_client_free(w.client);
    loop_free(w.loop);
}

/* libcurl's resolver finds these first.  two.test has an address where nobody listens and
 * one where the server does; no other name exists. */
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **ret)
{
    static const uint32_t addr[] = {INADDR_LOOPBACK + 1, INADDR_LOOPBACK};

    *ret = NULL;
    if (strcmp(node, "two.test") != 0)
        return EAI_NONAME;
    for (int i = 1; i >= 0; i--) {
        struct addrinfo *a = mem_alloc(sizeof *a + sizeof(struct sockaddr_in));
        struct sockaddr_in *in = (struct sockaddr_in *)(a + 1);

        in->sin_family = AF_INET;
        in->sin_addr.s_addr = htonl(addr[i]);
        in->sin_port = htons((uint16_t)strtoul(service, NULL, 10));
        *a = (struct addrinfo){.ai_family = AF_INET,
                               .ai_socktype = hints->ai_socktype,
                               .ai_addrlen = sizeof *in,
                               .ai_addr = (struct sockaddr *)in,
                               .ai_next = *ret};
        *ret = a;
    }
    return 0;
}

void freeaddrinfo(struct addrinfo *a)
{
    while (a) {
        struct addrinfo *next = a->ai_next;

        mem_free(a);
        a = next;
    }
}

TEST(the_addresses_of_a_name_are_tried_one_after_the_other)
{
    static const struct step steps[] = {{.then = ECHO}};
    struct http_target_opts o = {.base_url = w.url};
    struct http_target *t;
    struct http_call c[5];

    world_start(steps, 1);
    snprintf(w.url, sizeof w.url, "http://two.test:%d", w.server.port);
    t = make_target(&o);
    for (int round = 0; round < 4; round++) {
        w.done = 0;
        for (int i = 0; i < 5; i++) {
            if (round == 0)
                call_init(&c[i]);
            c[i].target = t;
            http_start(w.client, &c[i]);
        }
        turn_until(&w.done, 5);
        for (int i = 0; i < 5; i++)
            EQ_INT(c[i].fate, HTTP_ANSWERED);
    }
    EQ_INT(count_of(&w.server, &w.server.accepted), 5);
    for (int i = 0; i < 5; i++)
        http_call_done(&c[i]);
    http_target_free(t);
    world_stop();
}

/* A listener whose queue is full: it does not even refuse. */
static void block(uint32_t addr, int port, int fd[3])
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_addr.s_addr = htonl(addr),
                            .sin_port = htons((uint16_t)port)};

    fd[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EQ_INT(bind(fd[0], (struct sockaddr *)&a, sizeof a), 0);
    EQ_INT(listen(fd[0], 0), 0);
    for (int i = 1; i < 3; i++) {
        fd[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        IGNORE(connect(fd[i], (struct sockaddr *)&a, sizeof a) < 0);
    }
}

static void unblock(int fd[3])
{
    for (int i = 0; i < 3; i++)
        close(fd[i]);
}

TEST(an_address_that_refuses_late_is_followed_by_the_next)
{
    enum { N = 8 };
    static const struct step steps[] = {{.then = ECHO}};
    struct http_target_opts o = {.base_url = w.url};
    struct http_target *t[N];
    struct http_call c[N];
    int fd[3];

    world_start(steps, 1);
    block(INADDR_LOOPBACK + 1, w.server.port, fd);
    snprintf(w.url, sizeof w.url, "http://two.test:%d", w.server.port);
    for (int i = 0; i < N; i++) { /* targets of their own: each looks the name up */
        t[i] = make_target(&o);
        call_init(&c[i]);
        c[i].target = t[i];
        http_start(w.client, &c[i]);
    }
    for (int i = 0; i < 10; i++)
        loop_turn(w.loop, 10 * MS);
    unblock(fd); /* the next SYN is refused: after a second, Linux's first retry */
    turn_until(&w.done, N);
    for (int i = 0; i < N; i++) {
        if (c[i].fate != HTTP_ANSWERED)
            FAIL("call %d: fate %d: %s", i, c[i].fate, c[i].reason);
        http_call_done(&c[i]);
        http_target_free(t[i]);
    }
    world_stop();
}

TEST(an_address_that_does_not_answer_leaves_time_for_the_next)
{
    static const struct step steps[] = {{.then = ECHO}};
    struct http_target_opts o = {.base_url = w.url};
    struct http_target *t;
    struct http_call c;
    int fd[3];

    world_start(steps, 1);
    block(INADDR_LOOPBACK + 1, w.server.port, fd);
    snprintf(w.url, sizeof w.url, "http://two.test:%d", w.server.port);
    t = make_target(&o);
    call_init(&c);
    c.target = t;
    c.connect_timeout = 600 * MS;
    run(&c);
    if (c.fate != HTTP_ANSWERED)
        FAIL("fate %d: %s", c.fate, c.reason);
    http_call_done(&c);
    http_target_free(t);
    world_stop();
    unblock(fd);
}

TEST(a_name_that_is_none_is_no_connection)
{
    static const struct step steps[] = {{.send = OK_ANSWER}};
    struct http_target_opts o = {.base_url = "http://none.test"};
    struct http_target *t;
    struct http_call c;

    world_start(steps, 1);
    t = make_target(&o);
    call_init(&c);
    c.target = t;
    run(&c);
    EQ_INT(c.fate, HTTP_NO_CONNECT);
    EQ_Z(c.reason, "Could not resolve host: none.test");
    http_start(w.client, &c); /* the resolver's thread is left to itself */
    http_cancel(&c);
    loop_turn(w.loop, 10 * MS);
    c.target = w.target;
    run(&c);
    EQ_INT(c.fate, HTTP_ANSWERED);
    http_call_done(&c);
    http_target_free(t);
    world_stop();
}

static unsigned ticks;

static void count_tick(void *ctx, usec_t now)
{
    (void)ctx, (void)now;
    ticks++;
}

TEST(a_refused_call_that_is_started_again_and_again_leaves_the_loop_its_turns)
{
    struct http_client_opts o = {.user_agent = "test/1"};
    struct http_call c;
    int fd = listen_on_loopback(1, &w.server.port);

    close(fd);
    world_open(&o);
    loop_on_tick(w.loop, count_tick, NULL);
    call_init(&c);
    w.again = 50;
    http_start(w.client, &c);
    turn_until(&w.done, 51);
    OK(ticks >= 50);
    http_call_done(&c);
    http_client_free(w.client);
    http_target_free(w.target);
    loop_free(w.loop);
}

TEST(a_path_that_makes_no_url_is_told_by_done)
{
    static const struct step steps[] = {{.send = OK_ANSWER}};
    struct http_call c;

    world_start(steps, 1);
    call_init(&c);
    c.path = "/with\nbreak";
    run(&c);
    EQ_INT(c.fate, HTTP_NO_CONNECT);
    EQ_Z(c.reason, "\"/with?break\" makes no URL");
    c.path = "/fine";
    run(&c);
    EQ_INT(c.fate, HTTP_ANSWERED);
    http_call_done(&c);
    world_stop();
}

TEST(calls_one_after_the_other_use_one_connection)
{
    static const struct step steps[] = {{.then = ECHO}};
    struct http_call c;

    world_start(steps, 1);
    call_init(&c);
    w.again = 49;
    http_start(w.client, &c);
    turn_until(&w.done, 50);
    EQ_INT(c.fate, HTTP_ANSWERED);
    EQ_INT(count_of(&w.server, &w.server.accepted), 1);
    EQ_INT(count_of(&w.server, &w.server.requests), 50);
    http_call_done(&c);
    world_stop();
}

TEST(a_connection_that_the_server_closed_while_idle_is_not_used)
{
    static const struct step steps[] = {{.send = OK_ANSWER, .then = CLOSE}};
    struct http_call c;

    world_start(steps, 1);
    call_init(&c);
    for (unsigned i = 1; i <= 3; i++) {
        run(&c);
        EQ_INT(c.fate, HTTP_ANSWERED);
        wait_for_open(0);
        if (i == 2) /* the client notices by itself, or when it wants to use it */
            loop_turn(w.loop, 20 * MS);
    }
    EQ_INT(count_of(&w.server, &w.server.requests), 3);
    http_call_done(&c);
    world_stop();
}

/* The server takes the request on an idle connection and closes without a byte: it may
 * have decided to before the request came.  More often than libcurl's count of five. */
TEST(a_request_that_met_a_closing_connection_is_sent_again_on_a_fresh_one)
{
    enum { N = 12 };
    static struct step steps[2 * N];
    struct http_call c;

    for (int i = 0; i < N; i++) {
        steps[2 * i] = (struct step){.send = OK_ANSWER};
        steps[2 * i + 1] = (struct step){.send = "", .then = i % 2 ? CLOSE : RST};
    }
    world_start(steps, 2 * N - 1);
    call_init(&c);
    for (unsigned i = 1; i <= N; i++) {
        run(&c);
        if (c.fate != HTTP_ANSWERED)
            FAIL("call %u: fate %d: %s", i, c.fate, c.reason);
        EQ_INT(count_of(&w.server, &w.server.requests), 2 * i - 1);
    }
    EQ_INT(count_of(&w.server, &w.server.accepted), N);
    http_call_done(&c);
    world_stop();
}

TEST(a_path_that_changed_is_the_one_sent_again)
{
    static const struct step steps[] = {
        {.send = OK_ANSWER}, {.send = "", .then = CLOSE}, {.send = OK_ANSWER}};
    struct http_call c;

    world_start(steps, 3);
    call_init(&c);
    c.path = "/old";
    run(&c);
    c.path = "/new";
    run(&c);
    EQ_INT(c.fate, HTTP_ANSWERED);
    EQ_INT(count_of(&w.server, &w.server.requests), 3);
    OK(strncmp(seen(&w.server), "POST /v1/new ", 13) == 0);
    OK(strstr(seen(&w.server), "\r\n\r\n{\"a\":1}"));
    http_call_done(&c);
    world_stop();
}

TEST(a_request_whose_answer_had_begun_is_not_sent_again)
{
    static const struct step steps[] = {{.send = OK_ANSWER},
                                        {.send = HEAD, .then = CLOSE}};
    struct http_call c;

    world_start(steps, 2);
    call_init(&c);
    run(&c);
    run(&c);
    EQ_INT(c.fate, HTTP_RESET);
    EQ_INT(count_of(&w.server, &w.server.requests), 2);
    http_call_done(&c);
    world_stop();
}

TEST(hundreds_of_calls_at_once_each_get_their_own_answer)
{
    enum { N = 200 };
    static const struct step steps[] = {{.then = ECHO}};
    static struct http_call c[N];
    static char body[N][32];

    world_start(steps, 1);
    for (int round = 0; round < 3; round++) {
        w.done = 0;
        for (int i = 0; i < N; i++) {
            if (round == 0)
                call_init(&c[i]);
            c[i].body.p = body[i];
            c[i].body.n = (size_t)snprintf(body[i], 32, "body %d of %d", i, round);
            snprintf(c[i].request_id, 96, "id-%d-%d", i, round);
            http_start(w.client, &c[i]);
        }
        turn_until(&w.done, N);
        for (int i = 0; i < N; i++) {
            EQ_INT(c[i].fate, HTTP_ANSWERED);
            EQ_Z(c[i].answer_id, c[i].request_id);
            EQ_STR(buf_peek(&c[i].answer), c[i].body);
        }
    }
    /* reused, not opened anew; a lane that was half full may have become full */
    OK(count_of(&w.server, &w.server.accepted) <= N + 16);
    for (int i = 0; i < N; i++)
        http_call_done(&c[i]);
    world_stop();
}

TEST(no_more_connections_stay_open_than_allowed)
{
    enum { N = 100 };
    static const struct step steps[] = {{.then = ECHO}};
    static struct http_call c[N];
    struct http_client_opts o = {.max_connections = 40};

    server_start(&w.server, steps, 1);
    world_open(&o);
    for (int i = 0; i < N; i++) {
        call_init(&c[i]);
        http_start(w.client, &c[i]);
    }
    turn_until(&w.done, N);
    wait_for_open(40);
    for (int i = 0; i < N; i++)
        http_call_done(&c[i]);
    world_stop();
}

/* --- time --- */

TEST(limits_of_time_end_a_call)
{
    static const struct {
        const char *name;
        struct step step;
        usec_t idle, total, at_least;
        enum http_fate fate;
        const char *reason;
    } rows[] = {
        {"no answer",
         {.send = "", .then = HOLD},
         200 * MS,
         0,
         200 * MS,
         HTTP_TIMEOUT,
         "no byte for 0.2 s"},
        {"half an answer",
         {.send = HEAD, .then = HOLD},
         200 * MS,
         0,
         200 * MS,
         HTTP_TIMEOUT,
         "no byte for 0.2 s"},
        {"slow but steady",
         {.send = OK_ANSWER, .then = DRIBBLE},
         200 * MS,
         0,
         400 * MS,
         HTTP_ANSWERED,
         ""},
        {"steady for too long",
         {.send = OK_ANSWER, .then = DRIBBLE},
         200 * MS,
         300 * MS,
         300 * MS,
         HTTP_TIMEOUT,
         "no whole answer within 0.3 s"},
        {"no limits",
         {.send = OK_ANSWER, .then = DRIBBLE},
         0,
         0,
         400 * MS,
         HTTP_ANSWERED,
         ""},
        {"a body that is not read",
         {.send = "", .then = HOLD, .read_only = 1},
         300 * MS,
         0,
         300 * MS,
         HTTP_TIMEOUT,
         "no byte for 0.3 s"},
        {"a body that is read slowly",
         {.send = OK_ANSWER, .read_slowly = 12},
         250 * MS,
         0,
         400 * MS,
         HTTP_ANSWERED,
         ""},
    };
    enum { LARGE = 8 << 20 };
    char *large = mem_alloc(LARGE);

    memset(large, 'L', LARGE);
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct http_call c;
        usec_t took;

        t_row(rows[i].name);
        w = (struct world){0};
        world_start(&rows[i].step, 1);
        call_init(&c);
        c.idle_timeout = rows[i].idle;
        c.total_timeout = rows[i].total;
        if (rows[i].step.read_only || rows[i].step.read_slowly)
            c.body = (struct str){large, LARGE};
        took = clock_mono();
        run(&c);
        took = clock_mono() - took;
        if (c.fate != rows[i].fate)
            FAIL("fate %d, want %d: %s", c.fate, rows[i].fate, c.reason);
        EQ_Z(c.reason, rows[i].reason);
        OK(took >= rows[i].at_least);
        if (c.fate == HTTP_TIMEOUT)
            OK(took < 4 * rows[i].at_least + USEC_PER_SEC);
        http_call_done(&c);
        world_stop();
    }
    mem_free(large);
}

TEST(a_server_that_takes_no_connection_is_given_up)
{
    static const struct step steps[] = {{.then = ECHO}};
    struct http_target_opts o = {.base_url = w.url};
    struct http_target *t;
    struct http_call c;
    int fd[3];

    world_start(steps, 1);
    block(INADDR_LOOPBACK + 1, w.server.port, fd);
    snprintf(w.url, sizeof w.url, "http://127.0.0.2:%d", w.server.port);
    t = make_target(&o);
    call_init(&c);
    c.target = t;
    c.connect_timeout = 200 * MS;
    for (int i = 0; i < 2; i++) {
        usec_t took = clock_mono();

        run(&c);
        took = clock_mono() - took;
        EQ_INT(c.fate, HTTP_NO_CONNECT);
        EQ_Z(c.reason, "no connection within 0.2 s");
        OK(took >= 200 * MS && took < 2 * USEC_PER_SEC);
    }
    http_call_done(&c);
    http_target_free(t);
    world_stop();
    unblock(fd);
}

/* --- cancel, start again, abort --- */

static void wait_for_requests(unsigned n)
{
    while (count_of(&w.server, &w.server.requests) < n)
        loop_turn(w.loop, MS);
}

TEST(a_cancelled_call_is_over_at_once_and_may_be_started_again)
{
    static const struct step steps[] = {
        {.send = HEAD "Content-Length: 5\r\n\r\nab", .then = HOLD}, {.send = OK_ANSWER}};
    struct http_call c;

    world_start(steps, 2);
    call_init(&c);
    http_cancel(&c); /* idle: fine */
    http_start(w.client, &c);
    wait_for_requests(1);
    loop_turn(w.loop, 20 * MS); /* half the answer is here */
    http_cancel(&c);
    http_cancel(&c);
    wait_for_open(0);
    EQ_INT(w.done, 0);
    run(&c);
    EQ_INT(c.fate, HTTP_ANSWERED);
    EQ_STR(buf_peek(&c.answer), STR("ok"));
    EQ_INT(w.done, 1);
    http_call_done(&c);
    world_stop();
}

TEST(a_call_cancelled_before_anything_happened_leaves_nothing_behind)
{
    static const struct step steps[] = {{.send = OK_ANSWER}};
    struct http_call c;

    world_start(steps, 1);
    call_init(&c);
    for (int i = 0; i < 20; i++) {
        http_start(w.client, &c);
        http_cancel(&c);
    }
    c.path = "/bad\npath";
    http_start(w.client, &c);
    http_cancel(&c);
    for (int i = 0; i < 5; i++)
        loop_turn(w.loop, 5 * MS);
    EQ_INT(w.done, 0);
    wait_for_open(0);
    http_call_done(&c);
    world_stop();
}

TEST(a_call_may_be_cancelled_in_the_end_of_another)
{
    static const struct step steps[] = {{.send = OK_ANSWER}};
    struct http_call c[2];

    world_start(steps, 1);
    for (int round = 0; round < 20; round++) {
        w.pair = c;
        w.done = 0;
        for (int i = 0; i < 2; i++) {
            if (round == 0)
                call_init(&c[i]);
            http_start(w.client, &c[i]);
        }
        nap(round % 2 ? 10 : 0); /* both answers are there: both end in one turn */
        turn_until(&w.done, 1);
        for (int i = 0; i < 3; i++)
            loop_turn(w.loop, 0);
        EQ_INT(w.done, 1);
        OK(!c[0]._easy && !c[1]._easy);
    }
    http_call_done(&c[0]);
    http_call_done(&c[1]);
    world_stop();
}

TEST(freeing_the_client_ends_running_calls_as_aborted)
{
    static const struct step steps[] = {{.send = "", .then = HOLD}};
    struct http_call c[3];

    world_start(steps, 1);
    for (int i = 0; i < 3; i++) {
        call_init(&c[i]);
        http_start(w.client, &c[i]);
    }
    wait_for_requests(3);
    http_cancel(&c[1]);
    w.client = http_client_free(w.client);
    EQ_INT(w.done, 2);
    EQ_INT(c[0].fate, HTTP_ABORTED);
    EQ_INT(c[2].fate, HTTP_ABORTED);
    EQ_Z(c[0].reason, "the client is shutting down");
    for (int i = 0; i < 3; i++)
        http_call_done(&c[i]);
    world_stop();
}

TEST(a_large_answers_memory_is_given_back_with_the_next_start)
{
    static const struct step steps[] = {
        {.send = HEAD "Content-Length: 500000\r\n\r\n", .pad = 500000},
        {.send = OK_ANSWER},
        {.send = OK_ANSWER}};
    struct http_call c;
    const char *kept;

    world_start(steps, 3);
    call_init(&c);
    run(&c);
    EQ_INT(c.answer.n, 500000);
    run(&c);
    OK(c.answer._cap <= 64 * 1024);
    kept = c.answer.p;
    run(&c);
    OK(c.answer.p == kept); /* a small one's is kept */
    http_call_done(&c);
    world_stop();
}
