/* SPDX-License-Identifier: Apache-2.0 */
/* link: -Wl,--wrap=pwrite,--wrap=write,--wrap=ftruncate,--wrap=rename */
/* link: -Wl,--wrap=close,--wrap=fsync,--wrap=fdatasync */
/*
 * The results log with every single call failing in turn: what was promised stays, a full
 * disk is survived, a failed sync is final.
 */
#include "base/mem.h"
#include "store/reslog.h"
#include "tests/fault/faults.h"

#define ITEMS 200u

static const struct id batch = {"batch_0123456789abcdef0123456789abcdef"};
static uint32_t promised;
static uint8_t got[ITEMS];

static struct str payload_of(uint32_t item)
{
    static char text[700];
    size_t n = 1 + item * 131u % 600;

    memset(text, 'a' + (int)(item % 26), n);
    return (struct str){text, n};
}

static void see(void *ctx, const struct reslog_rec *r, const struct reslog_place *at)
{
    (void)ctx, (void)at;
    EQ_STR(r->payload, payload_of(r->item));
    got[r->item] = 1;
}

/* Opens until it works: one fault is all there is. */
static struct reslog *reopen(const char *dir)
{
    for (unsigned tries = 0; tries < 2; tries++) {
        struct reslog *l = NULL;
        uint64_t damaged = 0;
        struct err e = {{0}};
        enum rc rc;

        memset(got, 0, sizeof got);
        rc = reslog_open(dir, &batch, ITEMS, see, NULL, &l, &damaged, &e);
        if (rc == RC_OK) {
            for (uint32_t i = 0; i < promised; i++)
                if (!got[i])
                    FAIL("item %u was promised and is gone", i);
            EQ_INT(damaged, 0);
            reslog_segment_bytes(l, 2000);
            return l;
        }
        OK(fault_hit && e.text[0]);
        if (rc == RC_NOTFOUND)
            break;
        OK(rc == RC_IO || rc == RC_NOSPACE);
        OK(!fault_was_sync || rc == RC_IO);
    }
    return NULL;
}

static struct reslog *create(const char *dir)
{
    for (unsigned tries = 0; tries < 2; tries++) {
        struct reslog *l = NULL;
        struct err e = {{0}};
        enum rc rc = reslog_create(dir, &batch, ITEMS, &l, &e);

        if (rc == RC_OK) {
            reslog_segment_bytes(l, 2000);
            return l;
        }
        OK(fault_hit && e.text[0]);
        OK(rc == RC_IO || rc == RC_NOSPACE);
        OK(!fault_was_sync || rc == RC_IO);
    }
    FAIL("it fails without a fault");
}

static struct reslog_block *block_of(struct reslog *l, uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++) {
        struct reslog_rec r = {
            .item = i, .kind = RESULT_OUTPUT, .payload = payload_of(i)};

        EQ_RC(reslog_append(l, &r), RC_OK);
    }
    return reslog_cut(l);
}

/* Commits items up to `to`, whatever it takes. */
static struct reslog *commit(struct reslog *l, const char *dir, uint32_t to)
{
    struct reslog_block *b = block_of(l, promised, to);
    struct err e = {{0}};
    enum rc rc = reslog_commit(l, b, &e);

    if (rc == RC_NOSPACE) { /* the same block again, the same log */
        OK(fault_hit && !fault_was_sync && e.text[0]);
        rc = reslog_commit(l, b, &e);
        EQ_RC(rc, RC_OK);
    } else if (rc != RC_OK) {
        EQ_RC(rc, RC_IO);
        OK(fault_hit && e.text[0]);
        EQ_RC(reslog_commit(l, b, &e), RC_IO); /* for good */
        reslog_block_free(b);
        reslog_close(l);
        l = reopen(dir);
        OK(l);
        EQ_RC(reslog_commit(l, block_of(l, promised, to), &e), RC_OK);
    }
    promised = to;
    return l;
}

static void scenario(const char *dir)
{
    struct reslog *l;

    promised = 0;
    l = create(dir);
    for (uint32_t to = 3; to <= 21; to += 3)
        l = commit(l, dir, to);
    reslog_close(l);
    l = reopen(dir);
    OK(l);
    l = commit(l, dir, 25);
    reslog_close(l);
    l = reopen(dir);
    OK(l);
    reslog_close(l);
}

TEST_SLOW(whichever_call_fails_nothing_promised_is_lost_and_nothing_is_false, 60)
{
    fault_sweep(scenario);
}

TEST(a_full_disk_leaves_no_bytes_behind_the_last_good_end)
{
    struct reslog *l = create(t_dir());
    struct reslog_block *b;
    struct stat st;
    char path[400];
    off_t before;

    snprintf(path, sizeof path, "%s/%s.000001.log", t_dir(), batch.z);
    l = commit(l, t_dir(), 3);
    OK(stat(path, &st) == 0);
    before = st.st_size;
    for (unsigned i = 0; i < 3; i++) {
        b = block_of(l, 3, 6);
        fault_arm(1, ENOSPC, true);
        EQ_RC(reslog_commit(l, b, NULL), RC_NOSPACE);
        OK(stat(path, &st) == 0);
        EQ_INT(st.st_size, before);
        reslog_block_free(b);
    }
    fault_arm(0, 0, false);
    l = commit(l, t_dir(), 6);
    reslog_close(l);
}

TEST(a_full_disk_that_cannot_even_be_cut_back_ends_the_log)
{
    struct reslog *l = create(t_dir());
    struct reslog_block *b = block_of(l, 0, 3);

    fault_arm(1, ENOSPC, false);
    fault_times = 2; /* the write, and the truncation after it */
    EQ_RC(reslog_commit(l, b, NULL), RC_IO);
    EQ_RC(reslog_commit(l, b, NULL), RC_IO); /* though nothing fails any more */
    reslog_block_free(b);
    reslog_close(l);
    promised = 0;
    reslog_close(reopen(t_dir()));
}
