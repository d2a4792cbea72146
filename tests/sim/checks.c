/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The invariants of docs/reliability.md, as seen from outside the process: what its rows, its
 * files, its board and its calls say is held against what the world did.
 */
#include "tests/sim/sim.h"
#include "tests/sim/disk.h"
#include "tests/sim/loop.h"

#include "base/mem.h"
#include "base/wall.h"
#include "engine/board.h"
#include "http/client.h"
#include "store/reslog_tail.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* Each with the checks that stand for it. */
static const char *const invariants[INVARIANTS] = {
    [I1] = "I1 every line exactly once over output and error",
    [I2] = "I2 counts agree with the files, and count only what is on disk",
    [I5] = "I5 a result that was told never changes",
    [I6] = "I6 one terminal state, never left; timestamps agree with the path",
    [I7] = "I7 counts never fall",
    [I8] = "I8 what was told is true after any crash; a broken promise ends the process",
    [I9] = "I9 every row has its file; nothing of finished batches is left",
    [I10] = "I10 when faults stop, every batch ends",
    [I11] = "I11 no line runs more often than failures and crashes excuse",
    [I12] = "I12 only an answer that the process took becomes a result",
    [I14] = "I14 memory, descriptors, calls, timers and threads are given back",
    [I16] = "I16 one event for each end and destination, delivered or given up",
    [P1] = "P1 nothing is sent for a batch that is paused, held or closed",
    [P2] = "P2 nothing is sent past the deadline",
    [P3] = "P3 the limits of calls in flight hold",
    [P4] = "P4 lines that ask the same get one call, and its answer",
};

static char failure[512];

void violated(enum invariant i, const char *fmt, ...)
{
    char text[320];
    va_list ap;

    if (failure[0])
        return; /* the first one is the one to look at */
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    (void)snprintf(failure, sizeof failure, "%s: %s", invariants[i], text);
    TOLD("VIOLATED %s", failure);
}

bool check_failed(void)
{
    return failure[0] != '\0';
}

const char *check_failure(void)
{
    return failure;
}

void check_reset(void)
{
    failure[0] = '\0';
}

/* --- Result files -------------------------------------------------------------------- */

struct reading {
    struct subject *s;
    const struct batch *b;
    bool seen[LINES];
    uint32_t lines[2]; /* output, error */
};

static const char *member(struct str line, const char *name)
{
    const char *at = memmem(line.p, line.n, name, strlen(name));

    return at ? at + strlen(name) : NULL;
}

/* Is `one` the subject, or does the subject continue from it? */
static bool descends(const struct subject *s, unsigned one)
{
    while (s->number != one && s->from >= 0)
        s = &truth.subjects[s->from];
    return s->number == one;
}

/* Is what `which` was answered the answer of `item`? */
static bool answers(const struct subject *s, unsigned which, unsigned item)
{
    const struct line_truth *all = truth.inputs[s->input].line;

    return which == item || all[item].asks == which;
}

static void check_answer(const struct reading *r, struct str line, unsigned item)
{
    const char *serial = member(line, "\"serial\":");
    unsigned subject, which;
    long status;

    if (!serial ||
        !execution_find((uint32_t)strtoul(serial, NULL, 10), &subject, &which, &status) ||
        !descends(r->s, subject) || !answers(r->s, which, item))
        violated(I1, "batch %u: the output of line %u is not an answer to it",
                 r->s->number, item);
    else if (status != 200)
        violated(I12, "batch %u line %u: the answer of execution %.*s was never taken",
                 r->s->number, item, 8, serial);
}

static void check_error(const struct reading *r, struct str line, unsigned item)
{
    bool expired = member(line, "\"batch_expired\"") != NULL;
    bool cancelled = member(line, "\"batch_cancelled\"") != NULL;

    if (member(line, "\"serial\":"))
        violated(I1, "batch %u: line %u was answered and stands among the errors",
                 r->s->number, item);
    /* What a damaged log lost after its last moment. */
    if ((expired && r->b->status != BATCH_EXPIRED && !r->s->damaged) ||
        (cancelled && r->b->status != BATCH_CANCELLED))
        violated(I1, "batch %u is %s, its line %u says otherwise", r->s->number,
                 batch_status_name(r->b->status), item);
    if ((expired || cancelled) && r->s->run[item].durable)
        violated(I5, "batch %u: line %u had its result and lost it", r->s->number, item);
}

