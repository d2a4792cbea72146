/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Against a scripted server: a thread that accepts, and one for each connection, which
 * reads a request and then does what the next step of the script says.
 */
#include "tests/lib/t.h"
#include "base/mem.h"
#include "http/client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

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

static bool say(int fd, const char *p, size_t n)
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

static void nap(int ms)
{
    poll(NULL, 0, ms);
}

/* Reads one head into p->in (NUL-terminated behind what is there). False: closed. */
static bool read_head(struct peer *p, size_t *ret_head)
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

static size_t content_length(const char *head)
{
    const char *at = strstr(head, "Content-Length: ");

    return at ? strtoul(at + 16, NULL, 10) : 0;
}

/* The body beyond what came with the head is counted and thrown away. */
static bool read_body(struct peer *p, size_t head, size_t want, int slowly)
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

static void note(struct server *s, const struct peer *p, size_t body)
{
    size_t n = p->n < sizeof s->seen - 1 ? p->n : sizeof s->seen - 1;

    pthread_mutex_lock(&s->lock);
    memcpy(s->seen, p->in, n);
    s->seen[n] = '\0';
    s->seen_body = body;
    pthread_mutex_unlock(&s->lock);
}

static const struct step *next_step(struct server *s)
{
    const struct step *step;

    pthread_mutex_lock(&s->lock);
    step = &s->steps[s->requests < s->n_steps ? s->requests : s->n_steps - 1];
    s->requests++;
    pthread_mutex_unlock(&s->lock);
    return step;
}

static bool echo(struct peer *p, size_t head, size_t body)
{
    const char *at = strstr(p->in, "X-Request-Id: ");
    char out[2048];
    int n =
        snprintf(out, sizeof out,
                 "HTTP/1.1 200 OK\r\nX-Request-Id: %.*s\r\nContent-Length: %zu\r\n\r\n",
                 at ? (int)strcspn(at + 14, "\r") : 0, at ? at + 14 : "", body);

    return say(p->fd, out, (size_t)n) && say(p->fd, p->in + head, body);
}

static bool act(struct peer *p, const struct step *step, size_t head, size_t body)
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

static bool serve_request(struct peer *p)
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

static void *serve_peer(void *arg)
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

static void *serve_all(void *arg)
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

static int listen_on_loopback(int backlog, int *port)
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

static void server_start(struct server *s, const struct step *steps, size_t n)
{
    memset(s, 0, sizeof *s);
    s->steps = steps;
    s->n_steps = n;
    pthread_mutex_init(&s->lock, NULL);
    s->fd = listen_on_loopback(512, &s->port);
    EQ_INT(pthread_create(&s->acceptor, NULL, serve_all, s), 0);
}

static void server_stop(struct server *s)
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

static unsigned count_of(struct server *s, const unsigned *n)
{
    unsigned v;

    pthread_mutex_lock(&s->lock);
    v = *n;
    pthread_mutex_unlock(&s->lock);
    return v;
}

/* What the last request looked like; valid until the next call. */
static const char *seen(struct server *s)
{
    static char copy[MAX_SEEN];

    pthread_mutex_lock(&s->lock);
    memcpy(copy, s->seen, sizeof copy);
    pthread_mutex_unlock(&s->lock);
    return copy;
}

static size_t seen_body(struct server *s)
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

static void on_done(struct http_call *c)
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

static struct http_target *make_target(const struct http_target_opts *o)
{
    struct http_target *t = NULL;
    struct err e = {""};

    if (http_target_new(w.client, o, &t, &e) != RC_OK)
        FAIL("%s", e.text);
    return t;
}

static void world_open(const struct http_client_opts *o)
{
    struct err e;

    EQ_RC(loop_new(&w.loop, &e), RC_OK);
    EQ_RC(http_client_new(w.loop, o, &w.client, &e), RC_OK);
    snprintf(w.url, sizeof w.url, "http://127.0.0.1:%d/v1", w.server.port);
    w.opts.base_url = w.url;
    w.target = make_target(&w.opts);
}

