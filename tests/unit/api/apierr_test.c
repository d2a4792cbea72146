/* SPDX-License-Identifier: Apache-2.0 */
#include "api/apierr.h"
#include "json/json.h"
#include "tests/lib/t.h"

TEST(the_envelope_has_all_four_keys)
{
    static const struct {
        enum apierr_kind kind;
        const char *param, *message, *want;
    } rows[] = {
        {APIERR_NOT_FOUND, "id", "No such File object: x",
         "{\"error\":{\"message\":\"No such File object: x\",\"type\":"
         "\"invalid_request_error\",\"param\":\"id\",\"code\":null}}"},
        {APIERR_MISSING, "endpoint", "Missing",
         "{\"error\":{\"message\":\"Missing\",\"type\":\"invalid_request_error\",\"param\":"
         "\"endpoint\",\"code\":\"missing_required_parameter\"}}"},
        {APIERR_INTERNAL, NULL, "say \"hi\"\n",
         "{\"error\":{\"message\":\"say \\\"hi\\\"\\n\",\"type\":\"server_error\",\"param\":"
         "null,\"code\":null}}"},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct apierr e;
        struct buf b;

        t_row(rows[i].message);
        EQ_RC(apierr_set(&e, rows[i].kind, rows[i].param, "%s", rows[i].message),
              RC_INVALID);
        buf_init(&b, 4096);
        apierr_put(&e, &b);
        EQ_STR(buf_peek(&b), str_of(rows[i].want));
        buf_done(&b);
    }
}

TEST(types_follow_the_status)
{
    for (unsigned k = 0; k < APIERR_COUNT; k++) {
        struct apierr e;
        struct buf b;
        int status = apierr_status((enum apierr_kind)k);

        apierr_set(&e, (enum apierr_kind)k, NULL, "x");
        buf_init(&b, 4096);
        apierr_put(&e, &b);
        OK(status >= 400 && status < 600);
        OK(!!memmem(b.p, b.n, "invalid_request_error", 21) ==
           (status < 500 && status != 429));
        OK(!!memmem(b.p, b.n, "rate_limit_error", 16) == (status == 429));
        OK(!!memmem(b.p, b.n, "server_error", 12) == (status >= 500));
        OK(!!apierr_retry_after((enum apierr_kind)k) == (status == 503));
        buf_done(&b);
    }
}

TEST(the_servers_refusals_have_a_kind_of_their_status)
{
    static const int statuses[] = {400, 404, 405, 408, 411, 413, 414, 415, 431, 500, 503};

    for (size_t i = 0; i < COUNTOF(statuses); i++)
        EQ_INT(apierr_status(apierr_of_status(statuses[i])), statuses[i]);
    EQ_INT(apierr_status(apierr_of_status(418)), 400);
    EQ_INT(apierr_status(apierr_of_status(599)), 500);
}

TEST(failures_below_tell_nothing_of_the_inside)
{
    static const struct {
        enum rc rc;
        int status;
    } rows[] = {{RC_NOSPACE, 503}, {RC_AGAIN, 503},   {RC_NOMEM, 503},
                {RC_IO, 500},      {RC_CORRUPT, 500}, {RC_DENIED, 500}};

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct apierr e;

        t_row(rc_name(rows[i].rc));
        apierr_of_rc(&e, rows[i].rc);
        EQ_INT(apierr_status(e.kind), rows[i].status);
        OK(e.message[0]);
    }
}

TEST(long_texts_end_in_three_dots_and_the_envelope_stays_json)
{
    struct json_limits limits = {0};
    struct json_want want[] = {{"error", -1}, {"message", 0}, {"param", 0}};
    struct json_val vals[3];
    struct json_err bad;
    struct apierr e;
    struct buf b;
    char text[5001];

    memset(text, '\x01', 5000); /* six bytes each in JSON */
    text[5000] = '\0';
    apierr_set(&e, APIERR_VALUE, text, "%s", text);
    EQ_Z(e.message + strlen(e.message) - 3, "...");
    EQ_Z(e.param + strlen(e.param) - 3, "...");
    buf_init(&b, sizeof e * 8); /* the room that call.c gives it */
    apierr_put(&e, &b);
    EQ_RC(buf_failed(&b), RC_OK);
    EQ_RC(json_read(buf_peek(&b), &limits, want, 3, vals, NULL, &bad), RC_OK);
    buf_done(&b);
}
