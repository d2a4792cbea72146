/* SPDX-License-Identifier: Apache-2.0 */
/* link: -Wl,--wrap=pwrite,--wrap=write,--wrap=ftruncate,--wrap=rename */
/* link: -Wl,--wrap=unlink,--wrap=fsync,--wrap=fdatasync */
/*
 * Blobs in a directory, with a power cut before every system call: what was committed is
 * there byte for byte, and no name ever shows half a file.
 */
#include "store/blob.h"
#include "tests/model/crashdisk.h"

#define BLOBS 20u

static char work[300], after[300];
static struct {
    struct id id;
    uint32_t seed;
    bool promised, tried;
} blobs[BLOBS];
static unsigned crashes;

static char byte_of(uint32_t seed, size_t i)
{
    return (char)((seed + i * 2654435761u) >> 9);
}

static size_t size_of(uint32_t seed)
{
    return seed * 7919u % 3000;
}

/* false: it is not there. */
static bool check_whole(struct blobs *b, unsigned k)
{
    struct blob *x = NULL;
    char buf[4000];
    size_t n = 0;
    enum rc rc = b->ops->open(b->self, blobs[k].id.z, &x, NULL);

    if (rc == RC_NOTFOUND)
        return false;
    EQ_RC(rc, RC_OK);
    EQ_RC(b->ops->pread(x, buf, sizeof buf, 0, &n, NULL), RC_OK);
    EQ_INT(n, size_of(blobs[k].seed));
    for (size_t i = 0; i < n; i++)
        if (buf[i] != byte_of(blobs[k].seed, i))
            FAIL("blob %u shows other bytes than were put", k);
    b->ops->close(x);
    return true;
}

static void try_crash(void)
{
    struct blobs *b = NULL;
    struct err e = {{0}};

    crashes++;
    disk_crash(after);
    if (blob_dir_open(after, &b, &e) != RC_OK)
        FAIL("%s", e.text);
    for (unsigned k = 0; k < BLOBS; k++)
        if (blobs[k].tried && !check_whole(b, k) && blobs[k].promised)
            FAIL("blob %u was promised and is gone (crash %u)", k, crashes);
    blobs_close(b);
}

/* fail: the first sync of a directory does; its names stay in the page cache only. */
static void put(struct blobs *b, unsigned k, bool fail)
{
    struct blob_put *p = NULL;
    struct blob_sum sum;
    size_t n;

    if (!blobs[k].tried) {
        blobs[k].seed = 1 + k * 37;
        /* Few directories: a second blob in one must not lean on the first's sync. */
        blobs[k].id = id_make(ID_FILE);
        blobs[k].id.z[strlen(blobs[k].id.z) - 2] = 'a';
        blobs[k].id.z[strlen(blobs[k].id.z) - 1] = (char)('a' + disk_rnd(8));
    }
    n = size_of(blobs[k].seed);
    EQ_RC(b->ops->put(b->self, &p, NULL), RC_OK);
    for (size_t i = 0; i < n; i++) {
        char c = byte_of(blobs[k].seed, i);

        EQ_RC(b->ops->write(p, &c, 1, NULL), RC_OK);
    }
    blobs[k].tried = true;
    disk_fail_dir_sync = fail;
    EQ_RC(b->ops->commit(p, blobs[k].id.z, &sum, NULL), fail ? RC_IO : RC_OK);
    blobs[k].promised = blobs[k].promised || !fail;
}

TEST_SLOW(a_power_cut_before_any_call_loses_no_committed_blob_and_shows_no_half, 60)
{
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct blobs *b = NULL;

        disk_x = seed * 0x9e3779b97f4a7c15u;
        memset(blobs, 0, sizeof blobs);
        snprintf(work, sizeof work, "%s/work", t_dir());
        snprintf(after, sizeof after, "%s/after", t_dir());
        if (mkdir(work, 0700) < 0)
            FAIL("mkdir: errno %d", errno);
        disk_start(work);
        disk_hook = try_crash;
        EQ_RC(blob_dir_open(work, &b, NULL), RC_OK);
        for (unsigned k = 0; k < BLOBS; k++) {
            unsigned what = disk_rnd(4);

            if (what == 0)
                put(b, k, true);
            if (what == 0 && disk_rnd(2)) { /* the process ends, the power stays */
                blobs_close(b);
                EQ_RC(blob_dir_open(work, &b, NULL), RC_OK);
            }
            put(b, k, false);
            if (what == 1)
                put(b, disk_rnd(k + 1), false); /* a finish that is repeated */
            if (disk_rnd(6) == 0) {
                blobs_close(b);
                disk_crash(after);
                disk_restart_from(after);
                EQ_RC(blob_dir_open(work, &b, NULL), RC_OK);
            }
        }
        blobs_close(b);
        disk_hook = NULL;
        disk_forget();
        disk_remove(work);
        disk_remove(after);
    }
    t_note("%u crashes", crashes);
    OK(crashes > 250);
}
