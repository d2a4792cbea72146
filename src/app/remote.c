/* SPDX-License-Identifier: Apache-2.0 */
#include "app/remote.h"
#include "app/config.h"
#include "app/exit.h"
#include "app/input.h"
#include "app/setting.h"

#include "base/fsio.h"
#include "base/mem.h"
#include "json/json.h"

#include <curl/curl.h>
#include <stdlib.h>

#define ANSWER_MAX ((size_t)64 << 20) /* a page of 100 batches with all their errors */
#define SHOWN_MAX  ((size_t)64 << 10) /* of an error's answer */

enum { CONNECT_SECONDS = 10, STALL_SECONDS = 300 };

struct remote {
    CURL *curl;
    char *base; /* ends behind /v1 */
    struct curl_slist *headers;
    char reason[CURL_ERROR_SIZE];
};

/* --- Making ------------------------------------------------------------------------- */

static enum rc set_base(struct remote *r, const char *url, struct err *e)
{
    struct str s;
    struct buf b;

    if (!url)
        url = getenv("BATCHD_SERVER");
    if (!url || !url[0])
        url = "http://127.0.0.1:8080";
    s = str_of(url);
    if (!setting_url_ok(s))
        return err_set(e, RC_INVALID,
                       "the server's URL must be http://HOST or https://HOST with port "
                       "and path, without a password");
    while (s.n && s.p[s.n - 1] == '/')
        s.n--;
    if (str_ends(s, STR("/v1")))
        s.n -= 3;
    buf_init(&b, 4096);
    buf_fmt(&b, "%.*s/v1", STR_ARG(s));
    r->base = buf_take(&b, &s.n);
    return r->base ? RC_OK : RC_NOMEM;
}

/* The header is made here and wiped with the rest: the key is in no other place. */
static enum rc set_key(struct remote *r, const char *key_file, struct err *e)
{
    char *key, line[4200];
    struct curl_slist *list;
    enum rc rc;

    if (!key_file)
        key_file = getenv("BATCHD_KEY_FILE");
    if (!key_file || !key_file[0])
        return RC_OK;
    rc = config_key_file(key_file, &key, e);
    if (rc != RC_OK)
        return rc;
    rc = str_fmt(line, sizeof line, "Authorization: Bearer %s", key);
    list = rc == RC_OK ? curl_slist_append(r->headers, line) : NULL;
    mem_wipe(key, strlen(key));
    mem_free(key);
    mem_wipe(line, sizeof line);
    if (!list)
        return RC_NOMEM;
    r->headers = list;
    return RC_OK;
}

enum rc remote_new(const char *url, const char *key_file, struct remote **ret,
                   struct err *e)
{
    struct remote *r = mem_new(struct remote);
    enum rc rc = set_base(r, url, e);

    if (rc == RC_OK)
        rc = set_key(r, key_file, e);
    if (rc == RC_OK && curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        rc = RC_NOMEM;
    if (rc == RC_OK && !(r->curl = curl_easy_init()))
        rc = RC_NOMEM;
    if (rc != RC_OK) {
        remote_free(r);
        return rc;
    }
    *ret = r;
    return RC_OK;
}

struct remote *remote_free(struct remote *r)
{
    if (!r)
        return NULL;
    curl_easy_cleanup(r->curl);
    for (struct curl_slist *h = r->headers; h; h = h->next)
        mem_wipe(h->data, strlen(h->data));
    curl_slist_free_all(r->headers);
    mem_free(r->base);
    mem_free(r);
    return NULL;
}

/* --- One exchange ------------------------------------------------------------------- */

/* Where an answer's body goes. */
struct sink {
    struct remote *remote;
    struct buf *answer; /* of JSON answers, and of errors */
    int fd;             /* of downloads that go well; -1: none */
    const char *path;
    enum rc rc;
    struct err *e;
};

static size_t take_body(char *p, size_t size, size_t n, void *ctx)
{
    struct sink *s = ctx;
    long status = 0;

    curl_easy_getinfo(s->remote->curl, CURLINFO_RESPONSE_CODE, &status);
    if (s->fd >= 0 && status == 200)
        s->rc = fs_write(s->fd, p, size * n, s->path, s->e);
    else
        s->rc = buf_add(s->answer, p, size * n);
    return s->rc == RC_OK ? size * n : 0;
}

static bool set_up(struct remote *r, const char *path, struct sink *s)
{
    struct buf url;
    size_t n;
    char *text;
    CURL *c = r->curl;
    bool ok = true;

    buf_init(&url, 4096);
    buf_fmt(&url, "%s%s", r->base, path);
    text = buf_take(&url, &n);
    curl_easy_reset(c);
#define SET(option, value) ok = curl_easy_setopt(c, option, value) == CURLE_OK && ok
    SET(CURLOPT_URL, text);
    SET(CURLOPT_HTTPHEADER, r->headers);
    SET(CURLOPT_ERRORBUFFER, r->reason);
    SET(CURLOPT_WRITEFUNCTION, take_body);
    SET(CURLOPT_WRITEDATA, s);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_PROXY, ""); /* http_proxy in the environment is not meant for us */
    SET(CURLOPT_USERAGENT, "batchd");
    SET(CURLOPT_CONNECTTIMEOUT, (long)CONNECT_SECONDS);
    SET(CURLOPT_LOW_SPEED_LIMIT, 1L);
    SET(CURLOPT_LOW_SPEED_TIME, (long)STALL_SECONDS);
#undef SET
    r->reason[0] = '\0';
    mem_free(text);
    return ok && text;
}

