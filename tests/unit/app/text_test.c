/* SPDX-License-Identifier: Apache-2.0 */
/* What is shown to people: pretty JSON, bad lines, and a server's objects. */
#include "app/faults.h"
#include "app/pretty.h"
#include "app/remote.h"
#include "app/runstate.h"
#include "tests/lib/t.h"

#include <stdlib.h>

TEST(pretty_json_keeps_every_token_byte_for_byte)
{
    static const struct {
        const char *in, *want;
    } cases[] = {
        {"{}", "{}\n"},
        {" [ ] ", "[]\n"},
        {"1.10", "1.10\n"},
        {"{\"a\":1,\"b\":[1,2]}", "{\n  \"a\": 1,\n  \"b\": [\n    1,\n    2\n  ]\n}\n"},
        {"{\"a\\\"}[,:\":\"x\\\\\",\"e\":{}}",
         "{\n  \"a\\\"}[,:\": \"x\\\\\",\n  \"e\": {}\n}\n"},
        {"[[],[{}],9007199254740993]",
         "[\n  [],\n  [\n    {}\n  ],\n  9007199254740993\n]\n"},
        {"", "\n"},
    };
    struct buf b;

    buf_init(&b, 4096);
    for (size_t i = 0; i < COUNTOF(cases); i++) {
        buf_reset(&b);
        pretty_json(str_of(cases[i].in), &b);
        EQ_STR(buf_peek(&b), str_of(cases[i].want));
    }
    buf_done(&b);
}

static char *printed;
static size_t n_printed;

TEST(bad_lines_are_told_as_compilers_do)
{
    FILE *f = open_memstream(&printed, &n_printed);

    faults_print(f, "in.jsonl", 7, STR("invalid_type"), STR("Bad 'x'."));
    faults_print(f, "in.jsonl", 0, STR("empty_file"), STR("No request."));
    faults_print(f, "in\x1b[2J", 1, STR("c"), STR("a\nb\x7f"));
    fclose(f);
    EQ_Z(printed, "in.jsonl:7: invalid_type: Bad 'x'.\nin.jsonl: empty_file: No "
                  "request.\nin\\x1b[2J:1: c: a\\x0ab\\x7f\n");
    free(printed);
}

TEST(the_errors_of_a_failed_batch_are_told_likewise)
{
    FILE *f = open_memstream(&printed, &n_printed);

    EQ_INT(
        faults_print_json(
            f, "f",
            STR("{\"object\":\"list\",\"data\":[{\"code\":\"invalid_url\",\"message\":"
                "\"It \\u0022is\\u0022\",\"param\":\"url\",\"line\":3},{\"code\":"
                "\"empty_file\",\"message\":\"none\",\"param\":null,\"line\":null}]}")),
        2);
    EQ_INT(faults_print_json(f, "f", STR("null")), 0);
    EQ_INT(faults_print_json(f, "f", STR("{\"data\":7}")), 0);
    EQ_INT(faults_print_json(f, "f", STR("nonsense")), 0);
    fclose(f);
    EQ_Z(printed, "f:3: invalid_url: It \"is\"\nf: empty_file: none\n");
    free(printed);
}

static const char batch[] =
    "{\"id\":\"batch_1\",\"object\":\"batch\",\"endpoint\":\"/v1/chat/completions\","
    "\"errors\":null,\"input_file_id\":\"file-1\",\"status\":\"completed\","
    "\"output_file_id\":\"file-2\",\"error_file_id\":null,\"created_at\":100,"
    "\"completed_at\":160,\"failed_at\":null,\"request_counts\":{\"total\":10,"
    "\"completed\":9,\"failed\":1}}";

TEST(a_batch_object_is_read)
{
    struct remote_batch b;

    EQ_RC(remote_batch_read(str_of(batch), &b, NULL), RC_OK);
    EQ_Z(b.id.z, "batch_1");
    EQ_Z(b.endpoint, "/v1/chat/completions");
    EQ_INT(b.status, BATCH_COMPLETED);
    EQ_Z(b.output_file.z, "file-2");
    OK(id_none(&b.error_file));
    EQ_INT(b.counts.total, 10);
    EQ_INT(b.counts.completed, 9);
    EQ_INT(b.counts.failed, 1);
    EQ_INT(b.created_at, 100);
    EQ_INT(b.ended_at, 160);
    EQ_INT(b.errors.n, 0);
}

