/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_line: one line for any endpoint.  A line that is accepted follows every rule when
 * looked at with the slow reader of the tests, and reading it again gives the same spans;
 * a line that is refused has a code and words that are valid UTF-8 of one line.
 */
/* reaches: src/core/line.c 60 */
#include "tests/lib/json_ref.h"
#include "core/line.h"
#include "base/limits.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "fuzz_line: %s\n", what);
    abort();
}

static const struct ref *member(const struct ref *object, const char *name)
{
    size_t n = strlen(name);

    for (size_t i = 0; object->type == JSON_OBJECT && i < object->n_kids; i++) {
        const struct ref *kid = &object->kids[i];
        size_t k = 0;

        while (kid->n_chars == n && k < n && kid->chars[k] == (unsigned char)name[k])
            k++;
        if (kid->n_chars == n && k == n)
            return kid;
    }
    return NULL;
}

static bool says(struct str text, const struct ref *v, const char *want)
{
    struct buf b;
    bool yes;

    buf_init(&b, text.n * 4 + 16);
    yes = v && v->type == JSON_STRING && ref_says(text, v->at, v->end, &b) &&
          str_is(buf_peek(&b), want);
    buf_done(&b);
    return yes;
}

static bool is_span(struct str text, const struct ref *v, struct str span)
{
    return v && span.p == text.p + v->at && span.n == v->end - v->at;
}

static void check_good(struct str text, enum endpoint ep, const struct line *line)
{
    const struct ref *body, *stream, *model, *id;
    struct line again;
    struct ref top;
    size_t wrong;

    must(ref_parse(text, LIMIT_JSON_DEPTH, true, &top, &wrong),
         "a line that is not JSON");
    id = member(&top, "custom_id");
    must(is_span(text, id, line->custom_id) && id->type == JSON_STRING, "custom_id");
    must(json_str_len(line->custom_id) - 1 < LIMIT_CUSTOM_ID, "the length of custom_id");
    must(says(text, member(&top, "method"), "POST"), "method");
    must(line->endpoint < ENDPOINT_COUNT &&
             (ep == ENDPOINT_COUNT || line->endpoint == ep),
         "endpoint");
    must(says(text, member(&top, "url"), endpoint_path(line->endpoint)), "url");
    body = member(&top, "body");
    must(is_span(text, body, line->body) && body->type == JSON_OBJECT, "body");
    stream = member(body, "stream");
    must(!stream || stream->type == JSON_FALSE || stream->type == JSON_NULL, "stream");
    model = member(body, "model");
    must(model ? is_span(text, model, line->model) && model->type == JSON_STRING
               : !line->model.p,
         "model");
    must((line->inputs > 0) == (line->endpoint == ENDPOINT_EMBEDDINGS), "inputs");
    line_reread(text, &again);
    must(again.custom_id.p == line->custom_id.p &&
             again.custom_id.n == line->custom_id.n && again.body.p == line->body.p &&
             again.body.n == line->body.n && again.model.p == line->model.p &&
             again.model.n == line->model.n,
         "reading again");
    ref_free(&top);
}

static void check_bad(const struct line_error *e)
{
    struct buf b;
    char *written;

    must(line_fault_code(e->fault)[0] != '\0', "a fault without a code");
    must(e->message[0] && !memchr(e->message, '\n', strlen(e->message)), "the message");
    buf_init(&b, 4096);
    (void)json_put_str(&b, str_of(e->message));
    written = buf_take(&b, NULL);
    must(written &&
             (!strstr(written, "\xef\xbf\xbd") || strstr(e->message, "\xef\xbf\xbd")),
         "a message that is not UTF-8");
    mem_free(written);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = {(const char *)data + 1, size - 1};
    enum endpoint ep;
    struct line line;
    struct line_error e;

    if (size < 1)
        return 0;
    ep = (enum endpoint)(data[0] % (ENDPOINT_COUNT + 1));
    if (line_read(text, ep, &line, &e) == RC_OK)
        check_good(text, ep, &line);
    else
        check_bad(&e);
    return 0;
}
