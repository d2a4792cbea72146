/* SPDX-License-Identifier: Apache-2.0 */
/* How batches are made: keys, requests in the body, continuing, retry, dry run. */
#include "engine/estimate.h"
#include "tests/unit/api/rig.h"

#include <semaphore.h>

#define CHAT "/v1/chat/completions"
#define BODY(file, more)                                                                 \
    "{\"input_file_id\":\"" file "\",\"endpoint\":\"" CHAT "\","                         \
    "\"completion_window\":\"24h\"" more "}"
#define INLINE(requests, more)                                                           \
    "{\"requests\":" requests ",\"endpoint\":\"" CHAT                                    \
    "\",\"completion_window\":\"24h\"" more "}"

static struct reply post_with_key(struct rig *r, const char *target, const char *key,
                                  const char *body)
{
    char head[600];

    snprintf(head, sizeof head, "Idempotency-Key: %s\r\n", key);
    return rig_ask(r, "POST", target, head, str_of(body));
}

static struct batch *last(struct rig *r)
{
    CHECK(r->m->n_batches > 0);
    return &r->m->batches[r->m->n_batches - 1];
}

/* --- Members -------------------------------------------------------------------------
 */

TEST(extensions_are_kept_and_not_shown)
{
    struct api_opts o = {.callback_hosts = "hooks.test"};
    struct rig *r = rig_new(&o);
    struct reply plain = rig_post(r, "/v1/batches", BODY("file-none", ""));
    struct reply re =
        rig_post(r, "/v1/batches",
                 BODY("file-none", ",\"sample\":7,\"priority\":-3,\"paused\":true,"
                                   "\"callback_url\":\"https://hooks.test/x\""));
    struct json_val a = {.type = JSON_OBJECT, .raw = plain.body}, v;
    struct json_val b = {.type = JSON_OBJECT, .raw = re.body};
    struct json_iter one = json_iter(&a), two = json_iter(&b);
    struct str key, other;

    EQ_INT(re.status, 200);
    while (json_next(&one, &key, &v)) {
        OK(json_next(&two, &other, &v));
        EQ_STR(other, key);
    }
    OK(!json_next(&two, &other, &v));
    EQ_INT(last(r)->hold, 7);
    EQ_INT(last(r)->priority, -3);
    OK(last(r)->paused);
    EQ_Z(last(r)->callback_url, "https://hooks.test/x");
    OK(!r->m->batches[0].callback_url && !r->m->batches[0].paused);
    rig_free(r);
}

TEST(a_project_has_at_most_so_many_unfinished_batches)
{
    struct rig *r = rig_new(NULL);
    struct reply re;

    r->m->fail_batch_add = RC_LIMIT;
    re = rig_post(r, "/v1/batches", BODY("file-none", ""));
    EQ_REFUSED(re, 429, "rate_limit_error", "\"batch_limit_exceeded\"", "null");
    rig_free(r);
}

/* --- Idempotency-Key -----------------------------------------------------------------
 */

TEST(the_same_request_with_the_same_key_makes_one_batch)
{
    struct rig *r = rig_new(NULL);
    const char *body = BODY("file-none", "");
    struct reply first = post_with_key(r, "/v1/batches", "key-1", body), re;
    struct id id = rig_id(&first);

    re = post_with_key(r, "/v1/batches", "key-1", body);
    EQ_STR(re.body, first.body);
    EQ_INT(post_with_key(r, "/v1/batches/", "key-1", body).status, 200); /* a slash */
    EQ_INT(r->m->n_batches, 1);
    EQ_INT(atomic_load(&r->engine.submits), 1);

    /* As it is now, not as it was. */
    rig_post(r, rig_path("/v1/batches/", &id, "/cancel"), "");
    re = post_with_key(r, "/v1/batches", "key-1", body);
    EQ_INT(re.status, 200);
    EQ_JSON(re, "status", "\"cancelling\"");
    r->engine.recovering = true; /* its counts are not known */
    EQ_INT(post_with_key(r, "/v1/batches", "key-1", body).status, 503);
    r->engine.recovering = false;
    EQ_INT(post_with_key(r, "/v1/batches", "key-1", body).status, 200);

    EQ_INT(post_with_key(r, "/v1/batches", "key-2", body).status, 200);
    EQ_INT(rig_post(r, "/v1/batches", body).status, 200);
    EQ_INT(rig_post(r, "/v1/batches", body).status, 200); /* no key, no memory */
    EQ_INT(r->m->n_batches, 4);
    rig_free(r);
}

