/* SPDX-License-Identifier: Apache-2.0 */
/*
 * raw: an application to test the server with, and clients that are only sockets.
 *
 * The application answers "METHOD PATH BODY" and does as the path says; see on_serve.
 * Every test ends with app_done, which checks that what was opened was closed.
 */
#pragma once

#include "base/buf.h"
#include "base/mem.h"
#include "http/server.h"
#include "tests/lib/t.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct app {
    struct http_server *server;
    unsigned port;
    atomic_uint opened, closed, served, pieces;
    atomic_ullong streamed;
    sem_t parked; /* up for every request that waits for let_go */
    sem_t let_go;
};

#define KEPT_MAX 100000u /* bytes of a kept body */

static inline enum rc on_piece(void *ctx, struct http_request *rq, struct str piece)
{
    struct app *a = ctx;

    atomic_fetch_add(&a->pieces, 1);
    atomic_fetch_add(&a->streamed, piece.n);
    if (str_is(http_path(rq), "/sink/parks")) {
        sem_post(&a->parked);
        sem_wait(&a->let_go);
    }
    return str_is(http_path(rq), "/sink/fails") ? RC_NOSPACE : RC_OK;
}

static inline struct http_body_plan on_open(void *ctx, struct http_request *rq)
{
    struct app *a = ctx;

    atomic_fetch_add(&a->opened, 1);
    http_set_user(rq, mem_alloc(16)); /* the sanitizer sees whether close is missed */
    if (str_starts(http_path(rq), STR("/sink")))
        return (struct http_body_plan){1u << 30, on_piece};
    if (str_is(http_path(rq), "/none"))
        return (struct http_body_plan){0, NULL};
    return (struct http_body_plan){KEPT_MAX, NULL};
}

static inline void on_close(void *ctx, struct http_request *rq)
{
    struct app *a = ctx;

    mem_free(http_user(rq));
    atomic_fetch_add(&a->closed, 1);
}

static inline void on_error(void *ctx, struct http_request *rq, int status,
                            const char *message, struct buf *body)
{
    (void)ctx, (void)rq;
    (void)buf_fmt(body, "{\"error\":{\"message\":\"%s\",\"status\":%d}}\n", message,
                  status);
}

static inline void reply_fd(struct http_request *rq)
{
    int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    struct str off = http_query(rq, "off"), n = http_query(rq, "n");
    uint64_t from = 0, count = 0;
    char block[1000];

    OK(fd >= 0);
    for (int i = 0; i < 1000; i++) {
        memset(block, 'a' + i % 26, sizeof block);
        OK(write(fd, block, sizeof block) == sizeof block);
    }
    EQ_RC(str_u64(off, &from), RC_OK);
    EQ_RC(str_u64(n, &count), RC_OK);
    http_reply_fd(rq, 206, "application/jsonl", fd, from, count);
}

static inline void reply_text(struct http_request *rq)
{
    struct str q = http_query(rq, "q"), big = http_query(rq, "big");
    struct buf b;
    uint64_t n = 0;

    buf_init(&b, str_is(http_path(rq), "/fails") ? 1 : 64u << 20);
    if (big.p) {
        char *p;

        EQ_RC(str_u64(big, &n), RC_OK);
        EQ_RC(buf_reserve(&b, n, &p), RC_OK);
        memset(p, 'x', n);
        buf_commit(&b, n);
    } else {
        (void)buf_str(&b, http_method(rq));
        (void)buf_char(&b, ' ');
        (void)buf_str(&b, http_path(rq));
        (void)buf_char(&b, ' ');
        (void)buf_str(&b, http_body(rq));
        if (q.p)
            (void)buf_fmt(&b, "q=[%.*s]", STR_ARG(q));
        if (str_starts(http_path(rq), STR("/sink")))
            (void)buf_fmt(&b, "%llu", (unsigned long long)http_body_bytes(rq));
    }
    http_reply(rq, 200, "text/plain", &b);
    EQ_INT(b.n, 0);
    buf_done(&b);
}

static inline void on_serve(void *ctx, struct http_request *rq)
{
    struct app *a = ctx;
    struct str path = http_path(rq);

    atomic_fetch_add(&a->served, 1);
    if (str_is(path, "/park")) {
        sem_post(&a->parked);
        sem_wait(&a->let_go);
    }
    if (str_is(path, "/header"))
        http_add_header(rq, "Content-Disposition", "attachment; filename=\"a.jsonl\"");
    if (str_is(path, "/fd"))
        reply_fd(rq);
    else
        reply_text(rq);
}

