/* SPDX-License-Identifier: Apache-2.0 */
#include "base/limits.h"
#include "tests/unit/api/rig.h"

/* --- What is taken -------------------------------------------------------------------
 */

TEST(an_upload_answers_with_the_file_object)
{
    struct rig *r = rig_new(NULL);
    struct reply re = rig_upload(r, "batch", "in.jsonl", STR("{\"a\":1}\n")), again;
    struct id id = rig_id(&re);

    EQ_INT(re.status, 200);
    EQ_STR(rig_header(&re, "Content-Type"), STR("application/json"));
    OK(str_starts(id_str(&id), STR("file-")));
    EQ_JSON(re, "object", "\"file\"");
    EQ_JSON(re, "bytes", "8");
    EQ_JSON(re, "filename", "\"in.jsonl\"");
    EQ_JSON(re, "purpose", "\"batch\"");
    EQ_JSON(re, "status", "\"processed\"");
    EQ_JSON(re, "status_details", "null");
    EQ_JSON(re, "expires_at", "null");
    OK(rig_json(re.body, "created_at").n >= 10);
    again = rig_get(r, rig_path("/v1/files/", &id, ""));
    EQ_INT(again.status, 200);
    EQ_STR(again.body, re.body);
    rig_free(r);
}

TEST(bytes_come_back_as_they_were_sent)
{
    struct rig *r = rig_new(NULL);
    struct reply re;
    struct buf bytes;
    struct id id;

    buf_init(&bytes, 8u << 20);
    for (unsigned i = 0; bytes.n < (5u << 20); i++)
        (void)buf_fmt(&bytes, "line %u \r\n--xYzZ\xff%c\r\n--xYz\r\n\r", i,
                      (int)(i % 256));
    re = rig_upload(r, "assistants", "any.bin", buf_peek(&bytes));
    EQ_INT(re.status, 200);
    id = rig_id(&re);
    re = rig_get(r, rig_path("/v1/files/", &id, "/content"));
    EQ_INT(re.status, 200);
    EQ_STR(re.body, buf_peek(&bytes));
    buf_done(&bytes);
    rig_free(r);
}

TEST(head_of_a_file_tells_the_length_of_its_object)
{
    struct rig *r = rig_new(NULL);
    struct reply re = rig_upload(r, "batch", "in.jsonl", STR("{\"a\":1}\n")), head;
    struct id id = rig_id(&re);
    char length[24];

    snprintf(length, sizeof length, "%zu", re.body.n);
    head = rig_ask(r, "HEAD", rig_path("/v1/files/", &id, ""), "", (struct str){0});
    EQ_INT(head.status, 200);
    EQ_INT(head.body.n, 0);
    EQ_STR(rig_header(&head, "Content-Length"), str_of(length));
    EQ_STR(rig_header(&head, "Content-Type"), STR("application/json"));
    OK(rig_header(&head, "x-request-id").n > 4);
    head = rig_ask(r, "HEAD", "/v1/files/file-none", "", (struct str){0});
    EQ_INT(head.status, 404);
    EQ_INT(head.body.n, 0);
    rig_free(r);
}

/* In one row each: a part is NAME, filename or NULL, content. */
struct form_part {
    const char *name, *filename, *content;
};

static struct reply send_form(struct rig *r, const struct form_part *parts, size_t n)
{
    struct reply re;
    struct buf b;

    buf_init(&b, 1 << 20);
    for (size_t i = 0; i < n && parts[i].name; i++)
        form_add(&b, parts[i].name, parts[i].filename, str_of(parts[i].content));
    form_end(&b);
    re = rig_ask(r, "POST", "/v1/files", FORM_TYPE, buf_peek(&b));
    buf_done(&b);
    return re;
}

#define FILE_PART                                                                        \
    {                                                                                    \
        "file", "a.jsonl", "{}\n"                                                        \
    }
#define PURPOSE_PART                                                                     \
    {                                                                                    \
        "purpose", NULL, "batch"                                                         \
    }

