/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random walks against a simple model: upstreams that fail in every way at random, batches
 * that come, are paused, held, ranked anew, sent elsewhere, cancelled and end, in groups
 * with limits.
 *
 * What must hold: no ticket breaks a window, a pause, a hold, a set, a group's limit; what
 * runs alone is alone; a line is never in flight twice, ends at most once, and every line
 * of an open batch ends; nobody of lower priority goes while one of higher could have gone
 * there, and of a group's equals the earliest deadline goes; who waits is woken, and never without need.
 */
#include "base/mem.h"
#include "sched/sched.h"
#include "tests/lib/sched.h"
#include "tests/lib/t.h"

#include <stdlib.h>

#define BATCHES  8
#define UPS      4
#define SLOTS    64
#define GROUPS   4
#define ATTEMPTS 5

/* SHAKY: half of what it does breaks, which brings lines to the try that is made alone. */
enum health { WELL, SHAKY, SICK };

enum item_state { NEW, AGAIN, FLYING, ENDED };

struct mbatch {
    uint8_t *state; /* by item; NULL: there is no batch */
    uint32_t handle, n, left, hold;
    int priority;
    bool open, paused;
    bool near; /* a line of it may have to run alone: that takes turns unseen by us */
    struct sched_set set;
    uint16_t group;
    usec_t deadline;
    uint64_t seq;    /* of equal deadlines the lower one goes first */
    unsigned flying; /* more than 64 only when a line of it was answered */
};

struct model {
    struct sched *s;
    uint64_t rng, seq;
    usec_t now;
    unsigned window[UPS], flying[UPS];
    bool alone[UPS];
    enum health health[UPS];
    unsigned limit[GROUPS], in_group[GROUPS];
    struct mbatch b[BATCHES];
    struct sched_ticket fly[UPS * SLOTS];
    unsigned n_fly, ended, n_alone;
};

static unsigned pick(struct model *m, unsigned below)
{
    m->rng ^= m->rng << 13;
    m->rng ^= m->rng >> 7;
    m->rng ^= m->rng << 17;
    return (unsigned)(m->rng % below);
}

static struct mbatch *batch_of(struct model *m, uint32_t handle)
{
    for (unsigned i = 0; i < BATCHES; i++)
        if (m->b[i].state && m->b[i].handle == handle)
            return &m->b[i];
    FAIL("a ticket of an unknown batch");
}

/* --- What a ticket must keep ---------------------------------------------------------
 */

static bool below_hold(const struct mbatch *b, uint32_t item)
{
    return b->hold == 0 || item < b->hold;
}

static bool has_fresh(const struct mbatch *b)
{
    for (uint32_t i = 0; i < b->n && below_hold(b, i); i++)
        if (b->state[i] == NEW)
            return true;
    return false;
}

/* Slots that the group certainly has left: upstreams that are being drained for lines of it
 * have some, which we do not see. */
static bool group_has_room(const struct model *m, uint16_t group)
{
    unsigned unseen = 0;

    for (unsigned i = 0; i < BATCHES; i++)
        if (m->b[i].state && m->b[i].group == group && m->b[i].near)
            unseen = UPS;
    return m->limit[group] == 0 || m->in_group[group] + unseen < m->limit[group];
}

/* It certainly could have had this ticket. */
static bool could_have_gone(const struct model *m, const struct mbatch *c, uint16_t up)
{
    return c->state && c->open && !c->paused && sched_set_has(&c->set, up) &&
           c->flying < 50 && group_has_room(m, c->group) && has_fresh(c);
}

static void check_order(struct model *m, const struct mbatch *b, uint16_t up)
{
    for (unsigned i = 0; i < BATCHES; i++) {
        struct mbatch *c = &m->b[i];

        if (c == b || !could_have_gone(m, c, up) || c->priority < b->priority)
            continue;
        if (c->priority > b->priority)
            FAIL("priority %d went before %d", b->priority, c->priority);
        if (b->group == c->group && !b->near && !c->near)
            OK(b->deadline < c->deadline ||
               (b->deadline == c->deadline && b->seq < c->seq));
    }
}

static void check_ticket(struct model *m, const struct sched_ticket *t)
{
    struct mbatch *b = batch_of(m, t->batch);
    unsigned up = t->upstream;

    OK(b->open && !b->paused && below_hold(b, t->item));
    OK(sched_set_has(&b->set, t->upstream));
    OK(b->state[t->item] == NEW || b->state[t->item] == AGAIN);
    EQ_INT(b->state[t->item] == NEW && t->attempt > 0, 0);
    OK(!m->alone[up] && (!t->alone || m->flying[up] == 0));
    if (!t->alone)
        check_order(m, b, t->upstream);
    b->state[t->item] = FLYING;
    b->flying++;
    b->near = b->near || t->attempt + 2 >= ATTEMPTS;
    m->alone[up] = t->alone;
    m->n_alone += t->alone;
    OK(++m->flying[up] <= m->window[up]);
    m->in_group[b->group]++;
    OK(m->limit[b->group] == 0 || m->in_group[b->group] <= m->limit[b->group]);
    m->fly[m->n_fly++] = *t;
}

