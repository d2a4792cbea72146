/* SPDX-License-Identifier: Apache-2.0 */
/* The webhooks against an outbox in memory, whose failures are ours to choose, and a
 * scripted receiver. */
#include "tests/unit/http/peer.h"
#include "engine/webhooks.h"

#include <stdatomic.h>

#define SECRET "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#define OTHER  "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"

/* --- an outbox --- */

enum { ROWS_MAX = 4000 };

static struct outbox {
    pthread_mutex_t lock;
    struct outbox_rec rows[ROWS_MAX];
    size_t n;
    enum rc fail_due, fail_settle; /* until they are set back */
    atomic_uint dues, settles;     /* how often it was asked */
} box = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void copy_row(const struct outbox_rec *from, struct outbox_rec *to)
{
    *to = *from;
    to->destination = mem_dup(from->destination, strlen(from->destination));
    to->error = from->error ? mem_dup(from->error, strlen(from->error)) : NULL;
}

static int by_time(const void *a, const void *b)
{
    const struct outbox_rec *x = a, *y = b;

    if (x->next_at != y->next_at)
        return x->next_at < y->next_at ? -1 : 1;
    return x->seq < y->seq ? -1 : x->seq > y->seq;
}

static enum rc due(void *self, int64_t now, size_t max, struct outbox_rec **ret,
                   size_t *ret_n, struct err *e)
{
    struct outbox_rec *all = mem_new_n(struct outbox_rec, ROWS_MAX);
    size_t n = 0;
    enum rc rc;

    (void)self;
    pthread_mutex_lock(&box.lock);
    box.dues++;
    rc = box.fail_due;
    for (size_t i = 0; i < box.n && rc == RC_OK; i++)
        if (!box.rows[i].settled_at && box.rows[i].next_at <= now)
            copy_row(&box.rows[i], &all[n++]);
    pthread_mutex_unlock(&box.lock);
    if (rc != RC_OK) {
        mem_free(all);
        return err_set(e, rc, "the disk is sick");
    }
    qsort(all, n, sizeof *all, by_time);
    while (n > max)
        outbox_rec_done(&all[--n]);
    *ret = all;
    *ret_n = n;
    return RC_OK;
}

static enum rc settle(void *self, int64_t seq, const struct outbox_result *r,
                      struct err *e)
{
    struct outbox_rec *o = &box.rows[seq - 1];
    enum rc rc;

    (void)self;
    pthread_mutex_lock(&box.lock);
    box.settles++;
    rc = box.fail_settle;
    if (rc == RC_OK) {
        OK(!o->settled_at);
        o->tries += !r->unsent;
        o->settled_at = r->delivered || r->given_up ? r->now : 0;
        o->delivered = r->delivered;
        o->next_at = r->next_at;
        o->status = r->status;
        mem_free(o->error);
        o->error = r->error ? mem_dup(r->error, strlen(r->error)) : NULL;
    }
    pthread_mutex_unlock(&box.lock);
    return rc == RC_OK ? rc : err_set(e, rc, "the disk is full");
}

static enum rc pending(void *self, uint64_t *ret, struct err *e)
{
    uint64_t n = 0;

    (void)self, (void)e;
    pthread_mutex_lock(&box.lock);
    for (size_t i = 0; i < box.n; i++)
        n += !box.rows[i].settled_at;
    pthread_mutex_unlock(&box.lock);
    *ret = n;
    return RC_OK;
}

static const struct store_ops box_ops = {
    .outbox_due = due, .outbox_settle = settle, .outbox_pending = pending};
static struct store box_store = {.ops = &box_ops};

static int64_t put(const char *destination)
{
    struct outbox_rec o = {
        .event = {"evt_1"}, .batch = {"batch_1"}, .type = "batch.failed"};

    o.created_at = o.next_at = clock_wall_sec();
    o.destination = mem_dup(destination, strlen(destination));
    pthread_mutex_lock(&box.lock);
    CHECK(box.n < ROWS_MAX);
    o.seq = (int64_t)box.n + 1;
    box.rows[box.n++] = o;
    pthread_mutex_unlock(&box.lock);
    return o.seq;
}