TEST(a_key_for_another_request_is_refused)
{
    struct rig *r = rig_new(NULL);
    struct reply first = post_with_key(r, "/v1/batches", "k", BODY("file-none", ""));
    struct id id = rig_id(&first);
    struct reply re = post_with_key(r, "/v1/batches", "k", BODY("file-none", " "));

    EQ_REFUSED(re, 422, "invalid_request_error", "\"idempotency_key_reused\"", "null");
    OK(rig_has(re.body, "'k'"));
    r->m->batches[0].status = BATCH_COMPLETED;
    r->m->batches[0].counts = (struct batch_counts){2, 1, 1};
    re = post_with_key(r, rig_path("/v1/batches/", &id, "/retry"), "k",
                       BODY("file-none", ""));
    EQ_REFUSED(re, 422, "invalid_request_error", "\"idempotency_key_reused\"", "null");
    EQ_INT(r->m->n_batches, 1);
    rig_free(r);
}

TEST(a_key_belongs_to_a_project)
{
    struct rig *r = rig_new(NULL);
    struct reply re = post_with_key(r, "/v1/batches", "k", BODY("file-none", ""));

    EQ_INT(re.status, 200);
    r->m->batches[0].project = (struct id){"other"};
    re = post_with_key(r, "/v1/batches", "k", BODY("file-none", ",\"x\":1"));
    EQ_INT(re.status, 200);
    EQ_INT(r->m->n_batches, 2);
    rig_free(r);
}

TEST(keys_are_1_to_255_printable_characters)
{
    char longest[256], longer[257];
    const struct {
        const char *key;
        int status;
    } rows[] = {
        {"x", 200},     {"stainless-node-retry-4e9c-~!@#$ %^&*()", 200},
        {longest, 200}, {longer, 400},
        {"", 400},      {"\xc3\xa9", 400},
        {"a\tb", 400},
    };
    struct rig *r = rig_new(NULL);

    memset(longest, 'k', sizeof longest);
    longest[255] = '\0';
    memset(longer, 'k', sizeof longer);
    longer[256] = '\0';
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct reply re =
            post_with_key(r, "/v1/batches", rows[i].key, BODY("file-none", ""));

        t_row(rows[i].key);
        EQ_INT(re.status, rows[i].status);
        if (re.status == 400)
            OK(rig_has(re.body, "Idempotency-Key"));
    }
    EQ_INT(r->m->n_batches, 3);
    rig_free(r);
}

/* What was refused is not remembered: the mended request may have the key. */
TEST(only_a_batch_that_was_made_remembers_its_key)
{
    struct rig *r = rig_new(NULL);

    EQ_INT(post_with_key(r, "/v1/batches", "k", "{}").status, 400);
    r->m->fail_batch_add = RC_NOSPACE;
    EQ_INT(post_with_key(r, "/v1/batches", "k", BODY("file-none", "")).status, 503);
    r->m->fail_batch_add = RC_OK;
    EQ_INT(post_with_key(r, "/v1/batches", "k", BODY("file-none", "")).status, 200);
    rig_free(r);
}

/* --- Requests in the body ------------------------------------------------------------
 */

TEST(requests_in_the_body_become_an_ordinary_file)
{
    struct api_opts o = {.file_expires = 1000};
    struct rig *r = rig_new(&o);
    struct reply re = rig_post(
        r, "/v1/batches",
        INLINE("[{\"custom_id\":\"a\",\"body\":{\"n\":1.10}},\n {\"custom_id\":\"b\","
               "\"method\":\"POST\",\"url\":\"" CHAT "\",\"body\":{}}]",
               ""));
    struct id file = {0};

    EQ_INT(re.status, 200);
    EQ_JSON(re, "status", "\"validating\"");
    file = last(r)->input_file;
    OK(!last(r)->input_missing);
    re = rig_get(r, rig_path("/v1/files/", &file, ""));
    EQ_JSON(re, "filename", "\"inline.jsonl\"");
    EQ_JSON(re, "purpose", "\"batch\"");
    EQ_INT(r->m->files[0].rec.expires_at - r->m->files[0].rec.created_at, 1000);
    re = rig_get(r, rig_path("/v1/files/", &file, "/content"));
    EQ_STR(re.body, STR("{\"method\":\"POST\",\"url\":\"" CHAT "\",\"custom_id\":\"a\","
                        "\"body\":{\"n\":1.10}}\n"
                        "{\"custom_id\":\"b\",\"method\":\"POST\",\"url\":\"" CHAT
                        "\",\"body\":{}}\n"));
    rig_free(r);
}

