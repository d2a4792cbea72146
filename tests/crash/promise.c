/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/crash/promise.h"
#include "base/buf.h"
#include "base/mem.h"
#include "json/json.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

enum { MOST = 4096, MOST_LINES = 1 << 16, ANSWER_MAX = 8 << 20 };

/* One connection: what the request under way is about, and the bytes that no whole answer
 * was made of yet. */
struct connection {
    uint64_t name;
    struct id results_of, content_of; /* a batch, a file; "": another request */
    char key[64];                     /* Idempotency-Key; "": none */
    struct buf told;
    bool in_chunks;   /* the head of an answer in chunks has gone by */
    struct buf lines; /* of results: what is no whole line yet */
};

void promises_init(struct promises *p)
{
    *p = (struct promises){.files = mem_new_n(struct promised_file, MOST),
                           .batches = mem_new_n(struct promised_batch, MOST),
                           .parts = mem_new_n(struct promised_part, MOST),
                           .uploads = mem_new_n(struct promised_upload, MOST),
                           .lines = mem_new_n(struct promised_line, MOST_LINES),
                           .names = mem_new_n(struct promised_name, MOST),
                           .keys = mem_new_n(struct promised_key, MOST),
                           .connections = mem_new_n(struct connection, MOST)};
}

void promises_done(struct promises *p)
{
    for (size_t i = 0; i < p->n_connections; i++) {
        buf_done(&p->connections[i].told);
        buf_done(&p->connections[i].lines);
    }
    for (size_t i = 0; i < p->n_lines; i++)
        mem_free((void *)(uintptr_t)p->lines[i].text.p);
    mem_free(p->lines);
    mem_free(p->names);
    mem_free(p->keys);
    mem_free(p->files);
    mem_free(p->batches);
    mem_free(p->parts);
    mem_free(p->uploads);
    mem_free(p->connections);
}

/* --- Objects --------------------------------------------------------------------------
 */

enum member {
    ID,
    OBJECT,
    STATUS,
    BYTES,
    FILENAME,
    DELETED,
    OUTPUT,
    ERROR,
    UPLOAD_ID,
    FILE_OF,
    FILE_ID,
    COUNTS,
    TOTAL,
    COMPLETED,
    FAILED,
    DATA,
    EXPIRES_AT,
    PRIORITY,
    PAUSED,
    REUSED,
    MEMBERS
};

static const struct json_want wants[MEMBERS] = {
    [ID] = {"id", -1},
    [OBJECT] = {"object", -1},
    [STATUS] = {"status", -1},
    [BYTES] = {"bytes", -1},
    [FILENAME] = {"filename", -1},
    [DELETED] = {"deleted", -1},
    [OUTPUT] = {"output_file_id", -1},
    [ERROR] = {"error_file_id", -1},
    [UPLOAD_ID] = {"upload_id", -1},
    [FILE_OF] = {"file", -1},
    [FILE_ID] = {"id", FILE_OF},
    [COUNTS] = {"request_counts", -1},
    [TOTAL] = {"total", COUNTS},
    [COMPLETED] = {"completed", COUNTS},
    [FAILED] = {"failed", COUNTS},
    [DATA] = {"data", -1},
    [EXPIRES_AT] = {"expires_at", -1},
    [PRIORITY] = {"priority", -1},
    [PAUSED] = {"paused", -1},
    [REUSED] = {"reused", -1},
};

/* Ids and names of the driver hold no escapes. */
static struct str inside(const struct json_val *v)
{
    return v->type == JSON_STRING ? (struct str){v->raw.p + 1, v->raw.n - 2} : STR("");
}

static struct id id_in(const struct json_val *v)
{
    struct id id = {""};

    if (id_from(inside(v), &id) != RC_OK)
        id.z[0] = '\0';
    return id;
}

static uint32_t number_in(const struct json_val *v)
{
    uint64_t n = 0;

    if (v->type == JSON_NUMBER && json_u64(v, &n) != RC_OK)
        PANIC("a count that is none");
    return (uint32_t)n;
}

/* The row of that id, or a new one; T has the id as its first field. */
#define ROW(T, list, n, of)                                                              \
    static struct T *of(struct promises *p, struct id id)                                \
    {                                                                                    \
        for (size_t i = 0; i < p->n; i++)                                                \
            if (strcmp(p->list[i].id.z, id.z) == 0)                                      \
                return &p->list[i];                                                      \
        CHECK(p->n < MOST);                                                              \
        p->list[p->n].id = id;                                                           \
        return &p->list[p->n++];                                                         \
    }

