/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random walks against a simple model: upstreams that fail in every way at random,
 * batches that come, are cancelled and end.  What must hold: a window is never exceeded,
 * a line is never in flight twice, ends at most once, and every line of an open batch
 * ends; nothing waits for ever.
 */
#include "base/mem.h"
#include "sched/sched.h"
#include "tests/lib/t.h"

#include <stdlib.h>

#define BATCHES 6
#define UPS     4
#define SLOTS   64

enum item_state { WAITING, FLYING, ENDED };

struct model {
    struct sched *s;
    uint64_t rng;
    usec_t now;
    unsigned window[UPS], flying[UPS];
    bool sick[UPS];
    uint32_t handle[BATCHES], n[BATCHES], left[BATCHES];
    bool open[BATCHES];
    uint8_t *state[BATCHES];
    struct sched_ticket fly[UPS * SLOTS];
    unsigned n_fly, ended;
};

static unsigned pick(struct model *m, unsigned below)
{
    m->rng ^= m->rng << 13;
    m->rng ^= m->rng >> 7;
    m->rng ^= m->rng << 17;
    return (unsigned)(m->rng % below);
}

static unsigned batch_of(const struct model *m, uint32_t handle)
{
    for (unsigned i = 0; i < BATCHES; i++)
        if (m->state[i] && m->handle[i] == handle)
            return i;
    FAIL("a ticket of an unknown batch");
}

static void take(struct model *m)
{
    struct sched_ticket t[16];
    size_t n = sched_next(m->s, t, 1 + pick(m, 16), m->now);

    for (size_t i = 0; i < n; i++) {
        unsigned b = batch_of(m, t[i].batch);

        OK(m->open[b]);
        EQ_INT(m->state[b][t[i].item], WAITING);
        m->state[b][t[i].item] = FLYING;
        OK(++m->flying[t[i].upstream] <= m->window[t[i].upstream]);
        m->fly[m->n_fly++] = t[i];
    }
}

static enum outcome_class outcome(struct model *m, uint16_t up)
{
    if (m->sick[up])
        return pick(m, 2) ? OUTCOME_HOST : OUTCOME_BROKEN;
    return pick(m, 3) ? OUTCOME_DONE : (enum outcome_class)pick(m, OUTCOME_COUNT);
}

static void land(struct model *m)
{
    unsigned k = pick(m, m->n_fly);
    struct sched_ticket t = m->fly[k];
    unsigned b = batch_of(m, t.batch);
    enum outcome_class cls = outcome(m, t.upstream);
    usec_t after = pick(m, 20) ? -1 : (usec_t)pick(m, 30) * USEC_PER_SEC;

    m->fly[k] = m->fly[--m->n_fly];
    m->flying[t.upstream]--;
    if (pick(m, 50) == 0) {
        sched_aborted(m->s, &t, m->now);
        m->state[b][t.item] = m->open[b] ? WAITING : ENDED;
        m->left[b] -= !m->open[b];
        return;
    }
    if (sched_done(m->s, &t, cls, after, m->now) == SCHED_RETRY) {
        OK(m->open[b] && cls != OUTCOME_DONE && cls != OUTCOME_REFUSED);
        m->state[b][t.item] = WAITING;
        return;
    }
    m->state[b][t.item] = ENDED;
    m->left[b]--;
    m->ended++;
}

static bool in_flight(const struct model *m, unsigned b)
{
    for (unsigned i = 0; i < m->n_fly; i++)
        if (m->fly[i].batch == m->handle[b])
            return true;
    return false;
}

static void batches(struct model *m)
{
    unsigned b = pick(m, BATCHES);

    if (!m->state[b]) {
        m->n[b] = m->left[b] = 1 + pick(m, 200);
        m->state[b] = mem_new_n(uint8_t, m->n[b]);
        m->open[b] = true;
        m->handle[b] =
            sched_batch_add(m->s,
                            &(struct sched_batch_opts){.n_items = m->n[b],
                                                       .deadline = m->now + USEC_PER_SEC},
                            m->now);
    } else if (m->open[b] && pick(m, 400) == 0) {
        sched_batch_close(m->s, m->handle[b]);
        m->open[b] = false;
    } else if ((m->left[b] == 0 || !m->open[b]) && !in_flight(m, b)) {
        sched_batch_remove(m->s, m->handle[b]);
        mem_free(m->state[b]);
        m->state[b] = NULL;
    }
}

static void probes(struct model *m)
{
    uint16_t up;

    while (sched_probe(m->s, &up, m->now))
        sched_probe_done(m->s, up, !m->sick[up], m->now);
    if (pick(m, 500) == 0)
        m->sick[pick(m, UPS)] ^= true;
}

static bool work_left(const struct model *m)
{
    for (unsigned b = 0; b < BATCHES; b++)
        if (m->state[b] && m->open[b] && m->left[b])
            return true;
    return m->n_fly > 0;
}

/* Faults stop: every line of an open batch must end. */
static void settle(struct model *m)
{
    for (unsigned i = 0; i < 200000 && work_left(m); i++) {
        probes(m);
        memset(m->sick, 0, sizeof m->sick);
        take(m);
        while (m->n_fly)
            land(m);
        m->now += USEC_PER_SEC;
    }
    OK(!work_left(m));
}

static unsigned walk(uint64_t seed, unsigned steps)
{
    struct model m = {.rng = seed * 2654435761u + 1,
                      .s = sched_new(&(struct sched_opts){.seed = seed})};

    for (unsigned i = 0; i < UPS; i++) {
        m.window[i] = 1 + pick(&m, SLOTS);
        sched_upstream_add(m.s, m.window[i]);
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
    for (unsigned b = 0; b < BATCHES; b++)
        mem_free(m.state[b]);
    sched_free(m.s);
    return m.ended;
}

TEST_SLOW(random_walks_lose_no_line_and_double_none, 60)
{
    const char *n = getenv("MODEL_SEEDS");
    uint64_t seeds = 60;
    unsigned ended = 0;

    if (n)
        EQ_RC(str_u64(str_of(n), &seeds), RC_OK);
    for (uint64_t seed = 1; seed <= seeds; seed++)
        ended += walk(seed, 4000);
    OK(ended > seeds * 100);
    t_note("%u lines ended over %llu seeds", ended, (unsigned long long)seeds);
}
