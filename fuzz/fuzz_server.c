/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_server: bytes from a socket through the real server and the API behind it, over a
 * store in memory; on loopback, so it is slow, and only what lies above the handlers is
 * looked for here (fuzz_api has those).
 *
 * The input: a byte that seeds the cuts of what is sent; one that says how the client
 * ends (0: it ends its sending side and reads to the end, 1: it goes away); the bytes.
 *
 * Whatever is sent: what comes back is HTTP, answer by answer; refusals have the envelope;
 * nothing is a 500; nothing follows "Connection: close"; and the server answers the next
 * clients.  Every hundred inputs it is stopped: nothing half-written is left.
 */
/* reaches: src/http/server.c 20 */
/* reaches: src/http/request.c 28 */
/* reaches: src/http/stream.c 12 */
/* reaches: src/http/head.c 40 */
#include "fuzz/lib/fail.h"

#include "base/clock.h"
#define QUIET_START clock_wall_sec()
#include "fuzz/lib/world.h"
#include "http/head.h"
#include "http/http1.h"

#include <netinet/tcp.h>
#include <poll.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { PER_SERVER = 100, ANSWER_MAX = 8 << 20 };

static struct api *api;
static struct http_server *server;
static unsigned on_this_server;

/* --- The server ---------------------------------------------------------------------- */

static void start(void)
{
    struct api_opts o = {.max_expansion = 20, .max_file_bytes = 512};
    struct http_server_opts so = {
        .listen = "127.0.0.1:0", .workers = 2, .idle_seconds = 5};
    struct http_handler h;
    struct err e;

    if (!world)
        world_init();
    world_fill();
    o.store = &world->store;
    o.blobs = &world->blobs_if;
    o.engine = &world_engine;
    api = api_new(&o);
    h = api_handler(api);
    CHECK(http_server_new(&so, &h, &server, &e) == RC_OK);
    on_this_server = 0;
}

static void stop(void)
{
    server = http_server_free(server);
    IGNORE(api_free(api)); /* always NULL */
    world_check(false);
    world_clear();
}

/* --- The client ---------------------------------------------------------------------- */

/* Of ever another address, as ports are not ready again at once. */
static int dial(void)
{
    static unsigned count;
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)http_server_port(server)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in from = {.sin_family = AF_INET,
                               .sin_addr.s_addr = htonl(0x7f010001u + count++ % 60000)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

    CHECK(fd >= 0);
    CHECK(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0);
    CHECK(bind(fd, (struct sockaddr *)&from, sizeof from) == 0);
    CHECK(connect(fd, (struct sockaddr *)&to, sizeof to) == 0);
    return fd;
}

/* As much as the server takes. */
static void push(int fd, struct str bytes, uint32_t cuts)
{
    unsigned pieces = 0;

    while (bytes.n) {
        size_t n = cuts && pieces++ < 32 ? 1 + (cuts >> 16) % 97 : bytes.n;
        ssize_t sent = send(fd, bytes.p, n < bytes.n ? n : bytes.n, MSG_NOSIGNAL);

        if (sent <= 0)
            return;
        if (cuts)
            cuts = (cuts * 1664525u + 1013904223u) | 1;
        bytes.p += sent;
        bytes.n -= (size_t)sent;
    }
}

/* true: to the end; false: the server had nothing to say for a while, as a stream has. */
static bool pull(int fd, struct buf *all, int patience_ms)
{
    char tmp[16384];
    ssize_t n = 1;

    while (n > 0) {
        struct pollfd p = {.fd = fd, .events = POLLIN};

        if (poll(&p, 1, patience_ms) == 0)
            return false;
        n = recv(fd, tmp, sizeof tmp, 0);
        if (n > 0)
            (void)buf_add(all, tmp, (size_t)n);
    }
    CHECK(buf_failed(all) == RC_OK);
    return true;
}

/* --- What came back ------------------------------------------------------------------ */

struct head {
    int status;
    bool chunked, has_length, closes, json, ours;
    uint64_t length;
};

static void read_field(struct str line, struct head *h)
{
    struct str value = line, name = str_cut(&value, ':');

    CHECK(head_name_ok(name) && head_value_ok(value));
    value = str_trim(value);
    if (str_ieq(name, STR("Content-Length"))) {
        CHECK(!h->has_length && str_u64(value, &h->length) == RC_OK);
        h->has_length = true;
    } else if (str_ieq(name, STR("Transfer-Encoding"))) {
        CHECK(str_ieq(value, STR("chunked")));
        h->chunked = true;
    } else if (str_ieq(name, STR("Connection"))) {
        h->closes = h->closes || str_ieq(value, STR("close"));
    } else if (str_ieq(name, STR("Content-Type"))) {
        h->json = str_is(value, "application/json");
    } else if (str_ieq(name, STR("x-request-id"))) {
        CHECK(!h->ours && value.n == 36);
        h->ours = true;
    }
}

