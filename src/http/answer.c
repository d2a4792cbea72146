/* SPDX-License-Identifier: Apache-2.0 */
#include "http/answer.h"

#include <curl/curl.h>

void answer_start(struct answer *a)
{
    /* Field by field: the arrays need no clearing, and this runs for every request. */
    a->status = 0;
    a->complete = a->exact = false;
    a->bytes = 0;
    a->retry_ms = -1;
    a->quota_n = 0;
    a->id[0] = a->retry_date[0] = a->date[0] = '\0';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* "HTTP/1.1 200 OK", also "HTTP/2 200". */
static void status_line(struct answer *a, struct str line)
{
    const char *p = memchr(line.p, ' ', line.n);
    size_t bytes = a->bytes;

    answer_start(a);
    a->bytes = bytes;
    if (p && (size_t)(line.p + line.n - p) > 3 && is_digit(p[1]) && is_digit(p[2]) &&
        is_digit(p[3]))
        a->status = (p[1] - '0') * 100 + (p[2] - '0') * 10 + (p[3] - '0');
}

/* Text of another program goes into logs and result lines only if it is plain. */
static void keep_text(char *dst, size_t cap, struct str s)
{
    if (s.n >= cap)
        return;
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < ' ' || s.p[i] > '~')
            return;
    memcpy(dst, s.p, s.n);
    dst[s.n] = '\0';
}

/* Digits, and a fraction that some servers send; in units of 1/scale.  -1: not so. */
static int64_t number(struct str s, int64_t scale)
{
    const int64_t most = INT64_C(1000000000000); /* 31 years in ms */
    int64_t v = 0;
    size_t i = 0;

    for (; i < s.n && is_digit(s.p[i]); i++)
        v = v < most ? v * 10 + (s.p[i] - '0') : most;
    if (i == 0)
        return -1;
    v = v < most / scale ? v * scale : most;
    if (i < s.n && s.p[i] == '.')
        for (i++; i < s.n && is_digit(s.p[i]); i++) {
            scale /= 10;
            v += scale * (s.p[i] - '0');
        }
    return i == s.n ? v : -1;
}

static void retry_after(struct answer *a, struct str v)
{
    int64_t ms = number(v, 1000);

    if (ms < 0)
        keep_text(a->retry_date, sizeof a->retry_date, v);
    else if (!a->exact)
        a->retry_ms = ms;
}

static void retry_after_ms(struct answer *a, struct str v)
{
    int64_t ms = number(v, 1);

    if (ms >= 0) {
        a->retry_ms = ms;
        a->exact = true;
    }
}

static bool begins(struct str line, struct str name)
{
    return line.n > name.n && str_ieq((struct str){line.p, name.n}, name);
}

/* Kept as it stands: what it means is not for this room. */
static void quota(struct answer *a, struct str line)
{
    line = str_trim(line);
    if (line.n + 1 > sizeof a->quota - a->quota_n)
        return;
    for (size_t i = 0; i < line.n; i++)
        if (line.p[i] < ' ' || line.p[i] > '~')
            return;
    memcpy(a->quota + a->quota_n, line.p, line.n);
    a->quota[a->quota_n + line.n] = '\n';
    a->quota_n += line.n + 1;
}

static bool is_quota(struct str line)
{
    if (line.p[0] == 'a' || line.p[0] == 'A')
        return begins(line, STR("anthropic-ratelimit-"));
    return (line.p[0] == 'x' || line.p[0] == 'X') &&
           (begins(line, STR("x-ratelimit-")) || begins(line, STR("x-should-retry:")) ||
            begins(line, STR("x-llm-d-request-dropped-reason:")));
}

static void field(struct answer *a, struct str line)
{
    struct str v = line, name;

    if (!strchr("aAdDrRxX", line.p[0])) /* most lines are none of ours */
        return;
    if (is_quota(line)) {
        quota(a, line);
        return;
    }
    name = str_cut(&v, ':');
    switch (name.n) {
    case sizeof "date" - 1:
        if (str_ieq(name, STR("date")))
            keep_text(a->date, sizeof a->date, str_trim(v));
        break;
    case sizeof "retry-after" - 1:
        if (str_ieq(name, STR("retry-after")))
            retry_after(a, str_trim(v));
        break;
    case sizeof "x-request-id" - 1:
        if (str_ieq(name, STR("x-request-id")))
            keep_text(a->id, sizeof a->id, str_trim(v));
        break;
    case sizeof "retry-after-ms" - 1:
        if (str_ieq(name, STR("retry-after-ms")))
            retry_after_ms(a, str_trim(v));
        break;
    default:
        break;
    }
}

void answer_line(struct answer *a, struct str line)
{
    a->bytes += line.n;
    if (a->complete)
        return;
    if (line.n >= 5 && memcmp(line.p, "HTTP/", 5) == 0)
        status_line(a, line);
    else if (line.n == 0 || line.p[0] == '\r' || line.p[0] == '\n')
        a->complete = a->status >= 200;
    else
        field(a, line);
}

int64_t answer_retry_ms(const struct answer *a, int64_t wall)
{
    int64_t then, now = -1;

    if (a->retry_ms >= 0 || a->retry_date[0] == '\0')
        return a->retry_ms;
    then = curl_getdate(a->retry_date, NULL);
    if (then < 0)
        return -1;
    if (a->date[0])
        now = curl_getdate(a->date, NULL);
    if (now < 0)
        now = wall;
    return then > now ? (then - now) * 1000 : 0;
}

int64_t answer_date(const struct answer *a)
{
    int64_t then = a->date[0] ? curl_getdate(a->date, NULL) : -1;

    return then > 0 ? then : 0;
}
