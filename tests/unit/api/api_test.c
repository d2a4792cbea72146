/* SPDX-License-Identifier: Apache-2.0 */
#include "base/limits.h"
#include "tests/unit/api/rig.h"

TEST(unknown_routes_answer_404_in_the_error_envelope)
{
    static const struct {
        const char *method, *target;
    } rows[] = {
        {"GET", "/v1"},
        {"GET", "/v2/files"},
        {"GET", "/files"},
        {"GET", "/v1/filesystem"},
        {"GET", "/v1/files/a/b"},
        {"GET", "/v1/files/a/content/b"},
        {"GET", "/v1/files/a%2Fb"},
        {"GET", "/v1/files//content"},
        {"GET", "//v1/files"},
        {"GET", "/v1//files"},
        {"GET", "/v1/files//"},
        {"GET", "/V1/files"},
        {"GET", "/v1/batches/x/cancel/y"},
        {"POST", "/v1/chat/completions"},
        {"DELETE", "/v1/fine_tuning/jobs"},
        {"GET", "/etc/passwd"},
        {"GET", "/../../etc/passwd"},
        {"GET", "/v1/files/../batches"},
        {"GET", "/healthz/x"},
        {"GET", "/v1/%00files"},
        {"BREW", "/coffee"},
    };
    struct rig *r = rig_new(NULL);

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct reply re;

        t_row(rows[i].target);
        re = rig_ask(r, rows[i].method, rows[i].target, "", (struct str){0});
        if (re.status == 400) { /* the server's own: a NUL in a path is no path */
            EQ_Z(rows[i].target, "/v1/%00files");
            EQ_JSON(re, "error.type", "\"invalid_request_error\"");
            continue;
        }
        EQ_REFUSED(re, 404, "invalid_request_error", "\"unknown_url\"", "null");
        OK(rig_has(re.body, rows[i].method));
    }
    rig_free(r);
}

TEST(a_known_path_with_another_method_answers_405_with_allow)
{
    static const struct {
        const char *method, *target, *allow;
    } rows[] = {
        {"PUT", "/v1/files", "POST, GET, HEAD"},
        {"DELETE", "/v1/files/", "POST, GET, HEAD"},
        {"POST", "/v1/files/file-1", "GET, HEAD, DELETE"},
        {"PATCH", "/v1/files/file-1/content", "GET, HEAD"},
        {"DELETE", "/v1/batches", "POST, GET, HEAD"},
        {"DELETE", "/v1/batches/batch_1", "GET, HEAD, POST"},
        {"GET", "/v1/batches/batch_1/cancel", "POST"},
        {"HEAD", "/v1/batches/batch_1/cancel", "POST"},
        {"DELETE", "/v1/models/a/b", "GET, HEAD"},
        {"POST", "/healthz", "GET, HEAD"},
        {"OPTIONS", "/", "GET, HEAD"},
        {"get", "/v1/files", "POST, GET, HEAD"},
    };
    struct rig *r = rig_new(NULL);

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct reply re;

        t_row(rows[i].target);
        re = rig_ask(r, rows[i].method, rows[i].target, "", (struct str){0});
        EQ_INT(re.status, 405);
        EQ_STR(rig_header(&re, "Allow"), str_of(rows[i].allow));
        if (strcmp(rows[i].method, "HEAD") != 0)
            EQ_REFUSED(re, 405, "invalid_request_error", "\"method_not_supported\"",
                       "null");
    }
    rig_free(r);
}

TEST(a_trailing_slash_is_the_same_route)
{
    static const char *const targets[] = {
        "/v1/files/", "/v1/batches/", "/v1/batches/?limit=1", "/v1/models/", "/healthz/",
        "/readyz/",   "/metrics/",    "/v1/models/tiny/",
    };
    struct rig *r = rig_new(NULL);

    for (size_t i = 0; i < COUNTOF(targets); i++) {
        t_row(targets[i]);
        EQ_INT(rig_get(r, targets[i]).status, 200);
    }
    rig_free(r);
}

