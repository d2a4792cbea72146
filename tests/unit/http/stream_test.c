/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/http/raw.h"

#include <sys/resource.h>

/* What the path of a request says about its stream: see pull(). */
struct script {
    char kind;      /* the letter behind "/stream/" */
    uint64_t pulls; /* of this one */
    uint64_t left;  /* bytes still to be said */
    unsigned wait_ms;
    unsigned blocks_ms;
};

static struct app app;
static atomic_ullong said;                      /* bytes of all streams */
static atomic_uint made, released, pulls, told; /* told: pulls that heard of the end */
static atomic_bool over;

static void release(void *ctx)
{
    mem_free(ctx);
    atomic_fetch_add(&released, 1);
}

static void say_bytes(struct script *s, struct buf *out, size_t n)
{
    char *p;

    n = (size_t)u64_min(n, s->left);
    if (n == 0)
        return;
    EQ_RC(buf_reserve(out, n, &p), RC_OK);
    for (size_t i = 0; i < n; i++)
        p[i] = (char)('a' + (s->left - i) % 26);
    buf_commit(out, n);
    s->left -= n;
    atomic_fetch_add(&said, n);
}

static enum http_more say_all(struct script *s, struct buf *out)
{
    if (s->kind == 'n' && s->pulls % 2)
        return HTTP_MORE;
    say_bytes(s, out, s->kind == 'n' ? 1000 : HTTP_STREAM_BUFFER);
    if (s->left)
        return HTTP_MORE;
    return s->kind == 'x' ? HTTP_BREAK : HTTP_END;
}

/*
 * b  bytes: whole buffers until all was said     e  each pull a byte and a wait
 * w  waits for ever, says nothing                x  breaks off after its bytes
 * o  more than the buffer takes                  n  now and then nothing, without a wait
 * s  stubborn: goes on when told to stop         l  a line, then as w
 */
static enum http_more pull(void *ctx, struct buf *out, bool stopping, usec_t *again)
{
    struct script *s = ctx;

    EQ_INT(out->n, 0);
    s->pulls++;
    atomic_fetch_add(&pulls, 1);
    atomic_fetch_add(&told, stopping);
    *again = clock_mono() + s->wait_ms * USEC_PER_MS;
    if (s->blocks_ms)
        nap(s->blocks_ms);
    if (stopping && s->kind != 's')
        return s->kind == 'e' ? HTTP_END : HTTP_BREAK;
    switch (s->kind) {
    case 'e':
        say_bytes(s, out, 1);
        return s->left ? HTTP_WAIT : HTTP_END;
    case 'w':
    case 's':
        return HTTP_WAIT;
    case 'l':
        say_bytes(s, out, s->left);
        return HTTP_WAIT;
    case 'o':
        (void)buf_fmt(out, "%200000d%200000d", 1, 1);
        return HTTP_MORE;
    default:
        return say_all(s, out);
    }
}

static uint64_t number(struct http_request *rq, const char *name, uint64_t dflt)
{
    struct str text = http_query(rq, name);
    uint64_t v = dflt;

    if (text.p)
        EQ_RC(str_u64(text, &v), RC_OK);
    return v;
}

static void serve(void *ctx, struct http_request *rq)
{
    struct str path = http_path(rq);
    struct script *s;

    if (!str_starts(path, STR("/stream/"))) {
        on_serve(ctx, rq);
        return;
    }
    s = mem_new(struct script);
    s->kind = path.p[8];
    s->left = number(rq, "n", 10);
    s->wait_ms = (unsigned)number(rq, "ms", 20);
    s->blocks_ms = (unsigned)number(rq, "blocks", 0);
    atomic_fetch_add(&made, 1);
    http_add_header(rq, "Cache-Control", "no-store");
    http_reply_stream(rq, 200, "application/x-ndjson", pull, release, s);
}

static void start_with(struct http_server_opts o)
{
    made = released = pulls = told = 0;
    said = 0;
    app_start_with(&app, o, serve);
}

static void start(void)
{
    start_with((struct http_server_opts){.io_threads = 2, .workers = 2});
}

static void done(void)
{
    app_done(&app);
    EQ_INT(released, made);
}

static int ask(const char *request)
{
    int fd = dial(&app);

    OK(say(fd, request));
    return fd;
}

