/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where our threads meet the library's: meant for the thread sanitizer, and true without.
 */
#include "tests/unit/http/raw.h"

enum { CLIENTS = 8 };

static struct app app;
static atomic_bool over;
static atomic_uint answers, aborts;

/* ---- requests answered later, by a thread that is none of the server's ---- */

static struct {
    pthread_mutex_t lock;
    sem_t some;
    struct http_request *rq[4096];
    unsigned n;
} late;

static void serve(void *ctx, struct http_request *rq)
{
    if (!str_is(http_path(rq), "/later")) {
        on_serve(ctx, rq);
        return;
    }
    pthread_mutex_lock(&late.lock);
    OK(late.n < COUNTOF(late.rq));
    late.rq[late.n++] = rq;
    pthread_mutex_unlock(&late.lock);
    sem_post(&late.some);
}

static void *answer_late(void *arg)
{
    unsigned turn = 0;

    (void)arg;
    for (;;) {
        struct http_request *rq = NULL;

        sem_wait(&late.some);
        if (++turn % 16 == 0)
            nap(1);
        pthread_mutex_lock(&late.lock);
        if (late.n)
            rq = late.rq[--late.n];
        pthread_mutex_unlock(&late.lock);
        if (!rq)
            return NULL; /* woken without a request: the end */
        reply_text(rq);
    }
}

/* ---- clients ---- */

struct client {
    pthread_t thread;
    unsigned id, seed, turn;
    int fd; /* -1: none */
};

static unsigned pick(struct client *c, unsigned n)
{
    c->seed = c->seed * 1664525u + 1013904223u;
    return (c->seed >> 16) % n;
}

/* Only the end of the server may come between a request and its answer. */
static void want(struct client *c, const char *text)
{
    const char *got = hear(c->fd);

    if (strstr(got, text)) {
        atomic_fetch_add(&answers, 1);
        if (!strcasestr(got, "\r\nConnection: close\r\n"))
            return;
    } else if (!atomic_load(&over)) {
        FAIL("no \"%s\" in \"%s\"", text, got);
    }
    close(c->fd);
    c->fd = -1;
}

static void leave(struct client *c)
{
    struct linger now = {1, 0};

    if (pick(c, 2)) /* by a reset */
        OK(setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now) == 0);
    close(c->fd);
    c->fd = -1;
    atomic_fetch_add(&aborts, 1);
}

static void get(struct client *c, const char *path)
{
    char line[128], text[64];

    EQ_RC(str_fmt(line, sizeof line, "GET %s?q=%u.%u HTTP/1.1\r\nHost: a\r\n\r\n", path,
                  c->id, c->turn),
          RC_OK);
    EQ_RC(str_fmt(text, sizeof text, "GET %s q=[%u.%u]", path, c->id, c->turn), RC_OK);
    IGNORE(say(c->fd, line)); /* hear() finds out */
    want(c, text);
}

static void post(struct client *c, const char *path, bool chunked, bool abort)
{
    static const char zeros[50000];
    char head[160], text[64];
    size_t n = 1 + pick(c, sizeof zeros);

    if (chunked)
        EQ_RC(str_fmt(head, sizeof head,
                      "POST %s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                      "%zx\r\n",
                      path, n),
              RC_OK);
    else
        EQ_RC(str_fmt(head, sizeof head,
                      "POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %zu\r\n\r\n", path,
                      n),
              RC_OK);
    IGNORE(say(c->fd, head)); /* hear() finds out */
    IGNORE(say_n(c->fd, zeros, abort ? n / 2 : n));
    if (abort) {
        leave(c);
        return;
    }
    if (chunked)
        IGNORE(say(c->fd, "\r\n0\r\n\r\n"));
    EQ_RC(str_fmt(text, sizeof text, "POST %s %zu", path, n), RC_OK);
    want(c, text);
}

static void refused(struct client *c)
{
    IGNORE(say(c->fd, "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\n"));
    want(c, "HTTP/1.1 413");
}

