/* SPDX-License-Identifier: Apache-2.0 */
#include "base/limits.h"
#include "tests/unit/api/rig.h"

#include <pthread.h>

/* --- What a client sends -------------------------------------------------------------
 */

static struct reply create(struct rig *r, const char *purpose, const char *filename,
                           uint64_t bytes)
{
    char json[512];

    snprintf(json, sizeof json,
             "{\"filename\":\"%s\",\"purpose\":\"%s\",\"bytes\":%llu,"
             "\"mime_type\":\"text/plain\"}",
             filename, purpose, (unsigned long long)bytes);
    return rig_post(r, "/v1/uploads", json);
}

static struct id pending(struct rig *r, uint64_t bytes)
{
    struct reply re = create(r, "user_data", "a.bin", bytes);

    EQ_INT(re.status, 200);
    return rig_id(&re);
}

static struct reply send_part(struct rig *r, const struct id *upload, struct str data)
{
    struct reply re;
    struct buf b;

    buf_init(&b, (size_t)1 << 30);
    form_add(&b, "data", "blob", data);
    form_end(&b);
    re = rig_ask(r, "POST", rig_path("/v1/uploads/", upload, "/parts"), FORM_TYPE,
                 buf_peek(&b));
    buf_done(&b);
    return re;
}

static struct id part(struct rig *r, const struct id *upload, const char *data)
{
    struct reply re = send_part(r, upload, str_of(data));

    EQ_INT(re.status, 200);
    return rig_id(&re);
}

static struct reply complete(struct rig *r, const struct id *upload,
                             const struct id *parts, size_t n, const char *more)
{
    char json[4096];
    size_t len = (size_t)snprintf(json, sizeof json, "{\"part_ids\":[");

    for (size_t i = 0; i < n; i++)
        len += (size_t)snprintf(json + len, sizeof json - len, "%s\"%s\"", i ? "," : "",
                                parts[i].z);
    snprintf(json + len, sizeof json - len, "]%s}", more);
    return rig_post(r, rig_path("/v1/uploads/", upload, "/complete"), json);
}

static struct reply cancel(struct rig *r, const struct id *upload)
{
    return rig_ask(r, "POST", rig_path("/v1/uploads/", upload, "/cancel"), "", STR(""));
}

static struct id file_of(const struct reply *re)
{
    struct reply file = {.body = rig_json(re->body, "file")};

    return rig_id(&file);
}

static struct str content(struct rig *r, const struct id *file)
{
    struct reply re = rig_get(r, rig_path("/v1/files/", file, "/content"));

    EQ_INT(re.status, 200);
    return re.body;
}

#define SAYS(re, text)                                                                   \
    do {                                                                                 \
        if (!rig_has((re).body, text))                                                   \
            FAIL("\"%.*s\" does not say \"%s\"", STR_ARG((re).body), text);              \
    } while (0)

/* The hour of all uploads is over. */
static void let_expire(struct rig *r)
{
    pthread_mutex_lock(&r->m->lock);
    for (size_t i = 0; i < r->m->n_uploads; i++)
        r->m->uploads[i].expires_at -= 3600;
    pthread_mutex_unlock(&r->m->lock);
}

/* --- The way of one file -------------------------------------------------------------
 */

TEST(an_upload_answers_with_its_object)
{
    struct rig *r = rig_new(NULL);
    struct reply re = create(r, "batch", "in.jsonl", 1234);
    struct id id = rig_id(&re);
    uint64_t made = 0, ends = 0;

    EQ_INT(re.status, 200);
    OK(str_starts(id_str(&id), STR("upload_")));
    EQ_JSON(re, "object", "\"upload\"");
    EQ_JSON(re, "bytes", "1234");
    EQ_JSON(re, "filename", "\"in.jsonl\"");
    EQ_JSON(re, "purpose", "\"batch\"");
    EQ_JSON(re, "status", "\"pending\"");
    EQ_JSON(re, "file", "null");
    EQ_RC(str_u64(rig_json(re.body, "created_at"), &made), RC_OK);
    EQ_RC(str_u64(rig_json(re.body, "expires_at"), &ends), RC_OK);
    EQ_INT(ends - made, 3600);
    rig_free(r);
}