TEST(a_file_that_got_no_batch_does_not_stay)
{
    struct rig *r = rig_new(NULL);
    const char *body = INLINE("[{\"custom_id\":\"a\",\"body\":{}}]", "");

    r->m->fail_batch_add = RC_NOSPACE;
    EQ_INT(rig_post(r, "/v1/batches", body).status, 503);
    r->m->fail_batch_add = RC_LIMIT;
    EQ_INT(rig_post(r, "/v1/batches", body).status, 429);
    EQ_INT(r->m->n_files, 2);
    OK(r->m->files[0].deleted && r->m->files[1].deleted);
    r->m->fail_batch_add = RC_OK;
    r->m->fail_file_add = RC_NOSPACE;
    EQ_INT(rig_post(r, "/v1/batches", body).status, 503);
    r->m->fail_file_add = RC_LIMIT;
    EQ_INT(rig_post(r, "/v1/batches", body).status, 400);
    EQ_INT(r->m->n_blobs, 2); /* those of the deleted: they are reaped */
    r->m->fail_file_add = RC_OK;
    r->m->fail_put = RC_NOSPACE;
    EQ_INT(rig_post(r, "/v1/batches", body).status, 503);
    r->m->fail_put = RC_OK;
    r->m->fail_write = RC_NOSPACE;
    EQ_INT(rig_post(r, "/v1/batches", body).status, 503);
    r->m->fail_write = RC_OK;
    r->m->fail_commit = RC_IO;
    EQ_INT(rig_post(r, "/v1/batches", body).status, 500);
    EQ_INT(r->m->n_batches, 0);
    EQ_INT(r->m->n_blobs, 2);
    EQ_INT(atomic_load(&r->engine.submits), 0);
    rig_free(r);
}

/* --- Continuing ----------------------------------------------------------------------
 */

/* A batch that has ended, with files; the first of the store. */
static struct batch *ended(struct rig *r, enum batch_status status)
{
    struct reply input = rig_upload(r, "batch", "a.jsonl", STR("{}"));
    struct reply output = rig_upload(r, "batch", "b.jsonl", STR("{}"));
    struct id in = rig_id(&input), out = rig_id(&output);
    char body[256];
    struct batch *b;

    snprintf(body, sizeof body,
             BODY("%s", ",\"metadata\":{\"a\":\"b\"},\"priority\":4,"
                        "\"output_expires_after\":{\"anchor\":\"created_at\","
                        "\"seconds\":7200}"),
             in.z);
    EQ_INT(rig_post(r, "/v1/batches", body).status, 200);
    b = last(r);
    b->status = status;
    b->output_file = out;
    b->counts = (struct batch_counts){10, 7, 3};
    return b;
}

TEST(a_batch_may_continue_from_one_that_has_ended)
{
    struct rig *r = rig_new(NULL);
    struct id from = ended(r, BATCH_CANCELLED)->id;
    char body[256];

    snprintf(body, sizeof body, BODY("file-none", ",\"continue_from\":\"%s\""), from.z);
    EQ_INT(rig_post(r, "/v1/batches", body).status, 200);
    EQ_Z(last(r)->continue_from.z, from.z);
    rig_free(r);
}

