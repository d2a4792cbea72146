/* SPDX-License-Identifier: Apache-2.0 */
/* link: -Wl,--wrap=clock_mono */
#include "base/limits.h"
#include "tests/unit/http/raw.h"

#include <sys/resource.h>
#include <sys/stat.h>

static struct app app;

/* The clock can be put forward; what really waits (epoll, timeouts of the library) does
 * not notice. */
usec_t __real_clock_mono(void);
usec_t __wrap_clock_mono(void);
static _Atomic usec_t ahead;

usec_t __wrap_clock_mono(void)
{
    return __real_clock_mono() + atomic_load(&ahead);
}

static void start(void)
{
    app_start(&app, (struct http_server_opts){.io_threads = 2, .workers = 2});
}

static bool has(const char *answer, const char *text)
{
    return strcasestr(answer, text) != NULL;
}

TEST(a_request_is_answered_with_a_fixed_set_of_headers)
{
    const char *got, *id;
    char first[64];
    int fd;

    start();
    fd = dial(&app);
    OK(say(fd, GET("/hello?q=a%20b")));
    got = hear(fd);
    EQ_INT(status_of(got), 200);
    EQ_Z(body_of(got), "GET /hello q=[a b]");
    OK(has(got, "\r\ncontent-type: text/plain\r\n"));
    OK(has(got, "\r\nx-content-type-options: nosniff\r\n"));
    OK(has(got, "\r\nDate: "));
    OK(!has(got, "\r\nServer:"));
    OK(!has(got, "\r\nConnection:"));
    id = strcasestr(got, "\r\nx-request-id: req_");
    OK(id != NULL);
    EQ_INT(strspn(id + 20, "0123456789abcdef"), 32);
    memcpy(first, id, 54);
    OK(say(fd, GET("/header")));
    got = hear(fd);
    OK(has(got, "\r\nContent-Disposition: attachment; filename=\"a.jsonl\"\r\n"));
    id = strcasestr(got, "\r\nx-request-id: req_");
    OK(id && memcmp(first, id, 54) != 0);
    OK(say(fd, GET("/hello"))); /* headers do not stay for the next answer */
    OK(!has(hear(fd), "Content-Disposition"));
    close(fd);
    app_done(&app);
}

TEST(unknown_methods_reach_serve_and_HEAD_gets_the_head_only)
{
    const char *got;
    int fd;

    start();
    fd = dial(&app);
    OK(say(fd, "BREW /pot HTTP/1.1\r\nHost: a\r\n\r\n"));
    EQ_Z(body_of(hear(fd)), "BREW /pot ");
    OK(say(fd, "HEAD /hello HTTP/1.1\r\nHost: a\r\n\r\n"));
    got = hear_some(fd, true);
    EQ_INT(status_of(got), 200);
    OK(has(got, "\r\nContent-Length: 12\r\n"));
    EQ_Z(body_of(got), "");
    OK(say(fd, GET("/after")));
    EQ_Z(body_of(hear(fd)), "GET /after ");
    OK(say(fd, "HEAD /a%00 HTTP/1.1\r\nHost: a\r\n\r\n"));
    got = hear_some(fd, true);
    EQ_INT(status_of(got), 400);
    EQ_Z(body_of(got), "");
    close(fd);
    app_done(&app);
}

TEST(pipelined_requests_are_answered_in_order)
{
    struct buf out, all;
    const char *at;
    int fd;

    start();
    buf_init(&out, 1 << 20);
    for (int i = 0; i < 200; i++)
        (void)buf_fmt(
            &out, "POST /p%d HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n%03d", i, i);
    (void)buf_z(&out, END);
    fd = dial(&app);
    OK(say_n(fd, out.p, out.n));
    (void)hear_out(fd, &all); /* too many for the list */
    at = all.p;
    for (int i = 0; i < 200; i++) {
        char want[32];

        EQ_RC(str_fmt(want, sizeof want, "POST /p%d %03d", i, i), RC_OK);
        at = strstr(at, want);
        OK(at != NULL);
    }
    OK(strstr(at, "GET /end ") != NULL);
    EQ_INT(app.served, 201);
    buf_done(&out);
    buf_done(&all);
    close(fd);
    app_done(&app);
}

