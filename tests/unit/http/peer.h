/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer: the other side of the client's tests.  A scripted server: a thread that accepts,
 * and one for each connection, which reads a request and then does what the next step of
 * the script says; and a client, a target and a loop to call it with.
 */
#pragma once

#include "tests/lib/t.h"
#include "base/mem.h"
#include "http/client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* Not every test program needs all of it. */
#define SHARED static __attribute__((unused))

#define MS USEC_PER_MS

/* --- the server --- */

enum then {
    KEEP,    /* wait for the next request */
    CLOSE,   /* end the connection */
    RST,     /* end it rudely */
    HOLD,    /* say nothing more */
    DRIBBLE, /* the text goes out byte by byte, 15 ms apart; then KEEP */
    ECHO     /* the text is ignored; answers with the request's id and body; KEEP */
};

struct step {
    const char *send;
    enum then then;
    size_t pad;       /* so many 'x' behind the text */
    size_t read_only; /* of the body, before anything is sent; 0: all */
    int read_slowly;  /* ms between reads of 64 KiB */
};

enum { MAX_PEERS = 300, MAX_SEEN = 4096 };

struct server {
    const struct step *steps;
    size_t n_steps;
    int fd, port;
    pthread_t acceptor, peer[MAX_PEERS];
    int peer_fd[MAX_PEERS];
    pthread_mutex_t lock; /* all below */
    unsigned accepted, open, requests;
    bool stopping;
    char seen[MAX_SEEN]; /* the last request's head, and its body if it fits */
    size_t seen_body;
};

struct peer {
    struct server *s;
    int fd;
    size_t n;
    char in[70000];
};

SHARED bool say(int fd, const char *p, size_t n)
{
    while (n) {
        ssize_t put = send(fd, p, n, MSG_NOSIGNAL);

        if (put <= 0)
            return false;
        p += put;
        n -= (size_t)put;
    }
    return true;
}

SHARED void nap(int ms)
{
    poll(NULL, 0, ms);
}

/* Reads one head into p->in (NUL-terminated behind what is there). False: closed. */
SHARED bool read_head(struct peer *p, size_t *ret_head)
{
    for (;;) {
        char *end;
        ssize_t got;

        p->in[p->n] = '\0';
        end = strstr(p->in, "\r\n\r\n");
        if (end) {
            *ret_head = (size_t)(end + 4 - p->in);
            return true;
        }
        got = recv(p->fd, p->in + p->n, sizeof p->in - 1 - p->n, 0);
        if (got <= 0)
            return false;
        p->n += (size_t)got;
    }
}

SHARED size_t content_length(const char *head)
{
    const char *at = strstr(head, "Content-Length: ");

    return at ? strtoul(at + 16, NULL, 10) : 0;
}

/* The body beyond what came with the head is counted and thrown away. */
SHARED bool read_body(struct peer *p, size_t head, size_t want, int slowly)
{
    size_t have = p->n - head;

    while (have < want) {
        static _Thread_local char sink[65536];
        ssize_t got = recv(p->fd, sink, sizeof sink, 0);

        if (got <= 0)
            return false;
        if (head + have + (size_t)got < sizeof p->in) {
            memcpy(p->in + head + have, sink, (size_t)got);
            p->n += (size_t)got;
        }
        have += (size_t)got;
        if (slowly)
            nap(slowly);
    }
    return true;
}

SHARED void note(struct server *s, const struct peer *p, size_t body)
{
    size_t n = p->n < sizeof s->seen - 1 ? p->n : sizeof s->seen - 1;

    pthread_mutex_lock(&s->lock);
    memcpy(s->seen, p->in, n);
    s->seen[n] = '\0';
    s->seen_body = body;
    pthread_mutex_unlock(&s->lock);
}

SHARED const struct step *next_step(struct server *s)
{
    const struct step *step;

    pthread_mutex_lock(&s->lock);
    step = &s->steps[s->requests < s->n_steps ? s->requests : s->n_steps - 1];
    s->requests++;
    pthread_mutex_unlock(&s->lock);
    return step;
}