TEST(parts_become_one_file_in_the_order_asked_for)
{
    struct rig *r = rig_new(NULL);
    struct id up = pending(r, 9), ids[3], file;
    struct reply re = send_part(r, &up, STR("ghi"));

    EQ_JSON(re, "object", "\"upload.part\"");
    OK(json_str_is(rig_json(re.body, "upload_id"), id_str(&up)));
    OK(rig_json(re.body, "created_at").n >= 10);
    ids[2] = rig_id(&re);
    OK(str_starts(id_str(&ids[2]), STR("part_")));
    ids[0] = part(r, &up, "abcd");
    ids[1] = part(r, &up, "ef");
    re = complete(r, &up, ids, 3, ",\"md5\":\"8AA99B1F439FF71293E95357BAC6FD94\"");
    EQ_INT(re.status, 200);
    EQ_JSON(re, "status", "\"completed\"");
    EQ_JSON(re, "file.object", "\"file\"");
    EQ_JSON(re, "file.bytes", "9");
    EQ_JSON(re, "file.filename", "\"a.bin\"");
    EQ_JSON(re, "file.purpose", "\"user_data\"");
    EQ_JSON(re, "file.status", "\"processed\"");
    file = file_of(&re);
    EQ_STR(content(r, &file), STR("abcdefghi"));
    EQ_INT(r->m->n_blobs, 1); /* the parts' bytes are gone */
    EQ_STR(rig_get(r, rig_path("/v1/files/", &file, "")).body, rig_json(re.body, "file"));
    rig_free(r);
}

TEST(not_every_part_must_be_used)
{
    struct rig *r = rig_new(NULL);
    struct id up = pending(r, 4), ids[2], file;
    struct reply re;

    part(r, &up, "abcd"); /* its answer was lost, so it was sent again */
    ids[0] = part(r, &up, "ab");
    ids[1] = part(r, &up, "cd");
    re = complete(r, &up, ids, 2, "");
    EQ_INT(re.status, 200);
    file = file_of(&re);
    EQ_STR(content(r, &file), STR("abcd"));
    EQ_INT(r->m->n_blobs, 1);
    rig_free(r);
}

TEST(the_parts_of_an_upload_have_a_bound)
{
    struct rig *r = rig_new(NULL);
    struct id up = pending(r, 3);
    struct reply re = send_part(r, &up, STR("abcd"));

    EQ_REFUSED(re, 400, "invalid_request_error", "null", "null");
    for (int i = 0; i < UPLOAD_SPARE; i++)
        part(r, &up, "abc");
    re = send_part(r, &up, STR("abc"));
    EQ_REFUSED(re, 400, "invalid_request_error", "null", "null");
    EQ_INT(r->m->n_blobs, UPLOAD_SPARE); /* the refused bytes are gone */
    rig_free(r);
}

TEST(files_of_uploads_expire_as_the_body_or_the_server_says)
{
    static const struct {
        const char *purpose, *more;
        int64_t after;
    } rows[] = {
        {"batch", "", 1000000},
        {"evals", "", 0},
        {"batch", ",\"expires_after\":{\"anchor\":\"created_at\",\"seconds\":3600}",
         3600},
        {"evals", ",\"expires_after\":{\"anchor\":\"created_at\",\"seconds\":2592000}",
         2592000},
    };
    struct api_opts o = {.file_expires = 1000000};
    struct rig *r = rig_new(&o);

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        char json[512];
        struct reply re;
        struct id up, p;

        t_row(rows[i].purpose);
        snprintf(json, sizeof json,
                 "{\"filename\":\"a.jsonl\",\"purpose\":\"%s\",\"bytes\":2,"
                 "\"mime_type\":\"x\"%s}",
                 rows[i].purpose, rows[i].more);
        re = rig_post(r, "/v1/uploads", json);
        up = rig_id(&re);
        p = part(r, &up, "{}");
        EQ_INT(complete(r, &up, &p, 1, "").status, 200);
        EQ_INT(r->m->files[i].rec.expires_at,
               rows[i].after ? r->m->files[i].rec.created_at + rows[i].after : 0);
    }
    rig_free(r);
}

