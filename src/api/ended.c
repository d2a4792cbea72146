/* SPDX-License-Identifier: Apache-2.0 */
#include "api/ended.h"
#include "base/mem.h"

#define WINDOW ((size_t)32 << 10)

/* So much is passed over in one call at the most. */
#define AT_ONCE ((uint64_t)8 << 20)

/* Every result line begins so (core/outcome.h), the 32 digits of its id behind it. */
#define LINE_HEAD "{\"id\":\"batch_req_"
#define HEAD_N    (sizeof(LINE_HEAD) - 1 + 32)

struct source {
    struct blob *blob; /* NULL: the batch has no such file */
    uint64_t at, size;
    char *win; /* WINDOW bytes; NULL: none */
    uint64_t win_off;
    size_t win_n;
};

struct ended {
    const struct blob_ops *ops;
    struct id project, batch;
    uint32_t items, item; /* item: the next one */
    bool only_errors;
    struct source output, error;
    struct source *line; /* in the middle of a line of it; NULL: between lines */
    bool sent;           /* that line is being sent, not passed over */
};

static enum rc open_one(struct ended *x, struct store *store, struct blobs *blobs,
                        const struct id *file, struct source *s, struct err *e)
{
    struct file_rec rec = {0};
    enum rc rc;

    if (id_none(file))
        return RC_OK;
    rc = store->ops->file_get(store->self, &x->project, file->z, &rec, e);
    file_rec_done(&rec);
    if (rc == RC_OK)
        rc = blobs->ops->open(blobs->self, file->z, &s->blob, e);
    if (rc == RC_OK)
        s->size = x->ops->size(s->blob);
    else if (rc == RC_NOTFOUND)
        IGNORE(err_set(e, rc, "The result file '%s' of the batch was deleted.", file->z));
    return rc;
}

enum rc ended_open(struct store *store, struct blobs *blobs, const struct batch *b,
                   struct ended **ret, struct err *e)
{
    struct ended *x = mem_new(struct ended);
    enum rc rc;

    CHECK(batch_terminal(b->status));
    x->ops = blobs->ops;
    x->project = b->project;
    x->batch = b->id;
    x->items = b->counts.total;
    rc = open_one(x, store, blobs, &b->output_file, &x->output, e);
    if (rc == RC_OK)
        rc = open_one(x, store, blobs, &b->error_file, &x->error, e);
    if (rc == RC_OK)
        *ret = x;
    else
        IGNORE(ended_free(x)); /* always NULL */
    return rc;
}

struct ended *ended_free(struct ended *x)
{
    if (!x)
        return NULL;
    ended_rest(x);
    x->ops->close(x->output.blob);
    x->ops->close(x->error.blob);
    mem_free(x);
    return NULL;
}

static void rest_one(struct source *s)
{
    mem_free(s->win);
    s->win = NULL;
    s->win_n = 0;
}

void ended_rest(struct ended *x)
{
    rest_one(&x->output);
    rest_one(&x->error);
}

void ended_only_errors(struct ended *x)
{
    x->only_errors = true;
}

/* ---- bytes of a file ------------------------------------------------------------------
 */

/* *ret: what there is at s->at, want bytes at the least unless the file ends before. */
static enum rc look(struct ended *x, struct source *s, size_t want, struct str *ret,
                    struct err *e)
{
    uint64_t need = u64_min(want, s->size - s->at);
    enum rc rc;

    if (s->at < s->win_off || s->at + need > s->win_off + s->win_n) {
        if (!s->win && !(s->win = mem_try(WINDOW)))
            return err_set(e, RC_NOMEM, "no memory to read a result file");
        s->win_off = s->at;
        s->win_n = 0;
        rc = x->ops->pread(s->blob, s->win, WINDOW, s->at, &s->win_n, e);
        if (rc == RC_OK && s->win_n < need)
            rc = err_set(e, RC_CORRUPT, "a result file of '%s' ends early", x->batch.z);
        if (rc != RC_OK) {
            s->win_n = 0;
            return rc;
        }
    }
    *ret = (struct str){s->win + (s->at - s->win_off),
                        (size_t)(s->win_off + s->win_n - s->at)};
    return RC_OK;
}