TEST(good_forms_come_in_many_shapes)
{
    static const struct {
        const char *name;
        struct form_part parts[6];
        const char *purpose, *filename;
    } rows[] = {
        {"purpose first", {PURPOSE_PART, FILE_PART}, "batch", "a.jsonl"},
        {"purpose last", {FILE_PART, PURPOSE_PART}, "batch", "a.jsonl"},
        {"unknown fields",
         {{"x", NULL, "1"},
          FILE_PART,
          {"y", "y.bin", "data"},
          PURPOSE_PART,
          {"x", NULL, ""}},
         "batch",
         "a.jsonl"},
        {"upper case ending",
         {PURPOSE_PART, {"file", "A.JSONL", "{}"}},
         "batch",
         "A.JSONL"},
        {"other purposes take any name",
         {{"purpose", NULL, "user_data"}, {"file", "a.pdf", "x"}},
         "user_data",
         "a.pdf"},
        {"assistants",
         {{"purpose", NULL, "assistants"}, FILE_PART},
         "assistants",
         "a.jsonl"},
        {"fine-tune",
         {{"purpose", NULL, "fine-tune"}, FILE_PART},
         "fine-tune",
         "a.jsonl"},
        {"vision",
         {{"purpose", NULL, "vision"}, {"file", "a.png", "x"}},
         "vision",
         "a.png"},
        {"evals", {{"purpose", NULL, "evals"}, FILE_PART}, "evals", "a.jsonl"},
        {"a path stays a name",
         {PURPOSE_PART, {"file", "../../etc/x.jsonl", "{}"}},
         "batch",
         "../../etc/x.jsonl"},
        {"UTF-8",
         {PURPOSE_PART, {"file", "\xc3\xa9\xf0\x9f\x8e\x89.jsonl", "{}"}},
         "batch",
         "\xc3\xa9\xf0\x9f\x8e\x89.jsonl"},
        {"Latin-1 is made UTF-8",
         {PURPOSE_PART, {"file", "caf\xe9.jsonl", "{}"}},
         "batch",
         "caf\xef\xbf\xbd.jsonl"},
    };
    struct rig *r = rig_new(NULL);

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct reply re;
        struct file_rec f;
        struct id id;

        t_row(rows[i].name);
        re = send_form(r, rows[i].parts, COUNTOF(rows[i].parts));
        EQ_INT(re.status, 200);
        id = rig_id(&re);
        EQ_RC(mem_file_get(r->m, NULL, id.z, &f, NULL), RC_OK);
        EQ_Z(f.purpose, rows[i].purpose);
        EQ_Z(f.filename, rows[i].filename);
        mem_free(f.filename);
    }
    rig_free(r);
}

TEST(files_expire_as_the_form_or_the_server_says)
{
    static const struct {
        const char *name;
        struct form_part parts[4];
        int64_t after; /* 0: never */
    } rows[] = {
        {"batch by default", {PURPOSE_PART, FILE_PART}, 1000000},
        {"others never", {{"purpose", NULL, "evals"}, FILE_PART}, 0},
        {"the form wins",
         {PURPOSE_PART,
          FILE_PART,
          {"expires_after[anchor]", NULL, "created_at"},
          {"expires_after[seconds]", NULL, "3600"}},
         3600},
        {"thirty days",
         {{"expires_after[seconds]", NULL, "2592000"},
          {"expires_after[anchor]", NULL, "created_at"},
          {"purpose", NULL, "vision"},
          {"file", "a.png", "x"}},
         2592000},
    };
    struct api_opts o = {.file_expires = 1000000};
    struct rig *r = rig_new(&o);

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct reply re;
        struct file_rec f;
        struct id id;

        t_row(rows[i].name);
        re = send_form(r, rows[i].parts, COUNTOF(rows[i].parts));
        EQ_INT(re.status, 200);
        id = rig_id(&re);
        EQ_RC(mem_file_get(r->m, NULL, id.z, &f, NULL), RC_OK);
        EQ_INT(f.expires_at, rows[i].after ? f.created_at + rows[i].after : 0);
        mem_free(f.filename);
    }
    rig_free(r);
}

/* --- What is refused -----------------------------------------------------------------
 */

