/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/des/check_int.h"

#include <math.h>

void check_slow(struct report *rep)
{
    static const char *const some[] = {"W1", "W2", "W4", "W5"};

    for (unsigned i = 0; i < COUNTOF(some); i++) {
        static const struct trouble slow = {
            .replica = 0, .to = USEC_INFINITY / 2, .factor = 0.1};
        struct work *work = work_new(some[i], 0, CHECK_SEED);
        struct run r = run_of("ours", 4, CHECK_SEED),
                   others = run_of("ours", 3, CHECK_SEED);
        struct result res;

        r.world.troubles = &slow;
        r.world.n_troubles = 1;
        res = run_do(&r, work);
        claim_most(
            rep, (res.stuck ? INFINITY : res.seconds) / check_seconds(&others, work), 1.2,
            "%s, one of four 10 times slow: makespan of the three others alone", some[i]);
        claim_most(rep, (double)res.calls / work->n, 1.02,
                   "%s, one of four 10 times slow: calls a request", some[i]);
        work_free(work);
    }
}

void check_transient(struct report *rep)
{
    static const char *const some[] = {"W1", "W2", "W4"};

    for (unsigned i = 0; i < COUNTOF(some); i++) {
        struct work *work = work_new(some[i], 0, CHECK_SEED);
        struct run r = run_of("ours", 4, CHECK_SEED);
        struct result res;

        r.world.transient = 0.05;
        res = run_do(&r, work);
        claim_most(rep, (double)res.calls / work->n, 1.2,
                   "%s, 5 %% of calls fail: calls a request", some[i]);
        claim_most(rep, (double)res.failed + (res.stuck ? work->n : 0), 0,
                   "%s, 5 %% of calls fail: requests without a result", some[i]);
        work_free(work);
    }
}

static void ask_stopped(const struct ours *u, void *ctx)
{
    *(bool *)ctx = ours_stopped(u, 0);
}

void check_denied(struct report *rep)
{
    struct work *work = work_new("W1", 0, CHECK_SEED);
    struct run r = run_of("ours", 4, CHECK_SEED);
    bool stopped = false;
    struct result res;

    r.world.denied = true;
    r.world.until = 3600 * USEC_PER_SEC;
    res = check_batches(&r, work, -1, ask_stopped, &stopped);
    claim_most(rep, (double)res.calls, 64, "W1, every call is answered 401: calls");
    claim(rep, stopped, 1, "W1, every call is answered 401: batches stopped");
    work_free(work);
}

void check_poison(struct report *rep)
{
    struct work *work = work_new("W1", 20000, CHECK_SEED);
    struct run r = run_of("ours", 4, CHECK_SEED), clean = r;
    struct result res;

    r.world.poison = 1000;
    res = run_do(&r, work);
    claim_most(rep, (double)res.most_calls, 5,
               "W1, 20 of 20,000 break each call: most calls of one");
    claim_most(rep, fabs((double)res.failed - 20), 0,
               "W1, 20 of 20,000 break each call: other lines that failed");
    claim_most(rep, (res.stuck ? INFINITY : res.seconds) / check_seconds(&clean, work),
               1.2, "W1, 20 of 20,000 break each call: makespan without them");
    work_free(work);
}

/* --- Quotas ------------------------------------------------------------------------------- */

/* A hosted API: nothing but its quota slows it down. */
static struct run hosted(void)
{
    struct run r = run_of("ours", 1, CHECK_SEED);

    r.world.model.max_seqs = r.world.model.budget;
    r.world.model.kv_tokens = 100000000;
    r.world.model.c1 /= 100;
    r.world.model.c3 /= 100;
    r.world.model.c4 /= 100;
    r.world.latency = 20 * USEC_PER_MS;
    r.world.no_metrics = true;
    r.ours.blind = true;
    return r;
}

void check_requests_quota(struct report *rep)
{
    struct work *work = work_new("W1", 12000, CHECK_SEED);
    struct run r = hosted();
    struct result res;

    r.world.requests_per_min = 600;
    res = run_do(&r, work);
    claim_most(rep, (double)res.rejects / (double)res.calls, 0.001,
               "600 requests a minute: share of calls rejected");
    claim(rep, res.stuck ? 0 : work->n / (600 * res.seconds / 60), 0.97,
          "600 requests a minute: of the quota used");
    work_free(work);
}

/* Some count for good what a request may take, some what it took. */
void check_tokens_quota(struct report *rep)
{
    for (int refunds = 0; refunds < 2; refunds++) {
        struct work *work = work_new("W4", refunds ? 30000 : 12000, CHECK_SEED);
        struct run r = hosted();
        struct result res;
        double tokens = 0;

        for (uint32_t i = 0; i < work->n; i++)
            tokens += work->v[i].prompt + (refunds ? work->v[i].out : work->v[i].max_out);
        r.world.tokens_per_min = refunds ? 500000 : 2e6;
        r.world.refunds = refunds;
        res = run_do(&r, work);
        claim_most(rep, (double)res.rejects / (double)res.calls, 0.001,
                   "%.0f tokens a minute, %s: share of calls rejected",
                   r.world.tokens_per_min,
                   refunds ? "what was used" : "what may be used");
        claim(rep, res.stuck ? 0 : tokens / (r.world.tokens_per_min * res.seconds / 60),
              0.97, "%.0f tokens a minute, %s: of the quota used", r.world.tokens_per_min,
              refunds ? "what was used" : "what may be used");
        work_free(work);
    }
}