static void check_line(struct reading *r, struct str line, bool output, long *last)
{
    const struct line_run *run;
    const char *id = member(line, "\"custom_id\":\"c");
    long item = id ? strtol(id, NULL, 10) : -1;
    const struct input *in = &truth.inputs[r->s->input];

    if (item < 0 || item >= (long)in->lines || r->seen[item] || item <= *last) {
        violated(I1,
                 "batch %u: line %ld is there twice, out of order or not of its input",
                 r->s->number, item);
        return;
    }
    *last = item;
    r->seen[item] = true;
    run = &r->s->run[item];
    if (run->durable && run->hash != XXH3_64bits(line.p, line.n))
        violated(I5, "batch %u: the result of line %ld is not the one that was told",
                 r->s->number, item);
    if (output)
        check_answer(r, line, (unsigned)item);
    else
        check_error(r, line, (unsigned)item);
}

static void check_file(struct reading *r, const struct id *file, bool output)
{
    struct str rest = {0};
    long last = -1;

    if (id_none(file))
        return;
    rest.p = ledger_content(file->z, &rest.n);
    if (!rest.p) {
        violated(I9, "batch %u: the bytes of its file %s are gone", r->s->number,
                 file->z);
        return;
    }
    while (rest.n && !check_failed()) {
        const char *end = memchr(rest.p, '\n', rest.n);
        struct str line = {rest.p, end ? (size_t)(end - rest.p) + 1 : rest.n};

        if (!end)
            violated(I1, "batch %u: a file has no line feed at its end", r->s->number);
        check_line(r, line, output, &last);
        r->lines[!output]++;
        rest.p += line.n;
        rest.n -= line.n;
    }
}

/* For bad lines, a model that nobody serves, no room, or files that are gone. */
static bool may_be_refused(const struct subject *s)
{
    return truth.inputs[s->input].bad || s->may_fail || plan.moving_models ||
           plan.projects[s->project].max_lines;
}

/* A batch that was refused has none; one that was cancelled before it was looked at may. */
static void check_files(struct subject *s, const struct batch *b)
{
    struct reading r = {.s = s, .b = b};
    const struct batch_counts *c = &b->counts;

    check_file(&r, &b->output_file, true);
    check_file(&r, &b->error_file, false);
    if (check_failed())
        return;
    if (r.lines[0] != c->completed || r.lines[1] != c->failed ||
        c->completed + c->failed != c->total)
        violated(I2,
                 "batch %u: its counts are %u, %u of %u; its files have %u and %u lines",
                 s->number, c->completed, c->failed, c->total, r.lines[0], r.lines[1]);
    if (c->total != truth.inputs[s->input].lines &&
        !(c->total == 0 && (b->status == BATCH_FAILED || may_be_refused(s))))
        violated(I1, "batch %u: %u lines of %u", s->number, c->total,
                 truth.inputs[s->input].lines);
}

/* --- Rows ---------------------------------------------------------------------------- */

struct stamps {
    int64_t t[9];
};

static struct stamps stamps_of(const struct batch *b)
{
    return (struct stamps){{b->created_at, b->in_progress_at, b->finalizing_at,
                            b->cancelling_at, b->completed_at, b->failed_at,
                            b->expired_at, b->cancelled_at, 0}};
}

/* Those of the path, in its order; the other ends are null. */
static void check_stamps(const struct subject *s, const struct batch *b)
{
    struct stamps now = stamps_of(b), was = stamps_of(&s->row);
    const int64_t ends[] = {b->completed_at, b->failed_at, b->expired_at,
                            b->cancelled_at};
    const enum batch_status of[] = {BATCH_COMPLETED, BATCH_FAILED, BATCH_EXPIRED,
                                    BATCH_CANCELLED};
    int64_t last = 0;

    for (unsigned i = 0; s->added && i < 8; i++)
        if (was.t[i] && now.t[i] != was.t[i])
            violated(I6, "batch %u: a timestamp changed from %lld to %lld", s->number,
                     (long long)was.t[i], (long long)now.t[i]);
    for (unsigned i = 0; i < 8; i++) {
        if (now.t[i] && now.t[i] < last)
            violated(I6, "batch %u: its timestamps run backwards", s->number);
        last = now.t[i] ? now.t[i] : last;
    }
    for (unsigned i = 0; i < 4; i++)
        if ((ends[i] != 0) != (b->status == of[i]))
            violated(I6, "batch %u: %s does not agree with its timestamps", s->number,
                     batch_status_name(b->status));
}