static struct outbox_rec row(int64_t seq)
{
    struct outbox_rec o;

    pthread_mutex_lock(&box.lock);
    o = box.rows[seq - 1];
    pthread_mutex_unlock(&box.lock);
    return o;
}

static bool tried(int64_t seq, uint32_t tries)
{
    return row(seq).tries >= tries;
}

/* The test's own time limit ends it. */
#define UNTIL(cond)                                                                      \
    while (!(cond))                                                                      \
    nap(2)

/* --- a rig --- */

static struct webhooks *hooks;
static struct server server;

static uint64_t no_jitter(void)
{
    return 0;
}

static char *url_of(int port, const char *path)
{
    static char urls[64][64];
    static unsigned n;
    char *z = urls[n++ % 64];

    snprintf(z, sizeof urls[0], "http://127.0.0.1:%d%s", port, path);
    return z;
}

static void open_hooks(const struct webhooks_destination *list, size_t n,
                       struct webhooks_opts o)
{
    struct err e = {""};

    o.store = &box_store;
    o.destinations = list;
    o.n_destinations = n;
    o.user_agent = "test/1";
    o.random = no_jitter;
    if (webhooks_new(&o, &hooks, &e) != RC_OK)
        FAIL("%s", e.text);
}

static void open_one(const struct step *steps, size_t n)
{
    struct webhooks_destination d = {.name = "app", .secrets = SECRET};

    server_start(&server, steps, n);
    d.url = url_of(server.port, "/in?a=b");
    open_hooks(&d, 1, (struct webhooks_opts){.timeout = 5 * USEC_PER_SEC});
}

static void end(void)
{
    hooks = webhooks_free(hooks);
    server_stop(&server);
    for (size_t i = 0; i < box.n; i++)
        outbox_rec_done(&box.rows[i]);
}

/* --- deliveries --- */

TEST(an_event_is_posted_with_its_three_header_lines)
{
    static const struct step steps[] = {{.send = OK_ANSWER}};
    char want[600];
    const char *at;
    int64_t seq;

    open_one(steps, 1);
    seq = put("app");
    webhooks_wake(hooks);
    UNTIL(tried(seq, 1));
    OK(row(seq).delivered);
    EQ_INT(row(seq).status, 200);
    OK(!row(seq).error);
    snprintf(want, sizeof want,
             "POST /in?a=b HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nwebhook-id: evt_1\r\n"
             "webhook-timestamp: ",
             server.port);
    OK(strncmp(seen(&server), want, strlen(want)) == 0);
    at = strstr(seen(&server), "webhook-signature: v1,");
    OK(at && strlen(at) > 66 && at[65] == '=' && at[66] == '\r');
    OK(strstr(
        seen(&server),
        "Content-Type: application/json\r\nUser-Agent: test/1\r\nContent-Length: "));
    snprintf(want, sizeof want,
             "\r\n\r\n{\"object\":\"event\",\"id\":\"evt_1\",\"type\":\"batch.failed\","
             "\"created_at\":%lld,\"data\":{\"id\":\"batch_1\"}}",
             (long long)row(seq).created_at);
    OK(strstr(seen(&server), want));
    end();
}

