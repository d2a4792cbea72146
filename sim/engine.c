/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/engine.h"
#include "base/mem.h"

struct sim_engine {
    struct loop *loop;
    struct sim_machine *machine; /* NULL: what follows is the machine */
    uint64_t concurrency, max_queued;
    double slower;
    struct sim_load load;
    struct list queue; /* those waiting, first come first */
};

struct sim_engine *sim_engine_new(struct loop *l, const struct sim_engine_opts *o)
{
    struct sim_engine *e = mem_new(struct sim_engine);

    e->loop = l;
    e->concurrency = o->concurrency ? o->concurrency : UINT64_MAX;
    e->max_queued = o->max_queued;
    e->slower = 1;
    list_init(&e->queue);
    if (o->machine)
        e->machine = sim_machine_new(l, o->machine);
    return e;
}

struct sim_engine *sim_engine_free(struct sim_engine *e)
{
    if (!e)
        return NULL;
    CHECK(e->load.running == 0 && e->load.waiting == 0);
    IGNORE(sim_machine_free(e->machine)); /* always NULL */
    mem_free(e);
    return NULL;
}

/* --- With a model --------------------------------------------------------------------
 */

static void on_over(struct sim_task *t, usec_t now)
{
    struct sim_job *job = CONTAINER_OF(t, struct sim_job, task);
    struct sim_machine *m = job->_e->machine;

    job->_e = NULL;
    job->began = sim_machine_clock(m, t->member.seq.began);
    job->first = sim_machine_clock(m, t->member.seq.first);
    job->done(job, now);
}

static enum rc start_in_machine(struct sim_engine *e, struct sim_job *job)
{
    enum rc rc;

    job->task.over = on_over;
    rc = sim_machine_start(e->machine, &job->task);
    if (rc != RC_OK)
        return rc;
    job->_e = e;
    return RC_AGAIN;
}

/* --- Without a model -----------------------------------------------------------------
 */

static void on_done(void *ctx, usec_t now);

static void run(struct sim_engine *e, struct sim_job *job)
{
    job->_runs = true;
    job->began = loop_now(e->loop);
    e->load.running++;
    e->load.tokens += job->tokens;
    loop_timer_set(e->loop, &job->_timer,
                   job->began + (usec_t)((double)job->takes * e->slower), on_done, job);
}

static void leave(struct sim_engine *e, struct sim_job *job)
{
    e->load.running--;
    e->load.tokens -= job->tokens;
    job->_runs = false;
    job->_e = NULL;
}

static void run_next(struct sim_engine *e)
{
    while (e->load.running < e->concurrency && !list_empty(&e->queue)) {
        struct sim_job *job = list_entry(list_pop(&e->queue), struct sim_job, _link);

        e->load.waiting--;
        run(e, job);
    }
}

/* The next one runs before the owner hears of this one: whatever the owner starts in
 * `done` came later than all that wait. */
static void on_done(void *ctx, usec_t now)
{
    struct sim_job *job = ctx;
    struct sim_engine *e = job->_e;

    leave(e, job);
    run_next(e);
    job->done(job, now);
}

static enum rc start_in_line(struct sim_engine *e, struct sim_job *job)
{
    if (e->load.running < e->concurrency) {
        if (job->takes <= 0)
            return RC_OK;
        job->_e = e;
        run(e, job);
        return RC_AGAIN;
    }
    if (e->load.waiting >= e->max_queued)
        return RC_LIMIT;
    job->_e = e;
    e->load.waiting++;
    list_add_tail(&e->queue, &job->_link);
    return RC_AGAIN;
}

static void abort_in_line(struct sim_engine *e, struct sim_job *job)
{
    if (job->_runs) {
        loop_timer_clear(e->loop, &job->_timer);
        leave(e, job);
        run_next(e);
        return;
    }
    list_del(&job->_link);
    e->load.waiting--;
    job->_e = NULL;
}

/* --- Both ----------------------------------------------------------------------------
 */

enum rc sim_engine_start(struct sim_engine *e, struct sim_job *job)
{
    CHECK(!job->_e);
    job->came = job->began = loop_now(e->loop);
    job->first = 0;
    return e->machine ? start_in_machine(e, job) : start_in_line(e, job);
}

void sim_engine_abort(struct sim_job *job)
{
    struct sim_engine *e = job->_e;

    if (!e)
        return;
    if (!e->machine) {
        abort_in_line(e, job);
        return;
    }
    job->_e = NULL;
    sim_machine_abort(&job->task);
    if (job->task.member.seq.began)
        job->began = sim_machine_clock(e->machine, job->task.member.seq.began);
    if (job->task.member.seq.first)
        job->first = sim_machine_clock(e->machine, job->task.member.seq.first);
}

struct sim_load sim_engine_load(struct sim_engine *e)
{
    struct sim_load load = e->load;

    if (e->machine) {
        sim_machine_load(e->machine, &load.model);
        load.running = load.model.running;
        load.waiting = load.model.waiting;
        load.tokens = load.model.kv_used;
    }
    return load;
}

void sim_engine_slower(struct sim_engine *e, double factor)
{
    e->slower = factor;
    if (e->machine)
        sim_machine_slower(e->machine, factor);
}

struct sim_machine *sim_engine_machine(struct sim_engine *e)
{
    return e->machine;
}