/* A clock that was right at the start and jumps later is not believed for an hour; but for
 * small steps, by which the program goes. */
static bool too_early(const struct batch *b)
{
    usec_t now = world.now + world.true_offset, at = b->expires_at * USEC_PER_SEC;

    if (!process.clock_right ||
        (world.jumped_at && world.now - world.jumped_at >= WALL_SETTLE))
        return false;
    return now + (world.jumped_at ? WALL_TOLERANCE : 0) < at;
}

static void check_path(struct subject *s, const struct batch *b)
{
    bool expires = b->expiring && !s->row.expiring;

    if (expires && too_early(b))
        violated(I6, "batch %u expires %lld s before its time", s->number,
                 (long long)(b->expires_at - clock_due_sec()));
    if (b->status == BATCH_EXPIRED && !b->expiring)
        violated(I6, "batch %u is expired and never was expiring", s->number);
    if (s->asked_cancel && batch_terminal(b->status) && b->status != BATCH_CANCELLED)
        violated(I8, "batch %u ends as %s after its cancel was confirmed", s->number,
                 batch_status_name(b->status));
    if (b->status == BATCH_FAILED && !may_be_refused(s))
        violated(I8, "batch %u is refused without a reason: %s", s->number,
                 b->errors ? b->errors : "(none)");
}

struct event_count {
    const struct subject *s;
    unsigned n;
    struct id event;
};

static void count_event(void *ctx, const struct outbox_rec *o)
{
    struct event_count *c = ctx;

    if (strcmp(o->batch.z, c->s->id.z) != 0)
        return;
    if (c->n && strcmp(c->event.z, o->event.z) != 0)
        violated(I16, "batch %u has two events", c->s->number);
    c->event = o->event;
    c->n++;
}

static void check_outbox(const struct subject *s)
{
    struct event_count c = {.s = s};

    ledger_each_event(count_event, &c);
    if (c.n != (s->ended ? plan.n_hooks : 0))
        violated(I16, "batch %u, %s: %u events for %u destinations", s->number,
                 batch_status_name(s->row.status), c.n, plan.n_hooks);
}

static bool edited(const struct batch *a, const struct batch *b)
{
    return a->paused != b->paused || a->hold != b->hold ||
           a->expires_at != b->expires_at || a->priority != b->priority;
}

static void check_counts(struct subject *s, const struct batch *b)
{
    if (s->damaged || b->status == BATCH_VALIDATING || b->status == BATCH_FAILED)
        return;
    if (batch_terminal(b->status) &&
        (b->counts.completed < s->told.completed || b->counts.failed < s->told.failed))
        violated(I7, "batch %u ends with %u and %u after %u and %u were told", s->number,
                 b->counts.completed, b->counts.failed, s->told.completed,
                 s->told.failed);
}

void check_row(struct subject *s, const struct batch *b)
{
    bool first = !s->added;

    if (s->ended)
        violated(I6, "batch %u changes after its end", s->number);
    check_stamps(s, b);
    if (!first)
        check_path(s, b);
    check_counts(s, b);
    if (!first && edited(&s->row, b)) {
        s->edits++;
        s->edit_life = world.life;
    }
    if (first || s->row.status != b->status)
        s->status_life = world.life;
    s->added = true;
    s->row = *b;
    s->row.model = s->row.errors = s->row.metadata = NULL;
    trace_mix(s->number * 16u + (uint64_t)b->status);
    TOLD("row: batch %u is %s, %u + %u of %u; ends in %lld s", s->number,
         batch_status_name(b->status), b->counts.completed, b->counts.failed,
         b->counts.total, (long long)(b->expires_at - clock_due_sec()));
    if (b->input_missing)
        s->may_fail = true;
    if (!batch_terminal(b->status))
        return;
    s->ended = true;
    s->ended_at = world.now;
    truth.ended[b->status]++;
    check_files(s, b);
}

/* --- Calls --------------------------------------------------------------------------- */

