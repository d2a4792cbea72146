/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loop owns all deliveries that were taken from the outbox.  A delivery waits in its
 * destination's list, flies, is written back by the worker, and is gone; one that must be
 * sent again is taken from the outbox anew when its time has come.
 */
#include "engine/webhook_dest.h"
#include "base/log.h"
#include "base/mem.h"
#include "io/mailbox.h"
#include "io/pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

enum {
    AT_ONCE = 8,          /* deliveries under way, */
    AT_ONCE_TO_ONE = 2,   /* of those to one destination */
    FIRST_TAKE = 64,      /* rows */
    TAKEN_MAX = 2048,     /* no more are taken while so many are here: some megabytes */
    ANSWER_MAX = 16 << 10 /* of a receiver's answer, before it is cut off */
};

static const usec_t LOOK_AGAIN = 60 * USEC_PER_SEC; /* also a wall clock that was set */
static const usec_t STORE_AGAIN = 5 * USEC_PER_SEC;
static const usec_t CONNECT = 5 * USEC_PER_SEC;

/* X(name, text) */
#define OUTCOME_LIST(X)                                                                  \
    X(DELIVERED, "delivered")                                                            \
    X(FAILED, "failed")                                                                  \
    X(GIVEN_UP, "given_up")

enum outcome {
#define X(name, text) OUTCOME_##name,
    OUTCOME_LIST(X)
#undef X
        OUTCOME_COUNT
};

/* What a job tells the loop. */
struct note {
    struct mail mail;
    enum { NOTE_TAKEN, NOTE_SETTLED } kind;
};

struct delivery {
    struct webhooks *of;
    struct outbox_rec rec;
    struct dest *dest; /* NULL: nowhere to send it */
    struct list link;  /* in dest.waiting */

    /* in flight */
    struct http_call call;
    char *path;
    struct buf body;
    char id_line[sizeof "webhook-id: " + ID_CAP];
    char time_line[sizeof "webhook-timestamp: " + 20];
    char signature_line[sizeof "webhook-signature: " + WEBHOOK_SIGNATURE_CAP];
    const char *lines[4];

    /* being written back */
    struct outbox_result result;
    char error[256];
    struct pool_job job;
    struct note note;
    enum rc rc;
    struct err err;
    struct loop_timer again;
};

/* One look into the outbox. */
struct take {
    struct pool_job job;
    struct note note;
    bool busy;
    size_t max;
    int64_t now;
    struct outbox_rec *rows;
    size_t n;
    enum rc rc;
    struct err err;
};

struct webhooks {
    struct webhooks_opts o;
    char *user_agent;
    struct loop *loop;
    struct mailbox *mail;
    struct pool *worker; /* one, so that what it does is in order */
    struct http_client *client;
    struct dests *dests;
    struct map *taken; /* deliveries by seq */
    struct list ready; /* dests */
    unsigned flying;
    struct take take;
    bool look; /* the outbox is to be looked into */
    bool more; /* it had more than was asked for */
    bool sick; /* the store failed, and it was told */
    struct loop_timer due;
    pthread_t thread;
    bool running;
    atomic_bool woken;
    atomic_ullong outcomes[OUTCOME_COUNT];
};

static struct str key_of(const int64_t *seq)
{
    return (struct str){(const char *)seq, sizeof *seq};
}

static void wake_up(void *ctx, usec_t now)
{
    struct webhooks *w = ctx;

    (void)now;
    w->look = true;
}

/* The turn that the timer starts ends in tick() like any other. */
static void look_at(struct webhooks *w, usec_t at)
{
    if (!w->due._slot || at < w->due._at)
        loop_timer_set(w->loop, &w->due, at, wake_up, w);
}

/* When the wall clock will show that second. */
static void look_at_wall(struct webhooks *w, int64_t sec)
{
    usec_t wait = sec * USEC_PER_SEC - clock_wall();

    if (wait < LOOK_AGAIN)
        look_at(w, loop_now(w->loop) + (wait > 0 ? wait : 0));
}