/* Something waits that no edit keeps back. */
static bool runnable(const struct model *m)
{
    for (unsigned k = 0; k < BATCHES; k++) {
        const struct mbatch *b = &m->b[k];
        bool somewhere = false;

        for (uint16_t up = 0; up < UPS; up++)
            somewhere = somewhere || sched_set_has(&b->set, up);
        if (!b->state || !b->open || b->paused || !somewhere)
            continue;
        for (uint32_t i = 0; i < b->n && below_hold(b, i); i++)
            if (b->state[i] == NEW || b->state[i] == AGAIN)
                return true;
    }
    return false;
}

static void take(struct model *m)
{
    struct sched_ticket t[16];
    size_t max = 1 + pick(m, 16), n = sched_next(m->s, t, max, m->now);

    for (size_t i = 0; i < n; i++)
        check_ticket(m, &t[i]);
    if (n < max) {
        usec_t wake = sched_next_wake(m->s, m->now);

        OK(wake > m->now); /* or the loop would spin */
        if (m->n_fly == 0 && runnable(m))
            OK(wake < USEC_INFINITY);
    }
}

/* --- What happens --------------------------------------------------------------------
 */

static enum outcome_class outcome(struct model *m, uint16_t up)
{
    if (m->health[up] == SICK)
        return pick(m, 4) ? OUTCOME_BROKEN : OUTCOME_HOST;
    if (m->health[up] == SHAKY)
        return pick(m, 2) ? OUTCOME_BROKEN : OUTCOME_DONE;
    return pick(m, 3) ? OUTCOME_DONE : (enum outcome_class)pick(m, OUTCOME_COUNT);
}

static void land(struct model *m)
{
    unsigned k = pick(m, m->n_fly);
    struct sched_ticket t = m->fly[k];
    struct mbatch *b = batch_of(m, t.batch);
    enum outcome_class cls = outcome(m, t.upstream);
    usec_t after = pick(m, 20) ? -1 : (usec_t)pick(m, 30) * USEC_PER_SEC;

    m->fly[k] = m->fly[--m->n_fly];
    m->flying[t.upstream]--;
    m->alone[t.upstream] = false;
    m->in_group[b->group]--;
    b->flying--;
    if (pick(m, 50) == 0) {
        sched_aborted(m->s, &t, m->now);
        b->state[t.item] = b->open ? AGAIN : ENDED;
        b->left -= !b->open;
        return;
    }
    if (back(m->s, &t, cls, after, m->now) == SCHED_RETRY) {
        OK(b->open && cls != OUTCOME_DONE && cls != OUTCOME_REFUSED);
        b->state[t.item] = AGAIN;
        return;
    }
    b->state[t.item] = ENDED;
    b->left--;
    m->ended++;
}

static bool in_flight(const struct model *m, const struct mbatch *b)
{
    for (unsigned i = 0; i < m->n_fly; i++)
        if (m->fly[i].batch == b->handle)
            return true;
    return false;
}

static struct sched_set random_set(struct model *m)
{
    struct sched_set set = {{0}};

    for (uint16_t up = 0; up < UPS; up++)
        if (pick(m, 3))
            sched_set_add(&set, up);
    return set;
}

static void begin(struct model *m, struct mbatch *b)
{
    struct sched_batch_opts o = {.n_items = 1 + pick(m, 200),
                                 .deadline =
                                     m->now + (1 + pick(m, 4)) * (86400 * USEC_PER_SEC),
                                 .priority = (int)pick(m, 3) - 1,
                                 .paused = pick(m, 8) == 0,
                                 .group = (uint16_t)pick(m, GROUPS)};

    *b = (struct mbatch){.n = o.n_items,
                         .left = o.n_items,
                         .state = mem_new_n(uint8_t, o.n_items),
                         .open = true,
                         .priority = o.priority,
                         .paused = o.paused,
                         .group = o.group,
                         .set = random_set(m),
                         .deadline = o.deadline,
                         .seq = ++m->seq};
    b->hold = o.hold = pick(m, 4) ? 0 : 1 + pick(m, 50);
    o.upstreams = &b->set;
    b->handle = sched_batch_add(m->s, &o, m->now);
}

