/* SPDX-License-Identifier: Apache-2.0 */
#include "core/webhook.h"
#include "tests/lib/t.h"

/* --- secrets --- */

/* Keys of the bytes 0, 1, 2 ...: 24, 25 and 64 of them, the fewest, odd and the most. */
#define KEY24 "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"
#define KEY25 "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGA=="
#define KEY64                                                                            \
    "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4" \
    "OTo7PD0+Pw=="

TEST(a_secret_file_holds_one_secret_a_line_and_blank_lines_do_not_count)
{
    static const char text[] = "\n  " KEY24 " \r\n\n" KEY64 "\n" KEY25;
    struct webhook_secrets s = {0};
    static const size_t sizes[] = {24, 64, 25};
    struct err e = {""};

    if (webhook_secrets_read(STR(text), &s, &e) != RC_OK)
        FAIL("%s", e.text);
    EQ_INT(s.n, 3);
    for (unsigned i = 0; i < 3; i++) {
        EQ_INT(s.key[i].n, sizes[i]);
        for (size_t k = 0; k < sizes[i]; k++)
            EQ_INT(s.key[i].bytes[k], k);
    }
}

TEST(a_bad_secret_is_told_by_its_line_and_not_shown)
{
    static const struct {
        const char *text, *want;
    } rows[] = {
        {"", "there is no secret in it"},
        {" \n\r\n", "there is no secret in it"},
        {"sk-1234", "line 1 does not begin with whsec_"},
        {KEY24 "\n\nwhsek_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX",
         "line 3 does not begin with whsec_"},
        {"whsec_", "line 1: behind whsec_ there must be"},
        {"whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRY=", "line 1: behind"}, /* 23 bytes */
        {"whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1"
         "Njc4OTo7PD0+P0A=", /* 65 */
         "line 1: behind"},
        {"whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGA", "line 1: behind"}, /* no padding */
        {"whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGA=A", "line 1: behind"},
        {"whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRY====", "line 1: behind"},
        {"whsec_AAECAwQFBgcICQoL DA0ODxAREhMUFRYXGA=", "line 1: behind"},
        {"whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFR-_", "line 1: behind"}, /* URL alphabet */
        {KEY24 "\n" KEY24 "\n" KEY24 "\n" KEY24 "\n" KEY24,
         "line 5 is one secret too many: at most 4 count"},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct webhook_secrets s = {.n = 7};
        struct err e = {""};

        t_row(rows[i].text);
        EQ_RC(webhook_secrets_read(str_of(rows[i].text), &s, &e), RC_INVALID);
        if (strncmp(e.text, rows[i].want, strlen(rows[i].want)) != 0)
            FAIL("got \"%s\", want \"%s\"", e.text, rows[i].want);
        OK(!strstr(e.text, "AAEC") && !strstr(e.text, "1234"));
        EQ_INT(s.n, 7);
    }
}

/* --- signatures --- */

static void sign(const char *secrets, const char *event, int64_t now, const char *body,
                 const char *want)
{
    struct webhook_secrets s;
    struct id id;
    char got[WEBHOOK_SIGNATURE_CAP];

    EQ_RC(webhook_secrets_read(str_of(secrets), &s, NULL), RC_OK);
    EQ_RC(id_from(str_of(event), &id), RC_OK);
    webhook_sign(&s, &id, now, str_of(body), got);
    EQ_Z(got, want);
}

