/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/api/rig.h"

#define BODY(file, more)                                                                 \
    "{\"input_file_id\":\"" file "\",\"endpoint\":\"/v1/chat/completions\","             \
    "\"completion_window\":\"24h\"" more "}"

/* A batch of an uploaded file. */
static struct reply create(struct rig *r)
{
    struct reply re = rig_upload(r, "batch", "a.jsonl", STR("{}"));
    struct id file = rig_id(&re);
    char body[512];

    snprintf(body, sizeof body, BODY("%s", ""), file.z);
    re = rig_post(r, "/v1/batches", body);
    EQ_INT(re.status, 200);
    return re;
}

/* --- Create --------------------------------------------------------------------------
 */

TEST(a_batch_is_made_with_every_key)
{
    static const char *const nulls[] = {
        "model",          "errors",        "output_file_id", "error_file_id",
        "in_progress_at", "finalizing_at", "completed_at",   "failed_at",
        "expired_at",     "cancelling_at", "cancelled_at",   "usage",
        "metadata"};
    struct rig *r = rig_new(NULL);
    struct reply re = create(r);
    struct id id = rig_id(&re);
    uint64_t created, expires;

    OK(str_starts(id_str(&id), STR("batch_")));
    EQ_JSON(re, "object", "\"batch\"");
    EQ_JSON(re, "status", "\"validating\"");
    EQ_JSON(re, "endpoint", "\"/v1/chat/completions\"");
    EQ_JSON(re, "completion_window", "\"24h\"");
    EQ_JSON(re, "request_counts.total", "0");
    for (size_t i = 0; i < COUNTOF(nulls); i++)
        EQ_JSON(re, nulls[i], "null");
    EQ_RC(str_u64(rig_json(re.body, "created_at"), &created), RC_OK);
    EQ_RC(str_u64(rig_json(re.body, "expires_at"), &expires), RC_OK);
    EQ_INT(expires - created, 86400);

    /* The row was committed before the engine heard of it. */
    EQ_INT(r->m->n_batches, 1);
    EQ_INT(atomic_load(&r->engine.submits), 1);
    EQ_Z(r->engine.last.z, id.z);
    EQ_STR(rig_get(r, rig_path("/v1/batches/", &id, "")).body, re.body);
    rig_free(r);
}

TEST(metadata_comes_back_byte_for_byte)
{
    static const struct {
        const char *member, *want;
    } rows[] = {
        {"", "null"},
        {",\"metadata\":null", "null"},
        {",\"metadata\":{}", "{}"},
        {",\"metadata\":{ \"a\" : \"\\u00e9\\/\" }", "{ \"a\" : \"\\u00e9\\/\" }"},
        {",\"metadata\":{\"b\":\"1\",\"a\":\"\xf0\x9f\x8e\x89\"}",
         "{\"b\":\"1\",\"a\":\"\xf0\x9f\x8e\x89\"}"},
    };
    struct rig *r = rig_new(NULL);

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct reply re;
        char body[512];
        struct id id;

        t_row(rows[i].want);
        snprintf(body, sizeof body, BODY("file-none", "%s"), rows[i].member);
        re = rig_post(r, "/v1/batches", body);
        EQ_INT(re.status, 200);
        EQ_JSON(re, "metadata", rows[i].want);
        id = rig_id(&re);
        re = rig_get(r, rig_path("/v1/batches/", &id, ""));
        EQ_JSON(re, "metadata", rows[i].want);
    }
    rig_free(r);
}

/* The real API makes the batch and lets it fail; so does the engine here. */
TEST(an_unknown_or_deleted_file_still_makes_a_batch)
{
    struct rig *r = rig_new(NULL);
    struct reply re = rig_post(r, "/v1/batches", BODY("file-none", ""));
    struct id file;
    char body[512];

    EQ_INT(re.status, 200);
    EQ_JSON(re, "status", "\"validating\"");
    EQ_JSON(re, "input_file_id", "\"file-none\"");

    re = rig_upload(r, "batch", "a.jsonl", STR("{}"));
    file = rig_id(&re);
    rig_ask(r, "DELETE", rig_path("/v1/files/", &file, ""), "", (struct str){0});
    snprintf(body, sizeof body, BODY("%s", ""), file.z);
    EQ_INT(rig_post(r, "/v1/batches", body).status, 200);
    EQ_INT(atomic_load(&r->engine.submits), 2);
    rig_free(r);
}

