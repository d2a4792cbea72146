/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/reuse.h"
#include "core/line.h"
#include "engine/answers.h"
#include "engine/intake.h"
#include "engine/jobs.h"
#include "json/json.h"

/* --- The files of the earlier batch --------------------------------------------------- */

static char *gone(const struct live *l, const char *what, const char *name)
{
    char message[320];

    IGNORE(str_fmt(message, sizeof message,
                   "Cannot continue from batch '%s': %s%s%s is not there any more.",
                   l->rec.continue_from.z, what, *name ? " " : "", name));
    return intake_one_error("invalid_request", "continue_from", message);
}

static enum rc open_file(struct live *l, const struct id *file, const char *what,
                         struct blob **ret, char **ret_errors)
{
    const struct blobs *blobs = l->engine->o.blobs;
    enum rc rc = blobs->ops->open(blobs->self, file->z, ret, &l->task.err);

    if (rc != RC_NOTFOUND)
        return rc;
    *ret_errors = gone(l, what, file->z);
    return RC_OK;
}

enum rc reuse_open(struct live *l, struct reuse *ret, char **ret_errors)
{
    const struct store *s = l->engine->o.store;
    enum rc rc;

    *ret = (struct reuse){0};
    if (id_none(&l->rec.continue_from))
        return RC_OK;
    rc = s->ops->batch_get(s->self, &l->rec.project, l->rec.continue_from.z, &ret->from,
                           &l->task.err);
    if (rc == RC_NOTFOUND) {
        *ret_errors = gone(l, "it", "");
        return RC_OK;
    }
    if (rc != RC_OK || id_none(&ret->from.output_file))
        return rc;
    rc =
        open_file(l, &ret->from.output_file, "its output file", &ret->output, ret_errors);
    if (rc == RC_OK && !*ret_errors)
        rc = open_file(l, &ret->from.input_file, "its input file", &ret->input,
                       ret_errors);
    return rc;
}

void reuse_close(struct live *l, struct reuse *r)
{
    const struct blobs *blobs = l->engine->o.blobs;

    blobs->ops->close(r->input);
    blobs->ops->close(r->output);
    r->input = r->output = NULL;
    batch_done(&r->from);
}

/* --- Taking over ---------------------------------------------------------------------- */

struct source {
    struct live *live;
    struct blob *blob;
};

/* A jsonl_read_fn. */
static enum rc read_source(void *ctx, char *dst, size_t cap, uint64_t off, size_t *ret_n)
{
    struct source *s = ctx;

    return s->live->engine->o.blobs->ops->pread(s->blob, dst, cap, off, ret_n,
                                                &s->live->task.err);
}

static enum rc read_answers(struct live *l, struct reuse *r, struct answers *a)
{
    struct source output = {l, r->output}, input = {l, r->input};
    const atomic_bool *stop = &l->engine->stopping;
    enum rc rc = answers_read_output(a, read_source, &output, r->from.counts.completed,
                                     stop, &l->task.err);

    return rc == RC_OK ? answers_read_input(a, read_source, &input, r->from.endpoint,
                                            stop, &l->task.err)
                       : rc;
}

/* Is it the result of that line?  The hashes said so. */
static bool is_result_of(struct str text, struct str custom_id)
{
    struct json_val top = {.type = JSON_OBJECT, .raw = text}, v;
    struct json_iter it = json_iter(&top);
    struct str key;

    while (json_next(&it, &key, &v))
        if (json_str_is(key, STR("custom_id")))
            return v.type == JSON_STRING && json_str_eq(v.raw, custom_id);
    return false;
}

/* The bytes of one answer with a line feed behind, in *text. */
static enum rc read_answer(struct live *l, struct reuse *r, const struct answer_place *at,
                           struct buf *text)
{
    size_t got = 0;
    char *dst;
    enum rc rc;

    buf_reset(text);
    rc = buf_reserve(text, (size_t)at->length + 1, &dst);
    if (rc != RC_OK)
        return err_set(&l->task.err, RC_NOMEM, "no memory for a result of %u bytes",
                       at->length);
    rc = l->engine->o.blobs->ops->pread(r->output, dst, at->length, at->offset, &got,
                                        &l->task.err);
    if (rc == RC_OK && got < at->length)
        rc = err_set(&l->task.err, RC_CORRUPT, "the output file '%s' became shorter",
                     r->from.output_file.z);
    if (rc != RC_OK)
        return rc;
    dst[at->length] = '\n';
    buf_commit(text, (size_t)at->length + 1);
    return RC_OK;
}

/* Usage is left out: it counts what this batch had done. */
static enum rc take(struct live *l, uint32_t item, struct str payload)
{
    struct reslog_rec rec = {.item = item, .kind = RESULT_OUTPUT, .payload = payload};

    return job_keep(l, &rec);
}

struct work {
    struct reuse *r;
    struct answers *answers;
    char *line; /* an input line */
    size_t line_cap;
    struct buf text; /* a result */
};

static enum rc try_item(struct live *l, struct work *w, uint32_t item)
{
    struct index_entry entry = index_get(l->index, item);
    struct answer_place at;
    struct line line;
    enum rc rc = live_read_line(l, &entry, &w->line, &w->line_cap, &l->task.err);

    if (rc != RC_OK)
        return rc;
    line_reread((struct str){w->line, entry.length}, &line);
    if (!answers_find(w->answers, line.custom_id, line.body, &at))
        return RC_OK;
    rc = read_answer(l, w->r, &at, &w->text);
    if (rc != RC_OK ||
        !is_result_of((struct str){w->text.p, w->text.n - 1}, line.custom_id))
        return rc;
    return take(l, item, buf_peek(&w->text));
}

static enum rc try_all(struct live *l, struct work *w)
{
    enum rc rc = RC_OK;

    for (uint32_t i = 0; i < l->items && rc == RC_OK; i++) {
        if (l->done[i / 8] >> (i % 8) & 1)
            continue; /* before a crash */
        if (atomic_load_explicit(&l->engine->stopping, memory_order_relaxed))
            return err_set(&l->task.err, RC_CANCELLED, "stopped amid reuse");
        rc = try_item(l, w, i);
    }
    return rc == RC_OK ? job_commit(l) : rc;
}

enum rc reuse_run(struct live *l, struct reuse *r)
{
    struct work w = {.r = r};
    enum rc rc;

    if (!r->output || l->items == 0)
        return RC_OK;
    w.answers = answers_new();
    buf_init(&w.text, (size_t)LIMIT_RESULT + 1);
    rc = read_answers(l, r, w.answers);
    if (rc == RC_OK && answers_count(w.answers))
        rc = try_all(l, &w);
    if (rc == RC_OK)
        log_info("batch.reused", "batch=%s from=%s lines=%u of=%u", l->id.z, r->from.id.z,
                 l->synced.completed, l->items);
    answers_free(w.answers);
    buf_done(&w.text);
    mem_free(w.line);
    return rc;
}
