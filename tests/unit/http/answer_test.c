/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/t.h"
#include "http/answer.h"

static void feed(struct answer *a, const char *text)
{
    struct str left = str_of(text);

    while (left.n) {
        const char *nl = memchr(left.p, '\n', left.n);
        size_t n = nl ? (size_t)(nl - left.p) + 1 : left.n;

        answer_line(a, (struct str){left.p, n});
        left.p += n;
        left.n -= n;
    }
}

static void read_head(struct answer *a, const char *text)
{
    answer_start(a);
    feed(a, text);
}

TEST(status_lines_are_read)
{
    static const struct {
        const char *line;
        long status;
    } rows[] = {
        {"HTTP/1.1 200 OK\r\n", 200},
        {"HTTP/1.0 503\r\n", 503},
        {"HTTP/2 204\r\n", 204},
        {"HTTP/1.1 2x0 OK\r\n", 0},
        {"HTTP/1.1 20", 0},
        {"HTTP/1.1", 0},
        {"HTTP/", 0},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct answer a;

        t_row(rows[i].line);
        read_head(&a, rows[i].line);
        EQ_INT(a.status, rows[i].status);
        OK(!a.complete);
    }
}

TEST(an_empty_line_ends_the_final_head_only)
{
    struct answer a;

    read_head(&a, "HTTP/1.1 100 Continue\r\nX-Request-Id: early\r\n\r\n");
    OK(!a.complete);
    EQ_Z(a.id, "early");
    feed(&a, "HTTP/1.1 103 Early Hints\r\nRetry-After: 9\r\n\r\n");
    OK(!a.complete);
    EQ_Z(a.id, "");
    feed(&a, "HTTP/1.1 200 OK\r\n");
    EQ_INT(a.retry_ms, -1);
    feed(&a, "X-Request-Id: late\r\n\r\n");
    OK(a.complete);
    EQ_INT(a.status, 200);
    feed(&a, "X-Request-Id: trailer\r\nRetry-After: 5\r\n");
    EQ_Z(a.id, "late");
    EQ_INT(a.retry_ms, -1);
}