TEST(a_file_of_another_purpose_is_refused)
{
    struct rig *r = rig_new(NULL);
    struct reply re = rig_upload(r, "assistants", "a.jsonl", STR("{}"));
    struct id file = rig_id(&re);
    char body[512];

    snprintf(body, sizeof body, BODY("%s", ""), file.z);
    re = rig_post(r, "/v1/batches", body);
    EQ_REFUSED(re, 400, "invalid_request_error", "\"invalid_value\"",
               "\"input_file_id\"");
    OK(rig_has(re.body, "assistants"));
    EQ_INT(r->m->n_batches, 0);
    EQ_INT(atomic_load(&r->engine.submits), 0);
    rig_free(r);
}

TEST(bad_bodies_make_no_batch)
{
    static const struct {
        const char *body, *code, *param;
    } rows[] = {
        {"", "null", "null"},
        {"[]", "\"invalid_type\"", "null"},
        {"{}", "\"missing_required_parameter\"", "\"input_file_id\""},
        {"{\"input_file_id\":7}", "\"invalid_type\"", "\"input_file_id\""},
        {"{\"input_file_id\":\"f\",\"endpoint\":\"/x\"}", "\"invalid_value\"",
         "\"endpoint\""},
        {"{\"input_file_id\":\"f\",\"endpoint\":\"/v1/responses\","
         "\"completion_window\":\"48x\"}",
         "\"invalid_value\"", "\"completion_window\""},
        {BODY("f", ",\"metadata\":{\"tags\":[\"a\"]}"), "\"invalid_type\"",
         "\"metadata.tags\""},
        {BODY("f", ",\"metadata\":{\"a\\\"\\u000ab\":1}"), "\"invalid_type\"",
         "\"metadata.a\\\"\\nb\""},
        {BODY("f", ",\"output_expires_after\":{\"anchor\":\"created_at\",\"seconds\":1}"),
         "\"integer_below_min_value\"", "\"output_expires_after.seconds\""},
    };
    struct rig *r = rig_new(NULL);

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct reply re;

        t_row(rows[i].body);
        re = rig_post(r, "/v1/batches", rows[i].body);
        EQ_INT(re.status, 400);
        EQ_JSON(re, "error.type", "\"invalid_request_error\"");
        EQ_JSON(re, "error.code", rows[i].code);
        EQ_JSON(re, "error.param", rows[i].param);
        EQ_INT(r->m->n_batches, 0);
    }
    EQ_INT(atomic_load(&r->engine.submits), 0);
    rig_free(r);
}

TEST(a_row_that_cannot_be_written_is_not_submitted)
{
    static const struct {
        enum rc rc;
        int status;
    } rows[] = {{RC_NOSPACE, 503}, {RC_IO, 500}};
    struct rig *r = rig_new(NULL);

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        t_row(rc_name(rows[i].rc));
        r->m->fail_batch_add = rows[i].rc;
        EQ_INT(rig_post(r, "/v1/batches", BODY("file-none", "")).status, rows[i].status);
    }
    EQ_INT(atomic_load(&r->engine.submits), 0);
    rig_free(r);
}

TEST(the_expiry_of_results_is_kept)
{
    struct rig *r = rig_new(NULL);
    struct reply re = rig_post(
        r, "/v1/batches",
        BODY("file-none",
             ",\"output_expires_after\":{\"anchor\":\"created_at\",\"seconds\":7200}"));

    EQ_INT(re.status, 200);
    EQ_INT(r->m->batches[0].output_expires_after, 7200);
    rig_free(r);
}

