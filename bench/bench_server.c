/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_server: what a request and an uploaded byte cost in the HTTP server alone.
 *
 *     bench_server                     small GETs over 16 connections, then uploads of
 * 200 MB bench_server serve [HOST:PORT]   only serves, for wrk or curl, until stdin ends
 *
 * GET answers a few bytes of JSON through the workers; POST streams into a sink that
 * counts.  Client and server share the process and its cores.
 */
#include "base/mem.h"
#include "http/server.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CLIENTS = 16, GETS = 20000, UPLOADS = 10, UPLOAD = 200 << 20 };

static unsigned port;

static enum rc sink(void *ctx, struct http_request *rq, struct str piece)
{
    (void)ctx, (void)rq, (void)piece;
    return RC_OK;
}

static struct http_body_plan on_open(void *ctx, struct http_request *rq)
{
    (void)ctx, (void)rq;
    return (struct http_body_plan){UPLOAD, sink};
}

static void on_serve(void *ctx, struct http_request *rq)
{
    struct buf b;

    (void)ctx;
    buf_init(&b, 256);
    (void)buf_fmt(&b, "{\"object\":\"answer\",\"bytes\":%llu}\n",
                  (unsigned long long)http_body_bytes(rq));
    http_reply(rq, 200, "application/json", &b);
    buf_done(&b);
}

static void on_close(void *ctx, struct http_request *rq)
{
    (void)ctx, (void)rq;
}

static void on_error(void *ctx, struct http_request *rq, int status, const char *message,
                     struct buf *body)
{
    (void)ctx, (void)rq, (void)status;
    (void)buf_z(body, message);
}

static int dial(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *)&at, sizeof at) < 0)
        PANIC("cannot connect");
    return fd;
}

static void send_all(int fd, struct str s)
{
    while (s.n) {
        ssize_t n = send(fd, s.p, s.n, MSG_NOSIGNAL);

        if (n <= 0)
            PANIC("the server closed the connection");
        s.p += n, s.n -= (size_t)n;
    }
}

static void read_answer(int fd)
{
    char b[1024];
    ssize_t n = recv(fd, b, sizeof b, 0);

    if (n < 12 || memcmp(b, "HTTP/1.1 200", 12) != 0)
        PANIC("not answered with 200");
}

static void *get_many(void *arg)
{
    int fd = dial();

    (void)arg;
    for (int i = 0; i < GETS; i++) {
        send_all(fd, STR("GET /v1/batches?limit=20 HTTP/1.1\r\nHost: a\r\n"
                         "Authorization: Bearer x\r\n\r\n"));
        read_answer(fd);
    }
    close(fd);
    return NULL;
}

static double cpu_seconds(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (double)u.ru_utime.tv_sec + (double)u.ru_stime.tv_sec +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void bench_gets(void)
{
    pthread_t t[CLIENTS];
    usec_t start = clock_mono();
    double cpu = cpu_seconds(), n = (double)CLIENTS * GETS;

    for (int i = 0; i < CLIENTS; i++)
        if (pthread_create(&t[i], NULL, get_many, NULL) != 0)
            PANIC("pthread_create");
    for (int i = 0; i < CLIENTS; i++)
        pthread_join(t[i], NULL);
    printf("GET     %8.0f requests/s, %.1f us of CPU each with the client's\n",
           n * 1e6 / (double)(clock_mono() - start), (cpu_seconds() - cpu) * 1e6 / n);
}

static void bench_uploads(void)
{
    struct rusage before, after;
    char *chunk = mem_alloc(1 << 20), head[128];
    int fd = dial();
    usec_t start, took;
    double cpu;

    if (str_fmt(head, sizeof head,
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n",
                (int)UPLOAD) != RC_OK)
        PANIC("head");
    getrusage(RUSAGE_SELF, &before);
    start = clock_mono();
    cpu = cpu_seconds();
    for (int i = 0; i < UPLOADS; i++) {
        send_all(fd, str_of(head));
        for (int k = 0; k < UPLOAD >> 20; k++)
            send_all(fd, (struct str){chunk, 1 << 20});
        read_answer(fd);
    }
    took = clock_mono() - start;
    getrusage(RUSAGE_SELF, &after);
    printf("upload  %8.2f GB/s, %.2f s of CPU a GB with the client's, peak RSS +%ld kB\n",
           (double)UPLOADS * UPLOAD / (double)took / 1e3,
           (cpu_seconds() - cpu) / ((double)UPLOADS * UPLOAD / 1e9),
           after.ru_maxrss - before.ru_maxrss);
    close(fd);
    mem_free(chunk);
}

int main(int argc, char **argv)
{
    static const struct http_handler h = {NULL, on_open, on_serve, on_close, on_error};
    bool serve_only = argc > 1 && strcmp(argv[1], "serve") == 0;
    struct http_server_opts o = {.listen = argc > 2 ? argv[2] : "127.0.0.1:0"};
    struct http_server *s;
    struct err e;

    if (http_server_new(&o, &h, &s, &e) != RC_OK)
        PANIC("%s", e.text);
    port = http_server_port(s);
    if (serve_only) {
        printf("%u\n", port);
        fflush(stdout);
        while (getchar() != EOF)
            continue;
    } else {
        bench_gets();
        bench_uploads();
    }
    http_server_drain(s, 5);
    IGNORE(http_server_free(s)); /* always NULL */
    return 0;
}
