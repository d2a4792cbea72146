/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mem_batches: batches and the outbox of mem_store.h.
 */
#pragma once

static struct mem_file *mem_file_find(struct mem_store *m, const struct id *project,
                                      const char *id);
static enum rc mem_file_put(struct mem_store *m, const struct file_rec *f,
                            const struct file_quota *q, struct err *e);

static struct batch *mem_batch_find(struct mem_store *m, const struct id *project,
                                    const char *id)
{
    for (size_t i = 0; i < m->n_batches; i++)
        if (strcmp(m->batches[i].id.z, id) == 0 &&
            mem_mine(project, &m->batches[i].project))
            return &m->batches[i];
    return NULL;
}

static uint64_t mem_live(struct mem_store *m, const struct id *project)
{
    uint64_t n = 0;

    for (size_t i = 0; i < m->n_batches; i++)
        n += !batch_terminal(m->batches[i].status) &&
             mem_mine(project, &m->batches[i].project);
    return n;
}

/* --- Adding --------------------------------------------------------------------------
 */

static struct batch *mem_first_with_key(struct mem_store *m, const struct id *project,
                                        const char *key)
{
    for (size_t i = 0; key && i < m->n_batches; i++)
        if (m->batches[i].idempotency_key &&
            strcmp(m->batches[i].idempotency_key, key) == 0 &&
            mem_mine(project, &m->batches[i].project))
            return &m->batches[i];
    return NULL;
}

static enum rc mem_put_batch(struct mem_store *m, const struct batch *b,
                             const struct batch_quota *q, struct batch *ret_first,
                             struct err *e)
{
    struct batch *first = mem_first_with_key(m, &b->project, b->idempotency_key), *row;

    if (first) {
        if (ret_first)
            batch_copy(ret_first, first);
        return err_set(e, RC_CONFLICT, "the key was used");
    }
    if (!id_none(&b->continue_from) &&
        !mem_batch_find(m, &b->project, b->continue_from.z))
        return err_set(e, RC_NOTFOUND, "there is no batch '%s'", b->continue_from.z);
    if (q && q->max_live && mem_live(m, &b->project) >= q->max_live)
        return err_set(e, RC_LIMIT, "This project has too many unfinished batches.");
    if (mem_batch_find(m, NULL, b->id.z))
        return err_set(e, RC_INVALID, "there is a batch '%s' already", b->id.z);
    CHECK(m->n_batches < MEM_ROWS);
    row = &m->batches[m->n_batches++];
    batch_copy(row, b);
    row->input_missing = !mem_file_find(m, &b->project, b->input_file.z);
    mem_floor(m, b->created_at);
    return RC_OK;
}

static enum rc mem_batch_add(void *self, const struct batch *b,
                             const struct batch_quota *q, struct batch *ret_first,
                             struct err *e)
{
    struct mem_store *m = self;
    enum rc rc;

    if (m->fail_batch_add != RC_OK)
        return err_set(e, m->fail_batch_add, "batch_add fails");
    pthread_mutex_lock(&m->lock);
    rc = mem_put_batch(m, b, q, ret_first, e);
    pthread_mutex_unlock(&m->lock);
    return rc;
}

/* --- Reading -------------------------------------------------------------------------
 */

static enum rc mem_batch_get(void *self, const struct id *project, const char *id,
                             struct batch *ret, struct err *e)
{
    struct mem_store *m = self;
    struct batch *b;

    (void)e;
    pthread_mutex_lock(&m->lock);
    b = mem_batch_find(m, project, id);
    if (b)
        batch_copy(ret, b);
    pthread_mutex_unlock(&m->lock);
    return b ? RC_OK : RC_NOTFOUND;
}

static enum rc mem_batch_by_key(void *self, const struct id *project, const char *key,
                                struct batch *ret, struct err *e)
{
    struct mem_store *m = self;
    struct batch *b;

    (void)e;
    pthread_mutex_lock(&m->lock);
    b = mem_first_with_key(m, project, key);
    if (b)
        batch_copy(ret, b);
    pthread_mutex_unlock(&m->lock);
    return b ? RC_OK : RC_NOTFOUND;
}

static enum rc mem_batch_list(void *self, const struct id *project, const char *after,
                              unsigned limit, struct batch **ret, size_t *ret_n,
                              bool *ret_more, struct err *e)
{
    struct mem_store *m = self;
    struct batch *out = mem_new_n(struct batch, limit + 1);
    bool on = !after, more = false;
    size_t n = 0;

    (void)e;
    pthread_mutex_lock(&m->lock);
    for (size_t i = m->n_batches; i-- > 0;) {
        if (!mem_mine(project, &m->batches[i].project))
            continue;
        if (on) {
            more = n == limit;
            if (more)
                break;
            batch_copy(&out[n++], &m->batches[i]);
        }
        on = on || strcmp(m->batches[i].id.z, after) == 0;
    }
    pthread_mutex_unlock(&m->lock);
    if (!on) {
        mem_free(out);
        return RC_NOTFOUND;
    }
    *ret = out;
    *ret_n = n;
    *ret_more = more;
    return RC_OK;
}

