/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/conn.h"
#include "base/mem.h"
#include "sim/handle.h"

#include <errno.h>
#include <unistd.h>

/* Memory that an idle connection keeps, and the most that one read asks for. */
#define KEEP_BYTES (64u << 10)
#define READ_BYTES (1u << 20)

/* A client that was told the end gets so long to end as well; a reset comes so late that
 * the bytes before it were read. */
#define DRAIN_TIME (2 * USEC_PER_SEC)
#define RESET_WAIT (5 * USEC_PER_MS)

#define TICK (50 * USEC_PER_MS) /* of slow answers */

static void on_event(void *ctx, int fd, unsigned events);

enum rc sim_conn_new(struct sim_server *s, int fd)
{
    struct sim_conn *c = mem_new(struct sim_conn);
    enum rc rc = loop_watch(s->loop, fd, LOOP_IN, on_event, c, &c->watch, NULL);

    if (rc != RC_OK) {
        close(fd);
        mem_free(c);
        return rc;
    }
    c->s = s;
    c->fd = fd;
    c->state = SIM_READING;
    http1_head_init(&c->head);
    /* A body with its chunk sizes, and what came behind it in the last read. */
    buf_init(&c->in, s->o->max_body + HTTP1_HEAD_MAX + SIM_SCRATCH + READ_BYTES);
    buf_init(&c->out, SIZE_MAX / 4);
    list_add_tail(&s->conns, &c->link);
    return RC_OK;
}

void sim_conn_free(struct sim_conn *c)
{
    list_del(&c->link);
    buf_done(&c->in);
    buf_done(&c->out);
    mem_free(c->ids);
    mem_free(c);
}

static void set_reset(int fd)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};

    IGNORE(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now) < 0); /* FIN then */
}

static void leave(struct sim_conn *c, bool reset, bool by_client)
{
    if (c->state == SIM_CLOSED)
        return;
    c->state = SIM_CLOSED;
    sim_handle_gone(c, by_client);
    loop_timer_clear(c->s->loop, &c->timer);
    loop_unwatch(c->s->loop, c->watch);
    if (reset)
        set_reset(c->fd);
    close(c->fd);
    c->fd = -1;
    list_del(&c->link);
    list_add_tail(c->ghost ? &c->s->ghosts : &c->s->dead, &c->link);
}

void sim_conn_close(struct sim_conn *c, bool reset)
{
    leave(c, reset, false);
}

static void want(struct sim_conn *c, unsigned events)
{
    if (loop_rewatch(c->s->loop, c->watch, events) != RC_OK)
        sim_conn_close(c, true);
}

/* --- Sending -------------------------------------------------------------------------
 */

static void on_timer(void *ctx, usec_t now);

static void after_sending(struct sim_conn *c)
{
    struct loop *l = c->s->loop;

    buf_shrink(&c->out, KEEP_BYTES);
    c->sent = 0;
    switch (c->wire.after) {
    case SIM_KEEP:
        c->state = SIM_READING;
        break;
    case SIM_CLOSE:
        c->state = SIM_DRAINING;
        IGNORE(shutdown(c->fd, SHUT_WR) < 0); /* the client may be gone: read() tells */
        loop_timer_set(l, &c->timer, loop_now(l) + DRAIN_TIME, on_timer, c);
        break;
    case SIM_RESET:
        c->state = SIM_HOLDING;
        loop_timer_set(l, &c->timer, loop_now(l) + RESET_WAIT, on_timer, c);
        break;
    case SIM_HOLD:
        c->state = SIM_HOLDING;
        break;
    }
    want(c, LOOP_IN);
}

/* The next bytes to send: of `out`, or of the filling in its middle. */
static struct str next_piece(struct sim_conn *c)
{
    if (c->wire.fill && c->sent == c->wire.fill_at)
        return (struct str){c->s->filling, u64_min(c->wire.fill, SIM_FILLING)};
    return (struct str){c->out.p + c->sent,
                        (c->wire.fill ? c->wire.fill_at : c->out.n) - c->sent};
}

static void count_sent(struct sim_conn *c, size_t n)
{
    if (c->wire.fill && c->sent == c->wire.fill_at)
        c->wire.fill -= n;
    else
        c->sent += n;
}

/* Sends up to `most` bytes of what is left.  RC_OK: they are sent, or all is. */
static enum rc pump(struct sim_conn *c, uint64_t most)
{
    while (most && (c->sent < c->out.n || c->wire.fill)) {
        struct str piece = next_piece(c);
        ssize_t n = send(c->fd, piece.p, u64_min(piece.n, most), MSG_NOSIGNAL);

        if (n < 0)
            return errno == EAGAIN ? RC_AGAIN : RC_IO;
        count_sent(c, (size_t)n);
        most -= (size_t)n;
    }
    return RC_OK;
}

static uint64_t a_tick_of(uint64_t rate)
{
    return u64_max(1, rate * TICK / USEC_PER_SEC);
}

