/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scripted: an upstream that answers each path as a function of the test says, and counts
 * what it was asked; a thread for each connection.
 */
#pragma once

#include "tests/unit/engine/rig.h"

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>

enum { SCRIPTED_PATHS = 16, SCRIPTED_CONNS = 600 };

struct scripted;

/* What to answer: a whole HTTP answer into `out`; nth: of this path, from 0. */
typedef void scripted_fn(struct scripted *s, const char *path, unsigned nth, char *out,
                         size_t cap);

struct scripted {
    scripted_fn *fn;
    int fd, port;
    pthread_t acceptor, conns[SCRIPTED_CONNS];
    int fds[SCRIPTED_CONNS];
    pthread_mutex_t lock; /* all below */
    unsigned n_conns;
    struct {
        char path[64];
        unsigned n;
    } asked[SCRIPTED_PATHS];
    char keys[512]; /* paths that came with a bearer key, each with a space behind */
    int mode;       /* the test's */
};

struct scripted_conn {
    struct scripted *s;
    int fd;
};

static inline int scripted_mode(struct scripted *s)
{
    int mode;

    pthread_mutex_lock(&s->lock);
    mode = s->mode;
    pthread_mutex_unlock(&s->lock);
    return mode;
}

static inline void scripted_set(struct scripted *s, int mode)
{
    pthread_mutex_lock(&s->lock);
    s->mode = mode;
    pthread_mutex_unlock(&s->lock);
}

/* How often the path was asked for. */
static inline unsigned scripted_asked(struct scripted *s, const char *path)
{
    unsigned n = 0;

    pthread_mutex_lock(&s->lock);
    for (unsigned i = 0; i < SCRIPTED_PATHS; i++)
        if (strcmp(s->asked[i].path, path) == 0)
            n = s->asked[i].n;
    pthread_mutex_unlock(&s->lock);
    return n;
}

static inline bool scripted_had_key(struct scripted *s, const char *path)
{
    bool had;

    pthread_mutex_lock(&s->lock);
    had = strstr(s->keys, path) != NULL;
    pthread_mutex_unlock(&s->lock);
    return had;
}

static inline unsigned scripted_note(struct scripted *s, const char *path, bool key)
{
    unsigned i = 0, n;

    pthread_mutex_lock(&s->lock);
    while (i < SCRIPTED_PATHS - 1 && s->asked[i].path[0] &&
           strcmp(s->asked[i].path, path) != 0)
        i++;
    snprintf(s->asked[i].path, sizeof s->asked[i].path, "%s", path);
    n = s->asked[i].n++;
    if (key && strlen(s->keys) + strlen(path) + 2 < sizeof s->keys && n == 0)
        snprintf(s->keys + strlen(s->keys), sizeof s->keys - strlen(s->keys), "%s ",
                 path);
    pthread_mutex_unlock(&s->lock);
    return n;
}

/* One request with its body; false: the other side has gone. */
static inline bool scripted_serve(struct scripted_conn *c)
{
    char in[8192], out[8192], path[64];
    size_t n = 0, body, sent = 0;
    char *end = NULL;
    const char *length;

    while (!end) {
        ssize_t got = recv(c->fd, in + n, sizeof in - 1 - n, 0);

        if (got <= 0)
            return false;
        n += (size_t)got;
        in[n] = '\0';
        end = strstr(in, "\r\n\r\n");
    }
    length = strstr(in, "Content-Length: ");
    body = length ? strtoul(length + 16, NULL, 10) : 0;
    while (n < (size_t)(end + 4 - in) + body) {
        ssize_t got = recv(c->fd, in + n, sizeof in - 1 - n, 0);

        if (got <= 0)
            return false;
        n += (size_t)got;
    }
    if (sscanf(in, "%*s %63s", path) != 1)
        return false;
    c->s->fn(c->s, path,
             scripted_note(c->s, path, strstr(in, "Authorization: Bearer ") != NULL), out,
             sizeof out);
    for (n = strlen(out); sent < n;) {
        ssize_t put = send(c->fd, out + sent, n - sent, MSG_NOSIGNAL);

        if (put <= 0)
            return false;
        sent += (size_t)put;
    }
    return true;
}