static enum rc mem_batch_live(void *self, struct batch **ret, size_t *ret_n,
                              struct err *e)
{
    struct mem_store *m = self;
    struct batch *out;
    size_t n = 0;

    (void)e;
    pthread_mutex_lock(&m->lock);
    out = mem_new_n(struct batch, m->n_batches + 1);
    for (size_t i = 0; i < m->n_batches; i++)
        if (!batch_terminal(m->batches[i].status))
            batch_copy(&out[n++], &m->batches[i]);
    pthread_mutex_unlock(&m->lock);
    *ret = out;
    *ret_n = n;
    return RC_OK;
}

/* --- Changing ------------------------------------------------------------------------
 */

static void mem_set_text(char **dst, const char *z)
{
    if (!z)
        return;
    mem_free(*dst);
    *dst = mem_dup_z(z);
}

static void mem_notify(struct mem_store *m, const struct batch *b,
                       const struct batch_change *change, int64_t now)
{
    struct id event = id_make(ID_EVENT);

    for (size_t i = 0; i < change->n_notify; i++) {
        struct outbox_rec *o = &m->outbox[m->n_outbox++];

        CHECK(m->n_outbox < MEM_ROWS);
        *o = (struct outbox_rec){.seq = ++m->last_seq,
                                 .event = event,
                                 .project = b->project,
                                 .batch = b->id,
                                 .destination = mem_dup_z(change->notify[i]),
                                 .created_at = now,
                                 .next_at = now};
        CHECK(str_fmt(o->type, sizeof o->type, "batch.%s",
                      batch_status_name(b->status)) == RC_OK);
    }
}

static enum rc mem_add_results(struct mem_store *m, const struct batch_change *change,
                               struct err *e)
{
    enum rc rc = change->output ? mem_file_put(m, change->output, NULL, e) : RC_OK;

    if (rc == RC_OK && change->error) {
        rc = mem_file_put(m, change->error, NULL, e);
        if (rc != RC_OK && change->output)
            file_rec_done(&m->files[--m->n_files].rec); /* the one that was just added */
    }
    return rc == RC_CONFLICT ? RC_INVALID : rc;
}

static enum rc mem_apply(struct mem_store *m, const struct batch_change *change,
                         struct batch *b, struct err *e)
{
    enum rc rc = mem_add_results(m, change, e);

    if (rc != RC_OK)
        return rc;
    mem_set_text(&b->model, change->model);
    mem_set_text(&b->errors, change->errors);
    if (change->counts)
        b->counts = *change->counts;
    if (change->reused)
        b->reused = *change->reused;
    b->idle = b->idle || change->idle;
    if (change->usage) {
        b->usage = *change->usage;
        b->has_usage = true;
    }
    if (change->output)
        b->output_file = change->output->id;
    if (change->error)
        b->error_file = change->error->id;
    return RC_OK;
}

/* Of a copy, so that what fails has changed nothing. */
static enum rc mem_move_batch(struct mem_store *m, struct batch *b, enum batch_event ev,
                              int64_t now, const struct batch_change *change,
                              struct err *e)
{
    struct batch next;
    enum rc rc;

    batch_copy(&next, b);
    rc = batch_step(&next, ev, now);
    if (rc != RC_OK)
        err_set(e, rc, "batch '%s' is %s: %s cannot happen to it", b->id.z,
                batch_status_name(b->status), batch_event_name(ev));
    if (rc == RC_OK && change)
        rc = mem_apply(m, change, &next, e);
    if (rc != RC_OK) {
        batch_done(&next);
        return rc;
    }
    batch_done(b);
    *b = next;
    if (change && batch_terminal(b->status))
        mem_notify(m, b, change, now);
    mem_floor(m, now);
    return RC_OK;
}

static enum rc mem_batch_move(void *self, const struct id *project, const char *id,
                              enum batch_event ev, int64_t now,
                              const struct batch_change *change, struct batch *ret,
                              struct err *e)
{
    struct mem_store *m = self;
    struct batch *b;
    enum rc rc = RC_NOTFOUND;

    pthread_mutex_lock(&m->lock);
    b = mem_batch_find(m, project, id);
    if (b)
        rc = mem_move_batch(m, b, ev, now, change, e);
    if (ret && (rc == RC_OK || rc == RC_CONFLICT))
        batch_copy(ret, b);
    pthread_mutex_unlock(&m->lock);
    return rc;
}

static enum rc mem_edit(struct batch *b, const struct batch_edit *edit, struct err *e)
{
    if (b->status != BATCH_VALIDATING && b->status != BATCH_IN_PROGRESS)
        return err_set(e, RC_CONFLICT, "batch '%s' is %s", b->id.z,
                       batch_status_name(b->status));
    if (edit->has_window &&
        str_fmt(b->window, sizeof b->window, "%s", edit->window) != RC_OK)
        return err_set(e, RC_INVALID, "no window");
    if (edit->has_window)
        b->expires_at = edit->expires_at;
    if (edit->has_priority)
        b->priority = edit->priority;
    if (edit->has_paused)
        b->paused = edit->paused;
    if (edit->has_idle)
        b->idle = edit->idle;
    if (edit->has_hold)
        b->hold = edit->hold;
    return RC_OK;
}

