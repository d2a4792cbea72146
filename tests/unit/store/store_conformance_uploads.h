/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_conformance_uploads: uploads and their parts.  Part of store_conformance.h.
 */
#pragma once

static struct part_rec c_add_part(struct store *s, const struct id *upload,
                                  uint64_t bytes)
{
    struct part_rec p = c_part(bytes);

    EQ_RC(s->ops->part_add(s->self, NULL, upload->z, &p, NULL, NULL), RC_OK);
    return p;
}

static void c_check_upload(struct store *s, const struct id *id, enum upload_status want)
{
    struct upload_rec u;

    EQ_RC(s->ops->upload_get(s->self, NULL, id->z, &u, NULL), RC_OK);
    EQ_INT(u.status, want);
    upload_rec_done(&u);
}

TEST(an_upload_and_its_parts_are_got_as_they_were_added_also_after_reopening)
{
    struct store *s = conformance_open(false);
    struct upload_rec u = c_upload(&c_proj1), got;
    struct part_rec a, b, *all = NULL;
    size_t n;

    u.file_expires_after = 3600;
    u.status = UPLOAD_CANCELLED; /* does not count */
    EQ_RC(s->ops->upload_add(s->self, &u, NULL), RC_OK);
    EQ_RC(s->ops->upload_add(s->self, &u, NULL), RC_INVALID);
    a = c_add_part(s, &u.id, 600);
    b = c_add_part(s, &u.id, 0);
    EQ_RC(s->ops->part_add(s->self, NULL, u.id.z, &b, NULL, NULL), RC_INVALID);
    for (unsigned i = 0; i < 2; i++) {
        EQ_RC(s->ops->upload_get(s->self, &c_proj1, u.id.z, &got, NULL), RC_OK);
        EQ_Z(got.id.z, u.id.z);
        EQ_Z(got.project.z, "proj-1");
        EQ_INT(got.status, UPLOAD_PENDING);
        EQ_Z(got.purpose, "batch");
        EQ_Z(got.filename, a_filename);
        EQ_INT(got.bytes, 1000);
        EQ_INT(got.created_at, 1700000000);
        EQ_INT(got.expires_at, 1700003600);
        EQ_INT(got.ended_at, 0);
        EQ_INT(got.file_expires_after, 3600);
        OK(id_none(&got.file));
        upload_rec_done(&got);
        upload_rec_done(&got);
        EQ_RC(s->ops->part_list(s->self, &c_proj1, u.id.z, &all, &n, NULL), RC_OK);
        EQ_INT(n, 2);
        EQ_Z(all[0].id.z, a.id.z);
        EQ_INT(all[0].bytes, 600);
        EQ_INT(all[0].created_at, a.created_at);
        OK(memcmp(all[0].sha256, a.sha256, sizeof a.sha256) == 0);
        EQ_Z(all[1].id.z, b.id.z);
        mem_free(all);
        store_close(s);
        s = conformance_open(true);
    }
    EQ_RC(s->ops->upload_get(s->self, NULL, "upload_none", &got, NULL), RC_NOTFOUND);
    EQ_RC(s->ops->part_list(s->self, NULL, "upload_none", &all, &n, NULL), RC_NOTFOUND);
    store_close(s);
}

TEST(a_part_has_no_more_bytes_than_its_upload_and_all_parts_four_times_as_many)
{
    static const struct {
        const char *name;
        uint64_t bytes;
        enum rc want;
    } rows[] = {{"some", 900, RC_OK},
                {"one more than the upload", 1001, RC_LIMIT},
                {"far too many", INT64_MAX, RC_LIMIT},
                {"more than there are", UINT64_MAX, RC_LIMIT},
                {"as many as the upload", 1000, RC_OK},
                {"sent again", 1000, RC_OK},
                {"and again", 1000, RC_OK},
                {"one too many in all", 101, RC_LIMIT},
                {"to the byte", 100, RC_OK},
                {"nothing more", 1, RC_LIMIT},
                {"but nothing", 0, RC_OK}};
    struct store *s = conformance_open(false);
    struct id id = c_add_upload(s, &c_proj1);

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct part_rec p = c_part(rows[i].bytes);
        struct err e = {{0}};
        bool known;

        t_row(rows[i].name);
        EQ_RC(s->ops->part_add(s->self, NULL, id.z, &p, NULL, &e), rows[i].want);
        EQ_RC(s->ops->file_known(s->self, p.id.z, &known, NULL), RC_OK);
        EQ_INT(known, rows[i].want == RC_OK);
        if (rows[i].want == RC_LIMIT)
            OK(strstr(e.text, "1000"));
    }
    t_row(NULL);
    store_close(s);
}

