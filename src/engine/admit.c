/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admit: the job that makes a batch live: validates a new one, recovers one of before.
 *
 * On a worker; owns the live batch until task_report().  What it finds goes to the store
 * first and to the loop then, so a crash in between repeats it.
 */
#include "engine/admission.h"
#include "engine/intake.h"
#include "engine/follow.h"
#include "engine/jobs.h"
#include "engine/plan.h"
#include "engine/queues.h"
#include "engine/reuse.h"
#include "engine/roster.h"
#include "json/json.h"

static enum rc read_input(void *ctx, char *dst, size_t cap, uint64_t off, size_t *ret_n)
{
    struct live *l = ctx;

    return l->engine->o.blobs->ops->pread(l->input, dst, cap, off, ret_n, &l->task.err);
}

/* The batch ends as failed, or, when a cancel came first, goes on to cancelled. */
static enum rc refuse(struct live *l, char *errors)
{
    struct batch_change change = {.errors = errors};
    enum rc rc = live_move(l, BATCH_EV_INVALID, &change);
    struct err e;

    mem_free(errors);
    /* A life before this one may have found it good, and have come as far as the log. */
    if (rc == RC_OK && (reslog_remove(l->engine->o.spool, &l->id, &e) != RC_OK ||
                        index_remove(l->engine->o.spool, &l->id, &e) != RC_OK))
        log_warn("spool.left", "batch=%s err=\"%s\"", l->id.z, e.text);
    return rc == RC_CONFLICT ? RC_OK : rc;
}

/* A batch keeps its input also when the file is deleted behind it: what counts is whether
 * it stood when the batch was made. */
static enum rc open_input(struct live *l, char **ret_errors)
{
    const struct blobs *blobs = l->engine->o.blobs;
    enum rc rc = RC_NOTFOUND;

    if (!l->rec.input_missing)
        rc = blobs->ops->open(blobs->self, l->rec.input_file.z, &l->input, &l->task.err);
    if (rc != RC_NOTFOUND)
        return rc;
    *ret_errors = intake_no_file(l->rec.input_file.z);
    return RC_OK;
}

static bool model_known(void *ctx, struct str model)
{
    return catalog_knows(ctx, model);
}

struct intake_rules engine_rules(struct engine *g, enum endpoint ep)
{
    return (struct intake_rules){.endpoint = ep,
                                 .many_models = g->o.many_models,
                                 .max_lines = g->o.max_lines,
                                 .max_inputs = g->o.max_inputs,
                                 .max_bytes = g->o.max_file_bytes,
                                 .max_line_bytes = g->o.max_line_bytes,
                                 .model_known = model_known,
                                 .model_ctx = g->catalog};
}

/* Fills l->index, or *ret_errors when the file is not good.  RC_CANCELLED: we are
 * stopping. */
static enum rc scan(struct live *l, struct intake_result *result, char **ret_errors)
{
    struct engine *g = l->engine;
    struct intake_rules rules = engine_rules(g, l->rec.endpoint);
    struct intake_errors *errors = intake_errors_new();
    struct plan *plan =
        plan_new(g->o.dedup, rules.max_lines ? rules.max_lines : LIMIT_LINES);
    struct index_writer *idx = NULL;
    enum rc rc = index_create(g->o.spool, &l->id, &idx, &l->task.err);

    if (l->rec.status != BATCH_VALIDATING) { /* taken before, whatever is served now */
        rules.model_known = NULL;
        rules.many_models = true;
    }
    rules.each = plan_add;
    rules.each_ctx = plan;
    if (rc == RC_OK)
        rc = intake_scan(read_input, l, g->o.blobs->ops->size(l->input), &rules, idx,
                         intake_errors_add, errors, &g->stopping, result, &l->task.err);
    if (rc == RC_OK && result->faults == 0)
        rc = plan_write(plan, idx, &l->task.err);
    plan_free(plan);
    if (rc == RC_OK && result->faults == 0) {
        rc = index_finish(idx, &l->task.err);
        idx = NULL;
        if (rc == RC_OK)
            rc = index_load(g->o.spool, &l->id, &l->index, &l->task.err);
    } else if (rc == RC_OK) {
        *ret_errors = intake_errors_json(errors);
    }
    index_abort(idx);
    intake_errors_free(errors);
    if (l->index)
        l->items = index_count(l->index);
    return rc;
}

/* A batch of before: `first durable record wins` is decided here. */
static void seen(void *ctx, const struct reslog_rec *r, const struct reslog_place *at)
{
    struct live *l = ctx;

    (void)at;
    if (l->done[r->item / 8] >> (r->item % 8) & 1)
        return;
    l->done[r->item / 8] |= (uint8_t)(1u << (r->item % 8));
    tally_record(&l->synced, r);
}

