/* SPDX-License-Identifier: Apache-2.0 */
/* link: -Wl,--wrap=pwrite,--wrap=write,--wrap=ftruncate,--wrap=rename */
/* link: -Wl,--wrap=close,--wrap=fsync,--wrap=fdatasync */
/*
 * Blobs, index and data directory with every single call failing in turn: an error is
 * told, nothing half is ever taken for whole, and doing it again works.
 */
#include "base/mem.h"
#include "store/blob.h"
#include "store/datadir.h"
#include "store/index.h"
#include "tests/fault/faults.h"

#define BYTES 90000u

static bool told(enum rc rc, const struct err *e)
{
    if (rc == RC_OK)
        return false;
    OK(fault_hit && e->text[0]);
    OK(rc == RC_IO || rc == RC_NOSPACE);
    return true;
}

/* ---- blobs --------------------------------------------------------------------------*/

static enum rc put(struct blobs *b, const char *id, struct err *e)
{
    static char part[10000];
    struct blob_put *p = NULL;
    struct blob_sum sum = {0};
    enum rc rc = b->ops->put(b->self, &p, e);

    if (rc != RC_OK)
        return rc;
    for (unsigned at = 0; at < BYTES; at += sizeof part) {
        memset(part, 'a' + (int)(at / sizeof part), sizeof part);
        rc = b->ops->write(p, part, sizeof part, e);
        if (rc != RC_OK) {
            enum rc again = b->ops->write(p, part, 1, NULL);

            EQ_RC(again, rc); /* no gap may come into the bytes */
            if (at % 20000) {
                b->ops->abort(p);
                return rc;
            }
            EQ_RC(b->ops->commit(p, id, &sum, NULL), rc);
            return rc;
        }
    }
    rc = b->ops->commit(p, id, &sum, e);
    if (rc == RC_OK)
        EQ_INT(sum.bytes, BYTES);
    return rc;
}

static bool whole(struct blobs *b, const char *id)
{
    struct blob *x = NULL;
    static char got[BYTES + 1];
    size_t n;

    if (b->ops->open(b->self, id, &x, NULL) == RC_NOTFOUND)
        return false;
    EQ_RC(b->ops->pread(x, got, sizeof got, 0, &n, NULL), RC_OK);
    EQ_INT(n, BYTES);
    for (size_t i = 0; i < n; i++)
        OK(got[i] == (char)('a' + i / 10000));
    b->ops->close(x);
    return true;
}

static struct blobs *open_blobs(const char *dir)
{
    struct blobs *b = NULL;
    struct err e = {{0}};

    if (told(blob_dir_open(dir, &b, &e), &e))
        EQ_RC(blob_dir_open(dir, &b, &e), RC_OK);
    return b;
}

static void blob_scenario(const char *dir)
{
    struct blobs *b = open_blobs(dir);
    char tmp[500];
    struct err e = {{0}};

    for (unsigned i = 0; i < 3; i++) {
        const char *id = ((const char *[]){"file-aa", "file-bb", "file-cca"})[i];

        if (told(put(b, id, &e), &e)) {
            (void)whole(b, id); /* there or not, but not half */
            EQ_RC(put(b, id, &e), RC_OK);
        }
        OK(whole(b, id));
    }
    snprintf(tmp, sizeof tmp, "%s/tmp", dir);
    EQ_INT(rmdir(tmp), 0); /* no failed attempt is left lying about */
    blobs_close(b);
}

TEST_SLOW(a_blob_is_whole_or_not_there_whichever_call_fails, 60)
{
    fault_sweep(blob_scenario);
}

/* ---- the index ----------------------------------------------------------------------*/

static const struct id batch = {"batch_0123456789abcdef0123456789abcdef"};

static enum rc make_index(const char *dir, struct err *e)
{
    struct index_writer *w = NULL;
    enum rc rc = index_create(dir, &batch, &w, e);

    for (uint32_t i = 0; rc == RC_OK && i < 11500; i++) {
        struct index_entry en = {.offset = i, .length = 9, .number = i + 1};

        rc = index_add(w, &en, e);
        if (rc != RC_OK) {
            if (i < 10000) {
                index_abort(w);
                return rc;
            }
            EQ_RC(index_finish(w, NULL), rc);
            return rc;
        }
    }
    return rc == RC_OK ? index_finish(w, e) : rc;
}

static void index_scenario(const char *dir)
{
    struct index *x = NULL;
    struct err e = {{0}};

    if (told(make_index(dir, &e), &e)) {
        enum rc rc = index_load(dir, &batch, &x, NULL);

        OK(rc == RC_NOTFOUND || rc == RC_CORRUPT);
        EQ_RC(make_index(dir, &e), RC_OK);
    }
    EQ_RC(index_load(dir, &batch, &x, &e), RC_OK);
    EQ_INT(index_count(x), 11500);
    EQ_INT(index_get(x, 11499).number, 11500);
    index_free(x);
}

TEST_SLOW(an_index_is_whole_or_made_again_whichever_call_fails, 60)
{
    fault_sweep(index_scenario);
}

/* ---- the data directory -------------------------------------------------------------*/

static struct datadir *open_data(const char *path)
{
    struct datadir_opts o = {.create = true, .reserve_bytes = 4096};
    struct datadir *d = NULL;
    struct err e = {{0}};

    if (told(datadir_open(path, &o, &d, &e), &e))
        EQ_RC(datadir_open(path, &o, &d, &e), RC_OK);
    return d;
}

static void datadir_scenario(const char *dir)
{
    char path[500];
    struct datadir *d;
    struct err e = {{0}};
    bool clean = true;

    snprintf(path, sizeof path, "%s/data", dir);
    d = open_data(path);
    if (told(datadir_release_reserve(d, &e), &e))
        EQ_RC(datadir_release_reserve(d, &e), RC_OK);
    if (told(datadir_restore_reserve(d, &e), &e))
        EQ_RC(datadir_restore_reserve(d, &e), RC_OK);
    if (told(datadir_close(d, true, &e), &e))
        clean = false;
    d = open_data(path);
    if (clean && !fault_hit)
        OK(datadir_was_clean(d));
    if (told(datadir_close(d, false, &e), &e))
        FAIL("an unclean close writes nothing");
    d = open_data(path);
    OK(!datadir_was_clean(d));
    OK(!told(datadir_close(d, false, &e), &e));
}

TEST_SLOW(a_data_directory_opens_again_whichever_call_fails, 60)
{
    fault_sweep(datadir_scenario);
}