TEST(what_cannot_be_continued_from_is_refused)
{
    static const struct {
        const char *what, *says;
    } rows[] = {
        {"unknown", "No batch found with id '"},
        {"foreign", "No batch found with id '"},
        {"running", "with status 'in_progress': it has not ended yet"},
        {"endpoint", "its endpoint is '/v1/embeddings', and this one's is '" CHAT "'"},
        {"input", "was deleted"},
        {"output", "was deleted"},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct rig *r = rig_new(NULL);
        struct batch *b = ended(r, BATCH_COMPLETED);
        struct id id = b->id;
        char body[256];
        struct reply re;

        t_row(rows[i].what);
        if (i == 0)
            id = (struct id){"batch_none"};
        else if (i == 1)
            b->project = (struct id){"other"};
        else if (i == 2)
            b->status = BATCH_IN_PROGRESS;
        else if (i == 3)
            b->endpoint = ENDPOINT_EMBEDDINGS;
        else
            r->m->files[i - 4].deleted = true;
        snprintf(body, sizeof body, BODY("file-none", ",\"continue_from\":\"%s\""), id.z);
        re = rig_post(r, "/v1/batches", body);
        EQ_REFUSED(re, 400, "invalid_request_error", "\"invalid_value\"",
                   "\"continue_from\"");
        OK(rig_has(re.body, rows[i].says));
        EQ_INT(r->m->n_batches, 1);
        rig_free(r);
    }
}

/* --- Retry ---------------------------------------------------------------------------
 */

TEST(a_retry_asks_for_the_same_again)
{
    static const enum batch_status statuses[] = {BATCH_COMPLETED, BATCH_EXPIRED,
                                                 BATCH_CANCELLED};

    for (size_t i = 0; i < COUNTOF(statuses); i++) {
        struct rig *r = rig_new(NULL);
        struct batch *from = ended(r, statuses[i]);
        struct reply re;

        t_row(batch_status_name(statuses[i]));
        re = rig_post(r, rig_path("/v1/batches/", &from->id, "/retry"), "");
        EQ_INT(re.status, 200);
        EQ_JSON(re, "status", "\"validating\"");
        EQ_JSON(re, "metadata", "{\"a\":\"b\"}");
        EQ_JSON(re, "completion_window", "\"24h\"");
        EQ_Z(last(r)->continue_from.z, from->id.z);
        EQ_Z(last(r)->input_file.z, from->input_file.z);
        EQ_INT(last(r)->priority, 4);
        EQ_INT(last(r)->output_expires_after, 7200);
        EQ_INT(last(r)->expires_at - last(r)->created_at, 86400);
        EQ_Z(r->engine.last.z, last(r)->id.z);

        re = rig_post(r, rig_path("/v1/batches/", &from->id, "/retry"),
                      "{\"completion_window\":\"2h\",\"metadata\":{}}");
        EQ_INT(re.status, 200);
        EQ_JSON(re, "metadata", "{}");
        EQ_INT(last(r)->expires_at - last(r)->created_at, 7200);
        EQ_INT(r->m->n_batches, 3);
        rig_free(r);
    }
}

TEST(what_cannot_be_retried_is_a_409_that_will_not_change)
{
    enum { RUNNING, FAILED, NOTHING, INPUT, OUTPUT, ROWS };
    static const char *const says[ROWS] = {
        [RUNNING] = "with status 'finalizing': it has not ended yet",
        [FAILED] = "its input was refused",
        [NOTHING] = "it has no line that failed",
        [INPUT] = "was deleted",
        [OUTPUT] = "was deleted",
    };

    for (int i = 0; i < ROWS; i++) {
        struct rig *r = rig_new(NULL);
        struct batch *from = ended(r, BATCH_COMPLETED);
        struct reply re;

        t_row(says[i]);
        if (i == RUNNING || i == FAILED)
            from->status = i == RUNNING ? BATCH_FINALIZING : BATCH_FAILED;
        else if (i == NOTHING)
            from->counts = (struct batch_counts){10, 10, 0};
        else
            r->m->files[i - INPUT].deleted = true;
        re = rig_post(r, rig_path("/v1/batches/", &from->id, "/retry"), "{}");
        EQ_REFUSED(re, 409, "invalid_request_error", "null", "null");
        EQ_STR(rig_header(&re, "x-should-retry"), STR("false"));
        OK(rig_has(re.body, says[i]));
        EQ_INT(r->m->n_batches, 1);
        rig_free(r);
    }
}

