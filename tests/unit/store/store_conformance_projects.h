/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_conformance_projects: nothing of one project is another's; quotas; keys that make
 * a batch once.  Part of store_conformance.h.
 */
#pragma once

static const struct id c_proj1 = {"proj-1"}, c_proj2 = {"proj-2"}, c_nobody = {""};

static struct id c_add_file_of(struct store *s, const struct id *project, uint64_t bytes)
{
    struct file_rec f = c_file(1700000000, "batch");

    f.project = *project;
    f.bytes = bytes;
    EQ_RC(s->ops->file_add(s->self, &f, NULL, NULL), RC_OK);
    return f.id;
}

static struct upload_rec c_upload(const struct id *project)
{
    return (struct upload_rec){.id = id_make(ID_UPLOAD),
                               .project = *project,
                               .purpose = "batch",
                               .filename = a_filename,
                               .bytes = 1000,
                               .created_at = 1700000000,
                               .expires_at = 1700003600};
}

static struct id c_add_upload(struct store *s, const struct id *project)
{
    struct upload_rec u = c_upload(project);

    EQ_RC(s->ops->upload_add(s->self, &u, NULL), RC_OK);
    return u.id;
}

static struct part_rec c_part(uint64_t bytes)
{
    return (struct part_rec){.id = id_make(ID_PART),
                             .bytes = bytes,
                             .sha256 = {1, 2, 3},
                             .created_at = 1700000001};
}

static void c_free_files(struct file_rec *all, size_t n)
{
    for (size_t i = 0; i < n; i++)
        file_rec_done(&all[i]);
    mem_free(all);
}

static void c_free_batches(struct batch *all, size_t n)
{
    for (size_t i = 0; i < n; i++)
        batch_done(&all[i]);
    mem_free(all);
}

/* ---- who sees what ------------------------------------------------------------------*/

typedef enum rc c_call_fn(struct store *s, const struct id *project, const char *id,
                          struct err *e);

static enum rc c_call_file_get(struct store *s, const struct id *project, const char *id,
                               struct err *e)
{
    struct file_rec f = {0};
    enum rc rc = s->ops->file_get(s->self, project, id, &f, e);

    file_rec_done(&f);
    return rc;
}

static enum rc c_call_file_list(struct store *s, const struct id *project, const char *id,
                                struct err *e)
{
    struct file_query q = {.project = project, .after = id, .limit = 5};
    struct file_rec *all = NULL;
    size_t n = 0;
    bool more;
    enum rc rc = s->ops->file_list(s->self, &q, &all, &n, &more, e);

    c_free_files(all, n);
    return rc;
}

static enum rc c_call_file_delete(struct store *s, const struct id *project,
                                  const char *id, struct err *e)
{
    return s->ops->file_delete(s->self, project, id, 1700000002, e);
}

static enum rc c_call_upload_get(struct store *s, const struct id *project,
                                 const char *id, struct err *e)
{
    struct upload_rec u = {0};
    enum rc rc = s->ops->upload_get(s->self, project, id, &u, e);

    upload_rec_done(&u);
    return rc;
}

static enum rc c_call_part_add(struct store *s, const struct id *project, const char *id,
                               struct err *e)
{
    struct part_rec p = c_part(10);

    return s->ops->part_add(s->self, project, id, &p, NULL, e);
}

static enum rc c_call_part_list(struct store *s, const struct id *project, const char *id,
                                struct err *e)
{
    struct part_rec *all = NULL;
    size_t n;
    enum rc rc = s->ops->part_list(s->self, project, id, &all, &n, e);

    mem_free(all);
    return rc;
}

static enum rc c_call_upload_move(struct store *s, const struct id *project,
                                  const char *id, struct err *e)
{
    return s->ops->upload_move(s->self, project, id, UPLOAD_CANCELLED, 1700000003, NULL,
                               NULL, NULL, e);
}

static enum rc c_call_batch_get(struct store *s, const struct id *project, const char *id,
                                struct err *e)
{
    struct batch b = {0};
    enum rc rc = s->ops->batch_get(s->self, project, id, &b, e);

    batch_done(&b);
    return rc;
}

static enum rc c_call_batch_list(struct store *s, const struct id *project,
                                 const char *id, struct err *e)
{
    struct batch *all = NULL;
    size_t n = 0;
    bool more;
    enum rc rc = s->ops->batch_list(s->self, project, id, 5, &all, &n, &more, e);

    c_free_batches(all, n);
    return rc;
}

