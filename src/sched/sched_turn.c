/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whose turn it is.  Levels are strict: what would miss its deadline, then the priorities,
 * then idle work.  On one level the group goes that was served least for its weight (Sheng
 * et al., "Fairness in Serving Large Language Models", 2024), in turns long enough for
 * lines that share a prefix to follow each other (Cao et al., "Locality-aware Fair
 * Scheduling", 2025); within a group the batch with the earliest deadline, of equals the
 * one that came first.
 */
#include "base/mem.h"
#include "sched/sched_int.h"

#include <string.h>

/* Work that a group may be served beyond the least served one before that has its turn. */
#define QUANTUM 16384.0

/* --- Lanes --------------------------------------------------------------------------- */

struct lane *lane_take(struct sched *s, const struct sched_set *set, uint16_t group)
{
    struct lane *l;

    CHECK(group < s->n_groups);
    for (unsigned i = 0; i < s->n_lanes; i++) {
        l = s->lanes[i];
        if (l->group == group && memcmp(&l->set, set, sizeof *set) == 0) {
            l->n_batches++;
            return l;
        }
    }
    s->lanes = mem_resize(s->lanes, (s->n_lanes + 1) * sizeof *s->lanes);
    MEM_CHECK(s->lanes);
    l = s->lanes[s->n_lanes++] = mem_new(struct lane);
    l->set = *set;
    l->group = group;
    l->n_batches = 1;
    for (unsigned i = 0; i < LEVELS; i++)
        list_init(&l->rings[i]);
    return l;
}

void lane_give(struct sched *s, struct lane *l)
{
    if (--l->n_batches)
        return;
    for (unsigned i = 0; i < s->n_lanes; i++) {
        if (s->lanes[i] == l) {
            s->lanes[i] = s->lanes[--s->n_lanes];
            break;
        }
    }
    mem_free(l);
}

/* --- Rings --------------------------------------------------------------------------- */

static bool may_send(const struct batch_queue *q)
{
    return !q->closed && !q->paused && !q->stopped &&
           (q->ready.head != NO_RETRY || q->alone.head != NO_RETRY || place_ready(q));
}

static int level_of(const struct batch_queue *q)
{
    if (!may_send(q))
        return -1;
    if (q->critical)
        return LEVEL_CRITICAL;
    return q->idle && !q->aged ? LEVEL_IDLE
                               : LEVEL_LOWEST + q->priority - SCHED_PRIORITY_MIN;
}

/* A group that comes back has no claim to what it did not ask for meanwhile. */
static void group_enters(struct sched *s, struct group *g)
{
    double least = -1;

    if (g->active++)
        return;
    for (unsigned i = 0; i < s->n_groups; i++) {
        const struct group *o = &s->groups[i];

        if (o != g && o->active && (least < 0 || o->served < least))
            least = o->served;
    }
    if (g->served < least)
        g->served = least;
}

void turn_leave(struct sched *s, struct batch_queue *q)
{
    list_del(&q->ring);
    if (q->level < 0)
        return;
    if (list_empty(&q->lane->rings[q->level]))
        q->lane->levels &= ~(1u << q->level);
    q->level = -1;
    s->groups[q->lane->group].active--;
}

static bool before(const struct batch_queue *a, const struct batch_queue *b)
{
    return a->deadline < b->deadline || (a->deadline == b->deadline && a->seq < b->seq);
}

void turn_join(struct sched *s, struct batch_queue *q)
{
    int level = level_of(q);
    struct list *at;
    bool stays;

    if (level == q->level && level >= 0)
        return;
    stays = level >= 0 && q->level >= 0;
    s->groups[q->lane->group].active += stays; /* it does not go and come back */
    turn_leave(s, q);
    if (level < 0)
        return;
    at = q->lane->rings[level].prev; /* most come in the order of their deadlines */
    while (at != &q->lane->rings[level] &&
           before(q, list_entry(at, struct batch_queue, ring)))
        at = at->prev;
    list_add_head(at, &q->ring);
    q->lane->levels |= 1u << level;
    q->level = level;
    if (!stays)
        group_enters(s, &s->groups[q->lane->group]);
}

void turn_park(struct sched *s, struct batch_queue *q)
{
    turn_leave(s, q);
    list_add_tail(&s->parked, &q->ring);
}

void turn_unpark(struct sched *s)
{
    struct list *node;

    s->unpark = false;
    while ((node = list_pop(&s->parked)))
        turn_join(s, list_entry(node, struct batch_queue, ring));
}

void turn_charge(struct sched *s, const struct batch_queue *q, double work)
{
    struct group *g = &s->groups[q->lane->group];

    g->served += work / g->weight;
}

/* --- Turns --------------------------------------------------------------------------- */

/* The lane's batches that were not asked yet in this turn. */
static struct list *rest(const struct sched *s, const struct lane *l, int level)
{
    return l->turn == s->turn ? l->at : l->rings[level].next;
}

static bool may_go(const struct sched *s, const struct lane *l, int level, uint16_t up)
{
    return (l->levels >> level & 1) && sched_set_has(&l->set, up) &&
           rest(s, l, level) != &l->rings[level] && !group_full(s, l->group) &&
           (level != LEVEL_IDLE || up_idle_room(s, up));
}

static const struct batch_queue *first(const struct sched *s, const struct lane *l,
                                       int level)
{
    return list_entry(rest(s, l, level), struct batch_queue, ring);
}

/* Of what would miss its deadline the earliest, whosever it is. */
static struct lane *next_critical(const struct sched *s, uint16_t up)
{
    struct lane *best = NULL;

    for (unsigned i = 0; i < s->n_lanes; i++) {
        struct lane *l = s->lanes[i];

        if (may_go(s, l, LEVEL_CRITICAL, up) &&
            (!best ||
             before(first(s, l, LEVEL_CRITICAL), first(s, best, LEVEL_CRITICAL))))
            best = l;
    }
    return best;
}

/* The lane whose group has its turn at this upstream. */
static struct lane *next_lane(const struct sched *s, int level, uint16_t up)
{
    struct lane *best = NULL, *stays = NULL;

    if (level == LEVEL_CRITICAL)
        return next_critical(s, up);
    for (unsigned i = 0; i < s->n_lanes; i++) {
        struct lane *l = s->lanes[i];
        double more;

        if (!may_go(s, l, level, up))
            continue;
        if (l->group == s->last_group[up] &&
            (!stays || before(first(s, l, level), first(s, stays, level))))
            stays = l;
        more = best ? s->groups[l->group].served - s->groups[best->group].served : -1;
        if (!best || more < 0 ||
            (l->group == best->group &&
             before(first(s, l, level), first(s, best, level))))
            best = l;
    }
    if (stays &&
        s->groups[stays->group].served <
            s->groups[best->group].served + QUANTUM / s->groups[stays->group].weight)
        best = stays;
    return best;
}

static uint32_t levels_of(const struct sched *s, uint16_t up)
{
    uint32_t levels = 0;

    for (unsigned i = 0; i < s->n_lanes; i++)
        if (sched_set_has(&s->lanes[i]->set, up))
            levels |= s->lanes[i]->levels;
    return levels;
}

bool turn_each(struct sched *s, uint16_t up, turn_fn *fn, void *ctx)
{
    for (uint32_t levels = levels_of(s, up); levels;) {
        int level = 31 - __builtin_clz(levels);
        struct lane *l;

        s->turn++;
        levels &= ~(1u << level);
        while ((l = next_lane(s, level, up))) {
            struct list *at = rest(s, l, level);

            l->at =
                at->next; /* what is left of this one may be kept for other upstreams */
            l->turn = s->turn;
            if (fn(s, list_entry(at, struct batch_queue, ring), up, ctx)) {
                s->last_group[up] = l->group;
                return true;
            }
        }
    }
    return false;
}
