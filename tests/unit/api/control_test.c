/* SPDX-License-Identifier: Apache-2.0 */
/* Pause, resume, change and progress of a batch. */
#include "tests/unit/api/rig.h"

static struct id make(struct rig *r)
{
    struct reply re = rig_upload(r, "batch", "a.jsonl", STR("{}"));
    struct id file = rig_id(&re);
    char body[512];

    snprintf(body, sizeof body,
             "{\"input_file_id\":\"%s\",\"endpoint\":\"/v1/chat/completions\","
             "\"completion_window\":\"24h\"}",
             file.z);
    re = rig_post(r, "/v1/batches", body);
    EQ_INT(re.status, 200);
    return rig_id(&re);
}

static struct batch row(struct rig *r, const struct id *id)
{
    struct batch b = {0};
    struct err e;

    EQ_RC(r->m->store.ops->batch_get(r->m->store.self, NULL, id->z, &b, &e), RC_OK);
    return b;
}

static void move(struct rig *r, const struct id *id, enum batch_event ev)
{
    struct err e;

    EQ_RC(
        r->m->store.ops->batch_move(r->m->store.self, NULL, id->z, ev, 1, NULL, NULL, &e),
        RC_OK);
}

/* One that was made `age` seconds ago. */
static struct id make_old(struct rig *r, int64_t age)
{
    struct batch b = {.id = id_make(ID_BATCH),
                      .project = {PROJECT_DEFAULT},
                      .window = "24h",
                      .created_at = clock_wall_sec() - age};
    struct err e;

    b.expires_at = b.created_at + 86400;
    EQ_RC(r->m->store.ops->batch_add(r->m->store.self, &b, NULL, NULL, &e), RC_OK);
    return b.id;
}

TEST(pause_and_resume_answer_with_the_batch_and_may_be_repeated)
{
    static const struct {
        const char *path;
        bool paused;
    } rows[] = {
        {"/pause", true}, {"/pause", true}, {"/resume", false}, {"/resume", false}};
    struct rig *r = rig_new(NULL);
    struct id id = make(r);

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct reply re = rig_post(r, rig_path("/v1/batches/", &id, rows[i].path), "");
        struct batch b = row(r, &id);

        EQ_INT(re.status, 200);
        EQ_JSON(re, "object", "\"batch\"");
        EQ_JSON(re, "status", "\"validating\"");
        EQ_STR(re.body, rig_get(r, rig_path("/v1/batches/", &id, "")).body);
        OK(b.paused == rows[i].paused);
        EQ_INT(atomic_load(&r->engine.edits), i + 1);
        batch_done(&b);
    }
    rig_free(r);
}

/* Its row does not know its counts, so no answer may have them. */
TEST(a_change_during_recovery_is_made_and_its_answer_comes_later)
{
    struct rig *r = rig_new(NULL);
    struct id id = make(r);
    struct reply re;

    r->engine.recovering = true;
    re = rig_post(r, rig_path("/v1/batches/", &id, "/pause"), "");
    EQ_REFUSED(re, 503, "server_error", "\"server_recovering\"", "null");
    OK(row(r, &id).paused);
    re = rig_post(r, rig_path("/v1/batches/", &id, ""), "{\"priority\":3}");
    EQ_INT(re.status, 503);
    EQ_INT(row(r, &id).priority, 3);
    r->engine.recovering = false;
    EQ_INT(rig_post(r, rig_path("/v1/batches/", &id, "/pause"), "").status, 200);
    rig_free(r);
}

TEST(resume_lifts_the_hold_of_a_sample)
{
    struct rig *r = rig_new(NULL);
    struct id id = make(r);
    struct batch_edit hold = {.has_hold = true, .hold = 3};
    struct batch b;
    struct err e;

    EQ_RC(engine_edit(&r->engine, NULL, id.z, &hold, &b, &e), RC_OK);
    batch_done(&b);
    EQ_INT(rig_post(r, rig_path("/v1/batches/", &id, "/pause"), "").status, 200);
    b = row(r, &id);
    EQ_INT(b.hold, 3);
    batch_done(&b);
    EQ_INT(rig_post(r, rig_path("/v1/batches/", &id, "/resume"), "").status, 200);
    b = row(r, &id);
    EQ_INT(b.hold, 0);
    batch_done(&b);
    rig_free(r);
}