/* More than the piece that is copied at a time, with and without descriptors. */
TEST(large_parts_are_joined_byte_for_byte)
{
    struct rig *r = rig_new(NULL);
    struct buf bytes;
    struct id up, ids[3], file;
    struct reply re;
    size_t at = 0;

    buf_init(&bytes, 4u << 20);
    for (unsigned i = 0; bytes.n < (3u << 20); i++)
        (void)buf_u64(&bytes, i * 2654435761u);
    up = pending(r, bytes.n);
    for (size_t i = 0; i < 3; i++) {
        size_t n = i < 2 ? 1000001 : bytes.n - at;

        re = send_part(r, &up, (struct str){bytes.p + at, n});
        EQ_INT(re.status, 200);
        ids[i] = rig_id(&re);
        at += n;
    }
    re = complete(r, &up, ids, 3, "");
    EQ_INT(re.status, 200);
    file = file_of(&re);
    EQ_STR(content(r, &file), buf_peek(&bytes));
    buf_done(&bytes);
    rig_free(r);
}

/* --- What is refused -----------------------------------------------------------------
 */

TEST(a_create_that_is_wrong_adds_nothing)
{
    struct api_opts o = {.max_upload_bytes = 1000, .max_file_bytes = 500};
    struct rig *r = rig_new(&o);
    struct reply re = rig_post(r, "/v1/uploads", "{\"filename\":7}");

    EQ_REFUSED(re, 400, "invalid_request_error", "\"invalid_type\"", "\"filename\"");
    re = rig_post(r, "/v1/uploads", "{}");
    EQ_REFUSED(re, 400, "invalid_request_error", "\"missing_required_parameter\"",
               "\"filename\"");
    re = create(r, "evals", "a", 1001);
    EQ_REFUSED(re, 400, "invalid_request_error", "\"integer_above_max_value\"",
               "\"bytes\"");
    SAYS(re, "<= 1000");
    re = create(r, "batch", "a.jsonl", 501);
    EQ_REFUSED(re, 400, "invalid_request_error", "\"integer_above_max_value\"",
               "\"bytes\"");
    EQ_INT(r->m->n_uploads, 0);
    EQ_INT(create(r, "evals", "a", 1000).status, 200);
    EQ_INT(create(r, "batch", "a.jsonl", 500).status, 200);
    rig_free(r);
}

TEST(parts_that_are_no_form_with_data_are_refused_and_leave_nothing)
{
    static const struct {
        const char *name, *field;
        const char *content;
        int status;
        const char *code, *param;
    } rows[] = {
        {"another field", "file", "abc", 400, "\"missing_required_parameter\"",
         "\"data\""},
        {"empty", "data", "", 400, "null", "\"data\""},
    };
    struct rig *r = rig_new(NULL);
    struct id up = pending(r, 5);
    struct reply re;
    struct buf b;

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        t_row(rows[i].name);
        buf_init(&b, 1 << 16);
        form_add(&b, rows[i].field, "blob", str_of(rows[i].content));
        form_end(&b);
        re = rig_ask(r, "POST", rig_path("/v1/uploads/", &up, "/parts"), FORM_TYPE,
                     buf_peek(&b));
        buf_done(&b);
        EQ_INT(re.status, rows[i].status);
        EQ_JSON(re, "error.code", rows[i].code);
        EQ_JSON(re, "error.param", rows[i].param);
    }
    t_row("JSON");
    re = rig_post(r, rig_path("/v1/uploads/", &up, "/parts"), "{\"data\":\"abc\"}");
    EQ_INT(re.status, 400);
    SAYS(re, "A part must be sent as multipart/form-data");
    t_row("cut off");
    re = rig_ask(
        r, "POST", rig_path("/v1/uploads/", &up, "/parts"), FORM_TYPE,
        STR("--xYzZY\r\nContent-Disposition: form-data; name=\"data\"\r\n\r\nab"));
    EQ_INT(re.status, 400);
    t_row("twice");
    buf_init(&b, 1 << 16);
    form_add(&b, "data", "blob", STR("ab"));
    form_add(&b, "data", "blob", STR("ab"));
    form_end(&b);
    re = rig_ask(r, "POST", rig_path("/v1/uploads/", &up, "/parts"), FORM_TYPE,
                 buf_peek(&b));
    buf_done(&b);
    EQ_INT(re.status, 400);
    EQ_INT(r->m->n_parts, 0);
    EQ_INT(r->m->n_blobs, 0);
    rig_free(r);
}