static void nothing_is_left(struct rig *r)
{
    EQ_INT(r->m->n_files, 0);
    EQ_INT(r->m->n_blobs, 0);
    EQ_INT(r->m->puts, 0);
}

static const struct {
    const char *name;
    struct form_part parts[5];
    const char *code, *param, *says;
} bad_forms[] = {
    {"no parts", {{0}}, "\"missing_required_parameter\"", "\"file\"", "'file'"},
    {"no file",
     {PURPOSE_PART},
     "\"missing_required_parameter\"",
     "\"file\"",
     "Missing required parameter: 'file'."},
    {"no purpose",
     {FILE_PART},
     "\"missing_required_parameter\"",
     "\"purpose\"",
     "Missing required parameter: 'purpose'."},
    {"two files", {PURPOSE_PART, FILE_PART, FILE_PART}, "null", "\"file\"", "more than"},
    {"two purposes",
     {PURPOSE_PART, FILE_PART, PURPOSE_PART},
     "null",
     "\"purpose\"",
     "more than one"},
    {"unknown purpose",
     {{"purpose", NULL, "fun"}, FILE_PART},
     "null",
     "\"purpose\"",
     "'fun' is not one of ['fine-tune', 'assistants', 'batch'"},
    {"unknown purpose after the file",
     {FILE_PART, {"purpose", NULL, "Batch"}},
     "null",
     "\"purpose\"",
     "'Batch' is not one of"},
    {"purpose of the server's own",
     {{"purpose", NULL, "batch_output"}, FILE_PART},
     "null",
     "\"purpose\"",
     "'batch_output' is not one of"},
    {"empty purpose", {{"purpose", NULL, ""}, FILE_PART}, "null", "\"purpose\"", "''"},
    {"not a .jsonl",
     {PURPOSE_PART, {"file", "a.json", "{}"}},
     "null",
     "\"file\"",
     "Invalid file format for Batch API. Must be .jsonl"},
    {"not a .jsonl, purpose last",
     {{"file", "jsonl", "{}"}, PURPOSE_PART},
     "null",
     "\"file\"",
     "Must be .jsonl"},
    {"empty file",
     {PURPOSE_PART, {"file", "a.jsonl", ""}},
     "null",
     "\"file\"",
     "The file is empty."},
    {"no filename", {PURPOSE_PART, {"file", NULL, "{}"}}, "null", "\"file\"", "filename"},
    {"empty filename",
     {PURPOSE_PART, {"file", "", "{}"}},
     "null",
     "\"file\"",
     "filename"},
    {"an escape in the filename",
     {PURPOSE_PART, {"file", "a\x1b[2J.jsonl", "{}"}},
     "null",
     "null",
     "not a well-formed multipart form"},
    {"an encoded line feed in the filename",
     {PURPOSE_PART, {"file", "a\"; filename*=UTF-8''a%0Ab.jsonl; z=\"", "{}"}},
     "null",
     "null",
     "not a well-formed multipart form"},
    {"anchor alone",
     {PURPOSE_PART, FILE_PART, {"expires_after[anchor]", NULL, "created_at"}},
     "\"missing_required_parameter\"",
     "\"expires_after[seconds]\"",
     "seconds"},
    {"seconds alone",
     {PURPOSE_PART, FILE_PART, {"expires_after[seconds]", NULL, "3600"}},
     "\"missing_required_parameter\"",
     "\"expires_after[anchor]\"",
     "anchor"},
    {"another anchor",
     {PURPOSE_PART, FILE_PART, {"expires_after[anchor]", NULL, "now"}},
     "\"invalid_value\"",
     "\"expires_after[anchor]\"",
     "'created_at'"},
    {"too short an expiry",
     {PURPOSE_PART, FILE_PART, {"expires_after[seconds]", NULL, "3599"}},
     "\"integer_below_min_value\"",
     "\"expires_after[seconds]\"",
     "3600"},
    {"too long an expiry",
     {PURPOSE_PART, FILE_PART, {"expires_after[seconds]", NULL, "2592001"}},
     "\"integer_above_max_value\"",
     "\"expires_after[seconds]\"",
     "2592000"},
    {"an expiry beyond numbers",
     {PURPOSE_PART,
      FILE_PART,
      {"expires_after[seconds]", NULL, "99999999999999999999999"}},
     "\"integer_above_max_value\"",
     "\"expires_after[seconds]\"",
     "2592000"},
    {"an expiry that is no number",
     {PURPOSE_PART, FILE_PART, {"expires_after[seconds]", NULL, "-5"}},
     "\"invalid_type\"",
     "\"expires_after[seconds]\"",
     "whole number"},
};