/* The process knows of the edits that the row has. */
static bool edits_known(const struct subject *s)
{
    return s->edits == 0 || s->edit_life != world.life ||
           (s->edits_told == s->edits && s->told_life == world.life &&
            loop_mail_received(engine_loop()) >= s->edit_mail);
}

static bool cancel_known(const struct subject *s)
{
    return s->status_life != world.life ||
           (s->asked_cancel && s->cancel_life == world.life &&
            loop_mail_received(engine_loop()) >= s->cancel_mail);
}

static void check_body(const struct subject *s, unsigned item, const struct http_call *c)
{
    const struct input *in = &truth.inputs[s->input];
    const struct line_truth *line = &in->line[item];
    struct str want = {in->text + line->body_off, line->body_n};
    struct buf other;

    buf_init(&other, 128);
    if (plan.alias && memmem(want.p, want.n, "alias", 5)) {
        body_put(&other, line, "m");
        want = buf_peek(&other);
    }
    if (!str_eq(want, c->body))
        violated(I1, "batch %u: other bytes were sent for line %u", s->number, item);
    buf_done(&other);
}

/* A second call for a line in flight, on another upstream, where that is allowed. */
static bool is_hedge(const struct subject *s, unsigned item, int up)
{
    int other = -1;

    return servers_lines_of(s, item, &other) == 1 && other != up &&
           plan.ups[other].hedge != HEDGE_OFF;
}

/* Once, and again only when what became of it excuses that. */
static void check_execution(struct subject *s, unsigned item, int up)
{
    struct line_run *run = &s->run[item];

    if (run->life != world.life) {
        if (run->state != LINE_IDLE) {
            run->state = LINE_IDLE; /* a crash caught it */
            run->excused++;
        }
        run->flights = 0;
    }
    if (run->state == LINE_FLYING && is_hedge(s, item, up)) {
        run->excused++;
        return;
    }
    if (run->state != LINE_IDLE || run->executions > run->excused)
        violated(I11, "batch %u: line %u is sent again %s", s->number, item,
                 run->state == LINE_FLYING ? "in flight" : "after its answer");
    if (run->durable)
        violated(I11, "batch %u: line %u is sent again after its result was told",
                 s->number, item);
}

/* One that another line leads goes only when that was tried and has no answer. */
static void check_leader(const struct subject *s, unsigned item)
{
    unsigned leader = truth.inputs[s->input].line[item].asks;

    if (leader == item || s->damaged)
        return;
    if (s->run[leader].good)
        violated(P4,
                 "batch %u: line %u is sent, and line %u that asks the same has its "
                 "answer",
                 s->number, item, leader);
    if (!s->run[leader].executions && !s->run[leader].durable && s->from < 0)
        violated(P4, "batch %u: line %u is sent before line %u that asks the same",
                 s->number, item, leader);
}

/* What was lost with a damaged log runs again. */
static bool may_send(const struct subject *s)
{
    enum batch_status status = s->row.status;

    return status == BATCH_IN_PROGRESS || (status == BATCH_FINALIZING && s->damaged) ||
           (status == BATCH_CANCELLING && !cancel_known(s));
}

void check_send(struct subject *s, unsigned item, const struct http_call *c, int up)
{
    const struct batch *b = &s->row;

    check_execution(s, item, up);
    check_leader(s, item);
    if (!may_send(s))
        violated(P1, "batch %u is %s, and its line %u is sent", s->number,
                 batch_status_name(b->status), item);
    if (b->status == BATCH_IN_PROGRESS && edits_known(s) &&
        (b->paused || (b->hold && item >= b->hold)))
        violated(P1, "batch %u: line %u is sent; paused %d, hold %u", s->number, item,
                 b->paused, b->hold);
    if (edits_known(s) && !s->jumped && clock_due_sec() >= b->expires_at)
        violated(P2, "batch %u: line %u is sent %lld s past its deadline", s->number,
                 item, (long long)(clock_due_sec() - b->expires_at));
    check_body(s, item, c);
}

/* --- What is published --------------------------------------------------------------- */