TEST(a_batch_on_its_way_out_is_not_changed_any_more)
{
    static const struct {
        enum batch_event events[2];
        const char *status;
    } rows[] = {{{BATCH_EV_CANCEL, BATCH_EVENT_COUNT}, "cancelling"},
                {{BATCH_EV_CANCEL, BATCH_EV_PUBLISHED}, "cancelled"},
                {{BATCH_EV_INVALID, BATCH_EVENT_COUNT}, "failed"},
                {{BATCH_EV_VALID, BATCH_EV_DRAINED}, "finalizing"}};
    static const struct {
        const char *path, *body, *verb;
    } calls[] = {{"/pause", "", "pause"},
                 {"/resume", "", "resume"},
                 {"", "{\"priority\":1}", "change"}};
    struct rig *r = rig_new(NULL);

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct id id = make(r);

        t_row(rows[i].status);
        for (size_t k = 0; k < 2 && rows[i].events[k] != BATCH_EVENT_COUNT; k++)
            move(r, &id, rows[i].events[k]);
        for (size_t k = 0; k < COUNTOF(calls); k++) {
            struct reply re =
                rig_post(r, rig_path("/v1/batches/", &id, calls[k].path), calls[k].body);
            char want[128];

            snprintf(want, sizeof want, "\"Cannot %s a batch with status '%s'.\"",
                     calls[k].verb, rows[i].status);
            EQ_REFUSED(re, 409, "invalid_request_error", "null", "null");
            EQ_JSON(re, "error.message", want);
            EQ_STR(rig_header(&re, "x-should-retry"), STR("false"));
        }
    }
    rig_free(r);
}

TEST(an_unknown_batch_is_not_found_whatever_is_asked_of_it)
{
    static const struct {
        const char *method, *path;
    } rows[] = {{"POST", "/v1/batches/batch_none/pause"},
                {"POST", "/v1/batches/batch_none/resume"},
                {"POST", "/v1/batches/batch_none"},
                {"GET", "/v1/batches/batch_none/progress"},
                {"GET", "/v1/batches/a%20b/progress"},
                {"POST", "/v1/batches/a%20b"}};
    struct rig *r = rig_new(NULL);

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct reply re =
            rig_ask(r, rows[i].method, rows[i].path, "Content-Type: application/json\r\n",
                    STR("{\"priority\":1}"));

        t_row(rows[i].path);
        EQ_REFUSED(re, 404, "invalid_request_error", "null", "null");
    }
    EQ_INT(atomic_load(&r->engine.edits), 0);
    rig_free(r);
}

TEST(priority_and_window_are_changed_together_or_alone)
{
    struct rig *r = rig_new(NULL);
    struct id id = make(r);
    struct batch b;
    struct reply re;

    re = rig_post(r, rig_path("/v1/batches/", &id, ""),
                  "{\"priority\":-10,\"completion_window\":null,\"what\":[1]}");
    EQ_INT(re.status, 200);
    EQ_JSON(re, "completion_window", "\"24h\"");
    b = row(r, &id);
    EQ_INT(b.priority, -10);
    EQ_INT(b.expires_at - b.created_at, 86400);
    batch_done(&b);
    re = rig_post(r, rig_path("/v1/batches/", &id, ""), "{\"completion_window\":\"2d\"}");
    EQ_INT(re.status, 200);
    EQ_JSON(re, "completion_window", "\"2d\"");
    b = row(r, &id);
    EQ_INT(b.priority, -10);
    EQ_INT(b.expires_at - b.created_at, 2 * 86400);
    batch_done(&b);
    rig_free(r);
}

TEST(a_batch_becomes_idle_work_and_standard_again)
{
    struct rig *r = rig_new(NULL);
    struct id id = make(r);
    struct batch b;

    EQ_INT(rig_post(r, rig_path("/v1/batches/", &id, ""), "{\"tier\":\"idle\"}").status,
           200);
    b = row(r, &id);
    OK(b.idle);
    EQ_INT(b.priority, 0);
    batch_done(&b);
    EQ_INT(rig_post(r, rig_path("/v1/batches/", &id, ""), "{\"priority\":2}").status,
           200);
    b = row(r, &id);
    OK(b.idle);
    batch_done(&b);
    EQ_INT(
        rig_post(r, rig_path("/v1/batches/", &id, ""), "{\"tier\":\"standard\"}").status,
        200);
    b = row(r, &id);
    OK(!b.idle);
    EQ_INT(b.priority, 2);
    batch_done(&b);
    rig_free(r);
}

