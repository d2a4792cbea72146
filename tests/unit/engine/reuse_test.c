/* SPDX-License-Identifier: Apache-2.0 */
/* What a batch takes over from an earlier one, with a real index and log. */
#include "engine/reuse.h"
#include "engine/intake.h"
#include "json/json.h"
#include "tests/lib/mem_store.h"

#include <stdio.h>
#include <sys/stat.h>

struct rig {
    struct mem_store *m;
    struct engine engine; /* only what a job looks at */
    struct live live;
    struct batch from;
};

/* A line for item i whose body says `body`. */
static void put_line(struct buf *b, int i, int body)
{
    (void)buf_fmt(b,
                  "{\"custom_id\":\"r-%d\",\"method\":\"POST\",\"url\":"
                  "\"/v1/chat/completions\",\"body\":{\"n\":%d}}\n",
                  i, body);
}

static void put_answer(struct buf *b, int i, size_t pad)
{
    (void)buf_fmt(b,
                  "{\"id\":\"batch_req_%032d\",\"custom_id\":\"r-%d\",\"response\":"
                  "{\"status_code\":200,\"request_id\":\"x\",\"body\":{\"pad\":\"%*s\"}},"
                  "\"error\":null}\n",
                  i, i, (int)pad, "");
}

static struct id add_file(struct rig *r, struct buf *content)
{
    const struct blobs *blobs = &r->m->blobs_if;
    struct id id = id_make(ID_FILE);
    struct blob_put *put;
    struct blob_sum sum;
    struct err e;

    EQ_RC(blobs->ops->put(blobs->self, &put, &e), RC_OK);
    EQ_RC(blobs->ops->write(put, content->p, content->n, &e), RC_OK);
    EQ_RC(blobs->ops->commit(put, id.z, &sum, &e), RC_OK);
    buf_done(content);
    return id;
}

static enum rc read_input(void *ctx, char *dst, size_t cap, uint64_t off, size_t *ret_n)
{
    struct rig *r = ctx;

    return r->m->blobs_if.ops->pread(r->live.input, dst, cap, off, ret_n,
                                     &r->live.task.err);
}

/* Opens the input and makes its index, as the scan does. */
static void index_input(struct rig *r)
{
    struct intake_rules rules = {.endpoint = ENDPOINT_CHAT};
    struct live *l = &r->live;
    struct intake_result result;
    struct index_writer *w;
    struct err e;

    EQ_RC(r->m->blobs_if.ops->open(r->m, l->rec.input_file.z, &l->input, &e), RC_OK);
    EQ_RC(index_create("spool", &l->id, &w, &e), RC_OK);
    EQ_RC(intake_scan(read_input, r, r->m->blobs_if.ops->size(l->input), &rules, w, NULL,
                      NULL, NULL, &result, &e),
          RC_OK);
    EQ_INT(result.faults, 0);
    EQ_RC(index_finish(w, &e), RC_OK);
    EQ_RC(index_load("spool", &l->id, &l->index, &e), RC_OK);
    l->items = index_count(l->index);
}

static void note_done(void *ctx, const struct reslog_rec *rec,
                      const struct reslog_place *at)
{
    struct live *l = ctx;

    (void)at;
    OK(!(l->done[rec->item / 8] >> (rec->item % 8) & 1)); /* nothing stands there twice */
    l->done[rec->item / 8] |= (uint8_t)(1u << (rec->item % 8));
    tally_record(&l->synced, rec);
    OK(!rec->has_usage);
    EQ_INT(rec->kind, RESULT_OUTPUT);
}

/* The log as a process finds it that starts now. */
static void open_log(struct rig *r)
{
    struct live *l = &r->live;
    uint64_t damaged = 0;
    struct err e;
    enum rc rc;

    reslog_close(l->log);
    mem_free(l->done);
    l->done = mem_new_n(uint8_t, ((size_t)l->items + 7) / 8);
    l->synced = (struct tally){0};
    rc = reslog_open("spool", &l->id, l->items, note_done, l, &l->log, &damaged, &e);
    if (rc == RC_NOTFOUND)
        rc = reslog_create("spool", &l->id, l->items, &l->log, &e);
    EQ_RC(rc, RC_OK);
    EQ_INT(damaged, 0);
}

