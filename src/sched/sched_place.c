/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lines that begin alike should run on one server, one after the other: it computes the
 * common part once.  In the order of their prefixes such lines are neighbours, so that order is
 * cut into one segment for each upstream, where neighbours share little; whoever is done
 * with its own takes half of what another still has.  (Depth-first order of prefixes gives
 * the best hit rate for one cache: Zheng et al., SGLang, 2024.)
 *
 * Lines that share nothing can go anywhere.  Those whose answers are long to decode go the
 * longest first and beside those that are mostly computing, so that both end together
 * (BlendServe, Zhao et al. 2024): a long answer that begins last keeps a fleet waiting.
 */
#include "base/mem.h"
#include "sched/sched_int.h"

#include <string.h>

/* A cut may move so far, as a share of a segment, to where neighbours share less. */
#define CUT_SLACK   0.05
#define STEAL_SLACK 0.1

/* Cuts by key that leave a segment so much longer than its share are not taken over. */
#define CUT_SKEW 1.5

#define PROMPT_BUCKETS (BINS_MAX / LENGTH_BUCKETS)

/* Where the segments of the last batch on a set of upstreams began: another batch with the
 * same prefixes finds them in the same caches. */
struct cuts {
    struct sched_set set;
    unsigned n;
    struct {
        uint64_t key;
        uint16_t up;
    } at[LIMIT_UPSTREAMS];
};

static bool is_taken(const struct batch_queue *q, uint32_t pos)
{
    return q->taken[pos / 8] >> (pos % 8) & 1;
}

/* --- What there is ------------------------------------------------------------------- */

static bool is_done(const struct sched_batch_opts *o, uint32_t item)
{
    return o->done && (o->done[item / 8] >> (item % 8) & 1);
}

/* Those to be handed out, each sharing with the one before that is left, and their keys. */
static uint32_t gather(const struct sched_batch_opts *o, struct sched_item *to,
                       uint64_t *keys)
{
    uint32_t n = 0, shared = UINT32_MAX;

    for (uint32_t i = 0; i < o->n_items; i++) {
        struct sched_item it = o->items ? o->items[i] : (struct sched_item){.item = i};

        if (it.shared > it.prompt)
            it.shared = it.prompt;
        if (shared > it.shared)
            shared = it.shared;
        if (is_done(o, it.item))
            continue;
        it.shared = n ? shared : 0;
        shared = UINT32_MAX;
        if (keys)
            keys[n] = o->keys[i];
        to[n++] = it;
    }
    return n;
}

/* Is a quarter of it shared with a neighbour? */
static bool shares(const struct sched_item *it, uint32_t i, uint32_t n)
{
    uint32_t most = it[i].shared;

    if (i + 1 < n && it[i + 1].shared > most)
        most = it[i + 1].shared;
    return most && most >= it[i].prompt / 4;
}

static unsigned prompt_bucket(uint32_t prompt)
{
    unsigned b = 0;

    while (b < PROMPT_BUCKETS - 1 && prompt >= 128u << b)
        b++;
    return b;
}

static unsigned bin_key(const struct sched_item *it)
{
    return length_bucket(it->max_out) * PROMPT_BUCKETS + prompt_bucket(it->prompt);
}

/* Sorts what shares nothing into bins behind what does. */
static void fill_bins(struct batch_queue *q, const struct sched_item *all, uint32_t n)
{
    uint32_t count[BINS_MAX] = {0}, at[BINS_MAX];
    double prompt[BINS_MAX] = {0};
    uint32_t next = q->n_shared;

    for (uint32_t i = 0; i < n; i++) {
        if (shares(all, i, n))
            continue;
        count[bin_key(&all[i])]++;
        prompt[bin_key(&all[i])] += all[i].prompt;
    }
    for (unsigned k = 0; k < BINS_MAX; k++)
        q->n_bins += count[k] > 0;
    q->bins = mem_new_n(struct bin, q->n_bins + 1);
    q->n_bins = 0;
    for (unsigned k = 0; k < BINS_MAX; k++) {
        at[k] = next;
        if (!count[k])
            continue;
        q->bins[q->n_bins++] = (struct bin){.head = next,
                                            .tail = next + count[k],
                                            .bucket = k / PROMPT_BUCKETS,
                                            .prompt = prompt[k] / count[k]};
        next += count[k];
    }
    for (uint32_t i = 0; i < n; i++)
        if (!shares(all, i, n))
            q->items[at[bin_key(&all[i])]++] = all[i];
}

static uint32_t scouts_of(const struct sched_batch_opts *o, uint32_t n)
{
    uint32_t scouts = n / 100;

    if (!o->items || n <= SCOUTS_MAX)
        return 0; /* nothing is known of its lines, or all of them are scouts */
    return scouts < 8 ? 8 : scouts > SCOUTS_MAX ? SCOUTS_MAX : scouts;
}

