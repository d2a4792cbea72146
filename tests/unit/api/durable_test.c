/* SPDX-License-Identifier: Apache-2.0 */
/* The API over the real ledger and the real directory of blobs. */
#include "base/fsio.h"
#include "tests/unit/api/rig.h"

#include <ftw.h>

struct disk {
    struct store *store;
    struct blobs *blobs;
    struct rig *r;
};

static void dead(void *ctx, const char *why)
{
    (void)ctx;
    FAIL("the store died: %s", why);
}

static struct disk start(void)
{
    char path[FS_PATH_CAP];
    struct store_sqlite_opts o = {.path = path, .on_dead = dead};
    struct disk d;
    struct err e;

    EQ_RC(fs_join(path, t_dir(), "ledger.db", &e), RC_OK);
    if (store_sqlite_open(&o, &d.store, &e) != RC_OK ||
        blob_dir_open(t_dir(), &d.blobs, &e) != RC_OK)
        FAIL("%s", e.text);
    d.r = rig_over(d.store, d.blobs, NULL);
    return d;
}

static void stop(struct disk *d)
{
    rig_free(d->r);
    store_close(d->store);
    blobs_close(d->blobs);
}

static int files_seen;

static int count_files(const char *path, const struct stat *st, int type, struct FTW *f)
{
    (void)st, (void)f;
    if (type == FTW_F && !strstr(path, "ledger.db"))
        files_seen++;
    return 0;
}

/* Files below the data directory but for the ledger's own. */
static int files_on_disk(void)
{
    files_seen = 0;
    nftw(t_dir(), count_files, 16, FTW_PHYS);
    return files_seen;
}

TEST(what_was_answered_is_there_after_a_restart)
{
    struct disk d = start();
    struct reply re =
        rig_upload(d.r, "batch", "caf\xc3\xa9.jsonl", STR("{\"custom_id\":\"1\"}\n"));
    struct id file = rig_id(&re), batch, gone;
    char body[512], first[4096];

    EQ_INT(re.status, 200);
    snprintf(body, sizeof body,
             "{\"input_file_id\":\"%s\",\"endpoint\":\"/v1/embeddings\","
             "\"completion_window\":\"90m\",\"metadata\":{ \"k\" : \"\\u00e9\" }}",
             file.z);
    re = rig_post(d.r, "/v1/batches", body);
    EQ_INT(re.status, 200);
    batch = rig_id(&re);
    snprintf(first, sizeof first, "%.*s", (int)re.body.n, re.body.p ? re.body.p : "");
    re = rig_upload(d.r, "vision", "x.png", STR("png"));
    gone = rig_id(&re);
    EQ_INT(rig_ask(d.r, "DELETE", rig_path("/v1/files/", &gone, ""), "", (struct str){0})
               .status,
           200);
    stop(&d);

    d = start();
    re = rig_get(d.r, rig_path("/v1/batches/", &batch, ""));
    EQ_STR(re.body, str_of(first));
    re = rig_get(d.r, rig_path("/v1/files/", &file, ""));
    EQ_JSON(re, "filename", "\"caf\xc3\xa9.jsonl\"");
    EQ_JSON(re, "bytes", "18");
    re = rig_get(d.r, rig_path("/v1/files/", &file, "/content"));
    EQ_INT(re.status, 200);
    EQ_STR(re.body, STR("{\"custom_id\":\"1\"}\n"));
    re = rig_ask(d.r, "GET", rig_path("/v1/files/", &file, "/content"),
                 "Range: bytes=2-10\r\n", (struct str){0});
    EQ_INT(re.status, 206);
    EQ_STR(re.body, STR("custom_id"));
    EQ_INT(rig_get(d.r, rig_path("/v1/files/", &gone, "")).status, 404);
    stop(&d);
}

/* The engine, not the request, tells what is wrong with the file; the ledger takes both. */
TEST(batches_of_unknown_and_deleted_files_are_made)
{
    struct disk d = start();
    struct reply re = rig_upload(d.r, "batch", "a.jsonl", STR("{}\n"));
    struct id file = rig_id(&re), batch;
    struct batch b = {0};
    char body[256];

    rig_ask(d.r, "DELETE", rig_path("/v1/files/", &file, ""), "", (struct str){0});
    for (int i = 0; i < 2; i++) {
        snprintf(body, sizeof body,
                 "{\"input_file_id\":\"%s\",\"endpoint\":\"/v1/responses\","
                 "\"completion_window\":\"24h\",\"output_expires_after\":{"
                 "\"anchor\":\"created_at\",\"seconds\":3600}}",
                 i ? "file-none" : file.z);
        re = rig_post(d.r, "/v1/batches", body);
        EQ_INT(re.status, 200);
        EQ_JSON(re, "status", "\"validating\"");
        batch = rig_id(&re);
        EQ_RC(d.store->ops->batch_get(d.store->self, NULL, batch.z, &b, NULL), RC_OK);
        OK(b.input_missing);
        EQ_INT(b.output_expires_after, 3600);
        batch_done(&b);
    }
    re = rig_get(d.r, "/v1/batches");
    OK(json_str_is(rig_json(re.body, "first_id"), id_str(&batch)));
    stop(&d);
}

TEST(refused_uploads_leave_no_file_on_the_disk)
{
    struct disk d = start();
    int before = files_on_disk();

    EQ_INT(rig_upload(d.r, "batch", "a.txt", STR("{}\n")).status, 400);
    EQ_INT(rig_upload(d.r, "nonsense", "a.jsonl", STR("{}\n")).status, 400);
    EQ_INT(rig_upload(d.r, "batch", "a.jsonl", (struct str){"", 0}).status, 400);
    EQ_INT(
        rig_ask(d.r, "POST", "/v1/files", FORM_TYPE, STR("--xYzZY\r\nnonsense")).status,
        400);
    EQ_INT(files_on_disk(), before);
    EQ_INT(rig_upload(d.r, "batch", "a.jsonl", STR("{}\n")).status, 200);
    EQ_INT(files_on_disk(), before + 1);
    stop(&d);
}

/* Names are data: nothing a client calls its file decides where bytes go. */
TEST(hostile_names_and_ids_touch_nothing_outside)
{
    static const char *const names[] = {
        "../../../../tmp/batchd-owned.jsonl",
        "/etc/cron.d/x.jsonl",
        "..\\\\..\\\\x.jsonl",
        "ledger.db;.jsonl",
        "%2e%2e%2fx.jsonl",
        "a'b\x01.jsonl",
    };
    static const char *const ids[] = {
        "..%2F..%2Fledger.db",
        "%2e%2e",
        "ledger.db",
        "file-1'%20OR%20'1'='1",
        "file-%25",
        "tmp",
        "..;",
        "file-*",
    };
    struct disk d = start();

    for (size_t i = 0; i < COUNTOF(names); i++) {
        struct reply re = rig_upload(d.r, "batch", names[i], STR("{}\n"));

        t_row(names[i]);
        OK(re.status == 200 || re.status == 400);
        OK(access("/tmp/batchd-owned.jsonl", F_OK) < 0);
    }
    for (size_t i = 0; i < COUNTOF(ids); i++) {
        char target[256];

        t_row(ids[i]);
        snprintf(target, sizeof target, "/v1/files/%s/content", ids[i]);
        EQ_INT(rig_get(d.r, target).status, 404);
        snprintf(target, sizeof target, "/v1/files/%s", ids[i]);
        EQ_INT(rig_ask(d.r, "DELETE", target, "", (struct str){0}).status, 404);
    }
    EQ_INT(rig_get(d.r, "/readyz").status, 200);
    stop(&d);
}