/* The first of a row is told, and its end. */
static void tell_store(struct webhooks *w, enum rc rc, const struct err *e)
{
    char text[2 * sizeof e->text];

    if (rc != RC_OK && !w->sick)
        log_warn("webhook.store", "rc=%s err=%s action=\"it is asked again\"",
                 rc_name(rc), log_q(text, sizeof text, e->text, strlen(e->text)));
    else if (rc == RC_OK && w->sick)
        log_info("webhook.store", "rc=OK");
    w->sick = rc != RC_OK;
}

/* --- Writing back --------------------------------------------------------------------
 */

static void settle_run(struct pool_job *job)
{
    struct delivery *y = CONTAINER_OF(job, struct delivery, job);
    const struct store *store = y->of->o.store;

    y->rc = store->ops->outbox_settle(store->self, y->rec.seq, &y->result, &y->err);
    mail_post(y->of->mail, &y->note.mail);
}

static void settle_now(void *ctx, usec_t now)
{
    struct delivery *y = ctx;

    (void)now;
    pool_submit(y->of->worker, &y->job);
}

/* Not inside its call's `done`. */
static void delivery_free(struct delivery *y)
{
    loop_timer_clear(y->of->loop, &y->again);
    list_del(&y->link);
    http_call_done(&y->call);
    if (y->dest)
        dest_drop(y->dest);
    buf_done(&y->body);
    mem_free(y->path);
    outbox_rec_done(&y->rec);
    mem_free(y);
}

/* The delivery is over, but only what is written down counts. */
static void settled(struct delivery *y)
{
    struct webhooks *w = y->of;

    if (y->rc == RC_NOTFOUND)
        y->rc = RC_OK; /* somebody settled it: nothing is left to do */
    tell_store(w, y->rc, &y->err);
    if (y->rc != RC_OK) {
        loop_timer_set(w->loop, &y->again, loop_now(w->loop) + STORE_AGAIN, settle_now,
                       y);
        return;
    }
    if (!y->result.delivered && !y->result.given_up)
        look_at_wall(w, y->result.next_at);
    IGNORE(map_del(w->taken, key_of(&y->rec.seq))); /* it is y */
    delivery_free(y);
}

/* --- One delivery --------------------------------------------------------------------
 */

static bool again(struct delivery *y)
{
    struct webhooks *w = y->of;
    /* While the clock is in doubt, what it is ahead does not count against the event. */
    int64_t ahead = clock_wall_sec() - clock_due_sec();
    struct webhook_try t = {
        .created_at = y->rec.created_at + ahead,
        .now = y->result.now,
        .tries = y->rec.tries + 1,
        .give_up = w->o.give_up,
        .retry_after =
            y->call.retry_after_ms < 0 ? -1 : (y->call.retry_after_ms + 999) / 1000,
    };

    if (w->o.random)
        t.random = w->o.random();
    else
        random_bytes(&t.random, sizeof t.random);
    return webhook_try_again(&t, &y->result.next_at);
}

static enum outcome judge(struct delivery *y)
{
    struct outbox_result *r = &y->result;
    const struct http_call *c = &y->call;

    *r = (struct outbox_result){.now = clock_wall_sec(), .status = (int)c->status};
    y->error[0] = '\0';
    if (c->fate == HTTP_ANSWERED && c->status >= 200 && c->status < 300) {
        r->delivered = true;
        return OUTCOME_DELIVERED;
    }
    r->error = y->error;
    if (c->fate != HTTP_ANSWERED)
        (void)snprintf(y->error, sizeof y->error, "%s", c->reason);
    else
        (void)snprintf(y->error, sizeof y->error, "the receiver answered %ld%s",
                       c->status,
                       c->status < 400 ? ", and redirects are not followed" : "");
    r->given_up = (c->fate == HTTP_ANSWERED && c->status == 410) || !again(y);
    return r->given_up ? OUTCOME_GIVEN_UP : OUTCOME_FAILED;
}