TEST(a_client_that_ends_its_sending_side_gets_its_answer)
{
    static const char *const requests[] = {GET("/park"),
                                           POST("/park", "Content-Length: 2\r\n", "hi"),
                                           POST("/park", TE, "2\r\nhi\r\n0\r\n\r\n")};
    struct buf all;
    int older; /* the library treats its oldest connection otherwise than the rest */

    app_start(&app, (struct http_server_opts){.io_threads = 1});
    older = dial(&app);
    for (size_t i = 0; i < 2 * COUNTOF(requests); i++) {
        int fd = dial(&app);

        OK(say(fd, requests[i / 2]));
        if (i % 2) /* the end comes later than the request */
            sem_wait(&app.parked);
        OK(shutdown(fd, SHUT_WR) == 0);
        if (i % 2 == 0)
            sem_wait(&app.parked);
        sem_post(&app.let_go);
        EQ_Z(hear_out(fd, &all), "200");
        buf_done(&all);
        close(fd);
    }
    close(older);
    app_done(&app);
}

/* ---- bodies ---- */

TEST(kept_bodies_come_whole_up_to_their_maximum)
{
    static char body[KEPT_MAX];
    char head[128];
    const char *got;
    int fd;

    start();
    fd = dial(&app);
    for (size_t i = 0; i < sizeof body; i++)
        body[i] = (char)('A' + i % 26);
    for (size_t n = 1; n <= KEPT_MAX; n = n < 50000 ? n * 7 : n + 16393) {
        size_t fits = n < 60000 ? n : 0; /* hear() has room for so much */

        EQ_RC(str_fmt(head, sizeof head,
                      "POST /%s HTTP/1.1\r\nHost: a\r\nContent-Length: %zu\r\n\r\n",
                      fits ? "x" : "x?big=3", n),
              RC_OK);
        OK(say(fd, head) && say_n(fd, body, n));
        got = hear(fd);
        EQ_INT(status_of(got), 200);
        if (fits) {
            EQ_INT(strlen(body_of(got)), 8 + n);
            OK(memcmp(body_of(got) + 8, body, n) == 0);
        }
    }
    OK(say(fd, "POST /x?big=3 HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n"));
    OK(say_n(fd, body, KEPT_MAX));
    EQ_INT(status_of(hear(fd)), 200);
    OK(say(fd, "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100001\r\n\r\n"));
    EQ_INT(status_of(hear(fd)), 413);
    close(fd);
    app_done(&app);
}

TEST(streamed_bodies_reach_the_sink_whole)
{
    static char block[1 << 20];
    const char *got;
    int fd;

    start();
    fd = dial(&app);
    OK(say(fd, "POST /sink HTTP/1.1\r\nHost: a\r\nContent-Length: 33554432\r\n\r\n"));
    for (int i = 0; i < 32; i++)
        OK(say_n(fd, block, sizeof block));
    got = hear(fd);
    EQ_Z(body_of(got), "POST /sink 33554432");
    EQ_INT(app.streamed, 33554432);
    OK(say(fd, POST("/sink", TE, "")));
    for (int i = 0; i < 16; i++)
        OK(say(fd, "100000\r\n") && say_n(fd, block, sizeof block) && say(fd, "\r\n"));
    OK(say(fd, "0\r\n\r\n"));
    EQ_Z(body_of(hear(fd)), "POST /sink 16777216");
    EQ_Z(hear(fd), ""); /* closed: see the answer to chunked requests */
    close(fd);
    app_done(&app);
}

TEST(a_sink_that_fails_is_not_called_again_and_serve_still_runs)
{
    static char block[1 << 20];
    int fd;

    start();
    fd = dial(&app);
    OK(say(fd,
           "POST /sink/fails HTTP/1.1\r\nHost: a\r\nContent-Length: 1048576\r\n\r\n"));
    OK(say_n(fd, block, sizeof block));
    EQ_Z(body_of(hear(fd)), "POST /sink/fails 1048576");
    EQ_INT(app.pieces, 1);
    OK(say(fd, POST("/sink", "Content-Length: 2\r\n", "hi")));
    EQ_Z(body_of(hear(fd)), "POST /sink 2");
    EQ_INT(app.pieces, 2);
    close(fd);
    app_done(&app);
}

