/* SPDX-License-Identifier: Apache-2.0 */
/* What clients see of webhooks. */
#include "tests/unit/api/rig.h"

/* A batch that ended as failed at 1000, with these destinations told. */
static void put_batch(struct rig *r, const char *id, const char *project,
                      const char *const *names, size_t n)
{
    const struct store *s = r->engine.store;
    struct batch b = {.created_at = 900, .expires_at = 90000, .window = "24h"};
    struct batch_change change = {.notify = names, .n_notify = n};

    EQ_RC(id_from(str_of(id), &b.id), RC_OK);
    EQ_RC(id_from(str_of(project), &b.project), RC_OK);
    EQ_RC(s->ops->batch_add(s->self, &b, NULL, NULL, NULL), RC_OK);
    EQ_RC(s->ops->batch_move(s->self, NULL, id, BATCH_EV_INVALID, 1000, &change, NULL,
                             NULL),
          RC_OK);
}

static int64_t event_of(struct rig *r, const char *batch, struct id *ret)
{
    const struct store *s = r->engine.store;
    struct outbox_rec *all = NULL;
    int64_t seq;
    size_t n = 0;

    EQ_RC(s->ops->outbox_list(s->self, NULL, batch, &all, &n, NULL), RC_OK);
    OK(n > 0);
    seq = all[0].seq;
    *ret = all[0].event;
    outbox_free(all, n);
    return seq;
}

static void settle(struct rig *r, int64_t seq, struct outbox_result result)
{
    const struct store *s = r->engine.store;

    EQ_RC(s->ops->outbox_settle(s->self, seq, &result, NULL), RC_OK);
}

TEST(each_delivery_of_a_batch_is_listed_as_it_stands)
{
    static const char *const names[] = {"told", "waits", "fails", "gone",
                                        "url:https://h.example:8443/secret?token=x"};
    struct rig *r = rig_new(NULL);
    struct reply re;
    struct buf want;
    struct id event;
    int64_t seq;

    put_batch(r, "batch_1", "default", names, COUNTOF(names));
    seq = event_of(r, "batch_1", &event);
    settle(r, seq, (struct outbox_result){.now = 1001, .delivered = true, .status = 204});
    settle(r, seq + 2,
           (struct outbox_result){
               .now = 1002, .next_at = 1010, .status = 500, .error = "said 500"});
    settle(r, seq + 2,
           (struct outbox_result){.now = 1010, .next_at = 1030, .error = "no answer"});
    settle(r, seq + 3,
           (struct outbox_result){
               .now = 1003, .given_up = true, .unsent = true, .error = "it is gone"});
    settle(r, seq + 4,
           (struct outbox_result){
               .now = 1004, .given_up = true, .status = 410, .error = "said \"410\""});
    re = rig_get(r, "/v1/batches/batch_1/webhooks");
    EQ_INT(re.status, 200);
    EQ_STR(rig_header(&re, "Content-Type"), STR("application/json"));
    buf_init(&want, 10000);
#define ONE                                                                              \
    "{\"object\":\"webhook.delivery\",\"event\":\"%1$s\",\"type\":\"batch.failed\","     \
    "\"destination\":\""
    (void)buf_fmt(
        &want,
        "{\"object\":\"list\",\"data\":[" ONE
        "told\",\"created_at\":1000,\"tries\":1,\"next_try_at\":null,"
        "\"delivered_at\":1001,\"given_up_at\":null,\"status_code\":204,\"error\":null}," ONE
        "waits\",\"created_at\":1000,\"tries\":0,\"next_try_at\":1000,"
        "\"delivered_at\":null,\"given_up_at\":null,\"status_code\":null,\"error\":null}," ONE
        "fails\",\"created_at\":1000,\"tries\":2,\"next_try_at\":1030,"
        "\"delivered_at\":null,\"given_up_at\":null,\"status_code\":null,"
        "\"error\":\"no answer\"}," ONE
        "gone\",\"created_at\":1000,\"tries\":0,\"next_try_at\":null,"
        "\"delivered_at\":null,\"given_up_at\":1003,\"status_code\":null,"
        "\"error\":\"it is gone\"}," ONE
        "h.example:8443\",\"created_at\":1000,\"tries\":1,\"next_try_at\":null,"
        "\"delivered_at\":null,\"given_up_at\":1004,\"status_code\":410,"
        "\"error\":\"said \\\"410\\\"\"}]}",
        event.z);
    EQ_STR(re.body, buf_peek(&want));
    buf_done(&want);
    rig_free(r);
}

TEST(a_batch_that_nobody_was_told_of_has_an_empty_list)
{
    struct rig *r = rig_new(NULL);
    struct reply re;

    put_batch(r, "batch_1", "default", NULL, 0);
    re = rig_get(r, "/v1/batches/batch_1/webhooks");
    EQ_INT(re.status, 200);
    EQ_STR(re.body, STR("{\"object\":\"list\",\"data\":[]}"));
    rig_free(r);
}

TEST(a_batch_of_another_project_answers_like_an_unknown_one)
{
    static const char *const names[] = {"app"};
    static const char *const targets[] = {"/v1/batches/batch_9/webhooks",
                                          "/v1/batches/%2e%2e/webhooks"};
    struct rig *r = rig_new(NULL);
    struct reply foreign, unknown;

    put_batch(r, "batch_1", "other", names, 1);
    foreign = rig_get(r, "/v1/batches/batch_1/webhooks");
    EQ_REFUSED(foreign, 404, "invalid_request_error", "null", "null");
    EQ_JSON(foreign, "error.message", "\"No batch found with id 'batch_1'.\"");
    for (size_t i = 0; i < COUNTOF(targets); i++) {
        unknown = rig_get(r, targets[i]);
        EQ_REFUSED(unknown, 404, "invalid_request_error", "null", "null");
    }
    rig_free(r);
}

TEST(webhooks_are_only_looked_at)
{
    struct rig *r = rig_new(NULL);
    struct reply re = rig_post(r, "/v1/batches/batch_1/webhooks", "{}");

    EQ_INT(re.status, 405);
    EQ_STR(rig_header(&re, "Allow"), STR("GET, HEAD"));
    rig_free(r);
}