TEST(a_foreign_batch_cannot_be_told_from_an_unknown_one)
{
    struct rig *r = rig_new(NULL);
    struct batch *from = ended(r, BATCH_COMPLETED);
    struct id id = from->id;
    struct reply foreign, unknown;

    from->project = (struct id){"other"};
    foreign = rig_post(r, rig_path("/v1/batches/", &id, "/retry"), "{}");
    from->id = (struct id){"batch_gone"};
    unknown = rig_post(r, rig_path("/v1/batches/", &id, "/retry"), "{}");
    EQ_REFUSED(foreign, 404, "invalid_request_error", "null", "null");
    EQ_STR(foreign.body, unknown.body);
    EQ_INT(rig_post(r, "/v1/batches/%2e%2e/retry", "{}").status, 404);
    rig_free(r);
}

TEST(bad_bodies_of_a_retry_are_refused_by_name)
{
    static const struct {
        const char *body, *param;
    } rows[] = {
        {"[]", "null"},
        {"{", "null"},
        {"{\"completion_window\":\"99d\"}", "\"completion_window\""},
        {"{\"metadata\":7}", "\"metadata\""},
    };
    struct rig *r = rig_new(NULL);
    struct batch *from = ended(r, BATCH_COMPLETED);

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct reply re =
            rig_post(r, rig_path("/v1/batches/", &from->id, "/retry"), rows[i].body);

        t_row(rows[i].body);
        EQ_INT(re.status, 400);
        EQ_JSON(re, "error.param", rows[i].param);
    }
    EQ_INT(r->m->n_batches, 1);
    rig_free(r);
}

/* --- Dry run -------------------------------------------------------------------------
 */

#define DRY(requests) "{\"requests\":" requests ",\"endpoint\":\"" CHAT "\"}"

static bool tiny_only(void *ctx, struct str model)
{
    (void)ctx;
    return str_is(model, "tiny");
}

TEST(a_dry_run_tells_what_a_create_would_do_and_makes_nothing)
{
    struct rig *r = rig_new(NULL);
    struct reply re = rig_post(
        r, "/v1/batches/validate",
        DRY("[{\"custom_id\":\"a\",\"body\":{\"model\":\"tiny\",\"max_tokens\":5,"
            "\"messages\":[\"abcd\"]}},{\"custom_id\":\"b\",\"body\":{\"model\":\"tiny\","
            "\"max_tokens\":7,\"messages\":[]}}]"));

    EQ_INT(re.status, 200);
    EQ_STR(re.body,
           STR("{\"object\":\"batch.validation\",\"valid\":true,\"endpoint\":\"" CHAT
               "\",\"model\":\"tiny\",\"models\":[{\"model\":\"tiny\",\"requests\":2,"
               "\"known\":true}],\"request_counts\":{\"total\":2},\"errors\":null,"
               "\"estimate\":{\"input_tokens\":3,\"max_output_tokens\":12,"
               "\"input_bytes\":10,\"method\":\"" ESTIMATE_METHOD "\"}}"));
    EQ_INT(r->m->n_batches + r->m->n_files + r->m->n_blobs, 0);
    EQ_INT(atomic_load(&r->engine.submits), 0);
    rig_free(r);
}

TEST(a_dry_run_reports_bad_lines_and_unknown_models)
{
    struct rig *r = rig_new(NULL);
    struct reply re;

    r->engine.model_known = tiny_only;
    re = rig_post(r, "/v1/batches/validate",
                  DRY("[{\"custom_id\":\"a\",\"body\":{\"model\":\"big\"}},7,"
                      "{\"custom_id\":\"a\",\"body\":{\"model\":\"tiny\"}},"
                      "{\"custom_id\":\"c\",\"body\":{\"model\":\"tiny\"}},"
                      "{\"custom_id\":\"d\",\"body\":{}}]"));
    EQ_INT(re.status, 200);
    EQ_JSON(re, "valid", "false");
    EQ_JSON(re, "model", "\"tiny\"");
    EQ_JSON(re, "models",
            "[{\"model\":\"big\",\"requests\":1,\"known\":false},"
            "{\"model\":\"tiny\",\"requests\":2,\"known\":true},"
            "{\"model\":null,\"requests\":1,\"known\":true}]");
    EQ_JSON(re, "request_counts.total", "4");
    EQ_JSON(re, "errors.object", "\"list\"");
    OK(rig_has(re.body, "\"code\":\"model_not_found\""));
    OK(rig_has(re.body, "\"code\":\"invalid_json_line\""));
    OK(rig_has(re.body, "\"param\":\"custom_id\",\"line\":3"));
    EQ_JSON(re, "estimate.max_output_tokens", "null");
    rig_free(r);
}