static void send_more(struct sim_conn *c)
{
    struct loop *l = c->s->loop;
    uint64_t tick = a_tick_of(c->wire.rate);
    enum rc rc = pump(c, c->wire.rate ? tick : UINT64_MAX);

    if (rc == RC_IO) {
        leave(c, false, true);
    } else if (rc == RC_AGAIN) {
        want(c, LOOP_OUT);
    } else if (c->sent == c->out.n && c->wire.fill == 0) {
        after_sending(c);
    } else {                 /* slow: the rate may be below one byte a tick */
        CHECK(c->wire.rate); /* else pump sends all or says RC_AGAIN */
        loop_timer_set(l, &c->timer,
                       loop_now(l) + (usec_t)(tick * USEC_PER_SEC / c->wire.rate),
                       on_timer, c);
        want(c, 0);
    }
}

void sim_conn_send(struct sim_conn *c, const struct sim_wire *w)
{
    struct buf *out = &c->s->out;
    ssize_t n = 0;

    c->wire = *w;
    if (buf_failed(out) != RC_OK) { /* out of memory: as a server that dies of it */
        sim_conn_close(c, true);
        return;
    }
    if (w->rate == 0 && w->fill == 0 && out->n) {
        n = send(c->fd, out->p, out->n, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN) {
            leave(c, false, true);
            return;
        }
        n = n < 0 ? 0 : n;
        if ((size_t)n == out->n && w->after == SIM_KEEP) { /* the short way of most */
            c->state = SIM_READING;
            return;
        }
    }
    c->state = SIM_SENDING;
    c->sent = 0;
    buf_reset(&c->out);
    if (buf_add(&c->out, out->p + n, out->n - (size_t)n) != RC_OK) {
        sim_conn_close(c, true);
        return;
    }
    if (out->n == 0 && w->after == SIM_RESET)
        sim_conn_close(c, true);
    else
        send_more(c);
}

/* --- The bytes of the request --------------------------------------------------------
 */

static bool in_scratch(const struct sim_conn *c)
{
    return c->base >= c->s->scratch && c->base < c->s->scratch + SIM_SCRATCH;
}

/* Makes base[0, have) the content of `in`.  RC_NOMEM */
static enum rc own_bytes(struct sim_conn *c)
{
    char *at;
    enum rc rc;

    if (c->base == c->in.p && c->have == c->in.n)
        return RC_OK;
    if (in_scratch(c))
        CHECK(c->in.n == 0);
    buf_reset(&c->in);
    if (c->have == 0)
        return RC_OK;
    rc = buf_reserve(&c->in, c->have, &at); /* never moves bytes that are in there */
    if (rc != RC_OK)
        return rc;
    memmove(at, c->base, c->have);
    buf_commit(&c->in, c->have);
    c->base = c->in.p;
    return RC_OK;
}

/* The request was answered: its bytes are not needed any more. */
static void drop_request(struct sim_conn *c)
{
    c->base += c->used;
    c->have -= c->used;
    c->used = 0;
    c->in_body = c->told_100 = false;
    c->body_n = 0;
    http1_head_init(&c->head);
}

static enum rc bad(struct sim_conn *c, int status, const char *why)
{
    c->used = c->have; /* what follows cannot be told apart from it */
    sim_handle_bad(c, status, why);
    return RC_INVALID;
}

static void tell_100(struct sim_conn *c)
{
    static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";

    if (!c->head.expect_continue || c->told_100)
        return;
    c->told_100 = true;
    /* 25 bytes into an empty socket buffer; a client that is gone shows at the read. */
    IGNORE(send(c->fd, text, sizeof text - 1, MSG_NOSIGNAL) < 0);
}

/* Decodes in place: head, decoded body, what is not decoded yet. */
static enum rc read_chunked(struct sim_conn *c, struct str *ret_body)
{
    struct str raw, piece;
    enum rc rc;

    if (own_bytes(c) != RC_OK) {
        sim_conn_close(c, true);
        return RC_INVALID;
    }
    raw = (struct str){c->base + c->head.bytes + c->body_n,
                       c->have - c->head.bytes - c->body_n};
    while ((rc = http1_chunks_read(&c->chunks, &raw, &piece)) == RC_OK && piece.n) {
        memmove(c->in.p + c->head.bytes + c->body_n, piece.p, piece.n);
        c->body_n += piece.n;
    }
    if (rc == RC_AGAIN) {
        c->have = c->head.bytes + c->body_n;
        tell_100(c);
        return rc;
    }
    if (rc != RC_OK)
        return bad(c, c->chunks.refuse, c->chunks.why);
    *ret_body = (struct str){c->base + c->head.bytes, c->body_n};
    c->used = (size_t)(raw.p - c->base);
    return RC_OK;
}

static enum rc read_sized(struct sim_conn *c, struct str *ret_body)
{
    if (c->have - c->head.bytes < c->head.content_length) {
        tell_100(c);
        return RC_AGAIN;
    }
    *ret_body = (struct str){c->base + c->head.bytes, c->head.content_length};
    c->used = c->head.bytes + c->head.content_length;
    return RC_OK;
}

