/* SPDX-License-Identifier: Apache-2.0 */
/* A data directory opened, left, swept and kept in order; on a real disk and ledger. */
#include "app/exit.h"
#include "app/janitor.h"
#include "app/node.h"
#include "base/log.h"
#include "base/mem.h"
#include "tests/lib/t.h"

#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct err e;
static struct config config;
static struct node node;

static void open_node(void)
{
    static const struct config_sources none;

    log_level_set(LOG_LVL_ERROR);
    if (config_load(&none, &config, &e) != RC_OK)
        FAIL("%s", e.text);
    node = (struct node){.dir = "data", .config = &config};
    if (node_open(&node, &e) != RC_OK)
        FAIL("%s", e.text);
}

static void close_node(void)
{
    node_close(&node);
    config_done(&config);
}

static void put_blob(const char *id)
{
    const struct blobs *b = node.blobs;
    struct blob_put *p;
    struct blob_sum sum;

    EQ_RC(b->ops->put(b->self, &p, &e), RC_OK);
    EQ_RC(b->ops->write(p, "bytes", 5, &e), RC_OK);
    EQ_RC(b->ops->commit(p, id, &sum, &e), RC_OK);
}

static void put_row(const char *id, int64_t expires)
{
    struct file_rec f = {.purpose = "batch", .created_at = 100, .expires_at = expires};

    EQ_RC(id_from(str_of(id), &f.id), RC_OK);
    f.filename = mem_dup("x.jsonl", 7);
    EQ_RC(node.store->ops->file_add(node.store->self, &f, NULL, &e), RC_OK);
    file_rec_done(&f);
}

/* An upload that was made at 100 and ends at `expires`, with one part. */
static void put_part(const char *upload, const char *part, int64_t expires)
{
    const struct store_ops *ops = node.store->ops;
    struct upload_rec u = {.project = {PROJECT_DEFAULT},
                           .purpose = "evals",
                           .bytes = 5,
                           .created_at = 100,
                           .expires_at = expires};
    struct part_rec p = {.bytes = 5, .created_at = 100};

    EQ_RC(id_from(str_of(upload), &u.id), RC_OK);
    EQ_RC(id_from(str_of(part), &p.id), RC_OK);
    u.filename = mem_dup("x", 1);
    EQ_RC(ops->upload_add(node.store->self, &u, &e), RC_OK);
    upload_rec_done(&u);
    put_blob(part);
    EQ_RC(ops->part_add(node.store->self, NULL, upload, &p, NULL, &e), RC_OK);
}

static bool has_blob(const char *id)
{
    struct blob *b = NULL;
    enum rc rc = node.blobs->ops->open(node.blobs->self, id, &b, NULL);

    node.blobs->ops->close(b);
    OK(rc == RC_OK || rc == RC_NOTFOUND);
    return rc == RC_OK;
}

static bool has_row(const char *id)
{
    bool known = false;

    EQ_RC(node.store->ops->file_known(node.store->self, id, &known, &e), RC_OK);
    return known;
}

/* As a crash would leave the directory after `work`. */
static void crash_after(void (*work)(void))
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        open_node();
        work();
        _exit(7);
    }
    OK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

TEST(a_directory_that_was_left_in_order_is_known_as_such)
{
    open_node();
    OK(datadir_was_clean(node.datadir));
    close_node();
    node_close(&node);
    open_node();
    OK(datadir_was_clean(node.datadir));
    close_node();
}

static void nothing(void)
{
}

TEST(a_directory_that_was_not_is_known_too)
{
    crash_after(nothing);
    open_node();
    OK(!datadir_was_clean(node.datadir));
    close_node();
}

static void leave_strays(void)
{
    FILE *f = fopen("mine.jsonl", "w");

    OK(f && fputs("mine", f) >= 0 && fclose(f) == 0);
    put_blob("file-kept");
    put_row("file-kept", 0);
    put_blob("file-stray");
    put_part("upload_1", "part_kept", INT64_MAX);
    put_blob("part_stray");
    put_blob("file-gone"); /* deleted for clients: a row all the same */
    put_row("file-gone", 0);
    EQ_RC(node.store->ops->file_delete(node.store->self, NULL, "file-gone", 5, &e),
          RC_OK);
    EQ_RC(node.blobs->ops->adopt(node.blobs->self, "mine.jsonl", "file-mine", &e), RC_OK);
}

