/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mem_files: files and uploads of mem_store.h.
 */
#pragma once

/* --- Quotas --------------------------------------------------------------------------
 */

static void mem_held(struct mem_store *m, const struct id *project, uint64_t *files,
                     uint64_t *bytes)
{
    *files = *bytes = 0;
    for (size_t i = 0; i < m->n_files; i++) {
        if (!m->files[i].deleted && mem_mine(project, &m->files[i].rec.project)) {
            ++*files;
            *bytes += m->files[i].rec.bytes;
        }
    }
    for (size_t i = 0; i < m->n_parts; i++)
        if (!m->parts[i].done && mem_mine(project, &m->parts[i].project))
            *bytes += m->parts[i].rec.bytes;
}

static enum rc mem_quota(struct mem_store *m, const struct id *project,
                         const struct file_quota *q, unsigned files, uint64_t bytes,
                         struct err *e)
{
    uint64_t has_files, has_bytes, all_files, all_bytes;

    if (!q)
        return RC_OK;
    mem_held(m, project, &has_files, &has_bytes);
    mem_held(m, NULL, &all_files, &all_bytes);
    if (q->project_files && files && has_files + files > q->project_files)
        return err_set(e, RC_LIMIT, "This project holds too many files.");
    if (q->project_bytes && has_bytes + bytes > q->project_bytes)
        return err_set(e, RC_LIMIT, "This project holds too many bytes.");
    if (q->all_bytes && all_bytes + bytes > q->all_bytes)
        return err_set(e, RC_LIMIT, "This server holds too many bytes.");
    return RC_OK;
}

/* --- Files ---------------------------------------------------------------------------
 */

/* Also one that is deleted. */
static struct mem_file *mem_file_row(struct mem_store *m, const char *id)
{
    for (size_t i = 0; i < m->n_files; i++)
        if (strcmp(m->files[i].rec.id.z, id) == 0)
            return &m->files[i];
    return NULL;
}

static struct mem_file *mem_file_find(struct mem_store *m, const struct id *project,
                                      const char *id)
{
    struct mem_file *f = mem_file_row(m, id);

    return f && !f->deleted && mem_mine(project, &f->rec.project) ? f : NULL;
}

static void mem_file_copy(struct file_rec *dst, const struct file_rec *src)
{
    *dst = *src;
    dst->filename = mem_dup(src->filename ? src->filename : "",
                            src->filename ? strlen(src->filename) : 0);
}

static enum rc mem_file_put(struct mem_store *m, const struct file_rec *f,
                            const struct file_quota *q, struct err *e)
{
    enum rc rc = mem_quota(m, &f->project, q, 1, f->bytes, e);

    if (rc != RC_OK)
        return rc;
    if (mem_file_row(m, f->id.z))
        return err_set(e, RC_CONFLICT, "there is a file '%s' already", f->id.z);
    CHECK(m->n_files < MEM_ROWS);
    m->files[m->n_files].deleted = false;
    mem_file_copy(&m->files[m->n_files++].rec, f);
    return RC_OK;
}

static enum rc mem_file_add(void *self, const struct file_rec *f,
                            const struct file_quota *q, struct err *e)
{
    struct mem_store *m = self;
    enum rc rc;

    if (m->fail_file_add != RC_OK)
        return err_set(e, m->fail_file_add, "file_add fails");
    pthread_mutex_lock(&m->lock);
    rc = mem_file_put(m, f, q, e);
    if (rc == RC_OK)
        mem_floor(m, f->created_at);
    pthread_mutex_unlock(&m->lock);
    return rc;
}

static enum rc mem_file_get(void *self, const struct id *project, const char *id,
                            struct file_rec *ret, struct err *e)
{
    struct mem_store *m = self;
    struct mem_file *f;

    if (m->fail_file_get != RC_OK)
        return err_set(e, m->fail_file_get, "file_get fails");
    pthread_mutex_lock(&m->lock);
    f = mem_file_find(m, project, id);
    if (f)
        mem_file_copy(ret, &f->rec);
    pthread_mutex_unlock(&m->lock);
    return f ? RC_OK : RC_NOTFOUND;
}

static bool mem_file_wanted(const struct mem_file *f, const struct file_query *q)
{
    return !f->deleted && mem_mine(q->project, &f->rec.project) &&
           (!q->purpose || strcmp(q->purpose, f->rec.purpose) == 0);
}

