/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/t.h"
#include "tests/unit/sim/model_ref.h"

#include <stdio.h>
#include <stdlib.h>

/* 10 us an iteration, 1 us a token; memory for 100 blocks. */
static struct sim_model_opts plain(void)
{
    return (struct sim_model_opts){.t0 = 10,
                                   .c1 = 1,
                                   .kv_tokens = 1600,
                                   .max_seqs = 4,
                                   .budget = 100,
                                   .max_queued = UINT64_MAX,
                                   .cache = true};
}

static uint64_t ids[64]; /* a chain: of one conversation */

static struct sim_seq seq(uint32_t prompt, uint32_t out)
{
    for (unsigned i = 0; i < COUNTOF(ids); i++)
        ids[i] = 1000 + i;
    return (struct sim_seq){
        .blocks = ids, .n_blocks = prompt / SIM_BLOCK, .prompt = prompt, .out = out};
}

/* With nothing shared. */
static struct sim_seq lone(uint32_t prompt, uint32_t out)
{
    return (struct sim_seq){.prompt = prompt, .out = out};
}

static void run(struct sim_model *m)
{
    for (usec_t t; (t = sim_model_next(m)) != USEC_INFINITY;)
        while (sim_model_step(m, t))
            ;
}

static void add(struct sim_model *m, struct sim_seq *q, usec_t now)
{
    EQ_RC(sim_model_add(m, q, now), RC_OK);
}

TEST(one_request_takes_its_prefill_and_an_iteration_a_token)
{
    struct sim_model_opts o = plain();
    struct sim_model *m = sim_model_new(&o);
    struct sim_seq q = lone(30, 4);

    add(m, &q, 1000);
    EQ_INT(sim_model_next(m), 1000);
    run(m);
    EQ_INT(q.began, 1000);
    EQ_INT(q.first, 1000 + 10 + 30);
    EQ_INT(q.ended, 1040 + 3 * 11);
    EQ_INT(q.made, 4);
    EQ_INT(sim_model_next(m), USEC_INFINITY);
    sim_model_free(m);
}

TEST(what_an_iteration_reads_and_the_floor_under_it_cost_time)
{
    struct sim_model_opts o = plain();
    struct sim_seq q = lone(30, 3);
    struct sim_model *m;

    o.w = 50;
    o.c3 = 2;
    o.c4 = 0.5;
    m = sim_model_new(&o);
    add(m, &q, 0);
    run(m);
    /* The prefill: 30 tokens that see 15 on average; then contexts of 31 and 32. */
    EQ_INT(q.first, 10 + 50 + 30 * 15 / 2);
    EQ_INT(q.ended, q.first + (60 + 2 * 31) + (60 + 2 * 32));
    sim_model_free(m);
}

TEST(a_prompt_over_the_budget_is_cut_and_the_rest_of_the_budget_goes_to_the_next)
{
    struct sim_model_opts o = plain();
    struct sim_model *m = sim_model_new(&o);
    struct sim_seq a = lone(150, 1), b = lone(60, 2);

    add(m, &a, 0);
    add(m, &b, 0);
    run(m);
    /* 100 of a; 50 of a and 50 of b; 10 of b; one token of b */
    EQ_INT(a.ended, 110 + 110);
    EQ_INT(b.began, 110);
    EQ_INT(b.first, 220 + 20);
    EQ_INT(b.ended, 240 + 11);
    sim_model_free(m);
}

TEST(no_more_than_max_seqs_run_and_the_others_go_by_arrival)
{
    struct sim_model_opts o = plain();
    struct sim_seq q[6];
    struct sim_model_load load;
    struct sim_model *m;

    o.max_seqs = 2;
    o.max_queued = 3;
    m = sim_model_new(&o);
    for (unsigned i = 0; i < 6; i++)
        q[i] = lone(10, 2);
    for (unsigned i = 0; i < 5; i++)
        add(m, &q[i], 0);
    EQ_RC(sim_model_add(m, &q[5], 0), RC_LIMIT);
    EQ_INT(sim_model_next(m), 0);
    OK(!sim_model_step(m, 0));
    sim_model_load(m, 0, &load);
    EQ_INT(load.running, 2);
    EQ_INT(load.waiting, 3);
    run(m);
    EQ_INT(q[1].ended, 30 + 12);
    EQ_INT(q[2].began, 42);
    EQ_INT(q[4].ended, 42 + 42 + 20 + 11);
    sim_model_free(m);
}