/* --- Read ----------------------------------------------------------------------------
 */

TEST(an_unknown_batch_is_told_in_the_real_apis_words)
{
    struct rig *r = rig_new(NULL);
    struct reply re = rig_get(r, "/v1/batches/batch_x");

    EQ_REFUSED(re, 404, "invalid_request_error", "null", "null");
    EQ_JSON(re, "error.message", "\"No batch found with id 'batch_x'.\"");
    re = rig_post(r, "/v1/batches/batch_x/cancel", "");
    EQ_REFUSED(re, 404, "invalid_request_error", "null", "null");
    re = rig_post(r, "/v1/batches/%2e%2e/cancel", "");
    EQ_INT(re.status, 404);
    rig_free(r);
}

TEST(a_batch_under_recovery_asks_to_come_back)
{
    static const char *const targets[] = {"/v1/batches/batch_x", "/v1/batches"};
    struct rig *r = rig_new(NULL);

    r->engine.recovering = true;
    for (size_t i = 0; i < COUNTOF(targets); i++) {
        struct reply re = rig_get(r, targets[i]);

        t_row(targets[i]);
        EQ_REFUSED(re, 503, "server_error", "\"server_recovering\"", "null");
        EQ_STR(rig_header(&re, "Retry-After"), STR("1"));
    }
    rig_free(r);
}

TEST(batches_are_listed_in_pages_newest_first)
{
    static const struct {
        const char *query;
        int after;
        int first, n; /* ids[first], ids[first - 1], ... */
        bool more;
    } rows[] = {
        {"", -1, 24, 20, true},
        {"?limit=", -1, 24, 20, true},
        {"?after=&limit=3", -1, 24, 3, true},
        {"?limit=100", -1, 24, 25, false},
        {"?limit=25", -1, 24, 25, false},
        {"?limit=1", -1, 24, 1, true},
        {"?limit=10&after=", 24, 23, 10, true},
        {"?after=", 10, 9, 10, false},
        {"?after=", 0, 0, 0, false},
    };
    struct rig *r = rig_new(NULL);
    struct id ids[25];

    for (size_t i = 0; i < COUNTOF(ids); i++) {
        struct reply re = rig_post(r, "/v1/batches", BODY("file-none", ""));

        ids[i] = rig_id(&re);
    }
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct json_val data = {.type = JSON_ARRAY}, v;
        struct json_iter it;
        struct str key;
        struct reply re;
        char target[256];
        int n = 0;

        t_row(rows[i].query);
        snprintf(target, sizeof target, "/v1/batches%s%s", rows[i].query,
                 rows[i].after < 0 ? "" : ids[rows[i].after].z);
        re = rig_get(r, target);
        EQ_INT(re.status, 200);
        EQ_JSON(re, "object", "\"list\"");
        EQ_JSON(re, "has_more", rows[i].more ? "true" : "false");
        data.raw = rig_json(re.body, "data");
        it = json_iter(&data);
        while (json_next(&it, &key, &v))
            OK(json_str_is(rig_json(v.raw, "id"), id_str(&ids[rows[i].first - n++])));
        EQ_INT(n, rows[i].n);
        if (n == 0) {
            EQ_JSON(re, "first_id", "null");
            EQ_JSON(re, "last_id", "null");
        } else {
            OK(json_str_is(rig_json(re.body, "first_id"), id_str(&ids[rows[i].first])));
            OK(json_str_is(rig_json(re.body, "last_id"),
                           id_str(&ids[rows[i].first - n + 1])));
        }
    }
    rig_free(r);
}

