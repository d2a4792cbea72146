/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_walk: changes to a store in a random but repeatable order, and all that can be
 * seen of a store as one text.  The store in memory takes the same walk: what it shows
 * after each step is what any other must show, whatever failed on the way.
 */
#pragma once

#include "base/buf.h"
#include "tests/lib/mem_store.h"

enum { WALK_MAX = 400 };

enum walk_op {
    WALK_FILE_ADD,
    WALK_FILE_DELETE,
    WALK_FILE_REAP,
    WALK_FILE_FORGET,
    WALK_UPLOAD_ADD,
    WALK_PART_ADD,
    WALK_UPLOAD_MOVE,
    WALK_UPLOAD_REAP,
    WALK_PART_FORGET,
    WALK_BATCH_ADD,
    WALK_BATCH_MOVE,
    WALK_BATCH_EDIT,
    WALK_SETTLE,
    WALK_PURGE,
    WALK_OPS
};

struct walk_step {
    enum walk_op op;
    uint64_t r; /* decides whatever else there is to decide */
    int64_t now;
    unsigned file, upload, part, batch; /* new ones, or some of before */
    enum batch_event ev;                /* mostly the one that is next */
};

struct walk {
    struct walk_step steps[WALK_MAX];
    unsigned n, files, uploads, parts, batches;
    enum rc rc[WALK_MAX];
    char *seen[WALK_MAX + 1]; /* before the first step, after the first, ... */
};

static struct id walk_id(const char *prefix, unsigned n)
{
    struct id id;

    CHECK(str_fmt(id.z, sizeof id.z, "%s%032u", prefix, n) == RC_OK);
    return id;
}

static struct id walk_project(uint64_t r)
{
    return r % 3 ? (struct id){"proj-1"} : (struct id){"proj-2"};
}

/* ---- steps --------------------------------------------------------------------------*/

/* More of what is new and of what moves on; little of what clears up. */
static const uint8_t walk_weights[WALK_OPS] = {6, 3, 1, 2, 3, 6, 3, 1, 2, 8, 16, 3, 5, 1};

static enum walk_op walk_pick(uint32_t r)
{
    unsigned sum = 0, op = 0;

    for (unsigned i = 0; i < WALK_OPS; i++)
        sum += walk_weights[i];
    r %= sum;
    while (r >= walk_weights[op])
        r -= walk_weights[op++];
    return (enum walk_op)op;
}

static uint64_t walk_rnd(uint64_t *x)
{
    *x ^= *x << 13, *x ^= *x >> 7, *x ^= *x << 17;
    return *x >> 11;
}

/* A new one for what is added (or, now and then, one that is there), else one of the
 * latest. */
static unsigned walk_which(uint64_t r, bool add, unsigned *n)
{
    if (add && r % 16)
        return (*n)++;
    return *n ? *n - 1 - (unsigned)(r / 16 % (*n < 6 ? *n : 6)) : 0;
}

static enum batch_event walk_event(uint64_t r, unsigned batch, uint8_t *moves)
{
    static const enum batch_event way[2][3] = {
        {BATCH_EV_VALID, BATCH_EV_DRAINED, BATCH_EV_PUBLISHED},
        {BATCH_EV_VALID, BATCH_EV_EXPIRE, BATCH_EV_PUBLISHED}};

    if (r % 4 == 0)
        return (enum batch_event)(r / 4 % BATCH_EVENT_COUNT);
    return way[batch % 2][(*moves)++ % 3];
}

static void walk_plan(struct walk *w, uint64_t seed, unsigned n)
{
    uint64_t x = seed * 0x9e3779b97f4a7c15u;
    uint8_t moves[WALK_MAX] = {0};

    CHECK(n <= WALK_MAX);
    *w = (struct walk){.n = n};
    for (unsigned i = 0; i < n; i++) {
        struct walk_step *s = &w->steps[i];
        bool adds_file;

        s->op = walk_pick((uint32_t)walk_rnd(&x));
        s->r = walk_rnd(&x);
        s->now = 1000 + (int64_t)(10 * i + s->r % 50); /* a clock that is set back too */
        adds_file = s->op == WALK_FILE_ADD || s->op == WALK_UPLOAD_MOVE ||
                    s->op == WALK_BATCH_MOVE;
        s->file = walk_which(walk_rnd(&x), adds_file, &w->files);
        s->upload = walk_which(walk_rnd(&x), s->op == WALK_UPLOAD_ADD, &w->uploads);
        s->part = walk_which(walk_rnd(&x), s->op == WALK_PART_ADD, &w->parts);
        s->batch = walk_which(walk_rnd(&x), s->op == WALK_BATCH_ADD, &w->batches);
        if (s->op == WALK_BATCH_MOVE)
            s->ev = walk_event(walk_rnd(&x), s->batch, &moves[s->batch]);
    }
}