TEST(a_length_over_the_maximum_is_refused_at_the_head)
{
    const char *got;
    int fd;

    start();
    fd = dial(&app);
    OK(say(fd, "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000000\r\n\r\n"));
    got = hear(fd); /* nothing of the body was sent */
    EQ_INT(status_of(got), 413);
    OK(has(got, "\r\nConnection: close\r\n"));
    OK(has(got, "\r\nx-request-id: req_"));
    OK(has(got, "\r\nContent-Type: application/json\r\n"));
    OK(has(got, "\r\nx-content-type-options: nosniff\r\n"));
    OK(has(got, "\"status\":413"));
    EQ_Z(hear(fd), "");
    close(fd);
    fd = dial(&app);
    OK(say(fd, POST("/none", "Content-Length: 1\r\n", "x")));
    EQ_INT(status_of(hear(fd)), 413);
    close(fd);
    EQ_INT(app.served, 0);
    EQ_INT(app.opened, 2);
    app_done(&app);
}

TEST(a_client_that_sends_all_of_a_refused_body_can_read_why)
{
    static char block[1 << 20];

    start();
    for (int chunked = 0; chunked < 2; chunked++) {
        int fd = dial(&app);

        OK(say(fd, chunked ? POST("/x", TE, "4000000\r\n")
                           : POST("/x", "Content-Length: 67108864\r\n", "")));
        for (int i = 0; i < 64; i++)
            OK(say_n(fd, block, sizeof block));
        EQ_INT(status_of(hear(fd)), 413);
        EQ_Z(hear(fd), "");
        close(fd);
    }
    EQ_INT(app.served, 0);
    app_done(&app);
}

TEST(expect_100_continue_is_answered_unless_the_head_is_refused)
{
    const char *got;
    int fd;

    start();
    fd = dial(&app);
    OK(say(fd, POST("/x", "Expect: 100-continue\r\nContent-Length: 2\r\n", "")));
    EQ_INT(status_of(hear(fd)), 100);
    OK(say(fd, "hi"));
    EQ_Z(body_of(hear(fd)), "POST /x hi");
    OK(say(fd, POST("/x", "Expect: 100-continue\r\nContent-Length: 200000\r\n", "")));
    got = hear(fd);
    EQ_INT(status_of(got), 413);
    EQ_Z(hear(fd), "");
    close(fd);
    app_done(&app);
}

/* ---- limits ---- */

static int ask_with_fields(unsigned n, unsigned value_bytes)
{
    struct buf out;
    int fd = dial(&app), status;

    buf_init(&out, 1 << 20);
    (void)buf_z(&out, "GET /x HTTP/1.1\r\nHost: a\r\n");
    for (unsigned i = 1; i < n; i++) {
        (void)buf_fmt(&out, "X-%u: ", i);
        for (unsigned k = 0; k < value_bytes; k++)
            (void)buf_char(&out, 'v');
        (void)buf_z(&out, "\r\n");
    }
    (void)buf_z(&out, "\r\n");
    OK(say_n(fd, out.p, out.n));
    status = status_of(hear(fd));
    buf_done(&out);
    close(fd);
    return status;
}

TEST(heads_over_their_limits_are_refused)
{
    char target[300] = "/";
    struct buf out;
    int fd;

    start();
    EQ_INT(ask_with_fields(LIMIT_HEAD_FIELDS, 10), 200);
    EQ_INT(ask_with_fields(LIMIT_HEAD_FIELDS + 1, 10), 431);
    EQ_INT(ask_with_fields(1000, 1), 431);
    EQ_INT(ask_with_fields(32, 1000), 200);
    EQ_INT(ask_with_fields(34, 1000), 431);
    EQ_INT(ask_with_fields(60, 1000), 431);
    EQ_INT(ask_with_fields(2, 200000), 431);
    memset(target, '/', sizeof target);
    buf_init(&out, 1 << 20);
    (void)buf_z(&out, "GET /");
    for (int i = 0; i < 300; i++)
        (void)buf_add(&out, target, sizeof target);
    fd = dial(&app);
    IGNORE(say_n(fd, out.p, out.n)); /* it may be refused before all is sent */
    EQ_INT(status_of(hear(fd)), 414);
    close(fd);
    buf_done(&out);
    app_done(&app);
}