ROW(promised_file, files, n_files, file_of)
ROW(promised_batch, batches, n_batches, batch_of)
ROW(promised_part, parts, n_parts, part_of)
ROW(promised_upload, uploads, n_uploads, upload_of)
ROW(promised_key, keys, n_keys, key_of)

static void take_file(struct promises *p, const struct json_val *v)
{
    struct promised_file *f = file_of(p, id_in(&v[ID]));
    struct str name = inside(&v[FILENAME]);
    uint64_t n = 0;

    if (v[DELETED].type == JSON_TRUE) {
        f->may_be_gone = f->is_gone = true;
        return;
    }
    if (json_u64(&v[BYTES], &n) == RC_OK)
        f->bytes = n;
    if (name.n == 70 && str_eq((struct str){name.p + 64, 6}, STR(".jsonl")))
        memcpy(f->sha256, name.p, 64);
}

/* On the way to an end; an end is never left. */
static int rank(enum batch_status s)
{
    static const int ranks[BATCH_STATUS_COUNT] = {
        [BATCH_VALIDATING] = 0, [BATCH_IN_PROGRESS] = 1, [BATCH_FINALIZING] = 2,
        [BATCH_CANCELLING] = 2, [BATCH_FAILED] = 3,      [BATCH_COMPLETED] = 3,
        [BATCH_EXPIRED] = 3,    [BATCH_CANCELLED] = 3};

    return ranks[s];
}

static void take_batch(struct promises *p, const struct json_val *v)
{
    struct promised_batch *b = batch_of(p, id_in(&v[ID]));
    enum batch_status s;

    if (batch_status_from(inside(&v[STATUS]), &s) != RC_OK)
        PANIC("a status that is none: %.*s", STR_ARG(v[STATUS].raw));
    if (rank(s) < rank(b->status))
        PANIC("batch %s went back from %s to %s", b->id.z, batch_status_name(b->status),
              batch_status_name(s));
    b->status = s;
    b->changing = false;
    if (v[EXPIRES_AT].type == JSON_NUMBER)
        b->expires_at = number_in(&v[EXPIRES_AT]);
    b->counts = (struct batch_counts){number_in(&v[TOTAL]), number_in(&v[COMPLETED]),
                                      number_in(&v[FAILED])};
    if (v[OUTPUT].type == JSON_STRING)
        b->output = id_in(&v[OUTPUT]);
    if (v[ERROR].type == JSON_STRING)
        b->error = id_in(&v[ERROR]);
}

static void take_progress(struct promises *p, const struct json_val *v)
{
    struct promised_batch *b = batch_of(p, id_in(&v[ID]));
    char number[24];

    b->changing = false;
    b->has_asked = true;
    CHECK(str_fmt(number, sizeof number, "%.*s", STR_ARG(v[PRIORITY].raw)) == RC_OK);
    b->priority = (int)strtol(number, NULL, 10);
    b->paused = v[PAUSED].type == JSON_TRUE;
    b->reused = number_in(&v[REUSED]);
}

static void take_upload(struct promises *p, const struct json_val *v)
{
    struct promised_upload *u = upload_of(p, id_in(&v[ID]));
    struct str status = inside(&v[STATUS]);

    CHECK(status.n < sizeof u->status);
    memset(u->status, 0, sizeof u->status);
    memcpy(u->status, status.p, status.n);
    if (v[FILE_OF].type == JSON_OBJECT)
        u->file = id_in(&v[FILE_ID]);
}

static void take(struct promises *p, struct str text)
{
    struct json_val v[MEMBERS], top, one;
    struct json_iter it;

    if (json_read(text, &(struct json_limits){0}, wants, MEMBERS, v, &top, NULL) !=
            RC_OK ||
        top.type != JSON_OBJECT)
        return;
    if (json_str_is(v[OBJECT].raw, STR("file"))) {
        take_file(p, v);
    } else if (json_str_is(v[OBJECT].raw, STR("batch"))) {
        take_batch(p, v);
    } else if (json_str_is(v[OBJECT].raw, STR("batch.progress"))) {
        take_progress(p, v);
    } else if (json_str_is(v[OBJECT].raw, STR("upload"))) {
        take_upload(p, v);
        if (v[FILE_OF].type == JSON_OBJECT)
            take(p, v[FILE_OF].raw);
    } else if (json_str_is(v[OBJECT].raw, STR("upload.part"))) {
        part_of(p, id_in(&v[ID]))->upload = id_in(&v[UPLOAD_ID]);
    } else if (json_str_is(v[OBJECT].raw, STR("list"))) {
        it = json_iter(&v[DATA]);
        while (json_next(&it, NULL, &one))
            take(p, one.raw);
    }
}