static struct file_rec walk_file(const struct walk_step *s)
{
    static char name[] = "a file";
    struct file_rec f = {.id = walk_id(ID_FILE, s->file),
                         .project = walk_project(s->r),
                         .purpose = "batch",
                         .filename = name,
                         .bytes = s->r % 1000,
                         .sha256 = {(uint8_t)s->r},
                         .created_at = s->now,
                         .expires_at = s->r % 5 ? 0 : s->now + 300};

    return f;
}

static enum rc walk_upload_move(struct store *st, const struct walk_step *s)
{
    struct id project = walk_project(s->r), id = walk_id(ID_UPLOAD, s->upload);
    struct file_rec f = walk_file(s);
    struct file_quota q = {.project_bytes = 9000};
    bool completes = s->r % 4;

    return st->ops->upload_move(st->self, s->r % 7 ? NULL : &project, id.z,
                                completes ? UPLOAD_COMPLETED : UPLOAD_CANCELLED, s->now,
                                completes ? &f : NULL, s->r % 2 ? &q : NULL, NULL, NULL);
}

static enum rc walk_part_add(struct store *st, const struct walk_step *s)
{
    struct id upload = walk_id(ID_UPLOAD, s->upload);
    struct part_rec p = {.id = walk_id(ID_PART, s->part),
                         .bytes = s->r % 90,
                         .sha256 = {9, (uint8_t)s->r},
                         .created_at = s->now};

    return st->ops->part_add(st->self, NULL, upload.z, &p, NULL, NULL);
}

static enum rc walk_batch_add(struct store *st, const struct walk_step *s)
{
    struct batch_quota q = {.max_live = 12};
    char key[32], url[] = "https://example.com", metadata[1500];
    struct batch b = {.id = walk_id(ID_BATCH, s->batch),
                      .project = walk_project(s->r / 3),
                      .input_file = walk_id(ID_FILE, s->file),
                      .window = "24h",
                      .created_at = s->now,
                      .expires_at = s->now + 86400,
                      .callback_url = s->r % 2 ? url : NULL,
                      .metadata = metadata};

    memset(metadata, 'm', sizeof metadata);
    metadata[s->r % sizeof metadata] = '\0';
    metadata[sizeof metadata - 1] = '\0';
    CHECK(str_fmt(key, sizeof key, "key %u", (unsigned)(s->r % 20)) == RC_OK);
    if (s->r % 3 == 0) {
        b.idempotency_key = key;
        b.request_hash[5] = (uint8_t)s->r;
    }
    if (s->r % 4 == 0 && s->batch)
        b.continue_from = walk_id(ID_BATCH, s->batch - 1);
    return st->ops->batch_add(st->self, &b, s->r % 2 ? &q : NULL, NULL, NULL);
}

static enum rc walk_batch_move(struct store *st, const struct walk_step *s)
{
    static const char *const notify[] = {"one", "two", "three"};
    struct id id = walk_id(ID_BATCH, s->batch);
    struct batch_counts counts = {(uint32_t)(s->r % 900), 1, 2};
    struct usage usage = {1, 2, 3, 4, s->r};
    uint32_t reused = (uint32_t)(s->r % 77);
    struct file_rec out = walk_file(s), error = out;
    struct batch_change change = {.model = "m",
                                  .counts = &counts,
                                  .usage = s->r % 2 ? &usage : NULL,
                                  .reused = s->ev == BATCH_EV_VALID ? &reused : NULL,
                                  .notify = notify,
                                  .n_notify = (size_t)(s->r / 8 % 4)};