TEST(a_slow_head_is_ended_and_a_slow_connection_is_not)
{
    struct buf all;
    int slow, idle, drips, again, steady;

    start();
    slow = dial(&app);
    idle = dial(&app);
    drips = dial(&app);
    again = dial(&app);
    steady = dial(&app);
    OK(say(slow, "GET /x HT"));
    OK(say(drips, "GET /x HT"));
    OK(say(steady, "GET /x HT"));
    OK(say(again, GET("/x")));
    EQ_INT(status_of(hear(again)), 200);
    nap(2100); /* for the door to have seen them, and `again` between requests */
    OK(say(drips, "TP"));
    OK(say(again, "G"));
    OK(say(steady, "TP/1.1\r\nHost: a\r\n\r\n")); /* and between requests from now on */
    EQ_INT(status_of(hear(steady)), 200);
    nap(1100);
    atomic_store(&ahead, (LIMIT_HEAD_SECONDS - 2) * USEC_PER_SEC);
    OK(say(drips, "/1"));
    EQ_Z(hear_out(slow, &all), "408");
    OK(has(all.p, "\r\nx-request-id: req_"));
    buf_done(&all);
    EQ_Z(hear_out(drips, &all), "408");
    buf_done(&all);
    EQ_Z(hear_out(again, &all), "408");
    buf_done(&all);
    OK(say(idle, END));
    EQ_Z(hear_out(idle, &all), "200");
    buf_done(&all);
    OK(say(steady, END));
    EQ_Z(hear_out(steady, &all), "200");
    buf_done(&all);
    close(slow), close(idle), close(drips), close(again), close(steady);
    app_done(&app);
}

TEST(a_slow_body_is_ended)
{
    int fd;

    start();
    fd = dial(&app);
    OK(say(fd, POST("/sink", "Content-Length: 1000000\r\n", "x")));
    while (app.pieces == 0)
        nap(1);
    atomic_store(&ahead, (LIMIT_BODY_GRACE + 1) * USEC_PER_SEC);
    OK(say(fd, "x"));
    EQ_INT(status_of(hear(fd)), 408);
    EQ_Z(hear(fd), "");
    close(fd);
    atomic_store(&ahead, 0);
    fd = dial(&app);
    OK(say(fd, POST("/sink", "Content-Length: 40000\r\n", "")));
    OK(say_n(fd, (char[39999]){0}, 39999));
    while (app.streamed < 40000) /* with the byte of before: fast enough on the average */
        nap(1);
    atomic_store(&ahead, (LIMIT_BODY_GRACE + 1) * USEC_PER_SEC);
    OK(say(fd, "x"));
    EQ_INT(status_of(hear(fd)), 200);
    close(fd);
    app_done(&app);
}

TEST(an_idle_connection_is_closed)
{
    struct buf all;
    int fd, half;

    app_start(&app, (struct http_server_opts){.idle_seconds = 1});
    fd = dial(&app);
    half = dial(&app);
    OK(say(fd, GET("/x")));
    OK(say(half, POST("/x", "Content-Length: 5\r\n", "x")));
    EQ_Z(hear_out(fd, &all), "200");
    buf_done(&all);
    EQ_Z(hear_out(half, &all), "");
    buf_done(&all);
    close(fd), close(half);
    app_done(&app);
}

TEST(serving_may_take_longer_than_the_idle_limit)
{
    int fd;

    app_start(&app, (struct http_server_opts){.idle_seconds = 1});
    fd = dial(&app);
    OK(say(fd, GET("/park")));
    sem_wait(&app.parked);
    nap(2500);
    sem_post(&app.let_go);
    EQ_Z(body_of(hear(fd)), "GET /park ");
    OK(say(fd, GET("/x")));
    EQ_INT(status_of(hear(fd)), 200);
    close(fd);
    app_done(&app);
}

TEST(connections_over_the_maximum_wait_for_their_turn)
{
    struct pollfd p = {.events = POLLIN};
    int fd[4];

    app_start(&app, (struct http_server_opts){.max_connections = 3});
    for (int i = 0; i < 4; i++) {
        fd[i] = dial(&app); /* the fourth in the queue of the system */
        OK(say(fd[i], GET("/x")));
        if (i < 3)
            EQ_INT(status_of(hear(fd[i])), 200);
    }
    p.fd = fd[3];
    EQ_INT(poll(&p, 1, 300), 0);
    close(fd[0]);
    EQ_INT(status_of(hear(fd[3])), 200);
    for (int i = 1; i < 4; i++)
        close(fd[i]);
    app_done(&app);
}