/* Rows are in the order of creation already. */
static enum rc mem_file_list(void *self, const struct file_query *q,
                             struct file_rec **ret, size_t *ret_n, bool *ret_more,
                             struct err *e)
{
    struct mem_store *m = self;
    struct file_rec *out = mem_new_n(struct file_rec, q->limit + 1);
    bool on = !q->after, more = false;
    size_t n = 0;

    pthread_mutex_lock(&m->lock);
    for (size_t i = 0; i < m->n_files; i++) {
        const struct mem_file *f = &m->files[q->ascending ? i : m->n_files - 1 - i];

        if (on && mem_file_wanted(f, q)) {
            more = n == q->limit;
            if (more)
                break;
            mem_file_copy(&out[n++], &f->rec);
        }
        on = on || (strcmp(f->rec.id.z, q->after) == 0 &&
                    mem_mine(q->project, &f->rec.project));
    }
    pthread_mutex_unlock(&m->lock);
    if (!on) {
        mem_free(out);
        return err_set(e, RC_NOTFOUND, "no such file");
    }
    *ret = out;
    *ret_n = n;
    *ret_more = more;
    return RC_OK;
}

static enum rc mem_file_delete(void *self, const struct id *project, const char *id,
                               int64_t now, struct err *e)
{
    struct mem_store *m = self;
    struct mem_file *f;

    pthread_mutex_lock(&m->lock);
    f = mem_file_find(m, project, id);
    if (f) {
        f->deleted = true;
        mem_floor(m, now);
    }
    pthread_mutex_unlock(&m->lock);
    return f ? RC_OK : err_set(e, RC_NOTFOUND, "no such file");
}

static bool mem_is_read_by(struct mem_store *m, const char *file, const struct batch *b)
{
    const struct batch *first = mem_batch_find(m, NULL, b->continue_from.z);

    if (batch_terminal(b->status))
        return false;
    if (!b->input_missing && strcmp(b->input_file.z, file) == 0)
        return true;
    return b->status == BATCH_VALIDATING && first &&
           (strcmp(first->input_file.z, file) == 0 ||
            strcmp(first->output_file.z, file) == 0);
}

static bool mem_is_read(struct mem_store *m, const char *file)
{
    bool read = false;

    for (size_t i = 0; i < m->n_batches; i++)
        read = read || mem_is_read_by(m, file, &m->batches[i]);
    return read;
}

static enum rc mem_file_reap(void *self, int64_t now, struct id *ret, size_t max,
                             size_t *ret_n, struct err *e)
{
    struct mem_store *m = self;
    size_t n = 0;

    (void)e;
    pthread_mutex_lock(&m->lock);
    for (size_t i = 0; i < m->n_files; i++) {
        struct mem_file *f = &m->files[i];

        f->deleted = f->deleted || (f->rec.expires_at && f->rec.expires_at <= now);
        if (f->deleted && n < max && !mem_is_read(m, f->rec.id.z))
            ret[n++] = f->rec.id;
    }
    pthread_mutex_unlock(&m->lock);
    *ret_n = n;
    return RC_OK;
}

static enum rc mem_file_forget(void *self, const char *id, struct err *e)
{
    struct mem_store *m = self;
    struct mem_file *f;

    (void)e;
    pthread_mutex_lock(&m->lock);
    f = mem_file_row(m, id);
    if (f && f->deleted) {
        file_rec_done(&f->rec);
        MEM_REMOVE(m->files, m->n_files, (size_t)(f - m->files));
    }
    pthread_mutex_unlock(&m->lock);
    return RC_OK;
}

static struct mem_part *mem_part_row(struct mem_store *m, const char *id)
{
    for (size_t i = 0; i < m->n_parts; i++)
        if (strcmp(m->parts[i].rec.id.z, id) == 0)
            return &m->parts[i];
    return NULL;
}

static enum rc mem_file_known(void *self, const char *id, bool *ret, struct err *e)
{
    struct mem_store *m = self;

    if (m->fail_file_known != RC_OK)
        return err_set(e, m->fail_file_known, "the ledger is gone");
    pthread_mutex_lock(&m->lock);
    *ret = mem_file_row(m, id) || mem_part_row(m, id);
    pthread_mutex_unlock(&m->lock);
    return RC_OK;
}

static enum rc mem_usage_of(void *self, const struct id *project,
                            struct project_usage *ret, struct err *e)
{
    struct mem_store *m = self;

    (void)e;
    pthread_mutex_lock(&m->lock);
    mem_held(m, project, &ret->files, &ret->bytes);
    ret->live_batches = mem_live(m, project);
    pthread_mutex_unlock(&m->lock);
    return RC_OK;
}