    error.id.z[strlen(ID_FILE)] = 'e';
    if (s->r % 11 == 0)
        error.id = out.id; /* fails when the first of them is in */
    if (s->ev == BATCH_EV_PUBLISHED) {
        change.output = s->r % 3 ? &out : NULL;
        change.error = s->r % 5 ? &error : NULL;
    }
    return st->ops->batch_move(st->self, NULL, id.z, s->ev, s->now, &change, NULL, NULL);
}

static enum rc walk_batch_edit(struct store *st, const struct walk_step *s)
{
    struct id project = walk_project(s->r), id = walk_id(ID_BATCH, s->batch);
    struct batch_edit edit = {.has_priority = s->r & 1,
                              .has_paused = s->r & 2,
                              .has_hold = s->r & 4,
                              .has_window = s->r & 8,
                              .priority = (int)(s->r / 16 % 21) - 10,
                              .paused = s->r & 16,
                              .hold = (uint32_t)s->r,
                              .window = "3d",
                              .expires_at = s->now + 99};

    return st->ops->batch_edit(st->self, &project, id.z, &edit, s->now, NULL, NULL);
}

static enum rc walk_file_reap(struct store *st, const struct walk_step *s)
{
    struct id some[3];
    size_t n;

    return st->ops->file_reap(st->self, s->now, some, COUNTOF(some), &n, NULL);
}

static enum rc walk_file_forget(struct store *st, const struct walk_step *s)
{
    struct id id = walk_id(ID_FILE, s->file);

    return st->ops->file_forget(st->self, id.z, NULL);
}

static enum rc walk_upload_reap(struct store *st, const struct walk_step *s)
{
    int64_t later = s->r % 2 ? (int64_t)UPLOAD_KEPT_DAYS * 86400 : 0;
    struct id some[3];
    size_t n;

    return st->ops->upload_reap(st->self, s->now + later, some, COUNTOF(some), &n, NULL);
}

static enum rc walk_part_forget(struct store *st, const struct walk_step *s)
{
    struct id id = walk_id(ID_PART, s->part);

    return st->ops->part_forget(st->self, id.z, NULL);
}

static enum rc walk_purge(struct store *st, const struct walk_step *s)
{
    return st->ops->outbox_purge(st->self, s->now - 50, NULL);
}

static enum rc walk_settle(struct store *st, const struct walk_step *s)
{
    struct outbox_result r = {.now = s->now,
                              .delivered = s->r % 3 == 0,
                              .given_up = s->r % 3 == 1,
                              .unsent = s->r % 6 == 1,
                              .next_at = s->now + 60,
                              .status = (int)(s->r % 600),
                              .error = s->r % 2 ? "busy" : NULL};
    struct outbox_rec *all = NULL;
    size_t n;
    enum rc rc = st->ops->outbox_due(st->self, INT64_MAX, 4, &all, &n, NULL);

    if (rc == RC_OK && n)
        rc = st->ops->outbox_settle(st->self, all[s->r % n].seq, &r, NULL);
    if (all)
        outbox_free(all, n);
    return rc;
}

static enum rc walk_file_add(struct store *st, const struct walk_step *s)
{
    struct file_quota q = {.project_files = 12, .project_bytes = 8000, .all_bytes = 9500};
    struct file_rec f = walk_file(s);

    return st->ops->file_add(st->self, &f, s->r % 2 ? &q : NULL, NULL);
}

static enum rc walk_file_delete(struct store *st, const struct walk_step *s)
{
    struct id project = walk_project(s->r), id = walk_id(ID_FILE, s->file);

    return st->ops->file_delete(st->self, &project, id.z, s->now, NULL);
}

static enum rc walk_upload_add(struct store *st, const struct walk_step *s)
{
    struct file_rec f = walk_file(s);
    struct upload_rec u = {.id = walk_id(ID_UPLOAD, s->upload),
                           .project = f.project,
                           .purpose = "batch",
                           .filename = f.filename,
                           .bytes = s->r % 200,
                           .created_at = s->now,
                           .expires_at = s->now + 400};

    return st->ops->upload_add(st->self, &u, NULL);
}