TEST(an_upload_leaves_pending_once_and_takes_no_part_then)
{
    static const struct {
        const char *name;
        enum upload_status to;
        int64_t now, ended;
        enum rc want;
        enum upload_status shown;
    } rows[] = {
        {"completed", UPLOAD_COMPLETED, 1700000100, 1700000100, RC_OK, UPLOAD_COMPLETED},
        {"cancelled", UPLOAD_CANCELLED, 1700003599, 1700003599, RC_OK, UPLOAD_CANCELLED},
        {"too late", UPLOAD_COMPLETED, 1700003600, 0, RC_CONFLICT, UPLOAD_EXPIRED},
        {"too late to cancel", UPLOAD_CANCELLED, 1800000000, 0, RC_CONFLICT,
         UPLOAD_EXPIRED},
    };
    struct store *s = conformance_open(false);

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        bool completes = rows[i].to == UPLOAD_COMPLETED, done = rows[i].want == RC_OK;
        struct id id = c_add_upload(s, &c_proj1);
        struct part_rec p = c_part(1);
        struct file_rec f = c_file(rows[i].now, "batch"), got;
        struct upload_rec u = {0};
        struct err e = {{0}};

        t_row(rows[i].name);
        EQ_RC(s->ops->upload_move(s->self, &c_proj1, id.z, rows[i].to, rows[i].now,
                                  completes ? &f : NULL, NULL, &u, &e),
              rows[i].want);
        EQ_INT(u.status, rows[i].shown);
        EQ_INT(u.ended_at, rows[i].ended);
        EQ_Z(u.file.z, completes && done ? f.id.z : "");
        upload_rec_done(&u);
        EQ_RC(s->ops->file_get(s->self, &c_proj1, f.id.z, &got, NULL),
              completes && done ? RC_OK : RC_NOTFOUND);
        if (completes && done)
            file_rec_done(&got);
        for (unsigned k = 0; k < 2; k++) { /* from then on nothing moves it */
            f.id = id_make(ID_FILE);
            EQ_RC(s->ops->upload_move(s->self, NULL, id.z,
                                      k ? UPLOAD_CANCELLED : UPLOAD_COMPLETED,
                                      rows[i].now, k ? NULL : &f, NULL, &u, &e),
                  RC_CONFLICT);
            EQ_INT(u.status, rows[i].shown);
            OK(strstr(e.text, upload_status_name(rows[i].shown)));
            upload_rec_done(&u);
        }
        p.created_at = rows[i].now;
        EQ_RC(s->ops->part_add(s->self, NULL, id.z, &p, NULL, NULL), RC_CONFLICT);
    }
    t_row(NULL);
    store_close(s);
}

TEST(an_upload_whose_file_cannot_be_added_stays_pending)
{
    struct store *s = conformance_open(false);
    struct id id = c_add_upload(s, &c_proj1), taken = c_add_file_of(s, &c_proj1, 5);
    struct file_rec f = c_file(1700000002, "batch");
    struct file_quota q = {.project_files = 1};
    struct part_rec *all;
    size_t n;

    (void)c_add_part(s, &id, 10);
    EQ_RC(s->ops->upload_move(s->self, NULL, id.z, UPLOAD_COMPLETED, 1700000002, &f, &q,
                              NULL, NULL),
          RC_LIMIT);
    c_check_upload(s, &id, UPLOAD_PENDING);
    f.id = taken;
    EQ_RC(s->ops->upload_move(s->self, NULL, id.z, UPLOAD_COMPLETED, 1700000002, &f, NULL,
                              NULL, NULL),
          RC_INVALID);
    c_check_upload(s, &id, UPLOAD_PENDING);
    EQ_RC(s->ops->part_list(s->self, NULL, id.z, &all, &n, NULL), RC_OK);
    EQ_INT(n, 1);
    mem_free(all);
    (void)c_add_part(s, &id, 10);
    store_close(s);
}

