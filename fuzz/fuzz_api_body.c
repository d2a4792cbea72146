/* SPDX-License-Identifier: Apache-2.0 */
/* The body of POST /v1/batches: whatever comes, it is a good batch or a 400 that says
 * why. */
#include "api/batch_body.h"
#include "base/limits.h"
#include "json/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check_good(struct str text, const struct batch_body *b)
{
    CHECK(id_ok(id_str(&b->input_file)));
    CHECK(b->endpoint < ENDPOINT_COUNT);
    CHECK(b->window_seconds >= 60 && b->window_seconds <= 86400 && b->window[0]);
    CHECK(b->output_expires_after == 0 ||
          (b->output_expires_after >= 3600 && b->output_expires_after <= 2592000));
    if (b->metadata.p) {
        CHECK(b->metadata.p > text.p);
        CHECK(b->metadata.p + b->metadata.n < text.p + text.n);
        CHECK(b->metadata.p[0] == '{' && b->metadata.p[b->metadata.n - 1] == '}');
    }
}

/* The refusal's envelope is JSON, whatever bytes of the body it quotes. */
static void check_refusal(const struct apierr *e)
{
    static const struct json_want wants[] = {{"error", -1}, {"message", 0}};
    struct json_limits limits = {0};
    struct json_val vals[2];
    struct json_err bad;
    struct buf b;

    CHECK(apierr_status(e->kind) == 400);
    buf_init(&b, sizeof *e * 8);
    apierr_put(e, &b);
    CHECK(json_read(buf_peek(&b), &limits, wants, 2, vals, NULL, &bad) == RC_OK);
    CHECK(vals[1].type == JSON_STRING && vals[1].raw.n > 2);
    buf_done(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const struct batch_rules rules = {60, 86400, "a.example.org, *.example.net"};
    struct str text = {(const char *)data, n};
    struct batch_body body;
    struct apierr e;

    if (n > LIMIT_API_BODY)
        return 0;
    if (batch_body_read(text, &rules, &body, &e) == RC_OK)
        check_good(text, &body);
    else
        check_refusal(&e);
    return 0;
}
