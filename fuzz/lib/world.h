/* SPDX-License-Identifier: Apache-2.0 */
/*
 * world: what the API finds when a fuzz target asks it: a store in memory with files,
 * batches in several states and an upload in parts, and a running batch's results log.
 * Everything in the project "default" holds WORLD_SECRET, which nobody else may read.
 */
#pragma once

#include "tests/unit/api/rig.h"

#include "store/reslog.h"

#define WORLD_SECRET "quetzalcoatl"
#define WORLD_LINES  3u
#define WORLD_AGE    100 /* seconds since it was made */

static const struct id world_live = {"batch_live"};
static struct mem_store *world;
static struct engine world_engine;
static char world_dir[64];
static struct engine_log world_log; /* of batch_live */

static const char world_input[] =
    "{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/v1/chat/completions\","
    "\"body\":{\"model\":\"tiny\",\"messages\":[]}}\n"
    "{\"custom_id\":\"b\",\"method\":\"POST\",\"url\":\"/v1/chat/completions\","
    "\"body\":{\"model\":\"tiny\",\"messages\":[{\"content\":\"" WORLD_SECRET "\"}]}}\n"
    "{\"custom_id\":\"c\",\"method\":\"POST\",\"url\":\"/v1/chat/completions\","
    "\"body\":{\"model\":\"none\",\"messages\":[]}}\n";

/* --- The log, once ------------------------------------------------------------------- */

/* Result line i of a batch: the second one failed. */
static void world_line(const struct id *batch, uint32_t i, struct buf *out)
{
    static const char ids[] = "abc";
    char hex[33];

    id_request(batch, i, hex);
    (void)buf_fmt(out,
                  "{\"id\":\"batch_req_%s\",\"custom_id\":\"%c\",\"response\":"
                  "{\"status_code\":%d,\"request_id\":\"r\",\"body\":"
                  "{\"text\":\"" WORLD_SECRET "\"}},\"error\":null}\n",
                  hex, ids[i], i == 1 ? 400 : 200);
}

static void world_make_log(void)
{
    struct reslog *l = NULL;
    struct err e;

    CHECK(reslog_create(world_dir, &world_live, WORLD_LINES, &l, &e) == RC_OK);
    for (uint32_t i = 0; i < 2; i++) {
        struct reslog_rec rec = {.item = 1 - i,
                                 .kind = i == 0 ? RESULT_ERROR : RESULT_OUTPUT};
        struct reslog_block *block;
        struct buf line;

        buf_init(&line, 4096);
        world_line(&world_live, rec.item, &line);
        rec.payload = buf_peek(&line);
        CHECK(reslog_append(l, &rec) == RC_OK);
        buf_done(&line);
        block = reslog_cut(l);
        CHECK(block && reslog_commit(l, block, &e) == RC_OK);
    }
    world_log = (struct engine_log){world_dir, WORLD_LINES, reslog_mark(l)};
    IGNORE(reslog_close(l)); /* always NULL */
}