static enum rc c_call_batch_edit(struct store *s, const struct id *project,
                                 const char *id, struct err *e)
{
    struct batch_edit edit = {.has_priority = true, .priority = 3};

    return s->ops->batch_edit(s->self, project, id, &edit, 1700000004, NULL, e);
}

static enum rc c_call_batch_move(struct store *s, const struct id *project,
                                 const char *id, struct err *e)
{
    return s->ops->batch_move(s->self, project, id, BATCH_EV_CANCEL, 1700000005, NULL,
                              NULL, e);
}

static enum rc c_call_continue(struct store *s, const struct id *project, const char *id,
                               struct err *e)
{
    struct batch b = {.id = id_make(ID_BATCH), .created_at = 1700000006};

    if (!project) /* nobody adds for anybody */
        return RC_OK;
    b.project = *project;
    EQ_RC(id_from(str_of(id), &b.continue_from), RC_OK);
    return s->ops->batch_add(s->self, &b, NULL, NULL, e);
}

/* The sentence without the id that it names. */
static void c_mask(struct err *e, const char *id)
{
    char *at = strstr(e->text, id);

    if (at)
        memset(at, '#', strlen(id));
}

TEST(what_is_of_another_project_is_as_unknown_as_what_never_was)
{
    static const struct {
        const char *name;
        c_call_fn *call;
        enum { A_FILE, AN_UPLOAD, A_BATCH } of;
    } rows[] = {
        {"file_get", c_call_file_get, A_FILE},
        {"file_list after it", c_call_file_list, A_FILE},
        {"file_delete", c_call_file_delete, A_FILE},
        {"upload_get", c_call_upload_get, AN_UPLOAD},
        {"part_add", c_call_part_add, AN_UPLOAD},
        {"part_list", c_call_part_list, AN_UPLOAD},
        {"upload_move", c_call_upload_move, AN_UPLOAD},
        {"batch_get", c_call_batch_get, A_BATCH},
        {"batch_list after it", c_call_batch_list, A_BATCH},
        {"batch_add that continues it", c_call_continue, A_BATCH},
        {"batch_edit", c_call_batch_edit, A_BATCH},
        {"batch_move", c_call_batch_move, A_BATCH},
    };
    static const struct id *const others[] = {&c_proj2, &c_nobody};
    static const char *const prefix[] = {ID_FILE, ID_UPLOAD, ID_BATCH};
    struct store *s = conformance_open(false);

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct id file = c_add_file_of(s, &c_proj1, 10);
        const struct id ids[] = {file, c_add_upload(s, &c_proj1), c_add_batch(s, &file)};
        struct id none = id_make(prefix[rows[i].of]);
        const char *id = ids[rows[i].of].z;

        t_row(rows[i].name);
        for (size_t k = 0; k < COUNTOF(others); k++) {
            struct err foreign = {{0}}, unknown = {{0}};

            EQ_RC(rows[i].call(s, others[k], id, &foreign), RC_NOTFOUND);
            EQ_RC(rows[i].call(s, others[k], none.z, &unknown), RC_NOTFOUND);
            c_mask(&foreign, id);
            c_mask(&unknown, none.z);
            EQ_Z(foreign.text, unknown.text);
        }
        /* And nothing came of it: its own project can still do all of that. */
        EQ_RC(rows[i].call(s, &c_proj1, id, NULL), RC_OK);
        EQ_RC(rows[i].call(s, NULL, none.z, NULL),
              rows[i].call == c_call_continue ? RC_OK : RC_NOTFOUND);
    }
    t_row(NULL);
    store_close(s);
}

