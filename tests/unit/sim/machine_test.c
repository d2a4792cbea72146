/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/engine.h"
#include "tests/lib/t.h"

#include <unistd.h>

struct job {
    struct sim_job job;
    uint64_t ids[64];
    usec_t done;
};

static unsigned n_done;

static void on_done(struct sim_job *j, usec_t now)
{
    CONTAINER_OF(j, struct job, job)->done = now;
    n_done++;
}

/* A prompt of `blocks` blocks, of which the first `shared` are everybody's. */
static void make(struct job *j, unsigned number, uint32_t blocks, uint32_t shared,
                 uint32_t out)
{
    *j = (struct job){.job.done = on_done};
    for (uint32_t i = 0; i < blocks; i++)
        j->ids[i] = i < shared ? i + 1 : (uint64_t)number << 32 | i;
    j->job.task.member.seq = (struct sim_seq){
        .blocks = j->ids, .n_blocks = blocks, .prompt = blocks * SIM_BLOCK, .out = out};
}

static struct sim_engine *new_engine(struct loop *l, uint64_t speed, double rate,
                                     uint64_t max_queued, unsigned max_seqs)
{
    struct sim_machine_opts m = {.speed = speed, .crowd.rate = rate, .seed = 1};
    struct sim_engine_opts o = {.machine = &m};

    EQ_RC(sim_model_preset(STR("h100-8b"), &m.model), RC_OK);
    m.model.max_queued = max_queued;
    m.model.max_seqs = max_seqs;
    return sim_engine_new(l, &o);
}

static struct loop *new_loop(void)
{
    struct loop *l;

    EQ_RC(loop_new(&l, NULL), RC_OK);
    return l;
}

static void run_until(struct loop *l, unsigned done)
{
    while (n_done < done)
        loop_turn(l, USEC_PER_SEC);
}

TEST(a_request_takes_the_models_time_on_the_clock)
{
    struct loop *l = new_loop();
    struct sim_engine *e = new_engine(l, 10, 0, UINT64_MAX, 256);
    struct job a;
    usec_t model;

    make(&a, 1, 10, 0, 100);
    EQ_RC(sim_engine_start(e, &a.job), RC_AGAIN);
    OK(sim_engine_has(&a.job));
    EQ_INT(sim_engine_load(e).running + sim_engine_load(e).waiting, 1);
    run_until(l, 1);
    model = a.job.task.member.seq.ended - a.job.task.member.seq.came;
    /* 100 iterations of t0 + w, a little more for what was read and is kept in mind. */
    OK(model > 100 * 6500 && model < 100 * 7000);
    OK(a.done - a.job.came >= model / 10);
    OK(a.job.began >= a.job.came && a.job.first > a.job.began && a.done > a.job.first);
    EQ_INT(sim_engine_load(e).running, 0);
    EQ_INT(sim_engine_load(e).model.generated, 100);
    IGNORE(sim_engine_free(e));
    IGNORE(loop_free(l));
}

TEST(the_models_time_does_not_wait_for_a_slow_loop)
{
    struct loop *l = new_loop();
    struct sim_engine *e = new_engine(l, 100, 0, UINT64_MAX, 256);
    struct job a;

    make(&a, 1, 4, 0, 50);
    EQ_RC(sim_engine_start(e, &a.job), RC_AGAIN);
    usleep(100000); /* all of it was due long ago */
    loop_turn(l, 0);
    EQ_INT(n_done, 1);
    OK(a.job.task.member.seq.ended - a.job.task.member.seq.came < 50 * 7000);
    OK(sim_machine_late(sim_engine_machine(e)) > 80 * USEC_PER_MS);
    IGNORE(sim_engine_free(e));
    IGNORE(loop_free(l));
}

TEST(what_others_sent_is_found_in_the_cache)
{
    struct loop *l = new_loop();
    struct sim_engine *e = new_engine(l, 1000, 0, UINT64_MAX, 256);
    struct job a, b;

    make(&a, 1, 20, 15, 2);
    make(&b, 2, 20, 15, 2);
    EQ_RC(sim_engine_start(e, &a.job), RC_AGAIN);
    run_until(l, 1);
    EQ_RC(sim_engine_start(e, &b.job), RC_AGAIN);
    run_until(l, 2);
    EQ_INT(a.job.task.member.seq.cached, 0);
    EQ_INT(b.job.task.member.seq.cached, 15 * SIM_BLOCK);
    EQ_INT(b.job.task.member.seq.computed, 5 * SIM_BLOCK);
    sim_machine_crash(sim_engine_machine(e), 0, 1);
    EQ_RC(sim_engine_start(e, &b.job), RC_AGAIN);
    run_until(l, 3);
    EQ_INT(b.job.task.member.seq.cached, 0);                  /* it was lost */
    EQ_INT(sim_engine_load(e).model.queries, 20 * SIM_BLOCK); /* and counted anew */
    IGNORE(sim_engine_free(e));
    IGNORE(loop_free(l));
}