TEST(a_dry_run_takes_a_file)
{
    struct rig *r = rig_new(NULL);
    struct reply re =
        rig_upload(r, "batch", "a.jsonl",
                   STR("{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"" CHAT
                       "\",\"body\":{}}"));
    struct id file = rig_id(&re);
    char body[256];

    snprintf(body, sizeof body, "{\"input_file_id\":\"%s\",\"endpoint\":\"" CHAT "\"}",
             file.z);
    re = rig_post(r, "/v1/batches/validate", body);
    EQ_JSON(re, "valid", "true");
    EQ_JSON(re, "model", "null");
    EQ_JSON(re, "request_counts.total", "1");
    snprintf(body, sizeof body,
             "{\"input_file_id\":\"%s\",\"endpoint\":\"/v1/embeddings\"}", file.z);
    re = rig_post(r, "/v1/batches/validate", body);
    EQ_JSON(re, "valid", "false");
    OK(rig_has(re.body, "\"code\":\"invalid_url\""));

    /* The same as the batch would say. */
    re = rig_post(r, "/v1/batches/validate",
                  "{\"input_file_id\":\"file-none\",\"endpoint\":\"" CHAT "\"}");
    EQ_INT(re.status, 200);
    EQ_JSON(re, "errors",
            "{\"object\":\"list\",\"data\":[{\"code\":\"invalid_request\",\"message\":"
            "\"Cannot find file file-none.\",\"param\":\"file_id\",\"line\":null}]}");
    r->m->files[0].rec.project = (struct id){"other"};
    snprintf(body, sizeof body, "{\"input_file_id\":\"%s\",\"endpoint\":\"" CHAT "\"}",
             file.z);
    OK(rig_has(rig_post(r, "/v1/batches/validate", body).body, "Cannot find file"));
    re = rig_upload(r, "user_data", "x", STR("x"));
    file = rig_id(&re);
    snprintf(body, sizeof body, "{\"input_file_id\":\"%s\",\"endpoint\":\"" CHAT "\"}",
             file.z);
    re = rig_post(r, "/v1/batches/validate", body);
    EQ_REFUSED(re, 400, "invalid_request_error", "\"invalid_value\"",
               "\"input_file_id\"");
    EQ_INT(rig_post(r, "/v1/batches/validate", "{}").status, 400);
    EQ_INT(r->m->n_batches, 0);
    rig_free(r);
}

static sem_t arrived, go;

static bool wait_and_know(void *ctx, struct str model)
{
    (void)ctx, (void)model;
    sem_post(&arrived);
    sem_wait(&go);
    return true;
}

static const char one_request[] =
    DRY("[{\"custom_id\":\"a\",\"body\":{\"model\":\"m\"}}]");

/* On a connection of its own; the reply is read by the test. */
static int dry_run_begin(struct rig *r)
{
    char head[256];
    int fd = rig_connect(r);

    snprintf(head, sizeof head,
             "POST /v1/batches/validate HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
             "Content-Length: %zu\r\n\r\n",
             strlen(one_request));
    rig_push(fd, str_of(head));
    rig_push(fd, str_of(one_request));
    return fd;
}

TEST(two_dry_runs_at_once_are_the_most)
{
    struct rig *r = rig_new(NULL);
    struct reply re;
    int fds[2];

    sem_init(&arrived, 0, 0);
    sem_init(&go, 0, 0);
    r->engine.model_known = wait_and_know;
    for (int i = 0; i < 2; i++) {
        fds[i] = dry_run_begin(r);
        sem_wait(&arrived);
    }
    re = rig_post(r, "/v1/batches/validate", one_request);
    EQ_REFUSED(re, 503, "server_error", "\"server_busy\"", "null");
    EQ_STR(rig_header(&re, "Retry-After"), STR("1"));
    for (int i = 0; i < 64; i++)
        sem_post(&go);
    for (int i = 0; i < 2; i++)
        EQ_INT(rig_pull(r, fds[i]).status, 200);
    EQ_INT(rig_post(r, "/v1/batches/validate", one_request).status, 200);
    rig_free(r);
}