static void one(struct client *c)
{
    switch (pick(c, 10)) {
    case 0:
        post(c, "/sink", false, false);
        break;
    case 1:
        post(c, "/sink", true, false);
        break;
    case 2:
        post(c, "/sink", pick(c, 2), true);
        break;
    case 3: /* gone while suspended */
        IGNORE(say(c->fd, "GET /later?q=1 HTTP/1.1\r\nHost: a\r\n\r\n"));
        leave(c);
        break;
    case 4:
        get(c, "/later");
        break;
    case 5:
        refused(c);
        break;
    case 6: /* half a head, and gone */
        IGNORE(say(c->fd, "GET /later?q=1 HTTP/1.1\r\nHo"));
        leave(c);
        break;
    case 7: /* an answer that nobody reads */
        IGNORE(say(c->fd, "GET /x?big=300000 HTTP/1.1\r\nHost: a\r\n\r\n"));
        leave(c);
        break;
    default:
        get(c, "/x");
        break;
    }
}

static void *client(void *arg)
{
    struct client *c = arg;

    while (!atomic_load(&over)) {
        if (c->fd < 0)
            c->fd = try_dial(&app);
        if (c->fd < 0) {
            OK(atomic_load(&over));
            break;
        }
        one(c);
        c->turn++;
    }
    if (c->fd >= 0)
        close(c->fd);
    return NULL;
}

static void hammer(unsigned ms, unsigned round)
{
    struct client c[CLIENTS];
    pthread_t answerer;

    atomic_store(&over, false);
    app_start_with(&app, (struct http_server_opts){.io_threads = 2, .workers = 3}, serve);
    sem_init(&late.some, 0, 0);
    OK(pthread_create(&answerer, NULL, answer_late, NULL) == 0);
    for (unsigned i = 0; i < CLIENTS; i++) {
        c[i] = (struct client){.id = i, .seed = round * 100 + i, .fd = -1};
        OK(pthread_create(&c[i].thread, NULL, client, &c[i]) == 0);
    }
    nap(ms);
    atomic_store(&over, true);
    if (round % 2 == 0)
        http_server_drain(app.server, 5); /* under full load */
    app_done(&app);                       /* else with all of it still going on */
    for (unsigned i = 0; i < CLIENTS; i++)
        pthread_join(c[i].thread, NULL);
    sem_post(&late.some);
    pthread_join(answerer, NULL);
    EQ_INT(late.n, 0);
}

static void *answer_after_a_while(void *arg)
{
    nap(300);
    return answer_late(arg);
}

TEST(free_waits_for_the_reply_of_a_thread_that_is_none_of_the_servers)
{
    pthread_t answerer;
    int fd;

    OK(pthread_mutex_init(&late.lock, NULL) == 0);
    sem_init(&late.some, 0, 0);
    app_start_with(&app, (struct http_server_opts){.io_threads = 1}, serve);
    fd = dial(&app);
    OK(say(fd, "GET /later HTTP/1.1\r\nHost: a\r\n\r\n"));
    while (app.opened == 0)
        nap(1);
    nap(50);
    OK(pthread_create(&answerer, NULL, answer_after_a_while, NULL) == 0);
    app_done(&app);
    sem_post(&late.some);
    pthread_join(answerer, NULL);
    EQ_INT(late.n, 0);
    close(fd);
}

TEST_SLOW(eight_clients_that_hammer_abort_and_vanish_get_their_own_answers, 30)
{
    OK(pthread_mutex_init(&late.lock, NULL) == 0);
    hammer(2000, 0);
    t_note("%u answers, %u clients gone", answers, aborts);
    OK(answers > 100 && aborts > 100);
}

TEST_SLOW(a_server_under_load_can_be_drained_and_freed_again_and_again, 60)
{
    OK(pthread_mutex_init(&late.lock, NULL) == 0);
    for (unsigned i = 1; i <= 5; i++)
        hammer(60, i);
    t_note("%u answers, %u clients gone", answers, aborts);
}