TEST(every_answer_carries_the_headers_of_the_real_api)
{
    static const struct {
        const char *method, *target;
    } rows[] = {{"GET", "/v1/files"},      {"GET", "/v1/nothing"},
                {"GET", "/v1/files/x"},    {"POST", "/v1/batches"},
                {"GET", "/healthz"},       {"GET", "/"},
                {"HEAD", "/v1/batches"},   {"PUT", "/v1/files"},
                {"DELETE", "/v1/files/x"}, {"GET", "/v1/files/x/content"}};
    struct rig *r = rig_new(NULL);

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct reply re;
        uint64_t ms;

        t_row(rows[i].target);
        re = rig_ask(r, rows[i].method, rows[i].target, "", (struct str){0});
        EQ_STR(rig_header(&re, "openai-version"), STR("2020-10-01"));
        OK(str_starts(rig_header(&re, "x-request-id"), STR("req_")));
        EQ_RC(str_u64(rig_header(&re, "openai-processing-ms"), &ms), RC_OK);
        OK(ms < 10000);
    }
    rig_free(r);
}

TEST(head_answers_with_the_head_of_get)
{
    static const char *const targets[] = {"/v1/files",   "/v1/batches", "/v1/models",
                                          "/v1/files/x", "/healthz",    "/"};
    struct rig *r = rig_new(NULL);

    for (size_t i = 0; i < COUNTOF(targets); i++) {
        struct reply get = rig_get(r, targets[i]), head;

        t_row(targets[i]);
        head = rig_ask(r, "HEAD", targets[i], "", (struct str){0});
        EQ_INT(head.status, get.status);
        EQ_INT(head.body.n, 0);
        EQ_STR(rig_header(&head, "Content-Length"), rig_header(&get, "Content-Length"));
        EQ_STR(rig_header(&head, "Content-Type"), rig_header(&get, "Content-Type"));
    }
    rig_free(r);
}

/* Every byte a path can hold, percent-encoded, in ids of growing length.  The server
 * takes no control bytes in a path. */
TEST(a_thousand_odd_ids_are_simply_unknown)
{
    struct rig *r = rig_new(NULL);

    for (unsigned i = 0; i < 1000; i++) {
        struct reply re;
        struct buf target;
        char *z;

        buf_init(&target, 1 << 16);
        (void)buf_z(&target, i % 2 ? "/v1/files/" : "/v1/batches/");
        for (unsigned k = 0; k <= i % 97; k++) {
            unsigned c = 0x20 + (i * 7 + k * 13) % 0xe0;

            if (c == '/' || c == 0x7f)
                c = '.';
            (void)buf_fmt(&target, "%%%02X", c);
        }
        z = buf_take(&target, NULL);
        re = rig_get(r, z);
        mem_free(z);
        EQ_REFUSED(re, 404, "invalid_request_error", "null", i % 2 ? "\"id\"" : "null");
        OK(rig_has(re.body,
                   i % 2 ? "No such File object: " : "No batch found with id '"));
    }
    rig_free(r);
}

TEST(an_id_of_ten_kilobytes_is_unknown_too)
{
    static const char *const before[] = {"/v1/files/", "/v1/batches/"};
    struct rig *r = rig_new(NULL);

    for (size_t i = 0; i < COUNTOF(before); i++) {
        char target[10100];
        struct reply re;

        memset(target, 'a', sizeof target);
        memcpy(target, before[i], strlen(before[i]));
        target[sizeof target - 1] = '\0';
        re = rig_get(r, target);
        EQ_INT(re.status, 404);
        EQ_JSON(re, "error.type", "\"invalid_request_error\"");
    }
    rig_free(r);
}

TEST(a_compressed_body_is_refused)
{
    struct rig *r = rig_new(NULL);
    struct reply re =
        rig_ask(r, "POST", "/v1/batches", "Content-Encoding: gzip\r\n", STR("\x1f\x8b"));

    EQ_REFUSED(re, 415, "invalid_request_error", "\"unsupported_content_encoding\"",
               "null");
    re = rig_ask(r, "POST", "/v1/files", FORM_TYPE "Content-Encoding: br\r\n", STR("x"));
    EQ_INT(re.status, 415);
    re = rig_ask(r, "POST", "/v1/batches", "Content-Encoding: identity\r\n", STR("{}"));
    EQ_INT(re.status, 400);
    rig_free(r);
}