static enum rc walk_step(struct store *st, const struct walk_step *s)
{
    static enum rc (*const all[WALK_OPS])(struct store *, const struct walk_step *) = {
        [WALK_FILE_ADD] = walk_file_add,       [WALK_FILE_DELETE] = walk_file_delete,
        [WALK_FILE_REAP] = walk_file_reap,     [WALK_FILE_FORGET] = walk_file_forget,
        [WALK_UPLOAD_ADD] = walk_upload_add,   [WALK_PART_ADD] = walk_part_add,
        [WALK_UPLOAD_MOVE] = walk_upload_move, [WALK_UPLOAD_REAP] = walk_upload_reap,
        [WALK_PART_FORGET] = walk_part_forget, [WALK_BATCH_ADD] = walk_batch_add,
        [WALK_BATCH_MOVE] = walk_batch_move,   [WALK_BATCH_EDIT] = walk_batch_edit,
        [WALK_SETTLE] = walk_settle,           [WALK_PURGE] = walk_purge,
    };

    return all[s->op](st, s);
}

/* ---- what can be seen ---------------------------------------------------------------*/

#define WALK_NUM(x) ((long long)(x))

static void walk_see_files(struct store *st, struct buf *out)
{
    struct file_query q = {.limit = 2 * WALK_MAX, .ascending = true};
    struct file_rec *all = NULL;
    size_t n = 0;
    bool more;

    EQ_RC(st->ops->file_list(st->self, &q, &all, &n, &more, NULL), RC_OK);
    OK(!more);
    for (size_t i = 0; i < n; i++) {
        EQ_RC(buf_fmt(out, "%s %s %s %s %lld %d %lld %lld\n", all[i].id.z,
                      all[i].project.z, all[i].purpose, all[i].filename,
                      WALK_NUM(all[i].bytes), all[i].sha256[0],
                      WALK_NUM(all[i].created_at), WALK_NUM(all[i].expires_at)),
              RC_OK);
        file_rec_done(&all[i]);
    }
    mem_free(all);
}

static void walk_see_uploads(struct store *st, const struct walk *w, struct buf *out)
{
    for (unsigned i = 0; i < w->uploads; i++) {
        struct id id = walk_id(ID_UPLOAD, i);
        struct part_rec *all = NULL;
        struct upload_rec u;
        size_t n = 0;

        if (st->ops->upload_get(st->self, NULL, id.z, &u, NULL) != RC_OK)
            continue;
        EQ_RC(buf_fmt(out, "%s %s %s %s %s %lld %lld %lld %lld\n", u.id.z, u.project.z,
                      upload_status_name(u.status), u.filename, u.file.z,
                      WALK_NUM(u.bytes), WALK_NUM(u.created_at), WALK_NUM(u.expires_at),
                      WALK_NUM(u.ended_at)),
              RC_OK);
        upload_rec_done(&u);
        EQ_RC(st->ops->part_list(st->self, NULL, id.z, &all, &n, NULL), RC_OK);
        for (size_t k = 0; k < n; k++)
            EQ_RC(buf_fmt(out, "  %s %lld %d %lld\n", all[k].id.z, WALK_NUM(all[k].bytes),
                          all[k].sha256[1], WALK_NUM(all[k].created_at)),
                  RC_OK);
        mem_free(all);
    }
}

static const char *walk_text(const char *z)
{
    return z ? z : "-";
}

static void walk_see_batch(const struct batch *b, struct buf *out)
{
    batch_put_json(b, out);
    EQ_RC(buf_fmt(out, " %s %d %d %d %u %s %u %s %s %d\n", b->project.z, b->input_missing,
                  b->priority, b->paused, b->hold, b->continue_from.z, b->reused,
                  walk_text(b->callback_url), walk_text(b->idempotency_key),
                  b->request_hash[5]),
          RC_OK);
}

/* Events have random ids: only whether two are the same is told. */
static void walk_see_events(struct store *st, const char *batch, struct buf *out)
{
    struct outbox_rec *all = NULL;
    size_t n;

    EQ_RC(st->ops->outbox_list(st->self, NULL, batch, &all, &n, NULL), RC_OK);
    for (size_t i = 0; i < n; i++)
        EQ_RC(buf_fmt(out, "  %lld %d %s %s %s %lld %lld %lld %u %d %d %s\n",
                      WALK_NUM(all[i].seq), strcmp(all[i].event.z, all[0].event.z) == 0,
                      all[i].project.z, all[i].type, all[i].destination,
                      WALK_NUM(all[i].created_at), WALK_NUM(all[i].next_at),
                      WALK_NUM(all[i].settled_at), all[i].tries, all[i].delivered,
                      all[i].status, walk_text(all[i].error)),
              RC_OK);
    outbox_free(all, n);
}

