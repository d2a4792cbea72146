/* SPDX-License-Identifier: Apache-2.0 */
#include "http/lane.h"
#include "base/mem.h"

#include <linux/sockios.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* A descriptor of libcurl's; there is one for each number, and it is kept. */
struct sock {
    struct hub *hub;
    struct lane *lane;
    struct ride *ride; /* whoever libcurl waits for; valid while want is set */
    struct loop_watch *watch;
    struct list link; /* in lane.socks, if it stands */
    int fd;
    int port;        /* here; 0: not known yet */
    bool opened;     /* by lane_opened(); not a descriptor of the resolver's */
    bool connection; /* it stands: hub_close_socket() is told when it is closed */
    unsigned want;   /* what libcurl waits for */
    unsigned have;   /* what the loop watches: may be more */
};

/* --- descriptors --- */

static void grow(struct hub *hub, size_t need)
{
    size_t n = hub->_n_socks ? hub->_n_socks : 64;
    struct sock **socks;

    while (n <= need)
        n *= 2;
    socks = mem_new_n(struct sock *, n);
    if (hub->_n_socks)
        memcpy(socks, hub->_socks, hub->_n_socks * sizeof(struct sock *));
    mem_free(hub->_socks);
    hub->_socks = socks;
    hub->_n_socks = n;
}

static struct sock *sock_of(struct hub *hub, int fd)
{
    CHECK(fd >= 0);
    if ((size_t)fd >= hub->_n_socks)
        grow(hub, (size_t)fd);
    if (!hub->_socks[fd]) {
        hub->_socks[fd] = mem_new(struct sock);
        hub->_socks[fd]->hub = hub;
        hub->_socks[fd]->fd = fd;
        list_init(&hub->_socks[fd]->link);
    }
    return hub->_socks[fd];
}

static void deafen(struct sock *s)
{
    if (s->watch)
        loop_unwatch(s->hub->loop, s->watch);
    s->watch = NULL;
    s->have = 0;
}

static void lane_act(struct lane *lane, curl_socket_t fd, int events);
static void lane_free(struct lane *lane);

static void take_ended(struct hub *hub)
{
    if (!list_empty(&hub->due))
        hub->ended(hub);
}

static void on_fd(void *ctx, int fd, unsigned events)
{
    struct sock *s = ctx;
    struct hub *hub = s->hub;

    if (s->want & events) {
        s->ride->moved = loop_now(hub->loop);
        lane_act(s->lane, fd,
                 (events & LOOP_IN ? CURL_CSELECT_IN : 0) |
                     (events & LOOP_OUT ? CURL_CSELECT_OUT : 0));
        take_ended(hub);
    } else if (s->want) { /* a direction that stayed registered when it was over */
        s->have = s->want;
        if (loop_rewatch(hub->loop, s->watch, s->want) != RC_OK)
            deafen(s);
    } else if (s->lane->calls == 0) { /* the server closes what is idle: so do we */
        lane_free(s->lane);
    } else {
        deafen(s); /* libcurl looks before it uses the connection again */
    }
}

static void listen_to(struct sock *s)
{
    struct hub *hub = s->hub;
    struct err e = {""};
    enum rc rc;

    if (s->watch)
        rc = loop_rewatch(hub->loop, s->watch, s->want);
    else
        rc = loop_watch(hub->loop, s->fd, s->want, on_fd, s, &s->watch, &e);
    if (rc == RC_OK)
        s->have = s->want;
    else /* an error returned to libcurl would end all calls of the lane, and new ones */
        hub->deaf(hub, s->ride, &e);
}

static bool is_internet(int fd)
{
    struct sockaddr_storage a = {.ss_family = AF_UNSPEC};
    socklen_t n = sizeof a;

    return getsockname(fd, (struct sockaddr *)&a, &n) == 0 &&
           (a.ss_family == AF_INET || a.ss_family == AF_INET6);
}

/* libcurl waits for a byte only where a connection stands.  One that never stood it
 * closes without a word, and its number may by now be one of the resolver's. */
static void stands(struct sock *s)
{
    if (!s->opened || s->connection || !is_internet(s->fd))
        return;
    s->connection = true;
    list_add_tail(&s->lane->socks, &s->link);
    s->lane->connections++;
    s->hub->connections++;
}

static void is_gone(struct sock *s)
{
    deafen(s);
    if (s->connection) {
        s->lane->connections--;
        s->hub->connections--;
    }
    s->connection = s->opened = false;
    s->port = 0;
    list_del(&s->link);
}

static void on_nudge(void *ctx, usec_t now);

/* An attempt to connect that failed. */
static void is_over(struct lane *lane, struct sock *s)
{
    list_del(&s->ride->_stalled);
    list_add_tail(&lane->stalled, &s->ride->_stalled);
    loop_timer_set(lane->hub->loop, &lane->nudge, 0, on_nudge, lane);
}

/* Connections stay registered while they are idle: to leave and join epoll for every
 * request costs two system calls.  Not so the descriptors that libcurl closes behind our
 * back. */