/* ---- whole files ----------------------------------------------------------------------
 */

static enum rc copy_whole(struct ended *x, struct buf *out, size_t room, struct err *e)
{
    while (room) {
        struct source *s = x->output.at < x->output.size ? &x->output : &x->error;
        struct str have = {NULL, 0};
        enum rc rc;

        if (s->at >= s->size)
            return RC_NOTFOUND;
        rc = look(x, s, 1, &have, e);
        if (rc == RC_OK) {
            have.n = (size_t)u64_min(have.n, room);
            rc = buf_str(out, have);
        }
        if (rc != RC_OK)
            return rc;
        s->at += have.n;
        room -= have.n;
    }
    return RC_OK;
}

/* ---- single lines ---------------------------------------------------------------------
 */

/* Does the first line left of s have this id? */
static enum rc is_of(struct ended *x, struct source *s, const char hex[33], bool *ret,
                     struct err *e)
{
    struct str have = {NULL, 0};
    enum rc rc = RC_OK;

    *ret = false;
    if (s->at < s->size)
        rc = look(x, s, HEAD_N, &have, e);
    if (rc == RC_OK && have.n >= HEAD_N)
        *ret = memcmp(have.p, LINE_HEAD, sizeof(LINE_HEAD) - 1) == 0 &&
               memcmp(have.p + sizeof(LINE_HEAD) - 1, hex, 32) == 0;
    return rc;
}

/* Finds the line of the next item.  x->line stays NULL when it need not be read.  A line
 * that an earlier batch answered has an id of that one; it can only be in the output. */
static enum rc next_line(struct ended *x, ended_wanted_fn *wanted, void *ctx,
                         struct err *e)
{
    char hex[33];
    bool of_error;
    enum rc rc;

    id_request(&x->batch, x->item, hex);
    rc = is_of(x, &x->error, hex, &of_error, e);
    if (rc != RC_OK)
        return rc;
    x->sent = wanted(ctx, x->item);
    if (of_error) {
        x->line = &x->error;
    } else if (x->only_errors) {
        if (x->sent)
            return err_set(e, RC_CORRUPT, "line %u of '%s' is in no error file",
                           x->item + 1, x->batch.z);
    } else {
        x->line = x->output.at < x->output.size ? &x->output : &x->error;
        if (x->line->at >= x->line->size)
            return err_set(e, RC_CORRUPT, "the result files of '%s' have no line %u",
                           x->batch.z, x->item + 1);
    }
    x->item++;
    return RC_OK;
}

/* Sends or passes over what the window has of the line. */
static enum rc go_on(struct ended *x, struct buf *out, size_t *room, uint64_t *passed,
                     struct err *e)
{
    struct source *s = x->line;
    struct str have = {NULL, 0};
    const char *end;
    enum rc rc = look(x, s, 1, &have, e);

    if (rc != RC_OK)
        return rc;
    if (have.n == 0)
        return err_set(e, RC_CORRUPT, "a result file of '%s' ends within a line",
                       x->batch.z);
    end = memchr(have.p, '\n', have.n);
    if (end)
        have.n = (size_t)(end + 1 - have.p);
    if (x->sent && have.n > *room) {
        have.n = *room;
        end = NULL;
    }
    if (x->sent) {
        rc = buf_str(out, have);
        *room -= have.n;
    } else {
        *passed += have.n;
    }
    s->at += have.n;
    if (end)
        x->line = NULL;
    return rc;
}

enum rc ended_fill(struct ended *x, ended_wanted_fn *wanted, void *ctx, struct buf *out,
                   size_t room, struct err *e)
{
    uint64_t passed = 0;
    enum rc rc = RC_OK;

    if (!wanted)
        return copy_whole(x, out, room, e);
    while (rc == RC_OK && room && passed < AT_ONCE) {
        if (x->line) {
            rc = go_on(x, out, &room, &passed, e);
        } else if (x->item < x->items) {
            rc = next_line(x, wanted, ctx, e);
            passed += 64; /* looking costs as well */
        } else {
            return RC_NOTFOUND;
        }
    }
    return rc;
}