/* A destination's first failure and its recovery are told, and every event that is lost. */
static void tell(struct delivery *y, enum outcome outcome)
{
    struct str to = webhooks_shown(y->rec.destination);
    char text[2 * sizeof y->error];
    bool first;

    log_q(text, sizeof text, y->error, strlen(y->error));
    atomic_fetch_add(&y->of->outcomes[outcome], 1);
    if (outcome == OUTCOME_GIVEN_UP) {
        log_warn("webhook.given_up", "batch=%s event=%s to=\"%.*s\" tries=%u err=%s",
                 y->rec.batch.z, y->rec.event.z, STR_ARG(to),
                 y->rec.tries + (y->dest != NULL), text);
    } else if (outcome == OUTCOME_DELIVERED) {
        if (y->dest->failures)
            log_info("webhook.recovered", "to=\"%.*s\" failures=%u", STR_ARG(to),
                     y->dest->failures);
        log_debug("webhook.delivered", "batch=%s event=%s to=\"%.*s\"", y->rec.batch.z,
                  y->rec.event.z, STR_ARG(to));
        y->dest->failures = 0;
    }
    if (outcome == OUTCOME_DELIVERED || !y->dest)
        return;
    first = y->dest->failures++ == 0;
    if (first)
        log_warn("webhook.failed", "batch=%s event=%s to=\"%.*s\" err=%s", y->rec.batch.z,
                 y->rec.event.z, STR_ARG(to), text);
}

/* Ready is who has something waiting and may be called. */
static void dest_look(struct webhooks *w, struct dest *d)
{
    bool ready = !list_empty(&d->waiting) && d->flying < AT_ONCE_TO_ONE;

    if (ready && list_empty(&d->ready))
        list_add_tail(&w->ready, &d->ready);
    else if (!ready)
        list_del(&d->ready);
}

static void landed(struct http_call *c)
{
    struct delivery *y = CONTAINER_OF(c, struct delivery, call);
    struct webhooks *w = y->of;

    w->flying--;
    y->dest->flying--;
    if (c->fate == HTTP_ABORTED) /* we are stopping: it stays in the outbox as it was */
        return;
    tell(y, judge(y));
    dest_look(w, y->dest);
    pool_submit(w->worker, &y->job);
}

static void fill(struct delivery *y)
{
    struct webhooks *w = y->of;
    int64_t now = clock_wall_sec();
    char signature[WEBHOOK_SIGNATURE_CAP];

    buf_init(&y->body, 4096);
    webhook_put_body(&y->body, &y->rec.event, y->rec.type, y->rec.created_at,
                     &y->rec.batch);
    MEM_CHECK(buf_failed(&y->body) == RC_OK);
    webhook_sign(y->dest->secrets, &y->rec.event, now, buf_peek(&y->body), signature);
    CHECK(str_fmt(y->id_line, sizeof y->id_line, "webhook-id: %s", y->rec.event.z) ==
          RC_OK);
    CHECK(str_fmt(y->time_line, sizeof y->time_line, "webhook-timestamp: %lld",
                  (long long)now) == RC_OK);
    CHECK(str_fmt(y->signature_line, sizeof y->signature_line, "webhook-signature: %s",
                  signature) == RC_OK);
    y->lines[0] = y->id_line;
    y->lines[1] = y->time_line;
    y->lines[2] = y->signature_line;
    y->lines[3] = NULL;
    y->call.target = y->dest->target;
    y->call.path = y->path;
    y->call.method = "POST";
    y->call.body = buf_peek(&y->body);
    y->call.headers = y->lines;
    y->call.connect_timeout = w->o.timeout < CONNECT ? w->o.timeout : CONNECT;
    y->call.total_timeout = w->o.timeout;
    y->call.max_body = ANSWER_MAX;
    y->call.status_only = true;
    y->call.done = landed;
}

/* Each destination in turn, whoever has more waiting. */
static void send_ready(struct webhooks *w)
{
    struct list *it;

    while (w->flying < AT_ONCE && (it = list_pop(&w->ready))) {
        struct dest *d = list_entry(it, struct dest, ready);
        struct delivery *y = list_entry(list_pop(&d->waiting), struct delivery, link);

        fill(y);
        w->flying++;
        d->flying++;
        dest_look(w, d);
        http_start(w->client, &y->call);
    }
}

/* --- Taking from the outbox ----------------------------------------------------------
 */

static void give_up(struct delivery *y, const struct err *why)
{
    CHECK(str_fmt(y->error, sizeof y->error, "%.200s", why->text) == RC_OK);
    y->result = (struct outbox_result){
        .now = clock_wall_sec(), .given_up = true, .unsent = true, .error = y->error};
    tell(y, OUTCOME_GIVEN_UP);
    pool_submit(y->of->worker, &y->job);
}