static void walk_see_batches(struct store *st, struct buf *out)
{
    struct batch *all = NULL;
    size_t n = 0;
    bool more;

    EQ_RC(st->ops->batch_list(st->self, NULL, NULL, WALK_MAX, &all, &n, &more, NULL),
          RC_OK);
    OK(!more);
    for (size_t i = 0; i < n; i++) {
        walk_see_batch(&all[i], out);
        walk_see_events(st, all[i].id.z, out);
        batch_done(&all[i]);
    }
    mem_free(all);
}

static void walk_see_known(struct store *st, const char *prefix, unsigned n,
                           struct buf *out)
{
    for (unsigned i = 0; i < n; i++) {
        struct id id = walk_id(prefix, i);
        bool known;

        EQ_RC(st->ops->file_known(st->self, id.z, &known, NULL), RC_OK);
        EQ_RC(buf_z(out, known ? "1" : "0"), RC_OK);
    }
    EQ_RC(buf_z(out, "\n"), RC_OK);
}

static void walk_see_sums(struct store *st, struct buf *out)
{
    static const struct id projects[] = {{"proj-1"}, {"proj-2"}};
    uint64_t pending;
    int64_t floor;

    for (size_t i = 0; i <= COUNTOF(projects); i++) {
        struct project_usage u;

        EQ_RC(st->ops->usage_of(st->self, i < COUNTOF(projects) ? &projects[i] : NULL, &u,
                                NULL),
              RC_OK);
        EQ_RC(buf_fmt(out, "%lld %lld %lld\n", WALK_NUM(u.files), WALK_NUM(u.bytes),
                      WALK_NUM(u.live_batches)),
              RC_OK);
    }
    EQ_RC(st->ops->outbox_pending(st->self, &pending, NULL), RC_OK);
    EQ_RC(st->ops->clock_floor(st->self, &floor, NULL), RC_OK);
    EQ_RC(buf_fmt(out, "pending %lld floor %lld\n", WALK_NUM(pending), WALK_NUM(floor)),
          RC_OK);
}

/* Everything, as text; the caller's to mem_free. */
static char *walk_see(struct store *st, const struct walk *w)
{
    struct buf out;
    size_t n;

    buf_init(&out, (size_t)64 << 20);
    walk_see_files(st, &out);
    walk_see_uploads(st, w, &out);
    walk_see_batches(st, &out);
    walk_see_known(st, ID_FILE, w->files, &out);
    walk_see_known(st, ID_PART, w->parts, &out);
    walk_see_sums(st, &out);
    EQ_RC(buf_add(&out, "", 1), RC_OK);
    return buf_take(&out, &n);
}

/* ---- the walk of the store in memory ------------------------------------------------*/

static void walk_begin(struct walk *w, uint64_t seed, unsigned n)
{
    struct mem_store *m = mem_store_new();

    walk_plan(w, seed, n);
    w->seen[0] = walk_see(&m->store, w);
    for (unsigned i = 0; i < n; i++) {
        w->rc[i] = walk_step(&m->store, &w->steps[i]);
        w->seen[i + 1] = walk_see(&m->store, w);
    }
    mem_store_free(m);
}

static void walk_end(struct walk *w)
{
    for (unsigned i = 0; i <= w->n; i++)
        mem_free(w->seen[i]);
}

/* How many steps the store has taken: from, or one more when step `from` was under way. */
static unsigned walk_taken(struct store *st, const struct walk *w, unsigned from,
                           bool under_way)
{
    char *now = walk_see(st, w);
    unsigned taken = from;

    if (under_way && strcmp(now, w->seen[from]) != 0)
        taken++;
    if (strcmp(now, w->seen[taken]) != 0) {
        t_note("it shows:\n%s\nand should show:\n%s", now, w->seen[taken]);
        FAIL("after step %u (operation %d) the store is not what it should be", taken,
             taken ? (int)w->steps[taken - 1].op : -1);
    }
    mem_free(now);
    return taken;
}