/* The example that the specification's reference implementations share. */
TEST(the_published_example_has_its_published_signature)
{
    sign("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek",
         1614265330, "{\"test\": 2432232314}",
         "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

/* Against Python's hmac over the same bytes. */
TEST(each_secret_makes_a_signature_of_its_own)
{
    sign(KEY24 "\n" KEY64 "\n" KEY25 "\n" KEY24, "evt_1", 1, "{}",
         "v1,CdE+ybwUPpghYKy+VQug0Rboy3cH70MFrm7blZEE/IA= "
         "v1,NNFDz0r3tN+ve3FaHx17oBIOLCWC10/Ip5i5wQiQPec= "
         "v1,yKGdBxcNI1vGwrRFR7DVUKy1ybAHGEdOC1QXwChULbo= "
         "v1,CdE+ybwUPpghYKy+VQug0Rboy3cH70MFrm7blZEE/IA=");
}

TEST(the_body_is_the_apis_event)
{
    struct id event = {"evt_12"}, batch = {"batch_34"};
    struct buf b;

    buf_init(&b, 4096);
    webhook_put_body(&b, &event, "batch.completed", 1714265330, &batch);
    EQ_STR(buf_peek(&b),
           STR("{\"object\":\"event\",\"id\":\"evt_12\",\"type\":\"batch.completed\","
               "\"created_at\":1714265330,\"data\":{\"id\":\"batch_34\"}}"));
    buf_done(&b);
}

/* --- who is told --- */

TEST(a_destination_is_told_of_its_events_in_its_project_only)
{
    static const struct {
        const char *events, *project;
        bool told[BATCH_STATUS_COUNT];
    } rows[] = {
        {"",
         NULL,
         {[BATCH_COMPLETED] = 1,
          [BATCH_FAILED] = 1,
          [BATCH_EXPIRED] = 1,
          [BATCH_CANCELLED] = 1}},
        {"",
         "",
         {[BATCH_COMPLETED] = 1,
          [BATCH_FAILED] = 1,
          [BATCH_EXPIRED] = 1,
          [BATCH_CANCELLED] = 1}},
        {" , ",
         "blue",
         {[BATCH_COMPLETED] = 1,
          [BATCH_FAILED] = 1,
          [BATCH_EXPIRED] = 1,
          [BATCH_CANCELLED] = 1}},
        {"", "red", {0}},
        {"", "blu", {0}},
        {"completed", NULL, {[BATCH_COMPLETED] = 1}},
        {"expired ,  failed", "blue", {[BATCH_EXPIRED] = 1, [BATCH_FAILED] = 1}},
        {"cancelled", "red", {0}},
    };
    struct id blue = {"blue"};

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        webhook_events events = 0;

        t_row(rows[i].events);
        EQ_RC(webhook_events_read(str_of(rows[i].events), &events, NULL), RC_OK);
        for (unsigned s = 0; s < BATCH_STATUS_COUNT; s++)
            EQ_INT(webhook_concerns(events, rows[i].project, &blue, (enum batch_status)s),
                   rows[i].told[s]);
    }
}

TEST(an_event_that_there_is_not_is_named)
{
    webhook_events events = 77;
    struct err e;

    EQ_RC(webhook_events_read(STR("completed, in_progress"), &events, &e), RC_INVALID);
    EQ_Z(e.text,
         "there is no event 'in_progress'; there are completed, failed, expired and "
         "cancelled");
    EQ_RC(webhook_events_read(STR("batch.completed"), &events, &e), RC_INVALID);
    EQ_INT(events, 77);
}

/* --- when it is sent again --- */

enum { DAY = 86400, CREATED = 1700000000 };

static struct webhook_try try_of(uint32_t tries, int64_t now, uint64_t random)
{
    return (struct webhook_try){.created_at = CREATED,
                                .now = now,
                                .tries = tries,
                                .give_up = 3 * (int64_t)DAY,
                                .retry_after = -1,
                                .random = random};
}

TEST(the_pause_is_drawn_up_to_a_bound_that_doubles_to_four_hours)
{
    static const struct {
        uint32_t tries;
        int64_t most;
    } rows[] = {{1, 5},      {2, 10},     {3, 20},     {4, 40},        {11, 5120},
                {12, 10240}, {13, 14400}, {14, 14400}, {100000, 14400}};

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct webhook_try first = try_of(rows[i].tries, CREATED + 100, 0);
        struct webhook_try last =
            try_of(rows[i].tries, CREATED + 100, (uint64_t)rows[i].most - 1);
        struct webhook_try round =
            try_of(rows[i].tries, CREATED + 100, (uint64_t)rows[i].most);
        int64_t at;

        OK(webhook_try_again(&first, &at));
        EQ_INT(at - first.now, 1);
        OK(webhook_try_again(&last, &at));
        EQ_INT(at - last.now, rows[i].most);
        OK(webhook_try_again(&round, &at));
        EQ_INT(at - round.now, 1);
    }
}

TEST(the_receivers_wish_counts_within_the_bound)
{
    struct webhook_try t = try_of(1, CREATED + 100, 2);
    int64_t at, end = CREATED + 3 * (int64_t)DAY;

    t.retry_after = 3600;
    OK(webhook_try_again(&t, &at));
    EQ_INT(at, t.now + 3600);
    t.retry_after = 2; /* sooner than ours, which stays */
    OK(webhook_try_again(&t, &at));
    EQ_INT(at, t.now + 3);
    t.retry_after = 0;
    OK(webhook_try_again(&t, &at));
    EQ_INT(at, t.now + 3);
    t.retry_after = 30 * DAY;
    OK(webhook_try_again(&t, &at));
    EQ_INT(at, end);
    t.retry_after = INT64_MAX;
    OK(webhook_try_again(&t, &at));
    EQ_INT(at, end);
}

TEST(the_last_try_is_made_at_the_end_and_then_it_is_given_up)
{
    int64_t at, end = CREATED + 3 * (int64_t)DAY;
    struct webhook_try t = try_of(40, end - 10, UINT64_MAX);

    OK(webhook_try_again(&t, &at));
    EQ_INT(at, end);
    t.now = end - 1;
    OK(webhook_try_again(&t, &at));
    EQ_INT(at, end);
    t.now = end;
    at = 5;
    OK(!webhook_try_again(&t, &at));
    t.now = end + DAY; /* it was switched off meanwhile */
    OK(!webhook_try_again(&t, &at));
    EQ_INT(at, 5);
}

/* What a receiver that is down for good costs. */
TEST(three_days_have_some_fifty_tries)
{
    uint64_t random = 88172645463325252u; /* Marsaglia's xorshift64 */

    for (int n = 0; n < 200; n++) {
        struct webhook_try t = try_of(1, CREATED, 0);

        for (int64_t at = CREATED;; t.tries++) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            t.random = random;
            t.now = at;
            if (!webhook_try_again(&t, &at))
                break;
            OK(at > t.now);
        }
        OK(t.tries >= 25 && t.tries <= 90);
    }
}
