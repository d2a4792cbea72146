/* SPDX-License-Identifier: Apache-2.0 */
#include "api/upload_body.h"
#include "base/limits.h"
#include "base/mem.h"
#include "tests/lib/t.h"

#include <stdio.h>

static const struct upload_rules rules = {.max_bytes = 5000, .max_batch_bytes = 300};

#define GOOD                                                                             \
    "\"filename\":\"a.jsonl\",\"purpose\":\"batch\",\"bytes\":300,"                      \
    "\"mime_type\":\"application/jsonl\""

TEST(a_plain_body_is_read)
{
    struct upload_body b;
    struct apierr e;

    EQ_RC(upload_body_read(STR("{" GOOD "}"), &rules, &b, &e), RC_OK);
    EQ_Z(b.filename, "a.jsonl");
    EQ_Z(b.purpose, "batch");
    EQ_INT(b.bytes, 300);
    EQ_INT(b.file_expires_after, 0);
    upload_body_done(&b);
    upload_body_done(&b); /* may run twice */
}

TEST(what_sdks_send_besides_is_passed_over)
{
    static const char *const rows[] = {
        "{" GOOD ",\"extra\":{\"bytes\":\"x\"},\"expires_after\":null}",
        "{\"x\":[1],\"mime_type\":\"\",\"mime_type2\":1}",
        "{\"bytes\":5000,\"mime_type\":\"p\",\"purpose\":\"user_\\u0064ata\","
        "\"filename\":\"..\\/\\u00e9.pdf\",\"expires_after\":{\"seconds\":2592000,"
        "\"anchor\":\"created_at\"}}",
    };
    struct upload_body b;
    struct apierr e;

    EQ_RC(upload_body_read(str_of(rows[0]), &rules, &b, &e), RC_OK);
    upload_body_done(&b);
    EQ_RC(upload_body_read(str_of(rows[1]), &rules, &b, &e), RC_INVALID);
    EQ_RC(upload_body_read(str_of(rows[2]), &rules, &b, &e), RC_OK);
    EQ_Z(b.filename, "../\xc3\xa9.pdf");
    EQ_Z(b.purpose, "user_data");
    EQ_INT(b.bytes, 5000);
    EQ_INT(b.file_expires_after, 2592000);
    upload_body_done(&b);
}

#define NAME    "\"filename\":\"a.jsonl\","
#define PURPOSE "\"purpose\":\"batch\","
#define BYTES   "\"bytes\":30,"
#define MIME    "\"mime_type\":\"text/plain\""