TEST(a_list_shows_a_project_its_own_and_anybody_all_of_it)
{
    static const struct {
        const char *name;
        const struct id *project;
        unsigned want;
    } rows[] = {{"one", &c_proj1, 4},
                {"other", &c_proj2, 3},
                {"nobody", &c_nobody, 0},
                {"anybody", NULL, 7}};
    struct store *s = conformance_open(false);

    for (unsigned i = 0; i < 7; i++) {
        const struct id *project = i % 2 ? &c_proj2 : &c_proj1;
        struct id file = c_add_file_of(s, project, 10);
        struct batch b = c_batch(&file);

        b.project = *project;
        EQ_RC(s->ops->batch_add(s->self, &b, NULL, NULL, NULL), RC_OK);
    }
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct file_query q = {.project = rows[i].project, .limit = 100};
        struct file_rec *files = NULL;
        struct batch *batches = NULL;
        size_t n_files = 0, n_batches = 0;
        bool more;

        t_row(rows[i].name);
        for (unsigned k = 0; k < 4; k++) {
            q.ascending = k % 2;
            q.purpose = k / 2 ? "batch" : NULL;
            EQ_RC(s->ops->file_list(s->self, &q, &files, &n_files, &more, NULL), RC_OK);
            EQ_INT(n_files, rows[i].want);
            OK(!more);
            for (size_t f = 0; rows[i].project && f < n_files; f++)
                EQ_Z(files[f].project.z, rows[i].project->z);
            c_free_files(files, n_files);
        }
        EQ_RC(s->ops->batch_list(s->self, rows[i].project, NULL, 100, &batches,
                                 &n_batches, &more, NULL),
              RC_OK);
        EQ_INT(n_batches, rows[i].want);
        OK(!more);
        for (size_t b = 0; rows[i].project && b < n_batches; b++)
            EQ_Z(batches[b].project.z, rows[i].project->z);
        c_free_batches(batches, n_batches);
    }
    t_row(NULL);
    store_close(s);
}

TEST(the_input_of_another_project_is_missing_and_is_not_held)
{
    struct store *s = conformance_open(false);
    struct id file = c_add_file_of(s, &c_proj2, 10), reaped[2];
    struct batch b = c_batch(&file), got;
    size_t n;

    EQ_RC(s->ops->batch_add(s->self, &b, NULL, NULL, NULL), RC_OK);
    EQ_RC(s->ops->batch_get(s->self, &c_proj1, b.id.z, &got, NULL), RC_OK);
    OK(got.input_missing);
    batch_done(&got);
    EQ_RC(s->ops->file_delete(s->self, &c_proj2, file.z, 5, NULL), RC_OK);
    EQ_RC(s->ops->file_reap(s->self, 6, reaped, 2, &n, NULL), RC_OK);
    EQ_INT(n, 1);
    store_close(s);
}

/* ---- quotas -------------------------------------------------------------------------*/

TEST(a_quota_of_files_is_met_to_the_byte_and_not_passed)
{
    static const struct {
        const char *name;
        struct file_quota q;
        uint64_t bytes; /* beside 100 of this project in 2 files and 50 of another */
        enum rc want;
        const char *says;
    } rows[] = {
        {"none", {0}, (uint64_t)1 << 50, RC_OK, ""},
        {"bytes, just", {.project_bytes = 130}, 30, RC_OK, ""},
        {"bytes, one over", {.project_bytes = 130}, 31, RC_LIMIT, "130"},
        {"bytes, far over", {.project_bytes = 130}, INT64_MAX, RC_LIMIT, "130"},
        {"bytes, all there are", {.project_bytes = UINT64_MAX}, INT64_MAX, RC_OK, ""},
        {"bytes, over before", {.project_bytes = 99}, 0, RC_LIMIT, "99"},
        {"files, just", {.project_files = 3}, 30, RC_OK, ""},
        {"files, one over", {.project_files = 2}, 30, RC_LIMIT, "2"},
        {"all, just", {.all_bytes = 180}, 30, RC_OK, ""},
        {"all, one over", {.all_bytes = 180}, 31, RC_LIMIT, "180"},
        {"both, the second", {1000, 100, 180}, 31, RC_LIMIT, "180"},
    };
    struct store *s = conformance_open(false);
    struct id gone;

    (void)c_add_file_of(s, &c_proj1, 60);
    (void)c_add_file_of(s, &c_proj1, 40);
    (void)c_add_file_of(s, &c_proj2, 50);
    gone = c_add_file_of(s, &c_proj1, 1 << 30);
    EQ_RC(s->ops->file_delete(s->self, NULL, gone.z, 5, NULL), RC_OK);
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct file_rec f = c_file(1, "batch"), got;
        struct err e = {{0}};

        t_row(rows[i].name);
        f.bytes = rows[i].bytes;
        EQ_RC(s->ops->file_add(s->self, &f, &rows[i].q, &e), rows[i].want);
        EQ_RC(s->ops->file_get(s->self, NULL, f.id.z, &got, NULL),
              rows[i].want == RC_OK ? RC_OK : RC_NOTFOUND);
        if (rows[i].want == RC_OK) {
            file_rec_done(&got);
            EQ_RC(s->ops->file_delete(s->self, NULL, f.id.z, 5, NULL), RC_OK);
        }
        OK(strstr(e.text, "150") == NULL); /* what others hold is not told */
    }
    t_row(NULL);
    store_close(s);
}

