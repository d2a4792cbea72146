/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/t.h"
#include "core/ratelimit.h"

#define WALL (1771452000 * USEC_PER_SEC) /* 2026-02-18T22:00:00Z */
#define MS   USEC_PER_MS

static struct ratelimit read_head(const char *head)
{
    struct ratelimit r;

    (void)ratelimit_read(str_of(head), WALL, &r);
    return r;
}

#define EQ_QUOTA(q, limit_, left_, reset_)                                               \
    do {                                                                                 \
        EQ_INT((q).limit, limit_);                                                       \
        EQ_INT((q).left, left_);                                                         \
        EQ_INT((q).reset, reset_);                                                       \
    } while (0)

TEST(quotas_are_read_in_every_providers_words)
{
    struct ratelimit r = read_head("x-ratelimit-limit-requests: 5000\r\n"
                                   "x-ratelimit-remaining-requests: 4999\r\n"
                                   "x-ratelimit-reset-requests: 12ms\r\n"
                                   "X-RateLimit-Limit-Tokens: 160000\r\n"
                                   "x-ratelimit-remaining-tokens: 159976\r\n"
                                   "x-ratelimit-reset-tokens: 6m0s\r\n"
                                   "x-ratelimit-limit-tokens_usage_based: 7\r\n");

    t_row("OpenAI");
    EQ_QUOTA(r.requests, 5000, 4999, 12 * MS);
    EQ_QUOTA(r.tokens, 160000, 159976, 360 * USEC_PER_SEC);

    t_row("Azure");
    r = read_head("x-ratelimit-remaining-requests: 9\nx-ratelimit-remaining-tokens: -1\n"
                  "x-ratelimit-limit-tokens: -1\nx-ratelimit-reset-tokens: 0\n");
    EQ_QUOTA(r.requests, -1, 9, -1);
    EQ_QUOTA(r.tokens, -1, -1, -1);

    t_row("Cerebras");
    r = read_head("x-ratelimit-limit-requests-day: 14400\n"
                  "x-ratelimit-limit-tokens-minute: 60000\n"
                  "x-ratelimit-remaining-tokens-minute: 5000\n"
                  "x-ratelimit-reset-tokens-minute: 11.382883\n");
    EQ_QUOTA(r.requests, -1, -1, -1);
    EQ_QUOTA(r.tokens, 60000, 5000, 11382883);

    t_row("Anthropic");
    r = read_head(
        "anthropic-ratelimit-requests-limit: 1000\n"
        "anthropic-ratelimit-requests-remaining: 0\n"
        "anthropic-ratelimit-requests-reset: 2026-02-18T22:00:30Z\n"
        "anthropic-ratelimit-input-tokens-limit: 80000\n"
        "anthropic-ratelimit-input-tokens-remaining: 70000\n"
        "anthropic-ratelimit-input-tokens-reset: 2026-02-18T22:00:01Z\n"
        "anthropic-ratelimit-output-tokens-limit: 16000\n"
        "anthropic-ratelimit-output-tokens-remaining: 100\n"
        "anthropic-ratelimit-output-tokens-reset: 2026-02-18T23:00:02.5+01:00\n");
    EQ_QUOTA(r.requests, 1000, 0, 30 * USEC_PER_SEC);
    EQ_QUOTA(r.tokens, 16000, 100, 2500 * MS);
    r = read_head("anthropic-ratelimit-input-tokens-limit: 80000\n"
                  "anthropic-ratelimit-tokens-limit: 96000\n"
                  "anthropic-ratelimit-tokens-remaining: 95000\n");
    EQ_QUOTA(r.tokens, 96000, 95000, -1);
}

