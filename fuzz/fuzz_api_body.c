/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_api_body: the JSON bodies of the API, each text as every one of them: create,
 * retry, change and validate a batch, make and complete an upload.  Whatever comes is
 * taken and within its rules, or a 400 that says why; requests in a body become lines.
 */
/* reaches: src/api/batch_body.c 42 */
/* reaches: src/api/upload_body.c 52 */
#include "fuzz/lib/quiet.h"

#include "api/batch_body.h"
#include "api/inline.h"
#include "api/upload_body.h"
#include "base/limits.h"
#include "json/json.h"
#include "tests/lib/json_ref.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const struct batch_rules rules = {60, 86400, "hooks.example.com,*.example.org"};

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

static bool inside(struct str s, struct str text)
{
    return s.p > text.p && s.p + s.n < text.p + text.n;
}

/* --- Requests in the body ------------------------------------------------------------ */

static const struct ref *member(const struct ref *object, const char *name)
{
    const struct ref *found = NULL;

    for (size_t i = 0; i < object->n_kids; i++) {
        const struct ref *kid = &object->kids[i];
        size_t k = 0;

        while (k < kid->n_chars && name[k] && kid->chars[k] == (unsigned char)name[k])
            k++;
        if (k == kid->n_chars && !name[k])
            found = kid;
    }
    return found;
}

/* A line with all the request's members at its end, byte for byte but for line ends, and
 * method and url in front when it had none. */
static void check_request(struct str line, const struct json_val *request,
                          enum endpoint ep)
{
    struct ref of_line, of_request;
    size_t wrong, added;

    CHECK(ref_parse(line, LIMIT_JSON_DEPTH, false, &of_line, &wrong));
    CHECK(ref_parse(request->raw, LIMIT_JSON_DEPTH, false, &of_request, &wrong));
    CHECK(of_line.type == of_request.type);
    if (of_line.type == JSON_OBJECT) {
        const struct ref *url = member(&of_line, "url");

        CHECK(member(&of_line, "method") && url);
        added = (size_t)!member(&of_request, "method") + !member(&of_request, "url");
        CHECK(of_line.n_kids == of_request.n_kids + added);
        if (!member(&of_request, "url"))
            CHECK(str_is((struct str){line.p + url->at + 1, url->end - url->at - 2},
                         endpoint_path(ep)));
    }
    ref_free(&of_line);
    ref_free(&of_request);
}

static void check_requests(const struct json_val *requests, enum endpoint ep)
{
    struct json_iter it = json_iter(requests);
    struct json_val one;
    struct str rest;
    struct buf lines;
    uint32_t n = 0;

    buf_init(&lines, requests->raw.n + (size_t)requests->count * 96); /* as create.c */
    CHECK(inline_lines(requests, ep, &lines) == RC_OK);
    rest = buf_peek(&lines);
    while (json_next(&it, NULL, &one)) {
        CHECK(rest.n > 0);
        check_request(str_cut(&rest, '\n'), &one, ep);
        n++;
    }
    CHECK(rest.n == 0 && n == requests->count);
    buf_done(&lines);
}

/* --- Batches ------------------------------------------------------------------------- */

static void check_extras(const struct batch_body *b)
{
    struct callback_url u;
    const char *why;

    CHECK(b->priority >= -10 && b->priority <= 10);
    CHECK(id_none(&b->continue_from) || id_ok(id_str(&b->continue_from)));
    if (!b->callback_url[0])
        return;
    CHECK(callback_url_read(str_of(b->callback_url), &u, &why) == RC_OK);
    CHECK(callback_allowed(&u, rules.callback_hosts));
}

static void check_good(struct str text, const struct batch_body *b)
{
    if (b->requests.type == JSON_ARRAY) {
        CHECK(id_none(&b->input_file) && b->requests.count > 0);
        check_requests(&b->requests, b->endpoint);
    } else {
        CHECK(id_ok(id_str(&b->input_file)));
    }
    CHECK(b->endpoint < ENDPOINT_COUNT);
    CHECK(b->window_seconds >= 60 && b->window_seconds <= 86400 && b->window[0]);
    CHECK(b->output_expires_after == 0 ||
          (b->output_expires_after >= 3600 && b->output_expires_after <= 2592000));
    if (b->metadata.p) {
        CHECK(inside(b->metadata, text));
        CHECK(b->metadata.p[0] == '{' && b->metadata.p[b->metadata.n - 1] == '}');
    }
    check_extras(b);
}

static void try_batches(struct str text)
{
    struct batch_body body;
    struct apierr e;

    if (batch_body_read(text, &rules, &body, &e) == RC_OK)
        check_good(text, &body);
    else
        check_refusal(&e);
    if (batch_body_read_input(text, &body, &e) == RC_OK)
        CHECK(body.requests.type == JSON_ARRAY || id_ok(id_str(&body.input_file)));
    else
        check_refusal(&e);
    if (batch_body_read_retry(text, &rules, &body, &e) != RC_OK)
        check_refusal(&e);
    else
        CHECK(!body.window[0] ||
              (body.window_seconds >= 60 && body.window_seconds <= 86400));
    if (batch_body_read_edit(text, &rules, &body, &e) != RC_OK)
        check_refusal(&e);
    else
        CHECK((body.has_priority || body.window[0]) && body.priority >= -10 &&
              body.priority <= 10);
}

/* --- Uploads ------------------------------------------------------------------------- */

static void try_uploads(struct str text)
{
    static const struct upload_rules limits = {1000000, 1000};
    struct upload_body u = {0};
    struct complete_body c = {0};
    struct apierr e;

    if (upload_body_read(text, &limits, &u, &e) == RC_OK) {
        CHECK(u.bytes > 0 && u.bytes <= limits.max_bytes);
        CHECK(strcmp(u.purpose, "batch") != 0 || u.bytes <= limits.max_batch_bytes);
        CHECK(u.filename && u.filename[0] && strlen(u.filename) <= 4 * LIMIT_FILENAME);
        CHECK(u.file_expires_after == 0 || (u.file_expires_after >= FILE_EXPIRES_MIN &&
                                            u.file_expires_after <= FILE_EXPIRES_MAX));
        upload_body_done(&u);
    } else {
        check_refusal(&e);
    }
    upload_body_done(&u);
    if (complete_body_read(text, 20, &c, &e) == RC_OK) {
        CHECK(c.n_parts > 0 && c.n_parts <= 20);
        for (size_t i = 0; i < c.n_parts; i++)
            CHECK(memchr(c.parts[i].z, '\0', sizeof c.parts[i].z));
        complete_body_done(&c);
    } else {
        check_refusal(&e);
    }
    complete_body_done(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct str text = {(const char *)data, n};

    if (n > LIMIT_API_BODY)
        return 0;
    try_batches(text);
    try_uploads(text);
    return 0;
}