typedef void serve_fn(void *ctx, struct http_request *rq);

static inline void app_start_with(struct app *a, struct http_server_opts o,
                                  serve_fn *serve)
{
    struct http_handler h = {a, on_open, serve, on_close, on_error};
    struct err e = {""};

    memset(a, 0, sizeof *a);
    sem_init(&a->parked, 0, 0);
    sem_init(&a->let_go, 0, 0);
    if (!o.listen)
        o.listen = "127.0.0.1:0";
    if (http_server_new(&o, &h, &a->server, &e) != RC_OK)
        FAIL("http_server_new: %s", e.text);
    a->port = http_server_port(a->server);
    OK(a->port > 0);
}

static inline void app_start(struct app *a, struct http_server_opts o)
{
    app_start_with(a, o, on_serve);
}

static inline void app_done(struct app *a)
{
    OK(http_server_free(a->server) == NULL);
    EQ_INT(a->closed, a->opened);
}

/* ---- clients ---- */

static inline int try_dial(const struct app *a)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)a->port)};
    struct timeval limit = {.tv_sec = 15};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

    OK(fd >= 0);
    OK(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    OK(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
    OK(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0);
    if (connect(fd, (struct sockaddr *)&at, sizeof at) == 0)
        return fd;
    close(fd);
    return -1;
}

static inline int dial(const struct app *a)
{
    int fd = try_dial(a);

    OK(fd >= 0);
    return fd;
}

static inline bool say_n(int fd, const char *p, size_t n)
{
    while (n) {
        ssize_t w = send(fd, p, n, MSG_NOSIGNAL);

        if (w <= 0)
            return false;
        p += w, n -= (size_t)w;
    }
    return true;
}

static inline bool say(int fd, const char *z)
{
    return say_n(fd, z, strlen(z));
}

/* One answer, head and body, of a request that is not HEAD; NUL-terminated, in static
 * memory.  "" when the connection ended instead. */
static inline const char *hear_some(int fd, bool head_only)
{
    static _Thread_local char all[70 << 10];
    size_t n = 0;

    all[0] = '\0';
    for (;;) {
        char *end = strstr(all, "\r\n\r\n"), *len = strcasestr(all, "content-length: ");
        ssize_t got;

        if (end && strncmp(all, "HTTP/1.1 100", 12) == 0)
            return all;
        if (end && (head_only || !len ||
                    n >= (size_t)(end + 4 - all) + strtoul(len + 16, NULL, 10)))
            return all;
        OK(n < sizeof all - 1);
        got = recv(fd, all + n, end || head_only ? sizeof all - 1 - n : 1, 0);
        if (got < 0 && errno == EAGAIN)
            FAIL("no answer in time; so far: %s", all);
        if (got <= 0)
            return "";
        n += (size_t)got;
        all[n] = '\0';
    }
}

static inline const char *hear(int fd)
{
    return hear_some(fd, false);
}

/* All answers until the server closes: their statuses, as "200 400". */
static inline const char *hear_out(int fd, struct buf *all)
{
    static _Thread_local char list[1024];
    char piece[4096];
    ssize_t n;

    buf_init(all, 1 << 20);
    while ((n = recv(fd, piece, sizeof piece, 0)) > 0)
        EQ_RC(buf_add(all, piece, (size_t)n), RC_OK);
    if (n < 0 && errno == EAGAIN)
        FAIL("not closed in time; so far: %.*s", STR_ARG(buf_peek(all)));
    EQ_RC(buf_char(all, '\0'), RC_OK);
    list[0] = '\0';
    for (const char *at = all->p; (at = strstr(at, "HTTP/1.1 ")); at += 9) {
        size_t used = strlen(list);

        OK(used + 5 < sizeof list);
        snprintf(list + used, sizeof list - used, "%s%.3s", used ? " " : "", at + 9);
    }
    return list;
}

static inline int status_of(const char *answer)
{
    return strncmp(answer, "HTTP/1.1 ", 9) == 0 ? (int)strtol(answer + 9, NULL, 10) : 0;
}

static inline const char *body_of(const char *answer)
{
    const char *end = strstr(answer, "\r\n\r\n");

    return end ? end + 4 : "";
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"
#define END       "GET /end HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
#define POST(path, fields, body)                                                         \
    "POST " path " HTTP/1.1\r\nHost: a\r\n" fields "\r\n" body
#define TE "Transfer-Encoding: chunked\r\n"

static inline void nap(unsigned ms)
{
    poll(NULL, 0, (int)ms);
}
