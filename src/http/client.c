/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it is fast: calls are spread over lanes (lane.h); the easy handles are kept and
 * only what differs is set; and no libcurl timer runs for a call: one walk over the
 * running ones now and then finds those that are late.
 */
#include "http/address.h"
#include "http/answer.h"
#include "http/client.h"
#include "http/curlib.h"
#include "http/lane.h"
#include "http/target.h"
#include "base/limits.h"
#include "base/mem.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    DEFAULT_CONNECTIONS = 1024,
    LANE_CALLS = 16,         /* measured: see bench/bench_client.c */
    LANE_CALLS_TLS = 256,    /* each lane reads the CA file: milliseconds and megabytes */
    LARGE_BODY = 64 * 1024,  /* may be on its way for a while */
    KEPT_ANSWER = 64 * 1024, /* memory of an answer that its call may keep */
    ANSWER_MAX = 1 << 30     /* no max_body is above it */
};

static const usec_t DEFAULT_CONNECT = 5 * USEC_PER_SEC;
static const usec_t LANE_IDLE = 120 * USEC_PER_SEC; /* libcurl's own limit is 118 s */

/* An easy handle and what belongs to the call it works for. */
struct hand {
    struct list link; /* in client.running, or in its target's spare */
    struct ride ride; /* its easy handle, kept */
    const struct http_target *target;
    struct http_call *call; /* NULL: spare */
    /* The X-Request-Id line and the call's own lines, in front of the target's lines. */
    struct curl_slist own[1 + HTTP_CALL_HEADERS];

    /* what the easy handle is set to */
    char *path;
    CURLU *url;
    bool is_get;
    const struct curl_slist *headers;
    curl_off_t max_file; /* as libcurl is told; 0: it need not look */
    long connect_ms;

    /* of this call */
    struct answer head;
    size_t max_body;
    bool failed;         /* by us, in a callback: fate says how */
    enum http_fate fate; /* if failed */
    unsigned sends;      /* how often the request went out: 2 when libcurl tried again */
    bool opened;         /* a socket */
    bool stray;     /* on the connection was an answer to nobody: on another one, then */
    int open_errno; /* why no socket could be had */
    char denied[128]; /* which address was not connected to, and why; "": none */
    size_t dropped;   /* bytes of a body that is passed over */
    bool enough;      /* so many that the rest was cut off */
    usec_t started, check_at, connect_limit;
    usec_t reprieve;            /* its owner gave it until then; 0: it was not asked */
    usec_t connecting;          /* since when; 0: connected */
    int unsent;                 /* at the watchdog's last look; -1: there was none */
    char said[CURL_ERROR_SIZE]; /* libcurl's words */
};

struct http_client {
    struct hub hub;
    struct loop *loop;
    struct list targets;
    struct list running; /* hands, the oldest first */
    unsigned max_connections;
    char *user_agent;
    struct loop_timer due_timer, watchdog;
    usec_t watched;      /* when the watchdog last looked */
    struct lane *adding; /* the timer of this lane is not worth setting */
    bool in_done, draining, closing;
};

/* --- hands --- */

PRINTF_FMT(3, 4)
static void fail(struct hand *h, enum http_fate fate, const char *fmt, ...)
{
    va_list ap;

    h->failed = true;
    h->fate = fate;
    va_start(ap, fmt);
    (void)vsnprintf(h->call->reason, sizeof h->call->reason, fmt, ap);
    va_end(ap);
}

static size_t on_head(char *p, size_t one, size_t n, void *ctx)
{
    struct hand *h = ctx;

    (void)one;
    answer_line(&h->head, (struct str){p, n});
    if (h->head.bytes <= ANSWER_HEAD_MAX)
        return n;
    fail(h, HTTP_GARBLED, "the answer's head has over %d bytes", ANSWER_HEAD_MAX);
    return 0;
}