/* An earlier batch of n lines, the first `answered` of which have an answer, and one of
 * the same lines with `changed` other bodies that continues from it. */
static struct rig *rig_new(int n, int answered, int changed, size_t pad)
{
    struct rig *r = mem_new(struct rig);
    struct buf old, out, new;
    struct err e;

    (void)mkdir("spool", 0700);
    log_level_set(LOG_LVL_ERROR);
    r->m = mem_store_new();
    r->engine.o =
        (struct engine_opts){&r->m->store, .blobs = &r->m->blobs_if, .spool = "spool"};
    buf_init(&old, 1 << 30);
    buf_init(&out, 1 << 30);
    buf_init(&new, 1 << 30);
    for (int i = 0; i < n; i++) {
        put_line(&old, i, i);
        put_line(&new, n - 1 - i, n - 1 - i < changed ? -1 : n - 1 - i); /* backwards */
        if (i < answered)
            put_answer(&out, i, pad);
    }
    r->from = (struct batch){.id = id_make(ID_BATCH),
                             .project = {PROJECT_DEFAULT},
                             .endpoint = ENDPOINT_CHAT,
                             .status = BATCH_CANCELLED,
                             .counts = {(unsigned)n, (unsigned)answered, 0}};
    r->from.input_file = add_file(r, &old);
    if (answered)
        r->from.output_file = add_file(r, &out);
    EQ_RC(r->m->store.ops->batch_add(r->m, &r->from, NULL, NULL, &e), RC_OK);
    r->live.engine = &r->engine;
    r->live.id = id_make(ID_BATCH);
    r->live.rec = (struct batch){.id = r->live.id,
                                 .project = {PROJECT_DEFAULT},
                                 .endpoint = ENDPOINT_CHAT,
                                 .continue_from = r->from.id};
    r->live.rec.input_file = add_file(r, &new);
    index_input(r);
    open_log(r);
    return r;
}

static void rig_free(struct rig *r)
{
    r->m->blobs_if.ops->close(r->live.input);
    reslog_close(r->live.log);
    index_free(r->live.index);
    mem_free(r->live.done);
    mem_store_free(r->m);
    mem_free(r);
}

static enum rc take_over(struct rig *r, char **ret_errors)
{
    struct reuse reuse;
    enum rc rc = reuse_open(&r->live, &reuse, ret_errors);

    if (rc == RC_OK && !*ret_errors)
        rc = reuse_run(&r->live, &reuse);
    reuse_close(&r->live, &reuse);
    reuse_close(&r->live, &reuse);
    return rc;
}

struct check {
    struct rig *r;
    size_t pad;
    int changed, seen;
};

/* Each record is the very line of the earlier output. */
static void check_record(void *ctx, const struct reslog_rec *rec,
                         const struct reslog_place *at)
{
    struct check *c = ctx;
    int line = (int)(c->r->live.items - 1 - rec->item);
    struct buf want;

    (void)at;
    OK(line >= c->changed);
    buf_init(&want, 1 << 20);
    put_answer(&want, line, c->pad);
    EQ_STR(rec->payload, buf_peek(&want));
    buf_done(&want);
    c->seen++;
}

static void check_log(struct rig *r, int changed, int want, size_t pad)
{
    struct check c = {.r = r, .pad = pad, .changed = changed};
    uint64_t damaged = 0;
    struct err e;

    open_log(r); /* what is on the disk, not what is in memory */
    EQ_INT(r->live.synced.completed, want);
    EQ_RC(reslog_scan(r->live.log, check_record, &c, &damaged, &e), RC_OK);
    EQ_INT(c.seen, want);
}

TEST(answers_are_taken_over_byte_for_byte)
{
    struct rig *r = rig_new(100, 60, 10, 5);
    char *errors = NULL;

    EQ_RC(take_over(r, &errors), RC_OK);
    OK(!errors);
    EQ_INT(r->live.synced.completed, 50);
    EQ_INT(r->live.synced.failed, 0);
    OK(!r->live.synced.has_usage);
    for (unsigned i = 0; i < 100; i++) {
        unsigned line = 99 - i;

        EQ_INT(r->live.done[i / 8] >> (i % 8) & 1, line >= 10 && line < 60);
    }
    EQ_INT(reslog_pending(r->live.log), 0); /* all of it is synced */
    check_log(r, 10, 50, 5);
    rig_free(r);
}