TEST(all_heads_count)
{
    struct answer a;

    read_head(&a, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n");
    EQ_INT(a.bytes, 23 + 2 + 17 + 2);
}

TEST(the_answers_id_is_plain_text_or_nothing)
{
    static const struct {
        const char *head, *id;
    } rows[] = {
        {"x-request-id: req_1\r\n", "req_1"},
        {"X-REQUEST-ID:req_1\r\n", "req_1"},
        {"X-Request-Id: \t two words \t\r\n", "two words"},
        {"X-Request-Id: bad\x01"
         "byte\r\n",
         ""},
        {"X-Request-Id: caf\xc3\xa9\r\n", ""},
        {"X-Request-Id:\r\n", ""},
        {"X-Request-Ib: no\r\n", ""},
        {"no colon here\r\n", ""},
        {"X-Request-Id: "
         "0123456789012345678901234567890123456789012345678901234567890123456789"
         "0123456789012345678901234\r\n",
         "0123456789012345678901234567890123456789012345678901234567890123456789"
         "0123456789012345678901234"},
        {"X-Request-Id: "
         "0123456789012345678901234567890123456789012345678901234567890123456789"
         "01234567890123456789012345\r\n",
         ""},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct answer a;

        t_row(rows[i].head);
        read_head(&a, "HTTP/1.1 200 OK\r\n");
        feed(&a, rows[i].head);
        EQ_Z(a.id, rows[i].id);
    }
}

TEST(retry_after_in_all_its_forms)
{
    enum { NOW = 784111777 }; /* Sun, 06 Nov 1994 08:49:37 GMT */
    static const struct {
        const char *head;
        int64_t ms;
    } rows[] = {
        {"", -1},
        {"Retry-After: 0\r\n", 0},
        {"retry-after: 120\r\n", 120000},
        {"Retry-After: 1.5\r\n", 1500},
        {"Retry-After: 0.0004\r\n", 0},
        {"Retry-After: 99999999999999999999999\r\n", 1000000000000},
        {"Retry-After: 9223372036854775807\r\n", 1000000000000},
        {"Retry-After: -5\r\n", -1},
        {"Retry-After: soon\r\n", -1},
        {"Retry-After: 12 s\r\n", -1},
        {"Retry-After:\r\n", -1},
        {"Retry-After-Ms: 1234\r\n", 1234},
        {"retry-after-ms: 12.9\r\n", 12},
        {"retry-after-ms: x\r\nRetry-After: 2\r\n", 2000},
        {"retry-after-ms: 700\r\nRetry-After: 2\r\n", 700},
        {"Retry-After: 2\r\nretry-after-ms: 700\r\n", 700},
        {"Retry-After: Sun, 06 Nov 1994 08:50:37 GMT\r\n", 60000},
        {"Retry-After: Sunday, 06-Nov-94 08:50:37 GMT\r\n", 60000},
        {"Retry-After: Sun Nov  6 08:50:37 1994\r\n", 60000},
        {"Retry-After: Sun, 06 Nov 1994 08:49:00 GMT\r\n", 0},
        {"Date: Sun, 06 Nov 1994 08:50:30 GMT\r\n"
         "Retry-After: Sun, 06 Nov 1994 08:50:37 GMT\r\n",
         7000},
        {"Retry-After: Sun, 06 Nov 1994 08:50:37 GMT\r\nDate: today\r\n", 60000},
        {"Retry-After: Sun, 06 Nov 1994 08:50:37 GMT\r\nretry-after-ms: 5\r\n", 5},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct answer a;

        t_row(rows[i].head);
        read_head(&a, "HTTP/1.1 429 Too Many Requests\r\n");
        feed(&a, rows[i].head);
        EQ_INT(answer_retry_ms(&a, NOW), rows[i].ms);
    }
}

TEST(lines_that_tell_of_quotas_are_kept_as_they_stand)
{
    static char huge[900];
    struct answer a;

    read_head(&a, "HTTP/1.1 200 OK\r\n"
                  "X-RateLimit-Limit-Tokens:  5 \r\n"
                  "x-ratelimi: 1\r\n"
                  "anthropic-ratelimit-requests-reset: 2026-02-18T22:00:30Z\n"
                  "x-should-retry: false\r\n"
                  "x-should-retry-not: false\r\n"
                  "accept-ranges: bytes\r\n"
                  "x-ratelimit-bad: \x01\r\n"
                  "x-llm-d-request-dropped-reason: evicted\r\n"
                  "\r\n"
                  "x-ratelimit-limit-requests: 7\r\n");
    OK(str_eq((struct str){a.quota, a.quota_n},
              STR("X-RateLimit-Limit-Tokens:  5\n"
                  "anthropic-ratelimit-requests-reset: 2026-02-18T22:00:30Z\n"
                  "x-should-retry: false\n"
                  "x-llm-d-request-dropped-reason: evicted\n")));
    t_row("interim heads are forgotten");
    read_head(&a, "HTTP/1.1 103 Early Hints\r\nx-ratelimit-limit-requests: 7\r\n\r\n"
                  "HTTP/1.1 200 OK\r\n\r\n");
    EQ_INT(a.quota_n, 0);
    t_row("what does not fit is left out");
    memset(huge, 'x', sizeof huge - 1);
    memcpy(huge, "x-ratelimit-", 12);
    read_head(&a, "HTTP/1.1 200 OK\r\n");
    feed(&a, huge);
    feed(&a, huge);
    feed(&a, "x-ratelimit-limit-requests: 7\r\n");
    EQ_INT(a.quota_n, sizeof huge + sizeof "x-ratelimit-limit-requests: 7");
}

TEST(the_answers_own_date_is_told_where_it_makes_sense)
{
    struct answer a;

    read_head(&a, "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
    EQ_INT(answer_date(&a), 784111777);
    read_head(&a, "HTTP/1.1 200 OK\r\nDate: today\r\n");
    EQ_INT(answer_date(&a), 0);
}