static void world_start(const struct step *steps, size_t n)
{
    struct http_client_opts o = {.user_agent = "test/1"};

    server_start(&w.server, steps, n);
    world_open(&o);
}

static void world_stop(void)
{
    w.client = http_client_free(w.client);
    w.target = http_target_free(w.target);
    w.loop = loop_free(w.loop);
    server_stop(&w.server);
}

static void call_init(struct http_call *c)
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

static void turn_until(const unsigned *counter, unsigned n)
{
    while (*counter < n)
        loop_turn(w.loop, USEC_PER_SEC);
}

static void run(struct http_call *c)
{
    unsigned before = w.done;

    http_start(w.client, c);
    EQ_INT(w.done, before); /* never inside http_start */
    turn_until(&w.done, before + 1);
}

#define OK_ANSWER "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

/* --- what goes out --- */

TEST(a_post_is_sent_with_the_targets_headers_and_the_calls_id_and_body)
{
    static const struct step steps[] = {{.send = OK_ANSWER}};
    const char *extra[] = {"X-Team: blue", "OpenAI-Beta: a, b", NULL};
    struct http_call c;
    char want[1024];

    w.opts.bearer = "sk-test";
    w.opts.headers = extra;
    world_start(steps, 1);
    call_init(&c);
    snprintf(c.request_id, sizeof c.request_id, "req-1");
    run(&c);
    EQ_INT(c.fate, HTTP_ANSWERED);
    EQ_INT(c.status, 200);
    EQ_STR(buf_peek(&c.answer), STR("ok"));
    EQ_Z(c.reason, "");
    snprintf(want, sizeof want,
             "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n"
             "X-Request-Id: req-1\r\nContent-Type: application/json\r\n"
             "Accept: application/json\r\nUser-Agent: test/1\r\n"
             "Authorization: Bearer sk-test\r\nX-Team: blue\r\nOpenAI-Beta: a, b\r\n"
             "Content-Length: 7\r\n\r\n{\"a\":1}",
             w.server.port);
    EQ_Z(seen(&w.server), want);
    http_call_done(&c);
    world_stop();
}

TEST(a_get_has_no_body_and_a_call_may_change_its_form)
{
    static const struct step steps[] = {{.send = OK_ANSWER}};
    const char *own[] = {"content-type: text/plain", "accept: */*", "user-agent: me/2",
                         NULL};
    struct http_call c;
    char want[512];

    w.opts.headers = own;
    world_start(steps, 1);
    call_init(&c);
    c.method = "GET";
    c.path = "/models?limit=2";
    run(&c);
    snprintf(want, sizeof want,
             "GET /v1/models?limit=2 HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n"
             "content-type: text/plain\r\naccept: */*\r\nuser-agent: me/2\r\n\r\n",
             w.server.port);
    EQ_Z(seen(&w.server), want);
    c.method = "POST";
    c.path = "/embeddings";
    c.body = (struct str){NULL, 0};
    snprintf(c.request_id, sizeof c.request_id, "bad\r\nX-Evil: 1");
    run(&c);
    snprintf(want, sizeof want,
             "POST /v1/embeddings HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n"
             "content-type: text/plain\r\naccept: */*\r\nuser-agent: me/2\r\n"
             "Content-Length: 0\r\n\r\n",
             w.server.port);
    EQ_Z(seen(&w.server), want);
    c.method = "GET";
    c.path = "/models";
    c.request_id[0] = '\0';
    run(&c);
    OK(strncmp(seen(&w.server), "GET /v1/models HTTP/1.1\r\n", 25) == 0);
    EQ_INT(seen_body(&w.server), 0);
    EQ_INT(count_of(&w.server, &w.server.accepted), 1);
    http_call_done(&c);
    world_stop();
}

