/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/engine.h"
#include "base/mem.h"

struct sim_engine {
    struct loop *loop;
    uint64_t concurrency, max_queued;
    struct sim_load load;
    struct list queue; /* those waiting, first come first */
};

struct sim_engine *sim_engine_new(struct loop *l, uint64_t concurrency,
                                  uint64_t max_queued)
{
    struct sim_engine *e = mem_new(struct sim_engine);

    e->loop = l;
    e->concurrency = concurrency ? concurrency : UINT64_MAX;
    e->max_queued = max_queued;
    list_init(&e->queue);
    return e;
}

struct sim_engine *sim_engine_free(struct sim_engine *e)
{
    if (e)
        CHECK(e->load.running == 0 && e->load.waiting == 0);
    mem_free(e);
    return NULL;
}

static void on_done(void *ctx, usec_t now);

static void run(struct sim_engine *e, struct sim_job *job)
{
    job->_runs = true;
    job->began = loop_now(e->loop);
    e->load.running++;
    e->load.tokens += job->tokens;
    loop_timer_set(e->loop, &job->_timer, job->began + job->takes, on_done, job);
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

enum rc sim_engine_start(struct sim_engine *e, struct sim_job *job)
{
    CHECK(!job->_e);
    job->came = job->began = loop_now(e->loop);
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

void sim_engine_abort(struct sim_job *job)
{
    struct sim_engine *e = job->_e;

    if (!e)
        return;
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

struct sim_load sim_engine_load(const struct sim_engine *e)
{
    return e->load;
}