TEST(after_a_crash_bytes_without_a_row_are_swept_and_nothing_else)
{
    crash_after(leave_strays);
    open_node();
    OK(has_blob("file-kept"));
    OK(!has_blob("file-stray"));
    OK(has_blob("part_kept"));
    OK(!has_blob("part_stray"));
    OK(has_blob("file-gone"));
    OK(!has_blob("file-mine"));
    OK(access("mine.jsonl", R_OK) == 0);
    close_node();
}

TEST(reaping_takes_deleted_and_expired_files_and_leaves_the_rest)
{
    size_t removed;

    open_node();
    put_blob("file-old");
    put_row("file-old", 150);
    put_blob("file-new");
    put_row("file-new", 250);
    put_blob("file-forever");
    put_row("file-forever", 0);
    put_blob("file-deleted");
    put_row("file-deleted", 0);
    EQ_RC(node.store->ops->file_delete(node.store->self, NULL, "file-deleted", 5, &e),
          RC_OK);
    EQ_RC(janitor_reap(node.store, node.blobs, 200, &removed, &e), RC_OK);
    EQ_INT(removed, 2);
    OK(!has_blob("file-old") && !has_row("file-old"));
    OK(!has_blob("file-deleted") && !has_row("file-deleted"));
    OK(has_blob("file-new") && has_row("file-new"));
    OK(has_blob("file-forever") && has_row("file-forever"));
    EQ_RC(janitor_reap(node.store, node.blobs, 200, &removed, &e), RC_OK);
    EQ_INT(removed, 0);
    close_node();
}

TEST(reaping_takes_the_parts_of_uploads_that_ended_or_whose_time_is_over)
{
    const struct store_ops *ops;
    size_t removed;

    open_node();
    ops = node.store->ops;
    put_part("upload_old", "part_old", 150);
    put_part("upload_new", "part_new", 250);
    put_part("upload_cancelled", "part_cancelled", 250);
    EQ_RC(ops->upload_move(node.store->self, NULL, "upload_cancelled", UPLOAD_CANCELLED,
                           120, NULL, NULL, NULL, &e),
          RC_OK);
    EQ_RC(janitor_reap(node.store, node.blobs, 149, &removed, &e), RC_OK);
    EQ_INT(removed, 1);
    OK(!has_blob("part_cancelled") && !has_row("part_cancelled"));
    OK(has_blob("part_old") && has_row("part_old"));
    EQ_RC(janitor_reap(node.store, node.blobs, 150, &removed, &e), RC_OK);
    EQ_INT(removed, 1);
    OK(!has_blob("part_old") && !has_row("part_old"));
    OK(has_blob("part_new") && has_row("part_new"));
    close_node();
}

/* A batch that is refused at once, and whom that is told. */
static void put_event(const char *id)
{
    static const char *const names[] = {"app"};
    struct batch b = {.endpoint = ENDPOINT_CHAT, .window = "24h", .created_at = 100};
    struct batch_change change = {.notify = names, .n_notify = 1};

    EQ_RC(id_from(str_of(id), &b.id), RC_OK);
    EQ_RC(id_from(STR("file-x"), &b.input_file), RC_OK);
    EQ_RC(id_from(STR("default"), &b.project), RC_OK);
    b.expires_at = 100 + 86400;
    EQ_RC(node.store->ops->batch_add(node.store->self, &b, NULL, NULL, &e), RC_OK);
    EQ_RC(node.store->ops->batch_move(node.store->self, NULL, id, BATCH_EV_INVALID, 100,
                                      &change, NULL, &e),
          RC_OK);
}

static size_t events_of(const char *id, int64_t *ret_seq)
{
    struct outbox_rec *all = NULL;
    size_t n = 0;

    EQ_RC(node.store->ops->outbox_list(node.store->self, NULL, id, &all, &n, &e), RC_OK);
    *ret_seq = n ? all[0].seq : 0;
    outbox_free(all, n);
    return n;
}

