/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/crowd.h"
#include "base/mem.h"

#include <math.h>

#define CALM      0.1  /* of the rate, between bursts */
#define IMPATIENT (-1) /* goes before what batches send without a priority */

struct turn {
    struct sim_member member;
    struct list link; /* in crowd.turns */
};

struct sim_crowd_run {
    struct sim_crowd o;
    bool priorities;
    uint64_t state; /* of the random numbers */
    usec_t start, next;
    struct list turns;
    struct sim_crowd_counts counts;
};

static double unit(struct sim_crowd_run *c) /* (0, 1] */
{
    c->state += 0x9e3779b97f4a7c15u;
    return (double)((sim_mix64(c->state) >> 11) + 1) * 0x1p-53;
}

static uint32_t length(struct sim_crowd_run *c, double mean, double sigma, double most)
{
    double u = unit(c), v = unit(c);
    double z = sqrt(-2 * log(u)) * cos(2 * M_PI * v);

    return (uint32_t)(1 + fmin(most - 1, mean * exp(sigma * z - sigma * sigma / 2)));
}

/* A Poisson process of the full rate, of which a calm time keeps a tenth. */
static void draw_next(struct sim_crowd_run *c)
{
    do {
        c->next += 1 + (usec_t)(-log(unit(c)) * (double)USEC_PER_SEC / c->o.rate);
    } while (c->o.burst && (c->next - c->start) / c->o.burst % 2 == 1 && unit(c) > CALM);
}

struct sim_crowd_run *sim_crowd_new(const struct sim_crowd *o, uint64_t seed,
                                    bool priorities, usec_t now)
{
    struct sim_crowd_run *c;

    if (o->rate <= 0)
        return NULL;
    c = mem_new(struct sim_crowd_run);
    c->o = *o;
    c->priorities = priorities;
    c->state = sim_mix64(seed);
    c->start = c->next = now;
    list_init(&c->turns);
    draw_next(c);
    return c;
}

struct sim_crowd_run *sim_crowd_free(struct sim_crowd_run *c)
{
    if (c)
        sim_crowd_lost(c);
    mem_free(c);
    return NULL;
}

usec_t sim_crowd_next(const struct sim_crowd_run *c)
{
    return c ? c->next : USEC_INFINITY;
}

void sim_crowd_come(struct sim_crowd_run *c, struct sim_model *m, bool away)
{
    struct turn *t = mem_new(struct turn);
    struct sim_seq *q = &t->member.seq;

    t->member.of_crowd = true;
    q->prompt = length(c, 400, 0.7, 4000);
    q->out = length(c, 150, 0.7, 1000);
    q->priority = c->priorities ? IMPATIENT : 0;
    c->counts.turns++;
    if (away || sim_model_add(m, q, c->next) != RC_OK) {
        c->counts.refused++;
        mem_free(t);
    } else {
        list_add_tail(&c->turns, &t->link);
    }
    draw_next(c);
}

/* 16 steps an octave: exact below 16 us, then 4.4 % apart. */
static unsigned place_of(usec_t wait)
{
    uint64_t n = wait > 0 ? (uint64_t)wait : 0;
    unsigned octave;

    if (n < 16)
        return (unsigned)n;
    octave = 63 - (unsigned)__builtin_clzll(n);
    return (unsigned)u64_min(SIM_WAITS - 1, (octave - 3) * 16 + (n >> (octave - 4) & 15));
}

static usec_t upper_end(unsigned place)
{
    unsigned octave = place / 16 + 3;

    if (place < 16)
        return place;
    return (usec_t)(((uint64_t)(place % 16) + 17) << (octave - 4)) - 1;
}

void sim_crowd_over(struct sim_crowd_run *c, struct sim_member *member)
{
    struct turn *t = CONTAINER_OF(member, struct turn, member);
    usec_t wait = member->seq.first - member->seq.came;

    c->counts.answered++;
    c->counts.wait[place_of(wait)]++;
    if (wait > c->counts.longest)
        c->counts.longest = wait;
    list_del(&t->link);
    mem_free(t);
}

void sim_crowd_lost(struct sim_crowd_run *c)
{
    struct list *it;

    while (c && (it = list_pop(&c->turns)))
        mem_free(list_entry(it, struct turn, link));
}

const struct sim_crowd_counts *sim_crowd_counts(const struct sim_crowd_run *c)
{
    return &c->counts;
}

usec_t sim_crowd_wait(const struct sim_crowd_counts *n, double share)
{
    uint64_t rank = (uint64_t)ceil(share * (double)n->answered), sum = 0;

    for (unsigned i = 0; i < SIM_WAITS; i++) {
        sum += n->wait[i];
        if (sum >= rank && sum > 0)
            return upper_end(i) < n->longest ? upper_end(i) : n->longest;
    }
    return 0;
}

static void put_ms(struct json_writer *w, const char *key, usec_t t)
{
    char text[32];

    IGNORE(str_fmt(text, sizeof text, "%lld.%03lld", (long long)(t / 1000),
                   (long long)(t % 1000))); /* 24 digits fit */
    jw_raw(w, key, str_of(text));
}

void sim_crowd_put(const struct sim_crowd_counts *n, const char *key,
                   struct json_writer *w)
{
    jw_open(w, key, '{');
    jw_i64(w, "turns", (int64_t)n->turns);
    jw_i64(w, "answered", (int64_t)n->answered);
    jw_i64(w, "refused", (int64_t)n->refused);
    jw_open(w, "ttft_ms", '{');
    put_ms(w, "p50", sim_crowd_wait(n, 0.5));
    put_ms(w, "p90", sim_crowd_wait(n, 0.9));
    put_ms(w, "p99", sim_crowd_wait(n, 0.99));
    put_ms(w, "max", n->longest);
    jw_close(w, '}');
    jw_close(w, '}');
}