TEST(parts_count_while_their_upload_is_pending_and_its_file_counts_once)
{
    struct file_quota q = {.project_bytes = 100};
    struct store *s = conformance_open(false);
    struct id upload = c_add_upload(s, &c_proj1);
    struct part_rec a = c_part(60), b = c_part(41), c = c_part(40);
    struct file_rec f = c_file(1700000002, "batch");
    struct project_usage use;
    struct err e;

    EQ_RC(s->ops->part_add(s->self, &c_proj1, upload.z, &a, &q, NULL), RC_OK);
    EQ_RC(s->ops->part_add(s->self, &c_proj1, upload.z, &b, &q, &e), RC_LIMIT);
    EQ_RC(s->ops->part_add(s->self, &c_proj1, upload.z, &c, &q, NULL), RC_OK);
    EQ_RC(s->ops->usage_of(s->self, &c_proj1, &use, NULL), RC_OK);
    EQ_INT(use.bytes, 100);
    EQ_INT(use.files, 0);
    f.bytes = 1;
    EQ_RC(s->ops->file_add(s->self, &f, &q, NULL), RC_LIMIT);
    f.bytes = 101;
    EQ_RC(s->ops->upload_move(s->self, &c_proj1, upload.z, UPLOAD_COMPLETED, 1700000002,
                              &f, &q, NULL, NULL),
          RC_LIMIT);
    EQ_RC(s->ops->usage_of(s->self, &c_proj1, &use, NULL), RC_OK);
    EQ_INT(use.bytes, 100); /* nothing came of it */
    f.bytes = 100;
    EQ_RC(s->ops->upload_move(s->self, &c_proj1, upload.z, UPLOAD_COMPLETED, 1700000002,
                              &f, &q, NULL, NULL),
          RC_OK);
    EQ_RC(s->ops->usage_of(s->self, &c_proj1, &use, NULL), RC_OK);
    EQ_INT(use.bytes, 100);
    EQ_INT(use.files, 1);
    store_close(s);
}

struct c_adder {
    struct store *s;
    unsigned added;
};

static void *c_add_in_quota(void *arg)
{
    struct file_quota q = {.project_files = 20};
    struct c_adder *a = arg;

    for (unsigned i = 0; i < 10; i++) {
        struct file_rec f = c_file(1, "batch");
        enum rc rc = a->s->ops->file_add(a->s->self, &f, &q, NULL);

        OK(rc == RC_OK || rc == RC_LIMIT);
        a->added += rc == RC_OK;
    }
    return NULL;
}

TEST(a_quota_is_exact_also_when_many_add_at_once)
{
    struct store *s = conformance_open(false);
    struct c_adder a[8];
    struct project_usage use;
    pthread_t t[8];
    unsigned added = 0;

    for (unsigned i = 0; i < COUNTOF(t); i++) {
        a[i] = (struct c_adder){.s = s};
        EQ_INT(pthread_create(&t[i], NULL, c_add_in_quota, &a[i]), 0);
    }
    for (unsigned i = 0; i < COUNTOF(t); i++) {
        EQ_INT(pthread_join(t[i], NULL), 0);
        added += a[i].added;
    }
    EQ_INT(added, 20);
    EQ_RC(s->ops->usage_of(s->self, &c_proj1, &use, NULL), RC_OK);
    EQ_INT(use.files, 20);
    store_close(s);
}