TEST(webhooks_are_forgotten_a_month_after_they_were_settled_and_never_before)
{
    const int64_t month = (int64_t)OUTBOX_KEPT_DAYS * 86400;
    struct outbox_result good = {.now = 200, .delivered = true};
    int64_t seq;
    size_t removed;

    open_node();
    put_event("batch_told");
    put_event("batch_not_told");
    EQ_INT(events_of("batch_told", &seq), 1);
    EQ_RC(node.store->ops->outbox_settle(node.store->self, seq, &good, &e), RC_OK);
    EQ_RC(janitor_reap(node.store, node.blobs, 200 + month, &removed, &e), RC_OK);
    EQ_INT(events_of("batch_told", &seq), 1);
    EQ_RC(janitor_reap(node.store, node.blobs, 201 + month, &removed, &e), RC_OK);
    EQ_INT(events_of("batch_told", &seq), 0);
    EQ_INT(events_of("batch_not_told", &seq), 1);
    close_node();
}

TEST(reaping_goes_on_past_one_handful)
{
    size_t removed;

    open_node();
    for (int i = 0; i < 150; i++) {
        char id[32];

        snprintf(id, sizeof id, "file-%03d", i);
        put_row(id, 150);
    }
    EQ_RC(janitor_reap(node.store, node.blobs, 200, &removed, &e), RC_OK);
    EQ_INT(removed, 150);
    OK(!has_row("file-149"));
    close_node();
}

TEST(the_janitor_works_by_itself_and_stops_at_once)
{
    struct janitor *j;
    struct janitor_opts o;
    usec_t start;

    open_node();
    o = (struct janitor_opts){.store = node.store,
                              .blobs = node.blobs,
                              .datadir = node.datadir,
                              .disk_warn = UINT64_MAX,
                              .every = 20 * USEC_PER_MS};
    EQ_RC(janitor_new(&o, &j, &e), RC_OK);
    poll(NULL, 0, 60); /* some rounds pass */
    put_blob("file-old");
    put_row("file-old", 150);
    while (has_row("file-old"))
        poll(NULL, 0, 5);
    OK(!has_blob("file-old"));
    janitor_set_disk_warn(j, 0);
    janitor_free(j);
    o.every = 0; /* a minute */
    EQ_RC(janitor_new(&o, &j, &e), RC_OK);
    start = clock_mono();
    janitor_free(j);
    OK(clock_mono() - start < 5 * USEC_PER_SEC);
    close_node();
}

static void expect_failure(const char *dir, enum rc rc, int code)
{
    struct node other = {.dir = dir, .config = &config};

    EQ_RC(node_open(&other, &e), rc);
    EQ_INT(other.exit_code, code);
    node_close(&other);
}

TEST(a_directory_that_cannot_be_used_says_why_by_its_exit_code)
{
    FILE *f;

    open_node();
    expect_failure("data", RC_CONFLICT, EXIT_IN_USE);
    OK(mkdir("foreign", 0700) == 0);
    f = fopen("foreign/letter.txt", "w");
    OK(f && fclose(f) == 0);
    expect_failure("foreign", RC_CORRUPT, EXIT_DATA_DIR);
    OK(access("foreign/letter.txt", F_OK) == 0 && access("foreign/LOCK", F_OK) != 0);
    expect_failure("no/such", RC_NOTFOUND, EXIT_DATA_DIR);
    expect_failure("foreign/letter.txt/below", RC_INVALID, EXIT_DATA_DIR);
    close_node();
}

TEST(the_engine_starts_drains_and_leaves_a_clean_directory)
{
    open_node();
    EQ_RC(node_start(&node, &e), RC_OK);
    OK(engine_idle(node.engine) && engine_recovered(node.engine));
    OK(!node_dead(&node));
    node_drain(&node, 0);
    close_node();
    open_node();
    OK(datadir_was_clean(node.datadir));
    close_node();
}