/* Takes the row over, unless it is here already. */
static void take_row(struct webhooks *w, struct outbox_rec *row)
{
    struct delivery *y;
    struct err why = {""};

    if (map_get(w->taken, key_of(&row->seq)))
        return;
    y = mem_new(struct delivery);
    y->of = w;
    y->rec = *row;
    *row = (struct outbox_rec){.seq = 0};
    list_init(&y->link);
    http_call_init(&y->call);
    y->job.run = settle_run;
    y->note.kind = NOTE_SETTLED;
    IGNORE(map_put(w->taken, key_of(&y->rec.seq), y)); /* it was not there */
    if (dests_find(w->dests, y->rec.destination, &y->dest, &y->path, &why) != RC_OK) {
        give_up(y, &why);
        return;
    }
    list_add_tail(&y->dest->waiting, &y->link);
    dest_look(w, y->dest);
}

/* Also what is due within the next minute is asked for: its first says when to look. */
static void take_run(struct pool_job *job)
{
    struct take *t = CONTAINER_OF(job, struct take, job);
    struct webhooks *w = CONTAINER_OF(t, struct webhooks, take);
    const struct store *store = w->o.store;

    t->now = clock_wall_sec();
    t->rc = store->ops->outbox_due(store->self, t->now + LOOK_AGAIN / USEC_PER_SEC,
                                   t->max, &t->rows, &t->n, &t->err);
    mail_post(w->mail, &t->note.mail);
}

/* Those that are here are due in the store as well, and come first: there must be room
 * for them. */
static void take(struct webhooks *w)
{
    w->look = w->more = false;
    w->take.busy = true;
    w->take.max = FIRST_TAKE + 2 * map_len(w->taken);
    pool_submit(w->worker, &w->take.job);
}

static void taken(struct webhooks *w)
{
    struct take *t = &w->take;
    size_t i = 0;

    t->busy = false;
    tell_store(w, t->rc, &t->err);
    if (t->rc != RC_OK) {
        look_at(w, loop_now(w->loop) + STORE_AGAIN);
        return;
    }
    for (; i < t->n && t->rows[i].next_at <= t->now; i++)
        take_row(w, &t->rows[i]);
    w->more = i == t->max;
    if (i < t->n)
        look_at_wall(w, t->rows[i].next_at);
    look_at(w, loop_now(w->loop) + LOOK_AGAIN);
    outbox_free(t->rows, t->n);
    t->rows = NULL;
    t->n = 0;
}

/* --- The loop ------------------------------------------------------------------------
 */

static void receive(void *ctx, struct mail *m)
{
    struct webhooks *w = ctx;
    struct note *n = CONTAINER_OF(m, struct note, mail);

    if (n->kind == NOTE_TAKEN)
        taken(w);
    else
        settled(CONTAINER_OF(n, struct delivery, note));
}

/* Nobody's memory: webhooks_free goes over all there is. */
static void drop(void *ctx, struct mail *m)
{
    (void)ctx, (void)m;
}

static void tick(void *ctx, usec_t now)
{
    struct webhooks *w = ctx;

    (void)now;
    if (atomic_exchange(&w->woken, false))
        w->look = true;
    send_ready(w);
    if (w->more && w->flying < AT_ONCE) /* of those that are here, none may go */
        w->look = true;
    if (w->look && !w->take.busy && map_len(w->taken) < TAKEN_MAX)
        take(w);
}

static void *thread_main(void *ctx)
{
    struct webhooks *w = ctx;

    loop_run(w->loop);
    return NULL;
}

/* --- Start and end -------------------------------------------------------------------
 */

static enum rc build(struct webhooks *w, struct err *e)
{
    struct http_client_opts co = {.max_connections = 4 * AT_ONCE,
                                  .user_agent = w->user_agent};
    enum rc rc = loop_new(&w->loop, e);

    if (rc == RC_OK)
        rc = mailbox_new(w->loop, receive, drop, w, &w->mail, e);
    if (rc == RC_OK)
        rc = pool_new("webhooks", 1, &w->worker, e);
    if (rc == RC_OK)
        rc = http_client_new(w->loop, &co, &w->client, e);
    if (rc == RC_OK)
        rc = dests_new(&w->o, w->client, &w->dests, e);
    return rc;
}