TEST(answers_of_many_megabytes_go_in_pieces)
{
    struct rig *r = rig_new(3000, 3000, 0, 7000);
    char *errors = NULL;

    EQ_RC(take_over(r, &errors), RC_OK);
    check_log(r, 0, 3000, 7000);
    rig_free(r);
}

/* A process that died in between had some of them on disk. */
TEST(what_the_log_has_is_not_taken_over_again)
{
    struct rig *r = rig_new(200, 200, 0, 3);
    struct reslog_block *block;
    char *errors = NULL;
    struct err e;
    struct buf text;

    for (unsigned item = 0; item < 200; item += 3) {
        struct reslog_rec rec = {.item = item, .kind = RESULT_OUTPUT};

        buf_init(&text, 4096);
        put_answer(&text, 199 - (int)item, 3);
        rec.payload = buf_peek(&text);
        EQ_RC(reslog_append(r->live.log, &rec), RC_OK);
        buf_done(&text);
    }
    block = reslog_cut(r->live.log);
    EQ_RC(reslog_commit(r->live.log, block, &e), RC_OK);
    open_log(r);
    EQ_INT(r->live.synced.completed, 67);
    EQ_RC(take_over(r, &errors), RC_OK);
    EQ_INT(r->live.synced.completed, 200);
    check_log(r, 0, 200, 3); /* it fails when one stands there twice */
    EQ_RC(take_over(r, &errors), RC_OK);
    check_log(r, 0, 200, 3);
    rig_free(r);
}

TEST(a_batch_without_answers_gives_none)
{
    struct rig *r = rig_new(10, 0, 0, 0);
    char *errors = NULL;

    EQ_RC(take_over(r, &errors), RC_OK);
    OK(!errors);
    EQ_INT(r->live.synced.completed, 0);
    r->live.rec.continue_from = (struct id){""};
    EQ_RC(take_over(r, &errors), RC_OK);
    OK(!errors);
    rig_free(r);
}

TEST(what_is_gone_fails_the_batch_by_name)
{
    static const char *const whats[] = {"the output file", "the input file", "the batch",
                                        "another project's batch"};

    for (int i = 0; i < 4; i++) {
        struct rig *r = rig_new(10, 5, 0, 0);
        char *errors = NULL;

        t_row(whats[i]);
        if (i == 0)
            EQ_RC(r->m->blobs_if.ops->remove(r->m, r->from.output_file.z, NULL), RC_OK);
        else if (i == 1)
            EQ_RC(r->m->blobs_if.ops->remove(r->m, r->from.input_file.z, NULL), RC_OK);
        else if (i == 2)
            r->live.rec.continue_from = (struct id){"batch_none"};
        else
            r->m->batches[0].project = (struct id){"other"};
        EQ_RC(take_over(r, &errors), RC_OK);
        OK(errors && strstr(errors, "\"code\":\"invalid_request\""));
        OK(strstr(errors, "\"param\":\"continue_from\""));
        OK(strstr(errors, "Cannot continue from batch '"));
        EQ_INT(r->live.synced.completed, 0);
        mem_free(errors);
        rig_free(r);
    }
}

TEST(a_stop_ends_it_and_nothing_is_lost)
{
    struct rig *r = rig_new(100, 100, 0, 0);
    char *errors = NULL;

    atomic_store(&r->engine.stopping, true);
    EQ_RC(take_over(r, &errors), RC_CANCELLED);
    atomic_store(&r->engine.stopping, false);
    open_log(r);
    EQ_RC(take_over(r, &errors), RC_OK);
    check_log(r, 0, 100, 0);
    rig_free(r);
}

TEST(bytes_of_the_earlier_files_that_are_damaged_only_cost_a_run)
{
    struct rig *r = rig_new(50, 50, 0, 0);
    char *errors = NULL;

    for (size_t i = 0; i < r->m->n_blobs; i++)
        if (strcmp(r->m->blobs[i].id.z, r->live.rec.input_file.z) != 0)
            for (size_t at = 100; at < r->m->blobs[i].n; at += 1000)
                r->m->blobs[i].p[at] = '\xff';
    EQ_RC(take_over(r, &errors), RC_OK);
    OK(r->live.synced.completed > 10 && r->live.synced.completed < 50);
    rig_free(r);
}
