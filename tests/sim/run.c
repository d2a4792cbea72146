/* SPDX-License-Identifier: Apache-2.0 */
/* One run: a plan, its faults, then calm, in which everything must come to its end. */
#include "tests/sim/sim.h"
#include "tests/sim/disk.h"
#include "tests/sim/loop.h"

#include "base/mem.h"
#include "store/reslog.h"

/* Events of one run before and behind the calm: far more than any needs. */
#define EVENTS_CHAOS 12000
#define EVENTS_CALM  60000

/* --- Faults -------------------------------------------------------------------------- */

enum mischief { DISK_FULL, DISK_SLOW, WALL_JUMP, SLEEP, STOP, MISCHIEFS };

static usec_t latest_wall; /* offset of the wall clock */

static void set_wall(usec_t offset)
{
    if (!world.jumped_at && offset != world.wall_offset)
        world.jumped_at = world.now;
    for (unsigned i = 0; i < truth.n_subjects; i++)
        truth.subjects[i].jumped =
            truth.subjects[i].jumped || offset != world.wall_offset;
    world.wall_offset = offset;
}

static void jump(void)
{
    static const usec_t jumps[] = {-7200,    3600,      86400, -86400,
                                   31536000, -31536000, 1,     -1};

    set_wall(world.wall_offset + jumps[chance_below(COUNTOF(jumps))] * USEC_PER_SEC);
    latest_wall = world.wall_offset > latest_wall ? world.wall_offset : latest_wall;
}

static void mischief(void *ctx, uint64_t which)
{
    usec_t until = world.now + chance_time(USEC_PER_MS, 30 * USEC_PER_SEC);

    (void)ctx;
    if (world.calm)
        return;
    world.faults++;
    TOLD("fault: %u", (unsigned)which);
    if (which == DISK_FULL)
        world.full_until = until;
    else if (which == DISK_SLOW)
        world.slow_until = until;
    else if (which == WALL_JUMP)
        jump();
    else if (which == SLEEP)
        world_sleep(chance_time(USEC_PER_MS, chance(1, 8) ? 90000 * USEC_PER_SEC
                                                          : 100 * USEC_PER_SEC));
    else if (process_up())
        process_stop();
}

static void draw_mischief(void)
{
    const bool on[MISCHIEFS] = {plan.disk_full, plan.disk_slow, plan.wall_jumps,
                                plan.sleeps, true};

    for (unsigned i = 0; i < MISCHIEFS; i++)
        for (unsigned n = on[i] ? chance_below(4) : 0; n; n--)
            world_post(chance_time(1000, plan.chaos), mischief, NULL, i);
}

/* A bit of a log's records changes while nobody runs; the line may run again. */
static void rot(void)
{
    struct subject *s = &truth.subjects[chance_below(truth.n_subjects + 1)];

    if (!plan.rot || world.calm || s->number >= truth.n_subjects || !s->added ||
        s->ended || !chance(1, 2) || !disk_rot(s->id.z, 96))
        return;
    s->damaged = true;
    for (unsigned i = 0; i < LINES; i++)
        s->run[i].durable = false;
}

/* --- The results logs of a run may have small segments -------------------------------- */

enum rc __real_reslog_create(const char *spool, const struct id *batch, uint32_t items,
                             struct reslog **ret, struct err *e);
enum rc __wrap_reslog_create(const char *spool, const struct id *batch, uint32_t items,
                             struct reslog **ret, struct err *e);
enum rc __wrap_reslog_create(const char *spool, const struct id *batch, uint32_t items,
                             struct reslog **ret, struct err *e)
{
    enum rc rc = __real_reslog_create(spool, batch, items, ret, e);

    if (rc == RC_OK && plan.segment_bytes)
        reslog_segment_bytes(*ret, plan.segment_bytes);
    return rc;
}

enum rc __real_reslog_open(const char *spool, const struct id *batch, uint32_t items,
                           reslog_seen_fn *seen, void *ctx, struct reslog **ret,
                           uint64_t *ret_damaged, struct err *e);
enum rc __wrap_reslog_open(const char *spool, const struct id *batch, uint32_t items,
                           reslog_seen_fn *seen, void *ctx, struct reslog **ret,
                           uint64_t *ret_damaged, struct err *e);
enum rc __wrap_reslog_open(const char *spool, const struct id *batch, uint32_t items,
                           reslog_seen_fn *seen, void *ctx, struct reslog **ret,
                           uint64_t *ret_damaged, struct err *e)
{
    enum rc rc = __real_reslog_open(spool, batch, items, seen, ctx, ret, ret_damaged, e);
    const struct subject *s = subject_find(batch->z);

    if (rc == RC_OK && plan.segment_bytes)
        reslog_segment_bytes(*ret, plan.segment_bytes);
    if (rc == RC_OK && *ret_damaged && s && !s->damaged)
        violated(I5, "batch %u: its log is damaged, and nobody damaged it", s->number);
    return rc;
}