static int on_socket(CURL *easy, curl_socket_t fd, int what, void *ctx, void *unused)
{
    struct lane *lane = ctx;
    struct sock *s = sock_of(lane->hub, fd);

    (void)unused;
    if (what == CURL_POLL_REMOVE) {
        if (s->want)
            s->ride->fd = -1;
        if (s->want && s->opened && !s->connection)
            is_over(lane, s);
        s->want = 0;
        if (!s->connection)
            deafen(s);
        return 0;
    }
    s->lane = lane;
    curl_easy_getinfo(easy, CURLINFO_PRIVATE, &s->ride);
    s->ride->fd = fd;
    s->want =
        (what & CURL_POLL_IN ? LOOP_IN : 0U) | (what & CURL_POLL_OUT ? LOOP_OUT : 0U);
    if (what & CURL_POLL_IN)
        stands(s);
    if (s->want & ~s->have)
        listen_to(s);
    return 0;
}

/* When an attempt to connect fails, its descriptor is closed without a word, and that of
 * the next attempt may have the same number.  A libcurl that makes both in one go sees no
 * change and does not ask for events again; but epoll has forgotten the number. */
void lane_opened(struct ride *r, int fd)
{
    struct sock *s = sock_of(r->lane->hub, fd);

    is_gone(s);
    s->opened = true;
    s->lane = r->lane;
    if (s->want) {
        s->ride = r;
        listen_to(s);
    }
}

/* An answer that is there as soon as the request is sent is never waited for. */
void lane_kept(const struct ride *r)
{
    curl_socket_t fd = CURL_SOCKET_BAD;

    curl_easy_getinfo(r->easy, CURLINFO_ACTIVESOCKET, &fd);
    if (fd != CURL_SOCKET_BAD)
        stands(sock_of(r->lane->hub, fd));
}

static int local_port(struct sock *s)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_storage room;
    } a = {.room.ss_family = AF_UNSPEC};
    socklen_t n = sizeof a;

    if (s->port == 0 && getsockname(s->fd, &a.any, &n) == 0)
        s->port = ntohs(a.any.sa_family == AF_INET6 ? a.v6.sin6_port : a.v4.sin_port);
    return s->port;
}

bool lane_stray(const struct ride *r, int port)
{
    list_each (it, &r->lane->socks) {
        struct sock *s = list_entry(it, struct sock, link);
        char byte;

        if (s->want == 0 && local_port(s) == port &&
            recv(s->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1)
            return true;
    }
    return false;
}

int hub_close_socket(void *ctx, curl_socket_t fd)
{
    struct hub *hub = ctx;
    struct sock *s = sock_of(hub, fd);

    is_gone(s);
    s->want = 0;
    return close(fd);
}

/* --- turning libcurl's wheel --- */

static void must(CURLMcode code)
{
    if (code == CURLM_OUT_OF_MEMORY)
        PANIC("out of memory (libcurl)");
    if (code != CURLM_OK)
        PANIC("libcurl refuses: %s", curl_multi_strerror(code));
}

static void lane_act(struct lane *lane, curl_socket_t fd, int events)
{
    int running = 0;

    if (fd == CURL_SOCKET_TIMEOUT) /* libcurl tells the next one afresh */
        loop_timer_clear(lane->hub->loop, &lane->timer);
    must(curl_multi_socket_action(lane->multi, fd, events, &running));
    if ((unsigned)running != lane->calls && list_empty(&lane->due))
        list_add_tail(&lane->hub->due, &lane->due);
}

static void on_timer(void *ctx, usec_t now)
{
    struct lane *lane = ctx;
    struct hub *hub = lane->hub;

    (void)now;
    lane_act(lane, CURL_SOCKET_TIMEOUT, 0);
    take_ended(hub);
}

/* When an attempt to connect fails, libcurl 7.88 goes on to the next address only when it
 * is called again, and does not ask for that.  To pause a transfer and to go on with it
 * is the way there is to have it called; where it goes on already, this changes nothing.
 */
static void on_nudge(void *ctx, usec_t now)
{
    struct lane *lane = ctx;
    struct hub *hub = lane->hub;
    struct list *it;

    (void)now;
    while ((it = list_pop(&lane->stalled))) {
        CURL *easy = list_entry(it, struct ride, _stalled)->easy;

        curl_easy_pause(easy, CURLPAUSE_RECV); /* refused when it is over: fine */
        curl_easy_pause(easy, CURLPAUSE_CONT);
    }
    lane_act(lane, CURL_SOCKET_TIMEOUT, 0);
    take_ended(hub);
}

static int set_timer(CURLM *multi, long ms, void *ctx)
{
    struct lane *lane = ctx;
    struct loop *l = lane->hub->loop;

    (void)multi;
    if (lane == lane->hub->_starting)
        return 0; /* lane_start acts at once */
    if (ms < 0)
        loop_timer_clear(l, &lane->timer);
    else
        loop_timer_set(l, &lane->timer, clock_mono() + ms * USEC_PER_MS, on_timer, lane);
    return 0;
}

void lane_start(struct ride *r)
{
    struct hub *hub = r->lane->hub;

    r->fd = -1;
    hub->_starting = r->lane;
    must(curl_multi_add_handle(r->lane->multi, r->easy));
    hub->_starting = NULL;
    lane_act(r->lane, CURL_SOCKET_TIMEOUT, 0);
}

int lane_unsent(const struct ride *r)
{
    int n = 0;

    if (r->fd >= 0)
        IGNORE(ioctl(r->fd, SIOCOUTQ, &n) < 0); /* then nothing is known of it */
    return n;
}

struct ride *lane_next_ended(struct lane *lane, CURLcode *ret_code, int *ret_left)
{
    CURLMsg *m = curl_multi_info_read(lane->multi, ret_left);
    struct ride *r = NULL;

    if (!m)
        return NULL;
    *ret_code = m->data.result;
    curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &r);
    return r;
}

