/* SPDX-License-Identifier: Apache-2.0 */
/* What an upstream allows a minute: hosted APIs that count in several ways. */
#include "base/mem.h"
#include "tests/lib/sched.h"
#include "tests/lib/t.h"

#include <math.h>

#define SEC    USEC_PER_SEC
#define FLIGHT 4096
#define MAXOUT 4096

enum told { AT_ARRIVAL, AT_END, NOTHING };

/* A hosted API: fills evenly, or begins anew each minute. */
struct api {
    double requests, tokens; /* a minute; 0: any */
    bool by_minute;          /* not evenly */
    bool refunds;            /* what a call did not use */
    bool retry_after;
    enum told told;
    double others; /* requests a second of other users */

    double r, t; /* left */
    usec_t at, began;
    uint64_t came, refused;
    double took; /* as it counts them */
};

struct flying {
    struct sched_ticket t;
    struct sched_limits l;
    usec_t ends;
    uint32_t out;
};

struct trial {
    struct sched *s;
    struct api a;
    uint64_t rng;
    usec_t now;
    struct flying f[FLIGHT];
    unsigned n;
};

static double uniform(struct trial *x)
{
    x->rng ^= x->rng << 13;
    x->rng ^= x->rng >> 7;
    x->rng ^= x->rng << 17;
    return (double)(x->rng >> 11) / 9007199254740992.0;
}

/* Log-normal: the sum of twelve is normal enough. */
static double drawn(struct trial *x, double median, double sigma)
{
    double sum = -6;

    for (unsigned i = 0; i < 12; i++)
        sum += uniform(x);
    return median * exp(sigma * sum);
}

static void fill(struct trial *x)
{
    struct api *a = &x->a;
    double dt = (double)(x->now - a->at) / (60.0 * SEC);

    if (a->by_minute) {
        if (x->now - a->began >= 60 * SEC) {
            a->began = x->now;
            a->r = a->requests;
            a->t = a->tokens;
        }
    } else {
        a->r = fmin(a->requests, a->r + dt * a->requests);
        a->t = fmin(a->tokens, a->t + dt * a->tokens);
    }
    a->r -= a->others * (double)(x->now - a->at) / SEC;
    a->at = x->now;
}

static usec_t reset(const struct trial *x, double most, double left)
{
    const struct api *a = &x->a;

    if (a->by_minute)
        return a->began + 60 * SEC - x->now;
    return (usec_t)((most - left) / most * 60 * SEC);
}

static struct sched_limits limits(const struct trial *x)
{
    const struct api *a = &x->a;
    struct sched_limits l = {-1, -1, -1, -1, -1, -1};

    if (a->requests > 0) {
        l.requests = a->requests;
        l.requests_left = floor(fmax(0, a->r));
        l.requests_reset = reset(x, a->requests, a->r);
    }
    if (a->tokens > 0) {
        l.tokens = a->tokens;
        l.tokens_left = floor(fmax(0, a->t));
        l.tokens_reset = reset(x, a->tokens, a->t);
    }
    return l;
}

static void end(struct trial *x, const struct flying *f, bool refused)
{
    struct sched_outcome o = {.cls = refused ? OUTCOME_CAPACITY : OUTCOME_DONE,
                              .retry_after = refused && x->a.retry_after ? SEC : -1,
                              .has_usage = !refused,
                              .prompt = 200,
                              .output = f->out};

    if (x->a.told != NOTHING)
        sched_limited(x->s, 0, &f->l, x->now);
    IGNORE(sched_done(x->s, &f->t, &o, x->now));
}

static void come(struct trial *x, const struct sched_ticket *t)
{
    struct api *a = &x->a;
    double cost = 200 + MAXOUT;
    bool refused = (a->requests > 0 && a->r < 1) || (a->tokens > 0 && a->t < cost);
    struct flying f = {.t = *t};

    a->came++;
    a->refused += refused;
    f.out = (uint32_t)fmin(MAXOUT, 1 + drawn(x, 400, 1));
    f.ends = x->now + (usec_t)((0.3 + 0.01 * f.out) * SEC);
    if (!refused) {
        a->r -= 1;
        a->t -= cost;
        a->took += a->requests > 0 ? 1 : cost;
    }
    f.l = limits(x);
    if (refused) {
        end(x, &f, true);
        return;
    }
    OK(x->n < FLIGHT);
    x->f[x->n++] = f;
}

static void step(struct trial *x)
{
    struct sched_ticket t;

    fill(x);
    for (unsigned i = 0; i < x->n;) {
        struct flying f = x->f[i];

        if (f.ends > x->now) {
            i++;
            continue;
        }
        x->f[i] = x->f[--x->n];
        if (x->a.refunds && x->a.tokens > 0) {
            x->a.t = fmin(x->a.tokens, x->a.t + MAXOUT - f.out);
            x->a.took -= MAXOUT - f.out;
        }
        if (x->a.told == AT_END)
            f.l = limits(x);
        end(x, &f, false);
    }
    for (unsigned i = 0; i < 4096 && sched_next(x->s, &t, 1, x->now) == 1; i++)
        come(x, &t);
}