TEST(each_answer_has_its_consequence)
{
    static const struct {
        const char *name;
        struct step step;
        bool delivered, given_up;
        int status;
        const char *error;
        int64_t pause; /* seconds, at least */
    } rows[] = {
        {"202",
         {.send = "HTTP/1.1 202 A\r\nContent-Length: 0\r\n\r\n"},
         true,
         false,
         202,
         NULL,
         0},
        {"a great deal of thanks",
         {.send = "HTTP/1.1 200 A\r\nContent-Length: 10000000\r\n\r\n", .pad = 100000},
         true,
         false,
         200,
         NULL,
         0},
        {"301",
         {.send = "HTTP/1.1 301 A\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n"},
         false,
         false,
         301,
         "the receiver answered 301, and redirects are not followed",
         1},
        {"404",
         {.send = "HTTP/1.1 404 A\r\nContent-Length: 0\r\n\r\n"},
         false,
         false,
         404,
         "the receiver answered 404",
         1},
        {"410",
         {.send = "HTTP/1.1 410 A\r\nContent-Length: 0\r\n\r\n"},
         false,
         true,
         410,
         "the receiver answered 410",
         0},
        {"429 with a wish",
         {.send = "HTTP/1.1 429 A\r\nRetry-After: 100\r\nContent-Length: 0\r\n\r\n"},
         false,
         false,
         429,
         "the receiver answered 429",
         100},
        {"500 with a wish in milliseconds",
         {.send = "HTTP/1.1 500 A\r\nretry-after-ms: 5500\r\nContent-Length: 0\r\n\r\n"},
         false,
         false,
         500,
         "the receiver answered 500",
         6},
        {"a wish beyond the end",
         {.send = "HTTP/1.1 503 A\r\nRetry-After: 9999999\r\nContent-Length: 0\r\n\r\n"},
         false,
         false,
         503,
         "the receiver answered 503",
         259190},
        {"nothing",
         {.send = "", .then = CLOSE},
         false,
         false,
         0,
         "Empty reply from server",
         1},
        {"no HTTP",
         {.send = "SSH-2.0-OpenSSH_9.2\r\n", .then = CLOSE},
         false,
         false,
         0,
         "Received HTTP/0.9 when not allowed",
         1},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct outbox_rec o;
        int64_t seq;

        t_row(rows[i].name);
        open_one(&rows[i].step, 1);
        seq = put("app");
        webhooks_wake(hooks);
        UNTIL(tried(seq, 1));
        o = row(seq);
        EQ_INT(o.delivered, rows[i].delivered);
        EQ_INT(o.settled_at != 0, rows[i].delivered || rows[i].given_up);
        EQ_INT(o.status, rows[i].status);
        EQ_Z(o.error ? o.error : "", rows[i].error ? rows[i].error : "");
        if (!o.settled_at) {
            OK(o.next_at >= o.created_at + rows[i].pause);
            OK(o.next_at <= o.created_at + 259200);
        }
        end();
        box.n = 0;
    }
}

TEST(a_receiver_that_says_nothing_has_failed_when_its_time_is_over)
{
    static const struct step steps[] = {{.send = "", .then = HOLD}};
    struct webhooks_destination d = {.name = "app", .secrets = SECRET};
    int64_t seq;

    server_start(&server, steps, 1);
    d.url = url_of(server.port, "");
    open_hooks(&d, 1, (struct webhooks_opts){.timeout = 200 * USEC_PER_MS});
    seq = put("app");
    webhooks_wake(hooks);
    UNTIL(tried(seq, 1));
    EQ_Z(row(seq).error, "no whole answer within 0.2 s");
    end();
}

TEST(what_failed_is_sent_again_without_being_woken_and_given_up_at_the_end)
{
    static const struct step steps[] = {
        {.send = "HTTP/1.1 500 A\r\nContent-Length: 0\r\n\r\n"}};
    struct webhooks_destination d = {.name = "app", .secrets = SECRET};
    int64_t seq;

    server_start(&server, steps, 1);
    d.url = url_of(server.port, "/");
    seq = put("app"); /* by the process before */
    open_hooks(&d, 1, (struct webhooks_opts){.give_up = 2});
    UNTIL(row(seq).settled_at);
    OK(!row(seq).delivered);
    OK(row(seq).tries >= 2 && row(seq).tries <= 4);
    OK(row(seq).settled_at >= row(seq).created_at + 2);
    EQ_Z(row(seq).error, "the receiver answered 500");
    end();
}

/* --- many at once --- */