enum rc webhooks_new(const struct webhooks_opts *o, struct webhooks **ret, struct err *e)
{
    struct webhooks *w = mem_new(struct webhooks);
    enum rc rc;

    w->o = *o;
    w->o.timeout = o->timeout ? o->timeout : 10 * USEC_PER_SEC;
    w->o.give_up = o->give_up ? o->give_up : 3 * (int64_t)86400;
    if (o->user_agent)
        w->user_agent = mem_dup(o->user_agent, strlen(o->user_agent));
    w->taken = map_new();
    list_init(&w->ready);
    w->take.job.run = take_run;
    w->take.note.kind = NOTE_TAKEN;
    w->look = true; /* what the last process left */
    rc = build(w, e);
    w->o.destinations = NULL; /* those were the caller's */
    w->o.callback_hosts = w->o.callback_secrets = w->o.user_agent = NULL;
    if (rc == RC_OK) {
        loop_on_tick(w->loop, tick, w);
        if (pthread_create(&w->thread, NULL, thread_main, w) != 0)
            rc = err_set(e, RC_NOMEM, "cannot start the thread of the webhooks");
        w->running = rc == RC_OK;
    }
    if (rc != RC_OK) {
        IGNORE(webhooks_free(w)); /* always NULL */
        return rc;
    }
    loop_wake(w->loop);
    *ret = w;
    return RC_OK;
}

static void free_deliveries(struct webhooks *w)
{
    size_t n = map_len(w->taken), cursor = 0;
    struct delivery **all = mem_new_n(struct delivery *, n);

    for (size_t i = 0; i < n; i++)
        all[i] = map_next(w->taken, &cursor);
    for (size_t i = 0; i < n; i++)
        delivery_free(all[i]);
    mem_free(all);
    map_free(w->taken);
}

struct webhooks *webhooks_free(struct webhooks *w)
{
    if (!w)
        return NULL;
    if (w->running) {
        loop_stop(w->loop);
        pthread_join(w->thread, NULL);
    }
    w->client = http_client_free(w->client);
    w->worker = pool_free(w->worker); /* what was delivered is written down first */
    w->mail = mailbox_free(w->mail);
    if (w->loop)
        loop_timer_clear(w->loop, &w->due);
    free_deliveries(w);
    outbox_free(w->take.rows, w->take.n);
    w->dests = dests_free(w->dests);
    w->loop = loop_free(w->loop);
    mem_free(w->user_agent);
    mem_free(w);
    return NULL;
}

/* --- For others ----------------------------------------------------------------------
 */

void webhooks_told(const struct webhooks *w, const struct batch *b,
                   enum batch_status status, struct webhooks_told *ret)
{
    *ret = (struct webhooks_told){.n = 0};
    if (w)
        dests_told(w->dests, b, status, ret);
}

void webhooks_wake(struct webhooks *w)
{
    if (!w)
        return;
    atomic_store(&w->woken, true);
    loop_wake(w->loop);
}

void webhooks_metrics(struct webhooks *w, struct buf *out)
{
    static const char *const names[] = {
#define X(name, text) text,
        OUTCOME_LIST(X)
#undef X
    };
    const struct store *store = w->o.store;
    uint64_t pending;

    (void)buf_z(out, "# HELP batchd_webhook_deliveries_total Tries to deliver a webhook "
                     "by how they went.\n"
                     "# TYPE batchd_webhook_deliveries_total counter\n");
    for (unsigned i = 0; i < OUTCOME_COUNT; i++)
        (void)buf_fmt(out, "batchd_webhook_deliveries_total{outcome=\"%s\"} %llu\n",
                      names[i], (unsigned long long)atomic_load(&w->outcomes[i]));
    if (store->ops->outbox_pending(store->self, &pending, NULL) != RC_OK)
        return; /* the store tells its own troubles */
    (void)buf_fmt(out,
                  "# HELP batchd_webhook_pending Webhooks neither delivered nor given "
                  "up.\n# TYPE batchd_webhook_pending gauge\n"
                  "batchd_webhook_pending %llu\n",
                  (unsigned long long)pending);
}