TEST(the_less_urgent_wait_where_priorities_count)
{
    for (int priorities = 0; priorities < 2; priorities++) {
        struct sim_model_opts o = plain();
        struct sim_seq a = lone(10, 1), b = lone(10, 1), c = lone(10, 1);
        struct sim_model *m;

        o.max_seqs = 1;
        o.priorities = priorities;
        m = sim_model_new(&o);
        b.priority = 5;
        c.priority = -5;
        add(m, &a, 0);
        OK(!sim_model_step(m, 0));
        add(m, &b, 1);
        add(m, &c, 2);
        run(m);
        EQ_INT(b.ended < c.ended, !priorities);
        sim_model_free(m);
    }
}

TEST(a_prefix_is_found_in_whole_blocks_and_one_token_is_always_computed)
{
    static const struct {
        uint32_t prompt, cached;
    } rows[] = {{70, 64}, {100, 96}, {64, 48}, {65, 64}, {15, 0}, {16, 0}, {17, 16}};

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct sim_model_opts o = plain();
        struct sim_model *m = sim_model_new(&o);
        struct sim_seq first = seq(100, 1), q = seq(rows[i].prompt, 1);
        struct sim_model_load load;

        add(m, &first, 0);
        run(m);
        EQ_INT(first.cached, 0);
        add(m, &q, 1000);
        run(m);
        EQ_INT(q.cached, rows[i].cached);
        EQ_INT(q.ended, 1000 + 10 + (rows[i].prompt - rows[i].cached));
        sim_model_load(m, q.ended, &load);
        EQ_INT(load.hits, rows[i].cached);
        EQ_INT(load.queries, 100 + rows[i].prompt);
        EQ_INT(load.kv_used, 0);
        sim_model_free(m);
    }
}

TEST(those_admitted_together_share_what_the_first_computes)
{
    struct sim_model_opts o = plain();
    struct sim_seq a = seq(60, 1), b = seq(60, 1), c = seq(60, 1);
    struct sim_model *m = sim_model_new(&o);

    add(m, &a, 0);
    add(m, &b, 0);
    add(m, &c, 0);
    run(m);
    EQ_INT(b.cached, 48);
    EQ_INT(c.ended, 10 + 60 + 12 + 12);
    sim_model_free(m);

    o.cache = false;
    m = sim_model_new(&o);
    add(m, &a, 0);
    add(m, &b, 0);
    run(m);
    EQ_INT(b.cached, 0);
    sim_model_free(m);
}

TEST(the_least_recently_used_prefix_goes_first_and_from_its_end)
{
    struct sim_model_opts o = plain();
    struct sim_seq a = seq(64, 1), big = lone(96, 1), again = seq(64, 1);
    struct sim_model *m;

    o.kv_tokens = 160; /* 10 blocks: 4 of a, of which two must go for 6 + 2 */
    o.budget = 1000;
    m = sim_model_new(&o);
    add(m, &a, 0);
    run(m);
    big.prompt = 128;
    add(m, &big, 1000);
    run(m);
    add(m, &again, 2000);
    run(m);
    EQ_INT(again.cached, 32);
    sim_model_free(m);
}

TEST(the_last_admitted_gives_its_memory_up_and_is_computed_anew)
{
    struct sim_model_opts o = plain();
    struct sim_seq a = lone(16, 40), b = lone(16, 40);
    struct sim_model_load load;
    struct sim_model *m;

    o.kv_tokens = 6 * SIM_BLOCK; /* two of 55 tokens want 8 blocks */
    m = sim_model_new(&o);
    add(m, &a, 0);
    add(m, &b, 0);
    run(m);
    EQ_INT(a.preempted, 0);
    EQ_INT(b.preempted, 1);
    EQ_INT(a.made, 40);
    EQ_INT(b.made, 40);
    /* Together through 32 decodes (blocks for 48 tokens each), then a alone for 7 ... */
    EQ_INT(a.ended, 42 + 32 * 12 + 7 * 11);
    /* ... then b's 16 + 33 tokens at once, and what is left of its 40. */
    EQ_INT(b.ended, a.ended + 10 + 49 + 6 * 11);
    sim_model_load(m, b.ended, &load);
    EQ_INT(load.preemptions, 1);
    EQ_INT(load.computed, 16 + 16 + 49);
    EQ_INT(load.generated, 80);
    EQ_INT(load.kv_used, 0);
    sim_model_free(m);
}

