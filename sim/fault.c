/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/fault.h"

#include <stdio.h>
#include <stdlib.h>

static const struct {
    const char *text;
    bool early, good;
    const char *doc;
} kinds[] = {
#define X(name, text, early, good, doc) {text, early, good, doc},
    SIM_FAULTS(X)
#undef X
};

const char *sim_fault_name(enum sim_fault f)
{
    return kinds[f].text;
}

const char *sim_fault_doc(enum sim_fault f)
{
    return kinds[f].doc;
}

bool sim_fault_early(enum sim_fault f)
{
    return kinds[f].early;
}

bool sim_fault_good(enum sim_fault f)
{
    return kinds[f].good;
}

const char *sim_hit_text(struct sim_hit hit, char dst[24])
{
    if (hit.kind == SIM_FAULT_STATUS)
        (void)snprintf(dst, 24, "%u", hit.status);
    else
        (void)snprintf(dst, 24, "%s", kinds[hit.kind].text);
    return dst;
}

/* A status from 200 on (1xx ends no request) or the name of a kind. */
static enum rc parse_kind(struct str name, struct sim_hit *ret, struct err *e)
{
    uint64_t status;

    if (str_u64(name, &status) == RC_OK) {
        if (status < 200 || status > 599)
            return err_set(e, RC_INVALID,
                           "\"%.*s\" is not an HTTP status from 200 to 599",
                           STR_ARG(name));
        *ret = (struct sim_hit){SIM_FAULT_STATUS, (unsigned)status};
        return RC_OK;
    }
    for (unsigned i = SIM_FAULT_REFUSE; i < SIM_FAULT_COUNT; i++) {
        if (str_is(name, kinds[i].text)) {
            *ret = (struct sim_hit){(enum sim_fault)i, 0};
            return RC_OK;
        }
    }
    return err_set(e, RC_INVALID, "\"%.*s\" is neither an HTTP status nor a fault's name",
                   STR_ARG(name));
}

enum rc sim_decimal(struct str s, double *ret)
{
    char z[32], *end;
    double v;

    if (s.n == 0 || s.n >= sizeof z)
        return RC_INVALID;
    for (size_t i = 0; i < s.n; i++)
        if ((s.p[i] < '0' || s.p[i] > '9') && s.p[i] != '.')
            return RC_INVALID;
    memcpy(z, s.p, s.n);
    z[s.n] = '\0';
    v = strtod(z, &end);
    if (*end || end == z)
        return RC_INVALID;
    *ret = v;
    return RC_OK;
}

/* "0.25", "1" or "25%": a probability. */
static enum rc parse_rate(struct str s, double *ret, struct err *e)
{
    double v = 0;
    bool percent = s.n && s.p[s.n - 1] == '%';

    if (sim_decimal((struct str){s.p, s.n - percent}, &v) != RC_OK)
        return err_set(e, RC_INVALID, "\"%.*s\" is not a rate", STR_ARG(s));
    v /= percent ? 100 : 1;
    if (v > 1)
        return err_set(e, RC_INVALID, "\"%.*s\" is not a rate from 0 to 1", STR_ARG(s));
    *ret = v;
    return RC_OK;
}

static enum rc mix_add(struct sim_mix *mix, struct sim_hit hit, double rate,
                       struct err *e)
{
    if (hit.kind == SIM_FAULT_REFUSE) {
        mix->refuse = rate;
        return RC_OK;
    }
    if (mix->n == SIM_MIX_MAX)
        return err_set(e, RC_LIMIT, "there are more than %d faults", SIM_MIX_MAX);
    /* Sums of decimal fractions: 0.1 ten times is a little above 1. */
    if (mix->sum + rate > 1 + 1e-9)
        return err_set(e, RC_INVALID, "the rates of all faults add up to more than 1");
    mix->sum += rate;
    mix->row[mix->n].hit = hit;
    mix->row[mix->n++].rate = rate;
    return RC_OK;
}

enum rc sim_mix_parse(struct str spec, struct sim_mix *mix, struct err *e)
{
    enum rc rc = spec.n ? RC_OK : err_set(e, RC_INVALID, "no fault is named");