TEST(connections_wait_while_there_are_no_descriptors)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    struct rlimit limit, tight;
    int fd[3];

    start();
    at.sin_port = htons((uint16_t)app.port);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (size_t i = 0; i < COUNTOF(fd); i++)
        fd[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    OK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    tight = (struct rlimit){(rlim_t)fd[2] + 2, limit.rlim_max}; /* one more */
    OK(setrlimit(RLIMIT_NOFILE, &tight) == 0);
    for (size_t i = 0; i < COUNTOF(fd); i++) {
        OK(connect(fd[i], (struct sockaddr *)&at, sizeof at) == 0);
        OK(say(fd[i], GET("/x")));
    }
    EQ_INT(status_of(hear(fd[0])), 200);
    EQ_INT(poll(&(struct pollfd){.fd = fd[1], .events = POLLIN}, 1, 100), 0);
    close(fd[0]);
    EQ_INT(status_of(hear(fd[1])), 200); /* within a second */
    OK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    EQ_INT(status_of(hear(fd[2])), 200);
    close(fd[1]), close(fd[2]);
    app_done(&app);
}

TEST(slow_clients_cost_no_thread)
{
    enum { SLOW = 400 };
    static const char *const halves[] = {"GET /x HTTP/1.1\r\nHo",
                                         POST("/sink", "Content-Length: 100\r\n", "half"),
                                         POST("/x", TE, "5\r\nhe"), ""};
    int slow[SLOW], fd;

    app_start(&app, (struct http_server_opts){.io_threads = 1, .workers = 1});
    for (int i = 0; i < SLOW; i++) {
        slow[i] = dial(&app);
        if (i % 40 == 0) /* an answer that is not read */
            OK(say(slow[i], GET("/x?big=8000000")));
        else
            OK(say(slow[i], halves[i % COUNTOF(halves)]));
    }
    fd = dial(&app);
    for (int i = 0; i < 100; i++) {
        OK(say(fd, GET("/quick")));
        EQ_Z(body_of(hear(fd)), "GET /quick ");
    }
    for (int i = 0; i < SLOW; i++)
        close(slow[i]);
    close(fd);
    app_done(&app);
}

/* ---- answers ---- */

TEST(files_are_sent_from_any_place)
{
    static const struct {
        unsigned off, n;
        char first;
    } rows[] = {
        {0, 10, 'a'}, {999, 2, 'a'}, {25000, 1000, 'z'}, {7, 0, 0}, {0, 60000, 'a'}};
    const char *got;
    int fd;

    start();
    fd = dial(&app);
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        char line[128];

        EQ_RC(str_fmt(line, sizeof line,
                      "GET /fd?off=%u&n=%u HTTP/1.1\r\nHost: a\r\n\r\n", rows[i].off,
                      rows[i].n),
              RC_OK);
        OK(say(fd, line));
        got = hear(fd);
        EQ_INT(status_of(got), 206);
        OK(has(got, "\r\ncontent-type: application/jsonl\r\n"));
        EQ_INT(strlen(body_of(got)), rows[i].n);
        if (rows[i].n)
            EQ_INT(body_of(got)[0], rows[i].first);
    }
    OK(say(fd, "HEAD /fd?off=5&n=777 HTTP/1.1\r\nHost: a\r\n\r\n"));
    got = hear_some(fd, true);
    OK(has(got, "\r\nContent-Length: 777\r\n"));
    EQ_Z(body_of(got), "");
    OK(say(fd, GET("/after")));
    EQ_Z(body_of(hear(fd)), "GET /after ");
    close(fd);
    app_done(&app);
    for (int i = 3; i < 200; i++) { /* every file was closed */
        struct stat st;

        OK(fstat(i, &st) < 0 || !S_ISREG(st.st_mode));
    }
}