TEST(a_change_is_judged_strictly)
{
    static const struct {
        const char *body, *code, *param;
    } rows[] = {
        {"{}", "\"missing_required_parameter\"", "null"},
        {"{\"paused\":true,\"metadata\":{}}", "\"missing_required_parameter\"", "null"},
        {"{\"priority\":null}", "\"missing_required_parameter\"", "null"},
        {"{\"priority\":\"1\"}", "\"invalid_type\"", "\"priority\""},
        {"{\"priority\":true}", "\"invalid_type\"", "\"priority\""},
        {"{\"priority\":1.5}", "\"invalid_type\"", "\"priority\""},
        {"{\"tier\":\"best\"}", "\"invalid_value\"", "\"tier\""},
        {"{\"tier\":null}", "\"missing_required_parameter\"", "null"},
        {"{\"priority\":11}", "\"integer_above_max_value\"", "\"priority\""},
        {"{\"priority\":-11}", "\"integer_below_min_value\"", "\"priority\""},
        {"{\"completion_window\":24}", "\"invalid_type\"", "\"completion_window\""},
        {"{\"completion_window\":\"soon\"}", "\"invalid_value\"",
         "\"completion_window\""},
        {"{\"completion_window\":\"31d\"}", "\"invalid_value\"", "\"completion_window\""},
        {"{\"priority\":1,\"completion_window\":\"0s\"}", "\"invalid_value\"",
         "\"completion_window\""},
        {"", "null", "null"},
        {"[]", "\"invalid_type\"", "null"},
        {"{\"priority\":1", "null", "null"},
    };
    struct rig *r = rig_new(NULL);
    struct id id = make(r);

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct reply re = rig_post(r, rig_path("/v1/batches/", &id, ""), rows[i].body);

        t_row(rows[i].body);
        EQ_REFUSED(re, 400, "invalid_request_error", rows[i].code, rows[i].param);
    }
    EQ_INT(atomic_load(&r->engine.edits), 0);
    rig_free(r);
}

TEST(a_window_that_would_end_in_the_past_is_refused_with_a_remedy)
{
    struct rig *r = rig_new(NULL);
    struct id id = make_old(r, 7200);
    struct reply re = rig_post(r, rig_path("/v1/batches/", &id, ""),
                               "{\"priority\":3,\"completion_window\":\"2h\"}");
    struct batch b;

    EQ_REFUSED(re, 400, "invalid_request_error", "\"invalid_value\"",
               "\"completion_window\"");
    OK(rig_has(re.body, "give a longer window, or cancel it"));
    b = row(r, &id);
    EQ_INT(b.priority, 0); /* nothing of it was done */
    batch_done(&b);
    re = rig_post(r, rig_path("/v1/batches/", &id, ""), "{\"completion_window\":\"3h\"}");
    EQ_INT(re.status, 200);
    rig_free(r);
}

/* --- Progress ------------------------------------------------------------------------
 */