static enum rc rc_of_status(long status)
{
    switch (status) {
    case 401:
    case 403:
        return RC_DENIED;
    case 404:
        return RC_NOTFOUND;
    case 409:
        return RC_CONFLICT;
    case 413:
        return RC_LIMIT;
    case 503:
        return RC_AGAIN;
    default:
        return status >= 400 && status < 500 ? RC_INVALID : RC_UPSTREAM;
    }
}

static enum rc tell_refusal(const struct remote *r, long status, const struct buf *answer,
                            struct err *e)
{
    static const struct json_want wants[] = {{"error", -1}, {"message", 0}};
    struct json_val v[COUNTOF(wants)];
    enum rc rc = rc_of_status(status);
    struct buf text;

    buf_init(&text, SHOWN_MAX);
    if (json_read(buf_peek(answer), NULL, wants, COUNTOF(wants), v, NULL, NULL) !=
            RC_OK ||
        v[1].type != JSON_STRING || json_unescape(v[1].raw, &text) != RC_OK) {
        err_set(e, rc, "the server at %s answered %ld without a reason", r->base, status);
    } else {
        err_set(e, rc, "the server refuses (%ld): %.*s", status,
                (int)u64_min(text.n, 400), text.p);
    }
    buf_done(&text);
    return rc;
}

static enum rc perform(struct remote *r, struct sink *s, struct err *e)
{
    CURLcode code = curl_easy_perform(r->curl);
    long status = 0;

    if (s->rc == RC_LIMIT)
        return err_set(e, RC_UPSTREAM, "the server at %s answers with too many bytes",
                       r->base);
    if (s->rc != RC_OK)
        return s->rc; /* the disk: its sentence is there */
    curl_easy_getinfo(r->curl, CURLINFO_RESPONSE_CODE, &status);
    /* A server may refuse before it has read all, and close: what it said counts. */
    if (code != CURLE_OK && (status < 400 || s->answer->n == 0))
        return err_set(e, RC_UPSTREAM, "the server at %s cannot be reached: %s", r->base,
                       r->reason[0] ? r->reason : curl_easy_strerror(code));
    if (status < 200 || status > 299)
        return tell_refusal(r, status, s->answer, e);
    return RC_OK;
}

enum rc remote_call(struct remote *r, const char *method, const char *path,
                    const struct buf *body, struct buf *answer, struct err *e)
{
    struct sink s = {r, answer, -1, NULL, RC_OK, e};
    struct curl_slist *json = NULL;
    bool ok;
    enum rc rc;

    buf_done(answer);
    buf_init(answer, ANSWER_MAX);
    ok = set_up(r, path, &s) &&
         curl_easy_setopt(r->curl, CURLOPT_CUSTOMREQUEST, method) == CURLE_OK;
    if (ok && body) {
        json = curl_slist_append(NULL, "Content-Type: application/json");
        for (const struct curl_slist *h = r->headers; h && json; h = h->next)
            ok = curl_slist_append(json, h->data) != NULL && ok;
        ok =
            ok && json &&
            curl_easy_setopt(r->curl, CURLOPT_HTTPHEADER, json) == CURLE_OK &&
            curl_easy_setopt(r->curl, CURLOPT_POSTFIELDSIZE, (long)body->n) == CURLE_OK &&
            curl_easy_setopt(r->curl, CURLOPT_POSTFIELDS, body->p) == CURLE_OK;
    }
    rc = ok ? perform(r, &s, e) : err_set(e, RC_NOMEM, "out of memory");
    for (struct curl_slist *h = json; h; h = h->next)
        mem_wipe(h->data, strlen(h->data));
    curl_slist_free_all(json);
    return rc;
}