static const struct {
    const char *body;
    enum apierr_kind kind;
    const char *param;
    const char *says; /* a part of the message */
} refusals[] = {
    {"", APIERR_BAD_REQUEST, "", "could not parse the JSON body"},
    {"[]", APIERR_TYPE, "", "got an array"},
    {"{" GOOD ",\"bytes\":1}", APIERR_BAD_REQUEST, "", "could not parse"},
    {"{}", APIERR_MISSING, "filename", "Missing required parameter: 'filename'."},
    {"{" NAME BYTES MIME "}", APIERR_MISSING, "purpose", "'purpose'"},
    {"{" NAME PURPOSE MIME "}", APIERR_MISSING, "bytes", "'bytes'"},
    {"{" NAME PURPOSE "\"bytes\":3}", APIERR_MISSING, "mime_type", "'mime_type'"},
    {"{\"filename\":7," PURPOSE BYTES MIME "}", APIERR_TYPE, "filename",
     "expected a string, but got an integer"},
    {"{\"filename\":null," PURPOSE BYTES MIME "}", APIERR_TYPE, "filename", "got null"},
    {"{\"filename\":\"\"," PURPOSE BYTES MIME "}", APIERR_VALUE, "filename", "empty"},
    {"{\"filename\":\"a\\nb.jsonl\"," PURPOSE BYTES MIME "}", APIERR_VALUE, "filename",
     "control character"},
    {"{\"filename\":\"a\\u0000.jsonl\"," PURPOSE BYTES MIME "}", APIERR_VALUE, "filename",
     "control character"},
    {"{\"filename\":\"\\ud800.jsonl\"," PURPOSE BYTES MIME "}", APIERR_VALUE, "filename",
     "Unicode"},
    {"{\"filename\":\"a.json\"," PURPOSE BYTES MIME "}", APIERR_BAD_REQUEST, "filename",
     "Must be .jsonl"},
    {"{" NAME "\"purpose\":[\"batch\"]," BYTES MIME "}", APIERR_TYPE, "purpose",
     "got an array"},
    {"{" NAME "\"purpose\":\"fun\"," BYTES MIME "}", APIERR_BAD_REQUEST, "purpose",
     "'fun' is not one of ['fine-tune', 'assistants', 'batch'"},
    {"{" NAME "\"purpose\":\"batch_output\"," BYTES MIME "}", APIERR_BAD_REQUEST,
     "purpose", "'batch_output' is not one of"},
    {"{" NAME PURPOSE "\"bytes\":\"3\"," MIME "}", APIERR_TYPE, "bytes",
     "expected an integer, but got a string"},
    {"{" NAME PURPOSE "\"bytes\":3.0," MIME "}", APIERR_TYPE, "bytes", "got a decimal"},
    {"{" NAME PURPOSE "\"bytes\":true," MIME "}", APIERR_TYPE, "bytes", "got a boolean"},
    {"{" NAME PURPOSE "\"bytes\":0," MIME "}", APIERR_TOO_SMALL, "bytes", ">= 1"},
    {"{" NAME PURPOSE "\"bytes\":-5," MIME "}", APIERR_TOO_SMALL, "bytes", "got -5"},
    {"{" NAME PURPOSE "\"bytes\":5001," MIME "}", APIERR_TOO_GREAT, "bytes", "<= 5000"},
    {"{" NAME PURPOSE "\"bytes\":99999999999999999999999," MIME "}", APIERR_TOO_GREAT,
     "bytes", "<= 5000"},
    {"{" NAME PURPOSE "\"bytes\":301," MIME "}", APIERR_TOO_GREAT, "bytes",
     "a file with purpose 'batch' may have 300 bytes, but got 301"},
    {"{" NAME PURPOSE BYTES "\"mime_type\":5}", APIERR_TYPE, "mime_type", "a string"},
    {"{" NAME PURPOSE BYTES "\"mime_type\":\"\"}", APIERR_VALUE, "mime_type", "empty"},
    {"{" GOOD ",\"expires_after\":3600}", APIERR_TYPE, "expires_after", "an object"},
    {"{" GOOD ",\"expires_after\":{\"seconds\":3600}}", APIERR_MISSING,
     "expires_after.anchor", "anchor"},
    {"{" GOOD ",\"expires_after\":{\"anchor\":\"created_at\"}}", APIERR_MISSING,
     "expires_after.seconds", "seconds"},
    {"{" GOOD ",\"expires_after\":{\"anchor\":\"now\",\"seconds\":3600}}", APIERR_VALUE,
     "expires_after.anchor", "'created_at'"},
    {"{" GOOD ",\"expires_after\":{\"anchor\":\"created_at\",\"seconds\":3599}}",
     APIERR_TOO_SMALL, "expires_after.seconds", ">= 3600"},
    {"{" GOOD ",\"expires_after\":{\"anchor\":\"created_at\",\"seconds\":2592001}}",
     APIERR_TOO_GREAT, "expires_after.seconds", "<= 2592000"},
    {"{" GOOD ",\"expires_after\":{\"anchor\":\"created_at\",\"seconds\":\"3600\"}}",
     APIERR_TYPE, "expires_after.seconds", "an integer"},
};

TEST(missing_and_bad_members_are_refused_by_name)
{
    for (size_t i = 0; i < COUNTOF(refusals); i++) {
        struct upload_body b = {.bytes = 77};
        struct apierr e;

        t_row(refusals[i].body);
        EQ_RC(upload_body_read(str_of(refusals[i].body), &rules, &b, &e), RC_INVALID);
        EQ_INT(e.kind, refusals[i].kind);
        EQ_Z(e.param, refusals[i].param);
        if (!strstr(e.message, refusals[i].says))
            FAIL("\"%s\" does not say \"%s\"", e.message, refusals[i].says);
        EQ_INT(b.bytes, 77); /* untouched */
    }
}

TEST(a_name_over_the_limit_is_refused_not_cut)
{
    char body[LIMIT_FILENAME + 200], name[LIMIT_FILENAME + 2];

    for (int over = 0; over < 2; over++) {
        struct upload_body b;
        struct apierr e;

        memset(name, 'a', sizeof name);
        name[LIMIT_FILENAME + over] = '\0';
        snprintf(
            body, sizeof body,
            "{\"filename\":\"%s\",\"purpose\":\"evals\",\"bytes\":1,\"mime_type\":\"x\"}",
            name);
        EQ_RC(upload_body_read(str_of(body), &rules, &b, &e), over ? RC_INVALID : RC_OK);
        if (over)
            EQ_INT(e.kind, APIERR_TOO_LONG);
        else
            upload_body_done(&b);
    }
}

/* --- Complete ------------------------------------------------------------------------
 */

#define MD5 "0123456789abcdefABCDEF9876543210"