TEST(bad_forms_are_refused_and_leave_nothing)
{
    struct rig *r = rig_new(NULL);

    for (size_t i = 0; i < COUNTOF(bad_forms); i++) {
        struct reply re;

        t_row(bad_forms[i].name);
        re = send_form(r, bad_forms[i].parts, COUNTOF(bad_forms[i].parts));
        EQ_INT(re.status, 400);
        EQ_JSON(re, "error.type", "\"invalid_request_error\"");
        EQ_JSON(re, "error.code", bad_forms[i].code);
        EQ_JSON(re, "error.param", bad_forms[i].param);
        if (!rig_has(re.body, bad_forms[i].says))
            FAIL("\"%.*s\" does not say \"%s\"", STR_ARG(re.body), bad_forms[i].says);
        nothing_is_left(r);
    }
    rig_free(r);
}

TEST(bodies_that_are_no_form_are_refused)
{
    static const struct {
        const char *name, *headers, *body;
    } rows[] = {
        {"nothing", "", ""},
        {"no body, right type", FORM_TYPE, ""},
        {"JSON", "Content-Type: application/json\r\n", "{\"purpose\":\"batch\"}"},
        {"urlencoded", "Content-Type: application/x-www-form-urlencoded\r\n",
         "purpose=batch"},
        {"no boundary", "Content-Type: multipart/form-data\r\n", "--x\r\n\r\n--x--\r\n"},
        {"other boundary", FORM_TYPE, "--other\r\n\r\n\r\n--other--\r\n"},
        {"cut off in a head", FORM_TYPE, "--xYzZY\r\nContent-Disposition: form-da"},
        {"cut off in a file", FORM_TYPE,
         "--xYzZY\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n"
         "--xYzZY\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.jsonl\""
         "\r\n\r\n{}\n"},
        {"no closing boundary", FORM_TYPE,
         "--xYzZY\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n"
         "--xYzZY\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.jsonl\""
         "\r\n\r\n{}\n\r\n--xYzZY"},
    };
    struct rig *r = rig_new(NULL);

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct reply re;

        t_row(rows[i].name);
        re = rig_ask(r, "POST", "/v1/files", rows[i].headers, str_of(rows[i].body));
        EQ_INT(re.status, 400);
        EQ_JSON(re, "error.type", "\"invalid_request_error\"");
        nothing_is_left(r);
    }
    rig_free(r);
}

TEST(a_file_over_the_limit_answers_413_however_it_is_sent)
{
    struct api_opts o = {.max_file_bytes = 100000};
    struct rig *r = rig_new(&o);
    struct reply re;
    struct buf bytes;

    buf_init(&bytes, 1 << 20);
    while (bytes.n < 100000)
        (void)buf_char(&bytes, 'x');
    t_row("just the limit");
    re = rig_upload(r, "batch", "a.jsonl", buf_peek(&bytes));
    EQ_INT(re.status, 200);
    EQ_INT(r->m->n_files, 1);

    t_row("a byte more");
    (void)buf_char(&bytes, 'x');
    re = rig_upload(r, "batch", "a.jsonl", buf_peek(&bytes));
    EQ_REFUSED(re, 413, "invalid_request_error", "\"file_too_large\"", "\"file\"");
    EQ_INT(r->m->n_files, 1);

    t_row("far more: refused at the head");
    re = rig_ask(r, "POST", "/v1/files", FORM_TYPE "Content-Length: 1000000\r\n",
                 (struct str){0});
    EQ_REFUSED(re, 413, "invalid_request_error", "\"file_too_large\"", "\"file\"");
    EQ_JSON(re, "error.message",
            "\"The file is larger than 100000 bytes, the most that this server takes.\"");
    EQ_INT(r->m->n_files, 1);
    EQ_INT(r->m->n_blobs, 1);
    buf_done(&bytes);
    rig_free(r);
}