SHARED bool echo(struct peer *p, size_t head, size_t body)
{
    const char *at = strstr(p->in, "X-Request-Id: ");
    char out[2048];
    int n =
        snprintf(out, sizeof out,
                 "HTTP/1.1 200 OK\r\nX-Request-Id: %.*s\r\nContent-Length: %zu\r\n\r\n",
                 at ? (int)strcspn(at + 14, "\r") : 0, at ? at + 14 : "", body);

    return say(p->fd, out, (size_t)n) && say(p->fd, p->in + head, body);
}

SHARED bool act(struct peer *p, const struct step *step, size_t head, size_t body)
{
    static const char x[1024] = {[0 ... 1023] = 'x'};
    struct linger rude = {1, 0};

    if (step->then == ECHO)
        return echo(p, head, body);
    if (step->then == DRIBBLE) {
        for (const char *c = step->send; *c; c++) {
            nap(15);
            if (!say(p->fd, c, 1))
                return false;
        }
        return true;
    }
    if (!say(p->fd, step->send, strlen(step->send)))
        return false;
    for (size_t left = step->pad; left;) {
        size_t n = left < sizeof x ? left : sizeof x;

        if (!say(p->fd, x, n))
            return false;
        left -= n;
    }
    if (step->then == RST)
        setsockopt(p->fd, SOL_SOCKET, SO_LINGER, &rude, sizeof rude);
    if (step->then == HOLD) { /* reads nothing until the other side goes */
        struct pollfd gone = {.fd = p->fd, .events = POLLRDHUP};

        poll(&gone, 1, -1);
    }
    return step->then == KEEP;
}

SHARED bool serve_request(struct peer *p)
{
    const struct step *step;
    size_t head, body, used;

    if (!read_head(p, &head))
        return false;
    body = content_length(p->in);
    step = next_step(p->s);
    if (!read_body(p, head, step->read_only ? step->read_only : body, step->read_slowly))
        return false;
    note(p->s, p, body);
    if (!act(p, step, head, body))
        return false;
    used = head + body < p->n ? head + body : p->n;
    memmove(p->in, p->in + used, p->n - used);
    p->n -= used;
    return true;
}

SHARED void *serve_peer(void *arg)
{
    struct peer *p = arg;
    struct server *s = p->s;

    while (serve_request(p))
        continue;
    pthread_mutex_lock(&s->lock);
    s->open--;
    for (size_t i = 0; i < s->accepted; i++)
        if (s->peer_fd[i] == p->fd)
            s->peer_fd[i] = -1;
    close(p->fd);
    pthread_mutex_unlock(&s->lock);
    mem_free(p);
    return NULL;
}

SHARED void *serve_all(void *arg)
{
    struct server *s = arg;
    int fd;

    while ((fd = accept(s->fd, NULL, NULL)) >= 0) {
        struct peer *p = mem_new(struct peer);

        p->s = s;
        p->fd = fd;
        pthread_mutex_lock(&s->lock);
        CHECK(s->accepted < MAX_PEERS);
        s->peer_fd[s->accepted] = fd;
        s->open++;
        CHECK(pthread_create(&s->peer[s->accepted++], NULL, serve_peer, p) == 0);
        pthread_mutex_unlock(&s->lock);
    }
    return NULL;
}

SHARED int listen_on_loopback(int backlog, int *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    EQ_INT(bind(fd, (struct sockaddr *)&a, n), 0);
    EQ_INT(listen(fd, backlog), 0);
    EQ_INT(getsockname(fd, (struct sockaddr *)&a, &n), 0);
    *port = ntohs(a.sin_port);
    return fd;
}

SHARED void server_start(struct server *s, const struct step *steps, size_t n)
{
    memset(s, 0, sizeof *s);
    s->steps = steps;
    s->n_steps = n;
    pthread_mutex_init(&s->lock, NULL);
    s->fd = listen_on_loopback(512, &s->port);
    EQ_INT(pthread_create(&s->acceptor, NULL, serve_all, s), 0);
}