    while (rc == RC_OK && spec.n) {
        struct str rate = str_cut(&spec, ',');
        struct str name = str_cut(&rate, '=');
        struct sim_hit hit = {SIM_FAULT_NONE, 0};
        double p = 0;

        rc = parse_kind(name, &hit, e);
        if (rc == RC_OK)
            rc = parse_rate(rate, &p, e);
        if (rc == RC_OK)
            rc = mix_add(mix, hit, p, e);
    }
    return rc;
}

/* --- The schedule --------------------------------------------------------------------
 */

/* What is not a fault of requests.  `factor`, `share`: what its value is. */
static const struct {
    const char *name, *form, *doc;
    bool factor, share;
} acts[SIM_ACT_COUNT] = {
    [SIM_ACT_FAULT] = {NULL, "FAULT", "every request meets it", false, false},
    [SIM_ACT_DOWN] = {"down", "down", "nobody listens", false, false},
    [SIM_ACT_CRASH] = {"crash", "crash", "down; counters and cache are gone", false,
                       false},
    [SIM_ACT_SLOWER] = {"slow", "slow :FACTOR", "work takes FACTOR times as long", true,
                        false},
    [SIM_ACT_UNLOAD] = {"unload", "unload", "no model is there: 404", false, false},
    [SIM_ACT_SHRINK] = {"shrink", "shrink :SHARE", "the KV memory is that share of it",
                        false, true},
    [SIM_ACT_METRICS] = {NULL, "metrics-KIND", "as --metrics-fault KIND", false, false},
};

const char *sim_act_form(enum sim_act act)
{
    return acts[act].form;
}

const char *sim_act_doc(enum sim_act act)
{
    return acts[act].doc;
}

enum rc sim_blur_parse(struct str name, enum sim_blur *ret, struct err *e)
{
    static const char *const names[] = {[SIM_BLUR_500] = "500",
                                        [SIM_BLUR_SLOW] = "slow",
                                        [SIM_BLUR_STALE] = "stale",
                                        [SIM_BLUR_GARBAGE] = "garbage"};

    for (unsigned i = SIM_BLUR_500; i < COUNTOF(names); i++) {
        if (str_is(name, names[i])) {
            *ret = (enum sim_blur)i;
            return RC_OK;
        }
    }
    return err_set(e, RC_INVALID, "\"%.*s\" is not 500, slow, stale or garbage",
                   STR_ARG(name));
}

/* `slow` with a value is another thing than the fault of that name. */
static enum rc parse_act(struct str name, bool valued, struct sim_window *ret,
                         struct err *e)
{
    static const struct str metrics = {"metrics-", 8};

    if (str_starts(name, metrics)) {
        ret->act = SIM_ACT_METRICS;
        return sim_blur_parse((struct str){name.p + metrics.n, name.n - metrics.n},
                              &ret->blur, e);
    }
    for (unsigned i = 0; i < SIM_ACT_COUNT; i++) {
        if (!acts[i].name || !str_is(name, acts[i].name) ||
            (i == SIM_ACT_SLOWER && !valued))
            continue;
        ret->act = (enum sim_act)i;
        return RC_OK;
    }
    if (parse_kind(name, &ret->hit, e) != RC_OK)
        return RC_INVALID;
    if (ret->hit.kind == SIM_FAULT_REFUSE)
        return err_set(e, RC_INVALID, "\"refuse\" cannot be scheduled; \"down\" can");
    return RC_OK;
}

static enum rc parse_value(struct str value, struct sim_window *ret, struct err *e)
{
    double v = 0;

    ret->value = 1;
    if (acts[ret->act].share) {
        if (parse_rate(value, &v, e) != RC_OK)
            return RC_INVALID;
        if (v <= 0)
            return err_set(e, RC_INVALID, "\"%.*s\" leaves no KV memory", STR_ARG(value));
        ret->value = v;
    } else if (acts[ret->act].factor) {
        if (sim_decimal(value, &v) != RC_OK || v < 0.01 || v > 10000)
            return err_set(e, RC_INVALID, "\"%.*s\" is not a factor from 0.01 to 10000",
                           STR_ARG(value));
        ret->value = v;
    } else if (value.n) {
        return err_set(e, RC_INVALID, "\":%.*s\": only slow and shrink have a value",
                       STR_ARG(value));
    }
    return RC_OK;
}