TEST(at_most_two_fly_to_one_destination_and_eight_in_all)
{
    static const struct step steps[] = {{.send = "", .then = HOLD}};
    struct webhooks_destination d[6];
    static const char *const names[] = {"a", "b", "c", "d", "e", "f"};
    unsigned before;

    server_start(&server, steps, 1);
    for (int i = 0; i < 6; i++)
        d[i] = (struct webhooks_destination){
            .name = names[i], .url = url_of(server.port, "/"), .secrets = SECRET};
    for (int i = 0; i < 10; i++)
        put("a");
    open_hooks(d, 6, (struct webhooks_opts){.timeout = 60 * USEC_PER_SEC});
    UNTIL(count_of(&server, &server.requests) == 2);
    for (int n = 0; n < 5; n++)
        for (int i = 1; i < 6; i++)
            put(names[i]);
    webhooks_wake(hooks);
    UNTIL(count_of(&server, &server.requests) == 8);
    before = box.dues;
    nap(300);
    EQ_INT(count_of(&server, &server.requests), 8);
    OK(box.dues - before <= 1); /* it waits, it does not spin */
    end();
    EQ_INT(box.settles, 0); /* what is broken off stays as it was */
}

TEST(a_thousand_events_for_a_receiver_that_hangs_do_not_hold_up_another)
{
    static const struct step hang[] = {{.send = "", .then = HOLD}};
    static const struct step good[] = {{.send = OK_ANSWER}};
    static struct server other;
    struct webhooks_destination d[2] = {{.name = "hangs", .secrets = SECRET},
                                        {.name = "works", .secrets = OTHER}};
    int64_t first = 0;

    server_start(&server, hang, 1);
    server_start(&other, good, 1);
    d[0].url = url_of(server.port, "/");
    d[1].url = url_of(other.port, "/");
    for (int i = 0; i < 1500; i++)
        put("hangs");
    for (int i = 0; i < 100; i++)
        first = first ? first : put("works");
    open_hooks(d, 2, (struct webhooks_opts){.timeout = 60 * USEC_PER_SEC});
    UNTIL(tried(first, 1));
    EQ_INT(count_of(&server, &server.requests), 2);
    end();
    server_stop(&other);
}

TEST(a_crowd_is_worked_off_with_few_looks_into_the_outbox)
{
    static const struct step steps[] = {{.send = OK_ANSWER}};

    for (int i = 0; i < 3000; i++)
        put("app");
    open_one(steps, 1);
    for (int i = 1; i <= 3000; i++)
        UNTIL(tried(i, 1));
    EQ_INT(box.settles, 3000);
    OK(box.dues < 100);
    EQ_INT(count_of(&server, &server.requests), 3000);
    end();
}

/* --- the store's troubles --- */

TEST(an_outbox_that_fails_is_asked_again_seconds_later)
{
    static const struct step steps[] = {{.send = OK_ANSWER}};
    int64_t seq = put("app");

    box.fail_due = RC_IO;
    open_one(steps, 1);
    UNTIL(box.dues == 1);
    nap(300);
    EQ_INT(box.dues, 1);
    pthread_mutex_lock(&box.lock);
    box.fail_due = RC_OK;
    pthread_mutex_unlock(&box.lock);
    UNTIL(tried(seq, 1));
    EQ_INT(box.dues, 2);
    end();
}

TEST(what_cannot_be_written_down_is_not_sent_again_meanwhile)
{
    static const struct step steps[] = {{.send = OK_ANSWER}};
    int64_t seq = put("app");

    box.fail_settle = RC_NOSPACE;
    open_one(steps, 1);
    UNTIL(box.settles == 1);
    webhooks_wake(hooks);
    nap(300);
    EQ_INT(box.settles, 1);
    EQ_INT(count_of(&server, &server.requests), 1);
    pthread_mutex_lock(&box.lock);
    box.fail_settle = RC_OK;
    pthread_mutex_unlock(&box.lock);
    UNTIL(tried(seq, 1));
    EQ_INT(count_of(&server, &server.requests), 1);
    OK(row(seq).delivered);
    end();
}

/* --- destinations --- */