/* --- lanes --- */

static void lane_new(struct hub *hub, struct lanes *of)
{
    struct lane *lane = mem_new(struct lane);
    CURLM *m = curl_multi_init();

    MEM_CHECK(m);
    lane->multi = m;
    lane->of = of;
    lane->hub = hub;
    list_init(&lane->due);
    list_init(&lane->idle);
    list_init(&lane->stalled);
    list_init(&lane->socks);
    list_add_head(&of->room, &lane->link);
    CHECK(curl_multi_setopt(m, CURLMOPT_SOCKETFUNCTION, on_socket) == CURLM_OK);
    CHECK(curl_multi_setopt(m, CURLMOPT_SOCKETDATA, lane) == CURLM_OK);
    CHECK(curl_multi_setopt(m, CURLMOPT_TIMERFUNCTION, set_timer) == CURLM_OK);
    CHECK(curl_multi_setopt(m, CURLMOPT_TIMERDATA, lane) == CURLM_OK);
    CHECK(curl_multi_setopt(m, CURLMOPT_MAXCONNECTS, (long)of->size) == CURLM_OK);
}

static void lane_free(struct lane *lane)
{
    CHECK(lane->calls == 0);
    curl_multi_cleanup(lane->multi); /* closes its connections: hub_close_socket() */
    for (size_t i = 0; lane->connections && i < lane->hub->_n_socks; i++)
        if (lane->hub->_socks[i] && lane->hub->_socks[i]->lane == lane)
            is_gone(lane->hub->_socks[i]); /* one that was closed without a word */
    loop_timer_clear(lane->hub->loop, &lane->timer);
    loop_timer_clear(lane->hub->loop, &lane->nudge);
    list_del(&lane->link);
    list_del(&lane->due);
    list_del(&lane->idle);
    mem_free(lane);
}

void lane_join(struct lanes *ls, struct hub *hub, struct ride *r)
{
    struct lane *lane;

    if (list_empty(&ls->room))
        lane_new(hub, ls);
    lane = list_entry(ls->room.next, struct lane, link);
    lane->calls++;
    list_del(&lane->idle);
    if (lane->calls == ls->size) {
        list_del(&lane->link);
        list_add_tail(&ls->full, &lane->link);
    }
    r->lane = lane;
    list_init(&r->_stalled);
}

/* The lane that was full goes first: calls gather in few lanes, the others run dry. */
void lane_leave(struct ride *r)
{
    struct lane *lane = r->lane;

    curl_multi_remove_handle(lane->multi, r->easy); /* not there, if it never started */
    list_del(&r->_stalled);
    r->lane = NULL;
    if (lane->calls-- == lane->of->size) {
        list_del(&lane->link);
        list_add_head(&lane->of->room, &lane->link);
    }
    if (lane->calls == 0) {
        lane->idle_since = loop_now(lane->hub->loop);
        list_add_tail(&lane->hub->idle, &lane->idle);
    }
}

void lanes_init(struct lanes *ls, unsigned size)
{
    list_init(&ls->room);
    list_init(&ls->full);
    ls->size = size;
}

void lanes_done(struct lanes *ls)
{
    CHECK(list_empty(&ls->full));
    while (!list_empty(&ls->room))
        lane_free(list_entry(ls->room.next, struct lane, link));
}

/* --- the hub --- */

void hub_init(struct hub *hub, struct loop *l)
{
    *hub = (struct hub){.loop = l};
    list_init(&hub->due);
    list_init(&hub->idle);
}

void hub_done(struct hub *hub)
{
    CHECK(hub->connections == 0 && list_empty(&hub->idle));
    for (size_t i = 0; i < hub->_n_socks; i++)
        mem_free(hub->_socks[i]);
    mem_free(hub->_socks);
    hub->_socks = NULL;
    hub->_n_socks = 0;
}

void hub_close_idle(struct hub *hub, usec_t since, unsigned most)
{
    while (!list_empty(&hub->idle)) {
        struct lane *lane = list_entry(hub->idle.next, struct lane, idle);

        if (lane->idle_since > since && hub->connections <= most)
            break;
        lane_free(lane);
    }
}