TEST(the_servers_own_refusals_come_in_the_envelope)
{
    static const struct {
        const char *path;
        unsigned most;
    } rows[] = {
        {"/v1/batches", 16u << 20}, /* it may hold requests */
        {"/v1/batches/validate", 16u << 20},
        {"/v1/batches/batch_x/retry", LIMIT_API_BODY},
    };
    struct rig *r = rig_new(NULL);

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct reply re;
        char head[200];

        t_row(rows[i].path);
        CHECK(str_fmt(head, sizeof head,
                      "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %u\r\n"
                      "Connection: close\r\n\r\n",
                      rows[i].path, rows[i].most + 1) == RC_OK);
        re = rig_send(r, str_of(head));
        EQ_REFUSED(re, 413, "invalid_request_error", "\"request_too_large\"", "null");
    }
    rig_free(r);
}

/* --- Models --------------------------------------------------------------------------
 */

TEST(models_are_those_of_the_engine)
{
    struct rig *r = rig_new(NULL);
    struct reply re = rig_get(r, "/v1/models");

    EQ_INT(re.status, 200);
    EQ_JSON(re, "object", "\"list\"");
    OK(rig_has(re.body, "\"id\":\"tiny\""));
    OK(rig_has(re.body, "Llama-3.1-8B-Instruct"));

    /* SDKs send the slash of a name as it is or encoded. */
    re = rig_get(r, "/v1/models/meta-llama/Llama-3.1-8B-Instruct");
    EQ_INT(re.status, 200);
    EQ_JSON(re, "object", "\"model\"");
    EQ_JSON(re, "owned_by", "\"vllm\""); /* as the upstream tells it */
    EQ_JSON(re, "created", "1700000001");
    re = rig_get(r, "/v1/models/gpt-4o-mini"); /* an alias */
    EQ_JSON(re, "owned_by", "\"batchd\"");
    re = rig_get(r, "/v1/models/meta-llama%2FLlama-3.1-8B-Instruct");
    EQ_INT(re.status, 200);

    re = rig_get(r, "/v1/models/meta-llama");
    EQ_REFUSED(re, 404, "invalid_request_error", "\"model_not_found\"", "\"model\"");
    OK(rig_has(re.body, "The model 'meta-llama' does not exist"));
    rig_free(r);
}

/* --- Operators -----------------------------------------------------------------------
 */

TEST(health_is_told_apart_from_readiness)
{
    struct rig *r = rig_new(NULL);
    struct reply re;

    EQ_INT(rig_get(r, "/healthz").status, 200);
    re = rig_get(r, "/readyz");
    EQ_INT(re.status, 200);
    EQ_JSON(re, "status", "\"ok\"");

    r->engine.recovering = true;
    re = rig_get(r, "/readyz");
    EQ_INT(re.status, 503);
    EQ_JSON(re, "status", "\"unavailable\"");
    OK(rig_has(re.body, "recovered"));
    OK(rig_header(&re, "Retry-After").p);
    EQ_INT(rig_get(r, "/healthz").status, 200);
    r->engine.recovering = false;

    r->m->fail_file_known = RC_IO;
    re = rig_get(r, "/readyz");
    EQ_INT(re.status, 503);
    EQ_JSON(re, "reason", "\"the ledger is gone\"");
    r->m->fail_file_known = RC_OK;

    EQ_INT(rig_get(r, "/readyz").status, 200);
    api_refuse(r->api, "a sync of the results log failed");
    api_refuse(r->api, "something later");
    re = rig_get(r, "/readyz");
    EQ_INT(re.status, 503);
    EQ_JSON(re, "reason", "\"a sync of the results log failed\"");
    EQ_INT(rig_get(r, "/healthz").status, 200);
    rig_free(r);
}