TEST(a_part_without_a_filename_is_taken)
{
    struct rig *r = rig_new(NULL);
    struct id up = pending(r, 5);
    struct buf b;

    buf_init(&b, 1 << 16);
    form_add(&b, "data", NULL, STR("abcde"));
    form_end(&b);
    EQ_INT(rig_ask(r, "POST", rig_path("/v1/uploads/", &up, "/parts"), FORM_TYPE,
                   buf_peek(&b))
               .status,
           200);
    buf_done(&b);
    rig_free(r);
}

TEST(a_part_over_64_mb_is_refused_at_its_head)
{
    struct rig *r = rig_new(NULL);
    struct id up = pending(r, 1000);
    struct reply re = rig_ask(r, "POST", rig_path("/v1/uploads/", &up, "/parts"),
                              FORM_TYPE "Content-Length: 70000000\r\n", (struct str){0});

    EQ_REFUSED(re, 413, "invalid_request_error", "\"file_too_large\"", "\"data\"");
    SAYS(re, "The part is larger than 67108864 bytes");
    rig_free(r);
}

TEST(completes_that_do_not_fit_leave_the_upload_pending)
{
    struct rig *r = rig_new(NULL);
    struct id up = pending(r, 6), other = pending(r, 6), file;
    struct id ab = part(r, &up, "abc"), cd = part(r, &up, "def"),
              foreign = part(r, &other, "xyz"), none = id_make(ID_PART);
    const struct {
        const char *name;
        struct id ids[3];
        size_t n;
        const char *more, *param, *says;
    } rows[] = {
        {"too little", {ab}, 1, "", "\"part_ids\"", "3 bytes"},
        {"too much", {ab, cd, foreign}, 3, "", "\"part_ids\"", foreign.z},
        {"twice", {ab, ab}, 2, "", "\"part_ids\"", "named twice"},
        {"of another upload", {ab, foreign}, 2, "", "\"part_ids\"", foreign.z},
        {"of none", {ab, none}, 2, "", "\"part_ids\"", none.z},
        {"another md5",
         {ab, cd},
         2,
         ",\"md5\":\"00000000000000000000000000000000\"",
         "\"md5\"",
         "e80b5017098950fc58aad83c8c14978e"},
    };
    struct reply re;

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        t_row(rows[i].name);
        re = complete(r, &up, rows[i].ids, rows[i].n, rows[i].more);
        EQ_REFUSED(re, 400, "invalid_request_error", "\"invalid_value\"", rows[i].param);
        SAYS(re, rows[i].says);
        EQ_INT(r->m->n_files, 0);
        EQ_INT(r->m->n_blobs, 3);
        EQ_INT(atomic_load(&r->m->puts), 0);
    }
    re = complete(r, &up, (struct id[]){cd, ab}, 2, "");
    EQ_INT(re.status, 200);
    file = file_of(&re);
    EQ_STR(content(r, &file), STR("defabc"));
    rig_free(r);
}

TEST(an_unknown_upload_is_a_404_whatever_is_asked)
{
    static const char *const ids[] = {"upload_none", "file-1", "..", "a%20b", "x"};
    struct rig *r = rig_new(NULL);
    struct reply re;
    struct buf b;

    buf_init(&b, 1 << 16);
    form_add(&b, "data", "blob", STR("abc"));
    form_end(&b);
    for (size_t i = 0; i < COUNTOF(ids); i++) {
        char target[128];

        t_row(ids[i]);
        snprintf(target, sizeof target, "/v1/uploads/%s/parts", ids[i]);
        re = rig_ask(r, "POST", target, FORM_TYPE, buf_peek(&b));
        EQ_REFUSED(re, 404, "invalid_request_error", "null", "\"upload_id\"");
        SAYS(re, "No such Upload object: ");
        snprintf(target, sizeof target, "/v1/uploads/%s/complete", ids[i]);
        EQ_INT(rig_post(r, target, "{\"part_ids\":[\"a\"]}").status, 404);
        snprintf(target, sizeof target, "/v1/uploads/%s/cancel", ids[i]);
        EQ_INT(rig_post(r, target, "").status, 404);
    }
    EQ_INT(r->m->n_blobs, 0);
    buf_done(&b);
    rig_free(r);
}