TEST(a_large_answer_comes_whole)
{
    char piece[65536];
    size_t n = 0;
    ssize_t got;
    int fd;

    start();
    fd = dial(&app);
    OK(say(fd, "GET /x?big=50000000 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
    while ((got = recv(fd, piece, sizeof piece, 0)) > 0)
        n += (size_t)got;
    EQ_INT(got, 0);
    OK(n > 50000000 && n < 50000500);
    close(fd);
    app_done(&app);
}

TEST(an_answer_that_could_not_be_made_becomes_a_503)
{
    const char *got;
    int fd;

    start();
    fd = dial(&app);
    OK(say(fd, GET("/fails")));
    got = hear(fd);
    EQ_INT(status_of(got), 503);
    OK(has(got, "\"status\":503"));
    OK(has(got, "\r\nConnection: close\r\n"));
    close(fd);
    app_done(&app);
}

static void add_a_broken_header(void)
{
    struct http_request *rq = NULL;

    http_add_header(rq, "X", "a\r\nSet-Cookie: b");
}

static void add_a_broken_name(void)
{
    struct http_request *rq = NULL;

    http_add_header(rq, "X: a\r\nY", "b");
}

TEST(headers_that_were_not_encoded_panic)
{
    PANICS(add_a_broken_header, "header X was not encoded");
    PANICS(add_a_broken_name, "was not encoded");
}

/* ---- clients that leave, and ends ---- */

TEST(a_client_that_is_gone_while_its_request_is_served_harms_nobody)
{
    int fd;

    app_start(&app, (struct http_server_opts){.io_threads = 1, .workers = 4});
    for (int i = 0; i < 4; i++) {
        fd = dial(&app);
        OK(say(fd, GET("/park")));
        if (i % 2) { /* reset rather than end */
            struct linger now = {1, 0};

            OK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now) == 0);
        }
        sem_wait(&app.parked);
        close(fd);
    }
    for (int i = 0; i < 4; i++)
        sem_post(&app.let_go);
    fd = dial(&app);
    OK(say(fd, GET("/x")));
    EQ_INT(status_of(hear(fd)), 200);
    close(fd);
    EQ_INT(app.served, 5);
    app_done(&app);
}

TEST(a_client_that_leaves_in_the_middle_of_a_body_is_closed_without_serve)
{
    int fd;

    start();
    fd = dial(&app);
    OK(say(fd, POST("/sink", "Content-Length: 100\r\n", "half")));
    while (app.pieces == 0)
        nap(1);
    close(fd);
    while (app.closed == 0)
        nap(1);
    EQ_INT(app.served, 0);
    app_done(&app);
}

/* While its thread is busy the bytes and the end of the others come together, and the
 * library reads the bytes only. */
TEST(an_end_that_comes_together_with_bytes_is_seen_soon)
{
    int busy, fd;

    app_start(&app, (struct http_server_opts){.io_threads = 1});
    busy = dial(&app);
    OK(say(busy, POST("/sink/parks", "Content-Length: 1\r\n", "x")));
    sem_wait(&app.parked);
    for (int i = 0; i < 10; i++) {
        fd = dial(&app);
        OK(say(fd, POST("/sink", "Content-Length: 100\r\n", "half")));
        close(fd);
    }
    nap(100);
    sem_post(&app.let_go);
    EQ_INT(status_of(hear(busy)), 200);
    for (int i = 0; i < 300 && app.closed < 10; i++)
        nap(10);
    EQ_INT(app.opened, 11);
    OK(app.closed >= 10);
    close(busy);
    app_done(&app);
}

static void *let_go_later(void *arg)
{
    (void)arg;
    nap(300);
    sem_post(&app.let_go);
    return NULL;
}

TEST(draining_lets_requests_end_and_nobody_in)
{
    pthread_t t;
    const char *got;
    usec_t began;
    int busy, idle;

    start();
    busy = dial(&app);
    idle = dial(&app);
    OK(say(idle, GET("/x")));
    EQ_INT(status_of(hear(idle)), 200);
    OK(say(busy, GET("/park")));
    sem_wait(&app.parked);
    OK(pthread_create(&t, NULL, let_go_later, NULL) == 0);
    began = clock_mono();
    http_server_drain(app.server, 10);
    OK(clock_mono() - began < 5 * USEC_PER_SEC);
    got = hear(busy);
    EQ_Z(body_of(got), "GET /park ");
    OK(has(got, "\r\nConnection: close\r\n"));
    EQ_INT(try_dial(&app), -1);
    OK(say(idle, GET("/y"))); /* those inside are still served, and asked to leave */
    got = hear(idle);
    EQ_Z(body_of(got), "GET /y ");
    OK(has(got, "\r\nConnection: close\r\n"));
    EQ_Z(hear(idle), "");
    pthread_join(t, NULL);
    close(busy), close(idle);
    app_done(&app);
}

