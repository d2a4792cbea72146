/* SPDX-License-Identifier: Apache-2.0 */
/*
 * finish: the job that ends a batch: log to output and error file in input order, then
 * one transaction with status, files, counts and usage.
 *
 * On a worker; owns the live batch until task_report().  A pure function of input and
 * log: a crash anywhere repeats it with the same bytes; files without a row are swept at
 * the start.
 */
#include "engine/jobs.h"
#include "base/guard.h"
#include "core/line.h"

/* What is put together before it goes to the blob. */
#define PIECE (256u << 10)

struct result_file {
    struct blob_put *put;
    struct buf piece;
    uint32_t lines;
    struct file_rec rec;
    bool made;
};

struct finish {
    struct live *live;
    struct reslog_place *places; /* by item; length 0: no result */
    uint8_t *kinds;
    struct tally found;
    struct result_file output, error;
    struct buf text; /* a line being composed */
    char *line;      /* an input line */
    size_t line_cap;
};

static void note_place(void *ctx, const struct reslog_rec *r,
                       const struct reslog_place *at)
{
    struct finish *f = ctx;

    if (f->places[r->item].length && GUARD(FIRST_WINS))
        return; /* the first one won */
    f->places[r->item] = *at;
    f->kinds[r->item] = (uint8_t)r->kind;
    tally_record(&f->found, r);
}

static enum rc file_flush(struct finish *f, struct result_file *rf)
{
    const struct blobs *blobs = f->live->engine->o.blobs;
    struct err *e = &f->live->task.err;
    enum rc rc = RC_OK;

    if (!rf->put)
        rc = blobs->ops->put(blobs->self, &rf->put, e);
    if (rc == RC_OK)
        rc = blobs->ops->write(rf->put, rf->piece.p, rf->piece.n, e);
    buf_reset(&rf->piece);
    return rc;
}

/* Room for n more bytes in the piece, and where. */
static enum rc file_room(struct finish *f, struct result_file *rf, size_t n, char **ret)
{
    enum rc rc = RC_OK;

    if (rf->piece.n && rf->piece.n + n > PIECE)
        rc = file_flush(f, rf);
    if (rc == RC_OK)
        rc = buf_reserve(&rf->piece, n, ret);
    return rc;
}

static enum rc copy_result(struct finish *f, uint32_t item)
{
    const struct reslog_place *at = &f->places[item];
    struct result_file *rf = f->kinds[item] == RESULT_OUTPUT ? &f->output : &f->error;
    char *dst;
    enum rc rc = file_room(f, rf, at->length, &dst);

    if (rc == RC_OK)
        rc = reslog_read(f->live->log, at, dst, &f->live->task.err);
    if (rc != RC_OK)
        return rc;
    buf_commit(&rf->piece, at->length);
    rf->lines++;
    return RC_OK;
}

/* A line that nothing will answer any more. */
static enum rc write_missing(struct finish *f, uint32_t item)
{
    struct live *l = f->live;
    struct index_entry entry = index_get(l->index, item);
    bool cancelled = l->rec.status == BATCH_CANCELLING;
    struct line line;
    char hex[33], *dst;
    enum rc rc = live_read_line(l, &entry, &f->line, &f->line_cap, &l->task.err);

    if (rc != RC_OK)
        return rc;
    line_reread((struct str){f->line, entry.length}, &line);
    id_request(&l->id, item, hex);
    buf_reset(&f->text);
    rc = outcome_error_line(
        &f->text, hex, line.custom_id, cancelled ? "batch_cancelled" : "batch_expired",
        cancelled ? "This request was not executed because the batch was cancelled."
                  : "This request could not be executed before the completion window "
                    "expired.");
    if (rc == RC_OK)
        rc = file_room(f, &f->error, f->text.n, &dst);
    if (rc != RC_OK)
        return rc;
    memcpy(dst, f->text.p, f->text.n);
    buf_commit(&f->error.piece, f->text.n);
    f->error.lines++;
    return RC_OK;
}

static enum rc write_lines(struct finish *f)
{
    enum rc rc = RC_OK;

    for (uint32_t i = 0; i < f->live->items && rc == RC_OK; i++)
        rc = f->places[i].length ? copy_result(f, i) : write_missing(f, i);
    return rc;
}

/* Publishes one file, or none when it has no line. */
static enum rc file_publish(struct finish *f, struct result_file *rf, const char *suffix)
{
    struct live *l = f->live;
    const struct blobs *blobs = l->engine->o.blobs;
    struct blob_sum sum;
    char name[ID_CAP + 32];
    int64_t expires = l->rec.output_expires_after ? l->rec.output_expires_after
                                                  : l->engine->o.output_expires;
    enum rc rc;