TEST(bad_list_parameters_are_refused_by_name)
{
    static const struct {
        const char *query, *param;
    } rows[] = {
        {"?limit=0", "\"limit\""},          {"?limit=101", "\"limit\""},
        {"?limit=-5", "\"limit\""},         {"?limit=x", "\"limit\""},
        {"?after=batch_none", "\"after\""}, {"?after=%FF%0A", "\"after\""},
    };
    struct rig *r = rig_new(NULL);

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        char target[128];
        struct reply re;

        t_row(rows[i].query);
        snprintf(target, sizeof target, "/v1/batches%s", rows[i].query);
        re = rig_get(r, target);
        EQ_INT(re.status, 400);
        EQ_JSON(re, "error.param", rows[i].param);
    }
    rig_free(r);
}

/* --- Cancel --------------------------------------------------------------------------
 */

TEST(cancel_answers_by_the_status_it_meets)
{
    static const struct {
        enum batch_status status;
        int answer;
        const char *after;
        int cancels; /* told to the engine */
    } rows[] = {
        {BATCH_VALIDATING, 200, "cancelling", 1},
        {BATCH_IN_PROGRESS, 200, "cancelling", 1},
        {BATCH_CANCELLING, 200, "cancelling", 0},
        {BATCH_CANCELLED, 200, "cancelled", 0},
        {BATCH_FINALIZING, 409, "finalizing", 0},
        {BATCH_COMPLETED, 409, "completed", 0},
        {BATCH_FAILED, 409, "failed", 0},
        {BATCH_EXPIRED, 409, "expired", 0},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct rig *r = rig_new(NULL);
        struct reply re = create(r);
        struct id id = rig_id(&re);
        char want[128];

        t_row(batch_status_name(rows[i].status));
        r->m->batches[0].status = rows[i].status;
        re = rig_post(r, rig_path("/v1/batches/", &id, "/cancel"), "");
        EQ_INT(re.status, rows[i].answer);
        EQ_INT(atomic_load(&r->engine.cancels), rows[i].cancels);
        EQ_Z(batch_status_name(r->m->batches[0].status), rows[i].after);
        if (re.status == 200) {
            snprintf(want, sizeof want, "\"%s\"", rows[i].after);
            EQ_JSON(re, "status", want);
            OK(!rig_header(&re, "x-should-retry").p);
        } else {
            EQ_REFUSED(re, 409, "invalid_request_error", "null", "null");
            snprintf(want, sizeof want, "\"Cannot cancel a batch with status '%s'.\"",
                     rows[i].after);
            EQ_JSON(re, "error.message", want);
            EQ_STR(rig_header(&re, "x-should-retry"), STR("false"));
        }
        rig_free(r);
    }
}

TEST(the_body_of_a_cancel_does_not_matter)
{
    static const char *const bodies[] = {NULL, "", "{}", "not json", "{\"x\":1}"};
    struct rig *r = rig_new(NULL);

    for (size_t i = 0; i < COUNTOF(bodies); i++) {
        struct reply re = create(r);
        struct id id = rig_id(&re);

        t_row(bodies[i] ? bodies[i] : "none");
        re = rig_ask(r, "POST", rig_path("/v1/batches/", &id, "/cancel"), "",
                     str_of(bodies[i]));
        EQ_INT(re.status, 200);
        EQ_JSON(re, "status", "\"cancelling\"");
    }
    rig_free(r);
}

/* The row's counts are those of the last end: an answer with them would have counts fall. */
TEST(a_cancel_during_recovery_counts_and_its_answer_comes_later)
{
    struct rig *r = rig_new(NULL);
    struct reply re = create(r);
    struct id id = rig_id(&re);

    r->engine.recovering = true;
    for (int again = 0; again < 2; again++) {
        re = rig_post(r, rig_path("/v1/batches/", &id, "/cancel"), "");
        EQ_REFUSED(re, 503, "server_error", "\"server_recovering\"", "null");
        EQ_INT(atomic_load(&r->engine.cancels), 1);
    }
    r->engine.recovering = false;
    re = rig_post(r, rig_path("/v1/batches/", &id, "/cancel"), "");
    EQ_INT(re.status, 200);
    EQ_JSON(re, "status", "\"cancelling\"");
    EQ_INT(atomic_load(&r->engine.cancels), 1);
    rig_free(r);
}