/* --- Files -------------------------------------------------------------------------- */

struct source {
    struct input *in;
    uint64_t off;
    bool failed;
};

static size_t give_bytes(char *dst, size_t size, size_t n, void *ctx)
{
    struct source *s = ctx;
    size_t got = 0;

    if (input_read(s->in, dst, size * n, s->off, &got) != RC_OK) {
        s->failed = true;
        return CURL_READFUNC_ABORT;
    }
    s->off += got;
    return got;
}

static int seek_bytes(void *ctx, curl_off_t off, int origin)
{
    struct source *s = ctx;

    if (origin != SEEK_SET || off < 0)
        return CURL_SEEKFUNC_CANTSEEK;
    s->off = (uint64_t)off;
    return CURL_SEEKFUNC_OK;
}

static bool add_parts(curl_mime *form, struct source *src, const char *filename)
{
    curl_mimepart *purpose = curl_mime_addpart(form);
    curl_mimepart *file = curl_mime_addpart(form);

    return purpose && file && curl_mime_name(purpose, "purpose") == CURLE_OK &&
           curl_mime_data(purpose, "batch", CURL_ZERO_TERMINATED) == CURLE_OK &&
           curl_mime_name(file, "file") == CURLE_OK &&
           curl_mime_filename(file, filename) == CURLE_OK &&
           curl_mime_type(file, "application/jsonl") == CURLE_OK &&
           curl_mime_data_cb(file, (curl_off_t)src->in->size, give_bytes, seek_bytes,
                             NULL, src) == CURLE_OK;
}

/* Reads a string member as an id; null or no such member: "". */
static enum rc read_id(const struct json_val *v, struct id *ret)
{
    struct buf text;
    enum rc rc = RC_OK;

    *ret = (struct id){""};
    if (v->type != JSON_STRING)
        return v->type == JSON_NULL || v->type == JSON_NONE ? RC_OK : RC_INVALID;
    buf_init(&text, ID_CAP);
    rc = json_unescape(v->raw, &text);
    if (rc == RC_OK)
        rc = id_from(buf_peek(&text), ret);
    buf_done(&text);
    return rc;
}

static enum rc garbage(const char *what, struct err *e)
{
    return err_set(e, RC_UPSTREAM,
                   "the server's answer is not a %s object; is it a batch "
                   "server?",
                   what);
}

enum rc remote_upload(struct remote *r, struct input *in, const char *filename,
                      struct id *ret, struct err *e)
{
    static const struct json_want want = {"id", -1};
    struct buf answer;
    struct source src = {.in = in};
    struct sink s = {r, &answer, -1, NULL, RC_OK, e};
    struct json_val v;
    curl_mime *form = NULL;
    enum rc rc = RC_NOMEM;

    buf_init(&answer, ANSWER_MAX);
    if (set_up(r, "/files", &s) && (form = curl_mime_init(r->curl)) != NULL &&
        add_parts(form, &src, filename) &&
        curl_easy_setopt(r->curl, CURLOPT_MIMEPOST, form) == CURLE_OK)
        rc = perform(r, &s, e);
    if (src.failed)
        rc = err_set(e, RC_IO, "cannot read '%s'", in->path);
    if (rc == RC_OK &&
        (json_read(buf_peek(&answer), NULL, &want, 1, &v, NULL, NULL) != RC_OK ||
         read_id(&v, ret) != RC_OK || id_none(ret)))
        rc = garbage("file", e);
    curl_mime_free(form);
    buf_done(&answer);
    return rc;
}

enum rc remote_download(struct remote *r, const struct id *file, int fd, const char *path,
                        struct err *e)
{
    char url[128];
    struct buf answer;
    struct sink s = {r, &answer, fd, path, RC_OK, e};
    enum rc rc = RC_NOMEM;

    CHECK(str_fmt(url, sizeof url, "/files/%s/content", file->z) == RC_OK);
    buf_init(&answer, ANSWER_MAX);
    if (set_up(r, url, &s))
        rc = perform(r, &s, e);
    buf_done(&answer);
    return rc;
}

/* --- Batches ------------------------------------------------------------------------ */