    if (rf->lines == 0)
        return RC_OK;
    rc = file_flush(f, rf);
    if (rc != RC_OK)
        return rc;
    rf->rec.id = id_make(ID_FILE);
    rc = blobs->ops->commit(rf->put, rf->rec.id.z, &sum, &l->task.err);
    rf->put = NULL;
    if (rc != RC_OK)
        return rc;
    IGNORE(str_fmt(name, sizeof name, "%s_%s.jsonl", l->id.z, suffix));
    IGNORE(str_fmt(rf->rec.purpose, sizeof rf->rec.purpose, "batch_output"));
    rf->rec.filename = mem_dup(name, strlen(name));
    rf->rec.project = l->rec.project;
    rf->rec.bytes = sum.bytes;
    memcpy(rf->rec.sha256, sum.sha256, sizeof sum.sha256);
    rf->rec.created_at = clock_wall_sec();
    rf->rec.expires_at = expires ? rf->rec.created_at + expires : 0;
    rf->made = true;
    return RC_OK;
}

static enum rc end_batch(struct finish *f)
{
    struct live *l = f->live;
    struct batch_counts counts = {l->items, f->output.lines, f->error.lines};
    struct batch_change change = {.counts = &counts,
                                  .usage = f->found.has_usage ? &f->found.usage : NULL,
                                  .output = f->output.made ? &f->output.rec : NULL,
                                  .error = f->error.made ? &f->error.rec : NULL};

    return live_move(l, BATCH_EV_PUBLISHED, &change);
}

/*
 * The log may have lost records to a damaged disk: those lines are run again (RC_AGAIN,
 * with l->done and l->synced set anew) unless the batch is closing anyway.
 */
static enum rc collect(struct finish *f)
{
    struct live *l = f->live;
    uint64_t damaged = 0;
    uint32_t have = 0;
    enum rc rc;

    if (l->items == 0)
        return RC_OK;
    f->places = mem_new_n(struct reslog_place, l->items);
    f->kinds = mem_new_n(uint8_t, l->items);
    rc = reslog_scan(l->log, note_place, f, &damaged, &l->task.err);
    if (rc != RC_OK)
        return rc;
    for (uint32_t i = 0; i < l->items; i++)
        have += f->places[i].length != 0;
    if (have == l->items || l->rec.status == BATCH_CANCELLING || l->rec.expiring ||
        clock_due_sec() >= l->rec.expires_at)
        return RC_OK;
    log_error("log.damaged", "batch=%s lines=%u action=\"those lines run again\"",
              l->id.z, l->items - have);
    mem_free(l->done);
    l->done = mem_new_n(uint8_t, ((size_t)l->items + 7) / 8);
    for (uint32_t i = 0; i < l->items; i++)
        if (f->places[i].length)
            l->done[i / 8] |= (uint8_t)(1u << (i % 8));
    l->synced = f->found;
    return RC_AGAIN;
}

static enum rc finish(struct finish *f)
{
    struct live *l = f->live;
    enum rc rc = collect(f);

    if (rc == RC_OK && l->rec.status == BATCH_IN_PROGRESS) {
        rc = live_move(l, BATCH_EV_DRAINED, NULL);
        if (rc == RC_CONFLICT && l->rec.status == BATCH_CANCELLING)
            rc = RC_OK; /* the cancel came first */
    }
    if (rc == RC_OK)
        rc = write_lines(f);
    if (rc == RC_OK)
        rc = file_publish(f, &f->output, "output");
    if (rc == RC_OK)
        rc = file_publish(f, &f->error, "error");
    if (rc == RC_OK)
        rc = end_batch(f);
    return rc;
}

static void clean_up(struct live *l)
{
    struct err e;

    l->log = reslog_close(l->log);
    if (reslog_remove(l->engine->o.spool, &l->id, &e) != RC_OK ||
        index_remove(l->engine->o.spool, &l->id, &e) != RC_OK)
        log_warn("spool.left", "batch=%s err=\"%s\"", l->id.z, e.text);
}

/* What did not get as far as its row must not stay behind; but a store that died may have
 * committed the row before, and then the row needs its bytes. */
static void file_drop(const struct live *l, struct result_file *rf, bool keep)
{
    const struct blobs *blobs = l->engine->o.blobs;

    blobs->ops->abort(rf->put);
    if (rf->made && !keep)
        IGNORE(blobs->ops->remove(blobs->self, rf->rec.id.z,
                                  NULL)); /* else swept at start */
    file_rec_done(&rf->rec);
    buf_done(&rf->piece);
}

void finish_run(struct pool_job *job)
{
    struct task *t = CONTAINER_OF(job, struct task, job);
    struct live *l = t->live;
    struct finish f = {.live = l};
    bool keep;

    t->rc = RC_CANCELLED;
    if (!atomic_load(&l->engine->stopping)) {
        buf_init(&f.output.piece, PIECE + LIMIT_ANSWER_BYTES * 2ul);
        buf_init(&f.error.piece, PIECE + LIMIT_ANSWER_BYTES * 2ul);
        buf_init(&f.text, LIMIT_LINE_BYTES);
        t->rc = finish(&f);
        keep = t->rc == RC_OK || t->rc == RC_IO || t->rc == RC_CORRUPT;
        file_drop(l, &f.output, keep);
        file_drop(l, &f.error, keep);
        buf_done(&f.text);
        mem_free(f.places);
        mem_free(f.kinds);
        mem_free(f.line);
        if (t->rc == RC_OK)
            clean_up(l);
    }
    task_report(t);
}