TEST(parts_are_reaped_when_their_upload_has_ended_and_its_row_goes_a_month_later)
{
    static const int64_t month = (int64_t)UPLOAD_KEPT_DAYS * 86400;
    struct store *s = conformance_open(false);
    struct id pending = c_add_upload(s, &c_proj1), ended = c_add_upload(s, &c_proj1),
              reaped[4];
    struct part_rec kept = c_add_part(s, &pending, 5), a = c_add_part(s, &ended, 5),
                    b = c_add_part(s, &ended, 5);
    struct upload_rec u;
    bool known;
    size_t n;

    EQ_RC(s->ops->upload_reap(s->self, 1700000002, reaped, 4, &n, NULL), RC_OK);
    EQ_INT(n, 0);
    EQ_RC(s->ops->upload_move(s->self, NULL, ended.z, UPLOAD_CANCELLED, 1700000003, NULL,
                              NULL, NULL, NULL),
          RC_OK);
    EQ_RC(s->ops->upload_reap(s->self, 1700000004, reaped, 1, &n, NULL), RC_OK);
    EQ_INT(n, 1);
    EQ_Z(reaped[0].z, a.id.z);
    for (unsigned i = 0; i < 2; i++) { /* until they are forgotten, again and again */
        EQ_RC(s->ops->upload_reap(s->self, 1700000004, reaped, 4, &n, NULL), RC_OK);
        EQ_INT(n, 2);
    }
    EQ_RC(s->ops->part_forget(s->self, kept.id.z, NULL), RC_OK); /* it is needed */
    EQ_RC(s->ops->part_forget(s->self, a.id.z, NULL), RC_OK);
    EQ_RC(s->ops->file_known(s->self, kept.id.z, &known, NULL), RC_OK);
    OK(known);
    EQ_RC(s->ops->file_known(s->self, a.id.z, &known, NULL), RC_OK);
    OK(!known);
    /* A row whose parts still lie there stays. */
    EQ_RC(s->ops->upload_reap(s->self, 1700000003 + month, reaped, 4, &n, NULL), RC_OK);
    EQ_INT(n, 2); /* the other one has expired */
    c_check_upload(s, &ended, UPLOAD_CANCELLED);
    c_check_upload(s, &pending, UPLOAD_EXPIRED);
    EQ_RC(s->ops->part_forget(s->self, b.id.z, NULL), RC_OK);
    EQ_RC(s->ops->part_forget(s->self, kept.id.z, NULL), RC_OK);
    EQ_RC(s->ops->upload_reap(s->self, 1700000002 + month, reaped, 4, &n, NULL), RC_OK);
    c_check_upload(s, &ended, UPLOAD_CANCELLED);
    EQ_RC(s->ops->upload_reap(s->self, 1700000003 + month, reaped, 4, &n, NULL), RC_OK);
    EQ_INT(n, 0);
    EQ_RC(s->ops->upload_get(s->self, NULL, ended.z, &u, NULL), RC_NOTFOUND);
    EQ_RC(s->ops->upload_get(s->self, NULL, pending.z, &u, NULL), RC_OK);
    EQ_INT(u.ended_at, 1700003600); /* when it was due */
    upload_rec_done(&u);
    store_close(s);
}

struct c_ender {
    struct store *s;
    struct id upload;
    bool completes;
    enum rc rc;
};

static void *c_end_upload(void *arg)
{
    struct c_ender *x = arg;
    struct file_rec f = c_file(1700000002, "batch");

    x->rc = x->s->ops->upload_move(
        x->s->self, NULL, x->upload.z, x->completes ? UPLOAD_COMPLETED : UPLOAD_CANCELLED,
        1700000002, x->completes ? &f : NULL, NULL, NULL, NULL);
    return NULL;
}

TEST(of_many_that_end_an_upload_at_once_one_does)
{
    struct store *s = conformance_open(false);

    for (unsigned round = 0; round < 10; round++) {
        struct id id = c_add_upload(s, &c_proj2);
        struct c_ender x[6];
        pthread_t t[6];
        unsigned won = 0;
        bool completed = false;

        for (unsigned i = 0; i < 6; i++) {
            x[i] = (struct c_ender){.s = s, .upload = id, .completes = (i + round) % 2};
            EQ_INT(pthread_create(&t[i], NULL, c_end_upload, &x[i]), 0);
        }
        for (unsigned i = 0; i < 6; i++) {
            EQ_INT(pthread_join(t[i], NULL), 0);
            OK(x[i].rc == RC_OK || x[i].rc == RC_CONFLICT);
            won += x[i].rc == RC_OK;
            completed = completed || (x[i].rc == RC_OK && x[i].completes);
        }
        EQ_INT(won, 1);
        c_check_upload(s, &id, completed ? UPLOAD_COMPLETED : UPLOAD_CANCELLED);
    }
    store_close(s);
}