/* One byte at a time, so that what follows the answer stays in the socket. */
static size_t hear_line(int fd, char *line, size_t cap)
{
    size_t n = 0;

    while (n + 1 < cap) {
        ssize_t got = recv(fd, line + n, 1, 0);

        if (got < 0 && errno == EAGAIN)
            FAIL("nothing came in time");
        if (got <= 0)
            break;
        if (line[n++] == '\n')
            break;
    }
    line[n] = '\0';
    return n;
}

static void hear_head(int fd, struct buf *head)
{
    char line[512];

    buf_init(head, 1 << 16);
    while (hear_line(fd, line, sizeof line) > 2)
        EQ_RC(buf_z(head, line), RC_OK);
    EQ_RC(buf_char(head, '\0'), RC_OK);
}

/* The chunks' content; false: the answer broke off before the last chunk. */
static bool hear_chunks(int fd, struct buf *body)
{
    char line[64];

    buf_init(body, 64u << 20);
    for (;;) {
        char *at;
        size_t n, have = 0;

        if (hear_line(fd, line, sizeof line) == 0)
            return false;
        n = strtoul(line, NULL, 16);
        EQ_RC(buf_reserve(body, n + 2, &at), RC_OK);
        while (have < n + 2) {
            ssize_t got = recv(fd, at + have, n + 2 - have, 0);

            if (got <= 0)
                return false;
            have += (size_t)got;
        }
        OK(memcmp(at + n, "\r\n", 2) == 0);
        if (n == 0)
            return true;
        buf_commit(body, n);
    }
}

static void check_bytes(const struct buf *body, uint64_t total)
{
    EQ_INT(body->n, total);
    for (uint64_t i = 0; i < total; i++)
        if (body->p[i] != (char)('a' + (total - i) % 26))
            FAIL("byte %llu is '%c'", (unsigned long long)i, body->p[i]);
}

static void await(const atomic_uint *counter, unsigned want)
{
    for (unsigned i = 0; i < 15000 && atomic_load(counter) != want; i++)
        nap(1);
    EQ_INT(atomic_load(counter), want);
}

TEST(pieces_come_whole_in_order_and_in_chunks_and_the_connection_goes_on)
{
    struct buf head, body;
    int fd;

    start();
    fd = dial(&app);
    for (unsigned i = 0; i < 3; i++) {
        OK(say(fd, GET("/stream/b?n=3000000")));
        hear_head(fd, &head);
        EQ_INT(status_of(head.p), 200);
        OK(strcasestr(head.p, "\r\ntransfer-encoding: chunked\r\n"));
        OK(strcasestr(head.p, "\r\ncontent-type: application/x-ndjson\r\n"));
        OK(strcasestr(head.p, "\r\ncache-control: no-store\r\n"));
        OK(strcasestr(head.p, "\r\nx-request-id: req_"));
        OK(!strcasestr(head.p, "\r\ncontent-length:"));
        OK(hear_chunks(fd, &body));
        check_bytes(&body, 3000000);
        buf_done(&head);
        buf_done(&body);
        OK(say(fd, GET("/stream/n?n=5000")));
        hear_head(fd, &head);
        OK(hear_chunks(fd, &body));
        check_bytes(&body, 5000);
        buf_done(&head);
        buf_done(&body);
        OK(say(fd, GET("/plain")));
        EQ_Z(body_of(hear(fd)), "GET /plain ");
    }
    close(fd);
    done();
}

TEST(what_is_said_before_a_wait_arrives_before_its_end)
{
    struct buf head, body;
    usec_t from;
    char line[64];
    int fd;

    start();
    fd = ask(GET("/stream/l?n=10&ms=600000"));
    from = clock_mono();
    hear_head(fd, &head);
    EQ_INT(hear_line(fd, line, sizeof line), 3);
    EQ_Z(line, "A\r\n");
    EQ_INT(hear_line(fd, line, sizeof line), 12);
    OK(clock_mono() - from < 10 * USEC_PER_SEC);
    buf_done(&head);
    close(fd);
    fd = ask(GET("/stream/e?n=8&ms=30"));
    from = clock_mono();
    hear_head(fd, &head);
    OK(hear_chunks(fd, &body));
    check_bytes(&body, 8);
    OK(clock_mono() - from >= 7 * 30 * USEC_PER_MS); /* not asked before its time */
    buf_done(&head);
    buf_done(&body);
    close(fd);
    done();
}

TEST(a_stream_that_breaks_off_or_says_too_much_has_no_last_chunk)
{
    static const char *const requests[] = {GET("/stream/x?n=700000"), GET("/stream/o")};
    struct buf head, body;

    start();
    for (size_t i = 0; i < COUNTOF(requests); i++) {
        int fd = ask(requests[i]);

        hear_head(fd, &head);
        EQ_INT(status_of(head.p), 200);
        OK(!hear_chunks(fd, &body));
        if (i == 0)
            check_bytes(&body, 700000);
        buf_done(&head);
        buf_done(&body);
        close(fd);
    }
    done();
}