TEST(what_can_never_fit_is_refused)
{
    struct sim_model_opts o = plain();
    struct sim_model *m = sim_model_new(&o);
    struct sim_seq q = lone(1000, 602), fits = lone(1000, 601);

    EQ_RC(sim_model_add(m, &q, 0), RC_INVALID);
    add(m, &fits, 0);
    run(m);
    EQ_INT(fits.made, 601);
    sim_model_free(m);
}

TEST(an_abort_frees_memory_and_place_after_the_iteration_under_way)
{
    struct sim_model_opts o = plain();
    struct sim_seq a = lone(10, 100), b = lone(10, 2), c = lone(10, 2);
    struct sim_model_load load;
    struct sim_model *m;

    o.max_seqs = 1;
    m = sim_model_new(&o);
    add(m, &a, 0);
    OK(!sim_model_step(m, 0));
    add(m, &b, 5);
    add(m, &c, 6);
    sim_model_abort(m, &a, 25); /* in its first decode, which ends at 31 */
    EQ_INT(a.made, 1);
    EQ_INT(a.ended, 25);
    sim_model_abort(m, &c, 26);
    sim_model_load(m, 26, &load);
    EQ_INT(load.kv_used, 0);
    EQ_INT(load.waiting, 1);
    run(m);
    EQ_INT(b.began, 31);
    EQ_INT(b.ended, 31 + 20 + 11);
    sim_model_abort(m, &b, 100); /* over already */
    sim_model_free(m);
}

TEST(a_request_that_is_done_and_not_yet_handed_over_can_be_aborted)
{
    struct sim_model_opts o = plain();
    struct sim_model *m = sim_model_new(&o);
    struct sim_seq a = lone(10, 1), b = lone(10, 1);

    add(m, &a, 0);
    add(m, &b, 500); /* a is done, nobody asked yet */
    EQ_INT(sim_model_next(m), 20);
    sim_model_abort(m, &a, 500);
    OK(!sim_model_step(m, 500));
    run(m);
    EQ_INT(b.ended, 520);
    sim_model_free(m);
}

TEST(a_crash_forgets_requests_and_cache)
{
    struct sim_model_opts o = plain();
    struct sim_seq a = seq(60, 1), b = seq(60, 50), c = seq(60, 1), w = seq(60, 1);
    struct sim_model_load load;
    struct sim_model *m;

    o.max_seqs = 1;
    m = sim_model_new(&o);
    add(m, &a, 0);
    run(m);
    add(m, &b, 100);
    OK(!sim_model_step(m, 100));
    add(m, &w, 101);
    sim_model_crash(m);
    EQ_INT(sim_model_next(m), USEC_INFINITY);
    sim_model_abort(m, &b, 150);
    sim_model_abort(m, &w, 150);
    add(m, &c, 200);
    run(m);
    EQ_INT(c.cached, 0);
    EQ_INT(c.ended, 270);
    sim_model_load(m, 300, &load);
    EQ_INT(load.kv_used, 0);
    sim_model_free(m);
}

TEST(a_change_of_speed_counts_from_the_next_iteration_on)
{
    struct sim_model_opts o = plain();
    struct sim_model *m = sim_model_new(&o);
    struct sim_seq q = lone(10, 11);

    add(m, &q, 0);
    OK(!sim_model_step(m, 0));
    EQ_INT(sim_model_next(m), 20);
    OK(!sim_model_step(m, 20));
    EQ_INT(sim_model_next(m), 20 + 10 * 11);
    sim_model_speed(m, 0.1, 40); /* in the second decode, which ends at 42 */
    EQ_INT(sim_model_next(m), 42);
    sim_model_speed(m, 0.1, 42);
    OK(!sim_model_step(m, 42));
    sim_model_speed(m, 1, 42 + 110 * 3);
    run(m);
    EQ_INT(q.ended, 42 + 110 * 3 + 5 * 11);
    sim_model_free(m);
}