/* --- Crashes ------------------------------------------------------------------------- */

struct crashes {
    unsigned left;
    uint64_t next; /* at this event */
};

static void draw_crash(struct crashes *c)
{
    usec_t in = chance(1, 3) ? chance_time(1, 80) : chance_time(10, 3000);

    c->next = c->left ? world.events + (uint64_t)in : UINT64_MAX;
}

static void start_again(void)
{
    usec_t pause = world.calm || chance(3, 4)
                       ? chance_time(1000, USEC_PER_SEC)
                       : chance_time(USEC_PER_SEC, 600 * USEC_PER_SEC);

    rot();
    world_post(pause, process_boot, NULL, 0);
}

/* One event and what comes of it.  false: nothing happens until then. */
static bool step(struct crashes *c, usec_t until)
{
    if (!world_step(until))
        return false;
    check_event();
    if (process_after_event()) {
        start_again();
    } else if (world.events >= c->next && !world.calm) {
        if (process.engine || process.booting) {
            c->left--;
            process_die(chance(1, 2));
            start_again();
        }
        draw_crash(c);
    }
    return true;
}

/* --- The run ------------------------------------------------------------------------- */

static bool all_over(void)
{
    if (!process_up() || !ledger_settled() || process.clients)
        return false;
    for (unsigned i = 0; i < truth.n_subjects; i++)
        if (truth.subjects[i].added && !truth.subjects[i].ended)
            return false;
    return engine_idle(process.engine);
}

/* Three hours are more than pauses, probes, timeouts and the last tries of poisoned lines
 * take; webhooks that are given up take their time. */
static usec_t time_left(void)
{
    return 3 * 3600 * USEC_PER_SEC;
}

static void tell_what_stays(usec_t since)
{
    int number = -1;

    for (unsigned i = 0; i < truth.n_subjects; i++)
        if (truth.subjects[i].added && !truth.subjects[i].ended)
            number = (int)i;
    violated(I10,
             "%lld s after the last fault: process %s, batch %d is %s, events %s, "
             "%u clients wait",
             (long long)(since / USEC_PER_SEC), process_up() ? "up" : "down", number,
             number < 0 ? "at its end"
                        : batch_status_name(truth.subjects[number].row.status),
             ledger_settled() ? "settled" : "not settled", process.clients);
}

static void calm_down(struct crashes *c)
{
    usec_t until = world.now + time_left();
    uint64_t events = world.events + EVENTS_CALM;

    TOLD("calm");
    world.calm = true;
    world.full_until = world.slow_until = 0;
    set_wall(latest_wall); /* right again, and behind nothing that was written */
    servers_calm();
    clients_calm();
    while (!check_failed() && !all_over() && world.events < events && step(c, until))
        ;
    if (!check_failed() && !all_over())
        tell_what_stays(world.now - until + time_left());
}

/* With nothing to do: what is armed is the roster's, the engine's own, and no batch's. */
static void check_quiet(void)
{
    if (!check_failed() && loop_timers(engine_loop()) > plan.n_ups + 2)
        violated(I14, "%zu timers are armed and no batch is live",
                 loop_timers(engine_loop()));
}

static void stop_in_order(struct crashes *c)
{
    uint64_t life = world.life, events = world.events + EVENTS_CALM;

    process_stop();
    while (!check_failed() && world.life == life && world.events < events)
        if (!step(c, USEC_INFINITY))
            break;
    if (world.life == life)
        violated(I14, "it does not come to a stop");
}

/* The next start sweeps what a crash behind the last transaction left. */
static void start_and_stop(struct crashes *c)
{
    uint64_t events = world.events + EVENTS_CALM;

    while (!check_failed() && !all_over() && world.events < events &&
           step(c, USEC_INFINITY))
        ;
    check_quiet();
    if (!check_failed())
        stop_in_order(c);
}

bool run_seed(uint64_t seed, bool tell, struct run_result *ret)
{
    struct crashes c;
    usec_t start, until;

    world_begin(seed, tell);
    world.life = 1;
    plan_draw();
    truth = (struct truth){.n_subjects = 0};
    check_reset();
    servers_reset();
    ledger_reset();
    disk_reset();
    loops_reset();
    process_reset();
    c.left = plan.crashes;
    draw_crash(&c);
    latest_wall = world.wall_offset;
    start = world.now;
    until = start + plan.chaos;
    world_post(0, process_boot, NULL, 0);
    draw_mischief();
    clients_begin();
    while (!check_failed() && world.events < EVENTS_CHAOS && step(&c, until))
        ;
    if (world.now < until)
        world.now = until;
    calm_down(&c);
    for (unsigned i = 0; i < 2 && !check_failed(); i++)
        start_and_stop(&c);
    if (!check_failed())
        check_end();
    *ret = (struct run_result){world.trace, world.events, truth.crashes,
                               world.faults + truth.deaths, world.now - start};
    return !check_failed();
}
