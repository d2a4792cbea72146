/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/api/rig.h"

static const char digits[] = "0123456789";

/* A file with the ten digits; its id. */
static struct id ten(struct rig *r, const char *purpose, const char *filename)
{
    struct reply re = rig_upload(r, purpose, filename, STR("0123456789"));

    EQ_INT(re.status, 200);
    return rig_id(&re);
}

static struct reply content(struct rig *r, const char *method, const struct id *id,
                            const char *headers)
{
    return rig_ask(r, method, rig_path("/v1/files/", id, "/content"), headers,
                   (struct str){0});
}

TEST(content_comes_with_its_headers)
{
    static const struct {
        const char *purpose, *filename, *type, *disposition;
    } rows[] = {
        {"batch", "in.jsonl", "application/jsonl", "attachment; filename=\"in.jsonl\""},
        {"vision", "cat.png", "application/octet-stream",
         "attachment; filename=\"cat.png\""},
        {"user_data", "<script>.html", "application/octet-stream",
         "attachment; filename=\"_script_.html\"; filename*=UTF-8''%3Cscript%3E.html"},
        {"batch", "\xc3\xa9.jsonl", "application/jsonl",
         "attachment; filename=\"_.jsonl\"; filename*=UTF-8''%C3%A9.jsonl"},
    };
    struct rig *r = rig_new(NULL);

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct id id = ten(r, rows[i].purpose, rows[i].filename);
        struct reply re = content(r, "GET", &id, "");

        t_row(rows[i].filename);
        EQ_INT(re.status, 200);
        EQ_STR(re.body, STR("0123456789"));
        EQ_STR(rig_header(&re, "Content-Type"), str_of(rows[i].type));
        EQ_STR(rig_header(&re, "Content-Length"), STR("10"));
        EQ_STR(rig_header(&re, "Content-Disposition"), str_of(rows[i].disposition));
        EQ_STR(rig_header(&re, "Accept-Ranges"), STR("bytes"));
        EQ_STR(rig_header(&re, "X-Content-Type-Options"), STR("nosniff"));
        EQ_INT(rig_header(&re, "ETag").n, 66);
    }
    rig_free(r);
}

TEST(one_range_is_served_and_odd_ones_get_the_whole)
{
    static const struct {
        const char *range;
        int status;
        const char *content_range;
        int off, n;
    } rows[] = {
        {"bytes=0-0", 206, "bytes 0-0/10", 0, 1},
        {"bytes=3-5", 206, "bytes 3-5/10", 3, 3},
        {"bytes=8-", 206, "bytes 8-9/10", 8, 2},
        {"bytes=0-", 206, "bytes 0-9/10", 0, 10},
        {"bytes=-4", 206, "bytes 6-9/10", 6, 4},
        {"bytes=-400", 206, "bytes 0-9/10", 0, 10},
        {"bytes=5-5000000000", 206, "bytes 5-9/10", 5, 5},
        {"bytes=10-", 416, "bytes */10", 0, 0},
        {"bytes=-0", 416, "bytes */10", 0, 0},
        {"bytes=0-1,4-5", 200, NULL, 0, 10},
        {"bytes=7-3", 200, NULL, 0, 10},
        {"items=0-1", 200, NULL, 0, 10},
    };

    for (int no_fd = 0; no_fd < 2; no_fd++) {
        struct rig *r = rig_new(NULL);
        struct id id = ten(r, "batch", "a.jsonl");

        r->m->no_fd = no_fd; /* as an object store: the bytes go through memory */
        for (size_t i = 0; i < COUNTOF(rows); i++) {
            char header[128];
            struct reply re;

            t_row(rows[i].range);
            snprintf(header, sizeof header, "Range: %s\r\n", rows[i].range);
            re = content(r, "GET", &id, header);
            EQ_INT(re.status, rows[i].status);
            EQ_STR(rig_header(&re, "Content-Range"), str_of(rows[i].content_range));
            if (re.status == 416)
                EQ_REFUSED(re, 416, "invalid_request_error", "\"range_not_satisfiable\"",
                           "null");
            else
                EQ_STR(re.body, ((struct str){digits + rows[i].off, (size_t)rows[i].n}));
        }
        rig_free(r);
    }
}

/* A header line that names the answer's tag. */
static void tag_line(char ret[256], const char *before, const struct reply *re,
                     const char *after)
{
    struct str tag = rig_header(re, "ETag");

    EQ_INT(tag.n, 66);
    snprintf(ret, 256, "%s%.*s%s", before, (int)tag.n, tag.p ? tag.p : "", after);
}

TEST(an_unchanged_file_answers_304)
{
    struct rig *r = rig_new(NULL);
    struct id id = ten(r, "batch", "a.jsonl");
    struct reply first = content(r, "GET", &id, ""), re;
    char header[256];

    tag_line(header, "If-None-Match: \"x\", W/", &first, "\r\nRange: bytes=0-1\r\n");
    re = content(r, "GET", &id, header);
    EQ_INT(re.status, 304);
    EQ_INT(re.body.n, 0);
    EQ_STR(rig_header(&re, "ETag"), rig_header(&first, "ETag"));
    EQ_INT(content(r, "HEAD", &id, header).status, 304);
    EQ_INT(content(r, "GET", &id, "If-None-Match: *\r\n").status, 304);
    EQ_INT(content(r, "GET", &id, "If-None-Match: \"x\"\r\n").status, 200);
    rig_free(r);
}

