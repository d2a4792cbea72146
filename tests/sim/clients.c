/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The clients: what the API's handlers do for them (api/create.c, api/batches.c,
 * api/control.c, app/janitor.c), each on a thread of the process, so that a crash in the
 * middle leaves it half done.
 */
#include "tests/sim/sim.h"
#include "tests/sim/loop.h"

#include "base/mem.h"

struct errand {
    coro_fn *fn;
    struct subject *subject;
    struct input *input;
    struct batch_edit edit;
};

static struct errand *errand_new(struct subject *s)
{
    enum arena was = arena_use(ARENA_WORLD); /* a crash does not take it along */
    struct errand *a = mem_new(struct errand);

    a->subject = s;
    arena_use(was);
    return a;
}

struct subject *subject_find(const char *batch)
{
    for (unsigned i = 0; i < truth.n_subjects; i++)
        if (strcmp(truth.subjects[i].id.z, batch) == 0)
            return &truth.subjects[i];
    return NULL;
}

static void errand_body(void *ctx)
{
    struct errand *a = ctx;

    a->fn(a);
    process.clients--;
    coro_wake(&process.clients);
}

static void run(coro_fn *fn, struct errand *a)
{
    a->fn = fn;
    process.clients++;
    coro_spawn(errand_body, a);
}

/* --- Inputs -------------------------------------------------------------------------- */

void body_put(struct buf *b, const struct line_truth *line, const char *name)
{
    (void)buf_fmt(b, "{\"model\":\"%s%u\",\"n%s\":%u%s}", name, line->model,
                  plan.engine.dedup ? "umber" : "", line->asks,
                  plan.engine.dedup ? ",\"temperature\":0" : "");
}

static void put_line(struct buf *b, struct input *in, unsigned number)
{
    struct line_truth *line = &in->line[in->lines++];
    unsigned i = in->lines - 1;

    line->number = number;
    line->off = (uint32_t)b->n;
    line->model =
        (uint8_t)(in->several ? chance_below(plan.n_models) : in->line[0].model);
    line->poison = plan.poison && chance(1, 24);
    line->asks = i;
    if (plan.engine.dedup && i && chance(1, 3)) {
        const struct line_truth *same = &in->line[in->line[chance_below(i)].asks];

        line->asks = same->asks;
        line->model = same->model;
        line->poison = same->poison;
    }
    (void)buf_fmt(b,
                  "{\"custom_id\":\"c%u\",\"method\":\"POST\",\"url\":"
                  "\"/v1/chat/completions\",\"body\":",
                  i);
    line->body_off = (uint32_t)b->n;
    body_put(b, line, plan.alias && line->asks % 5 == 4 ? "alias" : "m");
    line->body_n = (uint32_t)b->n - line->body_off;
    (void)buf_char(b, '}');
    line->n = (uint32_t)b->n - line->off;
}

static struct input *input_draw(void)
{
    struct input *in = &truth.inputs[truth.n_inputs++];
    unsigned lines = 1 + (unsigned)chance_time(1, LINES - 1), number = 0;
    struct buf b;

    *in = (struct input){.project = chance_below(plan.n_projects)};
    in->file = id_make(ID_FILE);
    in->several = plan.engine.many_models && chance(1, 2);
    in->line[0].model = (uint8_t)chance_below(plan.n_models);
    in->bad = chance(1, 24);
    buf_init(&b, 1 << 20);
    for (unsigned i = 0; i < lines; i++) {
        number++;
        if (chance(1, 16)) {
            number++;
            (void)buf_char(&b, '\n');
        }
        put_line(&b, in, number);
        if (i + 1 < lines || chance(3, 4))
            (void)buf_char(&b, '\n');
    }
    if (in->bad)
        (void)buf_z(&b, "\n{\"custom_id\":\"c0\"");
    in->text = buf_take(&b, &in->n);
    return in;
}

/* --- Creating ------------------------------------------------------------------------ */

static enum rc upload(struct input *in, struct err *e)
{
    struct file_rec f = {
        .id = in->file, .purpose = "batch", .created_at = clock_wall_sec()};
    struct blob_sum sum = {0};
    struct blob_put *p = NULL;
    enum rc rc = ledger_blobs.ops->remove(ledger_blobs.self, in->file.z, e);

    if (rc == RC_OK)
        rc = ledger_blobs.ops->put(ledger_blobs.self, &p, e);
    if (rc == RC_OK) {
        rc = ledger_blobs.ops->write(p, in->text, in->n, e);
        if (rc != RC_OK)
            ledger_blobs.ops->abort(p);
    }
    if (rc == RC_OK)
        rc = ledger_blobs.ops->commit(p, in->file.z, &sum, e);
    if (rc != RC_OK)
        return rc;
    f.bytes = sum.bytes;
    CHECK(str_fmt(f.project.z, ID_CAP, "p%u", in->project) == RC_OK);
    rc = ledger.ops->file_add(ledger.self, &f, NULL, e);
    in->added = in->added || rc == RC_OK;
    return rc;
}

