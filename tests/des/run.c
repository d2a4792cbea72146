/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/des/run.h"

#include <stdlib.h>
#include <string.h>

struct run run_of(const char *policy, unsigned replicas, uint64_t seed)
{
    struct run r = {.policy = policy,
                    .world = {.replicas = replicas, .seed = seed},
                    .ours = {.seed = seed}};

    CHECK(sim_model_preset(STR("h100-8b"), &r.world.model) == RC_OK);
    return r;
}

static unsigned number_behind(const char *policy, const char *name)
{
    size_t n = strlen(name);

    return strncmp(policy, name, n) == 0 ? (unsigned)strtoul(policy + n, NULL, 10) : 0;
}

bool run_valid(const char *policy)
{
    return strcmp(policy, "ours") == 0 || number_behind(policy, "order:") ||
           number_behind(policy, "fcfs:");
}

struct result run_do(const struct run *r, const struct work *work)
{
    struct world *w = world_new(&r->world, work);
    unsigned window = number_behind(r->policy, "fcfs:");
    struct ours_opts o = r->ours;
    struct result res;
    struct policy p;

    if (window) {
        struct plain *f = plain_new(window, r->world.replicas, work);

        p = plain_policy(f, w);
        world_run(w, &p, &res);
        plain_free(f);
    } else {
        struct ours *u;

        if ((window = number_behind(r->policy, "order:"))) {
            o.window = window;
            o.fixed = true;
        }
        u = ours_new(&o, &r->world, work);
        p = ours_policy(u, w);
        world_run(w, &p, &res);
        res.hedges = ours_hedges(u);
        ours_free(u);
    }
    world_free(w);
    return res;
}

void standard_faults(struct run *r, double seconds,
                     struct trouble troubles[STANDARD_TROUBLES])
{
    usec_t whole = (usec_t)(seconds * 1e6);

    /* Down for a twentieth, as a server that loads its model anew. */
    troubles[0] = (struct trouble){
        .replica = 1, .from = whole * 3 / 10, .to = whole * 7 / 20, .factor = 0};
    troubles[1] = (struct trouble){
        .replica = 2, .from = whole / 2, .to = whole * 7 / 10, .factor = 0.2};
    r->world.transient = 0.02;
    r->world.troubles = troubles;
    r->world.n_troubles = STANDARD_TROUBLES;
}