TEST(a_body_of_megabytes_goes_out_whole_and_without_waiting_for_a_continue)
{
    enum { N = 3 << 20 };
    static const struct step steps[] = {{.send = OK_ANSWER}};
    struct http_call c;
    char *body = mem_alloc(N);

    world_start(steps, 1);
    call_init(&c);
    memset(body, 'b', N);
    c.body = (struct str){body, N};
    run(&c);
    EQ_INT(c.fate, HTTP_ANSWERED);
    EQ_INT(seen_body(&w.server), N);
    OK(!strstr(seen(&w.server), "Expect"));
    http_call_done(&c);
    mem_free(body);
    world_stop();
}

TEST(no_proxy_cookie_netrc_or_redirect_is_used_unasked)
{
    static const struct step steps[] = {
        {.send = "HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nSet-Cookie: a=b\r\n"
                 "Content-Length: 0\r\n\r\n"},
        {.send = OK_ANSWER}};
    struct http_call c;
    FILE *f = fopen(".netrc", "w");

    fputs("machine 127.0.0.1 login me password secret\n", f);
    fclose(f);
    setenv("HOME", t_dir(), 1);
    setenv("http_proxy", "http://127.0.0.1:1", 1);
    setenv("all_proxy", "http://127.0.0.1:1", 1);
    world_start(steps, 2);
    call_init(&c);
    run(&c);
    EQ_INT(c.fate, HTTP_ANSWERED);
    EQ_INT(c.status, 302);
    EQ_INT(count_of(&w.server, &w.server.requests), 1);
    run(&c);
    EQ_INT(c.status, 200);
    OK(!strstr(seen(&w.server), "Cookie"));
    OK(!strstr(seen(&w.server), "Authorization"));
    http_call_done(&c);
    world_stop();
}

TEST(a_configured_proxy_is_asked_with_the_whole_url)
{
    static const struct step steps[] = {{.send = OK_ANSWER}};
    struct http_target_opts o = {.base_url = "http://upstream.invalid:8000/v1/"};
    struct http_target *t;
    struct http_call c;
    char proxy[64];

    setenv("no_proxy", "*", 1);
    world_start(steps, 1);
    snprintf(proxy, sizeof proxy, "http://127.0.0.1:%d", w.server.port);
    o.proxy = proxy;
    t = make_target(&o);
    call_init(&c);
    c.target = t;
    run(&c);
    EQ_INT(c.fate, HTTP_ANSWERED);
    OK(strncmp(seen(&w.server), "POST http://upstream.invalid:8000/v1/chat/completions ",
               54) == 0);
    http_call_done(&c);
    http_target_free(t); /* before its client */
    world_stop();
}

/* --- what comes back --- */

#define HEAD "HTTP/1.1 200 OK\r\n"

