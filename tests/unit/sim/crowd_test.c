/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/crowd.h"
#include "tests/lib/t.h"

static struct sim_model *machine(void)
{
    struct sim_model_opts o;

    EQ_RC(sim_model_preset(STR("h100-8b"), &o), RC_OK);
    return sim_model_new(&o);
}

/* Runs both until `end`, of the model's time. */
static void run(struct sim_crowd_run *c, struct sim_model *m, usec_t end)
{
    for (;;) {
        usec_t model = sim_model_next(m), crowd = sim_crowd_next(c);
        struct sim_seq *q;

        if (model > end && crowd > end)
            return;
        if (crowd <= model) {
            sim_crowd_come(c, m, false);
            continue;
        }
        while ((q = sim_model_step(m, model)))
            sim_crowd_over(c, CONTAINER_OF(q, struct sim_member, seq));
    }
}

TEST(nobody_comes_without_a_rate)
{
    struct sim_crowd o = {0};

    OK(sim_crowd_new(&o, 1, false, 0) == NULL);
    EQ_INT(sim_crowd_next(NULL), USEC_INFINITY);
}

TEST(turns_come_at_their_rate_and_wait_for_their_first_token)
{
    struct sim_crowd o = {.rate = 10};
    struct sim_crowd_run *c = sim_crowd_new(&o, 1, false, 0);
    struct sim_model *m = machine();
    const struct sim_crowd_counts *n = sim_crowd_counts(c);
    usec_t p50, p99;

    run(c, m, 1000 * USEC_PER_SEC);
    OK(n->turns > 9600 && n->turns < 10400); /* 4 sigma */
    EQ_INT(n->refused, 0);
    OK(n->answered <= n->turns && n->answered > n->turns - 100);
    p50 = sim_crowd_wait(n, 0.5);
    p99 = sim_crowd_wait(n, 0.99);
    /* One or two iterations of an idle server; t0 + w is 6.5 ms. */
    OK(p50 > 6 * USEC_PER_MS && p50 < 60 * USEC_PER_MS);
    OK(p99 >= p50 && p99 <= n->longest);
    EQ_INT(sim_crowd_wait(n, 1), n->longest);
    IGNORE(sim_crowd_free(c));
    IGNORE(sim_model_free(m));
}

TEST(bursts_are_followed_by_as_long_a_calm)
{
    struct sim_crowd o = {.rate = 20, .burst = 10 * USEC_PER_SEC};
    struct sim_crowd_run *c = sim_crowd_new(&o, 1, false, 0);
    struct sim_model *m = machine();
    uint64_t at[5] = {0};

    for (int i = 1; i <= 4; i++) {
        run(c, m, i * o.burst - 1);
        at[i] = sim_crowd_counts(c)->turns;
    }
    OK(at[1] > 140 && at[1] < 260);
    OK(at[2] - at[1] > 5 && at[2] - at[1] < 40);
    OK(at[3] - at[2] > 140 && at[3] - at[2] < 260);
    OK(at[4] - at[3] > 5 && at[4] - at[3] < 40);
    IGNORE(sim_crowd_free(c));
    IGNORE(sim_model_free(m));
}

TEST(a_seed_gives_the_same_crowd)
{
    struct sim_crowd o = {.rate = 5};
    struct sim_crowd_run *a = sim_crowd_new(&o, 7, false, 0);
    struct sim_crowd_run *b = sim_crowd_new(&o, 7, false, 0);
    struct sim_crowd_run *other = sim_crowd_new(&o, 8, false, 0);
    struct sim_model *m = machine(), *k = machine();

    OK(sim_crowd_next(a) != sim_crowd_next(other));
    run(a, m, 60 * USEC_PER_SEC);
    run(b, k, 60 * USEC_PER_SEC);
    OK(memcmp(sim_crowd_counts(a), sim_crowd_counts(b), sizeof *sim_crowd_counts(a)) ==
       0);
    IGNORE(sim_crowd_free(a));
    IGNORE(sim_crowd_free(b));
    IGNORE(sim_crowd_free(other));
    IGNORE(sim_model_free(m));
    IGNORE(sim_model_free(k));
}

TEST(a_percentile_is_at_most_a_sixteenth_above_the_truth)
{
    struct sim_crowd o = {.rate = 1};
    struct sim_crowd_run *c = sim_crowd_new(&o, 1, false, 0);
    struct sim_model *m = machine();
    const struct sim_crowd_counts *n = sim_crowd_counts(c);

    for (usec_t wait = 1; wait < (usec_t)1 << 40; wait = wait * 3 / 2 + 1) {
        struct sim_crowd_counts before = *n, one = {.answered = 1};
        struct sim_seq *q = NULL;

        sim_crowd_come(c, m, false);
        while (!q)
            q = sim_model_step(m, sim_model_next(m));
        q->first = q->came + wait;
        sim_crowd_over(c, CONTAINER_OF(q, struct sim_member, seq));
        for (unsigned i = 0; i < SIM_WAITS; i++)
            one.wait[i] = n->wait[i] - before.wait[i];
        one.longest = (usec_t)1 << 50;
        OK(sim_crowd_wait(&one, 0.5) >= wait);
        OK(sim_crowd_wait(&one, 0.5) <= wait + wait / 16);
    }
    IGNORE(sim_crowd_free(c));
    IGNORE(sim_model_free(m));
}

TEST(who_finds_nobody_is_counted)
{
    struct sim_crowd o = {.rate = 1};
    struct sim_crowd_run *c = sim_crowd_new(&o, 1, true, 0);
    struct sim_model *m = machine();
    struct json_writer w;
    struct buf b;

    sim_crowd_come(c, m, true);
    sim_crowd_come(c, m, false);
    sim_model_crash(m);
    sim_crowd_lost(c);
    EQ_INT(sim_crowd_counts(c)->turns, 2);
    EQ_INT(sim_crowd_counts(c)->refused, 1);
    EQ_INT(sim_crowd_wait(sim_crowd_counts(c), 0.5), 0);
    buf_init(&b, 4096);
    jw_init(&w, &b);
    sim_crowd_put(sim_crowd_counts(c), NULL, &w);
    EQ_STR(buf_peek(&b),
           STR("{\"turns\":2,\"answered\":0,\"refused\":1,\"ttft_ms\":{\"p50\":"
               "0.000,\"p90\":0.000,\"p99\":0.000,\"max\":0.000}}"));
    buf_done(&b);
    IGNORE(sim_crowd_free(c));
    IGNORE(sim_model_free(m));
}
