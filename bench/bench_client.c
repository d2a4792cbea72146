/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_client: what one request through http/client costs the process that makes it.
 *
 * A minimal server runs in a child process on another processor; the CPU time printed is
 * the client's own, user and system.  The server answers at once, so that the numbers are
 * the client's ceiling and not a server's speed.
 *
 *     bench_client [requests] [in flight]...
 */
#include "base/mem.h"
#include "http/client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <netinet/tcp.h>
#include <unistd.h>

enum { BODY = 1500, ANSWER = 1024, MAX_FDS = 8192, MAX_CALLS = 4096 };

static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* --- the server: enough HTTP for this client and no more --- */

struct peer {
    size_t n;
    char in[8192];
};

static struct peer peers[MAX_FDS];
static char reply[ANSWER + 512];
static size_t reply_n;

static void make_reply(void)
{
    int head = snprintf(reply, sizeof reply,
                        "HTTP/1.1 200 OK\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\n"
                        "Server: bench\r\nContent-Type: application/json\r\n"
                        "X-Request-Id: 0123456789abcdef\r\nContent-Length: %d\r\n\r\n",
                        ANSWER);

    memset(reply + head, 'x', ANSWER);
    reply_n = (size_t)head + ANSWER;
}

/* Answers each whole request at the front of the buffer. */
static void answer_all(int fd, struct peer *p)
{
    for (;;) {
        char *end, *len;
        size_t whole;

        p->in[p->n] = '\0';
        end = strstr(p->in, "\r\n\r\n");
        if (!end)
            return;
        len = strstr(p->in, "Content-Length: ");
        whole = (size_t)(end + 4 - p->in) +
                (len && len < end ? strtoul(len + 16, NULL, 10) : 0);
        if (p->n < whole)
            return;
        if (write(fd, reply, reply_n) != (ssize_t)reply_n)
            die("the server's write");
        memmove(p->in, p->in + whole, p->n - whole);
        p->n -= whole;
    }
}

static void serve_one(int ep, int fd)
{
    struct peer *p = &peers[fd];
    ssize_t got = read(fd, p->in + p->n, sizeof p->in - 1 - p->n);

    if (got > 0) {
        p->n += (size_t)got;
        answer_all(fd, p);
    } else if (got == 0 || errno != EAGAIN) {
        p->n = 0;
        epoll_ctl(ep, EPOLL_CTL_DEL, fd, NULL);
        close(fd);
    }
}

static void serve(int listener)
{
    struct epoll_event ev[256], add = {.events = EPOLLIN, .data.fd = listener};
    int ep = epoll_create1(0), on = 1;

    epoll_ctl(ep, EPOLL_CTL_ADD, listener, &add);
    for (;;) {
        int n = epoll_wait(ep, ev, 256, -1);

        for (int i = 0; i < n; i++) {
            int fd = ev[i].data.fd;

            if (fd != listener) {
                serve_one(ep, fd);
                continue;
            }
            fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
            if (fd < 0 || fd >= MAX_FDS)
                die("accept");
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            add.data.fd = fd;
            epoll_ctl(ep, EPOLL_CTL_ADD, fd, &add);
        }
    }
}

static void pin(int cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    IGNORE(sched_setaffinity(0, sizeof set, &set)); /* one processor: so be it */
}

static pid_t start_server(int *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    pid_t pid;

    if (fd < 0 || bind(fd, (struct sockaddr *)&a, n) < 0 || listen(fd, 4096) < 0 ||
        getsockname(fd, (struct sockaddr *)&a, &n) < 0)
        die("listen");
    *port = ntohs(a.sin_port);
    make_reply();
    pid = fork();
    if (pid < 0)
        die("fork");
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        pin(1);
        serve(fd);
    }
    close(fd);
    return pid;
}

/* --- the client --- */

static struct run {
    struct loop *loop;
    struct http_client *client;
    uint64_t wanted, started, ended, failed;
} run;

static void on_done(struct http_call *call)
{
    if (call->fate != HTTP_ANSWERED || call->status != 200 || call->answer.n != ANSWER) {
        if (run.failed++ == 0)
            fprintf(stderr, "failed: fate %d, status %ld, %s\n", call->fate, call->status,
                    call->reason);
    }
    run.ended++;
    if (run.started < run.wanted) {
        run.started++;
        http_start(run.client, call);
    } else if (run.ended == run.wanted) {
        loop_stop(run.loop);
    }
}