TEST(an_arrival_is_seen_when_the_iteration_under_way_ends)
{
    struct sim_model_opts o = plain();
    struct sim_model *m = sim_model_new(&o);
    struct sim_seq a = lone(10, 1000), b = lone(10, 1);
    struct sim_model_load load;

    add(m, &a, 0);
    OK(!sim_model_step(m, 0));
    OK(!sim_model_step(m, 20));
    EQ_INT(sim_model_next(m), 20 + 999 * 11);
    sim_model_load(m, 20 + 500 * 11, &load); /* at the end of the 500th decode */
    EQ_INT(load.kv_used, 512);
    EQ_INT(load.generated, 1 + 499);
    add(m, &b, 20 + 500 * 11 + 3);
    EQ_INT(sim_model_next(m), 20 + 501 * 11);
    run(m);
    EQ_INT(b.began, 20 + 501 * 11);
    EQ_INT(b.ended, b.began + 10 + 11);
    EQ_INT(a.ended, 20 + 999 * 11 + 10);
    sim_model_free(m);
}

TEST(presets_are_found_by_name)
{
    struct sim_model_opts o;

    for (size_t i = 0; *sim_model_presets[i]; i++) {
        EQ_RC(sim_model_preset(str_of(sim_model_presets[i]), &o), RC_OK);
        OK(o.t0 > 0 && o.w > o.t0 && o.c1 > o.c3 && o.c3 > o.c4 && o.c4 > 0);
        OK(o.kv_tokens >= 32768 && o.max_seqs > 0 && o.budget >= o.max_seqs && o.cache);
    }
    EQ_RC(sim_model_preset(STR("h200"), &o), RC_NOTFOUND);
}

/* --- Against the reference -----------------------------------------------------------
 */

#define LOAD 160

struct event {
    usec_t at;
    unsigned kind; /* 0: request `i` comes; 1: it is aborted; 2: speed */
    unsigned i;
    double speed;
};

struct load {
    struct sim_model_opts o;
    struct ref_seq seqs[LOAD];
    struct event events[3 * LOAD];
    unsigned n, n_events;
    uint64_t chains[8][64];
    uint64_t state;
};

static uint64_t draw(struct load *l, uint64_t n)
{
    l->state = l->state * 6364136223846793005u + 1442695040888963407u;
    return (l->state >> 33) % n;
}

static int by_time(const void *a, const void *b)
{
    const struct event *x = a, *y = b;

    if (x->at != y->at)
        return x->at < y->at ? -1 : 1;
    return x->kind != y->kind ? (x->kind < y->kind ? -1 : 1)
                              : (x->i > y->i) - (x->i < y->i);
}

static void make_chains(struct load *l)
{
    for (unsigned c = 0; c < 8; c++)
        for (unsigned i = 0; i < 64; i++)
            /* Chains of four pairs part after 6 blocks. */
            l->chains[c][i] = 1 + i + 1000 * (i < 6 ? c / 2 : c) + (i < 6 ? 0 : 100000);
}

static void make_load(struct load *l, uint64_t seed)
{
    usec_t span;

    *l = (struct load){.state = seed * 77 + 1, .n = LOAD};
    make_chains(l);
    l->o = (struct sim_model_opts){.t0 = 1.5 + (double)draw(l, 100) / 7,
                                   .w = (double)draw(l, 60),
                                   .c1 = (double)draw(l, 1000) / 333,
                                   .c3 = (double)draw(l, 100) / 9999,
                                   .c4 = (double)draw(l, 10) / 999,
                                   .kv_tokens = 16 * (70 + draw(l, 150)),
                                   .max_seqs = 1 + (unsigned)draw(l, 30),
                                   .budget = 30 + (unsigned)draw(l, 300),
                                   .max_queued = UINT64_MAX,
                                   .cache = draw(l, 8) > 0,
                                   .priorities = draw(l, 3) == 0};
    span = (usec_t)(1000 + draw(l, 60000));
    for (unsigned i = 0; i < l->n; i++) {
        struct sim_seq *q = &l->seqs[i].q;
        usec_t at = (usec_t)draw(l, (uint64_t)span);

        q->prompt = 1 + (uint32_t)draw(l, 500);
        q->out = 1 + (uint32_t)draw(l, draw(l, 4) ? 40 : 500);
        q->blocks = l->chains[draw(l, 8)];
        q->n_blocks = (uint32_t)draw(l, q->prompt / 16 + 1);
        q->priority = (int)draw(l, 3) - 1;
        l->events[l->n_events++] = (struct event){.at = at, .i = i};
        if (draw(l, 6) == 0)
            l->events[l->n_events++] = (struct event){
                .at = at + (usec_t)draw(l, (uint64_t)span / 2), .kind = 1, .i = i};
    }
    for (unsigned i = 0; i < draw(l, 4); i++)
        l->events[l->n_events++] =
            (struct event){.at = (usec_t)draw(l, (uint64_t)span * 2),
                           .kind = 2,
                           .i = i,
                           .speed = (double)(1 + draw(l, 30)) / 10};
    qsort(l->events, l->n_events, sizeof *l->events, by_time);
}