TEST(a_destination_that_may_not_be_called_is_given_up_with_the_reason)
{
    static const struct step steps[] = {{.send = OK_ANSWER}};
    static const struct {
        const char *destination, *hosts, *secrets, *error;
    } rows[] = {
        {"gone", "h", SECRET, "there is no [webhook gone] any more"},
        {"url:http://other/", "h, *.h", SECRET,
         "the callback_url's host is not one of callback_hosts"},
        {"url:http://h/", NULL, SECRET,
         "the callback_url's host is not one of callback_hosts"},
        {"url:http://h:81/", "h", SECRET,
         "the callback_url's host is not one of callback_hosts"},
        {"url:http://h/", "h", NULL,
         "callback_secret_file is not set, and unsigned it is not sent"},
        {"url:http://a:b@h/", "h", SECRET,
         "the callback_url holds a user name or a password"},
        {"url:gopher://h/", "h", SECRET,
         "the callback_url does not begin with http:// or https://"},
    };

    server_start(&server, steps, 1);
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct webhooks_opts o = {.callback_hosts = rows[i].hosts,
                                  .callback_secrets = rows[i].secrets};
        int64_t seq = put(rows[i].destination);

        t_row(rows[i].destination);
        open_hooks(NULL, 0, o);
        UNTIL(row(seq).settled_at);
        OK(!row(seq).delivered);
        EQ_Z(row(seq).error, rows[i].error);
        hooks = webhooks_free(hooks);
    }
    end();
}

TEST(a_callback_goes_to_public_addresses_unless_others_are_allowed)
{
    static const struct step steps[] = {{.send = OK_ANSWER}};

    server_start(&server, steps, 1);
    for (int private = 0; private < 2; private ++) {
        char host[32], destination[80];
        struct webhooks_opts o = {.callback_hosts = host,
                                  .callback_secrets = SECRET,
                                  .callback_private = private};
        int64_t seq;

        snprintf(host, sizeof host, "127.0.0.1:%d", server.port);
        snprintf(destination, sizeof destination, "url:http://%s?id=%d", host, private);
        seq = put(destination);
        open_hooks(NULL, 0, o);
        UNTIL(tried(seq, 1));
        EQ_INT(row(seq).delivered, private);
        EQ_INT(count_of(&server, &server.accepted), (unsigned)private);
        if (private)
            OK(strncmp(seen(&server), "POST /?id=1 HTTP/1.1\r\n", 22) == 0);
        else
            EQ_Z(row(seq).error,
                 "127.0.0.1 is a loopback address, and none of those may be used");
        hooks = webhooks_free(hooks);
    }
    end();
}

TEST(two_callbacks_to_one_server_share_its_two_places)
{
    static const struct step steps[] = {{.send = "", .then = HOLD}};
    char host[32], destination[80];
    struct webhooks_opts o = {.callback_hosts = host,
                              .callback_secrets = SECRET,
                              .callback_private = true,
                              .timeout = 60 * USEC_PER_SEC};

    server_start(&server, steps, 1);
    snprintf(host, sizeof host, "127.0.0.1:%d", server.port);
    for (int i = 0; i < 6; i++) {
        snprintf(destination, sizeof destination, "url:http://%s/%d", host, i);
        put(destination);
    }
    open_hooks(NULL, 0, o);
    UNTIL(count_of(&server, &server.requests) == 2);
    nap(200);
    EQ_INT(count_of(&server, &server.requests), 2);
    end();
}

TEST(a_destination_that_is_no_good_is_told_at_the_start)
{
    static const struct {
        struct webhooks_destination d;
        const char *want;
    } rows[] = {
        {{.name = "a", .url = "http://h/", .secrets = "sk-1"},
         "[webhook a]: line 1 does not begin with whsec_"},
        {{.name = "a", .url = "http://h/", .secrets = ""},
         "[webhook a]: there is no secret in it"},
        {{.name = "a", .url = "http://u:p@h/", .secrets = SECRET},
         "[webhook a]: its url holds a user name or a password"},
        {{.name = "a", .url = "http://h/", .secrets = SECRET, .events = "done"},
         "[webhook a]: there is no event 'done'; there are completed, failed, expired and "
         "cancelled"},
        {{.name = "a", .url = "https://h/", .secrets = SECRET, .ca_file = "/nowhere/ca"},
         "[webhook a]: cannot read the CA file /nowhere/ca: No such file or directory"},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct webhooks_opts o = {
            .store = &box_store, .destinations = &rows[i].d, .n_destinations = 1};
        struct webhooks *none = NULL;
        struct err e = {""};

        t_row(rows[i].want);
        OK(webhooks_new(&o, &none, &e) != RC_OK);
        EQ_Z(e.text, rows[i].want);
        OK(!none);
    }
}