TEST(HEAD_gets_the_head_only_and_nothing_is_pulled)
{
    struct buf all;
    int fd;

    start();
    fd = ask("HEAD /stream/b HTTP/1.1\r\nHost: a\r\n\r\n");
    EQ_Z(hear_out(fd, &all), "200");
    OK(strcasestr(all.p, "\r\ncontent-type: application/x-ndjson\r\n"));
    EQ_Z(body_of(all.p), "");
    EQ_INT(pulls, 0);
    await(&released, 1);
    buf_done(&all);
    close(fd);
    done();
}

TEST(a_client_of_HTTP_1_0_gets_no_chunks_but_the_end_of_the_connection)
{
    static const char *const requests[] = {
        "GET /stream/b?n=600000 HTTP/1.0\r\n\r\n",
        "GET /stream/e?n=20&ms=5 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"};
    static const uint64_t sizes[] = {600000, 20};
    struct buf all, body;

    start();
    for (size_t i = 0; i < COUNTOF(requests); i++) {
        int fd = ask(requests[i]);

        EQ_Z(hear_out(fd, &all), "200");
        OK(!strcasestr(all.p, "chunked"));
        buf_init(&body, 1 << 20);
        EQ_RC(buf_z(&body, body_of(all.p)), RC_OK);
        check_bytes(&body, sizes[i]);
        buf_done(&all);
        buf_done(&body);
        close(fd);
    }
    done();
}

TEST(a_client_that_goes_away_during_a_wait_is_noticed)
{
    struct linger now = {1, 0};
    int fd[3];

    start();
    for (unsigned i = 0; i < COUNTOF(fd); i++)
        fd[i] = ask(GET("/stream/l?n=5&ms=600000"));
    await(&pulls, COUNTOF(fd));
    close(fd[0]);
    OK(setsockopt(fd[1], SOL_SOCKET, SO_LINGER, &now, sizeof now) == 0);
    close(fd[1]); /* by a reset */
    OK(shutdown(fd[2], SHUT_WR) == 0);
    await(&released, 3);
    close(fd[2]);
    done();
}

TEST(a_client_that_goes_away_while_it_is_sent_to_is_noticed)
{
    start();
    for (unsigned i = 1; i <= 10; i++) {
        int fd = ask(GET("/stream/b?n=50000000"));
        char some[1000];

        OK(recv(fd, some, sizeof some, 0) > 0);
        if (i % 2)
            nap(10);
        close(fd);
        await(&released, i);
    }
    done();
}

TEST(a_client_that_does_not_read_costs_its_buffer_and_no_thread)
{
    struct buf head, body;
    uint64_t before;
    int fd[4];

    start_with((struct http_server_opts){.io_threads = 1, .workers = 1});
    for (unsigned i = 0; i < COUNTOF(fd); i++) {
        fd[i] = ask(GET("/stream/b?n=60000000"));
        hear_head(fd[i], &head);
        buf_done(&head);
    }
    before = UINT64_MAX;
    for (unsigned i = 0; i < 500 && before != said;
         i++) { /* until the sockets are full */
        before = said;
        nap(100);
    }
    EQ_INT(said, before);
    OK(said < 4 * 60000000ull);
    OK(hear_chunks(fd[0], &body));
    check_bytes(&body, 60000000);
    buf_done(&body);
    for (unsigned i = 0; i < COUNTOF(fd); i++)
        close(fd[i]);
    done();
}

TEST(what_a_client_does_not_read_takes_little_room_in_the_kernel)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd, small = 4096;
    uint64_t before = UINT64_MAX;

    start();
    at.sin_port = htons((uint16_t)app.port);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    OK(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small) == 0);
    OK(connect(fd, (struct sockaddr *)&at, sizeof at) == 0);
    OK(say(fd, GET("/stream/b?n=60000000")));
    for (unsigned i = 0; i < 100 && (said == 0 || before != said); i++) {
        before = said;
        nap(100);
    }
    t_note("%llu bytes were said", (unsigned long long)said);
    OK(said <=
       2 * HTTP_STREAM_BUFFER); /* one in memory; less in the kernel and between */
    close(fd);
    done();
}

