/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process: started on what is durable, killed, cut off from its power, stopped in order;
 * what app/serve.c does around the engine.
 */
#include "tests/sim/sim.h"
#include "tests/sim/disk.h"
#include "tests/sim/loop.h"

#include "base/mem.h"
#include "base/wall.h"

#include <stdio.h>

struct process process;
struct truth truth;
static int64_t noted; /* the time as the process before told it; 0: none did */

void process_reset(void)
{
    process = (struct process){.engine = NULL};
    noted = 0;
}

bool process_up(void)
{
    return process.engine && !process.booting && !process.stopping && !process.dying;
}

static void last_word(void *ctx, uint64_t arg)
{
    (void)ctx, (void)arg;
    process.last_words = 0;
}

void process_is_dying(void)
{
    process.broken = process.broken ? process.broken : world.now;
    process.dead_told = true;
    if (process.dying)
        return;
    process.dying = true;
    process.last_words = chance_below(12);
    life_post(chance_time(100, USEC_PER_SEC), last_word, NULL, 0); /* it may be idle */
}

static void on_dead(void *ctx, const char *why)
{
    (void)ctx;
    TOLD("process: dead: %s", why);
    process_is_dying();
}

/* --- Start --------------------------------------------------------------------------- */

static enum rc start_hooks(struct err *e)
{
    static const char secret[] = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    static const char *const names[HOOKS] = {"hook0", "hook1"};
    static const char *const urls[HOOKS] = {"http://hook0/x", "http://hook1/y"};
    struct webhooks_destination list[HOOKS];
    struct webhooks_opts o = {.store = &ledger,
                              .destinations = list,
                              .n_destinations = plan.n_hooks,
                              .user_agent = "hooks",
                              .random = chance_u64,
                              .give_up = 600};

    for (unsigned i = 0; i < plan.n_hooks; i++)
        list[i] = (struct webhooks_destination){
            .name = names[i], .url = urls[i], .secrets = secret};
    return plan.hooks ? webhooks_new(&o, &process.hooks, e) : RC_OK;
}

static enum rc start_engine(struct err *e)
{
    static const char *const urls[UPS] = {"http://up0/v1", "http://up1/v1", "http://up2"};
    static char from[MODELS][8], to[MODELS][4];
    struct catalog_alias aliases[MODELS];
    struct engine_upstream ups[UPS];
    struct engine_opts o = plan.engine;

    for (unsigned i = 0; i < plan.n_ups; i++)
        ups[i] = (struct engine_upstream){.url = urls[i],
                                          .models = plan.ups[i].fixed ? "*" : NULL,
                                          .hedge = plan.ups[i].hedge,
                                          .max_inflight = plan.ups[i].window};
    for (unsigned i = 0; i < plan.n_models; i++) {
        CHECK(str_fmt(from[i], sizeof from[i], "alias%u", i) == RC_OK);
        CHECK(str_fmt(to[i], sizeof to[i], "m%u", i) == RC_OK);
        aliases[i] = (struct catalog_alias){from[i], to[i]};
    }
    o.store = &ledger;
    o.blobs = &ledger_blobs;
    o.spool = "spool";
    o.upstreams = ups;
    o.n_upstreams = plan.n_ups;
    o.projects = plan.projects;
    o.n_projects = plan.n_projects;
    o.aliases = aliases;
    o.n_aliases = plan.alias ? plan.n_models : 0;
    o.webhooks = process.hooks;
    o.on_dead = on_dead;
    return engine_new(&o, &process.engine, e);
}

static void boot(void *ctx)
{
    struct err e = {""};
    enum rc rc = start_hooks(&e);

    (void)ctx;
    if (rc == RC_OK)
        rc = start_engine(&e);
    process.booting = false;
    TOLD("process: started: %s %s", rc_name(rc), rc == RC_OK ? "" : e.text);
    if (rc != RC_OK)
        process_is_dying();
}

void process_boot(void *ctx, uint64_t arg)
{
    enum arena was = arena_use(ARENA_LIFE);

    (void)ctx, (void)arg;
    process.booting = true;
    process.clock_right = !world.jumped_at;
    clock_guard(noted, WALL_SETTLE);
    TOLD("process: life %u begins", world.life);
    coro_spawn(boot, NULL);
    arena_use(was);
}

/* --- End ----------------------------------------------------------------------------- */

/* The time is noted every ten minutes (app/janitor.c). */
static void over(void)
{
    int64_t now = clock_wall_sec() - chance_below(600);

    noted = now > noted ? now : noted;
    servers_life_over();
    ledger_life_over();
    loops_reset();
    life_end();
    process = (struct process){.engine = NULL};
}

void process_die(bool cut)
{
    TOLD("process: %s", cut ? "the power is cut" : "killed");
    truth.crashes++;
    truth.cuts += cut;
    truth.kills += !cut;
    over();
    if (cut)
        disk_cut();
    disk_life_over();
}

static void check_leaks(size_t blocks)
{
    unsigned clients = process.clients;

    if (blocks)
        violated(I14, "%zu blocks of memory were not given back", blocks);
    if (loops_open() || pools_open() || clients || coro_count())
        violated(I14, "%u loops, %u pools, %u and %zu threads were not given back",
                 loops_open(), pools_open(), clients, coro_count());
    if (disk_open_files() || ledger_puts())
        violated(I14, "%u files and %u uploads are open after the end", disk_open_files(),
                 ledger_puts());
    if (servers_calls())
        violated(I14, "%u calls or targets were not given back", servers_calls());
}

static void stop(void *ctx)
{
    (void)ctx;
    while (process.clients)
        coro_wait(&process.clients);
    engine_drain(process.engine, chance(1, 2) ? 0 : chance_time(1000, 5 * USEC_PER_SEC));
    process.engine = engine_free(process.engine);
    process.hooks = webhooks_free(process.hooks);
    process.stopped = true;
}

void process_stop(void)
{
    enum arena was = arena_use(ARENA_LIFE);

    TOLD("process: stops");
    process.stopping = true;
    coro_spawn(stop, NULL);
    arena_use(was);
}

bool process_after_event(void)
{
    if (process.stopped && coro_count() == 0) {
        truth.stops++;
        check_leaks(arena_blocks(ARENA_LIFE));
        over();
        disk_life_over();
        return true;
    }
    if (process.dying && process.last_words-- == 0) {
        process_die(chance(1, 4));
        return true;
    }
    return false;
}