static enum rc open_log(struct live *l)
{
    struct engine *g = l->engine;
    uint64_t damaged = 0;
    enum rc rc;

    l->done = mem_new_n(uint8_t, ((size_t)l->items + 7) / 8);
    rc = reslog_open(g->o.spool, &l->id, l->items, seen, l, &l->log, &damaged,
                     &l->task.err);
    if (rc == RC_NOTFOUND)
        rc = reslog_create(g->o.spool, &l->id, l->items, &l->log, &l->task.err);
    if (damaged)
        log_error("log.damaged", "batch=%s records=%llu action=\"those lines run again\"",
                  l->id.z, (unsigned long long)damaged);
    return rc;
}

static void publish(struct live *l)
{
    struct board_entry entry = {
        .counts = {l->items, l->synced.completed, l->synced.failed},
        .usage = l->synced.usage,
        .has_usage = l->synced.has_usage,
        .log = reslog_mark(l->log)};

    board_set(l->engine->board, &l->id, &entry);
}

/* The file is good, but there is no room for its lines. */
static char *queue_full(const struct live *l, uint32_t lines, uint32_t max, uint64_t used)
{
    char text[400];

    CHECK(
        str_fmt(text, sizeof text,
                "Enqueued request limit reached for project '%s'. Limit: %u enqueued "
                "requests, of which %llu are in use; this batch has %u. Please try again "
                "once some in_progress batches have been completed.",
                l->rec.project.z, max, (unsigned long long)used, lines) == RC_OK);
    return intake_one_error("token_limit_exceeded", NULL, text);
}

/* Counts the lines that are to run for the project.  *ret_errors: there is no room for
 * them.  RC_AGAIN: whether there is will be known when the batches of before are
 * recovered. */
static enum rc take_room(struct live *l, char **ret_errors)
{
    struct engine *g = l->engine;
    uint32_t max = projects_get(g->projects, &l->rec.project)->max_lines;
    uint32_t lines = l->items - l->synced.completed;
    uint64_t used = 0;
    enum rc rc = board_enter(g->board, &l->rec.project, &l->id, lines, max, &used);

    if (rc != RC_LIMIT)
        return rc;
    *ret_errors = queue_full(l, lines, max, used);
    return RC_OK;
}

/* The index is there: all that a batch needs to run.  model: NULL: its lines name several;
 * "": they name none.  Whoever calls puts it on the board before the row says that it
 * runs: see board.h. */
static enum rc begin(struct live *l, const char *model)
{
    enum rc rc = queues_find(l, model);

    follow_load(l);
    return rc == RC_OK ? open_log(l) : rc;
}

/* Every line is good: what an earlier batch answered goes to the log; whether it runs is
 * for the loop to say. */
static enum rc go_live(struct live *l, const struct intake_result *result,
                       struct reuse *reuse)
{
    const char *model = result->several ? NULL : result->model;
    char *errors = NULL;
    enum rc rc = begin(l, model);

    if (rc == RC_OK)
        rc = reuse_run(l, reuse);
    l->reused = l->synced.completed; /* all that the log has, also of before a crash */
    if (rc == RC_OK)
        rc = follow_recover(l);
    if (rc == RC_OK)
        rc = take_room(l, &errors);
    if (rc != RC_OK)
        return rc;
    if (errors)
        return refuse(l, errors);
    l->has_model = model != NULL;
    if (model)
        memcpy(l->model, model, strlen(model) + 1);
    l->outlook = OUTLOOK_ASKED;
    return RC_OK;
}

/* It runs, as idle work: an edit of the same moment and this one have one order. */
static enum rc demote(struct live *l, const struct batch_change *change)
{
    struct engine *g = l->engine;
    enum rc rc;

    pthread_mutex_lock(&g->edit_lock);
    rc = live_move(l, BATCH_EV_VALID, change);
    if (rc == RC_OK)
        engine_post(g, (struct command){.note.kind = NOTE_EDIT,
                                        .batch = l->id,
                                        .wishes = {.priority = l->rec.priority,
                                                   .idle = l->rec.idle,
                                                   .paused = l->rec.paused,
                                                   .hold = l->rec.hold,
                                                   .expires_at = l->rec.expires_at}});
    pthread_mutex_unlock(&g->edit_lock);
    return rc;
}

/* What the loop found of a batch whose lines are good: it runs, or it is refused. */
static enum rc settle(struct live *l)
{
    enum engine_admission how = l->engine->o.admission;
    bool late = l->outlook == OUTLOOK_LATE;
    struct batch_counts counts = {.total = l->items};
    struct batch_change change = {.counts = &counts,
                                  .idle = late && how == ADMISSION_IDLE};
    enum rc rc;