static enum rc parse_replica(struct str number, unsigned *ret, struct err *e)
{
    uint64_t n;

    if (str_u64(number, &n) != RC_OK || n < 1 || n > SIM_REPLICAS_MAX)
        return err_set(e, RC_INVALID, "\"#%.*s\" is not a replica's number from 1 to %d",
                       STR_ARG(number), SIM_REPLICAS_MAX);
    *ret = (unsigned)n;
    return RC_OK;
}

/* KIND@TIME+TIME[:VALUE][#REPLICA] */
static enum rc parse_window(struct str item, struct sim_window *ret, struct err *e)
{
    struct str replica = item;
    struct str value = str_cut(&replica, '#');
    struct str rest = str_cut(&value, ':');
    struct str name = str_cut(&rest, '@');
    struct str from = str_cut(&rest, '+');
    usec_t start = 0, length = 0;

    *ret = (struct sim_window){.act = SIM_ACT_FAULT};
    if (parse_act(name, value.n > 0, ret, e) != RC_OK ||
        parse_value(value, ret, e) != RC_OK)
        return RC_INVALID;
    if (memchr(item.p, '#', item.n) && parse_replica(replica, &ret->replica, e) != RC_OK)
        return RC_INVALID;
    if ((!str_is(from, "0") && str_duration(from, &start) != RC_OK) ||
        str_duration(rest, &length) != RC_OK ||
        __builtin_add_overflow(start, length, &ret->to))
        return err_set(e, RC_INVALID,
                       "\"%.*s\" is not of the form KIND@TIME+TIME, as in down@10s+5s",
                       STR_ARG(item));
    ret->from = start;
    return RC_OK;
}

enum rc sim_schedule_parse(struct str spec, struct sim_schedule *s, struct err *e)
{
    if (spec.n == 0)
        return err_set(e, RC_INVALID, "nothing is scheduled");
    while (spec.n) {
        struct sim_window w;
        enum rc rc = parse_window(str_cut(&spec, ','), &w, e);

        if (rc != RC_OK)
            return rc;
        if (s->n == SIM_SCHEDULE_MAX)
            return err_set(e, RC_LIMIT, "more than %d windows", SIM_SCHEDULE_MAX);
        s->row[s->n++] = w;
    }
    return RC_OK;
}

static double fraction(uint64_t bits) /* [0, 1) */
{
    return (double)(bits >> 11) * 0x1p-53;
}

struct sim_hit sim_mix_pick(const struct sim_mix *mix, uint64_t hash, uint32_t attempt)
{
    double u, sum = 0;

    if (mix->n == 0)
        return (struct sim_hit){SIM_FAULT_NONE, 0};
    u = fraction(sim_mix64(hash + (attempt + 1) * 0x9e3779b97f4a7c15u));
    for (unsigned i = 0; i < mix->n; i++) {
        sum += mix->row[i].rate;
        if (u < sum)
            return mix->row[i].hit;
    }
    return (struct sim_hit){SIM_FAULT_NONE, 0};
}

bool sim_mix_refuses(const struct sim_mix *mix, uint64_t seed, uint64_t connection)
{
    return mix->refuse > 0 &&
           fraction(sim_mix64(sim_mix64(seed ^ 0x7265667573656421u) + connection)) <
               mix->refuse;
}

static bool holds(const struct sim_window *w, enum sim_act act, unsigned replica,
                  usec_t t)
{
    return w->act == act && t >= w->from && t < w->to &&
           (w->replica == 0 || w->replica == replica);
}

const struct sim_window *sim_schedule_at(const struct sim_schedule *s, enum sim_act act,
                                         unsigned replica, usec_t t)
{
    for (unsigned i = 0; i < s->n; i++)
        if (holds(&s->row[i], act, replica, t))
            return &s->row[i];
    return NULL;
}

double sim_schedule_value(const struct sim_schedule *s, enum sim_act act,
                          unsigned replica, usec_t t)
{
    double v = 1;

    for (unsigned i = 0; i < s->n; i++)
        if (holds(&s->row[i], act, replica, t))
            v *= s->row[i].value;
    return v;
}
