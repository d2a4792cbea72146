/* SPDX-License-Identifier: Apache-2.0 */
#include "core/ratelimit.h"

#define DIGITS_MAX 15 /* a double holds them all */
#define DAY_USEC   RATELIMIT_RESET_MAX

/* --- Numbers and times --------------------------------------------------------------- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static void skip(struct str *s, size_t n)
{
    s->p += n;
    s->n -= n;
}

/* Digits with a fraction, off the front of *s.  A longer one is no number of ours. */
static bool take_number(struct str *s, double *ret)
{
    double v = 0, scale = 1;
    size_t digits = 0;

    for (; s->n && is_digit(*s->p); skip(s, 1), digits++)
        v = v * 10 + (*s->p - '0');
    if (digits == 0 || digits > DIGITS_MAX)
        return false;
    if (s->n > 1 && *s->p == '.' && is_digit(s->p[1]))
        for (skip(s, 1); s->n && is_digit(*s->p); skip(s, 1))
            v += (*s->p - '0') * (scale /= 10);
    *ret = v;
    return true;
}

/* Exactly n digits off the front of *s. */
static bool take_digits(struct str *s, size_t n, int *ret)
{
    int v = 0;

    if (s->n < n)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (!is_digit(s->p[i]))
            return false;
        v = v * 10 + (s->p[i] - '0');
    }
    skip(s, n);
    *ret = v;
    return true;
}

static bool take_text(struct str *s, struct str text)
{
    if (!str_starts(*s, text))
        return false;
    skip(s, text.n);
    return true;
}

struct moment {
    int year, month, day, hour, minute, second;
};

/* Seconds since the epoch (days_from_civil, H. Hinnant); false: no such moment. */
static bool seconds_of(const struct moment *m, int64_t *ret)
{
    int64_t y = m->month <= 2 ? m->year - 1 : m->year, era = y / 400, yoe = y - era * 400;
    int64_t doy, doe;

    if (m->year < 1970 || m->month < 1 || m->month > 12 || m->day < 1 || m->day > 31 ||
        m->hour > 23 || m->minute > 59 || m->second > 60)
        return false;
    doy = (153 * (m->month + (m->month > 2 ? -3 : 9)) + 2) / 5 + m->day - 1;
    doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    *ret = (era * 146097 + doe - 719468) * 86400 + m->hour * 3600 + m->minute * 60 +
           m->second;
    return true;
}

static bool take_clock(struct str *s, struct moment *m)
{
    return take_digits(s, 2, &m->hour) && take_text(s, STR(":")) &&
           take_digits(s, 2, &m->minute) && take_text(s, STR(":")) &&
           take_digits(s, 2, &m->second);
}

/* "Z", "+02:00"; in seconds to take off. */
static bool take_zone(struct str *s, int *ret)
{
    int hours, minutes;
    bool west;

    *ret = 0;
    if (take_text(s, STR("Z")) || take_text(s, STR("z")))
        return true;
    if (!s->n || (*s->p != '+' && *s->p != '-'))
        return false;
    west = *s->p == '-';
    skip(s, 1);
    if (!take_digits(s, 2, &hours) || !take_text(s, STR(":")) ||
        !take_digits(s, 2, &minutes) || hours > 23 || minutes > 59)
        return false;
    *ret = (hours * 3600 + minutes * 60) * (west ? -1 : 1);
    return true;
}

/* 2026-02-18T22:00:00 */
static bool take_moment(struct str *s, struct moment *m)
{
    if (!take_digits(s, 4, &m->year) || !take_text(s, STR("-")) ||
        !take_digits(s, 2, &m->month) || !take_text(s, STR("-")) ||
        !take_digits(s, 2, &m->day) || !s->n || !*s->p || !strchr("Tt ", *s->p))
        return false;
    skip(s, 1);
    return take_clock(s, m);
}