TEST(what_is_too_much_is_refused)
{
    struct loop *l = new_loop();
    struct sim_engine *e = new_engine(l, 1, 0, 1, 1);
    struct job a, b, c;

    make(&a, 1, 4, 0, 1000);
    make(&b, 2, 4, 0, 1000);
    make(&c, 3, 4, 0, 1000);
    EQ_RC(sim_engine_start(e, &a.job), RC_AGAIN);
    EQ_RC(sim_engine_start(e, &b.job), RC_AGAIN);
    EQ_RC(sim_engine_start(e, &c.job), RC_LIMIT);
    OK(!sim_engine_has(&c.job));
    c.job.task.member.seq.out = 500000;
    EQ_RC(sim_engine_start(e, &c.job), RC_INVALID);
    sim_engine_abort(&a.job);
    sim_engine_abort(&a.job); /* idle: nothing happens */
    EQ_RC(sim_engine_start(e, &a.job), RC_AGAIN);
    sim_engine_abort(&a.job);
    sim_engine_abort(&b.job);
    EQ_INT(sim_engine_load(e).running + sim_engine_load(e).waiting, 0);
    IGNORE(sim_engine_free(e));
    IGNORE(loop_free(l));
}

static void abort_other(struct sim_job *j, usec_t now)
{
    struct job *a = CONTAINER_OF(j, struct job, job);

    (void)now;
    n_done++;
    sim_engine_abort(&a[1].job);
}

TEST(who_is_done_and_does_not_know_it_yet_can_leave)
{
    struct loop *l = new_loop();
    struct sim_engine *e = new_engine(l, 1000, 0, UINT64_MAX, 256);
    struct job a[2];

    make(&a[0], 1, 4, 0, 2);
    make(&a[1], 2, 4, 0, 2);
    a[0].job.done = abort_other;
    EQ_RC(sim_engine_start(e, &a[0].job), RC_AGAIN);
    EQ_RC(sim_engine_start(e, &a[1].job), RC_AGAIN);
    usleep(20000); /* both are due */
    for (int i = 0; i < 5; i++)
        loop_turn(l, USEC_PER_MS);
    EQ_INT(n_done, 1);
    OK(!sim_engine_has(&a[1].job));
    OK(a[1].job.task.member.seq.ended > 0); /* the model was done with it */
    IGNORE(sim_engine_free(e));
    IGNORE(loop_free(l));
}

TEST(a_slow_machine_takes_longer_and_a_healed_one_does_not)
{
    struct loop *l = new_loop();
    struct sim_engine *e = new_engine(l, 1000, 0, UINT64_MAX, 256);
    struct job a;
    usec_t took[3];

    for (unsigned i = 0; i < 3; i++) {
        sim_engine_slower(e, i == 1 ? 10 : 1);
        make(&a, i + 1, 4, 0, 100);
        EQ_RC(sim_engine_start(e, &a.job), RC_AGAIN);
        run_until(l, i + 1);
        took[i] = a.job.task.member.seq.ended - a.job.task.member.seq.came;
    }
    OK(took[1] > 9 * took[0] && took[1] < 11 * took[0]);
    OK(took[2] < 2 * took[0]);
    IGNORE(sim_engine_free(e));
    IGNORE(loop_free(l));
}

TEST(a_crowd_is_beside_the_requests_and_survives_a_crash)
{
    struct loop *l = new_loop();
    struct sim_engine *e = new_engine(l, 1000, 50, UINT64_MAX, 256);
    const struct sim_crowd_counts *n = sim_machine_crowd(sim_engine_machine(e));
    struct job a;
    uint64_t before;

    make(&a, 1, 4, 0, 1000);
    EQ_RC(sim_engine_start(e, &a.job), RC_AGAIN);
    run_until(l, 1);
    OK(n->turns > 100 && n->answered > 0);
    sim_machine_crash(sim_engine_machine(e), loop_now(l) + 5 * USEC_PER_MS, 0.5);
    OK(sim_engine_load(e).model.kv_total < 206000);
    before = n->answered;
    for (usec_t end = loop_now(l) + 30 * USEC_PER_MS; loop_now(l) < end;)
        loop_turn(l, USEC_PER_MS);
    OK(n->refused > 100); /* 5 ms are 5 s */
    OK(n->answered > before);
    IGNORE(sim_engine_free(e));
    IGNORE(loop_free(l));
}