/* --- Uploads -------------------------------------------------------------------------
 */

static struct upload_rec *mem_upload_find(struct mem_store *m, const struct id *project,
                                          const char *id)
{
    for (size_t i = 0; i < m->n_uploads; i++)
        if (strcmp(m->uploads[i].id.z, id) == 0 &&
            mem_mine(project, &m->uploads[i].project))
            return &m->uploads[i];
    return NULL;
}

static void mem_upload_copy(struct upload_rec *dst, const struct upload_rec *src)
{
    *dst = *src;
    dst->filename = mem_dup_z(src->filename);
}

static enum rc mem_upload_add(void *self, const struct upload_rec *u, struct err *e)
{
    struct mem_store *m = self;
    enum rc rc = RC_OK;

    if (m->fail_upload_add != RC_OK)
        return err_set(e, m->fail_upload_add, "upload_add fails");
    pthread_mutex_lock(&m->lock);
    CHECK(m->n_uploads < MEM_ROWS);
    if (mem_upload_find(m, NULL, u->id.z)) {
        rc = err_set(e, RC_INVALID, "there is an upload '%s' already", u->id.z);
    } else {
        struct upload_rec *row = &m->uploads[m->n_uploads++];

        mem_upload_copy(row, u);
        row->status = UPLOAD_PENDING;
        row->ended_at = 0;
        row->file = (struct id){{0}};
        mem_floor(m, u->created_at);
    }
    pthread_mutex_unlock(&m->lock);
    return rc;
}

static enum rc mem_upload_get(void *self, const struct id *project, const char *id,
                              struct upload_rec *ret, struct err *e)
{
    struct mem_store *m = self;
    struct upload_rec *u;

    pthread_mutex_lock(&m->lock);
    u = mem_upload_find(m, project, id);
    if (u)
        mem_upload_copy(ret, u);
    pthread_mutex_unlock(&m->lock);
    return u ? RC_OK : err_set(e, RC_NOTFOUND, "no such upload");
}

static void mem_end_upload(struct mem_store *m, struct upload_rec *u,
                           enum upload_status to, int64_t at)
{
    u->status = to;
    u->ended_at = at;
    for (size_t i = 0; i < m->n_parts; i++)
        if (strcmp(m->parts[i].upload.z, u->id.z) == 0)
            m->parts[i].done = true;
}

/* Undone by hand: there are no transactions here. */
static enum rc mem_move_upload(struct mem_store *m, struct upload_rec *u,
                               enum upload_status to, int64_t now,
                               const struct file_rec *file, const struct file_quota *q,
                               struct err *e)
{
    enum rc rc = RC_OK;

    if (upload_status_at(u, now) != UPLOAD_PENDING)
        return err_set(e, RC_CONFLICT, "the upload is %s",
                       upload_status_name(upload_status_at(u, now)));
    mem_end_upload(m, u, to, now);
    if (file)
        rc = mem_file_put(m, file, q, e);
    if (rc == RC_OK) {
        u->file = file ? file->id : (struct id){{0}};
        mem_floor(m, now);
        return RC_OK;
    }
    u->status = UPLOAD_PENDING;
    u->ended_at = 0;
    for (size_t i = 0; i < m->n_parts; i++)
        if (strcmp(m->parts[i].upload.z, u->id.z) == 0)
            m->parts[i].done = false;
    return rc == RC_CONFLICT ? RC_INVALID : rc;
}

static enum rc mem_upload_move(void *self, const struct id *project, const char *id,
                               enum upload_status to, int64_t now,
                               const struct file_rec *file, const struct file_quota *q,
                               struct upload_rec *ret, struct err *e)
{
    struct mem_store *m = self;
    struct upload_rec *u;
    enum rc rc;

    if (m->fail_upload_move != RC_OK)
        return err_set(e, m->fail_upload_move, "upload_move fails");
    pthread_mutex_lock(&m->lock);
    u = mem_upload_find(m, project, id);
    rc = u ? mem_move_upload(m, u, to, now, file, q, e)
           : err_set(e, RC_NOTFOUND, "no such upload");
    if (ret && (rc == RC_OK || rc == RC_CONFLICT)) {
        mem_upload_copy(ret, u);
        ret->status = upload_status_at(u, now);
    }
    pthread_mutex_unlock(&m->lock);
    return rc;
}

static bool mem_has_parts(struct mem_store *m, const char *upload)
{
    for (size_t i = 0; i < m->n_parts; i++)
        if (strcmp(m->parts[i].upload.z, upload) == 0)
            return true;
    return false;
}