/* The same with a fraction and "Z" or an offset behind it (RFC 3339). */
static bool read_rfc3339(struct str s, double *ret)
{
    struct moment m;
    double fraction = 0, scale = 1;
    int64_t sec;
    int zone;

    if (!take_moment(&s, &m))
        return false;
    if (s.n > 1 && *s.p == '.' && is_digit(s.p[1]))
        for (skip(&s, 1); s.n && is_digit(*s.p); skip(&s, 1))
            fraction += (*s.p - '0') * (scale /= 10);
    if (!take_zone(&s, &zone) || s.n || !seconds_of(&m, &sec))
        return false;
    *ret = (double)(sec - zone) + fraction;
    return true;
}

/* Wed, 21 Oct 2015 07:28:00 GMT (RFC 9110 5.6.7; the older two forms nobody sends here) */
static bool read_http_date(struct str s, double *ret)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    struct moment m;
    int64_t sec;

    if (s.n < 5 || s.p[3] != ',' || s.p[4] != ' ')
        return false;
    skip(&s, 5);
    if (!take_digits(&s, 2, &m.day) || !take_text(&s, STR(" ")) || s.n < 3)
        return false;
    for (m.month = 1; m.month <= 12; m.month++)
        if (memcmp(s.p, months + (m.month - 1) * 3, 3) == 0)
            break;
    skip(&s, 3);
    if (!take_text(&s, STR(" ")) || !take_digits(&s, 4, &m.year) ||
        !take_text(&s, STR(" ")) || !take_clock(&s, &m) || !str_is(s, " GMT") ||
        !seconds_of(&m, &sec))
        return false;
    *ret = (double)sec;
    return true;
}

/* "6m0s", "1h2m3.5s", "17ms" (Go's time.Duration), in seconds. */
static bool read_duration(struct str s, double *ret)
{
    static const struct {
        struct str name;
        double seconds;
    } units[] = {
        /* the longer ones first: "ms" begins with "m" */
        {{"ms", 2}, 1e-3}, {{"us", 2}, 1e-6}, {{"\xc2\xb5s", 3}, 1e-6}, {{"ns", 2}, 1e-9},
        {{"s", 1}, 1},     {{"m", 1}, 60},    {{"h", 1}, 3600},         {{"d", 1}, 86400},
    };
    double sum = 0, v;

    do {
        size_t i = 0;

        if (!take_number(&s, &v))
            return false;
        while (i < COUNTOF(units) && !take_text(&s, units[i].name))
            i++;
        if (i == COUNTOF(units))
            return false;
        sum += v * units[i].seconds;
    } while (s.n);
    *ret = sum;
    return true;
}

/* Numbers above these are moments: 2001 in seconds since the epoch, in milliseconds. */
#define EPOCH_SECONDS 1e9
#define EPOCH_MS      1e12

static bool read_plain(struct str s, double now, double *ret)
{
    if (!take_number(&s, ret) || s.n)
        return false;
    if (*ret >= EPOCH_MS)
        *ret = *ret / 1000 - now;
    else if (*ret >= EPOCH_SECONDS)
        *ret -= now;
    return true;
}

/* -1: it cannot be read. */
static usec_t read_reset(struct str s, usec_t wall)
{
    double now = (double)wall / (double)USEC_PER_SEC, wait;

    if (!read_plain(s, now, &wait) && !read_duration(s, &wait)) {
        if (!read_rfc3339(s, &wait) && !read_http_date(s, &wait))
            return -1;
        wait -= now;
    }
    if (wait <= 0)
        return 0;
    if (wait >= (double)DAY_USEC / (double)USEC_PER_SEC)
        return DAY_USEC;
    return (usec_t)(wait * (double)USEC_PER_SEC + 0.5);
}

/* --- Names --------------------------------------------------------------------------- */

enum field { LIMIT, REMAINING, RESET, FIELDS };
enum kind { REQUESTS, TOKENS, INPUT_TOKENS, OUTPUT_TOKENS, KINDS };

static const char *const fields[FIELDS] = {"limit", "remaining", "reset"};
static const char *const kinds[KINDS] = {"requests", "tokens", "input-tokens",
                                         "output-tokens"};

static bool begins(struct str *s, struct str with)
{
    if (s->n < with.n || !str_ieq((struct str){s->p, with.n}, with))
        return false;
    skip(s, with.n);
    return true;
}

static bool find(const char *const *names, unsigned n, struct str s, unsigned *ret)
{
    for (*ret = 0; *ret < n; ++*ret)
        if (str_ieq(s, str_of(names[*ret])))
            return true;
    return false;
}

