/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/follow.h"
#include "engine/queues.h"

struct live *live_new(struct engine *g, const struct id *id)
{
    struct live *l = mem_new(struct live);

    l->engine = g;
    l->id = *id;
    l->phase = LIVE_ADMIT;
    l->task.live = l->commit.live = l;
    list_init(&l->calls);
    list_init(&l->dirty);
    list_init(&l->changed);
    return l;
}

struct live *live_free(struct live *l)
{
    if (!l)
        return NULL;
    CHECK(list_empty(&l->calls) && !l->busy && !l->committing);
    list_del(&l->dirty);
    list_del(&l->changed);
    loop_timer_clear(l->engine->loop, &l->deadline);
    loop_timer_clear(l->engine->loop, &l->grace);
    loop_timer_clear(l->engine->loop, &l->again);
    loop_timer_clear(l->engine->loop, &l->commit_again);
    l->engine->o.blobs->ops->close(l->input);
    index_free(l->index);
    follow_free(l);
    queues_free(l);
    reslog_block_free(l->block);
    reslog_close(l->log);
    batch_done(&l->rec);
    mem_free(l->done);
    mem_free(l);
    return NULL;
}

void tally_add(struct tally *sum, const struct tally *one)
{
    sum->completed += one->completed;
    sum->failed += one->failed;
    sum->has_usage = sum->has_usage || one->has_usage;
    usage_add(&sum->usage, &one->usage);
}

void tally_record(struct tally *sum, const struct reslog_rec *r)
{
    struct tally one = {.completed = r->kind == RESULT_OUTPUT,
                        .failed = r->kind == RESULT_ERROR,
                        .has_usage = r->has_usage,
                        .usage = r->usage};

    tally_add(sum, &one);
}

/*
 * Every end of a batch comes through here, and so does the word of it: the rows of the
 * outbox are written with the status.  Where the move leads is known before, by the one
 * table of moves; the store makes just that move or none.
 */
enum rc live_move(struct live *l, enum batch_event ev, const struct batch_change *change)
{
    const struct store *store = l->engine->o.store;
    struct batch_change all = change ? *change : (struct batch_change){.model = NULL};
    struct batch next = l->rec, now = {0}; /* next: what it owns is still l->rec's */
    struct webhooks_told told = {.n = 0};
    int64_t wall = clock_wall_sec();
    enum rc rc;

    if (batch_step(&next, ev, wall) == RC_OK)
        webhooks_told(l->engine->o.webhooks, &l->rec, next.status, &told);
    all.notify = told.names;
    all.n_notify = told.n;
    rc = store->ops->batch_move(store->self, NULL, l->id.z, ev, wall, &all, &now,
                                &l->task.err);
    if (rc == RC_OK || rc == RC_CONFLICT) {
        CHECK(rc != RC_OK || !batch_terminal(now.status) || now.status == next.status);
        batch_done(&l->rec);
        l->rec = now;
        board_changed(l->engine->board, &l->id);
    }
    if (rc == RC_OK && told.n)
        webhooks_wake(l->engine->o.webhooks);
    webhooks_told_done(&told);
    return rc;
}

enum rc live_read_line(struct live *l, const struct index_entry *entry, char **line,
                       size_t *cap, struct err *e)
{
    size_t got;
    enum rc rc;

    if (entry->length > *cap) {
        char *more = mem_resize(*line, entry->length);

        if (!more)
            return err_set(e, RC_NOMEM, "no memory for a line of %u bytes",
                           entry->length);
        *line = more;
        *cap = entry->length;
    }
    rc = l->engine->o.blobs->ops->pread(l->input, *line, entry->length, entry->offset,
                                        &got, e);
    if (rc == RC_OK && got < entry->length)
        rc = err_set(e, RC_CORRUPT, "the input file '%s' is shorter than it was",
                     l->rec.input_file.z);
    return rc;
}

void live_touch(struct live *l)
{
    if (list_empty(&l->changed))
        list_add_tail(&l->engine->changed, &l->changed);
}

void live_sicken(struct live *l, const struct err *e)
{
    l->sick = *e;
    live_touch(l);
}

void task_report(struct task *t)
{
    mail_post(t->live->engine->mail, &t->note.mail);
}

void engine_die(struct engine *g, const char *what, const struct err *e)
{
    bool first = !g->dead;

    g->dead = g->draining = true;
    sched_pause(g->sched, true);
    atomic_store(&g->stopping, true);
    log_error("engine.dead", "why=\"%s\" err=\"%s\"", what, e->text);
    if (first && g->o.on_dead)
        g->o.on_dead(g->o.ctx, e->text);
}