/* --- The end of an upload ------------------------------------------------------------
 */

TEST(completing_again_answers_with_the_same_object)
{
    struct rig *r = rig_new(NULL);
    struct id up = pending(r, 3), p = part(r, &up, "abc"), file;
    struct reply first = complete(r, &up, &p, 1, ""), re;

    EQ_INT(first.status, 200);
    re = complete(r, &up, &p, 1, "");
    EQ_INT(re.status, 200);
    EQ_STR(re.body, first.body);
    EQ_INT(r->m->n_files, 1);
    re = send_part(r, &up, STR("d"));
    EQ_REFUSED(re, 400, "invalid_request_error", "null", "null");
    SAYS(re, "status 'completed'");
    re = cancel(r, &up);
    EQ_INT(re.status, 400);
    SAYS(re, "Cannot cancel an upload with status 'completed'.");
    EQ_INT(r->m->n_blobs, 1);
    t_row("once the file is deleted");
    file = file_of(&first);
    EQ_INT(rig_ask(r, "DELETE", rig_path("/v1/files/", &file, ""), "", (struct str){0})
               .status,
           200);
    re = complete(r, &up, &p, 1, "");
    EQ_INT(re.status, 200);
    EQ_JSON(re, "status", "\"completed\"");
    EQ_JSON(re, "file", "null");
    rig_free(r);
}

struct racer {
    struct rig *r;
    struct id upload, part;
    int status;
    char file[ID_CAP + 2];
};

/* A client of its own: the rig's list of replies is one thread's. */
static void *race(void *ctx)
{
    struct racer *x = ctx;
    char text[512], got[4096];
    char json[128];
    size_t len = 0;
    int fd = rig_connect(x->r);
    ssize_t n;
    struct str body;

    snprintf(json, sizeof json, "{\"part_ids\":[\"%s\"]}", x->part.z);
    snprintf(text, sizeof text,
             "POST /v1/uploads/%s/complete HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
             "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
             x->upload.z, strlen(json), json);
    rig_push(fd, str_of(text));
    while (len < sizeof got - 1 && (n = recv(fd, got + len, sizeof got - 1 - len, 0)) > 0)
        len += (size_t)n;
    close(fd);
    got[len] = '\0';
    CHECK(sscanf(got, "HTTP/1.1 %d", &x->status) == 1);
    body = str_of(strstr(got, "\r\n\r\n") + 4);
    snprintf(x->file, sizeof x->file, "%.*s", STR_ARG(rig_json(body, "file.id")));
    return NULL;
}

TEST(of_completes_at_the_same_time_one_wins_and_all_answer_alike)
{
    enum { RACERS = 8, ROUNDS = 20 };
    struct rig *r = rig_new(NULL);

    for (int round = 0; round < ROUNDS; round++) {
        struct id up = pending(r, 3), p = part(r, &up, "abc");
        struct racer racers[RACERS];
        pthread_t threads[RACERS];

        for (size_t i = 0; i < RACERS; i++) {
            racers[i] = (struct racer){.r = r, .upload = up, .part = p};
            CHECK(pthread_create(&threads[i], NULL, race, &racers[i]) == 0);
        }
        for (size_t i = 0; i < RACERS; i++) {
            pthread_join(threads[i], NULL);
            EQ_INT(racers[i].status, 200);
            EQ_Z(racers[i].file, racers[0].file);
        }
        EQ_INT(r->m->n_files, round + 1);
        EQ_INT(r->m->n_blobs,
               round + 1); /* the losers' bytes are gone, the parts', too */
    }
    rig_free(r);
}

static atomic_bool gate_shut;

static enum rc gated_write(struct blob_put *p, const void *data, size_t n, struct err *e)
{
    while (atomic_load(&gate_shut))
        usleep(1000);
    return mem_write(p, data, n, e);
}

enum { LONG = 5, LONG_BYTES = 17 << 20 }; /* more of them than the server has workers */