TEST(a_chunked_upload_is_taken_piece_by_piece)
{
    struct rig *r = rig_new(NULL);
    struct reply re;
    struct buf form, sent;

    buf_init(&form, 1 << 20);
    form_add(&form, "file", "a.jsonl", STR("{\"custom_id\":\"1\"}\n"));
    form_add(&form, "purpose", NULL, STR("batch"));
    form_end(&form);
    buf_init(&sent, 1 << 20);
    (void)buf_z(&sent, "POST /v1/files HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                       "Transfer-Encoding: chunked\r\n" FORM_TYPE "\r\n");
    for (size_t i = 0; i < form.n; i++)
        (void)buf_fmt(&sent, "1\r\n%c\r\n", form.p[i]);
    (void)buf_z(&sent, "0\r\n\r\n");
    re = rig_send(r, buf_peek(&sent));
    EQ_INT(re.status, 200);
    EQ_JSON(re, "bytes", "18");
    buf_done(&form);
    buf_done(&sent);
    rig_free(r);
}

TEST(a_long_filename_is_refused_not_cut)
{
    struct rig *r = rig_new(NULL);
    char name[LIMIT_FILENAME + 2];

    memset(name, 'a', sizeof name);
    memcpy(name + LIMIT_FILENAME - 6, ".jsonl", 7);
    EQ_INT(rig_upload(r, "batch", name, STR("{}")).status, 200);
    memset(name, 'a', sizeof name);
    memcpy(name + LIMIT_FILENAME - 5, ".jsonl", 7);
    EQ_INT(rig_upload(r, "batch", name, STR("{}")).status, 400);
    EQ_INT(r->m->n_files, 1);
    rig_free(r);
}

/* --- What fails below ----------------------------------------------------------------
 */

TEST(an_upload_that_fails_below_is_not_there)
{
    enum step { PUT, WRITE, COMMIT, ROW };
    static const struct {
        const char *name;
        enum step step;
        enum rc rc;
        int status;
        size_t blobs_left;
    } rows[] = {
        {"no temporary file: full", PUT, RC_NOSPACE, 503, 0},
        {"no temporary file: broken", PUT, RC_IO, 500, 0},
        {"full while writing", WRITE, RC_NOSPACE, 503, 0},
        {"broken while writing", WRITE, RC_IO, 500, 0},
        {"full at the sync", COMMIT, RC_NOSPACE, 503, 0},
        {"broken at the sync", COMMIT, RC_IO, 500, 0},
        {"no room for the row", ROW, RC_NOSPACE, 503, 0},
        /* The row may be on disk: its bytes stay for the collection of strays. */
        {"store died over the row", ROW, RC_IO, 500, 1},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct rig *r = rig_new(NULL);
        enum rc *fail[] = {&r->m->fail_put, &r->m->fail_write, &r->m->fail_commit,
                           &r->m->fail_file_add};
        struct reply re;

        t_row(rows[i].name);
        *fail[rows[i].step] = rows[i].rc;
        re = rig_upload(r, "batch", "a.jsonl", STR("{}\n"));
        EQ_INT(re.status, rows[i].status);
        EQ_JSON(re, "error.type", "\"server_error\"");
        OK(!rig_has(re.body, "fails")); /* the inside stays inside */
        OK(!!rig_header(&re, "Retry-After").p == (rows[i].status == 503));
        EQ_INT(r->m->n_files, 0);
        EQ_INT(r->m->n_blobs, rows[i].blobs_left);
        EQ_INT(r->m->puts, 0);
        *fail[rows[i].step] = RC_OK;
        EQ_INT(rig_upload(r, "batch", "a.jsonl", STR("{}\n")).status, 200);
        rig_free(r);
    }
}

/* At least n blobs were begun, and none is under way. */
static bool settled(struct rig *r, int n)
{
    return atomic_load(&r->m->begun) >= n && atomic_load(&r->m->puts) == 0;
}

TEST(a_client_that_goes_away_leaves_nothing)
{
    enum { ROUNDS = 30 }; /* the file and what is behind it have 31 bytes */
    struct rig *r;
    struct buf form, sent;

    /* An end of the connection that comes along with the last bytes is noticed by the
     * server's idle limit only. */
    rig_idle_seconds = 1;
    r = rig_new(NULL);
    buf_init(&form, 1 << 20);
    form_add(&form, "purpose", NULL, STR("batch"));
    form_add(&form, "file", "a.jsonl", STR("{\"custom_id\":\"1\"}\n"));
    form_end(&form);
    buf_init(&sent, 1 << 20);
    (void)buf_fmt(&sent,
                  "POST /v1/files HTTP/1.1\r\nHost: x\r\n" FORM_TYPE
                  "Content-Length: %zu\r\n\r\n",
                  form.n);
    (void)buf_str(&sent, buf_peek(&form));
    /* Cut at every length from inside the file to one byte before the end. */
    for (size_t cut = sent.n - ROUNDS; cut < sent.n; cut++) {
        int fd = rig_connect(r);

        rig_push(fd, (struct str){sent.p, cut});
        if (cut % 2) /* a reset instead of a friendly end */
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0},
                       sizeof(struct linger));
        close(fd);
    }
    /* What a reset cut off may never be read, so only the friendly ones are sure to have
     * begun. */
    for (int i = 0; i < 1000 && !settled(r, ROUNDS / 2); i++)
        usleep(10000);
    OK(settled(r, ROUNDS / 2));
    rig_stop(r);
    nothing_is_left(r);
    buf_done(&form);
    buf_done(&sent);
    rig_free(r);
}

