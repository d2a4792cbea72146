/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/des/check_int.h"
#include "tests/des/jobs.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

struct check {
    const char *name;
    check_fn *fn;
};

/* Those that take longest first. */
static const struct check checks[] = {
    {"the mean over all workloads, with faults", check_mean_faults},
    {"the mean over all workloads", check_mean},
    {"windows from a start of 16", check_start},
    {"windows with metrics every 5 s", check_scrape},
    {"windows without metrics", check_knee},
    {"capacity that halves and doubles", check_capacity},
    {"prefixes found on one replica", check_hits},
    {"documents on 2 to 16 replicas", check_replicas},
    {"one replica ten times slow", check_slow},
    {"a million lines beside a small tenant", check_small},
    {"deadlines", check_deadlines},
    {"an idle batch beside interactive requests", check_interactive},
    {"tenants by their weight", check_weights},
    {"a server that refuses what is too much", check_hard_limit},
    {"a quota of requests", check_requests_quota},
    {"a quota of tokens", check_tokens_quota},
    {"one call of twenty fails", check_transient},
    {"a key that is refused everywhere", check_denied},
    {"requests that break their calls", check_poison},
};

static void add(struct report *r, double value, double goal, bool most, const char *what,
                va_list ap)
{
    struct claim *c = &r->claims[r->n++];

    CHECK(r->n <= CLAIMS_MAX);
    *c = (struct claim){.value = value, .goal = goal, .most = most};
    (void)vsnprintf(c->what, sizeof c->what, what, ap);
}

void claim(struct report *r, double value, double goal, const char *what, ...)
{
    va_list ap;

    va_start(ap, what);
    add(r, value, goal, false, what, ap);
    va_end(ap);
}

void claim_most(struct report *r, double value, double goal, const char *what, ...)
{
    va_list ap;

    va_start(ap, what);
    add(r, value, goal, true, what, ap);
    va_end(ap);
}

/* Goals that are not reached yet, and what must not get worse meanwhile: told apart from
 * what holds, and no failure. */
static const struct {
    const char *what; /* the beginning of the claim, ... */
    const char *more; /* ... and something in it */
    double limit;
} short_of_goal[] = {
    {"conv on one replica", "", 0.95}, {"W2 on 16 replicas", "", 0.9},
    {"2000 requests beside", "", 3.5}, {"20000 requests beside", "", 2.3},
    {"W4 at 1.5 times", "", 0.3},      {"idle W4 beside", "first token", 1.7},
};

static bool within(const struct claim *c, double limit)
{
    return c->most ? c->value <= limit : c->value >= limit;
}

static const char *verdict(const struct claim *c)
{
    if (within(c, c->goal))
        return "ok";
    for (size_t i = 0; i < COUNTOF(short_of_goal); i++)
        if (strncmp(c->what, short_of_goal[i].what, strlen(short_of_goal[i].what)) == 0 &&
            strstr(c->what, short_of_goal[i].more) && within(c, short_of_goal[i].limit))
            return "short";
    return "not ok";
}

struct outcome_of {
    struct report report;
    double seconds;
    bool ended;
};

static void run(void *ctx, unsigned job, void *result)
{
    const struct check *const *mine = ctx;
    struct outcome_of *o = result;
    clock_t start = clock();

    mine[job]->fn(&o->report);
    o->seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    o->ended = true;
}

int check_all(const char *word, unsigned jobs)
{
    struct outcome_of *results = jobs_results(COUNTOF(checks), sizeof *results);
    const struct check *mine[COUNTOF(checks)];
    unsigned n = 0, passed = 0, failed = 0, shorts = 0;

    for (size_t i = 0; i < COUNTOF(checks); i++)
        if (!word || strstr(checks[i].name, word))
            mine[n++] = &checks[i];
    IGNORE(jobs_run(run, mine, n, results, sizeof *results, jobs)); /* `ended` tells */
    for (unsigned i = 0; i < n; i++) {
        const struct outcome_of *o = &results[i];

        printf("# %s (%.1f s)\n", mine[i]->name, o->seconds);
        if (!o->ended) {
            printf("not ok - %s: did not come to its end\n", mine[i]->name);
            failed++;
        }
        for (unsigned k = 0; k < o->report.n; k++) {
            const struct claim *c = &o->report.claims[k];

            const char *how = verdict(c);

            printf("%s - %s: %.4g, goal %s %.4g\n", how, c->what, c->value,
                   c->most ? "<=" : ">=", c->goal);
            passed += strcmp(how, "ok") == 0;
            shorts += strcmp(how, "short") == 0;
            failed += strcmp(how, "not ok") == 0;
        }
    }
    if (shorts)
        printf("# %u short of their goals, and not worse than before\n", shorts);
    printf("%u passed, %u failed\n", passed, failed);
    return failed ? 1 : 0;
}
