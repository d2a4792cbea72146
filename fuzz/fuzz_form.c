/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_form: the forms of files and of parts on their way into a blob.  The first byte
 * says which (bit 0), how much may be kept (bits 1-3) and whether the blob fails (bits
 * 4-6); the second seeds the cuts; then the Content-Type up to the first LF, and the body.
 *
 * Fed whole and fed in pieces it comes to the same: the same refusal, or the same bytes
 * under the same name; never more than may be kept, and nothing half-written is left.
 */
/* reaches: src/api/form.c 28 */
/* reaches: src/http/multipart.c 46 */
#include "fuzz/lib/quiet.h"

#include "api/files.h"
#include "api/form.h"
#include "api/uploads.h"
#include "json/json.h"
#include "tests/lib/mem_store.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char too_large[] = "The file is too large.";

struct end {
    enum rc rc;
    struct apierr fault;
    struct err why;
    char filename[1024];
    bool named;
    uint64_t bytes;
    struct file_fields fields;
    struct str content; /* owned by the store */
};

static struct mem_store *store_new(unsigned how)
{
    static struct mem_store *m;

    if (!m)
        m = mem_store_new();
    m->fail_put = how & 16 ? RC_NOSPACE : RC_OK;
    m->fail_write = how & 32 ? RC_IO : RC_OK;
    m->fail_commit = how & 64 ? RC_NOSPACE : RC_OK;
    return m;
}

static void finish(struct form *f, struct mem_store *m, const char *id, struct end *ret)
{
    struct form_blob blob = {0};
    struct blob_sum sum = {0};
    struct id name;

    ret->rc = form_end(f, &blob, &ret->fault, &ret->why);
    if (ret->rc != RC_OK)
        return;
    ret->bytes = blob.bytes;
    ret->named = blob.filename != NULL;
    if (ret->named)
        CHECK(str_fmt(ret->filename, sizeof ret->filename, "%s", blob.filename) == RC_OK);
    CHECK(id_from(str_of(id), &name) == RC_OK);
    ret->rc = form_commit(f, &name, &sum, &ret->why);
    if (ret->rc != RC_OK)
        return;
    CHECK(sum.bytes == blob.bytes);
    ret->content = (struct str){m->blobs[m->n_blobs - 1].p, m->blobs[m->n_blobs - 1].n};
}

static void run(struct mem_store *m, const char *id, const struct form_spec *spec,
                uint64_t most, struct str type, struct str body, uint32_t cuts,
                struct end *ret)
{
    struct form_opts o = {.spec = spec,
                          .into = &ret->fields,
                          .blobs = &m->blobs_if,
                          .max_bytes = most,
                          .too_large = too_large};
    struct form *f;
    enum rc rc = RC_OK;

    *ret = (struct end){.rc = RC_OK};
    f = form_new(&o, type);
    while (body.n && rc == RC_OK) {
        size_t n = cuts ? 1 + (cuts >> 16) % (cuts & 64 ? 64 : 4) : body.n;
        struct str piece = {body.p, n < body.n ? n : body.n};

        if (cuts)
            cuts = (cuts * 1664525u + 1013904223u) | 1;
        rc = form_feed(f, piece);
        body.p += piece.n, body.n -= piece.n;
    }
    if (rc != RC_OK)
        CHECK(atomic_load(&m->puts) == 0); /* its room is given back at once */
    finish(f, m, id, ret);
    CHECK(rc == RC_OK || ret->rc == rc);
    IGNORE(form_free(f)); /* always NULL */
    CHECK(atomic_load(&m->puts) == 0);
}

static void check_refusal(const struct end *x)
{
    struct buf b;

    if (x->rc != RC_INVALID) {
        CHECK(x->why.text[0]);
        return;
    }
    CHECK(apierr_status(x->fault.kind) >= 400 && x->fault.message[0]);
    buf_init(&b, sizeof x->fault * 8);
    apierr_put(&x->fault, &b);
    CHECK(buf_failed(&b) == RC_OK);
    CHECK(json_read(buf_peek(&b), NULL, NULL, 0, NULL, NULL, NULL) == RC_OK);
    buf_done(&b);
}

static void check_same(const struct end *a, const struct end *b, uint64_t most)
{
    CHECK(a->rc == b->rc);
    if (a->rc == RC_INVALID) {
        CHECK(a->fault.kind == b->fault.kind);
        CHECK(strcmp(a->fault.message, b->fault.message) == 0);
        CHECK(strcmp(a->fault.param, b->fault.param) == 0);
    }
    check_refusal(a->rc == RC_OK ? &(struct end){.rc = RC_IO, .why = {"-"}} : a);
    if (a->rc != RC_OK)
        return;
    CHECK(a->bytes == b->bytes && a->bytes <= most);
    CHECK(a->named == b->named && strcmp(a->filename, b->filename) == 0);
    CHECK(str_eq(a->content, b->content));
    CHECK(strcmp(a->fields.purpose, b->fields.purpose) == 0);
    CHECK(a->fields.seconds == b->fields.seconds);
    CHECK(a->fields.seconds == 0 || (a->fields.seconds >= FILE_EXPIRES_MIN &&
                                     a->fields.seconds <= FILE_EXPIRES_MAX));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct end whole, split;
    struct str body = {(const char *)data + 2, n - 2}, type;
    const struct form_spec *spec;
    struct mem_store *m;
    uint64_t most;

    if (n < 2)
        return 0;
    type = str_cut(&body, '\n');
    m = store_new(data[0]);
    spec = data[0] & 1 ? &part_form : &files_form;
    most = (uint64_t)1 << (data[0] >> 1 & 7);
    run(m, "file-1", spec, most, type, body, 0, &whole);
    run(m, "file-2", spec, most, type, body, data[1] * 2654435761u + 1, &split);
    if (data[0] & 32 &&
        whole.rc != split.rc) /* too large, or written to the broken disk */
        CHECK(whole.rc == RC_INVALID && split.rc == RC_IO);
    else
        check_same(&whole, &split, most);
    while (m->n_blobs)
        mem_free(m->blobs[--m->n_blobs].p);
    return 0;
}
