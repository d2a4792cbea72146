/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/t.h"

#include "base/limits.h"
#include "tests/unit/api/rig.h"

#include <zlib.h>
#include <zstd.h>

static const struct api_opts taken = {.max_expansion = 100, .max_file_bytes = 4u << 20};
static const char *const names[] = {"gzip", "zstd"};

/* mem_free'd by the caller. */
static struct str packed(const char *name, struct str text)
{
    size_t most = ZSTD_compressBound(text.n) + 1000, n = most;
    char *to = mem_alloc(most);

    if (strcmp(name, "zstd") == 0) {
        n = ZSTD_compress(to, most, text.p, text.n, 3);
        OK(!ZSTD_isError(n));
    } else {
        z_stream z = {0};

        EQ_INT(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
        z.next_in = (Bytef *)(uintptr_t)text.p;
        z.avail_in = (uInt)text.n;
        z.next_out = (Bytef *)to;
        z.avail_out = (uInt)most;
        EQ_INT(deflate(&z, Z_FINISH), Z_STREAM_END);
        n = z.total_out;
        deflateEnd(&z);
    }
    return (struct str){to, n};
}

static struct reply ask(struct rig *r, const char *target, const char *type,
                        const char *coding, struct str body)
{
    char headers[300];

    EQ_RC(str_fmt(headers, sizeof headers, "Content-Type: %s\r\n%s%s%s", type,
                  coding ? "Content-Encoding: " : "", coding ? coding : "",
                  coding ? "\r\n" : ""),
          RC_OK);
    return rig_ask(r, "POST", target, headers, body);
}

static struct reply ask_packed(struct rig *r, const char *target, const char *type,
                               const char *coding, struct str text)
{
    struct str body = packed(coding, text);
    struct reply re = ask(r, target, type, coding, body);

    mem_free((void *)(uintptr_t)body.p);
    return re;
}

#define JSON "application/json"
#define FORM "multipart/form-data; boundary=xYzZY"
#define CREATE                                                                           \
    STR("{\"input_file_id\":\"file-x\",\"endpoint\":\"/v1/chat/completions\","           \
        "\"completion_window\":\"24h\"}")

static struct str form_of(struct buf *b, const char *purpose, struct str content)
{
    buf_init(b, (size_t)1 << 30);
    form_add(b, "purpose", NULL, str_of(purpose));
    form_add(b, "file", "a.jsonl", content);
    form_end(b);
    return buf_peek(b);
}

TEST(compressed_bodies_are_refused_unless_they_are_configured)
{
    struct rig *r = rig_new(NULL);

    for (size_t i = 0; i < COUNTOF(names); i++) {
        struct reply re = ask_packed(r, "/v1/batches", JSON, names[i], CREATE);

        EQ_REFUSED(re, 415, "invalid_request_error", "\"unsupported_content_encoding\"",
                   "null");
        EQ_STR(rig_header(&re, "Accept-Encoding"), STR("identity"));
    }
    EQ_INT(ask(r, "/v1/batches", JSON, "identity", CREATE).status, 200);
    rig_free(r);
}

TEST(other_codings_and_several_at_once_are_refused)
{
    static const char *const others[] = {"br",
                                         "deflate",
                                         "gzip, zstd",
                                         "gzip, gzip",
                                         "gzip\r\nContent-Encoding: zstd",
                                         "identity\r\nContent-Encoding: gzip"};
    struct rig *r = rig_new(&taken);

    for (size_t i = 0; i < COUNTOF(others); i++) {
        struct str body = packed("gzip", CREATE);
        struct reply re = ask(r, "/v1/batches", JSON, others[i], body);

        t_row(others[i]);
        EQ_REFUSED(re, 415, "invalid_request_error", "\"unsupported_content_encoding\"",
                   "null");
        EQ_STR(rig_header(&re, "Accept-Encoding"), STR("gzip, zstd"));
        mem_free((void *)(uintptr_t)body.p);
    }
    rig_free(r);
}

TEST(a_compressed_json_body_counts_as_the_plain_one)
{
    struct rig *r = rig_new(&taken);

    for (size_t i = 0; i < COUNTOF(names); i++) {
        struct reply re = ask_packed(r, "/v1/batches", JSON, names[i], CREATE);

        EQ_INT(re.status, 200);
        EQ_JSON(re, "input_file_id", "\"file-x\"");
        re = ask_packed(r, "/v1/batches", JSON, names[i], STR("{\"endpoint\":1}"));
        EQ_INT(re.status, 400);
        re = ask_packed(r, "/v1/batches", JSON, names[i], STR(""));
        EQ_INT(re.status, 400);
    }
    EQ_INT(atomic_load(&r->engine.submits), 2);
    rig_free(r);
}

TEST(a_compressed_upload_is_stored_as_the_plain_one)
{
    struct rig *r = rig_new(&taken);
    struct buf text;

    buf_init(&text, 4u << 20);
    for (unsigned i = 0; i < 40000; i++)
        (void)buf_fmt(&text, "{\"custom_id\":\"%u\",\"x\":\"%08x\"}\n", i,
                      i * 2654435761u);
    for (size_t i = 0; i < COUNTOF(names); i++) {
        struct buf form;
        struct reply re = ask_packed(r, "/v1/files", FORM, names[i],
                                     form_of(&form, "batch", buf_peek(&text)));
        struct id id;

        EQ_INT(re.status, 200);
        id = rig_id(&re);
        re = rig_get(r, rig_path("/v1/files/", &id, "/content"));
        EQ_INT(re.status, 200);
        EQ_INT(re.body.n, text.n);
        OK(memcmp(re.body.p, text.p, text.n) == 0);
        buf_done(&form);
        re = ask_packed(r, "/v1/files", FORM, names[i],
                        form_of(&form, "no such purpose", STR("x\n")));
        EQ_INT(re.status, 400);
        EQ_JSON(re, "error.param", "\"purpose\"");
        buf_done(&form);
    }
    buf_done(&text);
    rig_free(r);
}

TEST(a_compressed_body_that_is_cut_or_garbage_leaves_nothing)
{
    struct rig *r = rig_new(&taken);
    struct buf form;
    struct str text = form_of(&form, "batch", STR("{\"custom_id\":\"1\"}\n"));

    for (size_t i = 0; i < COUNTOF(names); i++) {
        struct str body = packed(names[i], text);
        struct reply re;

        for (size_t n = 0; n < body.n; n += 7) {
            re = ask(r, "/v1/files", FORM, names[i], (struct str){body.p, n});
            EQ_REFUSED(re, 400, "invalid_request_error", "null", "null");
            OK(rig_has(re.body, names[i]));
        }
        re = ask(r, "/v1/files", FORM, names[i], text);
        EQ_REFUSED(re, 400, "invalid_request_error", "null", "null");
        re = ask(r, "/v1/batches", JSON, names[i], CREATE);
        EQ_REFUSED(re, 400, "invalid_request_error", "null", "null");
        mem_free((void *)(uintptr_t)body.p);
    }
    buf_done(&form);
    EQ_INT(r->m->n_files, 0);
    rig_free(r); /* checks that no blob was left half-written */
}

TEST(bodies_that_become_too_large_are_refused)
{
    static char zeros[64u << 20];
    struct rig *r = rig_new(&taken);
    struct buf form;

    memset(zeros, ' ', sizeof zeros);
    for (size_t i = 0; i < COUNTOF(names); i++) {
        struct reply re = ask_packed(r, "/v1/uploads", JSON, names[i],
                                     (struct str){zeros, LIMIT_API_BODY + 1});

        EQ_REFUSED(re, 413, "invalid_request_error", "\"request_too_large\"", "null");
        re = ask_packed(r, "/v1/files", FORM, names[i],
                        form_of(&form, "batch", (struct str){zeros, sizeof zeros}));
        EQ_INT(re.status, 413); /* by the ratio or by the file's size */
        buf_done(&form);
        for (size_t k = 0; k < 5u << 20; k++) /* packs to about a third */
            zeros[k] = (char)('a' + (k * 2654435761u >> 29));
        re = ask_packed(r, "/v1/files", FORM, names[i],
                        form_of(&form, "batch", (struct str){zeros, 5u << 20}));
        EQ_REFUSED(re, 413, "invalid_request_error", "\"file_too_large\"", "\"file\"");
        memset(zeros, ' ', 5u << 20);
        buf_done(&form);
    }
    EQ_INT(r->m->n_files, 0);
    rig_free(r);
}