static void world_init(void)
{
    snprintf(world_dir, sizeof world_dir, "%s/fuzz-world-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    CHECK(mkdtemp(world_dir));
    log_level_set(LOG_LVL_ERROR + 1);
    world = mem_store_new();
    world_engine.store = &world->store;
    world_make_log();
}

/* --- The rows, anew for each input --------------------------------------------------- */

static void world_file(const char *id, const char *purpose, const char *name,
                       struct str bytes)
{
    struct file_rec f = {.project = {PROJECT_DEFAULT},
                         .bytes = bytes.n,
                         .created_at = QUIET_START - WORLD_AGE};
    struct mem_blob *b = &world->blobs[world->n_blobs++];

    CHECK(id_from(str_of(id), &f.id) == RC_OK);
    snprintf(f.purpose, sizeof f.purpose, "%s", purpose);
    f.filename = mem_dup(name, strlen(name));
    world->files[world->n_files++] = (struct mem_file){f, false};
    *b = (struct mem_blob){f.id, mem_dup(bytes.p, bytes.n), bytes.n};
}

static void world_results(const char *id, const struct id *batch, bool errors)
{
    struct buf b;

    buf_init(&b, 8192);
    for (uint32_t i = 0; i < WORLD_LINES; i++)
        if ((i == 1) == errors)
            world_line(batch, i, &b);
    world_file(id, "batch_output", "results-" WORLD_SECRET ".jsonl", buf_peek(&b));
    buf_done(&b);
}

static struct batch *world_batch(const char *id, enum batch_status status)
{
    static const char meta[] = "{\"who\":\"" WORLD_SECRET "\"}";
    struct batch *b = &world->batches[world->n_batches++];

    *b = (struct batch){.project = {PROJECT_DEFAULT},
                        .input_file = {"file-in"},
                        .status = status,
                        .window = "24h",
                        .created_at = QUIET_START - WORLD_AGE,
                        .expires_at = QUIET_START - WORLD_AGE + 86400,
                        .counts = {.total = WORLD_LINES}};
    CHECK(id_from(str_of(id), &b->id) == RC_OK);
    b->metadata = mem_dup(meta, sizeof meta - 1);
    return b;
}

static void world_upload(void)
{
    static const char *const parts[] = {"part_1", "part_2"};
    struct upload_rec u = {.id = {"upload_a"},
                           .project = {PROJECT_DEFAULT},
                           .purpose = "batch",
                           .bytes = sizeof world_input - 1,
                           .created_at = QUIET_START - WORLD_AGE,
                           .expires_at = QUIET_START - WORLD_AGE + 3600};
    size_t half = u.bytes / 2, at = 0;

    u.filename = mem_dup(WORLD_SECRET ".jsonl", sizeof WORLD_SECRET ".jsonl" - 1);
    world->uploads[world->n_uploads++] = u;
    for (size_t i = 0; i < COUNTOF(parts); i++) {
        struct mem_part *p = &world->parts[world->n_parts++];
        struct mem_blob *b = &world->blobs[world->n_blobs++];
        size_t n = i ? (size_t)u.bytes - half : half;

        *p = (struct mem_part){.project = u.project, .upload = u.id};
        CHECK(id_from(str_of(parts[i]), &p->rec.id) == RC_OK);
        p->rec.bytes = n;
        *b = (struct mem_blob){p->rec.id, mem_dup(world_input + at, n), n};
        at += n;
    }
}

static void world_outbox(const char *destination, bool delivered)
{
    struct outbox_rec *o = &world->outbox[world->n_outbox++];

    *o = (struct outbox_rec){.seq = ++world->last_seq,
                             .event = {"evt_1"},
                             .project = {PROJECT_DEFAULT},
                             .batch = {"batch_done"},
                             .type = "batch.completed",
                             .created_at = QUIET_START - 5,
                             .next_at = QUIET_START + 5,
                             .tries = 1,
                             .delivered = delivered,
                             .settled_at = delivered ? QUIET_START - 4 : 0,
                             .status = delivered ? 200 : 0};
    o->destination = mem_dup(destination, strlen(destination));
    if (!delivered)
        o->error = mem_dup("no \xff connection", 15);
}

static inline void world_clear(void)
{
    struct mem_store *m = world;

    for (size_t i = 0; i < m->n_files; i++)
        file_rec_done(&m->files[i].rec);
    for (size_t i = 0; i < m->n_uploads; i++)
        upload_rec_done(&m->uploads[i]);
    for (size_t i = 0; i < m->n_batches; i++)
        batch_done(&m->batches[i]);
    for (size_t i = 0; i < m->n_outbox; i++)
        outbox_rec_done(&m->outbox[i]);
    for (size_t i = 0; i < m->n_blobs; i++)
        mem_free(m->blobs[i].p);
    m->n_files = m->n_uploads = m->n_parts = m->n_batches = m->n_outbox = m->n_blobs = 0;
    m->floor = m->last_seq = 0;
    m->fail_file_add = m->fail_file_get = m->fail_file_known = m->fail_batch_add = RC_OK;
    m->fail_upload_add = m->fail_part_add = m->fail_upload_move = RC_OK;
    m->fail_batch_edit = m->fail_put = m->fail_write = m->fail_commit = RC_OK;
    m->no_fd = false;
}

/* The batch has ended, with its files as they are. */
static void world_end(struct batch *b)
{
    static const struct id output = {"file-out"}, errors = {"file-err"},
                           live_output = {"file-lout"}, live_errors = {"file-lerr"};
    bool live = strcmp(b->id.z, world_live.z) == 0;

    b->status = BATCH_COMPLETED;
    b->completed_at = QUIET_START - 5;
    b->counts = (struct batch_counts){WORLD_LINES, 2, 1};
    b->output_file = live ? live_output : output;
    b->error_file = live ? live_errors : errors;
}

static void world_fill(void)
{
    static const struct id ended = {"batch_done"};
    struct batch *b;

    world_file("file-in", "batch", WORLD_SECRET ".jsonl",
               (struct str){world_input, sizeof world_input - 1});
    world_file("file-odd", "user_data", "\xe2\x82\xac \"" WORLD_SECRET "\"; a/b\\c%.txt",
               STR(WORLD_SECRET "\n"));
    world_results("file-out", &ended, false);
    world_results("file-err", &ended, true);
    world_results("file-lout", &world_live, false);
    world_results("file-lerr", &world_live, true);
    world_end(world_batch("batch_done", BATCH_VALIDATING));
    b = world_batch("batch_failed", BATCH_FAILED);
    b->counts.total = 0;
    b->errors = mem_dup("{\"object\":\"list\",\"data\":[]}", 27);
    world_batch("batch_new", BATCH_VALIDATING);
    b = world_batch(world_live.z, BATCH_IN_PROGRESS);
    b->counts = (struct batch_counts){WORLD_LINES, 1, 1};
    world_upload();
    world_outbox("team", true);
    world_outbox("url:https://hooks.example.com/" WORLD_SECRET, false);
    world_engine = (struct engine){.store = &world->store, .log = world_log};
}

/* --- What clients can see of it ------------------------------------------------------ */

static void world_mix(uint64_t *sum, const void *p, size_t n)
{
    const uint8_t *at = p;

    *sum = (*sum ^ n) * 0x100000001b3u;
    for (size_t i = 0; i < n; i++)
        *sum = (*sum ^ at[i]) * 0x100000001b3u;
}

static void world_mix_z(uint64_t *sum, const char *z)
{
    world_mix(sum, z ? z : "\xff", z ? strlen(z) : 1);
}

#define WORLD_MIX(sum, field) world_mix((sum), &(field), sizeof(field))

static void world_mix_batch(uint64_t *sum, const struct batch *b)
{
    world_mix_z(sum, b->id.z);
    world_mix_z(sum, b->input_file.z);
    world_mix_z(sum, b->output_file.z);
    world_mix_z(sum, b->project.z);
    world_mix_z(sum, b->window);
    world_mix_z(sum, b->metadata);
    world_mix_z(sum, b->callback_url);
    world_mix_z(sum, b->idempotency_key);
    world_mix_z(sum, b->continue_from.z);
    WORLD_MIX(sum, b->status);
    WORLD_MIX(sum, b->counts);
    WORLD_MIX(sum, b->expires_at);
    WORLD_MIX(sum, b->cancelling_at);
    WORLD_MIX(sum, b->priority);
    WORLD_MIX(sum, b->paused);
    WORLD_MIX(sum, b->hold);
}

/* Of everything that an answer may change; of the engine's work as well. */
static inline uint64_t world_sum(void)
{
    uint64_t sum = 0xcbf29ce484222325u;

    for (size_t i = 0; i < world->n_files; i++) {
        const struct mem_file *f = &world->files[i];

        if (f->deleted)
            continue;
        world_mix_z(&sum, f->rec.id.z);
        world_mix_z(&sum, f->rec.project.z);
        world_mix_z(&sum, f->rec.filename);
        WORLD_MIX(&sum, f->rec.bytes);
        WORLD_MIX(&sum, f->rec.expires_at);
    }
    for (size_t i = 0; i < world->n_uploads; i++) {
        world_mix_z(&sum, world->uploads[i].id.z);
        world_mix_z(&sum, world->uploads[i].file.z);
        WORLD_MIX(&sum, world->uploads[i].status);
    }
    for (size_t i = 0; i < world->n_parts; i++) {
        world_mix_z(&sum, world->parts[i].rec.id.z);
        WORLD_MIX(&sum, world->parts[i].done);
    }
    for (size_t i = 0; i < world->n_batches; i++)
        world_mix_batch(&sum, &world->batches[i]);
    WORLD_MIX(&sum, world->n_outbox);
    WORLD_MIX(&sum, world_engine.submits);
    WORLD_MIX(&sum, world_engine.cancels);
    WORLD_MIX(&sum, world_engine.edits);
    return sum;
}

static const struct mem_blob *world_blob(const struct id *id)
{
    for (size_t i = 0; i < world->n_blobs; i++)
        if (strcmp(world->blobs[i].id.z, id->z) == 0)
            return &world->blobs[i];
    return NULL;
}

static bool world_has_row(const struct id *id)
{
    for (size_t i = 0; i < world->n_files; i++)
        if (strcmp(world->files[i].rec.id.z, id->z) == 0)
            return true;
    for (size_t i = 0; i < world->n_parts; i++)
        if (strcmp(world->parts[i].rec.id.z, id->z) == 0)
            return true;
    return false;
}

/* Every row that can be seen has its bytes, and all bytes are somebody's; unless the disk
 * died: then nobody knows, and they are collected later. */
static inline void world_check(bool died)
{
    for (size_t i = 0; i < world->n_files; i++) {
        const struct mem_file *f = &world->files[i];
        const struct mem_blob *b = world_blob(&f->rec.id);

        CHECK(f->deleted || (b && b->n == f->rec.bytes));
    }
    for (size_t i = 0; i < world->n_parts; i++) {
        const struct mem_blob *b = world_blob(&world->parts[i].rec.id);

        CHECK(world->parts[i].done || (b && b->n == world->parts[i].rec.bytes));
    }
    for (size_t i = 0; i < world->n_blobs && !died; i++)
        CHECK(world_has_row(&world->blobs[i].id));
    CHECK(atomic_load(&world->puts) == 0); /* nothing half written is left */
}