TEST(a_quota_of_batches_counts_the_live_ones_of_a_project)
{
    static const struct {
        const char *name;
        struct batch_quota q;
        enum rc want;
    } rows[] = {
        {"none", {0}, RC_OK},
        {"room for one", {.max_live = 4}, RC_OK},
        {"full", {.max_live = 3}, RC_LIMIT},
        {"over before", {.max_live = 1}, RC_LIMIT},
    };
    struct store *s = conformance_open(false);
    struct id input = c_add_file_of(s, &c_proj1, 10), running, ended;
    struct project_usage use;

    running = c_add_batch(s, &input);
    c_move(s, &running, BATCH_EV_VALID, 5);
    (void)c_add_batch(s, &input);
    (void)c_add_batch(s, &input);
    ended = c_add_batch(s, &input);
    c_move(s, &ended, BATCH_EV_CANCEL, 6);
    c_move(s, &ended, BATCH_EV_PUBLISHED, 7);
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct batch b = c_batch(&input), other = c_batch(&input);
        struct err e = {{0}};

        t_row(rows[i].name);
        other.project = c_proj2; /* has none */
        EQ_RC(s->ops->batch_add(s->self, &other, &rows[i].q, NULL, NULL), RC_OK);
        EQ_RC(s->ops->batch_add(s->self, &b, &rows[i].q, NULL, &e), rows[i].want);
        EQ_RC(s->ops->usage_of(s->self, &c_proj1, &use, NULL), RC_OK);
        EQ_INT(use.live_batches, rows[i].want == RC_OK ? 4 : 3);
        c_move(s, &other.id, BATCH_EV_INVALID, 8);
        if (rows[i].want == RC_OK)
            c_move(s, &b.id, BATCH_EV_INVALID, 8);
    }
    t_row(NULL);
    store_close(s);
}

/* ---- keys that make a batch once ----------------------------------------------------*/

TEST(an_idempotency_key_makes_one_batch_of_its_project)
{
    static char key[] = "key '1'";
    struct store *s = conformance_open(false);
    struct id input = c_add_file_of(s, &c_proj1, 10);
    struct batch_quota full = {.max_live = 1};
    struct batch a = c_batch(&input), again = c_batch(&input), other = c_batch(&input),
                 first = {0};
    struct err e;

    a.idempotency_key = again.idempotency_key = other.idempotency_key = key;
    memset(a.request_hash, 7, sizeof a.request_hash);
    other.project = c_proj2;
    EQ_RC(s->ops->batch_add(s->self, &a, NULL, &first, NULL), RC_OK);
    OK(!first.metadata); /* left alone */
    EQ_RC(s->ops->batch_add(s->self, &other, NULL, NULL, NULL), RC_OK);
    c_move(s, &a.id, BATCH_EV_VALID, 5);
    store_close(s);
    s = conformance_open(true);
    /* The key comes before the quota: nothing is made. */
    EQ_RC(s->ops->batch_add(s->self, &again, &full, &first, &e), RC_CONFLICT);
    EQ_Z(first.id.z, a.id.z);
    EQ_INT(first.status, BATCH_IN_PROGRESS); /* as it stands */
    EQ_Z(first.idempotency_key, key);
    OK(memcmp(first.request_hash, a.request_hash, sizeof a.request_hash) == 0);
    batch_done(&first);
    EQ_RC(s->ops->batch_add(s->self, &again, NULL, NULL, NULL), RC_CONFLICT);
    EQ_RC(s->ops->batch_get(s->self, NULL, again.id.z, &first, NULL), RC_NOTFOUND);
    store_close(s);
}

struct c_same_key {
    struct store *s;
    struct batch b;
    enum rc rc;
    struct id got;
};

static void *c_add_same_key(void *arg)
{
    struct c_same_key *k = arg;
    struct batch first = {0};

    k->rc = k->s->ops->batch_add(k->s->self, &k->b, NULL, &first, NULL);
    k->got = k->rc == RC_CONFLICT ? first.id : k->b.id;
    batch_done(&first);
    return NULL;
}

TEST(of_many_that_use_a_key_at_once_one_makes_the_batch_and_all_learn_of_it)
{
    struct store *s = conformance_open(false);
    struct id input = c_add_file_of(s, &c_proj1, 10);

    for (unsigned round = 0; round < 10; round++) {
        struct c_same_key k[6];
        pthread_t t[6];
        char key[20];
        unsigned made = 0;

        EQ_RC(str_fmt(key, sizeof key, "round %u", round), RC_OK);
        for (unsigned i = 0; i < 6; i++) {
            k[i] = (struct c_same_key){.s = s, .b = c_batch(&input)};
            k[i].b.idempotency_key = key;
            EQ_INT(pthread_create(&t[i], NULL, c_add_same_key, &k[i]), 0);
        }
        for (unsigned i = 0; i < 6; i++) {
            EQ_INT(pthread_join(t[i], NULL), 0);
            OK(k[i].rc == RC_OK || k[i].rc == RC_CONFLICT);
            made += k[i].rc == RC_OK;
        }
        EQ_INT(made, 1);
        for (unsigned i = 0; i < 6; i++)
            EQ_Z(k[i].got.z, k[0].got.z);
    }
    store_close(s);
}