static void create(void *ctx)
{
    struct errand *a = ctx;
    struct subject *s = a->subject;
    struct input *in = &truth.inputs[s->input];
    struct batch b = {.id = s->id, .input_file = in->file, .endpoint = ENDPOINT_CHAT};
    struct err e;

    if (!in->added) {
        enum rc rc;

        if (in->uploading == world.life)
            return;
        in->uploading = world.life;
        rc = upload(in, &e);
        in->uploading = 0;
        if (rc != RC_OK)
            return;
    }
    CHECK(str_fmt(b.project.z, ID_CAP, "p%u", s->project) == RC_OK);
    CHECK(str_fmt(b.window, sizeof b.window, "%llds", (long long)s->window) == RC_OK);
    b.created_at = clock_wall_sec();
    b.expires_at = b.created_at + s->window;
    b.priority = (int)chance_below(3) - 1;
    if (s->from >= 0)
        b.continue_from = truth.subjects[s->from].id;
    if (s->creating == world.life)
        return;
    s->creating = world.life;
    if (ledger.ops->batch_add(ledger.self, &b, NULL, NULL, &e) == RC_OK)
        engine_submit(process.engine, &s->id);
    s->creating = 0;
    TOLD("client: batch %u is created", s->number);
}

/* from: the subject that it continues from, or -1. */
static void subject_draw(int from)
{
    struct subject *s = &truth.subjects[truth.n_subjects];
    enum arena was = arena_use(ARENA_WORLD);
    struct input *in;

    CHECK(truth.n_subjects < SUBJECTS);
    *s = (struct subject){.number = truth.n_subjects++, .from = from};
    s->id = id_make(ID_BATCH);
    if (from >= 0 || (truth.n_inputs && (truth.n_inputs == INPUTS || chance(1, 4)))) {
        s->input = from >= 0 ? truth.subjects[from].input : chance_below(truth.n_inputs);
        in = &truth.inputs[s->input];
    } else {
        s->input = truth.n_inputs;
        in = input_draw();
    }
    s->project = in->project;
    s->may_fail = from >= 0; /* what it continues from may be gone */
    s->window = chance(1, 3) ? chance_time(1, 60) : 86400;
    arena_use(was);
}

static void start_creating(void *ctx, uint64_t number)
{
    struct subject *s = &truth.subjects[number];

    (void)ctx;
    if (s->added || truth.inputs[s->input].deleted)
        return;
    if (process_up())
        run(create, errand_new(s));
    if (!world.calm)
        world_post(chance_time(USEC_PER_SEC, 60 * USEC_PER_SEC), start_creating, NULL,
                   number);
}

/* --- Operations ---------------------------------------------------------------------- */

static void cancel(void *ctx)
{
    struct errand *a = ctx;
    struct subject *s = a->subject;
    struct batch b = {0};
    struct err e;

    if (ledger.ops->batch_move(ledger.self, NULL, s->id.z, BATCH_EV_CANCEL,
                               clock_wall_sec(), NULL, &b, &e) == RC_OK) {
        engine_cancel(process.engine, &s->id);
        s->asked_cancel = true;
        s->cancel_mail = loop_mail_posted(engine_loop());
        s->cancel_life = world.life;
        TOLD("client: batch %u is cancelled", s->number);
    }
    batch_done(&b);
}

static void edit(void *ctx)
{
    struct errand *a = ctx;
    struct subject *s = a->subject;
    struct batch b = {0};
    struct err e;
    enum rc rc = engine_edit(process.engine, NULL, s->id.z, &a->edit, &b, &e);

    if (rc == RC_OK) {
        /* Others may have come between: what the row says now, the process has been told. */
        s->edits_told = s->edits;
        s->edit_mail = loop_mail_posted(engine_loop());
        s->told_life = world.life;
        TOLD("client: batch %u is edited: paused %d hold %u", s->number, b.paused,
             b.hold);
    }
    batch_done(&b);
}

static void ask(void *ctx)
{
    struct errand *a = ctx;
    struct engine_progress p;

    if (engine_progress(process.engine, &a->subject->id, &p) && p.counted)
        trace_mix(p.waiting + p.inflight);
}

/* What a client sees is never behind what was seen before it asked. */
static void look(void *ctx)
{
    struct errand *a = ctx;
    struct subject *s = a->subject;
    struct batch_counts told = s->told;
    bool ended = s->ended;
    struct batch b = {0};
    struct err e;

    if (engine_batch_view(process.engine, NULL, s->id.z, &b, &e) != RC_OK)
        return;
    if (!s->damaged &&
        (b.counts.completed < told.completed || b.counts.failed < told.failed))
        violated(I7, "batch %u shows %u completed and %u failed, after %u and %u",
                 s->number, b.counts.completed, b.counts.failed, told.completed,
                 told.failed);
    if (ended && !batch_terminal(b.status))
        violated(I6, "batch %u shows %s after its end", s->number,
                 batch_status_name(b.status));
    batch_done(&b);
}