TEST(what_is_no_batch_object_is_said_to_be_none)
{
    static const char *const bad[] = {
        "",
        "[]",
        "{}",
        "{\"id\":\"batch_1\"}",
        "{\"id\":7,\"status\":\"completed\"}",
        "{\"id\":\"../x\",\"status\":\"completed\",\"endpoint\":\"/v1/e\"}",
        "{\"id\":\"b1\",\"status\":\"dancing\",\"endpoint\":\"/v1/e\"}",
        ("{\"id\":\"b1\",\"status\":\"completed\",\"endpoint\":\"/v1/e\","
         "\"output_file_id\":\"a/b\"}"),
    };
    struct remote_batch b;
    struct err e;

    for (size_t i = 0; i < COUNTOF(bad); i++) {
        t_row(bad[i]);
        EQ_RC(remote_batch_read(str_of(bad[i]), &b, &e), RC_UPSTREAM);
        EQ_Z(e.text, "the server's answer is not a batch object; is it a batch server?");
    }
}

TEST(a_run_state_reads_back_as_it_was_written)
{
    static const struct runstate states[] = {
        {0, 0, 0, ENDPOINT_CHAT, {"batch_a"}, {"file-a"}},
        {1ull << 40,
         1700000000123456789,
         0xfedcba9876543210u,
         ENDPOINT_EMBEDDINGS,
         {"batch_b"},
         {"file-b"}},
        {1, -1, 0xau, ENDPOINT_RESPONSES, {"batch_c"}, {"file-c"}},
    };

    for (size_t i = 0; i < COUNTOF(states); i++) {
        struct runstate got;

        EQ_RC(runstate_save(".", &states[i], NULL), RC_OK);
        EQ_RC(runstate_load(".", &got, NULL), RC_OK);
        EQ_INT(got.bytes, states[i].bytes);
        EQ_INT(got.mtime_ns, states[i].mtime_ns);
        OK(got.hash == states[i].hash);
        EQ_INT(got.endpoint, states[i].endpoint);
        EQ_Z(got.batch.z, states[i].batch.z);
        EQ_Z(got.file.z, states[i].file.z);
    }
}

TEST(a_run_state_that_is_none_is_refused)
{
    static const char good[] =
        "{\"version\":1,\"bytes\":5,\"mtime_ns\":6,\"xxh3\":\"0123456789abcdef\","
        "\"endpoint\":\"/v1/embeddings\",\"batch\":\"batch_1\",\"file\":\"file-1\"}";
    static const struct {
        const char *from, *to;
    } changes[] = {
        {"\"version\":1", "\"version\":2"},
        {"\"bytes\":5", "\"bytes\":-5"},
        {"\"bytes\":5", "\"bytes\":null"},
        {"\"mtime_ns\":6", "\"mtime_ns\":\"6\""},
        {"0123456789abcdef", "0123456789abcdeg"},
        {"0123456789abcdef", "0123456789abcde"},
        {"/v1/embeddings", "/v1/other"},
        {"batch_1", "batch/1"},
        {"file-1", ""},
        {"\"file\"", "\"fail\""},
        {"}", ""},
    };
    struct runstate s;

    EQ_RC(runstate_read(str_of(good), &s), RC_OK);
    EQ_INT(s.hash, 0x0123456789abcdef);
    for (size_t i = 0; i < COUNTOF(changes); i++) {
        const char *at = strstr(good, changes[i].from);
        struct buf b;

        t_row(changes[i].to);
        buf_init(&b, 1024);
        buf_fmt(&b, "%.*s%s%s", (int)(at - good), good, changes[i].to,
                at + strlen(changes[i].from));
        EQ_RC(runstate_read(buf_peek(&b), &s), RC_CORRUPT);
        buf_done(&b);
    }
    EQ_RC(runstate_load("nowhere", &s, NULL), RC_NOTFOUND);
}