/* --- Lists ---------------------------------------------------------------------------
 */

static void upload_many(struct rig *r, struct id *ids, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct reply re =
            rig_upload(r, i % 2 ? "batch" : "user_data", "a.jsonl", STR("{}"));

        ids[i] = rig_id(&re);
    }
}

/* The ids of a list in order, as positions in ids, "0 1 2". */
static void positions(const struct reply *re, const struct id *ids, unsigned n, char *ret,
                      size_t cap)
{
    struct json_val data = {.type = JSON_ARRAY, .raw = rig_json(re->body, "data")}, v;
    struct json_iter it = json_iter(&data);
    struct str key;
    size_t len = 0;

    ret[0] = '\0';
    while (json_next(&it, &key, &v)) {
        struct str id = rig_json(v.raw, "id");
        unsigned i = 0;

        while (i < n && !json_str_is(id, id_str(&ids[i])))
            i++;
        len += (size_t)snprintf(ret + len, cap - len, "%s%u", len ? " " : "", i);
    }
}

TEST(files_are_listed_in_pages)
{
    static const struct {
        const char *query;
        int after; /* index; -1 none */
        const char *want;
        bool more;
    } rows[] = {
        {"?", -1, "5 4 3 2 1 0", false},
        {"?limit=", -1, "5 4 3 2 1 0", false},
        {"?order=asc&limit=10000", -1, "0 1 2 3 4 5", false},
        {"?order=desc&limit=2", -1, "5 4", true},
        {"?limit=2&after=", 4, "3 2", true},
        {"?limit=2&after=", 2, "1 0", false},
        {"?limit=2&after=", 0, "", false},
        {"?order=asc&after=", 3, "4 5", false},
        {"?purpose=batch", -1, "5 3 1", false},
        {"?purpose=user_data&limit=2", -1, "4 2", true},
        {"?purpose=nothing", -1, "", false},
        {"?purpose=", -1, "5 4 3 2 1 0", false},
        {"?unknown=1", -1, "5 4 3 2 1 0", false},
    };
    struct rig *r = rig_new(NULL);
    struct id ids[6];

    upload_many(r, ids, COUNTOF(ids));
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        char target[256], got[64];
        struct reply re;

        t_row(rows[i].query);
        snprintf(target, sizeof target, "/v1/files%s%s", rows[i].query,
                 rows[i].after < 0 ? "" : ids[rows[i].after].z);
        re = rig_get(r, target);
        EQ_INT(re.status, 200);
        EQ_JSON(re, "object", "\"list\"");
        EQ_JSON(re, "has_more", rows[i].more ? "true" : "false");
        positions(&re, ids, COUNTOF(ids), got, sizeof got);
        EQ_Z(got, rows[i].want);
        if (!rows[i].want[0]) {
            EQ_JSON(re, "first_id", "null");
            EQ_JSON(re, "last_id", "null");
        } else {
            struct id first = ids[got[0] - '0'], last = ids[got[strlen(got) - 1] - '0'];

            OK(json_str_is(rig_json(re.body, "first_id"), id_str(&first)));
            OK(json_str_is(rig_json(re.body, "last_id"), id_str(&last)));
        }
    }
    rig_free(r);
}