/* For `minutes`; from the second on *ret is the share of the quota that was used. */
static struct trial *run(const struct api *a, const struct sched_upstream_opts *o,
                         unsigned minutes, double *ret)
{
    struct trial *x = mem_new(struct trial);
    struct sched_item *items = mem_new_n(struct sched_item, 200000);
    double took = 0;

    for (uint32_t i = 0; i < 200000; i++)
        items[i] = (struct sched_item){.item = i, .prompt = 200, .max_out = MAXOUT};
    x->a = *a;
    x->rng = 88172645463325252u;
    x->now = x->a.at = x->a.began = SEC;
    x->a.r = a->requests;
    x->a.t = a->tokens;
    x->s = sched_new(&(struct sched_opts){.seed = 3});
    EQ_INT(sched_upstream_add(x->s, o), 0);
    sched_batch_add(x->s,
                    &(struct sched_batch_opts){
                        .n_items = 200000, .items = items, .deadline = USEC_INFINITY},
                    x->now);
    for (; x->now < (1 + 60 * (usec_t)minutes) * SEC; x->now += 5 * USEC_PER_MS) {
        if (x->now <= 61 * SEC)
            took = x->a.took;
        step(x);
    }
    *ret = (x->a.took - took) /
           ((a->requests > 0 ? a->requests : a->tokens) * (minutes - 1));
    mem_free(items);
    return x;
}

static void trial_free(struct trial *x)
{
    sched_free(x->s);
    mem_free(x);
}

static const struct row {
    const char *name;
    struct api a;
    double uses, refused;
} rows[] = {
    {"requests, told at arrival", {.requests = 600, .told = AT_ARRIVAL}, 0.97, 0.001},
    {"requests, told at the end", {.requests = 600, .told = AT_END}, 0.97, 0.001},
    {"many requests", {.requests = 6000, .told = AT_ARRIVAL}, 0.97, 0.001},
    {"requests, begins anew each minute",
     {.requests = 600, .by_minute = true, .retry_after = true, .told = AT_ARRIVAL},
     0.9,
     0.01},
    {"tokens that come back",
     {.tokens = 1e6, .refunds = true, .told = AT_END},
     0.92,
     0.001},
    {"tokens that do not",
     {.tokens = 4e6, .told = AT_ARRIVAL, .retry_after = true},
     0.92,
     0.001},
};

TEST(a_quota_is_used_up_and_not_overdrawn)
{
    for (unsigned i = 0; i < COUNTOF(rows); i++) {
        const struct row *r = &rows[i];
        double used, refused;
        struct trial *x =
            run(&r->a, &(struct sched_upstream_opts){.window = 1024}, 15, &used);

        refused = (double)x->a.refused / (double)x->a.came;
        t_row(r->name);
        t_note("%s: %.4f of the quota, %.5f of %llu calls refused", r->name, used,
               refused, (unsigned long long)x->a.came);
        OK(used > r->uses);
        OK(refused <= r->refused);
        trial_free(x);
    }
}

TEST(a_quota_that_only_the_operator_told_is_kept)
{
    double used;
    struct trial *x = run(
        &(struct api){.requests = 600, .told = NOTHING},
        &(struct sched_upstream_opts){.window = 1024, .requests_per_min = 600}, 5, &used);

    OK(used > 0.97 && used <= 1);
    EQ_INT(x->a.refused, 0);
    trial_free(x);
}

TEST(the_smaller_of_what_is_told_and_what_is_configured_holds)
{
    double used;
    struct trial *x = run(
        &(struct api){.requests = 6000, .told = AT_ARRIVAL},
        &(struct sched_upstream_opts){.window = 1024, .requests_per_min = 300}, 5, &used);

    OK(used > 0.045 && used <= 0.06);
    trial_free(x);
}

TEST(what_others_take_of_it_is_seen)
{
    double used;
    struct trial *x = run(
        &(struct api){
            .requests = 600, .told = AT_ARRIVAL, .retry_after = true, .others = 5},
        &(struct sched_upstream_opts){.window = 1024}, 10, &used);

    t_note("%.3f of the quota beside others that take half; %.4f of our calls refused",
           used, (double)x->a.refused / (double)x->a.came);
    OK(used > 0.4 && used <= 0.52);
    OK((double)x->a.refused / (double)x->a.came < 0.1);
    trial_free(x);
}

TEST(who_waits_for_a_quota_is_woken_when_it_is_there)
{
    struct sched *s = sched_new(&(struct sched_opts){.seed = 3});
    struct sched_ticket t;
    usec_t now = SEC, wake;
    unsigned n = 0;

    sched_upstream_add(
        s, &(struct sched_upstream_opts){.window = 64, .requests_per_min = 60});
    sched_batch_add(
        s, &(struct sched_batch_opts){.n_items = 100, .deadline = USEC_INFINITY}, now);
    while (sched_next(s, &t, 1, now) == 1)
        n++;
    OK(n >= 1 && n <= 3);
    for (unsigned i = 0; i < 10; i++) {
        wake = sched_next_wake(s, now);
        OK(wake > now && wake <= now + 2 * SEC);
        now = wake;
        EQ_INT(sched_next(s, &t, 1, now), 1);
        EQ_INT(sched_next(s, &t, 1, now), 0);
    }
    now += 24 * 3600 * SEC; /* a long sleep brings no more than there can be */
    for (n = 0; sched_next(s, &t, 1, now) == 1;)
        n++;
    OK(n <= 3);
    sched_free(s);
}