TEST(streams_that_wait_hold_no_worker)
{
    struct buf head, body;
    int fd[60], other;

    start_with((struct http_server_opts){.io_threads = 1, .workers = 1});
    for (unsigned i = 0; i < COUNTOF(fd); i++)
        fd[i] = ask(GET("/stream/w?ms=600000"));
    await(&pulls, COUNTOF(fd));
    other = ask(GET("/plain"));
    EQ_Z(body_of(hear(other)), "GET /plain ");
    OK(say(other, GET("/stream/e?n=5&ms=1")));
    hear_head(other, &head);
    OK(hear_chunks(other, &body));
    check_bytes(&body, 5);
    buf_done(&head);
    buf_done(&body);
    close(other);
    for (unsigned i = 0; i < COUNTOF(fd); i++)
        close(fd[i]);
    await(&released, COUNTOF(fd) + 1);
    done();
}

TEST(the_idle_timeout_does_not_cut_a_stream_that_waits)
{
    struct buf head, body;
    int fd;

    start_with((struct http_server_opts){.idle_seconds = 1});
    fd = ask(GET("/stream/e?n=2&ms=3500"));
    hear_head(fd, &head);
    OK(hear_chunks(fd, &body));
    check_bytes(&body, 2);
    buf_done(&head);
    buf_done(&body);
    close(fd);
    done();
}

TEST(draining_tells_streams_at_once_and_each_ends_as_it_likes)
{
    static const char *const requests[] = {GET("/stream/e?n=1000&ms=600000"),
                                           GET("/stream/w?ms=600000"),
                                           GET("/stream/s?ms=600000")};
    struct buf head, body;
    usec_t from;
    int fd[COUNTOF(requests)];

    start();
    for (unsigned i = 0; i < COUNTOF(fd); i++)
        fd[i] = ask(requests[i]);
    await(&pulls, COUNTOF(fd));
    from = clock_mono();
    http_server_drain(app.server, 60);
    OK(clock_mono() - from < 30 * USEC_PER_SEC);
    EQ_INT(told, 3);
    for (unsigned i = 0; i < COUNTOF(fd); i++) {
        hear_head(fd[i], &head);
        EQ_INT(hear_chunks(fd[i], &body), i == 0);
        buf_done(&head);
        buf_done(&body);
        close(fd[i]);
    }
    done();
}

TEST(a_server_is_freed_under_streams_that_wait_and_that_nobody_reads)
{
    int fd[20];

    start();
    for (unsigned i = 0; i < COUNTOF(fd); i++)
        fd[i] = ask(i % 2 ? GET("/stream/w?ms=600000") : GET("/stream/b?n=50000000"));
    nap(200);
    done(); /* with no drain before */
    for (unsigned i = 0; i < COUNTOF(fd); i++)
        close(fd[i]);
}

/* ---- all at once: meant for the thread sanitizer ---- */

static void *client(void *arg)
{
    static const char *const requests[] = {
        GET("/stream/b?n=400000"),     GET("/stream/e?n=4&ms=1"),
        GET("/stream/w?ms=2"),         GET("/stream/x?n=3000"),
        GET("/stream/n?n=9000"),       GET("/stream/l?n=9&ms=600000"),
        GET("/stream/e?n=2&blocks=3"), GET("/plain")};
    unsigned seed = (unsigned)(uintptr_t)arg;

    while (!atomic_load(&over)) {
        int fd = try_dial(&app);
        char some[9000];

        seed = seed * 1664525u + 1013904223u;
        if (fd < 0)
            break;
        IGNORE(say(fd, requests[(seed >> 20) % COUNTOF(requests)])); /* may be refused */
        if (seed >> 18 & 1)
            IGNORE(recv(fd, some, sizeof some, 0) < 0);
        if (seed >> 17 & 1)
            nap(seed >> 24 & 7);
        close(fd);
    }
    return NULL;
}

TEST_SLOW(streams_clients_and_the_end_of_the_server_meet_in_any_order, 60)
{
    for (unsigned round = 0; round < 8; round++) {
        pthread_t t[6];

        start();
        atomic_store(&over, false);
        for (unsigned i = 0; i < COUNTOF(t); i++)
            OK(pthread_create(&t[i], NULL, client,
                              (void *)(uintptr_t)(round * 16 + i + 1)) == 0);
        nap(150);
        atomic_store(&over, true);
        if (round % 2)
            http_server_drain(app.server, 5);
        done();
        for (unsigned i = 0; i < COUNTOF(t); i++)
            pthread_join(t[i], NULL);
    }
}