/* Sends completes that stand at a closed gate or wait behind those that do. */
static void begin_long(struct rig *r, struct blob_ops *gated, struct racer *racers,
                       pthread_t *threads)
{
    char *bytes = mem_alloc(LONG_BYTES);

    gated->write = gated_write;
    r->m->blobs_if.ops = gated;
    for (size_t i = 0; i < LONG; i++) {
        struct reply re;

        racers[i] = (struct racer){.r = r, .upload = pending(r, LONG_BYTES)};
        re = send_part(r, &racers[i].upload, (struct str){bytes, LONG_BYTES});
        EQ_INT(re.status, 200);
        racers[i].part = rig_id(&re);
    }
    mem_free(bytes);
    atomic_store(&gate_shut, true);
    for (size_t i = 0; i < LONG; i++)
        CHECK(pthread_create(&threads[i], NULL, race, &racers[i]) == 0);
    while (atomic_load(&r->m->puts) == 0) /* one has begun */
        usleep(1000);
}

TEST_SLOW(long_completes_hold_nobody_up, 120)
{
    struct rig *r = rig_new(NULL);
    struct blob_ops gated = *r->m->blobs_if.ops;
    struct racer racers[LONG];
    pthread_t threads[LONG];

    begin_long(r, &gated, racers, threads);
    for (int i = 0; i < 20; i++)
        EQ_INT(rig_get(r, "/v1/files").status, 200);
    EQ_INT(r->m->n_files, 0);
    atomic_store(&gate_shut, false);
    for (size_t i = 0; i < LONG; i++) {
        pthread_join(threads[i], NULL);
        EQ_INT(racers[i].status, 200);
    }
    EQ_INT(r->m->n_files, LONG);
    EQ_INT(r->m->n_blobs, LONG);
    rig_free(r);
}

/* Those under way and those that wait behind them. */
TEST_SLOW(long_completes_end_when_the_server_stops, 120)
{
    struct rig *r = rig_new(NULL);
    struct blob_ops gated = *r->m->blobs_if.ops;
    struct racer racers[LONG];
    pthread_t threads[LONG];

    begin_long(r, &gated, racers, threads);
    api_refuse(r->api, "the server is stopping");
    atomic_store(&gate_shut, false);
    for (size_t i = 0; i < LONG; i++) {
        pthread_join(threads[i], NULL);
        EQ_INT(racers[i].status, 503);
    }
    EQ_INT(r->m->n_files, 0);
    EQ_INT(r->m->n_blobs, LONG); /* the parts: it can be sent again */
    EQ_INT(atomic_load(&r->m->puts), 0);
    rig_free(r);
}

TEST(a_cancelled_upload_takes_nothing_and_keeps_nothing)
{
    struct rig *r = rig_new(NULL);
    struct id up = pending(r, 3), p = part(r, &up, "abc");
    struct reply first = cancel(r, &up), re;

    EQ_INT(first.status, 200);
    EQ_JSON(first, "status", "\"cancelled\"");
    EQ_JSON(first, "file", "null");
    EQ_INT(r->m->n_blobs, 0);
    re = cancel(r, &up);
    EQ_INT(re.status, 200);
    EQ_STR(re.body, first.body);
    re = send_part(r, &up, STR("d"));
    EQ_INT(re.status, 400);
    SAYS(re, "Cannot add a part to an upload with status 'cancelled'.");
    re = complete(r, &up, &p, 1, "");
    EQ_REFUSED(re, 400, "invalid_request_error", "null", "null");
    SAYS(re, "Cannot complete an upload with status 'cancelled'.");
    EQ_INT(r->m->n_blobs, 0);
    EQ_INT(r->m->n_files, 0);
    rig_free(r);
}

/* Also before the housekeeping has moved its row. */
TEST(an_upload_past_its_hour_is_expired_for_clients)
{
    struct rig *r = rig_new(NULL);
    struct id up = pending(r, 3), p = part(r, &up, "abc");
    struct reply re;

    let_expire(r);
    re = send_part(r, &up, STR("d"));
    EQ_REFUSED(re, 400, "invalid_request_error", "null", "null");
    SAYS(re, "status 'expired'");
    re = complete(r, &up, &p, 1, "");
    EQ_INT(re.status, 400);
    SAYS(re, "status 'expired'");
    re = cancel(r, &up);
    EQ_INT(re.status, 400);
    SAYS(re, "status 'expired'");
    EQ_INT(r->m->n_files, 0);
    rig_free(r);
}

/* --- What fails below ----------------------------------------------------------------
 */