/* RC_OK: *ret_body and `used` are set; RC_INVALID: it was refused. */
static enum rc read_request(struct sim_conn *c, struct str *ret_body)
{
    enum rc rc;

    if (!c->in_body) {
        rc = http1_head_read(&c->head, (struct str){c->base, c->have});
        if (rc == RC_AGAIN)
            return rc;
        if (rc != RC_OK)
            return bad(c, c->head.refuse, c->head.why);
        if (c->head.content_length > c->s->o->max_body)
            return bad(c, 413, "the body is too large");
        c->in_body = true;
        http1_chunks_init(&c->chunks, c->s->o->max_body);
    }
    return c->head.chunked ? read_chunked(c, ret_body) : read_sized(c, ret_body);
}

/* Answers what is there, as long as answers leave at once. */
static void run(struct sim_conn *c)
{
    while (c->state == SIM_READING && c->have) {
        struct str body;
        enum rc rc = read_request(c, &body);

        if (rc == RC_AGAIN)
            break;
        if (rc == RC_OK) {
            c->state = SIM_BUSY;
            sim_handle(c, body);
        }
        if (c->state != SIM_BUSY && c->state != SIM_CLOSED)
            drop_request(c);
    }
    if (c->state == SIM_CLOSED)
        return;
    if (own_bytes(c) != RC_OK)
        sim_conn_close(c, true);
    else if (c->have == 0)
        buf_shrink(&c->in, KEEP_BYTES);
}

void sim_conn_wait(struct sim_conn *c)
{
    const char *from = c->base;

    if (own_bytes(c) != RC_OK) {
        sim_conn_close(c, true);
        return;
    }
    sim_request_move(&c->rq, from, c->base);
}

void sim_conn_resume(struct sim_conn *c)
{
    if (c->state == SIM_CLOSED || c->state == SIM_BUSY)
        return;
    if (c->used)
        drop_request(c);
    if (c->state == SIM_READING)
        want(c, LOOP_IN);
    run(c);
}

/* --- Events --------------------------------------------------------------------------
 */

/* Room for what is missing of this body, so that a large one needs few reads. */
static enum rc place_to_read(struct sim_conn *c, char **ret_p, size_t *ret_n)
{
    size_t missing = 0;

    if (c->in.n == 0) {
        *ret_p = c->s->scratch;
        *ret_n = SIM_SCRATCH;
        return RC_OK;
    }
    if (c->in_body && c->head.has_length)
        missing = c->head.bytes + c->head.content_length - c->have;
    *ret_n = u64_min(READ_BYTES, u64_max(missing, KEEP_BYTES));
    return buf_reserve(&c->in, *ret_n, ret_p);
}

static void read_more(struct sim_conn *c)
{
    char *p;
    size_t room;
    ssize_t n;

    if (place_to_read(c, &p, &room) != RC_OK) {
        sim_conn_close(c, true);
        return;
    }
    n = recv(c->fd, p, room, 0);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        leave(c, false, true);
        return;
    }
    if (p == c->s->scratch) {
        c->base = p;
        c->have = (size_t)n;
    } else {
        buf_commit(&c->in, (size_t)n);
        c->base = c->in.p;
        c->have = c->in.n;
    }
    run(c);
}

/* While a request is worked on only the client's leaving matters; what it sends on (the
 * next request) waits in the socket. */
static void look_for_end(struct sim_conn *c)
{
    char byte;
    ssize_t n = recv(c->fd, &byte, 1, MSG_PEEK);

    if (n > 0)
        want(c, 0);
    else if (n == 0 || errno != EAGAIN)
        leave(c, false, true);
}

static void discard(struct sim_conn *c)
{
    ssize_t n = recv(c->fd, c->s->scratch, SIM_SCRATCH, 0);

    if (n == 0 || (n < 0 && errno != EAGAIN))
        leave(c, false, true);
}

static void on_event(void *ctx, int fd, unsigned events)
{
    struct sim_conn *c = ctx;

    (void)fd;
    if (!(events & (LOOP_IN | LOOP_OUT))) { /* deaf, and the client is gone */
        leave(c, false, true);
        return;
    }
    switch (c->state) {
    case SIM_READING:
        read_more(c);
        break;
    case SIM_BUSY:
        look_for_end(c);
        break;
    case SIM_SENDING:
        send_more(c);
        sim_conn_resume(c);
        break;
    case SIM_HOLDING:
    case SIM_DRAINING:
        discard(c);
        break;
    case SIM_CLOSED:
        break;
    }
}

static void on_timer(void *ctx, usec_t now)
{
    struct sim_conn *c = ctx;

    (void)now;
    if (c->state == SIM_SENDING) {
        send_more(c);
        sim_conn_resume(c);
    } else {
        sim_conn_close(c, c->state == SIM_HOLDING);
    }
}