static inline void *scripted_conn_main(void *arg)
{
    struct scripted_conn *c = arg;

    while (scripted_serve(c))
        continue;
    shutdown(c->fd, SHUT_RDWR);
    mem_free(c);
    return NULL;
}

static inline void *scripted_accept(void *arg)
{
    struct scripted *s = arg;
    int fd;

    while ((fd = accept(s->fd, NULL, NULL)) >= 0) {
        struct scripted_conn *c = mem_new(struct scripted_conn);

        *c = (struct scripted_conn){s, fd};
        pthread_mutex_lock(&s->lock);
        CHECK(s->n_conns < SCRIPTED_CONNS);
        s->fds[s->n_conns] = fd;
        CHECK(pthread_create(&s->conns[s->n_conns++], NULL, scripted_conn_main, c) == 0);
        pthread_mutex_unlock(&s->lock);
    }
    return NULL;
}

/* Before the engine; r->url names it from then on. */
static inline void scripted_start(struct scripted *s, scripted_fn *fn, struct rig *r)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;

    memset(s, 0, sizeof *s);
    s->fn = fn;
    pthread_mutex_init(&s->lock, NULL);
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EQ_INT(bind(s->fd, (struct sockaddr *)&a, n), 0);
    EQ_INT(listen(s->fd, 512), 0);
    EQ_INT(getsockname(s->fd, (struct sockaddr *)&a, &n), 0);
    s->port = ntohs(a.sin_port);
    EQ_INT(pthread_create(&s->acceptor, NULL, scripted_accept, s), 0);
    if (r)
        EQ_RC(str_fmt(r->url, sizeof r->url, "http://127.0.0.1:%d/v1", s->port), RC_OK);
}

/* After the engine. */
static inline void scripted_stop(struct scripted *s)
{
    shutdown(s->fd, SHUT_RDWR);
    pthread_join(s->acceptor, NULL);
    close(s->fd);
    for (unsigned i = 0; i < s->n_conns; i++)
        shutdown(s->fds[i], SHUT_RDWR);
    for (unsigned i = 0; i < s->n_conns; i++) {
        pthread_join(s->conns[i], NULL);
        close(s->fds[i]);
    }
    pthread_mutex_destroy(&s->lock);
}

/* head: more header lines, each with its CRLF. */
static inline void scripted_answer(char *out, size_t cap, int status, const char *head,
                                   const char *body)
{
    CHECK((size_t)snprintf(out, cap, "HTTP/1.1 %d x\r\n%sContent-Length: %zu\r\n\r\n%s",
                           status, head, strlen(body), body) < cap);
}

static inline bool is_chat(const char *path)
{
    return strcmp(path, "/v1/chat/completions") == 0;
}

/* The value of a metric of ours, by the beginning of its line; -1: it is not there. */
static inline double metric(struct rig *r, const char *begin)
{
    struct buf b;
    const char *at;
    double v = -1;

    buf_init(&b, 1 << 20);
    (void)buf_char(&b, '\n');
    engine_metrics(r->engine, &b);
    (void)buf_char(&b, '\0');
    for (at = b.p; (at = strchr(at, '\n')); at++)
        if (strncmp(at + 1, begin, strlen(begin)) == 0) {
            at = strchr(at + 1, ' ');
            v = at ? strtod(at, NULL) : -1;
            break;
        }
    buf_done(&b);
    return v;
}

/* Until the metric is at least that; the test's time limit ends it. */
static inline void wait_metric(struct rig *r, const char *begin, double least)
{
    while (metric(r, begin) < least)
        poll(NULL, 0, 10);
}