TEST(a_part_that_fails_below_is_not_there)
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
                           &r->m->fail_part_add};
        struct id up = pending(r, 3), p;
        struct reply re;

        t_row(rows[i].name);
        *fail[rows[i].step] = rows[i].rc;
        re = send_part(r, &up, STR("abc"));
        EQ_INT(re.status, rows[i].status);
        EQ_JSON(re, "error.type", "\"server_error\"");
        OK(!rig_has(re.body, "fails")); /* the inside stays inside */
        EQ_INT(r->m->n_parts, 0);
        EQ_INT(r->m->n_blobs, rows[i].blobs_left);
        EQ_INT(atomic_load(&r->m->puts), 0);
        *fail[rows[i].step] = RC_OK;
        p = part(r, &up, "abc");
        EQ_INT(complete(r, &up, &p, 1, "").status, 200);
        rig_free(r);
    }
}

TEST(a_complete_that_fails_below_can_be_sent_again)
{
    enum step { PUT, WRITE, COMMIT, MOVE };
    static const struct {
        const char *name;
        enum step step;
        enum rc rc;
        int status;
        size_t blobs_left; /* the part's among them */
    } rows[] = {
        {"no temporary file: full", PUT, RC_NOSPACE, 503, 1},
        {"full while writing", WRITE, RC_NOSPACE, 503, 1},
        {"broken while writing", WRITE, RC_IO, 500, 1},
        {"full at the sync", COMMIT, RC_NOSPACE, 503, 1},
        {"broken at the sync", COMMIT, RC_IO, 500, 1},
        {"no room for the row", MOVE, RC_NOSPACE, 503, 1},
        {"store died over the row", MOVE, RC_IO, 500, 2},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct rig *r = rig_new(NULL);
        enum rc *fail[] = {&r->m->fail_put, &r->m->fail_write, &r->m->fail_commit,
                           &r->m->fail_upload_move};
        struct id up = pending(r, 3), p = part(r, &up, "abc");
        struct reply re;

        t_row(rows[i].name);
        *fail[rows[i].step] = rows[i].rc;
        re = complete(r, &up, &p, 1, "");
        EQ_INT(re.status, rows[i].status);
        EQ_JSON(re, "error.type", "\"server_error\"");
        EQ_INT(r->m->n_files, 0);
        EQ_INT(r->m->n_blobs, rows[i].blobs_left);
        EQ_INT(atomic_load(&r->m->puts), 0);
        *fail[rows[i].step] = RC_OK;
        re = complete(r, &up, &p, 1, "");
        EQ_INT(re.status, 200);
        EQ_JSON(re, "status", "\"completed\"");
        rig_free(r);
    }
}

TEST(a_create_that_fails_below_says_so)
{
    struct rig *r = rig_new(NULL);

    r->m->fail_upload_add = RC_NOSPACE;
    EQ_INT(create(r, "evals", "a", 5).status, 503);
    r->m->fail_upload_add = RC_IO;
    EQ_INT(create(r, "evals", "a", 5).status, 500);
    EQ_INT(r->m->n_uploads, 0);
    rig_free(r);
}

TEST(parts_whose_bytes_are_lost_or_cut_are_no_file)
{
    struct rig *r = rig_new(NULL);
    struct id up = pending(r, 3), p = part(r, &up, "abc");

    t_row("cut");
    r->m->blobs[0].n = 2;
    EQ_INT(complete(r, &up, &p, 1, "").status, 500);
    t_row("lost");
    EQ_RC(mem_blob_remove(r->m, p.z, NULL), RC_OK);
    EQ_INT(complete(r, &up, &p, 1, "").status, 500);
    EQ_INT(r->m->n_files, 0);
    EQ_INT(r->m->n_blobs, 0);
    rig_free(r);
}

/* --- Quotas --------------------------------------------------------------------------
 */

static void small_quota(void *ctx, const struct id *project, struct api_quota *ret)
{
    (void)ctx;
    EQ_Z(project->z, PROJECT_DEFAULT);
    *ret = (struct api_quota){.bytes = 100, .files = 3};
}

static const char hundred[] = "0123456789012345678901234567890123456789012345678901234567"
                              "890123456789012345678901234567890123456789";