static void go(struct http_call *calls, unsigned in_flight, uint64_t n)
{
    run.wanted = n;
    run.started = in_flight;
    run.ended = run.failed = 0;
    for (unsigned i = 0; i < in_flight; i++)
        http_start(run.client, &calls[i]);
    loop_run(run.loop);
}

static usec_t cpu(int which)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return which ? u.ru_stime.tv_sec * USEC_PER_SEC + u.ru_stime.tv_usec
                 : u.ru_utime.tv_sec * USEC_PER_SEC + u.ru_utime.tv_usec;
}

static void measure(struct http_call *calls, unsigned in_flight, uint64_t n)
{
    usec_t wall, user, sys;

    go(calls, in_flight, in_flight * 4); /* connects, and fills the caches */
    wall = clock_mono();
    user = cpu(0);
    sys = cpu(1);
    go(calls, in_flight, n);
    wall = clock_mono() - wall;
    user = cpu(0) - user;
    sys = cpu(1) - sys;
    printf("%5u in flight: %7.0f requests/s, CPU %5.2f us a request (%.2f user, %.2f "
           "system)%s\n",
           in_flight, (double)n * USEC_PER_SEC / (double)wall,
           (double)(user + sys) / (double)n, (double)user / (double)n,
           (double)sys / (double)n, run.failed ? " WITH FAILURES" : "");
    fflush(stdout);
}

static void bench(int port, uint64_t n, const unsigned *in_flight, unsigned rounds)
{
    char url[64], *body = mem_alloc(BODY);
    struct http_client_opts o = {.max_connections = MAX_CALLS,
                                 .user_agent = "bench_client/1"};
    struct http_target_opts to = {.base_url = url, .bearer = "sk-0123456789abcdef"};
    struct http_call *calls = mem_new_n(struct http_call, MAX_CALLS);
    struct http_target *t;
    struct err e;

    snprintf(url, sizeof url, "http://127.0.0.1:%d/v1", port);
    memset(body, 'x', BODY);
    if (loop_new(&run.loop, &e) != RC_OK ||
        http_client_new(run.loop, &o, &run.client, &e) != RC_OK ||
        http_target_new(run.client, &to, &t, &e) != RC_OK) {
        fprintf(stderr, "%s\n", e.text);
        exit(1);
    }
    for (unsigned i = 0; i < MAX_CALLS; i++) {
        struct http_call *c = &calls[i];

        http_call_init(c);
        c->target = t;
        c->path = "/chat/completions";
        c->method = "POST";
        c->body = (struct str){body, BODY};
        c->idle_timeout = c->total_timeout = 60 * USEC_PER_SEC;
        c->max_body = 1 << 20;
        c->done = on_done;
        snprintf(c->request_id, sizeof c->request_id, "%032u", i);
    }
    for (unsigned i = 0; i < rounds; i++)
        measure(calls, in_flight[i], n);
    http_client_free(run.client);
    http_target_free(t);
    for (unsigned i = 0; i < MAX_CALLS; i++)
        http_call_done(&calls[i]);
    mem_free(calls);
    mem_free(body);
    loop_free(run.loop);
}

int main(int argc, char **argv)
{
    unsigned in_flight[16] = {16, 64, 256, 1024}, rounds = 4;
    uint64_t n = argc > 1 ? strtoull(argv[1], NULL, 10) : 200000;
    struct rlimit files = {MAX_FDS, MAX_FDS};
    int port;
    pid_t server;

    if (argc > 2) {
        rounds = 0;
        for (int i = 2; i < argc && rounds < 16; i++)
            in_flight[rounds++] = (unsigned)strtoul(argv[i], NULL, 10);
    }
    for (unsigned i = 0; i < rounds; i++)
        if (in_flight[i] == 0 || in_flight[i] > MAX_CALLS)
            in_flight[i] = 1;
    setrlimit(RLIMIT_NOFILE, &files);
    server = start_server(&port);
    pin(0);
    bench(port, n, in_flight, rounds);
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    return run.failed != 0;
}