/* Reads the log as a client that streams results does. */
static void read_log(struct subject *s, const struct batch_counts *counts,
                     const struct reslog_mark *mark)
{
    struct reslog_tail *t =
        reslog_tail_new("spool", &s->id, truth.inputs[s->input].lines);
    struct reslog_tail_rec rec;
    uint32_t found[2] = {0, 0};
    struct err e = {""};
    enum rc rc;

    while ((rc = reslog_tail_next(t, mark, &rec, &e)) == RC_OK) {
        struct line_run *run = &s->run[rec.item];
        char line[4096];
        uint64_t hash;

        CHECK(rec.length <= sizeof line);
        CHECK(reslog_tail_read(t, line, rec.length, &e) == RC_OK);
        hash = XXH3_64bits(line, rec.length);
        if (run->durable && run->hash != hash)
            violated(I5, "batch %u: the result of line %u has changed", s->number,
                     rec.item);
        run->durable = true;
        run->good = rec.kind == RESULT_OUTPUT;
        run->hash = hash;
        found[rec.kind == RESULT_ERROR]++;
    }
    reslog_tail_free(t);
    if (rc != RC_NOTFOUND)
        violated(I2, "batch %u: its log cannot be read: %s %s", s->number, rc_name(rc),
                 e.text);
    else if (found[0] != counts->completed || found[1] != counts->failed)
        violated(I2, "batch %u: %u and %u are told, its log has %u and %u", s->number,
                 counts->completed, counts->failed, found[0], found[1]);
}

void check_published(struct subject *s, const struct batch_counts *counts,
                     const struct reslog_mark *mark, uint32_t items)
{
    char name[ID_CAP + 32];

    if (mark->segment == 0)
        return;
    if (items != truth.inputs[s->input].lines ||
        counts->completed + counts->failed > items)
        violated(I2, "batch %u: %u and %u of %u are told", s->number, counts->completed,
                 counts->failed, items);
    if (!s->damaged &&
        (counts->completed < s->told.completed || counts->failed < s->told.failed))
        violated(I7, "batch %u: %u and %u are told after %u and %u", s->number,
                 counts->completed, counts->failed, s->told.completed, s->told.failed);
    CHECK(str_fmt(name, sizeof name, "%s.%06u.log", s->id.z, mark->segment) == RC_OK);
    if (!disk_durable(name, mark->end))
        violated(I2, "batch %u: results are told that are not on disk", s->number);
    if (s->damaged || !s->row.in_progress_at) /* nobody is shown them */
        return;
    s->told = *counts;
    if (counts->completed + counts->failed && chance(1, 3))
        read_log(s, counts, mark);
}

void __real_board_set(struct board *b, const struct id *batch,
                      const struct board_entry *e);
void __wrap_board_set(struct board *b, const struct id *batch,
                      const struct board_entry *e);
void __wrap_board_set(struct board *b, const struct id *batch,
                      const struct board_entry *e)
{
    struct subject *s = subject_find(batch->z);
    enum arena was = arena_use(ARENA_WORLD);

    coro_hold(true);
    if (s)
        check_published(s, &e->counts, &e->log, e->counts.total);
    coro_hold(false);
    arena_use(was);
    __real_board_set(b, batch, e);
}

/* --- At any time, and at the end ----------------------------------------------------- */

void check_event(void)
{
    if (process.broken && !process.dead_told && !process.stopping && !process.booting &&
        process.engine && world.now - process.broken > 300 * USEC_PER_SEC)
        violated(I8, "a sync failed %lld s ago, and the process goes on",
                 (long long)((world.now - process.broken) / USEC_PER_SEC));
}

static void check_delivery(void *ctx, const struct outbox_rec *o)
{
    unsigned hook = (unsigned)(o->destination[4] - '0');

    (void)ctx;
    if (!o->settled_at)
        violated(I16, "event %s for %s is neither delivered nor given up", o->event.z,
                 o->destination);
    if (o->delivered && !hook_deliveries(o->event.z, hook))
        violated(I16, "event %s never came to %s", o->event.z, o->destination);
}

void check_end(void)
{
    for (unsigned i = 0; i < truth.n_subjects; i++) {
        struct subject *s = &truth.subjects[i];

        if (!s->added)
            continue;
        if (!s->ended)
            violated(I10, "batch %u is still %s", i, batch_status_name(s->row.status));
        check_outbox(s);
        check_files(s, &s->row); /* also what was deleted since may not be gone */
    }
    ledger_each_event(check_delivery, NULL);
    if (disk_files())
        violated(I9, "%s is left of a batch that has ended", disk_any_file());
}
