/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/engine.h"
#include "tests/lib/t.h"

static unsigned order[16], n_done;
static usec_t when[16];

struct job {
    struct sim_job job;
    unsigned number;
};

static void on_done(struct sim_job *j, usec_t now)
{
    when[n_done] = now;
    order[n_done++] = CONTAINER_OF(j, struct job, job)->number;
}

static struct loop *new_loop(void)
{
    struct loop *l;

    EQ_RC(loop_new(&l, NULL), RC_OK);
    return l;
}

static struct sim_engine *new_engine(struct loop *l, uint64_t concurrency,
                                     uint64_t max_queued)
{
    struct sim_engine_opts o = {.concurrency = concurrency, .max_queued = max_queued};

    return sim_engine_new(l, &o);
}

static void make(struct job *jobs, unsigned n, usec_t takes)
{
    for (unsigned i = 0; i < n; i++)
        jobs[i] = (struct job){{.done = on_done, .takes = takes, .tokens = 10}, i};
}

static void run_until(struct loop *l, unsigned done)
{
    while (n_done < done)
        loop_turn(l, USEC_PER_SEC);
}

TEST(work_without_time_is_done_at_once_while_there_is_room)
{
    struct loop *l = new_loop();
    struct sim_engine *e = new_engine(l, 1, 0);
    struct job a[1];

    make(a, 1, 0);
    EQ_RC(sim_engine_start(e, &a[0].job), RC_OK);
    EQ_INT(sim_engine_load(e).running, 0);
    IGNORE(sim_engine_free(e));
    IGNORE(loop_free(l));
}

TEST(only_so_many_run_and_the_others_follow_in_order)
{
    struct loop *l = new_loop();
    struct sim_engine *e = new_engine(l, 2, 3);
    struct job a[6];
    struct sim_load load;

    make(a, 6, 2 * USEC_PER_MS);
    for (unsigned i = 0; i < 5; i++)
        EQ_RC(sim_engine_start(e, &a[i].job), RC_AGAIN);
    EQ_RC(sim_engine_start(e, &a[5].job), RC_LIMIT);
    load = sim_engine_load(e);
    EQ_INT(load.running, 2);
    EQ_INT(load.waiting, 3);
    EQ_INT(load.tokens, 20);
    run_until(l, 5);
    EQ_INT(order[2], 2);
    EQ_INT(order[3] + order[4], 3 + 4);
    OK(when[4] - a[0].job.came >= 6 * USEC_PER_MS); /* three rounds of two */
    OK(a[4].job.began - a[4].job.came >= 4 * USEC_PER_MS);
    load = sim_engine_load(e);
    EQ_INT(load.running + load.waiting + load.tokens, 0);
    IGNORE(sim_engine_free(e));
    IGNORE(loop_free(l));
}

TEST(work_without_time_waits_in_line_like_all)
{
    struct loop *l = new_loop();
    struct sim_engine *e = new_engine(l, 1, 10);
    struct job a[3];

    make(a, 3, 0);
    a[0].job.takes = 2 * USEC_PER_MS;
    EQ_RC(sim_engine_start(e, &a[0].job), RC_AGAIN);
    EQ_RC(sim_engine_start(e, &a[1].job), RC_AGAIN);
    EQ_RC(sim_engine_start(e, &a[2].job), RC_AGAIN);
    run_until(l, 3);
    EQ_INT(order[0], 0);
    EQ_INT(order[1], 1);
    EQ_INT(order[2], 2);
    IGNORE(sim_engine_free(e));
    IGNORE(loop_free(l));
}

TEST(what_is_aborted_makes_room_and_is_never_done)
{
    struct loop *l = new_loop();
    struct sim_engine *e = new_engine(l, 1, 10);
    struct job a[4];

    make(a, 4, USEC_PER_MS);
    a[0].job.takes = 3600 * USEC_PER_SEC;
    for (unsigned i = 0; i < 4; i++)
        EQ_RC(sim_engine_start(e, &a[i].job), RC_AGAIN);
    sim_engine_abort(&a[1].job); /* waits */
    sim_engine_abort(&a[0].job); /* runs: the next one takes its place */
    sim_engine_abort(&a[0].job); /* idle: nothing happens */
    EQ_INT(sim_engine_load(e).running, 1);
    EQ_INT(sim_engine_load(e).waiting, 1);
    run_until(l, 2);
    EQ_INT(order[0], 2);
    EQ_INT(order[1], 3);
    EQ_INT(sim_engine_load(e).tokens, 0);
    IGNORE(sim_engine_free(e));
    IGNORE(loop_free(l));
}

TEST(without_a_limit_all_run)
{
    struct loop *l = new_loop();
    struct sim_engine *e = new_engine(l, 0, 0);
    struct job a[16];

    make(a, 16, USEC_PER_MS);
    for (unsigned i = 0; i < 16; i++)
        EQ_RC(sim_engine_start(e, &a[i].job), RC_AGAIN);
    EQ_INT(sim_engine_load(e).running, 16);
    run_until(l, 16);
    IGNORE(sim_engine_free(e));
    IGNORE(loop_free(l));
}
