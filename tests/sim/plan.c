/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/sim.h"

#include "base/mem.h"

#include <stdio.h>

struct plan plan;

static void draw_upstreams(void)
{
    plan.n_ups = 1 + chance_below(UPS);
    for (unsigned i = 0; i < plan.n_ups; i++) {
        struct up_plan *u = &plan.ups[i];

        u->window = 1 + chance_below(8);
        u->room = chance(1, 4) ? 1 + chance_below(u->window) : 0;
        u->fast = chance_time(200, USEC_PER_SEC);
        u->slow = u->fast + chance_time(1000, 20 * USEC_PER_SEC);
        u->bad = chance(1, 3) ? 0 : (unsigned)chance_time(10, 600);
        u->deaths = chance(1, 2) ? 0 : (unsigned)chance_time(2, 60);
        u->fixed = chance(1, 4);
        u->tells = chance(3, 4);
        u->healthy = chance(2, 3);
        u->measured = chance(1, 2);
        u->hedge = (enum engine_hedge)chance_below(3);
    }
}

static void draw_projects(void)
{
    static char names[PROJECTS][4];

    plan.n_projects = 1 + chance_below(PROJECTS);
    for (unsigned i = 0; i < plan.n_projects; i++) {
        CHECK(str_fmt(names[i], sizeof names[i], "p%u", i) == RC_OK);
        plan.projects[i] = (struct engine_project){
            .name = names[i],
            .max_inflight = chance(1, 3) ? 1 + chance_below(4) : 0,
            .max_lines = chance(1, 8) ? 20 + chance_below(60) : 0,
        };
    }
}

static void draw_engine(void)
{
    struct engine_opts *o = &plan.engine;

    o->max_inflight = 8;
    o->max_attempts = 2 + chance_below(4);
    o->idle_timeout = chance_time(5 * USEC_PER_SEC, 60 * USEC_PER_SEC);
    o->total_timeout = chance(1, 4) ? chance_time(USEC_PER_SEC, 60 * USEC_PER_SEC) : 0;
    o->drain_timeout = chance_time(10000, 60 * USEC_PER_SEC);
    o->retry_base = chance_time(1000, USEC_PER_SEC);
    o->retry_cap = chance_time(USEC_PER_SEC, 10 * USEC_PER_SEC);
    o->sync_interval = chance(1, 2) ? 0 : chance_time(1000, 500 * USEC_PER_MS);
    o->many_models = chance(1, 3);
    o->dedup = chance(1, 3) ? DEDUP_DETERMINISTIC : DEDUP_OFF;
    o->workers = 1 + chance_below(3);
    o->models_refresh = chance(1, 2) ? 0 : chance_time(USEC_PER_SEC, 60 * USEC_PER_SEC);
}

void plan_draw(void)
{
    plan = (struct plan){.n_models = 1 + chance_below(MODELS)};
    draw_upstreams();
    draw_projects();
    draw_engine();
    plan.subjects = 1 + chance_below(4);
    plan.operations = chance(1, 5) ? 0 : 1 + chance_below(16);
    plan.crashes = chance(1, 4) ? 0 : 1 + chance_below(5);
    plan.chaos = chance_time(5 * USEC_PER_SEC, 400 * USEC_PER_SEC);
    plan.segment_bytes = chance(1, 3) ? (uint32_t)chance_time(300, 8000) : 0;
    plan.hooks = chance(1, 2);
    plan.n_hooks = plan.hooks ? 1 + chance_below(HOOKS) : 0;
    plan.disk_full = chance(1, 4);
    plan.disk_slow = chance(1, 4);
    plan.syncs_fail = chance(1, 5);
    plan.store_fails = chance(1, 6);
    plan.wall_jumps = chance(1, 8);
    plan.sleeps = chance(1, 6);
    plan.rot = chance(1, 12);
    plan.moving_models = chance(1, 6);
    plan.poison = chance(1, 4);
    /* Else an upstream that once had no model is never asked again. */
    if (plan.moving_models && !plan.engine.models_refresh)
        plan.engine.models_refresh = 20 * USEC_PER_SEC;
    plan.alias = plan.engine.many_models && chance(1, 3);
}