static void delete_input(void *ctx)
{
    struct errand *a = ctx;
    struct err e;

    a->input->deleted = true;
    if (ledger.ops->file_delete(ledger.self, NULL, a->input->file.z, clock_wall_sec(),
                                &e) == RC_OK)
        TOLD("client: the input %s is deleted", a->input->file.z);
}

/* As app/janitor.c does every minute. */
static void reap(void *ctx)
{
    struct id ids[8];
    size_t n = 0;
    struct err e;
    enum rc rc =
        ledger.ops->file_reap(ledger.self, clock_wall_sec(), ids, COUNTOF(ids), &n, &e);

    (void)ctx;
    for (size_t i = 0; i < n && rc == RC_OK; i++) {
        rc = ledger_blobs.ops->remove(ledger_blobs.self, ids[i].z, &e);
        if (rc == RC_OK)
            rc = ledger.ops->file_forget(ledger.self, ids[i].z, &e);
    }
}

static void draw_edit(struct batch_edit *to)
{
    switch (chance_below(4)) {
    case 0:
        to->has_paused = to->paused = true;
        break;
    case 1:
        to->has_paused = to->has_hold = true;
        break;
    case 2:
        to->has_hold = true;
        to->hold = chance_below(LINES);
        break;
    default:
        to->has_window = true;
        to->window = "edited";
        to->expires_at = clock_wall_sec() + chance_time(1, 7200);
        break;
    }
    if (chance(1, 4)) {
        to->has_priority = true;
        to->priority = (int)chance_below(21) - 10;
    }
}

/* A new one that continues from it. */
static void retry(struct subject *s)
{
    unsigned number = truth.n_subjects;

    if (number == SUBJECTS || (!s->ended && chance(7, 8)))
        return;
    subject_draw((int)s->number);
    world_post(0, start_creating, NULL, number);
}

static void operate_on(struct subject *s)
{
    static coro_fn *const errands[] = {cancel, cancel, edit, edit, edit,
                                       edit,   ask,    look, reap, delete_input};
    unsigned which = chance_below(COUNTOF(errands) + 4);
    struct errand *a;

    if (which >= COUNTOF(errands)) {
        retry(s);
        return;
    }
    a = errand_new(s);
    a->input = &truth.inputs[s->input];
    draw_edit(&a->edit);
    if (errands[which] != delete_input || (a->input->added && chance(1, 3)))
        run(errands[which], a);
}

/* Several at the same instant now and then: that is where races are. */
static void operate(void *ctx, uint64_t left)
{
    (void)ctx;
    if (world.calm || left == 0)
        return;
    if (process_up() && truth.n_subjects) {
        struct subject *s = &truth.subjects[chance_below(truth.n_subjects)];

        for (unsigned n = chance(1, 4) ? 3 : 1; n && s->added; n--)
            operate_on(s);
    }
    world_post(chance_time(1000, plan.chaos / 4), operate, NULL, left - 1);
}

/* Expiry, cancel and the last result at one moment: a cancel for when the window ends. */
static void cancel_at_deadline(void *ctx, uint64_t number)
{
    struct subject *s = &truth.subjects[number];

    (void)ctx;
    if (process_up() && s->added && !s->ended)
        run(cancel, errand_new(s));
}

void clients_begin(void)
{
    for (unsigned i = 0; i < plan.subjects; i++) {
        usec_t at = chance_time(1, plan.chaos / 2);

        subject_draw(-1);
        world_post(at, start_creating, NULL, i);
        if (truth.subjects[i].window < 86400 && chance(1, 2))
            world_post(at + truth.subjects[i].window * USEC_PER_SEC +
                           (chance(1, 2) ? 0 : chance_time(1, 50000) - 20000),
                       cancel_at_deadline, NULL, i);
    }
    world_post(chance_time(1000, plan.chaos / 4), operate, NULL, plan.operations);
}

/* Nobody holds a batch back any more; those with a far deadline must come to an end. */
static void release(void *ctx, uint64_t number)
{
    struct subject *s = &truth.subjects[number];

    (void)ctx;
    if (s->added && !s->ended && process_up() && (s->row.paused || s->row.hold)) {
        struct errand *a = errand_new(s);

        a->edit.has_paused = a->edit.has_hold = true;
        run(edit, a);
    }
    if (!s->ended)
        world_post(20 * USEC_PER_SEC, release, NULL, number);
}

void clients_calm(void)
{
    for (unsigned i = 0; i < truth.n_subjects; i++)
        world_post(0, release, NULL, i);
}