/* --- who is told --- */

TEST(who_is_told_is_decided_by_event_project_and_callback)
{
    static const struct webhooks_destination d[] = {
        {.name = "all", .url = "http://h/", .secrets = SECRET},
        {.name = "blue", .url = "http://h/", .secrets = SECRET, .project = "blue"},
        {.name = "bad",
         .url = "http://h/",
         .secrets = SECRET,
         .events = "failed,expired"},
    };
    char first[] = "https://x/", second[] = "https://x/y?z";
    const struct {
        const char *project;
        enum batch_status status;
        char *callback;
        const char *want;
    } rows[] = {
        {"blue", BATCH_COMPLETED, NULL, "all blue "},
        {"red", BATCH_COMPLETED, NULL, "all "},
        {"red", BATCH_FAILED, NULL, "all bad "},
        {"blue", BATCH_EXPIRED, NULL, "all blue bad "},
        {"blue", BATCH_IN_PROGRESS, NULL, ""},
        {"blue", BATCH_FINALIZING, first, ""},
        {"red", BATCH_CANCELLED, second, "all url:https://x/y?z "},
    };

    open_hooks(d, COUNTOF(d), (struct webhooks_opts){.timeout = 0});
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct batch b = {.callback_url = rows[i].callback};
        struct webhooks_told told;
        struct buf got;

        buf_init(&got, 1000);
        EQ_RC(id_from(str_of(rows[i].project), &b.project), RC_OK);
        webhooks_told(hooks, &b, rows[i].status, &told);
        for (size_t k = 0; k < told.n; k++)
            (void)buf_fmt(&got, "%s ", told.names[k]);
        EQ_STR(buf_peek(&got), str_of(rows[i].want));
        webhooks_told_done(&told);
        webhooks_told_done(&told);
        webhooks_told(NULL, &b, rows[i].status, &told);
        EQ_INT(told.n, 0);
        buf_done(&got);
    }
    hooks = webhooks_free(hooks);
}

TEST(of_a_callback_only_the_host_is_shown)
{
    static const struct {
        const char *destination, *shown;
    } rows[] = {{"app", "app"},
                {"url:https://h.example/secret?x=1", "h.example"},
                {"url:http://h.example:8080?x=1", "h.example:8080"},
                {"url:http://[2001:db8::1]:8080/", "[2001:db8::1]:8080"},
                {"url:http://h", "h"},
                {"url:http://u:p@h/", "callback"}};

    for (size_t i = 0; i < COUNTOF(rows); i++)
        EQ_STR(webhooks_shown(rows[i].destination), str_of(rows[i].shown));
}

TEST(metrics_tell_what_became_of_tries_and_what_is_left)
{
    static const struct step steps[] = {
        {.send = OK_ANSWER}, {.send = "HTTP/1.1 500 A\r\nContent-Length: 0\r\n\r\n"}};
    struct buf b;
    int64_t gone, bad;

    put("app");
    open_one(steps, 2);
    UNTIL(tried(1, 1));
    bad = put("app");
    gone = put("gone");
    webhooks_wake(hooks);
    UNTIL(tried(bad, 1) && row(gone).settled_at);
    buf_init(&b, 10000);
    webhooks_metrics(hooks, &b);
    (void)buf_char(&b, '\0');
    OK(strstr(b.p, "\nbatchd_webhook_deliveries_total{outcome=\"delivered\"} 1\n"));
    OK(strstr(b.p, "\nbatchd_webhook_deliveries_total{outcome=\"failed\"} 1\n"));
    OK(strstr(b.p, "\nbatchd_webhook_deliveries_total{outcome=\"given_up\"} 1\n"));
    OK(strstr(b.p, "\nbatchd_webhook_pending 1\n"));
    buf_done(&b);
    end();
}