SHARED void server_stop(struct server *s)
{
    shutdown(s->fd, SHUT_RDWR);
    pthread_join(s->acceptor, NULL);
    close(s->fd);
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < s->accepted; i++)
        if (s->peer_fd[i] >= 0)
            shutdown(s->peer_fd[i], SHUT_RDWR);
    pthread_mutex_unlock(&s->lock);
    for (size_t i = 0; i < s->accepted; i++)
        pthread_join(s->peer[i], NULL);
}

SHARED unsigned count_of(struct server *s, const unsigned *n)
{
    unsigned v;

    pthread_mutex_lock(&s->lock);
    v = *n;
    pthread_mutex_unlock(&s->lock);
    return v;
}

/* What the last request looked like; valid until the next call. */
SHARED const char *seen(struct server *s)
{
    static char copy[MAX_SEEN];

    pthread_mutex_lock(&s->lock);
    memcpy(copy, s->seen, sizeof copy);
    pthread_mutex_unlock(&s->lock);
    return copy;
}

SHARED size_t seen_body(struct server *s)
{
    size_t n;

    pthread_mutex_lock(&s->lock);
    n = s->seen_body;
    pthread_mutex_unlock(&s->lock);
    return n;
}

/* --- the client under test --- */

struct world {
    struct server server;
    struct loop *loop;
    struct http_client *client;
    struct http_target *target;
    struct http_target_opts opts;
    char url[128];
    unsigned done, again;   /* again: how often `done` starts the call once more */
    struct http_call *pair; /* the first to end cancels the other */
};

static struct world w;

SHARED void on_done(struct http_call *c)
{
    w.done++;
    if (w.pair)
        http_cancel(c == w.pair ? w.pair + 1 : w.pair);
    w.pair = NULL;
    if (w.again && c->fate != HTTP_ABORTED) {
        w.again--;
        http_start(w.client, c);
    }
}

SHARED struct http_target *make_target(const struct http_target_opts *o)
{
    struct http_target *t = NULL;
    struct err e = {""};

    if (http_target_new(w.client, o, &t, &e) != RC_OK)
        FAIL("%s", e.text);
    return t;
}

SHARED void world_open(const struct http_client_opts *o)
{
    struct err e;

    EQ_RC(loop_new(&w.loop, &e), RC_OK);
    EQ_RC(http_client_new(w.loop, o, &w.client, &e), RC_OK);
    snprintf(w.url, sizeof w.url, "http://127.0.0.1:%d/v1", w.server.port);
    w.opts.base_url = w.url;
    w.target = make_target(&w.opts);
}

SHARED void world_start(const struct step *steps, size_t n)
{
    struct http_client_opts o = {.user_agent = "test/1"};

    server_start(&w.server, steps, n);
    world_open(&o);
}

SHARED void world_stop(void)
{
    w.client = http_client_free(w.client);
    w.target = http_target_free(w.target);
    w.loop = loop_free(w.loop);
    server_stop(&w.server);
}

SHARED void call_init(struct http_call *c)
{
    http_call_init(c);
    c->target = w.target;
    c->path = "/chat/completions";
    c->method = "POST";
    c->body = STR("{\"a\":1}");
    c->done = on_done;
    c->max_body = 1 << 20;
    c->idle_timeout = 10 * USEC_PER_SEC;
}

SHARED void turn_until(const unsigned *counter, unsigned n)
{
    while (*counter < n)
        loop_turn(w.loop, USEC_PER_SEC);
}

SHARED void run(struct http_call *c)
{
    unsigned before = w.done;

    http_start(w.client, c);
    EQ_INT(w.done, before); /* never inside http_start */
    turn_until(&w.done, before + 1);
}

#define HEAD      "HTTP/1.1 200 OK\r\n"
#define OK_ANSWER "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
