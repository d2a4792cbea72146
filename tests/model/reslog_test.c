/* SPDX-License-Identifier: Apache-2.0 */
/* link: -Wl,--wrap=pwrite,--wrap=write,--wrap=ftruncate,--wrap=rename */
/* link: -Wl,--wrap=unlink,--wrap=fsync,--wrap=fdatasync */
/*
 * The results log against a simple model, with a power cut before every system call.
 *
 * The model: which items were appended, and which of them a commit has promised.  After
 * any crash the log must hold all that was promised, nothing that was never appended, and
 * must not call that damage; and it must go on from there.
 */
#include "store/reslog.h"
#include "store/reslog_frame.h"
#include "tests/model/crashdisk.h"

#define ITEMS 2000u

static const struct id batch = {"batch_0123456789abcdef0123456789abcdef"};

static struct {
    bool created;                /* reslog_create or reslog_open came back */
    uint32_t appended, promised; /* items below these */
    uint32_t segment_bytes;
    unsigned every;
} model;
static unsigned crashes;

static char work[300], after[300];
static uint32_t got_n;
static uint8_t got[ITEMS];

static struct str payload_of(uint32_t item)
{
    static char text[2000];
    size_t n = 1 + item * 131u % 900;

    for (size_t i = 0; i < n; i++)
        text[i] = (char)(' ' + (item + i) % 90);
    return (struct str){text, n};
}

static void see(void *ctx, const struct reslog_rec *r, const struct reslog_place *at)
{
    (void)ctx, (void)at;
    if (r->item >= model.appended)
        FAIL("item %u was never appended", r->item);
    EQ_STR(r->payload, payload_of(r->item));
    EQ_INT(r->usage.input, r->item);
    got_n += !got[r->item];
    got[r->item] = 1;
}

static void open_tree(const char *dir, struct reslog **ret, uint64_t *ret_damaged)
{
    struct err e = {{0}};
    enum rc rc;

    *ret = NULL;
    got_n = 0;
    memset(got, 0, sizeof got);
    rc = reslog_open(dir, &batch, ITEMS, see, NULL, ret, ret_damaged, &e);
    if (rc == RC_NOTFOUND && !model.created)
        return;
    if (rc != RC_OK)
        FAIL("open after a crash: %s", e.text);
    reslog_segment_bytes(*ret, model.segment_bytes);
}

static void check_promised(void)
{
    for (uint32_t i = 0; i < model.promised; i++)
        if (!got[i])
            FAIL("item %u was promised and is gone (%u calls, crash %u)", i, disk_calls,
                 crashes);
}

static void append_one(struct reslog *l, uint32_t item)
{
    struct reslog_rec r = {.item = item,
                           .kind = RESULT_OUTPUT,
                           .has_usage = true,
                           .usage = {.input = item},
                           .payload = payload_of(item)};

    EQ_RC(reslog_append(l, &r), RC_OK);
}

/* Before a system call: would a power cut here be survived? */
static void try_crash(void)
{
    struct reslog *l;
    uint64_t damaged = 0;

    if (model.every > 1 && disk_rnd(model.every))
        return;
    crashes++;
    disk_crash(after);
    open_tree(after, &l, &damaged);
    if (!l)
        return;
    check_promised();
    EQ_INT(damaged, 0);
    reslog_close(l);
}

static enum rc commit(struct reslog *l)
{
    struct reslog_block *b = reslog_cut(l);
    enum rc rc = reslog_commit(l, b, NULL);

    if (rc == RC_OK)
        model.promised = model.appended;
    else
        reslog_block_free(b);
    return rc;
}

static void begin(uint32_t segment_bytes, unsigned every)
{
    snprintf(work, sizeof work, "%s/work", t_dir());
    snprintf(after, sizeof after, "%s/after", t_dir());
    if (mkdir(work, 0700) < 0)
        FAIL("mkdir: errno %d", errno);
    memset(&model, 0, sizeof model);
    model.segment_bytes = segment_bytes;
    model.every = every;
    disk_start(work);
    disk_hook = try_crash;
}

static struct reslog *create(void)
{
    struct reslog *l = NULL;

    EQ_RC(reslog_create(work, &batch, ITEMS, &l, NULL), RC_OK);
    model.created = true;
    reslog_segment_bytes(l, model.segment_bytes);
    return l;
}

static void append_some(struct reslog *l)
{
    uint32_t n = 1 + disk_rnd(12);

    for (uint32_t i = 0; i < n && model.appended < ITEMS; i++) {
        uint32_t item = model.appended++;

        append_one(l, item);
    }
}

/* The real tree becomes what a power cut left of it, and the log is opened there. */
static struct reslog *power_cut(struct reslog *l)
{
    uint64_t damaged = 0;

    reslog_close(l);
    disk_crash(after);
    disk_restart_from(after);
    open_tree(work, &l, &damaged); /* and power cuts while this goes on */
    check_promised();
    EQ_INT(damaged, 0);
    /* What came through without a promise has one now; the rest comes again. */
    model.promised = 0;
    while (model.promised < model.appended && got[model.promised])
        model.promised++;
    for (uint32_t i = model.promised; i < model.appended; i++)
        if (!got[i])
            append_one(l, i);
    if (reslog_pending(l))
        EQ_RC(commit(l), RC_OK);
    return l;
}