TEST(resets_in_all_their_forms)
{
    static const struct {
        const char *text;
        usec_t want;
    } rows[] = {
        {"1s", 1000 * MS},
        {"6m0s", 360000 * MS},
        {"17ms", 17 * MS},
        {"2m59.56s", 179560 * MS},
        {"1h2m3.5s", 3723500 * MS},
        {"50us", 50},
        {"50\xc2\xb5s", 50},
        {"0s", 0},
        {"59.7", 59700 * MS},
        {"60", 60000 * MS},
        {"0", 0},
        {"1771452010", 10000 * MS},    /* since the epoch */
        {"1771452010500", 10500 * MS}, /* in milliseconds */
        {"1000000001", 0},             /* long ago */
        {"2026-02-18T22:00:10Z", 10000 * MS},
        {"2026-02-18 22:00:10.250Z", 10250 * MS},
        {"2026-02-18T14:00:10-08:00", 10000 * MS},
        {"2025-02-18T22:00:10Z", 0},
        {"2090-02-18T22:00:10Z", RATELIMIT_RESET_MAX},
        {"Wed, 18 Feb 2026 22:01:00 GMT", 60000 * MS},
        {"999999h", RATELIMIT_RESET_MAX},
        {"99999999999999999999s", -1},
        {"-5", -1},
        {"-1s", -1},
        {"soon", -1},
        {"", -1},
        {"1", 1000 * MS},
        {"1x", -1},
        {"1s ", 1000 * MS},
        {"1s1", -1},
        {"m", -1},
        {"1.s", -1},
        {"2026-02-30T22:00", -1},
        {"2026-13-01T22:00:00Z", -1},
        {"2026-02-18T22:00:10", -1},
        {"2026-02-18T22:00:10+99:00", -1},
        {"Wed, 18 Foo 2026 22:01:00 GMT", -1},
        {"Wed, 18 Feb 2026 22:01:00 CET", -1},
        {"Wed,", -1},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        char head[160];

        t_row(rows[i].text);
        EQ_RC(str_fmt(head, sizeof head,
                      "x-ratelimit-remaining-requests: 1\n"
                      "x-ratelimit-reset-requests: %s\n",
                      rows[i].text),
              RC_OK);
        EQ_INT(read_head(head).requests.reset, rows[i].want);
    }
}

TEST(absurd_numbers_are_bounded_or_not_told)
{
    struct ratelimit r = read_head("x-ratelimit-limit-requests: 0\n"
                                   "x-ratelimit-remaining-requests: 99999999999999999\n"
                                   "x-ratelimit-limit-tokens: 100\n"
                                   "x-ratelimit-remaining-tokens: 900\n");

    EQ_QUOTA(r.requests, -1, -1, -1);
    EQ_QUOTA(r.tokens, 100, 100, -1);
    r = read_head("x-ratelimit-limit-requests: 1e9\nx-ratelimit-reset-requests: 5s\n");
    EQ_QUOTA(r.requests, -1, -1, -1); /* a reset of nothing */
    r = read_head("x-ratelimit-limit-tokens: 5\nx-ratelimit-limit-tokens: 7\n");
    EQ_QUOTA(r.tokens, 7, -1, -1);
}

TEST(whether_to_try_again_is_read)
{
    EQ_INT(read_head("x-should-retry: true\n").retry, RETRY_YES);
    EQ_INT(read_head("X-Should-Retry:FALSE\n").retry, RETRY_NO);
    EQ_INT(read_head("x-should-retry: maybe\n").retry, RETRY_UNTOLD);
    OK(read_head("x-llm-d-request-dropped-reason: evicted-priority\n").evicted);
    OK(!read_head("x-llm-d-request-dropped-reason: rejected-saturated\n").evicted);
}

TEST(other_lines_say_nothing)
{
    static const char *const rows[] = {
        "",
        "\n\n",
        "x-ratelimit-\n",
        "x-ratelimit-limit: 5\n",
        "x-ratelimit-limit-: 5\n",
        "x-ratelimit-limit-minute: 5\n",
        "x-ratelimit-limit-images: 5\n",
        "x-ratelimit-requests-limit: 5\n",
        "anthropic-ratelimit-limit-requests: 5\n",
        "anthropic-ratelimit-requests: 5\n",
        "anthropic-ratelimit-: 5\n",
        "anthropic-ratelimit-unified-reset: 5\n",
        "x-should-retry-not: true\n",
        "content-type: text/plain\n",
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct ratelimit r;

        t_row(rows[i]);
        OK(!ratelimit_read(str_of(rows[i]), WALL, &r));
        EQ_QUOTA(r.requests, -1, -1, -1);
        EQ_QUOTA(r.tokens, -1, -1, -1);
    }
}