TEST(whole_answers_in_every_framing)
{
    static const struct {
        const char *name;
        struct step step;
        long status;
        const char *body, *id;
        int64_t retry_ms;
        unsigned connections; /* after a second call */
    } rows[] = {
        {"length",
         {.send = HEAD "x-request-id: r1\r\nContent-Length: 3\r\n\r\nabc"},
         200,
         "abc",
         "r1",
         -1,
         1},
        {"no body", {.send = "HTTP/1.1 204 No Content\r\n\r\n"}, 204, "", "", -1, 1},
        {"chunked",
         {.send = HEAD "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n"
                       "0\r\nX-Request-Id: trailer\r\n\r\n"},
         200,
         "abcde",
         "",
         -1,
         1},
        {"until the end",
         {.send = HEAD "\r\nall of it", .then = CLOSE},
         200,
         "all of it",
         "",
         -1,
         2},
        {"HTTP/1.0",
         {.send = "HTTP/1.0 200 OK\r\n\r\nold", .then = CLOSE},
         200,
         "old",
         "",
         -1,
         2},
        {"close announced",
         {.send = HEAD "Connection: close\r\nContent-Length: 1\r\n\r\nz", .then = CLOSE},
         200,
         "z",
         "",
         -1,
         2},
        {"interim heads",
         {.send = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n"
                  "X-Request-Id: no\r\n\r\n" HEAD "Content-Length: 1\r\n\r\ny"},
         200,
         "y",
         "",
         -1,
         1},
        {"429",
         {.send = "HTTP/1.1 429 Slow down\r\nRetry-After: 7\r\nX-Request-ID: q\r\n"
                  "Content-Length: 2\r\n\r\n{}"},
         429,
         "{}",
         "q",
         7000,
         1},
        {"429 in ms",
         {.send = "HTTP/1.1 429 Slow down\r\nretry-after-ms: 250\r\nRetry-After: 1\r\n"
                  "Content-Length: 0\r\n\r\n"},
         429,
         "",
         "",
         250,
         1},
        {"503 with a date",
         {.send =
              "HTTP/1.1 503 Busy\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
              "Retry-After: Sun, 06 Nov 1994 08:49:47 GMT\r\nContent-Length: 0\r\n\r\n"},
         503,
         "",
         "",
         10000,
         1},
        {"401 is an answer",
         {.send = "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=x\r\n"
                  "Content-Length: 0\r\n\r\n"},
         401,
         "",
         "",
         -1,
         1},
        {"byte by byte",
         {.send = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb", .then = DRIBBLE},
         200,
         "b",
         "",
         -1,
         1},
        {"answered before the body was read",
         {.send = "HTTP/1.1 413 Too much\r\nContent-Length: 0\r\n\r\n",
          .read_only = 1,
          .then = KEEP},
         413,
         "",
         "",
         -1,
         1},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct http_call c;

        t_row(rows[i].name);
        w = (struct world){0};
        world_start(&rows[i].step, 1);
        call_init(&c);
        for (int twice = 0; twice < 2; twice++) {
            run(&c);
            if (c.fate != HTTP_ANSWERED)
                FAIL("fate %d: %s", c.fate, c.reason);
            EQ_INT(c.status, rows[i].status);
            EQ_STR(buf_peek(&c.answer), str_of(rows[i].body));
            EQ_Z(c.answer_id, rows[i].id);
            EQ_INT(c.retry_after_ms, rows[i].retry_ms);
        }
        EQ_INT(count_of(&w.server, &w.server.accepted), rows[i].connections);
        http_call_done(&c);
        world_stop();
    }
}

TEST(broken_answers_have_their_fate)
{
    static const struct {
        const char *name;
        struct step step;
        enum http_fate fate;
        const char *reason; /* NULL: any */
    } rows[] = {
        {"nothing", {.send = "", .then = CLOSE}, HTTP_RESET, "Empty reply from server"},
        {"nothing, rudely", {.send = "", .then = RST}, HTTP_RESET, NULL},
        {"half a status line", {.send = "HTTP/1.1 2", .then = CLOSE}, HTTP_RESET, NULL},
        {"half a head",
         {.send = HEAD "Content-Le", .then = CLOSE},
         HTTP_RESET,
         "the connection ended inside the answer's head"},
        {"an interim head only",
         {.send = "HTTP/1.1 100 Continue\r\n\r\n", .then = CLOSE},
         HTTP_RESET,
         NULL},
        {"half a body",
         {.send = HEAD "Content-Length: 10\r\n\r\nabc", .then = CLOSE},
         HTTP_RESET,
         "transfer closed with 7 bytes remaining to read"},
        {"half a body, rudely",
         {.send = HEAD "Content-Length: 10\r\n\r\nabc", .then = RST},
         HTTP_RESET,
         NULL},
        {"half a chunk",
         {.send = HEAD "Transfer-Encoding: chunked\r\n\r\n5\r\nab", .then = CLOSE},
         HTTP_RESET,
         NULL},
        {"no last chunk",
         {.send = HEAD "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", .then = CLOSE},
         HTTP_RESET,
         NULL},
        {"not HTTP",
         {.send = "SSH-2.0-OpenSSH_9.2\r\n", .then = CLOSE},
         HTTP_GARBLED,
         "Received HTTP/0.9 when not allowed"},
        {"HTTP/0.9", {.send = "<html>hello</html>", .then = CLOSE}, HTTP_GARBLED, NULL},
        {"zero bytes",
         {.send = "\x01\x02\x03\x04\x05\x06\x07\x08", .then = HOLD},
         HTTP_GARBLED,
         NULL},
        {"a chunk size that is none",
         {.send = HEAD "Transfer-Encoding: chunked\r\n\r\nxyz\r\n", .then = HOLD},
         HTTP_GARBLED,
         NULL},
        {"a chunk that does not end",
         {.send = HEAD "Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", .then = HOLD},
         HTTP_GARBLED,
         NULL},
        {"a negative length",
         {.send = HEAD "Content-Length: -1\r\n\r\n", .then = HOLD},
         HTTP_GARBLED,
         NULL},
        {"a status of 20",
         {.send = "HTTP/1.1 20 Huh\r\n\r\n", .then = HOLD},
         HTTP_GARBLED,
         NULL},
        {"a header line without end",
         {.send = HEAD "X: ", .pad = 150000, .then = HOLD},
         HTTP_GARBLED,
         NULL},
        {"too large by its length",
         {.send = HEAD "Content-Length: 1001\r\n\r\n", .then = HOLD},
         HTTP_TOO_LARGE,
         NULL},
        {"too large in chunks",
         {.send = HEAD "Transfer-Encoding: chunked\r\n\r\n3e9\r\n",
          .pad = 1001,
          .then = HOLD},
         HTTP_TOO_LARGE,
         "the answer is larger than 1000 bytes"},
        {"too large without a length",
         {.send = HEAD "\r\n", .pad = 1001, .then = HOLD},
         HTTP_TOO_LARGE,
         "the answer is larger than 1000 bytes"},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct http_call c;

        t_row(rows[i].name);
        w = (struct world){0};
        world_start(&rows[i].step, 1);
        call_init(&c);
        c.max_body = 1000;
        run(&c);
        if (c.fate != rows[i].fate)
            FAIL("fate %d, want %d: %s", c.fate, rows[i].fate, c.reason);
        if (rows[i].reason)
            EQ_Z(c.reason, rows[i].reason);
        OK(c.reason[0] != '\0');
        EQ_INT(c.status, 0);
        EQ_INT(c.answer.n, 0);
        EQ_INT(c.retry_after_ms, -1);
        EQ_INT(count_of(&w.server, &w.server.requests), 1);
        http_call_done(&c);
        world_stop();
    }
}

TEST(an_answer_of_just_the_allowed_size_is_whole)
{
    static const struct step steps[] = {
        {.send = HEAD "Content-Length: 1000\r\n\r\n", .pad = 1000},
        {.send = HEAD "\r\n", .pad = 1000, .then = CLOSE}};
    struct http_call c;

    world_start(steps, 2);
    call_init(&c);
    c.max_body = 1000;
    for (int i = 0; i < 2; i++) {
        run(&c);
        EQ_INT(c.fate, HTTP_ANSWERED);
        EQ_INT(c.answer.n, 1000);
    }
    http_call_done(&c);
    world_stop();
}

TEST(heads_without_end_are_cut_off)
{
    char *many = mem_alloc(2 << 20);
    struct step step = {.send = many, .then = HOLD};
    struct http_call c;
    size_t n = 0;

    for (int i = 0; i < 9000; i++)
        n += (size_t)sprintf(many + n,
                             "HTTP/1.1 103 Early Hints\r\nLink: <%0100d>\r\n\r\n", i);
    world_start(&step, 1);
    call_init(&c);
    run(&c);
    EQ_INT(c.fate, HTTP_GARBLED);
    EQ_Z(c.reason, "the answer's head has over 262144 bytes");
    http_call_done(&c);
    world_stop();
    mem_free(many);
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

static void wait_for_open(unsigned n)
{
    for (int i = 0; count_of(&w.server, &w.server.open) > n; i++) {
        if (i == 2000)
            FAIL("%u connections are still open", count_of(&w.server, &w.server.open));
        loop_turn(w.loop, 5 * MS);
    }
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
    OK(count_of(&w.server, &w.server.accepted) <= N); /* reused, not opened anew */
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
    struct http_client_opts o = {.user_agent = "test/1"};
    int fd = listen_on_loopback(0, &w.server.port), fill[2];
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                            .sin_port = htons((uint16_t)w.server.port)};
    struct http_call c;
    usec_t took;

    for (size_t i = 0; i < COUNTOF(fill); i++) { /* the queue of those not accepted */
        fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        IGNORE(connect(fill[i], (struct sockaddr *)&a, sizeof a) < 0);
    }
    world_open(&o);
    call_init(&c);
    c.connect_timeout = 200 * MS;
    took = clock_mono();
    run(&c);
    took = clock_mono() - took;
    EQ_INT(c.fate, HTTP_NO_CONNECT);
    EQ_Z(c.reason, "no connection within 0.2 s");
    OK(took >= 200 * MS && took < 2 * USEC_PER_SEC);
    http_call_done(&c);
    http_client_free(w.client);
    http_target_free(w.target);
    loop_free(w.loop);
    for (size_t i = 0; i < COUNTOF(fill); i++)
        close(fill[i]);
    close(fd);
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

/* --- targets --- */

TEST(targets_that_cannot_be_are_refused_and_no_key_is_told)
{
    static const char *const
        injected[] = {"X-A: b\r\nX-Evil: key-123", NULL},
        *const no_colon[] = {"key-123", NULL}, *const no_name[] = {": key-123", NULL},
        *const bad_name[] = {"X A: key-123", NULL}, *const empty[] = {"X-A:", NULL};
    static const struct {
        const char *name;
        struct http_target_opts o;
    } rows[] = {
        {"no URL", {.base_url = NULL}},
        {"empty", {.base_url = ""}},
        {"no scheme", {.base_url = "127.0.0.1:8000"}},
        {"a file", {.base_url = "file:///etc/passwd"}},
        {"ftp", {.base_url = "ftp://127.0.0.1/"}},
        {"credentials", {.base_url = "http://me:key-123@127.0.0.1/"}},
        {"a user", {.base_url = "http://key-123@127.0.0.1/"}},
        {"a query", {.base_url = "http://127.0.0.1/v1?key=key-123"}},
        {"a fragment", {.base_url = "http://127.0.0.1/v1#x"}},
        {"a line break", {.base_url = "http://127.0.0.1/\r\nX: y"}},
        {"no host", {.base_url = "http:///v1"}},
        {"a line break in the key",
         {.base_url = "http://h", .bearer = "key-123\r\nX: y"}},
        {"a line break in a header", {.base_url = "http://h", .headers = injected}},
        {"no colon", {.base_url = "http://h", .headers = no_colon}},
        {"no header name", {.base_url = "http://h", .headers = no_name}},
        {"a space in a header name", {.base_url = "http://h", .headers = bad_name}},
        {"a header without a value", {.base_url = "http://h", .headers = empty}},
        {"a line break in the proxy",
         {.base_url = "http://h", .proxy = "http://p\r\nX: y"}},
    };
    static const struct step steps[] = {{.send = OK_ANSWER}};

    world_start(steps, 1);
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct http_target *t = NULL;
        struct err e = {""};

        t_row(rows[i].name);
        EQ_RC(http_target_new(w.client, &rows[i].o, &t, &e), RC_INVALID);
        OK(!t);
        OK(e.text[0] != '\0');
        if (strcmp(rows[i].name, "a query") !=
            0) /* a URL is told, and is no place for one */
            OK(!strstr(e.text, "key-123"));
    }
    world_stop();
}

TEST(a_ca_file_that_is_not_there_is_told)
{
    struct http_client_opts o = {.ca_file = "/no/such/file"};
    struct http_client *c = NULL;
    struct loop *l;
    struct err e;

    EQ_RC(loop_new(&l, &e), RC_OK);
    EQ_RC(http_client_new(l, &o, &c, &e), RC_NOTFOUND);
    EQ_Z(e.text, "cannot read the CA file /no/such/file: No such file or directory");
    loop_free(l);
}

/* --- TLS, with the openssl program as the server --- */

static pid_t start_tls_server(int *port)
{
    int out[2], status;
    char line[256] = "";
    FILE *f;
    pid_t pid;

    pid = fork();
    if (pid == 0) {
        IGNORE(!freopen("/dev/null", "w", stderr));
        execlp("openssl", "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes",
               "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1", "-days",
               "2", "-keyout", "key.pem", "-out", "cert.pem", (char *)NULL);
        _exit(127);
    }
    waitpid(pid, &status, 0);
    if (status != 0)
        return -1;
    EQ_INT(pipe(out), 0);
    pid = fork();
    if (pid == 0) {
        dup2(out[1], 1);
        IGNORE(!freopen("/dev/null", "r", stdin));
        IGNORE(!freopen("/dev/null", "w", stderr));
        execlp("openssl", "openssl", "s_server", "-accept", "127.0.0.1:0", "-key",
               "key.pem", "-cert", "cert.pem", "-www", (char *)NULL);
        _exit(127);
    }
    close(out[1]);
    f = fdopen(out[0], "r");
    while (fgets(line, sizeof line, f) && strncmp(line, "ACCEPT", 6) != 0)
        continue;
    *port = strrchr(line, ':') ? (int)strtol(strrchr(line, ':') + 1, NULL, 10) : 0;
    fclose(f);
    return pid;
}

static enum http_fate ask_tls(const char *ca_file, bool insecure, char *reason)
{
    struct http_client_opts o = {.ca_file = ca_file};
    struct http_call c;
    enum http_fate fate;
    struct err e;

    memset(&w.opts, 0, sizeof w.opts);
    EQ_RC(loop_new(&w.loop, &e), RC_OK);
    EQ_RC(http_client_new(w.loop, &o, &w.client, &e), RC_OK);
    snprintf(w.url, sizeof w.url, "https://127.0.0.1:%d", w.server.port);
    w.opts.base_url = w.url;
    w.opts.insecure = insecure;
    w.target = make_target(&w.opts);
    call_init(&c);
    c.method = "GET";
    c.path = "/";
    run(&c);
    fate = c.fate;
    snprintf(reason, sizeof c.reason, "%s", c.reason);
    if (fate == HTTP_ANSWERED)
        OK(c.answer.n > 100);
    http_call_done(&c);
    w.client = http_client_free(w.client);
    w.target = http_target_free(w.target);
    w.loop = loop_free(w.loop);
    return fate;
}

TEST(a_tls_server_is_believed_only_with_a_known_certificate)
{
    char reason[160];
    pid_t pid = start_tls_server(&w.server.port);

    if (pid < 0) {
        t_note("no openssl program: not tested");
        return;
    }
    EQ_INT(ask_tls(NULL, false, reason), HTTP_NO_CONNECT);
    OK(strstr(reason, "certificate"));
    EQ_INT(ask_tls("cert.pem", false, reason), HTTP_ANSWERED);
    EQ_INT(ask_tls(NULL, true, reason), HTTP_ANSWERED);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

TEST(a_server_without_tls_is_no_connection_for_https)
{
    static const struct step steps[] = {{.send = OK_ANSWER, .then = CLOSE}};
    struct http_target_opts o = {.base_url = w.url};
    struct http_target *t;
    struct http_call c;

    world_start(steps, 1);
    snprintf(w.url, sizeof w.url, "https://127.0.0.1:%d", w.server.port);
    t = make_target(&o);
    call_init(&c);
    c.target = t;
    c.connect_timeout = 300 * MS; /* the server waits for a head that does not come */
    run(&c);
    EQ_INT(c.fate, HTTP_NO_CONNECT);
    http_call_done(&c);
    world_stop();
    http_target_free(t); /* after its client */
}