static void drop_all(struct reslog *l)
{
    reslog_close(l);
    disk_hook = NULL;
    disk_forget();
    disk_remove(work);
    disk_remove(after);
}

TEST_SLOW(a_power_cut_before_any_call_loses_nothing_promised, 60)
{
    for (uint64_t seed = 1; seed <= 6; seed++) {
        struct reslog *l;

        disk_x = seed * 0x9e3779b97f4a7c15u;
        begin(seed % 2 ? 4000 : 1u << 26, 1);
        l = create();
        while (model.appended < 150) {
            append_some(l);
            EQ_RC(commit(l), RC_OK);
            if (disk_rnd(4) == 0 && model.appended < 150) {
                append_some(l); /* in memory only when the power goes */
                l = power_cut(l);
            }
        }
        drop_all(l);
    }
    t_note("%u crashes in %u calls", crashes, disk_calls);
    OK(crashes > 300);
}

TEST_SLOW(after_a_failed_sync_and_a_restart_nothing_is_taken_for_durable_that_is_not, 60)
{
    for (uint64_t seed = 1; seed <= 8; seed++) {
        struct reslog *l;
        uint64_t damaged = 0;

        disk_x = seed * 0x9e3779b97f4a7c15u;
        begin(8000, 2);
        l = create();
        for (unsigned round = 0; round < 8; round++) {
            append_some(l);
            EQ_RC(commit(l), RC_OK);
            append_some(l);
            disk_fail_sync = true;
            EQ_RC(commit(l), RC_IO);
            append_some(l);
            EQ_RC(commit(l), RC_IO); /* dead: no second try on that file */
            reslog_close(l);
            /* The process starts again; the page cache still shows what the disk never
             * got.  What open tells of is promised from then on. */
            open_tree(work, &l, &damaged);
            check_promised();
            while (model.promised < model.appended && got[model.promised])
                model.promised++;
            for (uint32_t i = model.promised; i < model.appended; i++)
                if (!got[i])
                    append_one(l, i);
            disk_try();
            if (reslog_pending(l))
                EQ_RC(commit(l), RC_OK);
        }
        drop_all(l);
    }
    OK(crashes > 20);
}

/* ---- bit rot ------------------------------------------------------------------------*/

struct span {
    uint32_t segment;
    uint64_t from, to;
};

static struct span spans[ITEMS];

static void note_span(void *ctx, const struct reslog_rec *r,
                      const struct reslog_place *at)
{
    (void)ctx;
    spans[r->item] = (struct span){at->segment, at->offset,
                                   at->offset + FRAME_FIXED + 20 + r->payload.n};
}

static void damage(uint32_t segment, uint64_t at, unsigned len)
{
    char path[400], junk[64];
    int fd;

    for (unsigned i = 0; i < sizeof junk; i++)
        junk[i] = (char)disk_rnd(256);
    snprintf(path, sizeof path, "%s/%s.%06u.log", work, batch.z, segment);
    fd = open(path, O_WRONLY);
    if (fd < 0 || pwrite(fd, junk, len, (off_t)at) != (ssize_t)len)
        FAIL("cannot damage %s: errno %d", path, errno);
    close(fd);
}

TEST_SLOW(bytes_that_rot_cost_the_records_they_are_in_and_no_other, 60)
{
    for (uint64_t seed = 1; seed <= 150; seed++) {
        struct reslog *l;
        uint8_t hit[ITEMS] = {0};
        uint64_t damaged = 0;

        disk_x = seed * 0x9e3779b97f4a7c15u;
        begin(5000, 1);
        disk_off = true;
        l = create();
        while (model.appended < 100) {
            append_some(l);
            EQ_RC(commit(l), RC_OK);
        }
        EQ_RC(reslog_scan(l, note_span, NULL, &damaged, NULL), RC_OK);
        reslog_close(l);
        for (unsigned k = 0; k < 1 + seed % 5; k++) {
            const struct span *s = &spans[disk_rnd(model.appended)];
            uint64_t at = s->from + disk_rnd((uint32_t)(s->to - s->from));
            unsigned len = 1 + disk_rnd(60);

            if (seed % 3 == 0)
                at = disk_rnd(FRAME_HEAD_BYTES); /* a head: no record is in it */
            if (seed % 3 == 0 && at + len > FRAME_HEAD_BYTES)
                len = (unsigned)(FRAME_HEAD_BYTES - at);
            if (seed % 3 && at + len > s->to)
                len = (unsigned)(s->to - at);
            damage(s->segment, at, len);
            for (uint32_t i = 0; i < model.appended; i++)
                hit[i] |= spans[i].segment == s->segment && at < spans[i].to &&
                          at + len > spans[i].from;
        }
        open_tree(work, &l, &damaged);
        for (uint32_t i = 0; i < model.appended; i++)
            if (!got[i] && !hit[i])
                FAIL("seed %llu: item %u was whole and is gone", (unsigned long long)seed,
                     i);
        disk_off = false;
        drop_all(l);
    }
}