/* false: it is cut. */
static bool read_head(struct str *rest, struct head *h)
{
    const char *end = memmem(rest->p, rest->n, "\r\n\r\n", 4);
    struct str head, line;

    *h = (struct head){0};
    if (!end)
        return false;
    head = (struct str){rest->p, (size_t)(end + 2 - rest->p)};
    rest->n -= (size_t)(end + 4 - rest->p);
    rest->p = end + 4;
    line = str_cut(&head, '\n');
    CHECK(line.n > 12 && str_starts(line, STR("HTTP/1.1 ")) &&
          line.p[line.n - 1] == '\r');
    for (int i = 9; i < 12; i++)
        CHECK(line.p[i] >= '0' && line.p[i] <= '9');
    h->status = (line.p[9] - '0') * 100 + (line.p[10] - '0') * 10 + line.p[11] - '0';
    while (head.n) {
        line = str_cut(&head, '\n');
        CHECK(line.n > 0 && line.p[line.n - 1] == '\r');
        line.n--;
        read_field(line, h);
    }
    CHECK(!(h->chunked && h->has_length));
    return true;
}

static void check_refusal(struct str body)
{
    static const struct json_want wants[] = {{"error", -1}, {"message", 0}, {"type", 0}};
    struct json_val v[COUNTOF(wants)];

    CHECK(json_read(body, NULL, wants, COUNTOF(wants), v, NULL, NULL) == RC_OK);
    CHECK(v[1].type == JSON_STRING && v[2].type == JSON_STRING);
}

/* Takes the body off; false: it is cut.  A HEAD's answer has none, and which it is only
 * its next bytes tell. */
static bool read_body(struct str *rest, const struct head *h, bool heads, struct str *ret)
{
    struct http1_chunks c;
    struct str piece;
    enum rc rc;

    *ret = (struct str){rest->p, 0};
    if (h->status == 304 || h->status == 204 || h->status < 200)
        return true;
    if (heads && (rest->n == 0 || str_starts(*rest, STR("HTTP/1.1 "))))
        return true;
    if (h->chunked) {
        http1_chunks_init(&c, ANSWER_MAX);
        while ((rc = http1_chunks_read(&c, rest, &piece)) == RC_OK && piece.n)
            ;
        CHECK(rc == RC_OK || rc == RC_AGAIN);
        return rc == RC_OK;
    }
    CHECK(h->has_length || h->closes);
    ret->n = h->has_length ? (size_t)u64_min(h->length, rest->n) : rest->n;
    rest->p += ret->n, rest->n -= ret->n;
    return !h->has_length || ret->n == h->length;
}

static void check_answers(struct str all, bool heads, bool to_end)
{
    bool closed = false;

    while (all.n) {
        struct head h;
        struct str body;

        if (closed)
            t_fail(__FILE__, __LINE__, "an answer that closes is followed by '%.*s'",
                   STR_ARG(all));
        if (!read_head(&all, &h) || !read_body(&all, &h, heads, &body)) {
            CHECK(!to_end || h.chunked); /* a stream may be broken off */
            return;
        }
        if (h.status < 200)
            continue;
        CHECK(h.status < 500 || (h.status == 505 && !h.ours));
        /* The library's own refusals close; that of a Content-Length which is no number
         * has its head twice in version 0.9.75. */
        if (!h.ours) {
            CHECK(h.status >= 400 && h.closes);
            return;
        }
        if (h.status >= 400 && body.n) {
            CHECK(h.json);
            check_refusal(body);
        }
        closed = h.closes;
    }
}

static void check_alive(void)
{
    static const char ask[] =
        "GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    struct buf all;
    int fd = dial();

    buf_init(&all, ANSWER_MAX);
    push(fd, (struct str){ask, sizeof ask - 1}, 0);
    CHECK(pull(fd, &all, 20000));
    close(fd);
    CHECK(all.n > 12 && memcmp(all.p, "HTTP/1.1 200", 12) == 0);
    check_answers(buf_peek(&all), false, true);
    buf_done(&all);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct str bytes = {(const char *)data + 2, n - 2};
    struct buf all;
    bool heads, to_end = false;
    int fd;

    if (n < 3 || n > 60000)
        return 0;
    if (!server)
        start();
    heads = memmem(bytes.p, bytes.n, "HEAD", 4) != NULL;
    buf_init(&all, ANSWER_MAX);
    fd = dial();
    push(fd, bytes, data[0] == '0' ? 0 : data[0] * 2654435761u + 1);
    if (!(data[1] & 1)) {
        shutdown(fd, SHUT_WR);
        to_end = pull(fd, &all, 40);
        if (!to_end && !memmem(bytes.p, bytes.n, "/results", 8) &&
            !memmem(bytes.p, bytes.n, "/events", 7))
            to_end = pull(fd, &all, 20000);
    }
    close(fd);
    check_answers(buf_peek(&all), heads, to_end);
    buf_done(&all);
    if (on_this_server % 8 == 0)
        check_alive();
    if (++on_this_server == PER_SERVER) {
        stop();
        start();
    }
    return 0;
}