void place_add(struct sched *s, struct batch_queue *q, const struct sched_batch_opts *o)
{
    struct sched_item *all = mem_new_n(struct sched_item, (size_t)o->n_items + 1);
    uint64_t *keys =
        o->items && o->keys ? mem_new_n(uint64_t, (size_t)o->n_items + 1) : NULL;
    uint32_t n = gather(o, all, keys), shared = 0;

    q->items = mem_new_n(struct sched_item, (size_t)n + 1);
    q->taken = mem_new_n(uint8_t, ((size_t)n + 8) / 8);
    q->n_items = q->fresh = n;
    for (uint32_t i = 0; i < n; i++) {
        if (!shares(all, i, n))
            continue;
        if (keys)
            keys[shared] = keys[i];
        q->items[shared++] = all[i];
    }
    q->n_shared = q->left[PLACE_SHARED] = shared;
    fill_bins(q, all, n);
    mem_free(all);
    for (uint32_t i = 0; i < n; i++)
        length_ask(q, &q->items[i], 1);
    q->n_scouts = scouts_of(o, n);
    length_judge(s, q);
    place_cut(s, q, keys);
    mem_free(keys);
    place_hold(q, o->hold);
}

void place_free(struct batch_queue *q)
{
    mem_free(q->items);
    mem_free(q->taken);
    mem_free(q->segments);
    mem_free(q->bins);
    mem_free(q->sample);
}

void place_hold(struct batch_queue *q, uint32_t hold)
{
    mem_free(q->sample);
    q->sample = NULL;
    q->hold = hold;
    q->n_sample = q->at_sample = 0;
    if (hold == 0)
        return;
    q->sample = mem_new_n(uint32_t, (hold < q->n_items ? hold : q->n_items) + 1);
    for (uint32_t i = 0; i < q->n_items; i++)
        if (q->items[i].item < hold && !is_taken(q, i))
            q->sample[q->n_sample++] = i;
}

uint32_t place_ready(const struct batch_queue *q)
{
    return q->hold ? q->n_sample - q->at_sample : q->fresh;
}

/* --- Segments ------------------------------------------------------------------------ */

struct share {
    uint16_t up;
    double weight;
};

/* The upstreams that are there, and what each can do beside the others. */
static unsigned shares_of(const struct sched *s, const struct sched_set *set,
                          struct share *to)
{
    unsigned n = 0, known = 0;
    double sum = 0;

    for (uint16_t i = 0; i < s->n_ups; i++)
        if (sched_set_has(set, i) && s->ups[i].state != SCHED_UP_DEAD)
            to[n++] = (struct share){i, up_rate(s, i)};
    for (uint16_t i = 0; n == 0 && i < s->n_ups; i++)
        if (sched_set_has(set, i))
            to[n++] = (struct share){i, 0};
    for (unsigned i = 0; i < n; i++) {
        known += to[i].weight > 0;
        sum += to[i].weight;
    }
    for (unsigned i = 0; i < n; i++)
        if (to[i].weight <= 0)
            to[i].weight = known ? sum / known : 1;
    return n;
}

static struct cuts *cuts_for(struct sched *s, const struct sched_set *set, bool make)
{
    struct cuts *c;

    for (unsigned i = 0; i < s->n_cuts; i++)
        if (memcmp(&s->cuts[i].set, set, sizeof *set) == 0)
            return &s->cuts[i];
    if (!make)
        return NULL;
    if (!s->cuts)
        s->cuts = mem_new_n(struct cuts, CUTS_MAX);
    c = &s->cuts[s->n_cuts < CUTS_MAX ? s->n_cuts++ : s->seq % CUTS_MAX];
    c->set = *set;
    return c;
}

static void note_cuts(struct sched *s, const struct batch_queue *q, const uint64_t *keys)
{
    struct cuts *c = cuts_for(s, &q->lane->set, true);

    c->n = 0;
    for (unsigned i = 0; i < q->n_segments; i++) {
        const struct segment *g = &q->segments[i];

        c->at[c->n].key = g->head < q->n_shared ? keys[g->head] : UINT64_MAX;
        c->at[c->n++].up = g->up;
    }
}