static enum rc mem_batch_edit(void *self, const struct id *project, const char *id,
                              const struct batch_edit *edit, int64_t now,
                              struct batch *ret, struct err *e)
{
    struct mem_store *m = self;
    struct batch *b;
    enum rc rc = RC_NOTFOUND;

    if (m->fail_batch_edit != RC_OK)
        return err_set(e, m->fail_batch_edit, "batch_edit fails");
    pthread_mutex_lock(&m->lock);
    b = mem_batch_find(m, project, id);
    if (b)
        rc = mem_edit(b, edit, e);
    if (rc == RC_OK)
        mem_floor(m, now);
    if (ret && (rc == RC_OK || rc == RC_CONFLICT))
        batch_copy(ret, b);
    pthread_mutex_unlock(&m->lock);
    return rc;
}

/* --- The outbox ----------------------------------------------------------------------
 */

static void mem_outbox_copy(struct outbox_rec *dst, const struct outbox_rec *src)
{
    *dst = *src;
    dst->destination = mem_dup_z(src->destination);
    dst->error = mem_dup_z(src->error);
}

static enum rc mem_outbox_due(void *self, int64_t now, size_t max,
                              struct outbox_rec **ret, size_t *ret_n, struct err *e)
{
    struct mem_store *m = self;
    struct outbox_rec *out;
    bool *taken;
    size_t n = 0;

    (void)e;
    pthread_mutex_lock(&m->lock);
    out = mem_new_n(struct outbox_rec, m->n_outbox + 1);
    taken = mem_new_n(bool, m->n_outbox + 1);
    while (n < max) {
        size_t best = SIZE_MAX;

        for (size_t i = 0; i < m->n_outbox; i++)
            if (!taken[i] && !m->outbox[i].settled_at && m->outbox[i].next_at <= now &&
                (best == SIZE_MAX || m->outbox[i].next_at < m->outbox[best].next_at))
                best = i;
        if (best == SIZE_MAX)
            break;
        taken[best] = true;
        mem_outbox_copy(&out[n++], &m->outbox[best]);
    }
    pthread_mutex_unlock(&m->lock);
    mem_free(taken);
    *ret = out;
    *ret_n = n;
    return RC_OK;
}

static enum rc mem_outbox_pending(void *self, uint64_t *ret, struct err *e)
{
    struct mem_store *m = self;

    (void)e;
    *ret = 0;
    pthread_mutex_lock(&m->lock);
    for (size_t i = 0; i < m->n_outbox; i++)
        *ret += !m->outbox[i].settled_at;
    pthread_mutex_unlock(&m->lock);
    return RC_OK;
}

static enum rc mem_outbox_settle(void *self, int64_t seq, const struct outbox_result *r,
                                 struct err *e)
{
    struct mem_store *m = self;
    struct outbox_rec *o = NULL;

    pthread_mutex_lock(&m->lock);
    for (size_t i = 0; i < m->n_outbox; i++)
        if (m->outbox[i].seq == seq && !m->outbox[i].settled_at)
            o = &m->outbox[i];
    if (o) {
        o->tries += !r->unsent;
        o->delivered = r->delivered;
        o->settled_at = r->delivered || r->given_up ? r->now : 0;
        o->next_at = o->settled_at ? r->now : r->next_at;
        o->status = r->status;
        mem_free(o->error);
        o->error = mem_dup_z(r->error);
        mem_floor(m, r->now);
    }
    pthread_mutex_unlock(&m->lock);
    return o ? RC_OK : err_set(e, RC_NOTFOUND, "no such event");
}

static enum rc mem_outbox_list(void *self, const struct id *project, const char *batch,
                               struct outbox_rec **ret, size_t *ret_n, struct err *e)
{
    struct mem_store *m = self;
    struct outbox_rec *out;
    size_t n = 0;

    (void)e;
    pthread_mutex_lock(&m->lock);
    out = mem_new_n(struct outbox_rec, m->n_outbox + 1);
    for (size_t i = 0; i < m->n_outbox; i++)
        if (strcmp(m->outbox[i].batch.z, batch) == 0 &&
            mem_mine(project, &m->outbox[i].project))
            mem_outbox_copy(&out[n++], &m->outbox[i]);
    pthread_mutex_unlock(&m->lock);
    *ret = out;
    *ret_n = n;
    return RC_OK;
}

static enum rc mem_outbox_purge(void *self, int64_t before, struct err *e)
{
    struct mem_store *m = self;

    (void)e;
    pthread_mutex_lock(&m->lock);
    for (size_t i = 0; i < m->n_outbox;) {
        if (m->outbox[i].settled_at && m->outbox[i].settled_at < before) {
            outbox_rec_done(&m->outbox[i]);
            MEM_REMOVE(m->outbox, m->n_outbox, i);
        } else {
            i++;
        }
    }
    pthread_mutex_unlock(&m->lock);
    return RC_OK;
}
