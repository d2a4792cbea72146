/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/quota.h"
#include "json/json.h"

#include <math.h>
#include <stdio.h>
#include <time.h>

#define MINUTE (60 * USEC_PER_SEC)

static struct sim_bucket bucket(uint64_t per_minute, usec_t burst)
{
    double most = (double)per_minute * (double)burst / (double)MINUTE;

    most = most < 1 ? 1 : most; /* else nothing would ever pass */
    return (struct sim_bucket){per_minute, most, most};
}

void sim_quota_init(struct sim_quota *q, const struct sim_options *o, usec_t now)
{
    *q = (struct sim_quota){.requests = bucket(o->rpm, o->quota_burst),
                            .tokens = bucket(o->tpm, o->quota_burst),
                            .style = o->limit_style,
                            .at = now};
}

static void fill(struct sim_bucket *b, usec_t passed)
{
    b->level += (double)b->per_minute * (double)passed / (double)MINUTE;
    if (b->level > b->most)
        b->level = b->most;
}

static void refresh(struct sim_quota *q, usec_t now)
{
    if (now <= q->at)
        return;
    fill(&q->requests, now - q->at);
    fill(&q->tokens, now - q->at);
    q->at = now;
}

/* A level of a fraction below what is asked for is rounding. */
static bool lacks(const struct sim_bucket *b, double n)
{
    return b->per_minute && b->level < n - 1e-6;
}

static usec_t time_until(const struct sim_bucket *b, double level)
{
    if (!b->per_minute || level <= b->level)
        return 0;
    return (usec_t)ceil((level - b->level) * (double)MINUTE / (double)b->per_minute);
}

enum rc sim_quota_take(struct sim_quota *q, uint64_t tokens, usec_t now,
                       struct sim_quota_no *why)
{
    double n = (double)tokens;

    refresh(q, now);
    if (lacks(&q->requests, 1) || lacks(&q->tokens, n)) {
        why->tokens = !lacks(&q->requests, 1);
        why->never = q->tokens.per_minute && n > q->tokens.most;
        why->after = why->never ? time_until(&q->tokens, q->tokens.most)
                                : time_until(&q->tokens, n);
        if (time_until(&q->requests, 1) > why->after)
            why->after = time_until(&q->requests, 1);
        return RC_LIMIT;
    }
    if (q->requests.per_minute)
        q->requests.level -= 1;
    if (q->tokens.per_minute)
        q->tokens.level -= n;
    return RC_OK;
}

void sim_quota_settle(struct sim_quota *q, uint64_t held, uint64_t used, usec_t now)
{
    if (q->style != SIM_ANTHROPIC || !q->tokens.per_minute || held <= used)
        return;
    refresh(q, now);
    q->tokens.level += (double)(held - used);
    fill(&q->tokens, 0);
}

/* --- Headers -------------------------------------------------------------------------
 */

/* As Go prints durations: "12ms", "1.5s", "6m0s". */
static void put_duration(struct buf *dst, usec_t t)
{
    int64_t ms = (t + USEC_PER_MS - 1) / USEC_PER_MS;

    if (ms < 1000) {
        (void)buf_fmt(dst, "%lldms", (long long)ms);
        return;
    }
    if (ms >= 60000)
        (void)buf_fmt(dst, "%lldm", (long long)(ms / 60000));
    if (ms % 1000)
        (void)buf_fmt(dst, "%lld.%03llds", (long long)(ms % 60000 / 1000),
                      (long long)(ms % 1000));
    else
        (void)buf_fmt(dst, "%llds", (long long)(ms % 60000 / 1000));
}

static void put_time(struct buf *dst, usec_t wall) /* RFC 3339, whole seconds */
{
    time_t t = (time_t)((wall + USEC_PER_SEC - 1) / USEC_PER_SEC);
    struct tm tm;
    char text[40];

    if (!gmtime_r(&t, &tm) || strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        return;
    (void)buf_z(dst, text);
}

/* "x-ratelimit-remaining-tokens: ", "anthropic-ratelimit-tokens-remaining: " */
static void put_name(struct buf *dst, enum sim_style style, const char *what,
                     const char *of)
{
    if (style == SIM_ANTHROPIC)
        (void)buf_fmt(dst, "anthropic-ratelimit-%s-%s: ", of, what);
    else
        (void)buf_fmt(dst, "x-ratelimit-%s-%s: ", what, of);
}

static void put_bucket(struct buf *dst, const struct sim_quota *q, const char *of,
                       const struct sim_bucket *b, usec_t wall)
{
    uint64_t left = b->level > 0 ? (uint64_t)(b->level + 1e-6) : 0;
    usec_t reset = time_until(b, b->most);

    if (!b->per_minute)
        return;
    put_name(dst, q->style, "limit", of);
    (void)buf_fmt(dst, "%llu\r\n", (unsigned long long)b->per_minute);
    put_name(dst, q->style, "remaining", of);
    (void)buf_fmt(dst, "%llu\r\n", (unsigned long long)left);
    put_name(dst, q->style, "reset", of);
    if (q->style == SIM_ANTHROPIC)
        put_time(dst, wall + reset);
    else if (q->style == SIM_AZURE) /* whole seconds */
        (void)buf_i64(dst, (reset + USEC_PER_SEC - 1) / USEC_PER_SEC);
    else
        put_duration(dst, reset);
    (void)buf_z(dst, "\r\n");
}

void sim_quota_headers(struct sim_quota *q, usec_t now, usec_t wall, struct buf *dst)
{
    refresh(q, now);
    put_bucket(dst, q, "requests", &q->requests, wall);
    put_bucket(dst, q, "tokens", &q->tokens, wall);
}

/* --- The refusal ---------------------------------------------------------------------
 */

static void put_openai(struct json_writer *w, const char *text, bool tokens)
{
    jw_open(w, "error", '{');
    jw_z(w, "message", text);
    jw_z(w, "type", tokens ? "tokens" : "requests");
    jw_null(w, "param");
    jw_z(w, "code", "rate_limit_exceeded");
    jw_close(w, '}');
}

static void put_anthropic(struct json_writer *w, const char *text)
{
    jw_z(w, "type", "error");
    jw_open(w, "error", '{');
    jw_z(w, "type", "rate_limit_error");
    jw_z(w, "message", text);
    jw_close(w, '}');
}

static void put_azure(struct json_writer *w, const char *text)
{
    jw_open(w, "error", '{');
    jw_z(w, "code", "429");
    jw_z(w, "message", text);
    jw_close(w, '}');
}

void sim_quota_refusal(const struct sim_quota *q, const struct sim_quota_no *why,
                       uint64_t tokens, struct buf *dst)
{
    const struct sim_bucket *b = why->tokens ? &q->tokens : &q->requests;
    struct json_writer w;
    char text[256];

    (void)snprintf(text, sizeof text, /* for people: may be cut */
                   "%s on %s per min: Limit %llu, Used %llu, Requested %llu. "
                   "Please try again in %.3fs.",
                   why->never ? "Request too large" : "Rate limit reached",
                   why->tokens ? "tokens" : "requests", (unsigned long long)b->per_minute,
                   (unsigned long long)(b->most - b->level),
                   (unsigned long long)(why->tokens ? tokens : 1),
                   (double)why->after / (double)USEC_PER_SEC);
    jw_init(&w, dst);
    jw_open(&w, NULL, '{');
    if (q->style == SIM_ANTHROPIC)
        put_anthropic(&w, text);
    else if (q->style == SIM_AZURE)
        put_azure(&w, text);
    else
        put_openai(&w, text, why->tokens);
    jw_close(&w, '}');
}