static size_t on_body(char *p, size_t one, size_t n, void *ctx)
{
    struct hand *h = ctx;
    struct buf *b = &h->call->answer;

    (void)one;
    if (h->call->status_only) {
        h->dropped += n;
        h->enough = h->dropped > h->max_body;
        return h->enough ? 0 : n;
    }
    if (n > h->max_body - b->n)
        fail(h, HTTP_TOO_LARGE, "the answer is larger than %zu bytes", h->max_body);
    else if (buf_add(b, p, n) != RC_OK)
        fail(h, HTTP_RESET, "no memory for the answer");
    return h->failed ? 0 : n;
}

/* The name may have resolved to something else when it was last looked at, and may again:
 * what counts is the address that is about to be connected to. */
static bool may_connect(struct hand *h, const struct curl_sockaddr *addr)
{
    enum address_class is = address_class(&addr->addr, addr->addrlen);
    char text[64];

    if (!h->target->public_only || is == ADDRESS_PUBLIC)
        return true;
    address_text(&addr->addr, addr->addrlen, text);
    (void)snprintf(h->denied, sizeof h->denied, "%s is %s, and none of those may be used",
                   text, address_class_text(is));
    return false;
}

static curl_socket_t open_socket(void *ctx, curlsocktype purpose,
                                 struct curl_sockaddr *addr)
{
    struct hand *h = ctx;
    int fd;

    (void)purpose;
    if (!may_connect(h, addr))
        return CURL_SOCKET_BAD;
    fd = socket(addr->family, addr->socktype | SOCK_CLOEXEC | SOCK_NONBLOCK,
                addr->protocol);
    if (fd < 0) {
        h->open_errno = errno;
        return CURL_SOCKET_BAD;
    }
    if (!h->connecting) /* libcurl tries again: its connection was dead */
        h->connecting = loop_now(h->ride.lane->hub->loop);
    h->opened = true;
    lane_opened(&h->ride, fd);
    return fd;
}

/* Runs when a connection stands, before the request goes out on it. */
static int on_ready(void *ctx, char *ip, char *local_ip, int port, int local_port)
{
    struct hand *h = ctx;

    (void)ip, (void)local_ip, (void)port;
    h->stray = !h->opened && lane_stray(&h->ride, local_port);
    if (h->stray)
        return CURL_PREREQFUNC_ABORT; /* which closes it */
    h->sends++;
    h->connecting = 0;
    h->ride.moved = loop_now(h->ride.lane->hub->loop);
    return CURL_PREREQFUNC_OK;
}

