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

/* "0.25", "1" or "25%": a probability. */
static enum rc parse_rate(struct str s, double *ret, struct err *e)
{
    char z[32], *end;
    double v;
    bool percent = s.n && s.p[s.n - 1] == '%';
    struct str number = {s.p, s.n - percent};

    if (number.n == 0 || number.n >= sizeof z)
        return err_set(e, RC_INVALID, "\"%.*s\" is not a rate", STR_ARG(s));
    for (size_t i = 0; i < number.n; i++)
        if ((number.p[i] < '0' || number.p[i] > '9') && number.p[i] != '.')
            return err_set(e, RC_INVALID, "\"%.*s\" is not a rate", STR_ARG(s));
    memcpy(z, number.p, number.n);
    z[number.n] = '\0';
    v = strtod(z, &end) / (percent ? 100 : 1);
    if (*end || end == z || v < 0 || v > 1)
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
        struct sim_hit hit;
        double p = 0;

        rc = parse_kind(name, &hit, e);
        if (rc == RC_OK)
            rc = parse_rate(rate, &p, e);
        if (rc == RC_OK)
            rc = mix_add(mix, hit, p, e);
    }
    return rc;
}

static enum rc parse_window(struct str item, struct sim_window *ret, struct err *e)
{
    struct str rest = item;
    struct str name = str_cut(&rest, '@');
    struct str from = str_cut(&rest, '+');
    usec_t start = 0, length = 0;

    *ret = (struct sim_window){.down = str_is(name, "down")};
    if (!ret->down && parse_kind(name, &ret->hit, e) != RC_OK)
        return RC_INVALID;
    if (ret->hit.kind == SIM_FAULT_REFUSE)
        return err_set(e, RC_INVALID, "\"refuse\" cannot be scheduled; \"down\" can");
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

const struct sim_window *sim_schedule_at(const struct sim_schedule *s, usec_t t)
{
    for (unsigned i = 0; i < s->n; i++)
        if (!s->row[i].down && t >= s->row[i].from && t < s->row[i].to)
            return &s->row[i];
    return NULL;
}
