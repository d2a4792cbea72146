/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/machine.h"
#include "base/mem.h"

/* So many events of the model at once; then the connections have their turn. */
#define EVENTS_AT_ONCE 512

struct sim_machine {
    struct loop *loop;
    struct sim_machine_opts o;
    struct sim_model *model;
    struct sim_crowd_run *crowd;
    struct loop_timer timer;
    usec_t epoch; /* of the clock: the model's 0 */
    usec_t at;    /* what the model has come to, of its time */
    usec_t back;  /* likewise: until then nobody serves the crowd */
    usec_t late;
    struct list over; /* tasks whose owners do not know yet */
};

static usec_t model_time(const struct sim_machine *m)
{
    return (loop_now(m->loop) - m->epoch) * (usec_t)m->o.speed;
}

usec_t sim_machine_clock(const struct sim_machine *m, usec_t model)
{
    usec_t speed = (usec_t)m->o.speed;

    return model == USEC_INFINITY ? model : m->epoch + (model + speed - 1) / speed;
}

/* --- Events --------------------------------------------------------------------------
 */

static usec_t next_event(const struct sim_machine *m)
{
    usec_t model = sim_model_next(m->model), crowd = sim_crowd_next(m->crowd);

    return model < crowd ? model : crowd;
}

static void take_done(struct sim_machine *m)
{
    struct sim_seq *q;

    while ((q = sim_model_step(m->model, m->at))) {
        struct sim_member *member = CONTAINER_OF(q, struct sim_member, seq);

        if (member->of_crowd)
            sim_crowd_over(m->crowd, member);
        else
            list_add_tail(&m->over,
                          &CONTAINER_OF(member, struct sim_task, member)->_link);
    }
}

/* What is due, each at its own time.  `at` ends at the present, or behind it when there is
 * more than is done at once. */
static void advance(struct sim_machine *m)
{
    usec_t now = model_time(m);

    for (unsigned i = 0; i < EVENTS_AT_ONCE; i++) {
        usec_t t = next_event(m);

        if (t > now) {
            if (now > m->at)
                m->at = now;
            return;
        }
        if ((now - t) / (usec_t)m->o.speed > m->late)
            m->late = (now - t) / (usec_t)m->o.speed;
        if (t > m->at)
            m->at = t;
        /* Who comes when an iteration ends is seen by the next one. */
        if (sim_crowd_next(m->crowd) <= t)
            sim_crowd_come(m->crowd, m->model, t < m->back);
        else
            take_done(m);
    }
}

static void on_timer(void *ctx, usec_t now);

static void arm(struct sim_machine *m)
{
    usec_t t = next_event(m);

    if (!list_empty(&m->over))
        loop_timer_set(m->loop, &m->timer, loop_now(m->loop), on_timer, m);
    else if (t == USEC_INFINITY)
        loop_timer_clear(m->loop, &m->timer);
    else
        loop_timer_set(m->loop, &m->timer, sim_machine_clock(m, t), on_timer, m);
}

static void on_timer(void *ctx, usec_t now)
{
    struct sim_machine *m = ctx;
    struct list *it;

    advance(m);
    /* An owner may start or abort others: each is out of the list when its owner hears. */
    while ((it = list_pop(&m->over))) {
        struct sim_task *t = list_entry(it, struct sim_task, _link);

        t->_m = NULL;
        t->over(t, now);
    }
    arm(m);
}

/* --- Tasks ---------------------------------------------------------------------------
 */

enum rc sim_machine_start(struct sim_machine *m, struct sim_task *t)
{
    enum rc rc;

    CHECK(!t->_m && !t->member.of_crowd);
    advance(m);
    rc = sim_model_add(m->model, &t->member.seq, m->at);
    if (rc == RC_OK) {
        t->_m = m;
        list_init(&t->_link);
    }
    arm(m);
    return rc;
}

void sim_machine_abort(struct sim_task *t)
{
    struct sim_machine *m = t->_m;

    if (!m)
        return;
    advance(m);
    t->_m = NULL;
    if (list_empty(&t->_link))
        sim_model_abort(m->model, &t->member.seq, m->at);
    else
        list_del(&t->_link);
    arm(m);
}

/* --- The machine ---------------------------------------------------------------------
 */

struct sim_machine *sim_machine_new(struct loop *l, const struct sim_machine_opts *o)
{
    struct sim_machine *m = mem_new(struct sim_machine);

    CHECK(o->speed >= 1 && o->speed <= 1000);
    m->loop = l;
    m->o = *o;
    m->epoch = loop_now(l);
    m->model = sim_model_new(&o->model);
    m->crowd = sim_crowd_new(&o->crowd, o->seed, o->model.priorities, 0);
    list_init(&m->over);
    arm(m);
    return m;
}

struct sim_machine *sim_machine_free(struct sim_machine *m)
{
    if (!m)
        return NULL;
    CHECK(list_empty(&m->over));
    loop_timer_clear(m->loop, &m->timer);
    IGNORE(sim_model_free(m->model)); /* always NULL, as is the next */
    IGNORE(sim_crowd_free(m->crowd));
    mem_free(m);
    return NULL;
}

void sim_machine_load(struct sim_machine *m, struct sim_model_load *ret)
{
    advance(m);
    sim_model_load(m->model, m->at, ret);
    arm(m);
}

void sim_machine_slower(struct sim_machine *m, double factor)
{
    advance(m);
    sim_model_speed(m->model, 1 / factor, m->at);
    arm(m);
}

void sim_machine_crash(struct sim_machine *m, usec_t back, double share)
{
    struct sim_model_opts o = m->o.model;

    CHECK(list_empty(&m->over));
    o.kv_tokens = u64_max(SIM_BLOCK, (uint64_t)((double)o.kv_tokens * share));
    IGNORE(sim_model_free(m->model)); /* always NULL */
    sim_crowd_lost(m->crowd);
    m->model = sim_model_new(&o);
    m->back = (back - m->epoch) * (usec_t)m->o.speed;
    arm(m);
}

usec_t sim_machine_late(const struct sim_machine *m)
{
    return m->late;
}

const struct sim_crowd_counts *sim_machine_crowd(const struct sim_machine *m)
{
    return m->crowd ? sim_crowd_counts(m->crowd) : NULL;
}