static void set_security(CURL *z, const struct http_target *t)
{
    long verify = t->insecure ? 0 : 1;

    MUST_SET(z, CURLOPT_PROTOCOLS_STR, "http,https");
    MUST_SET(z, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    MUST_SET(z, CURLOPT_FOLLOWLOCATION, 0L);
    MUST_SET(z, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    MUST_SET(z, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
    MUST_SET(z, CURLOPT_HTTP09_ALLOWED, 0L);
    MUST_SET(z, CURLOPT_PROXY, t->proxy); /* "": none, whatever the environment says */
    MUST_SET(z, CURLOPT_NOPROXY, "");
    MUST_SET(z, CURLOPT_HEADEROPT, (long)CURLHEADER_SEPARATE); /* no key for proxies */
    MUST_SET(z, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    MUST_SET(z, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    MUST_SET(z, CURLOPT_SSL_VERIFYPEER, verify);
    MUST_SET(z, CURLOPT_SSL_VERIFYHOST, verify * 2);
    if (t->ca_file) {
        MUST_SET(z, CURLOPT_CAINFO, t->ca_file);
        MUST_SET(z, CURLOPT_PROXY_CAINFO, t->ca_file);
    }
}

static void set_behaviour(CURL *z, struct http_client *c, struct hand *h)
{
    MUST_SET(z, CURLOPT_NOSIGNAL, 1L);
    MUST_SET(z, CURLOPT_QUICK_EXIT, 1L); /* a cancel does not wait for the resolver */
    /* One call, one connection: what ends it ends no other call.  Upstreams that answer
     * for minutes gain nothing from multiplexing. */
    MUST_SET(z, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    MUST_SET(z, CURLOPT_PATH_AS_IS, 1L);
    MUST_SET(z, CURLOPT_TCP_NODELAY, 1L);
    MUST_SET(z, CURLOPT_TCP_KEEPALIVE, 1L); /* answers are long in coming */
    MUST_SET(z, CURLOPT_DNS_CACHE_TIMEOUT, h->target->numeric ? -1L : 60L);
    MUST_SET(z, CURLOPT_ERRORBUFFER, h->said);
    MUST_SET(z, CURLOPT_HEADERFUNCTION, on_head);
    MUST_SET(z, CURLOPT_HEADERDATA, h);
    MUST_SET(z, CURLOPT_WRITEFUNCTION, on_body);
    MUST_SET(z, CURLOPT_WRITEDATA, h);
    MUST_SET(z, CURLOPT_PREREQFUNCTION, on_ready);
    MUST_SET(z, CURLOPT_PREREQDATA, h);
    MUST_SET(z, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    MUST_SET(z, CURLOPT_OPENSOCKETDATA, h);
    MUST_SET(z, CURLOPT_CLOSESOCKETFUNCTION, hub_close_socket);
    MUST_SET(z, CURLOPT_CLOSESOCKETDATA, &c->hub); /* a connection outlives its hand */
    MUST_SET(z, CURLOPT_PRIVATE, &h->ride);
}

static struct hand *hand_take(struct http_client *c, const struct http_target *t)
{
    struct list *it = list_pop(&t->state->spare);
    struct hand *h;

    if (it)
        return list_entry(it, struct hand, link);
    h = mem_new(struct hand);
    h->target = t;
    h->ride.easy = curl_easy_init();
    MEM_CHECK(h->ride.easy);
    list_init(&h->link);
    set_security(h->ride.easy, t);
    set_behaviour(h->ride.easy, c, h);
    return h;
}

static void hand_free(struct hand *h)
{
    list_del(&h->link);
    curl_easy_cleanup(h->ride.easy);
    curl_url_cleanup(h->url);
    mem_free(h->path);
    mem_free(h);
}

/* Both forms of the URL: the parsed one saves the parsing for each request; the text is
 * what libcurl takes when it tries again on a fresh connection. */
static bool set_path(struct hand *h, const char *path)
{
    size_t base = strlen(h->target->url), n = strlen(path);
    char *url = mem_alloc(base + n + 1);
    CURLU *u = curl_url();
    bool ok;

    MEM_CHECK(u);
    memcpy(url, h->target->url, base);
    memcpy(url + base, path, n);
    ok = curl_url_set(u, CURLUPART_URL, url, CURLU_DISALLOW_USER | CURLU_PATH_AS_IS) ==
         CURLUE_OK;
    if (ok) {
        MUST_SET(h->ride.easy, CURLOPT_URL, url);
        MUST_SET(h->ride.easy, CURLOPT_CURLU, u);
        curl_url_cleanup(h->url);
        h->url = u;
        mem_free(h->path);
        h->path = mem_dup(path, n);
    } else {
        curl_url_cleanup(u);
    }
    mem_free(url);
    return ok;
}

/* libcurl gives the addresses of a name their share of the connect timeout, so it has to
 * know it; but a timer of its own for each request is dear, so that it is set only when
 * no idle connection is there to be used.  The watchdog knows the limit in any case. */
static void set_connect_option(struct hand *h)
{
    bool fresh = !h->target->numeric && h->ride.lane->connections < h->ride.lane->calls;
    long ms = fresh ? (long)((h->connect_limit + USEC_PER_MS - 1) / USEC_PER_MS) : 0;

    if (ms == h->connect_ms)
        return;
    MUST_SET(h->ride.easy, CURLOPT_CONNECTTIMEOUT_MS, ms);
    h->connect_ms = ms;
}

/* libcurl judges a length while it reads the head, so not where the status is wanted. */
static void set_max_body(struct hand *h, const struct http_call *call)
{
    size_t max = call->max_body ? call->max_body : LIMIT_ANSWER_BYTES;
    curl_off_t max_file;

    h->max_body = max < ANSWER_MAX ? max : ANSWER_MAX;
    max_file = call->status_only ? 0 : (curl_off_t)h->max_body;
    if (max_file == h->max_file)
        return;
    MUST_SET(h->ride.easy, CURLOPT_MAXFILESIZE_LARGE, max_file);
    h->max_file = max_file;
}

static void set_method_and_body(struct hand *h, const struct http_call *call)
{
    bool is_get = strcmp(call->method, "GET") == 0;

    CHECK(is_get || strcmp(call->method, "POST") == 0);
    if (!is_get) { /* setting the body makes it a POST */
        MUST_SET(h->ride.easy, CURLOPT_POSTFIELDS, call->body.n ? call->body.p : "");
        MUST_SET(h->ride.easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)call->body.n);
    } else if (!h->is_get) {
        MUST_SET(h->ride.easy, CURLOPT_HTTPGET, 1L);
    }
    h->is_get = is_get;
}

/* False: there is no id, or it would not stay within its line. */
static bool make_id_line(struct http_call *call)
{
    static const char name[] = "X-Request-Id: ";
    char *to = call->_id_line;
    const char *id = call->request_id;

    _Static_assert(sizeof call->_id_line >= sizeof name + sizeof call->request_id,
                   "fits");
    memcpy(to, name, sizeof name - 1);
    to += sizeof name - 1;
    for (; *id > ' ' && *id <= '~'; id++)
        *to++ = *id;
    *to = '\0';
    return *id == '\0' && id > call->request_id;
}

/* libcurl takes a list of char *, and reads them only. */
static struct curl_slist *own_line(struct curl_slist *node, const char *line,
                                   struct curl_slist *next)
{
    node->next = next;
    memcpy(&node->data, &line, sizeof node->data);
    return node;
}

static struct curl_slist *add_call_lines(struct hand *h, const struct http_call *call,
                                         struct curl_slist *lines)
{
    struct err e;
    size_t n = 0;

    for (; call->headers && call->headers[n]; n++) {
        CHECK(n < HTTP_CALL_HEADERS);
        if (target_check_line(call->headers[n], &e) != RC_OK)
            fail(h, HTTP_NO_CONNECT, "%s", e.text);
    }
    while (n--) /* from the last to the first: each is put in front */
        lines = own_line(&h->own[1 + n], call->headers[n], lines);
    return lines;
}

static void set_headers(struct hand *h, struct http_call *call)
{
    const struct http_target *t = h->target;
    struct curl_slist *lines = t->post;

    if (h->is_get)
        lines = t->get;
    else if (call->body.n > LARGE_BODY)
        lines = t->post_large;
    lines = add_call_lines(h, call, lines);
    if (make_id_line(call))
        lines = own_line(&h->own[0], call->_id_line, lines);
    if (lines == h->headers)
        return;
    MUST_SET(h->ride.easy, CURLOPT_HTTPHEADER, lines);
    h->headers = lines;
}

static void prepare(struct hand *h, struct http_call *call)
{
    answer_start(&h->head);
    h->failed = false;
    h->sends = 0;
    h->opened = h->stray = false;
    h->open_errno = 0;
    h->denied[0] = '\0';
    h->dropped = 0;
    h->enough = false;
    h->unsent = -1;
    h->reprieve = 0;
    h->said[0] = '\0';
    h->started = h->connecting = clock_mono();
    set_method_and_body(h, call);
    set_headers(h, call);
    h->connect_limit =
        call->connect_timeout > 0 ? call->connect_timeout : DEFAULT_CONNECT;
    set_connect_option(h);
    set_max_body(h, call);
    if ((!h->path || strcmp(h->path, call->path) != 0) && !set_path(h, call->path))
        fail(h, HTTP_NO_CONNECT, "\"%s\" makes no URL", call->path);
}

/* --- the end of a call --- */

static void look_at(struct http_client *c, usec_t at);

/* Nobody would tell of the call's bytes.  The way that libcurl has for this, an error
 * from its callback, would end all calls of the lane and refuse new ones. */
static void not_heard(struct hub *hub, struct ride *r, const struct err *e)
{
    struct hand *h = CONTAINER_OF(r, struct hand, ride);

    fail(h, h->sends ? HTTP_RESET : HTTP_NO_CONNECT, "%s", e->text);
    h->check_at = 0;
    look_at(CONTAINER_OF(hub, struct http_client, hub), 0);
}

/* Some of what is wrong with an answer comes as CURLE_RECV_ERROR, told apart by words
 * only; the tests hold libcurl to them. */
static bool is_garbled(const struct hand *h, CURLcode code)
{
    switch ((int)code) {
    case CURLE_UNSUPPORTED_PROTOCOL: /* HTTP/0.9, which is anything at all */
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_BAD_CONTENT_ENCODING:
    case CURLE_OUT_OF_MEMORY: /* how 7.88 says that a header line has over 100 KB */
    case 100:                 /* how later ones do: CURLE_TOO_LARGE */
        return true;
    case CURLE_RECV_ERROR:
        return strstr(h->said, "chunked-encoding") || strstr(h->said, "response headers");
    default:
        return false;
    }
}

static enum http_fate fate_of(const struct hand *h, CURLcode code)
{
    if (h->failed)
        return h->fate;
    if (code == CURLE_OK) /* libcurl takes half a head for a whole one */
        return h->head.complete ? HTTP_ANSWERED : HTTP_RESET;
    if (h->sends == 0)
        return HTTP_NO_CONNECT;
    if (code == CURLE_FILESIZE_EXCEEDED)
        return HTTP_TOO_LARGE;
    if (h->enough)
        return HTTP_ANSWERED;
    return is_garbled(h, code) ? HTTP_GARBLED : HTTP_RESET;
}

/* In the system's own words where there are any: they are what people search for. */
static void set_reason(struct http_call *call, const struct hand *h, CURLcode code)
{
    const char *text = h->said[0] ? h->said : curl_easy_strerror(code);
    long errnum = h->open_errno;
    size_t n = 0;

    if (code == CURLE_OK)
        text = "the connection ended inside the answer's head";
    else if (code == CURLE_COULDNT_CONNECT && errnum == 0)
        curl_easy_getinfo(h->ride.easy, CURLINFO_OS_ERRNO, &errnum);
    if (errnum && strerrordesc_np((int)errnum))
        text = strerrordesc_np((int)errnum);
    if (h->sends == 0 && h->denied[0])
        text = h->denied;
    for (; n < sizeof call->reason - 1 && text[n]; n++)
        call->reason[n] = text[n];
    call->reason[n] = '\0';
}

static void set_answer(struct http_call *call, const struct answer *a)
{
    _Static_assert(sizeof call->quota == sizeof a->quota, "fits");
    call->status = a->status;
    memcpy(call->answer_id, a->id, sizeof a->id);
    call->retry_after_ms = a->retry_ms;
    if (a->retry_date[0])
        call->retry_after_ms = answer_retry_ms(a, clock_wall_sec());
    if (a->quota_n == 0)
        return;
    memcpy(call->quota, a->quota, a->quota_n);
    call->quota_n = a->quota_n;
    call->date = answer_date(a);
}

static void clear_answer(struct http_call *call)
{
    buf_shrink(&call->answer, KEPT_ANSWER);
    call->status = 0;
    call->answer_id[0] = '\0';
    call->retry_after_ms = -1;
    call->quota_n = 0;
    call->date = 0;
    call->reason[0] = '\0';
}

/* Takes the hand off its call.  One that saw a failure is not used again: libcurl keeps
 * counting its retries over all requests of a handle and gives up at the sixth, and its
 * errno of an old failure is never cleared. */
static void let_go(struct hand *h, bool good)
{
    if (h->opened)
        lane_kept(&h->ride);
    lane_leave(&h->ride);
    list_del(&h->link);
    h->target->state->running--;
    h->call->_easy = NULL;
    h->call = NULL;
    if (good && h->sends == 1)
        list_add_head(&h->target->state->spare, &h->link);
    else
        hand_free(h);
}

static void end(struct http_client *c, struct hand *h, CURLcode code)
{
    struct http_call *call = h->call;
    bool nested = c->in_done;

    if (h->stray && !h->failed) { /* nothing was sent */
        let_go(h, false);
        http_start(c, call);
        return;
    }
    call->fate = fate_of(h, code);
    if (call->fate == HTTP_ANSWERED) {
        set_answer(call, &h->head);
    } else {
        buf_reset(&call->answer);
        if (!h->failed)
            set_reason(call, h, code);
        for (char *p = call->reason; *p; p++) /* a server may have had its part in it */
            if (*p < ' ' || *p > '~')
                *p = '?';
    }
    let_go(h, call->fate == HTTP_ANSWERED && code == CURLE_OK);
    c->in_done = true;
    call->done(call);
    c->in_done = nested;
}

/* A call that `done` starts again and that ends at once is left for the next turn: two of
 * that kind would otherwise keep this one for ever. */
static void drain(struct http_client *c, struct lane *lane)
{
    CURLcode code;
    int left, more = 0;
    struct ride *r = lane_next_ended(lane, &code, &more);

    for (left = more; r; left--) {
        end(c, CONTAINER_OF(r, struct hand, ride), code);
        r = left > 0 ? lane_next_ended(lane, &code, &more) : NULL;
    }
}

static void on_due(void *ctx, usec_t now);

static void drain_later(struct http_client *c)
{
    if (!c->draining && !list_empty(&c->hub.due) && !c->due_timer._slot)
        loop_timer_set(c->loop, &c->due_timer, loop_now(c->loop), on_due, c);
}

static void drain_all(struct hub *hub)
{
    struct http_client *c = CONTAINER_OF(hub, struct http_client, hub);
    struct list now = {&now, &now}, *it;

    CHECK(!c->draining);
    while ((it = list_pop(&hub->due)))
        list_add_tail(&now, it);
    c->draining = true;
    while ((it = list_pop(&now)))
        drain(c, list_entry(it, struct lane, due));
    c->draining = false;
    drain_later(c);
    if (hub->connections > c->max_connections)
        hub_close_idle(hub, 0, c->max_connections);
}

static void on_due(void *ctx, usec_t now)
{
    struct http_client *c = ctx;

    (void)now;
    drain_all(&c->hub);
}

/* --- the watchdog --- */

/* A look costs a walk over all calls: 10 ms between looks, more when there are many. */
static usec_t look_no_earlier(const struct http_client *c)
{
    usec_t n = 0;

    list_each (it, &c->targets)
        n += list_entry(it, struct http_target, link)->state->running;
    return c->watched + 10 * USEC_PER_MS + n * 10;
}

static void on_watch(void *ctx, usec_t now);

/* Nearly always a look is due before `at` in any case. */
static void look_at(struct http_client *c, usec_t at)
{
    usec_t earliest;

    if (c->watchdog._slot && c->watchdog._at <= at)
        return;
    earliest = look_no_earlier(c);
    loop_timer_set(c->loop, &c->watchdog, at > earliest ? at : earliest, on_watch, c);
}

static usec_t sooner(usec_t a, usec_t b)
{
    return a < b ? a : b;
}

static bool late(struct hand *h, enum http_fate fate, const char *what, usec_t limit)
{
    fail(h, fate, "%s %g s", what, (double)limit / USEC_PER_SEC);
    return true;
}

/* What comes in makes events; what goes out hides in the kernel's buffer of megabytes,
 * which makes an event only when a third of it is empty.  So that is looked at. */
static usec_t next_idle_look(struct hand *h, usec_t now)
{
    usec_t limit = h->call->idle_timeout;
    int unsent = lane_unsent(&h->ride);

    if (h->unsent >= 0 && unsent != h->unsent)
        h->ride.moved = now;
    h->unsent = unsent;
    return unsent ? sooner(h->ride.moved + limit, now + limit / 4)
                  : h->ride.moved + limit;
}

/* True: its owner gives it more time; neither limit counts before that has gone. */
static bool has_more(struct hand *h, usec_t now)
{
    struct http_call *call = h->call;
    usec_t more = call->more ? call->more(call) : 0;

    if (more > 0)
        h->reprieve = now + more;
    return more > 0;
}

/* True: it is over, or *next (an upper bound before) says when to look again. */
static bool is_silent(struct hand *h, usec_t now, usec_t *next)
{
    const struct http_call *call = h->call;
    usec_t at = sooner(*next, next_idle_look(h, now));

    if (now < h->ride.moved + call->idle_timeout) {
        *next = at;
        return false;
    }
    if (has_more(h, now)) {
        *next = sooner(*next, h->reprieve);
        return false;
    }
    return late(h, HTTP_TIMEOUT, "no byte for", call->idle_timeout);
}

/* True: it is over.  Else h->check_at says when to look again. */
static bool is_late(struct hand *h, usec_t now)
{
    const struct http_call *call = h->call;
    usec_t next = USEC_INFINITY;

    if (h->failed) /* before it began */
        return true;
    h->check_at = h->reprieve;
    if (h->reprieve > now)
        return false;
    if (call->total_timeout) {
        next = h->started + call->total_timeout;
        if (now >= next && !has_more(h, now))
            return late(h, HTTP_TIMEOUT, "no whole answer within", call->total_timeout);
        if (now >= next)
            next = h->reprieve;
    }
    if (h->connecting) {
        next = sooner(next, h->connecting + h->connect_limit);
        if (now >= h->connecting + h->connect_limit)
            return late(h, h->sends ? HTTP_RESET : HTTP_NO_CONNECT,
                        "no connection within", h->connect_limit);
    } else if (h->reprieve <= now && call->idle_timeout && is_silent(h, now, &next)) {
        return true;
    }
    h->check_at = next;
    return false;
}

static void on_watch(void *ctx, usec_t now)
{
    struct http_client *c = ctx;
    struct list over, *it;
    usec_t next = USEC_INFINITY;

    c->watched = now;
    list_init(&over);
    list_each_safe (at, &c->running) {
        struct hand *h = list_entry(at, struct hand, link);

        if (h->check_at <= now && is_late(h, now)) {
            list_del(&h->link);
            list_add_tail(&over, &h->link);
        } else {
            next = sooner(next, h->check_at);
        }
    }
    while ((it = list_pop(&over)))
        end(c, list_entry(it, struct hand, link), CURLE_OPERATION_TIMEDOUT);
    hub_close_idle(&c->hub, now - LANE_IDLE, c->max_connections);
    if (!list_empty(&c->hub.idle))
        next = sooner(next, list_entry(c->hub.idle.next, struct lane, idle)->idle_since +
                                LANE_IDLE);
    if (next < USEC_INFINITY)
        look_at(c, next);
}

/* --- the front --- */

enum rc http_client_new(struct loop *l, const struct http_client_opts *o,
                        struct http_client **ret, struct err *e)
{
    struct http_client *c;

    (void)e; /* all that can fail here is memory, which panics */
    curlib_start();
    c = mem_new(struct http_client);
    c->loop = l;
    list_init(&c->targets);
    list_init(&c->running);
    hub_init(&c->hub, l);
    c->hub.ended = drain_all;
    c->hub.deaf = not_heard;
    c->max_connections = o->max_connections ? o->max_connections : DEFAULT_CONNECTIONS;
    if (o->user_agent)
        c->user_agent = mem_dup(o->user_agent, strlen(o->user_agent));
    *ret = c;
    return RC_OK;
}

static void abort_all(struct http_client *c)
{
    while (!list_empty(&c->running)) {
        struct hand *h = list_entry(c->running.next, struct hand, link);

        fail(h, HTTP_ABORTED, "the client is shutting down");
        end(c, h, CURLE_ABORTED_BY_CALLBACK);
    }
}

/* Leaves the target's own memory, which is the caller's. */
static void leave(struct http_target *t)
{
    struct list *it;

    CHECK(t->state->running == 0);
    lanes_done(&t->state->lanes);
    while ((it = list_pop(&t->state->spare)))
        hand_free(list_entry(it, struct hand, link));
    list_del(&t->link);
    t->client = NULL;
}

struct http_client *http_client_free(struct http_client *c)
{
    if (!c)
        return NULL;
    CHECK(!c->in_done && !c->draining);
    c->closing = true;
    abort_all(c);
    while (!list_empty(&c->targets))
        leave(list_entry(c->targets.next, struct http_target, link));
    loop_timer_clear(c->loop, &c->due_timer);
    loop_timer_clear(c->loop, &c->watchdog);
    hub_done(&c->hub);
    mem_free(c->user_agent);
    mem_free(c);
    return NULL;
}

enum rc http_target_new(struct http_client *c, const struct http_target_opts *o,
                        struct http_target **ret, struct err *e)
{
    struct http_target *t = NULL;
    enum rc rc = target_make(o, c->user_agent, &t, e);

    if (rc != RC_OK)
        return rc;
    t->client = c;
    lanes_init(&t->state->lanes, t->tls ? LANE_CALLS_TLS : LANE_CALLS);
    list_add_tail(&c->targets, &t->link);
    *ret = t;
    return RC_OK;
}

struct http_target *http_target_free(struct http_target *t)
{
    if (t && t->client) {
        CHECK(!t->client->draining);
        leave(t);
    }
    return target_destroy(t);
}

void http_call_init(struct http_call *call)
{
    memset(call, 0, sizeof *call);
    buf_init(&call->answer, ANSWER_MAX);
    call->retry_after_ms = -1;
}

void http_call_done(struct http_call *call)
{
    CHECK(!call->_easy);
    buf_done(&call->answer);
}

static usec_t first_look(const struct hand *h)
{
    const struct http_call *call = h->call;
    usec_t wait = h->connect_limit;

    if (call->idle_timeout) /* twice within the limit where there is much to send */
        wait = sooner(wait, call->idle_timeout / (call->body.n > LARGE_BODY ? 4 : 1));
    if (call->total_timeout)
        wait = sooner(wait, call->total_timeout);
    return h->failed ? h->started : h->started + wait;
}

void http_start(struct http_client *c, struct http_call *call)
{
    const struct http_target *t = call->target;
    struct hand *h;

    CHECK(!call->_easy && call->done && t->client == c && !c->closing);
    clear_answer(call);
    h = hand_take(c, t);
    h->call = call;
    lane_join(&t->state->lanes, &c->hub, &h->ride);
    t->state->running++;
    list_add_tail(&c->running, &h->link);
    call->_easy = h;
    call->_client = c;
    prepare(h, call);
    h->check_at = first_look(h);
    look_at(c, h->check_at);
    if (h->failed) /* the watchdog ends it: not here, inside its owner */
        return;
    lane_start(&h->ride);
    drain_later(c);
}

void http_cancel(struct http_call *call)
{
    struct hand *h = call->_easy;

    if (!h)
        return;
    let_go(h, false);
    buf_reset(&call->answer);
}