TEST(draining_gives_up_when_its_time_is_over_and_free_waits_for_replies)
{
    pthread_t t;
    usec_t began;
    int fd;

    start();
    fd = dial(&app);
    OK(say(fd, GET("/park")));
    sem_wait(&app.parked);
    began = clock_mono();
    http_server_drain(app.server, 1);
    OK(clock_mono() - began >= USEC_PER_SEC);
    OK(pthread_create(&t, NULL, let_go_later, NULL) == 0);
    app_done(&app);
    pthread_join(t, NULL);
    close(fd);
}

TEST(a_server_is_freed_in_any_state_of_its_connections)
{
    static const char *const bytes[] = {
        "",
        "GET /x HT",
        POST("/sink", "Content-Length: 100\r\n", "half"),
        GET("/x"),
        POST("/x", "Content-Length: 900000\r\n", "refused"),
        GET("/x?big=9000000")};
    int fd[COUNTOF(bytes)];

    start();
    for (size_t i = 0; i < COUNTOF(bytes); i++) {
        fd[i] = dial(&app);
        OK(say(fd[i], bytes[i]));
    }
    nap(100);
    app_done(&app);
    for (size_t i = 0; i < COUNTOF(bytes); i++)
        close(fd[i]);
    start();
    app_done(&app); /* unused */
}

TEST(addresses_are_understood_or_refused)
{
    static const struct {
        const char *listen;
        enum rc want;
    } rows[] = {
        {"127.0.0.1:0", RC_OK},        {"localhost:0", RC_OK},
        {"0.0.0.0:0", RC_OK},          {"127.0.0.1", RC_INVALID},
        {"127.0.0.1:", RC_INVALID},    {":8080", RC_INVALID},
        {"127.0.0.1:x", RC_INVALID},   {"127.0.0.1:65536", RC_INVALID},
        {"127.0.0.1:-1", RC_INVALID},  {"::1:0", RC_INVALID},
        {"[::1]", RC_INVALID},         {"", RC_INVALID},
        {"300.1.1.1:0", RC_INVALID},   {"192.0.2.1:0", RC_INVALID},
        {"127.0.0.1: 80", RC_INVALID},
    };
    struct http_handler h = {&app, on_open, on_serve, on_close, on_error};

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct http_server_opts o = {.listen = rows[i].listen};
        struct http_server *s = NULL;
        struct err e = {""};

        t_row(rows[i].listen);
        EQ_RC(http_server_new(&o, &h, &s, &e), rows[i].want);
        OK((rows[i].want == RC_OK) == (s != NULL));
        OK((rows[i].want == RC_OK) == (e.text[0] == '\0'));
        OK(http_server_free(s) == NULL);
    }
}

TEST(an_address_in_use_is_a_conflict)
{
    struct http_handler h = {&app, on_open, on_serve, on_close, on_error};
    struct http_server_opts o;
    struct http_server *s = NULL;
    struct err e = {""};
    char listen[32];

    start();
    EQ_RC(str_fmt(listen, sizeof listen, "127.0.0.1:%u", app.port), RC_OK);
    o = (struct http_server_opts){.listen = listen};
    EQ_RC(http_server_new(&o, &h, &s, &e), RC_CONFLICT);
    OK(strstr(e.text, listen) != NULL);
    app_done(&app);
    app_start(&app, o); /* free again at once */
    app_done(&app);
}

TEST(the_IPv6_loopback_is_served)
{
    struct sockaddr_in6 at = {.sin6_family = AF_INET6,
                              .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) < 0) {
        t_note("this machine has no ::1");
        return;
    }
    close(fd);
    fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    app_start(&app, (struct http_server_opts){.listen = "[::1]:0"});
    at.sin6_port = htons((uint16_t)app.port);
    OK(connect(fd, (struct sockaddr *)&at, sizeof at) == 0);
    OK(say(fd, GET("/x")));
    EQ_INT(status_of(hear(fd)), 200);
    close(fd);
    app_done(&app);
}