enum {
    V_ID,
    V_STATUS,
    V_ENDPOINT,
    V_OUTPUT,
    V_ERROR,
    V_ERRORS,
    V_CREATED,
    V_COUNTS,
    V_TOTAL,
    V_COMPLETED,
    V_FAILED,
    V_AT_COMPLETED,
    V_AT_FAILED,
    V_AT_EXPIRED,
    V_AT_CANCELLED,
    V_COUNT
};

static const struct json_want batch_wants[V_COUNT] = {
    [V_ID] = {"id", -1},
    [V_STATUS] = {"status", -1},
    [V_ENDPOINT] = {"endpoint", -1},
    [V_OUTPUT] = {"output_file_id", -1},
    [V_ERROR] = {"error_file_id", -1},
    [V_ERRORS] = {"errors", -1},
    [V_CREATED] = {"created_at", -1},
    [V_COUNTS] = {"request_counts", -1},
    [V_TOTAL] = {"total", V_COUNTS},
    [V_COMPLETED] = {"completed", V_COUNTS},
    [V_FAILED] = {"failed", V_COUNTS},
    [V_AT_COMPLETED] = {"completed_at", -1},
    [V_AT_FAILED] = {"failed_at", -1},
    [V_AT_EXPIRED] = {"expired_at", -1},
    [V_AT_CANCELLED] = {"cancelled_at", -1},
};

static uint64_t number(const struct json_val *v)
{
    uint64_t n = 0;

    if (v->type == JSON_NUMBER)
        IGNORE(json_u64(v, &n)); /* not a whole number: shown as 0 */
    return n;
}

static enum rc read_text(const struct json_val *v, char *dst, size_t cap)
{
    struct buf text;
    enum rc rc = RC_INVALID;

    buf_init(&text, cap - 1);
    if (v->type == JSON_STRING && json_unescape(v->raw, &text) == RC_OK)
        rc = str_fmt(dst, cap, "%.*s", STR_ARG(buf_peek(&text)));
    buf_done(&text);
    return rc;
}

enum rc remote_batch_read(struct str json, struct remote_batch *ret, struct err *e)
{
    struct json_val v[V_COUNT];
    struct remote_batch b = {0};
    char status[32];

    if (json_read(json, NULL, batch_wants, V_COUNT, v, NULL, NULL) != RC_OK ||
        read_id(&v[V_ID], &b.id) != RC_OK || id_none(&b.id) ||
        read_id(&v[V_OUTPUT], &b.output_file) != RC_OK ||
        read_id(&v[V_ERROR], &b.error_file) != RC_OK ||
        read_text(&v[V_ENDPOINT], b.endpoint, sizeof b.endpoint) != RC_OK ||
        read_text(&v[V_STATUS], status, sizeof status) != RC_OK ||
        batch_status_from(str_of(status), &b.status) != RC_OK)
        return garbage("batch", e);
    b.counts.total = (uint32_t)number(&v[V_TOTAL]);
    b.counts.completed = (uint32_t)number(&v[V_COMPLETED]);
    b.counts.failed = (uint32_t)number(&v[V_FAILED]);
    b.created_at = (int64_t)number(&v[V_CREATED]);
    for (int i = V_AT_COMPLETED; i <= V_AT_CANCELLED; i++)
        if (v[i].type == JSON_NUMBER)
            b.ended_at = (int64_t)number(&v[i]);
    if (v[V_ERRORS].type == JSON_OBJECT)
        b.errors = v[V_ERRORS].raw;
    *ret = b;
    return RC_OK;
}

enum rc remote_batch_get(struct remote *r, const struct id *id, struct buf *answer,
                         struct remote_batch *ret, struct err *e)
{
    char path[96];
    enum rc rc;

    CHECK(str_fmt(path, sizeof path, "/batches/%s", id->z) == RC_OK);
    rc = remote_call(r, "GET", path, NULL, answer, e);
    return rc == RC_OK ? remote_batch_read(buf_peek(answer), ret, e) : rc;
}

int remote_exit(enum rc rc)
{
    switch (rc) {
    case RC_OK:
        return EXIT_DONE;
    case RC_UPSTREAM:
    case RC_AGAIN:
        return EXIT_UNREACHABLE;
    case RC_IO:
    case RC_NOSPACE:
    case RC_CORRUPT:
    case RC_NOMEM:
        return EXIT_DISK;
    case RC_NOTFOUND:
    case RC_CONFLICT:
    case RC_INVALID:
    case RC_LIMIT:
    case RC_DENIED:
    case RC_CANCELLED:
    case RC_COUNT:
        break;
    }
    return EXIT_USAGE;
}