static uint32_t first_from(const uint64_t *keys, uint32_t n, uint64_t key)
{
    uint32_t lo = 0, hi = n;

    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;

        if (keys[mid] < key)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* The cuts of the batch before, if these upstreams are the same and none gets far too much. */
static bool cut_as_before(struct sched *s, struct batch_queue *q, const uint64_t *keys,
                          const struct share *sh, unsigned n)
{
    const struct cuts *c = cuts_for(s, &q->lane->set, false);
    double weights = 0;

    if (!c || c->n != n)
        return false;
    for (unsigned i = 0; i < n; i++) {
        if (c->at[i].up != sh[i].up)
            return false;
        weights += sh[i].weight;
    }
    for (unsigned i = 0; i < n; i++) {
        struct segment *g = &q->segments[i];

        g->up = sh[i].up;
        g->head = i ? first_from(keys, q->n_shared, c->at[i].key) : 0;
        if (i)
            q->segments[i - 1].tail = g->head;
        g->tail = q->n_shared;
    }
    for (unsigned i = 0; i < n; i++) {
        double fair = q->n_shared * sh[i].weight / weights;

        if (q->segments[i].tail - q->segments[i].head > CUT_SKEW * fair + 8)
            return false;
    }
    return true;
}

static void cut_by_work(const struct sched *s, struct batch_queue *q,
                        const struct share *sh, unsigned n)
{
    double sum = 0, weights = 0, done = 0, goal = 0;
    uint32_t pos = 0;

    for (uint32_t i = 0; i < q->n_shared; i++)
        sum += is_taken(q, i) ? 0 : length_work(s, q, &q->items[i]);
    for (unsigned i = 0; i < n; i++)
        weights += sh[i].weight;
    for (unsigned k = 0; k < n; k++) {
        struct segment *g = &q->segments[k];
        double slack = CUT_SLACK * sum * sh[k].weight / weights, best_done = 0;
        uint32_t best = NO_POS;

        goal += sum * sh[k].weight / weights;
        *g = (struct segment){.head = pos, .tail = q->n_shared, .up = sh[k].up};
        for (; k + 1 < n && pos < q->n_shared && done < goal + slack; pos++) {
            if (done >= goal - slack && pos > g->head &&
                (best == NO_POS || q->items[pos].shared < q->items[best].shared)) {
                best = pos;
                best_done = done;
            }
            done += is_taken(q, pos) ? 0 : length_work(s, q, &q->items[pos]);
        }
        if (k + 1 == n)
            break;
        if (best != NO_POS) {
            pos = best;
            done = best_done;
        }
        g->tail = pos;
    }
}

void place_cut(struct sched *s, struct batch_queue *q, const uint64_t *keys)
{
    struct share sh[LIMIT_UPSTREAMS];
    unsigned n;

    if (q->n_shared == 0)
        return;
    n = shares_of(s, &q->lane->set, sh);
    mem_free(q->segments);
    q->segments = mem_new_n(struct segment, s->n_ups + 1u);
    q->n_segments = n;
    if (n == 0) { /* nobody serves it: it lies there until somebody steals it */
        q->segments[0] =
            (struct segment){.head = 0, .tail = q->n_shared, .up = NO_UPSTREAM};
        q->n_segments = 1;
        return;
    }
    if (keys && cut_as_before(s, q, keys, sh, n))
        return;
    cut_by_work(s, q, sh, n);
    if (keys)
        note_cuts(s, q, keys);
}

static struct segment *segment_of(const struct batch_queue *q, uint16_t up)
{
    for (unsigned i = 0; i < q->n_segments; i++)
        if (q->segments[i].up == up)
            return &q->segments[i];
    return NULL;
}

static void skip_taken(const struct batch_queue *q, struct segment *g)
{
    while (g->head < g->tail && is_taken(q, g->head))
        g->head++;
}

/* What it would take its upstream to be done with it, beside the others. */
static double time_left(const struct sched *s, struct batch_queue *q, struct segment *g)
{
    bool there = g->up != NO_UPSTREAM && s->ups[g->up].state == SCHED_UP_OPEN &&
                 sched_set_has(&q->lane->set, g->up);
    double rate = there ? up_rate(s, g->up) : 0;

    skip_taken(q, g);
    if (g->head == g->tail)
        return 0;
    if (!there)
        return 1e18;
    return (g->tail - g->head) / (rate > 0 ? rate : 1);
}

/* How much of the other's segment is to be taken: what the two would do of it in the same
 * time. */
static double fraction(const struct sched *s, const struct segment *from, uint16_t up,
                       bool there)
{
    double mine = up_rate(s, up), its = there ? up_rate(s, from->up) : 0;

    if (!there)
        return 1;
    if (mine <= 0 || its <= 0)
        return 0.5;
    return mine / (mine + its);
}

static struct segment *own_segment(struct sched *s, struct batch_queue *q, uint16_t up)
{
    struct segment *g = segment_of(q, up);

    if (g)
        return g;
    if (q->n_segments > s->n_ups) /* room for the upstreams there were */
        return NULL;
    g = &q->segments[q->n_segments++];
    *g = (struct segment){.up = up};
    return g;
}

/* The tail of the longest segment, from where its lines share least with those before. */
static bool steal(struct sched *s, struct batch_queue *q, uint16_t up)
{
    struct segment *from = NULL, *to = own_segment(s, q, up);
    double longest = 0, time;
    uint32_t n, cut, slack, best;

    for (unsigned i = 0; i < q->n_segments; i++) {
        time = time_left(s, q, &q->segments[i]);
        if (q->segments[i].up != up && time > longest) {
            longest = time;
            from = &q->segments[i];
        }
    }
    if (!from || !to)
        return false;
    n = from->tail - from->head;
    cut = (uint32_t)(n * (1 - fraction(s, from, up, longest < 1e17)));
    cut = from->head + (cut < n ? cut : n - 1);
    slack = (uint32_t)(n * STEAL_SLACK);
    best = cut;
    for (uint32_t i = cut > from->head + slack ? cut - slack : from->head;
         i < from->tail && i <= cut + slack; i++)
        if (q->items[i].shared < q->items[best].shared)
            best = i;
    to->head = best;
    to->tail = from->tail;
    from->tail = best;
    skip_taken(q, to);
    return to->head < to->tail;
}

/* --- Taking -------------------------------------------------------------------------- */

static uint32_t take(struct batch_queue *q, uint32_t pos, enum place kind)
{
    CHECK(!is_taken(q, pos));
    q->taken[pos / 8] |= (uint8_t)(1u << (pos % 8));
    q->fresh--;
    length_ask(q, &q->items[pos], -1);
    q->left[kind] -= q->left[kind] > 0;
    return pos;
}

static enum place kind_of(const struct batch_queue *q, uint32_t pos)
{
    if (pos < q->n_shared)
        return PLACE_SHARED;
    for (unsigned i = 0; i < q->n_bins; i++)
        if (pos < q->bins[i].tail)
            return q->bins[i].decode_heavy ? PLACE_DECODE : PLACE_OTHER;
    return PLACE_OTHER;
}

static uint32_t take_sample(struct batch_queue *q)
{
    while (q->at_sample < q->n_sample) {
        uint32_t pos = q->sample[q->at_sample++];

        if (!is_taken(q, pos))
            return take(q, pos, kind_of(q, pos));
    }
    return NO_POS;
}

/* Lines from everywhere in the batch: what they bring stands for the others. */
static uint32_t take_scout(struct batch_queue *q)
{
    while (q->at_scout < q->n_scouts) {
        uint32_t pos = (uint32_t)((uint64_t)q->at_scout++ * q->n_items / q->n_scouts);

        if (!is_taken(q, pos))
            return take(q, pos, kind_of(q, pos));
    }
    return NO_POS;
}

static uint32_t take_shared(struct sched *s, struct batch_queue *q, uint16_t up)
{
    struct segment *g = segment_of(q, up);

    if (q->n_shared == 0)
        return NO_POS;
    if (g)
        skip_taken(q, g);
    if (!g || g->head == g->tail) {
        if (!steal(s, q, up))
            return NO_POS;
        g = segment_of(q, up);
    }
    return take(q, g->head++, PLACE_SHARED);
}

/* The longest first; the shortest where it goes to an upstream that is slow. */
static uint32_t take_bin(struct batch_queue *q, bool decode_heavy, bool shortest)
{
    struct bin *best = NULL;

    for (unsigned i = 0; i < q->n_bins; i++) {
        struct bin *b = &q->bins[i];

        if (b->decode_heavy != decode_heavy)
            continue;
        while (b->head < b->tail && is_taken(q, b->head))
            b->head++;
        if (b->head < b->tail &&
            (!best || (shortest ? b->work < best->work : b->work > best->work)))
            best = b;
    }
    if (!best)
        return NO_POS;
    return take(q, best->head++, decode_heavy ? PLACE_DECODE : PLACE_OTHER);
}

/* The kinds in order of the share of them that is left. */
static void rank(const struct batch_queue *q, enum place order[PLACES])
{
    double left[PLACES];

    for (unsigned i = 0; i < PLACES; i++) {
        unsigned k = i;

        left[i] = q->whole[i] ? (double)q->left[i] / q->whole[i] : -1;
        for (; k > 0 && left[i] > left[order[k - 1]]; k--)
            order[k] = order[k - 1];
        order[k] = (enum place)i;
    }
}

uint32_t place_take(struct sched *s, struct batch_queue *q, uint16_t up)
{
    bool slow = up_slow(s, up);
    enum place order[PLACES];
    uint32_t pos;

    if (q->fresh == 0)
        return NO_POS;
    if (q->hold)
        return take_sample(q);
    pos = take_scout(q);
    rank(q, order);
    for (unsigned i = 0; pos == NO_POS && i < PLACES; i++)
        pos = order[i] == PLACE_SHARED ? take_shared(s, q, up)
                                       : take_bin(q, order[i] == PLACE_DECODE, slow);
    return pos;
}