/* --- Answers --------------------------------------------------------------------------
 */

static struct connection *connection_of(struct promises *p, uint64_t name)
{
    for (size_t i = p->n_connections; i-- > 0;)
        if (p->connections[i].name == name)
            return &p->connections[i];
    CHECK(p->n_connections < MOST);
    p->connections[p->n_connections].name = name;
    buf_init(&p->connections[p->n_connections].told, ANSWER_MAX);
    buf_init(&p->connections[p->n_connections].lines, ANSWER_MAX);
    return &p->connections[p->n_connections++];
}

static const char *find_text(struct str s, const char *what)
{
    return memmem(s.p, s.n, what, strlen(what));
}

/* The length of the body that the head announces; the driver's server never sends an
 * object in chunks. */
static size_t body_length(struct str head)
{
    const char *at = find_text(head, "Content-Length: ");

    if (!at)
        at = find_text(head, "content-length: ");
    return at ? strtoul(at + 16, NULL, 10) : 0;
}

static void drop_front(struct buf *b, size_t n)
{
    struct buf rest;

    buf_init(&rest, ANSWER_MAX);
    CHECK(buf_add(&rest, b->p + n, b->n - n) == RC_OK);
    buf_done(b);
    *b = rest;
}

static void add_line(struct promises *p, const struct id *batch, struct str line)
{
    uint64_t hash = XXH3_64bits(line.p, line.n);

    for (size_t i = 0; i < p->n_lines; i++)
        if (p->lines[i].hash == hash)
            return;
    CHECK(p->n_lines < MOST_LINES);
    p->lines[p->n_lines++] =
        (struct promised_line){*batch, hash, {mem_dup(line.p, line.n), line.n}};
    p->answers++;
}

/* The results that came in one chunk: lines are promised one by one. */
static void take_lines(struct promises *p, struct connection *c, struct str data)
{
    const char *end;

    CHECK(buf_add(&c->lines, data.p, data.n) == RC_OK);
    while (c->lines.n && (end = memchr(c->lines.p, '\n', c->lines.n))) {
        size_t n = (size_t)(end - c->lines.p) + 1;

        add_line(p, &c->results_of, (struct str){c->lines.p, n});
        drop_front(&c->lines, n);
    }
}

/* RFC 9112 7.1.  true: something was promised. */
static bool take_chunks(struct promises *p, struct connection *c)
{
    bool any = false;

    for (;;) {
        struct str s = buf_peek(&c->told);
        const char *end = find_text(s, "\r\n");
        size_t size, head;

        if (!end)
            return any;
        head = (size_t)(end - s.p) + 2;
        size = strtoul(s.p, NULL, 16);
        if (s.n < head + size + 2)
            return any;
        if (!id_none(&c->results_of))
            take_lines(p, c, (struct str){s.p + head, size});
        drop_front(&c->told, head + size + 2);
        any = true;
        if (size == 0) {
            c->in_chunks = false;
            return any;
        }
    }
}

static void take_content(struct promises *p, const struct id *file, struct str body)
{
    struct promised_file *f = file_of(p, *file);
    uint8_t sum[32];
    unsigned n = sizeof sum;

    if (f->sha256[0])
        return; /* of an upload: compared with what is there, not with what was read */
    CHECK(EVP_Digest(body.p, body.n, sum, &n, EVP_sha256(), NULL) == 1);
    for (size_t i = 0; i < sizeof sum; i++)
        snprintf(f->sha256 + 2 * i, 3, "%02x", sum[i]);
    f->bytes = body.n;
}

static void take_name(struct promises *p, const struct connection *c, struct str body)
{
    static const struct json_want want[] = {{"id", -1}};
    struct json_val v;

    if (json_read(body, &(struct json_limits){0}, want, 1, &v, NULL, NULL) != RC_OK)
        return;
    for (size_t i = 0; i < p->n_names; i++)
        if (strcmp(p->names[i].name, c->key) == 0)
            p->names[i].batch = id_in(&v);
}

static void take_answer(struct promises *p, struct connection *c, struct str body)
{
    if (!id_none(&c->content_of)) {
        take_content(p, &c->content_of, body);
        return;
    }
    take(p, body);
    if (c->key[0])
        take_name(p, c, body);
}