static enum rc mem_upload_reap(void *self, int64_t now, struct id *ret, size_t max,
                               size_t *ret_n, struct err *e)
{
    struct mem_store *m = self;
    size_t n = 0;

    (void)e;
    pthread_mutex_lock(&m->lock);
    for (size_t i = 0; i < m->n_uploads;) {
        struct upload_rec *u = &m->uploads[i];

        if (u->status == UPLOAD_PENDING && u->expires_at <= now)
            mem_end_upload(m, u, UPLOAD_EXPIRED, u->expires_at);
        if (u->ended_at && u->ended_at <= now - (int64_t)UPLOAD_KEPT_DAYS * 86400 &&
            !mem_has_parts(m, u->id.z)) {
            upload_rec_done(u);
            MEM_REMOVE(m->uploads, m->n_uploads, i);
        } else {
            i++;
        }
    }
    for (size_t i = 0; i < m->n_parts && n < max; i++)
        if (m->parts[i].done)
            ret[n++] = m->parts[i].rec.id;
    pthread_mutex_unlock(&m->lock);
    *ret_n = n;
    return RC_OK;
}

static enum rc mem_put_part(struct mem_store *m, const struct upload_rec *u,
                            const struct part_rec *p, const struct file_quota *q,
                            struct err *e)
{
    uint64_t n = 0, bytes = 0;
    enum rc rc;

    if (upload_status_at(u, p->created_at) != UPLOAD_PENDING)
        return err_set(e, RC_CONFLICT, "the upload is %s",
                       upload_status_name(upload_status_at(u, p->created_at)));
    for (size_t i = 0; i < m->n_parts; i++) {
        if (strcmp(m->parts[i].upload.z, u->id.z) == 0) {
            n++;
            bytes += m->parts[i].rec.bytes;
        }
    }
    if (n >= UPLOAD_PARTS_MAX || p->bytes > u->bytes ||
        bytes + p->bytes > UPLOAD_SPARE * u->bytes)
        return err_set(e, RC_LIMIT, "Upload '%s' was made for %llu bytes.", u->id.z,
                       (unsigned long long)u->bytes);
    rc = mem_quota(m, &u->project, q, 0, p->bytes, e);
    if (rc == RC_OK && mem_part_row(m, p->id.z))
        rc = err_set(e, RC_INVALID, "there is a part '%s' already", p->id.z);
    if (rc != RC_OK)
        return rc;
    CHECK(m->n_parts < MEM_ROWS);
    m->parts[m->n_parts++] = (struct mem_part){*p, u->project, u->id, false};
    mem_floor(m, p->created_at);
    return RC_OK;
}

static enum rc mem_part_add(void *self, const struct id *project, const char *upload,
                            const struct part_rec *p, const struct file_quota *q,
                            struct err *e)
{
    struct mem_store *m = self;
    struct upload_rec *u;
    enum rc rc;

    if (m->fail_part_add != RC_OK)
        return err_set(e, m->fail_part_add, "part_add fails");
    pthread_mutex_lock(&m->lock);
    u = mem_upload_find(m, project, upload);
    rc = u ? mem_put_part(m, u, p, q, e) : err_set(e, RC_NOTFOUND, "no such upload");
    pthread_mutex_unlock(&m->lock);
    return rc;
}

static enum rc mem_part_list(void *self, const struct id *project, const char *upload,
                             struct part_rec **ret, size_t *ret_n, struct err *e)
{
    struct mem_store *m = self;
    struct part_rec *out;
    size_t n = 0;
    bool found;

    pthread_mutex_lock(&m->lock);
    found = mem_upload_find(m, project, upload) != NULL;
    out = mem_new_n(struct part_rec, m->n_parts + 1);
    for (size_t i = 0; i < m->n_parts; i++)
        if (strcmp(m->parts[i].upload.z, upload) == 0)
            out[n++] = m->parts[i].rec;
    pthread_mutex_unlock(&m->lock);
    if (!found) {
        mem_free(out);
        return err_set(e, RC_NOTFOUND, "no such upload");
    }
    *ret = out;
    *ret_n = n;
    return RC_OK;
}

static enum rc mem_part_forget(void *self, const char *id, struct err *e)
{
    struct mem_store *m = self;
    struct mem_part *p;

    (void)e;
    pthread_mutex_lock(&m->lock);
    p = mem_part_row(m, id);
    if (p && p->done)
        MEM_REMOVE(m->parts, m->n_parts, (size_t)(p - m->parts));
    pthread_mutex_unlock(&m->lock);
    return RC_OK;
}
