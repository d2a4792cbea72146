/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The scheduler and servers in virtual time.
 *
 *   des --table [--seeds A-B] [--jobs N] [--quick]    every workload and policy
 *   des --check [--jobs N] [WORD]                     what is claimed of the scheduler
 *   des --workload W [--policy P] [--seed N] [--replicas N] [--size N] [--start N]
 *       [--blind] [--no-metrics] [--scrape SECONDS] [--faults] [--slow FACTOR]
 *       [--foreground RATE] [--idle] [--until SECONDS] [--trace SECONDS]     one run
 *
 * Policies: ours; order:N (its order with a fixed window); fcfs:N.
 */
#include "tests/des/check.h"
#include "tests/des/run.h"
#include "tests/des/table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct options {
    struct table_opts table;
    const char *workload, *policy, *word, *write;
    uint64_t seed;
    unsigned replicas, size, start, jobs;
    double scrape, slow, trace, foreground, until;
    bool table_mode, check_mode, faults, blind, idle, no_metrics;
};

static int usage(void)
{
    fputs(
        "usage: des --table [--seeds A-B] [--jobs N] [--quick]\n"
        "       des --check [--jobs N] [WORD]\n"
        "       des --workload W [--policy P] [--seed N] [--replicas N] [--size N]\n"
        "           [--start N] [--blind] [--scrape SECONDS] [--faults] [--slow FACTOR]\n"
        "           [--trace SECONDS] [--write INPUT.jsonl]\n",
        stderr);
    return 2;
}

static bool flag(struct options *o, const char *name)
{
    if (strcmp(name, "--table") == 0)
        o->table_mode = true;
    else if (strcmp(name, "--check") == 0)
        o->check_mode = true;
    else if (strcmp(name, "--faults") == 0)
        o->faults = true;
    else if (strcmp(name, "--blind") == 0)
        o->blind = true;
    else if (strcmp(name, "--idle") == 0)
        o->idle = true;
    else if (strcmp(name, "--no-metrics") == 0)
        o->no_metrics = true;
    else if (strcmp(name, "--quick") == 0)
        o->table.quick = true;
    else
        return false;
    return true;
}

static bool seeds(struct options *o, const char *text)
{
    unsigned a, b;
    int n = sscanf(text, "%u-%u", &a, &b);

    if (n < 1)
        return false;
    o->table.first = a;
    o->table.last = n == 2 ? b : a;
    return o->table.first <= o->table.last;
}

static bool value(struct options *o, const char *name, const char *text)
{
    if (strcmp(name, "--workload") == 0)
        o->workload = text;
    else if (strcmp(name, "--policy") == 0)
        o->policy = text;
    else if (strcmp(name, "--write") == 0)
        o->write = text;
    else if (strcmp(name, "--seed") == 0)
        o->seed = strtoull(text, NULL, 10);
    else if (strcmp(name, "--seeds") == 0)
        return seeds(o, text);
    else if (strcmp(name, "--replicas") == 0)
        o->replicas = (unsigned)strtoul(text, NULL, 10);
    else if (strcmp(name, "--size") == 0)
        o->size = (unsigned)strtoul(text, NULL, 10);
    else if (strcmp(name, "--start") == 0)
        o->start = (unsigned)strtoul(text, NULL, 10);
    else if (strcmp(name, "--jobs") == 0)
        o->jobs = (unsigned)strtoul(text, NULL, 10);
    else if (strcmp(name, "--scrape") == 0)
        o->scrape = strtod(text, NULL);
    else if (strcmp(name, "--slow") == 0)
        o->slow = strtod(text, NULL);
    else if (strcmp(name, "--foreground") == 0)
        o->foreground = strtod(text, NULL);
    else if (strcmp(name, "--until") == 0)
        o->until = strtod(text, NULL);
    else if (strcmp(name, "--trace") == 0)
        o->trace = strtod(text, NULL);
    else
        return false;
    return true;
}

static bool parse(int argc, char **argv, struct options *o)
{
    *o = (struct options){.table = {.first = 11, .last = 15},
                          .policy = "ours",
                          .seed = 1,
                          .replicas = 4,
                          .jobs = 2};
    for (int i = 1; i < argc; i++) {
        if (flag(o, argv[i]))
            continue;
        if (argv[i][0] != '-') {
            o->word = argv[i];
            continue;
        }
        if (i + 1 == argc || !value(o, argv[i], argv[i + 1]))
            return false;
        i++;
    }
    return o->table_mode + o->check_mode + (o->workload != NULL) == 1 && o->jobs >= 1 &&
           o->jobs <= 64 && o->replicas >= 1 && o->replicas <= REPLICAS_MAX &&
           run_valid(o->policy);
}

static void tell(const struct options *o, const struct work *work, const struct bound *b,
                 const struct result *res)
{
    printf(
        "%s %s seed %llu: %.1f s, bound %.1f (%.1f %%), tail %.1f %%, hits %.1f %% of "
        "%.1f %%\n  calls %llu for %u requests, %llu rejected, %llu hedges, %llu closed, "
        "%llu failed, %llu preempted%s\n",
        o->workload, o->policy, (unsigned long long)o->seed, res->seconds, b->seconds,
        100 * b->seconds / res->seconds, 100 * (res->seconds - res->t95) / res->seconds,
        100 * res->hits, 100 * b->hits, (unsigned long long)res->calls, work->n,
        (unsigned long long)res->rejects, (unsigned long long)res->hedges,
        (unsigned long long)res->closed, (unsigned long long)res->failed,
        (unsigned long long)res->preempted, res->stuck ? "; IT DID NOT END" : "");
    if (o->foreground > 0)
        printf(
            "  %llu interactive requests, p99 of the time to the first token %.3f s; %.0f "
            "tokens of the batch\n",
            (unsigned long long)res->foregrounds, res->ttft_p99, res->tokens);
}

static int one(const struct options *o)
{
    struct run r = run_of(o->policy, o->replicas, o->seed);
    FILE *out = o->write ? fopen(o->write, "w") : NULL;
    struct work *work = work_write(o->workload, o->size, o->seed, out);
    struct trouble troubles[STANDARD_TROUBLES + 1];
    struct batch_spec batch;
    struct result res;
    struct bound b;

    if (!work)
        return usage();
    if (o->write && (!out || fclose(out) != 0)) {
        perror(o->write);
        return 1;
    }
    b = work_bound(work, &r.world.model, o->replicas);
    if (o->faults)
        standard_faults(&r, b.seconds, troubles);
    if (o->slow > 0) {
        troubles[r.world.n_troubles++] = (struct trouble){
            .replica = 0, .to = USEC_INFINITY / 2, .factor = 1 / o->slow};
        r.world.troubles = troubles;
    }
    r.world.scrape = (usec_t)(o->scrape * 1e6);
    r.world.trace = (usec_t)(o->trace * 1e6);
    r.world.until = (usec_t)(o->until * 1e6);
    r.world.foreground = o->foreground;
    r.world.no_metrics = o->no_metrics;
    batch = (struct batch_spec){.n = work->n, .idle = o->idle};
    r.ours.batches = &batch;
    r.ours.n_batches = 1;
    r.ours.start = o->start;
    r.ours.blind = o->blind;
    res = run_do(&r, work);
    tell(o, work, &b, &res);
    work_free(work);
    return res.stuck ? 1 : 0;
}

int main(int argc, char **argv)
{
    struct options o;

    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!parse(argc, argv, &o))
        return usage();
    o.table.jobs = o.jobs;
    if (o.table_mode)
        return table_print(&o.table);
    if (o.check_mode)
        return check_all(o.word, o.jobs);
    return one(&o);
}