/* remaining-tokens, remaining-tokens-minute */
static bool field_first(struct str rest, unsigned *field, unsigned *kind)
{
    static const struct str minute = {"-minute", 7};
    struct str end = rest;

    if (rest.n > minute.n) {
        skip(&end, rest.n - minute.n);
        if (str_ieq(end, minute))
            rest.n -= minute.n;
    }
    return find(fields, FIELDS, str_cut(&rest, '-'), field) &&
           find(kinds, KINDS, rest, kind);
}

/* input-tokens-remaining */
static bool kind_first(struct str rest, unsigned *field, unsigned *kind)
{
    struct str last = rest;
    size_t n = rest.n;

    while (n && rest.p[n - 1] != '-')
        n--;
    if (n == 0)
        return false;
    skip(&last, n);
    rest.n = n - 1;
    return find(fields, FIELDS, last, field) && find(kinds, KINDS, rest, kind);
}

/* --- The whole ----------------------------------------------------------------------- */

static void take_quota(struct ratelimit_quota *q, unsigned field, struct str value,
                       usec_t wall)
{
    double v;

    if (field == RESET) {
        q->reset = read_reset(value, wall);
        return;
    }
    if (!take_number(&value, &v) || value.n)
        v = -1;
    if (field == LIMIT)
        q->limit = v > 0 ? v : -1;
    else
        q->left = v;
}

/* true: the line was one of ours. */
static bool take_line(struct ratelimit *r, struct ratelimit_quota *quotas,
                      struct str name, struct str value, usec_t wall)
{
    unsigned field, kind;

    if (begins(&name, STR("x-ratelimit-"))) {
        if (!field_first(name, &field, &kind))
            return false;
    } else if (begins(&name, STR("anthropic-ratelimit-"))) {
        if (!kind_first(name, &field, &kind))
            return false;
    } else if (str_ieq(name, STR("x-should-retry"))) {
        r->retry = str_ieq(value, STR("true"))    ? RETRY_YES
                   : str_ieq(value, STR("false")) ? RETRY_NO
                                                  : RETRY_UNTOLD;
        return true;
    } else if (str_ieq(name, STR("x-llm-d-request-dropped-reason"))) {
        r->evicted = begins(&value, STR("evicted"));
        return true;
    } else {
        return false;
    }
    take_quota(&quotas[kind], field, value, wall);
    return true;
}

static bool told(const struct ratelimit_quota *q)
{
    return q->limit >= 0 || q->left >= 0;
}

static double share_left(const struct ratelimit_quota *q)
{
    return q->limit > 0 && q->left >= 0 ? q->left / q->limit : 1;
}

/* What is said of tokens as a whole counts; else what ends first. */
static struct ratelimit_quota tokens_of(const struct ratelimit_quota *quotas)
{
    const struct ratelimit_quota *in = &quotas[INPUT_TOKENS],
                                 *out = &quotas[OUTPUT_TOKENS];

    if (told(&quotas[TOKENS]))
        return quotas[TOKENS];
    if (told(in) && told(out))
        return share_left(out) < share_left(in) ? *out : *in;
    return told(in) ? *in : *out;
}

static struct ratelimit_quota sane(struct ratelimit_quota q)
{
    if (q.limit > 0 && q.left > q.limit)
        q.left = q.limit;
    if (!told(&q))
        q.reset = -1;
    return q;
}

bool ratelimit_read(struct str head, usec_t wall, struct ratelimit *ret)
{
    struct ratelimit_quota quotas[KINDS];
    bool any = false;

    for (unsigned i = 0; i < KINDS; i++)
        quotas[i] = (struct ratelimit_quota){-1, -1, -1};
    *ret = (struct ratelimit){.retry = RETRY_UNTOLD};
    while (head.n) {
        struct str value = str_cut(&head, '\n'), name = str_cut(&value, ':');

        any |= take_line(ret, quotas, str_trim(name), str_trim(value), wall);
    }
    ret->requests = sane(quotas[REQUESTS]);
    ret->tokens = sane(tokens_of(quotas));
    return any;
}