TEST(a_refusing_api_takes_nothing_new_and_still_answers_gets)
{
    static const char *const gets[] = {"/v1/files", "/v1/batches", "/v1/models",
                                       "/healthz",  "/metrics",    "/"};
    struct rig *r = rig_new(NULL);
    struct reply re = rig_upload(r, "batch", "a.jsonl", STR("{}\n"));
    struct id file = rig_id(&re);

    api_refuse(r->api, "the disk is broken");
    for (size_t i = 0; i < COUNTOF(gets); i++) {
        t_row(gets[i]);
        EQ_INT(rig_get(r, gets[i]).status, 200);
    }
    EQ_INT(rig_get(r, rig_path("/v1/files/", &file, "/content")).status, 200);
    t_row("writes");
    re = rig_upload(r, "batch", "b.jsonl", STR("{}\n"));
    EQ_REFUSED(re, 503, "server_error", "\"server_unavailable\"", "null");
    OK(rig_header(&re, "Retry-After").p);
    OK(rig_has(re.body, "the disk is broken"));
    EQ_INT(rig_post(r, "/v1/batches", "{}").status, 503);
    EQ_INT(rig_post(r, "/v1/batches/x/cancel", "").status, 503);
    EQ_INT(rig_ask(r, "DELETE", rig_path("/v1/files/", &file, ""), "", (struct str){0})
               .status,
           503);
    EQ_INT(r->m->n_files, 1);
    EQ_INT(r->m->n_blobs, 1);
    rig_free(r);
}

TEST(an_upload_under_way_when_the_api_starts_to_refuse_is_not_stored)
{
    struct rig *r = rig_new(NULL);
    struct reply re;
    struct buf form, head;
    int fd;

    buf_init(&form, 1 << 16);
    form_add(&form, "purpose", NULL, STR("batch"));
    form_add(&form, "file", "a.jsonl", STR("{}\n"));
    form_end(&form);
    buf_init(&head, 1 << 16);
    (void)buf_fmt(&head,
                  "POST /v1/files HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" FORM_TYPE
                  "Content-Length: %zu\r\n\r\n",
                  form.n);
    fd = rig_connect(r);
    rig_push(fd, buf_peek(&head));
    rig_push(fd, (struct str){form.p, form.n - 1});
    while (atomic_load(&r->m->begun) == 0)
        usleep(1000);
    api_refuse(r->api, "the disk is broken");
    rig_push(fd, (struct str){form.p + form.n - 1, 1});
    re = rig_pull(r, fd);
    EQ_REFUSED(re, 503, "server_error", "\"server_unavailable\"", "null");
    rig_stop(r);
    EQ_INT(r->m->n_files, 0);
    EQ_INT(r->m->n_blobs, 0);
    buf_done(&form);
    buf_done(&head);
    rig_free(r);
}

TEST(metrics_count_answers_by_route_and_status)
{
    struct rig *r = rig_new(NULL);
    struct reply re;

    rig_get(r, "/v1/files");
    rig_get(r, "/v1/files");
    rig_get(r, "/v1/files/x");
    rig_get(r, "/nowhere");
    rig_upload(r, "batch", "a.jsonl", STR("12345"));
    re = rig_get(r, "/metrics");
    EQ_INT(re.status, 200);
    OK(str_starts(rig_header(&re, "Content-Type"), STR("text/plain; version=0.0.4")));
    OK(rig_has(re.body, "# TYPE batchd_http_requests_total counter\n"));
    OK(rig_has(re.body, "{method=\"GET\",route=\"/v1/files\",code=\"200\"} 2\n"));
    OK(rig_has(re.body, "{method=\"GET\",route=\"/v1/files/{id}\",code=\"404\"} 1\n"));
    OK(rig_has(re.body, "{method=\"POST\",route=\"/v1/files\",code=\"200\"} 1\n"));
    OK(rig_has(re.body, "{method=\"\",route=\"\",code=\"404\"} 1\n"));
    OK(rig_has(re.body, "\nbatchd_uploaded_bytes_total 5\n"));
    OK(rig_has(re.body, "\nbatchd_engine_submits 0\n"));
    rig_free(r);
}

TEST(the_root_says_what_this_is)
{
    struct rig *r = rig_new(NULL);
    struct reply re = rig_get(r, "/");

    EQ_INT(re.status, 200);
    OK(str_starts(rig_header(&re, "Content-Type"), STR("text/plain")));
    OK(rig_has(re.body, "/v1"));
    rig_free(r);
}