/* Takes whole answers off the connection's bytes. */
static bool whole_answers(struct promises *p, struct connection *c)
{
    bool any = false;

    for (;;) {
        struct str s = buf_peek(&c->told);
        const char *end = c->in_chunks ? NULL : find_text(s, "\r\n\r\n");
        size_t head_n, whole_n;

        if (c->in_chunks)
            return take_chunks(p, c) || any;
        if (!end)
            return any;
        head_n = (size_t)(end - s.p) + 4;
        if (find_text((struct str){s.p, head_n}, "chunked")) {
            c->in_chunks = true;
            drop_front(&c->told, head_n);
            continue;
        }
        whole_n = head_n + body_length((struct str){s.p, head_n});
        if (s.n < whole_n)
            return any;
        p->answers++;
        if (str_starts(s, STR("HTTP/1.1 200"))) {
            take_answer(p, c, (struct str){s.p + head_n, whole_n - head_n});
            any = true;
        }
        drop_front(&c->told, whole_n);
    }
}

/* --- Requests -------------------------------------------------------------------------
 */

/* From the moment a client asks for it, a thing may be gone, or be another. */
static void heard_end(struct promises *p, struct str s)
{
    char line[128];

    for (size_t i = 0; i < p->n_files; i++) {
        snprintf(line, sizeof line, "DELETE /v1/files/%s ", p->files[i].id.z);
        if (find_text(s, line))
            p->files[i].may_be_gone = true;
    }
    for (size_t i = 0; i < p->n_parts; i++) {
        char ends[2][128];

        snprintf(ends[0], sizeof ends[0], "POST /v1/uploads/%s/complete ",
                 p->parts[i].upload.z);
        snprintf(ends[1], sizeof ends[1], "POST /v1/uploads/%s/cancel ",
                 p->parts[i].upload.z);
        if (find_text(s, ends[0]) || find_text(s, ends[1]))
            p->parts[i].may_be_gone = true;
    }
    for (size_t i = 0; i < p->n_batches; i++) {
        snprintf(line, sizeof line, "POST /v1/batches/%s", p->batches[i].id.z);
        if (find_text(s, line)) {
            p->batches[i].changing = true;
            p->batches[i].has_asked = false;
        }
    }
}

/* The id between the two texts; "" when it is not so. */
static struct id id_between(struct str s, const char *before, const char *behind)
{
    const char *from = find_text(s, before);
    struct str rest;
    struct id id = {""};
    size_t n = 0;

    if (from != s.p)
        return id;
    rest = (struct str){from + strlen(before), s.n - strlen(before)};
    while (n < rest.n && rest.p[n] != '/' && rest.p[n] != ' ')
        n++;
    if (!str_starts((struct str){rest.p + n, rest.n - n}, str_of(behind)) ||
        id_from((struct str){rest.p, n}, &id) != RC_OK)
        id.z[0] = '\0';
    return id;
}

/* What the answer to this request will be about. */
static void heard_begin(struct promises *p, struct connection *c, struct str s)
{
    const char *key = find_text(s, "Idempotency-Key: ");

    if (!str_starts(s, STR("GET ")) && !str_starts(s, STR("POST ")) &&
        !str_starts(s, STR("DELETE ")))
        return; /* more of a body */
    c->results_of = id_between(s, "GET /v1/batches/", "/results");
    c->content_of = id_between(s, "GET /v1/files/", "/content");
    c->key[0] = '\0';
    if (!key)
        return;
    CHECK(sscanf(key, "Idempotency-Key: %63[^\r]", c->key) == 1);
    for (size_t i = 0; i < p->n_names; i++)
        if (strcmp(p->names[i].name, c->key) == 0)
            return;
    CHECK(p->n_names < MOST);
    memcpy(p->names[p->n_names++].name, c->key, sizeof c->key);
}

static void learnt(struct promises *p, struct str s)
{
    static const char *const uses[] = {"key-unsure", "key-in-force", "key-revoked"};
    struct str rest = s, word = str_cut(&rest, ' ');
    uint64_t n = 0;
    struct id id;

    if (str_is(word, "webhooks") && str_u64(rest, &n) == RC_OK)
        p->webhooks = (unsigned)n;
    for (unsigned i = 0; i < COUNTOF(uses); i++)
        if (str_is(word, uses[i]) && id_from(rest, &id) == RC_OK)
            key_of(p, id)->use = (enum promised_use)i;
    p->answers++;
}

bool promises_event(struct promises *p, const struct trace_event *e, const char *data)
{
    struct str s = {data, e->data_n};
    struct connection *c;

    if (e->kind == TRACE_LEARNT)
        learnt(p, s);
    if (e->kind != TRACE_TOLD && e->kind != TRACE_HEARD)
        return e->kind == TRACE_LEARNT;
    c = connection_of(p, e->node);
    if (e->kind == TRACE_HEARD) {
        heard_end(p, s);
        heard_begin(p, c, s);
        return false;
    }
    CHECK(buf_add(&c->told, data, e->data_n) == RC_OK);
    return whole_answers(p, c);
}
