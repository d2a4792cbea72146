/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/crash/promise.h"
#include "base/buf.h"
#include "base/mem.h"
#include "json/json.h"

#include <stdio.h>
#include <stdlib.h>

enum { MOST = 4096, ANSWER_MAX = 8 << 20 };

/* One connection's bytes that no whole answer was made of yet. */
struct connection {
    uint64_t name;
    struct buf told;
};

void promises_init(struct promises *p)
{
    *p = (struct promises){.files = mem_new_n(struct promised_file, MOST),
                           .batches = mem_new_n(struct promised_batch, MOST),
                           .parts = mem_new_n(struct promised_part, MOST),
                           .uploads = mem_new_n(struct promised_upload, MOST),
                           .connections = mem_new_n(struct connection, MOST)};
}

void promises_done(struct promises *p)
{
    for (size_t i = 0; i < p->n_connections; i++)
        buf_done(&p->connections[i].told);
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
    b->counts = (struct batch_counts){number_in(&v[TOTAL]), number_in(&v[COMPLETED]),
                                      number_in(&v[FAILED])};
    if (v[OUTPUT].type == JSON_STRING)
        b->output = id_in(&v[OUTPUT]);
    if (v[ERROR].type == JSON_STRING)
        b->error = id_in(&v[ERROR]);
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

/* Takes whole answers off the connection's bytes. */
static bool whole_answers(struct promises *p, struct connection *c)
{
    bool any = false;

    for (;;) {
        struct str s = buf_peek(&c->told);
        const char *end = find_text(s, "\r\n\r\n");
        size_t head_n, whole_n;
        struct buf rest;

        if (!end)
            return any;
        head_n = (size_t)(end - s.p) + 4;
        whole_n = head_n + body_length((struct str){s.p, head_n});
        if (s.n < whole_n)
            return any;
        p->answers++;
        if (str_starts(s, STR("HTTP/1.1 200"))) {
            take(p, (struct str){s.p + head_n, whole_n - head_n});
            any = true;
        }
        buf_init(&rest, ANSWER_MAX);
        CHECK(buf_add(&rest, s.p + whole_n, s.n - whole_n) == RC_OK);
        buf_done(&c->told);
        c->told = rest;
    }
}

/* From the moment a client asks for it, a thing may be gone. */
static void heard(struct promises *p, struct str s)
{
    for (size_t i = 0; i < p->n_files; i++) {
        char line[128];

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
}

bool promises_event(struct promises *p, const struct trace_event *e, const char *data)
{
    struct connection *c;

    if (e->kind == TRACE_HEARD)
        heard(p, (struct str){data, e->data_n});
    if (e->kind != TRACE_TOLD)
        return false;
    c = connection_of(p, e->node);
    CHECK(buf_add(&c->told, data, e->data_n) == RC_OK);
    return whole_answers(p, c);
}