TEST(the_parts_keep_their_order)
{
    struct complete_body b;
    struct apierr e;

    EQ_RC(complete_body_read(
              STR("{\"md5\":\"" MD5
                  "\",\"x\":1,\"part_ids\":[\"part_b\",\"part_\\u0061\",\"part_c\"]}"),
              3, &b, &e),
          RC_OK);
    EQ_INT(b.n_parts, 3);
    EQ_Z(b.parts[0].z, "part_b");
    EQ_Z(b.parts[1].z, "part_a");
    EQ_Z(b.parts[2].z, "part_c");
    OK(b.has_md5);
    EQ_INT(b.md5[0], 0x01);
    EQ_INT(b.md5[8], 0xab);
    EQ_INT(b.md5[15], 0x10);
    complete_body_done(&b);
    EQ_RC(complete_body_read(STR("{\"part_ids\":[\"p\"],\"md5\":null}"), 3, &b, &e),
          RC_OK);
    OK(!b.has_md5);
    complete_body_done(&b);
}

static const struct {
    const char *body;
    enum apierr_kind kind;
    const char *param, *says;
} bad_completes[] = {
    {"", APIERR_BAD_REQUEST, "", "could not parse"},
    {"{}", APIERR_MISSING, "part_ids", "'part_ids'"},
    {"{\"part_ids\":null}", APIERR_TYPE, "part_ids", "an array of strings, but got null"},
    {"{\"part_ids\":\"part_1\"}", APIERR_TYPE, "part_ids", "got a string"},
    {"{\"part_ids\":{}}", APIERR_TYPE, "part_ids", "got an object"},
    {"{\"part_ids\":[]}", APIERR_VALUE, "part_ids", "empty array"},
    {"{\"part_ids\":[\"1\",\"2\",\"3\",\"4\"]}", APIERR_VALUE, "part_ids",
     "maximum length 3, but got an array with length 4"},
    {"{\"part_ids\":[\"part_1\",2]}", APIERR_TYPE, "part_ids[1]",
     "expected a string, but got an integer"},
    {"{\"part_ids\":[[\"part_1\"]]}", APIERR_TYPE, "part_ids[0]", "got an array"},
    {"{\"part_ids\":[\"../x\"]}", APIERR_VALUE, "part_ids[0]",
     "'../x' is not the id of a part"},
    {"{\"part_ids\":[\"\"]}", APIERR_VALUE, "part_ids[0]", "''"},
    {"{\"part_ids\":[\"p\"],\"md5\":5}", APIERR_TYPE, "md5", "a string"},
    {"{\"part_ids\":[\"p\"],\"md5\":\"\"}", APIERR_VALUE, "md5", "32 hex digits"},
    {"{\"part_ids\":[\"p\"],\"md5\":\"" MD5 "0\"}", APIERR_VALUE, "md5", "32 hex digits"},
    {"{\"part_ids\":[\"p\"],\"md5\":\"0123456789abcdefABCDEF987654321g\"}", APIERR_VALUE,
     "md5", "32 hex digits"},
};

TEST(bad_completes_are_refused_by_name)
{
    for (size_t i = 0; i < COUNTOF(bad_completes); i++) {
        struct complete_body b = {.n_parts = 77};
        struct apierr e;

        t_row(bad_completes[i].body);
        EQ_RC(complete_body_read(str_of(bad_completes[i].body), 3, &b, &e), RC_INVALID);
        EQ_INT(e.kind, bad_completes[i].kind);
        EQ_Z(e.param, bad_completes[i].param);
        if (!strstr(e.message, bad_completes[i].says))
            FAIL("\"%s\" does not say \"%s\"", e.message, bad_completes[i].says);
        EQ_INT(b.n_parts, 77); /* untouched */
    }
}

TEST(changed_bytes_never_break_the_readers)
{
    static const char text[] =
        "{" GOOD ",\"expires_after\":{\"anchor\":\"created_at\",\"seconds\":3600},"
        "\"part_ids\":[\"part_1\",\"part_2\"],\"md5\":\"" MD5 "\"}";
    char copy[sizeof text];

    for (size_t at = 0; at < sizeof text - 1; at++) {
        for (unsigned to = 0; to < 256; to += 3) {
            struct upload_body b;
            struct complete_body done;
            struct apierr e;

            memcpy(copy, text, sizeof text);
            copy[at] = (char)to;
            if (upload_body_read((struct str){copy, sizeof text - 1}, &rules, &b, &e) ==
                RC_OK)
                upload_body_done(&b);
            if (complete_body_read((struct str){copy, sizeof text - 1}, 3, &done, &e) ==
                RC_OK)
                complete_body_done(&done);
        }
    }
}