TEST(if_range_sends_the_whole_of_another_file)
{
    struct rig *r = rig_new(NULL);
    struct id id = ten(r, "batch", "a.jsonl");
    struct reply first = content(r, "GET", &id, ""), re;
    char header[256];

    tag_line(header, "If-Range: ", &first, "\r\nRange: bytes=0-1\r\n");
    re = content(r, "GET", &id, header);
    EQ_INT(re.status, 206);
    /* A weak tag is never good enough (13.1.5). */
    tag_line(header, "If-Range: W/", &first, "\r\nRange: bytes=0-1\r\n");
    EQ_INT(content(r, "GET", &id, header).status, 200);
    re = content(r, "GET", &id, "If-Range: \"other\"\r\nRange: bytes=0-1\r\n");
    EQ_INT(re.status, 200);
    EQ_INT(re.body.n, 10);
    re = content(r, "GET", &id,
                 "If-Range: Mon, 23 Nov 2026 00:00:00 GMT\r\nRange: bytes=0-1\r\n");
    EQ_INT(re.status, 200);
    rig_free(r);
}

TEST(if_match_refuses_what_another_file_would_answer)
{
    struct rig *r = rig_new(NULL);
    struct id id = ten(r, "batch", "a.jsonl");
    struct reply first = content(r, "GET", &id, ""), re;
    char header[256];

    tag_line(header, "If-Match: \"x\", ", &first, "\r\nRange: bytes=0-1\r\n");
    EQ_INT(content(r, "GET", &id, header).status, 206);
    EQ_INT(content(r, "GET", &id, "If-Match: *\r\n").status, 200);
    /* It compares strongly, and comes before the others (RFC 9110, 13.1.1, 13.2.2). */
    tag_line(header, "If-Match: W/", &first, "\r\n");
    EQ_INT(content(r, "GET", &id, header).status, 412);
    tag_line(header, "If-Match: \"x\"\r\nIf-None-Match: ", &first, "\r\n");
    re = content(r, "GET", &id, header);
    EQ_REFUSED(re, 412, "invalid_request_error", "\"precondition_failed\"", "null");
    EQ_STR(rig_header(&re, "ETag"), rig_header(&first, "ETag"));
    re = content(r, "HEAD", &id, header);
    EQ_INT(re.status, 412);
    EQ_INT(re.body.n, 0);
    rig_free(r);
}

/* Without a modification date they do not count (RFC 9110, 13.1.3 and 13.1.4). */
TEST(conditions_with_dates_do_not_count)
{
    static const char *const rows[] = {
        "If-Modified-Since: Mon, 23 Nov 2099 00:00:00 GMT\r\n",
        "If-Unmodified-Since: Mon, 23 Nov 1999 00:00:00 GMT\r\n",
    };
    struct rig *r = rig_new(NULL);
    struct id id = ten(r, "batch", "a.jsonl");

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        t_row(rows[i]);
        EQ_INT(content(r, "GET", &id, rows[i]).status, 200);
    }
    rig_free(r);
}

TEST(head_of_content_tells_the_length_and_sends_nothing)
{
    struct rig *r = rig_new(NULL);
    struct id id = ten(r, "batch", "a.jsonl");
    struct reply re = content(r, "HEAD", &id, "Range: bytes=0-1\r\n");

    EQ_INT(re.status, 200);
    EQ_INT(re.body.n, 0);
    EQ_STR(rig_header(&re, "Content-Length"), STR("10"));
    EQ_STR(rig_header(&re, "Accept-Ranges"), STR("bytes"));
    EQ_STR(rig_header(&re, "Content-Disposition"),
           STR("attachment; filename=\"a.jsonl\""));
    rig_free(r);
}

TEST(lost_bytes_are_a_500_and_deleted_ones_a_404)
{
    struct rig *r = rig_new(NULL);
    struct id id = ten(r, "batch", "a.jsonl");
    struct reply re;

    EQ_RC(mem_blob_remove(r->m, id.z, NULL), RC_OK);
    re = content(r, "GET", &id, "");
    EQ_REFUSED(re, 500, "server_error", "null", "null");
    EQ_RC(mem_file_delete(r->m, NULL, id.z, 1, NULL), RC_OK);
    re = content(r, "GET", &id, "");
    EQ_REFUSED(re, 404, "invalid_request_error", "null", "\"id\"");
    rig_free(r);
}

TEST(bytes_that_do_not_match_their_record_are_not_sent)
{
    struct rig *r = rig_new(NULL);
    struct id id = ten(r, "batch", "a.jsonl");

    r->m->files[0].rec.bytes = 11;
    EQ_INT(content(r, "GET", &id, "").status, 500);
    rig_free(r);
}

TEST(large_content_arrives_whole)
{
    for (int no_fd = 0; no_fd < 2; no_fd++) {
        struct rig *r = rig_new(NULL);
        struct buf bytes;
        struct reply re;
        struct id id;

        buf_init(&bytes, 16u << 20);
        for (unsigned i = 0; bytes.n < (9u << 20); i++)
            (void)buf_u64(&bytes, i * 2654435761u);
        re = rig_upload(r, "evals", "big", buf_peek(&bytes));
        id = rig_id(&re);
        r->m->no_fd = no_fd;
        re = content(r, "GET", &id, "");
        EQ_INT(re.status, 200);
        EQ_STR(re.body, buf_peek(&bytes));
        buf_done(&bytes);
        rig_free(r);
    }
}