static void ref_run(struct load *l)
{
    struct ref r = {.o = l->o, .n_kv = (unsigned)(l->o.kv_tokens / 16), .speed = 1};
    uint64_t end = 0, arrivals = 0;
    bool busy = false;
    unsigned e = 0;

    r.kv = mem_new_n(struct ref_block, r.n_kv);
    r.order = mem_new_n(struct ref_seq *, l->n + 1);
    r.line = mem_new_n(struct ref_seq *, l->n + 1);
    for (;;) {
        if (!busy && r.n_line == 0) {
            if (e == l->n_events)
                break;
            if ((uint64_t)l->events[e].at * REF_PS > end)
                end = (uint64_t)l->events[e].at * REF_PS;
        }
        for (; e < l->n_events && (uint64_t)l->events[e].at * REF_PS <= end; e++) {
            struct ref_seq *s = &l->seqs[l->events[e].i];

            if (l->events[e].kind == 0) {
                s->q.came = l->events[e].at;
                s->q._no = arrivals++;
                ref_wait(&r, s);
            } else if (l->events[e].kind == 1) {
                ref_abort(&r, s);
            } else {
                r.speed = l->events[e].speed;
            }
        }
        if (busy)
            ref_commit(&r, end);
        r.now = end;
        end = ref_begin(&r);
        busy = r.n_order > 0;
    }
    mem_free(r.kv);
    mem_free(r.order);
    mem_free(r.line);
}

/* late: the owner comes so many microseconds after the model wanted to be asked. */
static void model_run(const struct load *l, struct sim_seq *seqs, usec_t late)
{
    struct sim_model *m = sim_model_new(&l->o);
    unsigned e = 0;

    for (;;) {
        usec_t next = sim_model_next(m);
        const struct event *ev = &l->events[e];

        if (next < USEC_INFINITY)
            next += late;
        if (e == l->n_events && next == USEC_INFINITY)
            break;
        if (e == l->n_events || next < ev->at) {
            while (sim_model_step(m, next))
                ;
            continue;
        }
        e++;
        if (ev->kind == 0)
            add(m, &seqs[ev->i], ev->at);
        else if (ev->kind == 1)
            sim_model_abort(m, &seqs[ev->i], ev->at);
        else
            sim_model_speed(m, ev->speed, ev->at);
    }
    sim_model_free(m);
}

static void compare(const struct load *l, const struct sim_seq *seqs, uint64_t seed,
                    uint64_t *preempted, uint64_t *cached)
{
    for (unsigned i = 0; i < l->n; i++) {
        const struct sim_seq *want = &l->seqs[i].q, *got = &seqs[i];
        char row[64];

        (void)snprintf(row, sizeof row, "seed %u request %u", (unsigned)seed, i);
        t_row(row);
        EQ_INT(got->preempted, want->preempted);
        EQ_INT(got->cached, want->cached);
        EQ_INT(got->began, want->began);
        EQ_INT(got->first, want->first);
        EQ_INT(got->made, want->made);
        if (want->ended)
            EQ_INT(got->ended, want->ended);
        *preempted += got->preempted;
        *cached += got->cached;
    }
}

TEST_SLOW(many_iterations_at_once_are_the_same_as_one_after_the_other, 120)
{
    struct load *l = mem_new(struct load);
    uint64_t preempted = 0, cached = 0;

    for (uint64_t seed = 1; seed <= 150; seed++) {
        struct sim_seq seqs[LOAD];

        make_load(l, seed);
        for (unsigned i = 0; i < l->n; i++)
            seqs[i] = l->seqs[i].q;
        ref_run(l);
        model_run(l, seqs, seed % 3 == 0 ? (usec_t)(seed % 50) : 0);
        compare(l, seqs, seed, &preempted, &cached);
    }
    OK(preempted > 1000 && cached > 100000); /* it was no easy life */
    mem_free(l);
}