TEST(progress_of_a_running_batch_has_every_key)
{
    static const struct {
        const char *key, *want;
    } rows[] = {{"object", "\"batch.progress\""},
                {"status", "\"in_progress\""},
                {"request_counts.total", "0"},
                {"request_counts.completed", "0"},
                {"request_counts.failed", "0"},
                {"in_flight", "3"},
                {"waiting", "90"},
                {"retrying", "2"},
                {"following", "7"},
                {"reused", "0"},
                {"priority", "0"},
                {"tier", "\"standard\""},
                {"critical", "true"},
                {"admission.fits", "false"},
                {"admission.feasible_at", "4000000000"},
                {"paused", "false"},
                {"sample", "null"},
                {"rate_per_second", "2.500"},
                {"eta_seconds", "40"},
                {"on_time", "true"},
                {"why", "\"Running: \\\"x\\\".\""}};
    struct rig *r = rig_new(NULL);
    struct id id = make(r);
    uint64_t at, expires;
    struct reply re;

    move(r, &id, BATCH_EV_VALID);
    r->engine.has_progress = true;
    r->engine.progress = (struct engine_progress){.inflight = 3,
                                                  .waiting = 90,
                                                  .retrying = 2,
                                                  .following = 7,
                                                  .counted = true,
                                                  .rate = 2.5,
                                                  .eta = 40,
                                                  .eta_late = 50,
                                                  .critical = true,
                                                  .late = true,
                                                  .fits_at = 4000000000,
                                                  .why = "Running: \"x\"."};
    re = rig_get(r, rig_path("/v1/batches/", &id, "/progress"));
    EQ_INT(re.status, 200);
    for (size_t i = 0; i < COUNTOF(rows); i++)
        EQ_JSON(re, rows[i].key, rows[i].want);
    EQ_RC(str_u64(rig_json(re.body, "eta_at"), &at), RC_OK);
    EQ_RC(str_u64(rig_json(re.body, "expires_at"), &expires), RC_OK);
    OK((int64_t)at >= clock_wall_sec() + 38 && (int64_t)at <= clock_wall_sec() + 40);
    r->engine.progress.eta = 90000; /* of a day's window */
    re = rig_get(r, rig_path("/v1/batches/", &id, "/progress"));
    EQ_JSON(re, "on_time", "false");
    r->engine.progress.eta = -1;
    r->engine.progress.rate = -1;
    re = rig_get(r, rig_path("/v1/batches/", &id, "/progress"));
    EQ_JSON(re, "rate_per_second", "null");
    EQ_JSON(re, "eta_seconds", "null");
    EQ_JSON(re, "eta_at", "null");
    EQ_JSON(re, "on_time", "null");
    rig_free(r);
}

TEST(progress_of_an_ended_batch_says_since_when)
{
    static const struct {
        enum batch_event events[3];
        const char *why;
    } rows[] = {
        {{BATCH_EV_INVALID, BATCH_EVENT_COUNT, BATCH_EVENT_COUNT}, "\"Failed at "},
        {{BATCH_EV_CANCEL, BATCH_EV_PUBLISHED, BATCH_EVENT_COUNT}, "\"Cancelled at "},
        {{BATCH_EV_VALID, BATCH_EV_DRAINED, BATCH_EV_PUBLISHED}, "\"Completed at "},
        {{BATCH_EV_VALID, BATCH_EV_EXPIRE, BATCH_EV_PUBLISHED}, "\"Expired at "}};
    struct rig *r = rig_new(NULL);

    r->engine.has_progress = true; /* not asked any more */
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct id id = make(r);
        struct reply re;

        t_row(rows[i].why);
        for (size_t k = 0; k < 3 && rows[i].events[k] != BATCH_EVENT_COUNT; k++)
            move(r, &id, rows[i].events[k]);
        re = rig_get(r, rig_path("/v1/batches/", &id, "/progress"));
        EQ_INT(re.status, 200);
        OK(str_starts(rig_json(re.body, "why"), str_of(rows[i].why)));
        EQ_JSON(re, "waiting", "0");
        EQ_JSON(re, "rate_per_second", "null");
    }
    rig_free(r);
}

TEST(progress_of_a_batch_being_recovered_says_so_without_counts)
{
    struct rig *r = rig_new(NULL);
    struct id id = make(r);
    struct reply re;

    move(r, &id, BATCH_EV_VALID);
    r->engine.recovering = true;
    re = rig_get(r, rig_path("/v1/batches/", &id, "/progress"));
    EQ_INT(re.status, 200);
    EQ_JSON(re, "request_counts", "null");
    EQ_JSON(re, "waiting", "null");
    EQ_JSON(re, "why", "\"It is about to be taken up.\"");
    r->engine.has_progress = true;
    r->engine.progress =
        (struct engine_progress){.rate = -1, .eta = -1, .why = "It is being recovered."};
    re = rig_get(r, rig_path("/v1/batches/", &id, "/progress"));
    EQ_JSON(re, "why", "\"It is being recovered.\"");
    EQ_JSON(re, "waiting", "null");
    rig_free(r);
}