TEST(bad_list_parameters_are_refused_by_name)
{
    static const struct {
        const char *query, *code, *param;
    } rows[] = {
        {"?limit=0", "\"integer_below_min_value\"", "\"limit\""},
        {"?limit=10001", "\"integer_above_max_value\"", "\"limit\""},
        {"?limit=99999999999999999999", "\"integer_above_max_value\"", "\"limit\""},
        {"?limit=-1", "\"invalid_type\"", "\"limit\""},
        {"?limit=ten", "\"invalid_type\"", "\"limit\""},
        {"?limit=1.0", "\"invalid_type\"", "\"limit\""},
        {"?limit=%2010", "\"invalid_type\"", "\"limit\""},
        {"?order=up", "\"invalid_value\"", "\"order\""},
        {"?after=file-none", "\"invalid_value\"", "\"after\""},
        {"?after=..%2F..%2Fx", "\"invalid_value\"", "\"after\""},
    };
    struct rig *r = rig_new(NULL);

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        char target[256];
        struct reply re;

        t_row(rows[i].query);
        snprintf(target, sizeof target, "/v1/files%s", rows[i].query);
        re = rig_get(r, target);
        EQ_INT(re.status, 400);
        EQ_JSON(re, "error.code", rows[i].code);
        EQ_JSON(re, "error.param", rows[i].param);
    }
    rig_free(r);
}

/* --- Delete --------------------------------------------------------------------------
 */

TEST(a_deleted_file_is_gone_for_clients)
{
    struct rig *r = rig_new(NULL);
    struct reply re = rig_upload(r, "batch", "a.jsonl", STR("{}"));
    struct id id = rig_id(&re);
    char want[128];

    re = rig_ask(r, "DELETE", rig_path("/v1/files/", &id, ""), "", (struct str){0});
    EQ_INT(re.status, 200);
    snprintf(want, sizeof want, "{\"id\":\"%s\",\"object\":\"file\",\"deleted\":true}",
             id.z);
    EQ_STR(re.body, str_of(want));

    re = rig_ask(r, "DELETE", rig_path("/v1/files/", &id, ""), "", (struct str){0});
    EQ_REFUSED(re, 404, "invalid_request_error", "null", "\"id\"");
    snprintf(want, sizeof want, "\"No such File object: %s\"", id.z);
    EQ_JSON(re, "error.message", want);
    EQ_INT(rig_get(r, rig_path("/v1/files/", &id, "")).status, 404);
    EQ_INT(rig_get(r, rig_path("/v1/files/", &id, "/content")).status, 404);
    OK(!rig_has(rig_get(r, "/v1/files").body, id.z));
    rig_free(r);
}

TEST(a_store_that_fails_is_a_500_that_tells_nothing)
{
    struct rig *r = rig_new(NULL);
    struct reply re;

    r->m->fail_file_get = RC_IO;
    re = rig_get(r, "/v1/files/file-1");
    EQ_REFUSED(re, 500, "server_error", "null", "null");
    OK(!rig_has(re.body, "file_get"));
    rig_free(r);
}
