/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/quota.h"
#include "tests/lib/t.h"

static struct sim_quota quota(uint64_t rpm, uint64_t tpm, enum sim_style style)
{
    struct sim_options o = {
        .rpm = rpm, .tpm = tpm, .limit_style = style, .quota_burst = 60 * USEC_PER_SEC};
    struct sim_quota q;

    sim_quota_init(&q, &o, 0);
    return q;
}

TEST(requests_pass_at_the_rate_that_is_granted)
{
    struct sim_quota q = quota(60, 0, SIM_OPENAI);
    struct sim_quota_no why;
    unsigned passed = 0;

    for (int i = 0; i < 60; i++) /* what was saved up */
        EQ_RC(sim_quota_take(&q, 1000000, 0, &why), RC_OK);
    EQ_RC(sim_quota_take(&q, 1, 0, &why), RC_LIMIT);
    OK(!why.tokens && !why.never);
    EQ_INT(why.after, USEC_PER_SEC);
    EQ_RC(sim_quota_take(&q, 1, USEC_PER_SEC - 10, &why), RC_LIMIT);
    for (usec_t t = USEC_PER_SEC; t <= 120 * USEC_PER_SEC; t += USEC_PER_SEC / 10)
        passed += sim_quota_take(&q, 1, t, &why) == RC_OK;
    EQ_INT(passed, 120); /* the first of them is the one that was refused before */
}

TEST(tokens_are_held_when_a_request_comes)
{
    struct sim_quota q = quota(0, 6000, SIM_OPENAI);
    struct sim_quota_no why;

    EQ_RC(sim_quota_take(&q, 5900, 0, &why), RC_OK);
    EQ_RC(sim_quota_take(&q, 200, 0, &why), RC_LIMIT);
    OK(why.tokens && !why.never);
    EQ_INT(why.after, USEC_PER_SEC);
    EQ_RC(sim_quota_take(&q, 100, 0, &why), RC_OK); /* the refusal cost nothing */
    sim_quota_settle(&q, 5900, 10, 0);              /* gives nothing back */
    EQ_RC(sim_quota_take(&q, 1, 0, &why), RC_LIMIT);
    EQ_RC(sim_quota_take(&q, 6001, 0, &why), RC_LIMIT);
    OK(why.never);
}

TEST(anthropic_gives_back_what_was_not_used)
{
    struct sim_quota q = quota(0, 6000, SIM_ANTHROPIC);
    struct sim_quota_no why;

    EQ_RC(sim_quota_take(&q, 6000, 0, &why), RC_OK);
    EQ_RC(sim_quota_take(&q, 5000, 0, &why), RC_LIMIT);
    sim_quota_settle(&q, 6000, 1000, 0);
    EQ_RC(sim_quota_take(&q, 5000, 0, &why), RC_OK);
    sim_quota_settle(&q, 100, 200, 0); /* never takes more */
    EQ_RC(sim_quota_take(&q, 1, 0, &why), RC_LIMIT);
}

TEST(what_can_be_saved_up_is_bounded)
{
    struct sim_options o = {.rpm = 600, .quota_burst = USEC_PER_SEC};
    struct sim_quota q;
    struct sim_quota_no why;

    sim_quota_init(&q, &o, 0);
    for (int round = 0; round < 3; round++) {
        usec_t t = round * 100 * USEC_PER_SEC;

        for (int i = 0; i < 10; i++)
            EQ_RC(sim_quota_take(&q, 1, t, &why), RC_OK);
        EQ_RC(sim_quota_take(&q, 1, t, &why), RC_LIMIT);
    }
}

TEST(each_provider_has_headers_of_its_own)
{
    static const struct {
        enum sim_style style;
        const char *want;
    } rows[] = {{SIM_OPENAI, "x-ratelimit-limit-requests: 60\r\n"
                             "x-ratelimit-remaining-requests: 59\r\n"
                             "x-ratelimit-reset-requests: 1s\r\n"
                             "x-ratelimit-limit-tokens: 6000\r\n"
                             "x-ratelimit-remaining-tokens: 0\r\n"
                             "x-ratelimit-reset-tokens: 1m0s\r\n"},
                {SIM_ANTHROPIC,
                 "anthropic-ratelimit-requests-limit: 60\r\n"
                 "anthropic-ratelimit-requests-remaining: 59\r\n"
                 "anthropic-ratelimit-requests-reset: 2026-11-25T00:00:01Z\r\n"
                 "anthropic-ratelimit-tokens-limit: 6000\r\n"
                 "anthropic-ratelimit-tokens-remaining: 0\r\n"
                 "anthropic-ratelimit-tokens-reset: 2026-11-25T00:01:00Z\r\n"},
                {SIM_AZURE, "x-ratelimit-limit-requests: 60\r\n"
                            "x-ratelimit-remaining-requests: 59\r\n"
                            "x-ratelimit-reset-requests: 1\r\n"
                            "x-ratelimit-limit-tokens: 6000\r\n"
                            "x-ratelimit-remaining-tokens: 0\r\n"
                            "x-ratelimit-reset-tokens: 60\r\n"}};

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct sim_quota q = quota(60, 6000, rows[i].style);
        struct sim_quota_no why;
        struct buf b;

        buf_init(&b, 4096);
        EQ_RC(sim_quota_take(&q, 6000, 0, &why), RC_OK);
        sim_quota_headers(&q, 0, (usec_t)1795564800 * USEC_PER_SEC, &b);
        EQ_STR(buf_peek(&b), str_of(rows[i].want));
        buf_done(&b);
    }
}

TEST(short_times_are_told_to_the_millisecond)
{
    struct sim_quota q = quota(60000, 0, SIM_OPENAI);
    struct sim_quota_no why;
    struct buf b;

    buf_init(&b, 4096);
    for (int i = 0; i < 17; i++)
        EQ_RC(sim_quota_take(&q, 1, 0, &why), RC_OK);
    sim_quota_headers(&q, 0, 0, &b);
    OK(memmem(b.p, b.n, "reset-requests: 17ms\r\n", 22));
    for (int i = 0; i < 1483; i++)
        EQ_RC(sim_quota_take(&q, 1, 0, &why), RC_OK);
    buf_reset(&b);
    sim_quota_headers(&q, 0, 0, &b);
    OK(memmem(b.p, b.n, "reset-requests: 1.500s\r\n", 24));
    buf_done(&b);
}

TEST(a_refusal_is_in_the_shape_of_its_provider)
{
    static const struct {
        enum sim_style style;
        const char *has;
    } rows[] = {
        {SIM_OPENAI,
         "\"type\":\"tokens\",\"param\":null,\"code\":\"rate_limit_exceeded\"}}"},
        {SIM_ANTHROPIC, "{\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\""},
        {SIM_AZURE, "{\"error\":{\"code\":\"429\",\"message\":"}};

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct sim_quota q = quota(60, 6000, rows[i].style);
        struct sim_quota_no why = {.tokens = true, .after = 1500000};
        struct buf b;

        buf_init(&b, 4096);
        sim_quota_refusal(&q, &why, 42, &b);
        t_note("%.*s", (int)b.n, b.p);
        OK(memmem(b.p, b.n, rows[i].has, strlen(rows[i].has)));
        OK(memmem(b.p, b.n, "try again in 1.500s", 19));
        buf_done(&b);
    }
}
