/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The length of an answer is not known before it is there.  What the finished ones of the
 * same batch and the same max_tokens brought is the best guess; it leans to the long side,
 * since a long answer that was thought short costs more than the other way round.
 */
#include "sched/sched_int.h"

/* Decoding a token reads the memory of all before it: with an 8B model on today's GPUs so
 * many of them cost what computing one token of prompt does.  Others differ by a small
 * factor, and so do results: stealing evens it out. */
#define KAPPA 700.0

#define ENOUGH 8 /* answers that say something of the next */

unsigned length_bucket(uint32_t max_out)
{
    unsigned b = 1;

    if (max_out == 0)
        return 0;
    while (b < LENGTH_BUCKETS - 1 && max_out >= 32u << (b - 1))
        b++;
    return b;
}

static unsigned bin_of(uint32_t tokens)
{
    unsigned b = tokens ? 31 - (unsigned)__builtin_clz(tokens) : 0;

    return b < LENGTH_BINS ? b : LENGTH_BINS - 1;
}

static void add(struct lengths *l, uint32_t tokens)
{
    l->n++;
    l->sum += tokens;
    l->bin[bin_of(tokens)]++;
}

/* The middle of the bin where this share of all has been seen. */
static double quantile(const struct lengths *l, double share)
{
    uint32_t want = (uint32_t)(share * l->n), seen = 0;

    for (unsigned i = 0; i < LENGTH_BINS; i++) {
        seen += l->bin[i];
        if (seen > want)
            return 1.5 * (double)(1u << i);
    }
    return 0;
}

static double expect(const struct lengths *l)
{
    double spread = quantile(l, 0.9) - quantile(l, 0.5);

    return l->sum / l->n + (spread > 0 ? spread / 2 : 0);
}

double length_out(const struct sched *s, const struct batch_queue *q, uint32_t max_out)
{
    const struct lengths *mine = &q->lengths[length_bucket(max_out)];
    double out;

    if (mine->n >= ENOUGH)
        out = expect(mine);
    else if (q->all_lengths.n >= ENOUGH)
        out = expect(&q->all_lengths);
    else if (max_out)
        out = max_out / 4.0 + 64;
    else if (s->lengths.n >= ENOUGH)
        out = expect(&s->lengths);
    else
        out = 256;
    return max_out && out > max_out ? max_out : out;
}

double work_of(double fresh, double prompt, double out)
{
    return fresh + out * (1 + (prompt + out / 2) / KAPPA);
}

double length_work(const struct sched *s, const struct batch_queue *q,
                   const struct sched_item *i)
{
    return 1 + work_of(i->prompt - i->shared, i->prompt, length_out(s, q, i->max_out));
}

/* Of so many answers. */
#define BIAS_FADE 256

static void bias_add(struct bias *b, double taken, double real)
{
    const double keep = 1 - 1.0 / BIAS_FADE;

    b->taken = b->taken * keep + taken;
    b->real = b->real * keep + real;
    b->n += b->n < ENOUGH;
}

void length_bias(struct sched *s, struct batch_queue *q, double taken, double real)
{
    bias_add(&q->bias, taken, real);
    bias_add(&s->bias, taken, real);
}

double length_factor(const struct sched *s, const struct batch_queue *q)
{
    const struct bias *b = q->bias.n >= ENOUGH ? &q->bias : &s->bias;

    return b->n >= ENOUGH && b->taken > 0 && b->real > 0 ? b->real / b->taken : 1;
}

void length_ask(struct batch_queue *q, const struct sched_item *i, double by)
{
    struct asks *a = &q->asks[length_bucket(i->max_out)];

    a->n += by;
    a->fresh += by * (i->prompt - i->shared);
    a->prompt += by * i->prompt;
    a->max_out += by * i->max_out;
}

double length_left(const struct sched *s, const struct batch_queue *q)
{
    double sum = 0;

    for (unsigned b = 0; b < LENGTH_BUCKETS; b++) {
        const struct asks *a = &q->asks[b];

        if (a->n >= 1)
            sum += a->n * (1 + work_of(a->fresh / a->n, a->prompt / a->n,
                                       length_out(s, q, (uint32_t)(a->max_out / a->n))));
    }
    return sum;
}

static void judge(const struct sched *s, struct batch_queue *q, struct bin *b)
{
    uint32_t max_out = q->items[b->head < b->tail ? b->head : b->tail - 1].max_out;

    b->out = length_out(s, q, max_out);
    b->work = 1 + work_of(b->prompt, b->prompt, b->out);
    /* Reading the weights is shared by all that run: about 0.72 of a token each. */
    b->decode_heavy =
        b->prompt + b->out < b->out * ((b->prompt + b->out / 2) / KAPPA + 0.72);
}

void length_judge(const struct sched *s, struct batch_queue *q)
{
    q->lengths_due = q->all_lengths.n < 64 ? q->all_lengths.n + 8
                                           : q->all_lengths.n + q->all_lengths.n / 4;
    q->whole[PLACE_SHARED] = q->left[PLACE_SHARED];
    q->whole[PLACE_DECODE] = q->whole[PLACE_OTHER] = 0;
    for (unsigned i = 0; i < q->n_bins; i++) {
        judge(s, q, &q->bins[i]);
        q->whole[q->bins[i].decode_heavy ? PLACE_DECODE : PLACE_OTHER] +=
            q->bins[i].tail - q->bins[i].head;
    }
    q->left[PLACE_DECODE] = q->whole[PLACE_DECODE];
    q->left[PLACE_OTHER] = q->whole[PLACE_OTHER];
}

void length_seen(struct sched *s, struct batch_queue *q, const struct sched_item *i,
                 const struct sched_outcome *o)
{
    if (o->cls != OUTCOME_DONE || !o->has_usage)
        return;
    add(&q->lengths[length_bucket(i->max_out)], o->output);
    add(&q->all_lengths, o->output);
    add(&s->lengths, o->output);
    if (q->all_lengths.n >= q->lengths_due)
        length_judge(s, q);
}