    if (late && how == ADMISSION_REJECT)
        return refuse(l, admission_error(l));
    publish(l);
    if (l->has_model && l->model[0])
        change.model = l->model;
    if (!id_none(&l->rec.continue_from))
        change.reused = &l->reused;
    rc = change.idle ? demote(l, &change) : live_move(l, BATCH_EV_VALID, &change);
    if (rc == RC_NOTFOUND || rc == RC_IO || rc == RC_CORRUPT || rc == RC_NOSPACE)
        board_remove(l->engine->board, &l->id);
    return rc == RC_CONFLICT ? RC_OK : rc;
}

/* validating, or cancelled before it was validated. */
static enum rc validate(struct live *l)
{
    struct intake_result result = {0};
    struct reuse reuse = {0};
    char *errors = NULL;
    enum rc rc = open_input(l, &errors);

    if (rc == RC_OK && !errors)
        rc = reuse_open(l, &reuse, &errors);
    if (rc == RC_OK && !errors)
        rc = scan(l, &result, &errors);
    if (rc == RC_OK)
        rc = errors ? refuse(l, errors) : go_live(l, &result, &reuse);
    else
        mem_free(errors);
    reuse_close(l, &reuse);
    return rc;
}

/* in_progress, finalizing or cancelling: the index and the log lie in the spool; what is
 * not there or damaged is made again from the input. */
static enum rc recover(struct live *l)
{
    struct intake_result result = {0};
    char *errors = NULL;
    enum rc rc = open_input(l, &errors);

    if (rc == RC_OK && !errors) {
        rc = index_load(l->engine->o.spool, &l->id, &l->index, &l->task.err);
        if (rc == RC_OK)
            l->items = index_count(l->index);
        else if (rc == RC_NOTFOUND || rc == RC_CORRUPT)
            rc = scan(l, &result, &errors);
    }
    if (rc != RC_OK)
        return rc;
    if (errors) {
        mem_free(errors);
        if (l->rec.status == BATCH_CANCELLING)
            return RC_OK; /* cancelled before it was validated, and it was no good */
        return err_set(&l->task.err, RC_CORRUPT,
                       "the input file '%s' of batch '%s' was valid once and is not now",
                       l->rec.input_file.z, l->id.z);
    }
    rc = begin(l, l->rec.model);
    if (rc == RC_OK)
        rc = follow_recover(l);
    if (rc == RC_OK)
        publish(l);
    return rc;
}

/* What a try before this one had made; none: nothing. */
static void start_over(struct live *l)
{
    l->engine->o.blobs->ops->close(l->input);
    l->input = NULL;
    l->index = index_free(l->index);
    follow_free(l);
    reslog_close(l->log);
    l->log = NULL;
    mem_free(l->done);
    l->done = NULL;
    l->items = 0;
    l->outlook = OUTLOOK_NONE;
    l->synced = (struct tally){0};
}

void admit_run(struct pool_job *job)
{
    struct task *t = CONTAINER_OF(job, struct task, job);
    struct live *l = t->live;
    const struct store *store = l->engine->o.store;

    t->rc = RC_CANCELLED;
    if (!atomic_load(&l->engine->stopping)) {
        start_over(l);
        batch_done(&l->rec);
        t->rc = store->ops->batch_get(store->self, NULL, l->id.z, &l->rec, &t->err);
        if (t->rc == RC_OK && l->rec.status == BATCH_VALIDATING)
            t->rc = roster_ready(l->engine) ? validate(l) : RC_AGAIN;
        else if (t->rc == RC_OK && !batch_terminal(l->rec.status))
            t->rc = recover(l);
    }
    task_report(t);
}

void expire_run(struct pool_job *job)
{
    struct task *t = CONTAINER_OF(job, struct task, job);
    struct live *l = t->live;
    struct engine *g = l->engine;
    struct batch row = {0};

    /* Nobody is told that a deadline was moved when it is to end by the old one. */
    pthread_mutex_lock(&g->edit_lock);
    t->rc = g->o.store->ops->batch_get(g->o.store->self, NULL, l->id.z, &row, &t->err);
    if (t->rc == RC_OK) {
        batch_done(&l->rec);
        l->rec = row;
        t->rc = row.expires_at > clock_due_sec() ? RC_AGAIN
                                                 : live_move(l, BATCH_EV_EXPIRE, NULL);
    }
    pthread_mutex_unlock(&g->edit_lock);
    if (t->rc == RC_CONFLICT)
        t->rc = RC_OK; /* somebody closed it first; l->rec says how */
    task_report(t);
}

void admitted_run(struct pool_job *job)
{
    struct task *t = CONTAINER_OF(job, struct task, job);

    t->rc = atomic_load(&t->live->engine->stopping) ? RC_CANCELLED : settle(t->live);
    task_report(t);
}