static void edit(struct model *m, struct mbatch *b)
{
    unsigned what = pick(m, 5);

    if (what == 0) {
        b->set = random_set(m);
        sched_batch_upstreams(m->s, b->handle, &b->set);
    } else {
        b->paused ^= what == 1;
        if (what == 2)
            b->hold = pick(m, 2) ? 0 : 1 + pick(m, 60);
        if (what == 3)
            b->priority = (int)pick(m, 3) - 1;
        if (what == 4)
            b->deadline = m->now + (1 + pick(m, 4)) * (86400 * USEC_PER_SEC);
        sched_batch_edit(m->s, b->handle, b->priority, b->paused, b->hold, b->deadline);
    }
}

static void batches(struct model *m)
{
    struct mbatch *b = &m->b[pick(m, BATCHES)];

    if (!b->state) {
        begin(m, b);
    } else if (b->open && pick(m, 400) == 0) {
        sched_batch_close(m->s, b->handle);
        b->open = false;
    } else if ((b->left == 0 || !b->open) && !in_flight(m, b)) {
        sched_batch_remove(m->s, b->handle);
        mem_free(b->state);
        *b = (struct mbatch){0};
    } else if (pick(m, 10) == 0) {
        edit(m, b);
    }
}

static void probes(struct model *m)
{
    uint16_t up;

    while (sched_probe(m->s, &up, m->now))
        sched_probe_done(m->s, up, m->health[up] != SICK, m->now);
    if (pick(m, 500) == 0)
        m->health[pick(m, UPS)] = (enum health)pick(m, 3);
}

static bool work_left(const struct model *m)
{
    for (unsigned i = 0; i < BATCHES; i++)
        if (m->b[i].state && m->b[i].open && m->b[i].left)
            return true;
    return m->n_fly > 0;
}

/* Faults stop and nothing is kept back any more: every line of an open batch must end. */
static void settle(struct model *m)
{
    for (unsigned i = 0; i < BATCHES; i++) {
        struct mbatch *b = &m->b[i];

        if (!b->state)
            continue;
        b->paused = false;
        b->hold = 0;
        b->near = true;
        if (pick(m, 2))
            sched_set_add(&b->set, (uint16_t)pick(m, UPS));
        else
            memset(&b->set, 0xff, sizeof b->set);
        sched_batch_edit(m->s, b->handle, b->priority, false, 0, m->now);
        sched_batch_upstreams(m->s, b->handle, &b->set);
    }
    for (unsigned i = 0; i < 200000 && work_left(m); i++) {
        memset(m->health, 0, sizeof m->health);
        probes(m);
        take(m);
        while (m->n_fly)
            land(m);
        m->now += USEC_PER_SEC;
    }
    OK(!work_left(m));
}

static void walk(uint64_t seed, unsigned steps, unsigned *ended, unsigned *alone)
{
    struct model m = {
        .rng = seed * 2654435761u + 1,
        .s = sched_new(&(struct sched_opts){.seed = seed, .max_attempts = ATTEMPTS})};

    for (unsigned i = 0; i < UPS; i++) {
        m.window[i] = 1 + pick(&m, SLOTS);
        up_add(m.s, m.window[i]);
    }
    for (uint16_t i = 1; i < GROUPS; i++) {
        m.limit[i] = pick(&m, 2) ? 1 + pick(&m, 20) : 0;
        EQ_INT(sched_group_add(m.s, m.limit[i], 1), i);
    }
    for (unsigned i = 0; i < steps; i++) {
        usec_t wake;

        batches(&m);
        probes(&m);
        take(&m);
        for (unsigned k = pick(&m, 8); k && m.n_fly; k--)
            land(&m);
        wake = sched_next_wake(m.s, m.now);
        m.now += pick(&m, 2) && wake != USEC_INFINITY && wake > m.now ? wake - m.now
                                                                      : pick(&m, 50000);
    }
    settle(&m);
    for (unsigned i = 0; i < BATCHES; i++)
        mem_free(m.b[i].state);
    sched_free(m.s);
    *ended += m.ended;
    *alone += m.n_alone;
}

TEST_SLOW(random_walks_lose_no_line_and_break_no_rule, 60)
{
    const char *n = getenv("MODEL_SEEDS");
    uint64_t seeds = 60;
    unsigned ended = 0, alone = 0;

    if (n)
        EQ_RC(str_u64(str_of(n), &seeds), RC_OK);
    for (uint64_t seed = 1; seed <= seeds; seed++)
        walk(seed, 4000, &ended, &alone);
    OK(ended > seeds * 100);
    OK(alone > seeds * 10);
    t_note("%u lines ended over %llu seeds, %u of them tried alone", ended,
           (unsigned long long)seeds, alone);
}