TEST(a_project_keeps_to_its_bytes)
{
    struct api_opts o = {.quota = small_quota};
    struct rig *r = rig_new(&o);
    struct str sixty = {hundred, 60}, forty = {hundred, 40};
    struct reply re;
    struct id up, p;

    t_row("more than it can ever have");
    re = rig_upload(r, "evals", "a", (struct str){hundred, 101});
    EQ_REFUSED(re, 413, "invalid_request_error", "\"file_too_large\"", "\"file\"");
    SAYS(re, "100 bytes, the most that this project takes");
    EQ_INT(create(r, "evals", "a", 101).status, 400);
    t_row("more than there is room for");
    EQ_INT(rig_upload(r, "evals", "a", sixty).status, 200);
    re = rig_upload(r, "evals", "a", sixty);
    EQ_REFUSED(re, 400, "invalid_request_error", "null", "null");
    SAYS(re, "limit of 100");
    OK(!rig_header(&re, "Retry-After").p);
    EQ_INT(r->m->n_files, 1);
    EQ_INT(r->m->n_blobs, 1); /* the refused bytes are gone */
    re = create(r, "evals", "a", 60);
    EQ_REFUSED(re, 400, "invalid_request_error", "null", "null");
    SAYS(re, "limit of 100");
    t_row("parts count");
    up = pending(r, 40);
    re = send_part(r, &up, forty);
    EQ_INT(re.status, 200);
    p = rig_id(&re);
    re = rig_upload(r, "evals", "a", (struct str){hundred, 1});
    EQ_INT(re.status, 400);
    re = complete(r, &up, &p, 1, "");
    EQ_INT(re.status, 200);
    EQ_INT(r->m->n_blobs, 2);
    rig_free(r);
}

/* Nothing but the head is sent. */
TEST(a_full_project_is_told_at_the_head)
{
    struct api_opts o = {.max_total_bytes = 2u << 20};
    struct rig *r = rig_new(&o);
    struct reply re;
    struct buf bytes;

    buf_init(&bytes, 4u << 20);
    while (bytes.n < (3u << 19))
        (void)buf_z(&bytes, hundred);
    EQ_INT(rig_upload(r, "evals", "a", buf_peek(&bytes)).status, 200);
    re = rig_ask(r, "POST", "/v1/files", FORM_TYPE "Content-Length: 1500000\r\n",
                 (struct str){0});
    EQ_REFUSED(re, 400, "invalid_request_error", "null", "null");
    SAYS(re, "2097152 bytes in all");
    EQ_INT(r->m->n_blobs, 1);
    EQ_INT(atomic_load(&r->m->begun), 1);
    buf_done(&bytes);
    rig_free(r);
}

TEST(a_project_keeps_to_its_number_of_files)
{
    struct api_opts o = {.quota = small_quota};
    struct rig *r = rig_new(&o);
    struct reply re;
    struct id id = {0};

    for (int i = 0; i < 3; i++) {
        re = rig_upload(r, "evals", "a", STR("x"));
        EQ_INT(re.status, 200);
        id = rig_id(&re);
    }
    re = rig_upload(r, "evals", "a", STR("x"));
    EQ_REFUSED(re, 400, "invalid_request_error", "null", "null");
    SAYS(re, "limit is 3");
    EQ_INT(create(r, "evals", "a", 1).status, 400);
    EQ_INT(
        rig_ask(r, "DELETE", rig_path("/v1/files/", &id, ""), "", (struct str){0}).status,
        200);
    EQ_INT(rig_upload(r, "evals", "a", STR("x")).status, 200);
    rig_free(r);
}

TEST(all_files_keep_to_the_total)
{
    struct api_opts o = {.max_total_bytes = 100};
    struct rig *r = rig_new(&o);
    struct reply re;

    EQ_INT(rig_upload(r, "evals", "a", (struct str){hundred, 60}).status, 200);
    re = rig_upload(r, "evals", "a", (struct str){hundred, 60});
    EQ_REFUSED(re, 400, "invalid_request_error", "null", "null");
    SAYS(re, "100 bytes in all");
    re = create(r, "evals", "a", 60);
    EQ_REFUSED(re, 400, "invalid_request_error", "null", "null");
    EQ_INT(create(r, "evals", "a", 40).status, 200);
    rig_free(r);
}
