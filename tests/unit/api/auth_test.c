/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fsio.h"
#include "tests/unit/api/rig.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- A rig with keys -----------------------------------------------------------------
 */

struct keyed {
    struct keyring *keys;
    struct rig *rig;
    char alice[KEY_TEXT_CAP], bob[KEY_TEXT_CAP];
};

static void make_key(const char *name, const char *project, char text[KEY_TEXT_CAP])
{
    struct key key;
    struct err e;

    if (keyring_add(".", str_of(name), str_of(project), 1700000000, text, &key, &e) !=
        RC_OK)
        FAIL("%s", e.text);
}

static void revoke_key(const char *name)
{
    struct key key;
    struct err e;

    EQ_RC(keyring_revoke(".", str_of(name), 1700000001, &key, &e), RC_OK);
}

static struct keyed keyed_new(void)
{
    struct keyed k = {0};
    struct api_opts o = {.max_file_bytes = 8u << 20};

    log_level_set(LOG_LVL_ERROR);
    make_key("alice", "default", k.alice);
    make_key("bob", "team-b", k.bob);
    EQ_RC(keyring_open(".", &k.keys, NULL), RC_OK);
    o.keys = k.keys;
    k.rig = rig_new(&o);
    return k;
}

static void keyed_free(struct keyed *k)
{
    rig_free(k->rig);
    keyring_free(k->keys);
}

/* "Authorization: SCHEME KEY" + CRLF; valid until the next call. */
static const char *header(const char *scheme, const char *key)
{
    static char line[400];

    CHECK(str_fmt(line, sizeof line, "Authorization: %s%s\r\n", scheme, key) == RC_OK);
    return line;
}

static struct reply ask(struct keyed *k, const char *method, const char *target,
                        const char *headers)
{
    return rig_ask(k->rig, method, target, headers, (struct str){0});
}

/* --- With keys -----------------------------------------------------------------------
 */

TEST(every_route_but_the_operators_asks_for_a_key)
{
    struct keyed k = keyed_new();
    size_t asked = 0;

    for (size_t i = 0; i < api_route_count(); i++) {
        struct api_route route = api_route(i);
        struct reply re;

        t_row(route.pattern);
        re = ask(&k, route.method, route.pattern, "");
        if (strncmp(route.pattern, "/v1/", 4) != 0) {
            OK(re.status == 200);
            continue;
        }
        asked++;
        EQ_REFUSED(re, 401, "invalid_request_error", "null", "null");
        EQ_STR(rig_header(&re, "WWW-Authenticate"), STR("Bearer realm=\"batchd\""));
        OK(rig_header(&re, "x-request-id").n == 36);
        re = ask(&k, route.method, route.pattern,
                 header("Bearer ", "sk-not-this-one-abcd"));
        EQ_REFUSED(re, 401, "invalid_request_error", "\"invalid_api_key\"", "null");
    }
    OK(asked >= 11);
    keyed_free(&k);
}

TEST(a_key_is_taken_as_bearer_and_in_no_other_way)
{
    static const struct {
        const char *scheme;
        int status;
    } rows[] = {
        {"Bearer ", 200},  {"bearer ", 200},        {"BEARER ", 200},
        {"Bearer  ", 200}, {" Bearer ", 200},       {"Basic ", 401},
        {"", 401},         {"Bearer", 401},         {"Token ", 401},
        {"Bearer:", 401},  {"Bearer,Bearer ", 401},
    };
    struct keyed k = keyed_new();
    char line[300];

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        t_row(rows[i].scheme);
        EQ_INT(ask(&k, "GET", "/v1/files", header(rows[i].scheme, k.alice)).status,
               rows[i].status);
    }
    CHECK(str_fmt(line, sizeof line, "X-Api-Key: %s\r\nApi-Key: %s\r\n", k.alice,
                  k.alice) == RC_OK);
    EQ_INT(ask(&k, "GET", "/v1/files", line).status, 401);
    CHECK(str_fmt(line, sizeof line, "/v1/files?api_key=%s", k.alice) == RC_OK);
    EQ_INT(ask(&k, "GET", line, "").status, 401);
    keyed_free(&k);
}

TEST(a_wrong_key_is_told_by_its_end_and_no_more)
{
    static const struct {
        const char *shown, *says;
    } rows[] = {
        {"sk-proj-0123456789abcdefghij", "provided: sk-...ghij. "},
        {"0123456789abcdefghijABCD", "provided: ...ABCD. "},
        {"sk-short", "provided: sk-.... "},
        {"hunter2", "provided: .... "},
        {"sk-0123456789abcdefgh\xff\x80zz", "provided: sk-...??zz. "},
    };
    struct keyed k = keyed_new();

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct reply re = ask(&k, "GET", "/v1/files", header("Bearer ", rows[i].shown));

        t_row(rows[i].shown);
        EQ_REFUSED(re, 401, "invalid_request_error", "\"invalid_api_key\"", "null");
        if (!rig_has(re.body, "Incorrect API key ") || !rig_has(re.body, rows[i].says))
            FAIL("\"%.*s\" does not say '%s'", STR_ARG(re.body), rows[i].says);
        OK(!rig_has(re.body, rows[i].shown));
    }
    keyed_free(&k);
}

TEST(organisation_and_project_headers_change_nothing)
{
    struct keyed k = keyed_new();
    char line[400];

    CHECK(str_fmt(line, sizeof line,
                  "OpenAI-Organization: org-x\r\nOpenAI-Project: team-b\r\n%s",
                  header("Bearer ", k.alice)) == RC_OK);
    EQ_INT(ask(&k, "GET", "/v1/files", line).status, 200);
    keyed_free(&k);
}

TEST(a_revoked_key_is_refused_by_the_very_next_call)
{
    struct keyed k = keyed_new();
    struct reply re;

    EQ_INT(ask(&k, "GET", "/v1/batches", header("Bearer ", k.alice)).status, 200);
    revoke_key("alice");
    re = ask(&k, "GET", "/v1/batches", header("Bearer ", k.alice));
    EQ_REFUSED(re, 401, "invalid_request_error", "\"invalid_api_key\"", "null");
    EQ_INT(ask(&k, "GET", "/v1/batches", header("Bearer ", k.bob)).status, 200);
    revoke_key("bob"); /* no key is left: still nobody comes in without one */
    EQ_INT(ask(&k, "GET", "/v1/batches", "").status, 401);
    keyed_free(&k);
}

TEST(a_key_revoked_during_an_upload_keeps_the_file_out)
{
    struct keyed k = keyed_new();
    struct reply re;
    struct buf form, head;
    int fd;

    buf_init(&form, 4096);
    buf_init(&head, 4096);
    form_add(&form, "purpose", NULL, STR("batch"));
    form_add(&form, "file", "in.jsonl", STR("{}\n"));
    form_end(&form);
    buf_fmt(&head,
            "POST /v1/files HTTP/1.1\r\nHost: test\r\nConnection: close\r\n%s" FORM_TYPE
            "Content-Length: %zu\r\n\r\n",
            header("Bearer ", k.alice), form.n);
    fd = rig_connect(k.rig);
    rig_push(fd, buf_peek(&head));
    rig_push(fd, (struct str){form.p, form.n - 1});
    /* The head was judged once a later request on another connection is answered. */
    EQ_INT(ask(&k, "GET", "/v1/files", header("Bearer ", k.bob)).status, 200);
    revoke_key("alice");
    rig_push(fd, (struct str){form.p + form.n - 1, 1});
    re = rig_pull(k.rig, fd);
    EQ_REFUSED(re, 401, "invalid_request_error", "\"invalid_api_key\"", "null");
    rig_stop(k.rig);
    EQ_INT(k.rig->m->n_files, 0);
    buf_done(&form);
    buf_done(&head);
    keyed_free(&k);
}

TEST(a_body_without_a_key_is_refused_before_it_is_sent)
{
    struct keyed k = keyed_new();
    struct reply re;
    struct buf head;
    int fd = rig_connect(k.rig);

    buf_init(&head, 4096);
    buf_z(&head, "POST /v1/files HTTP/1.1\r\nHost: test\r\n" FORM_TYPE
                 "Expect: 100-continue\r\nContent-Length: 8000000\r\n\r\n");
    rig_push(fd, buf_peek(&head)); /* and not one byte of the body */
    re = rig_pull(k.rig, fd);
    EQ_REFUSED(re, 401, "invalid_request_error", "null", "null");
    OK(rig_has(re.body, "You didn't provide an API key."));
    buf_done(&head);
    keyed_free(&k);
}

TEST(a_keys_file_that_cannot_be_used_shuts_the_door_and_readyz_says_so)
{
    struct keyed k = keyed_new();
    struct reply re;

    EQ_INT(ask(&k, "GET", "/readyz", "").status, 200);
    EQ_INT(truncate("keys", 40), 0);
    re = ask(&k, "GET", "/v1/files", header("Bearer ", k.alice));
    EQ_REFUSED(re, 503, "server_error", "\"server_unavailable\"", "null");
    OK(rig_header(&re, "Retry-After").n > 0);
    EQ_INT(ask(&k, "POST", "/v1/batches", "").status, 503);
    re = ask(&k, "GET", "/readyz", "");
    EQ_INT(re.status, 503);
    EQ_JSON(re, "reason", "\"the keys file cannot be used; the log tells why\"");
    EQ_INT(ask(&k, "GET", "/healthz", "").status, 200);
    EQ_INT(unlink("keys"), 0); /* nor is a file that went away no file */
    EQ_INT(ask(&k, "GET", "/v1/files", "").status, 503);
    EQ_INT(ask(&k, "GET", "/readyz", "").status, 503);
    keyed_free(&k);
}

/* --- Without keys --------------------------------------------------------------------
 */

TEST(an_open_server_refuses_what_another_site_made_a_browser_send)
{
    static const struct {
        const char *method, *target, *headers;
        int status; /* 0: anything but 403 */
    } rows[] = {
        {"POST", "/v1/batches", "Origin: http://evil.example\r\n", 403},
        {"POST", "/v1/files", "Origin: http://evil.example\r\n", 403},
        {"DELETE", "/v1/files/file-1", "Origin: https://evil.example\r\n", 403},
        {"POST", "/v1/batches", "Origin: null\r\n", 403},
        {"POST", "/v1/batches", "Origin: \r\n", 403},
        {"POST", "/v1/batches", "Origin: http://test:81\r\n", 403},
        {"POST", "/v1/batches", "Origin: http://test.evil\r\n", 403},
        {"POST", "/v1/batches", "Origin: http://evil@test\r\n", 403},
        {"POST", "/v1/batches", "Origin: file://test\r\n", 403},
        {"POST", "/v1/batches", "Sec-Fetch-Site: cross-site\r\n", 403},
        {"POST", "/v1/batches", "Origin: http://test\r\nSec-Fetch-Site: cross-site\r\n",
         403},
        {"POST", "/v1/batches", "Origin: http://test\r\n", 0},
        {"POST", "/v1/batches", "Origin: https://TEST\r\n", 0},
        {"POST", "/v1/batches", "Sec-Fetch-Site: same-origin\r\n", 0},
        {"POST", "/v1/batches", "Sec-Fetch-Site: none\r\n", 0},
        {"POST", "/v1/batches", "", 0},
        {"GET", "/v1/files", "Origin: http://evil.example\r\n", 200},
        {"HEAD", "/v1/files", "Sec-Fetch-Site: cross-site\r\n", 200},
        {"GET", "/healthz", "Sec-Fetch-Site: cross-site\r\n", 200},
    };
    struct rig *r = rig_new(NULL);

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct reply re =
            rig_ask(r, rows[i].method, rows[i].target, rows[i].headers, (struct str){0});

        t_row(rows[i].headers);
        if (rows[i].status)
            EQ_INT(re.status, rows[i].status);
        else
            OK(re.status != 403);
        if (re.status == 403)
            EQ_REFUSED(re, 403, "invalid_request_error", "\"cross_site_request\"",
                       "null");
    }
    rig_free(r);
}

TEST(an_open_server_takes_any_key_that_clients_send_along)
{
    struct rig *r = rig_new(NULL);

    EQ_INT(
        rig_ask(r, "GET", "/v1/files", header("Bearer ", "sk-anything"), (struct str){0})
            .status,
        200);
    rig_free(r);
}

TEST(the_first_key_shuts_an_open_server_at_once)
{
    struct keyring *keys;
    struct api_opts o = {0};
    struct rig *r;
    char text[KEY_TEXT_CAP];

    EQ_RC(keyring_open(".", &keys, NULL), RC_OK);
    o.keys = keys;
    r = rig_new(&o);
    EQ_INT(rig_get(r, "/v1/files").status, 200);
    make_key("first", "default", text);
    EQ_INT(rig_get(r, "/v1/files").status, 401);
    EQ_INT(
        rig_ask(r, "GET", "/v1/files", header("Bearer ", text), (struct str){0}).status,
        200);
    /* With keys the question of other sites does not come up: they know none. */
    EQ_INT(rig_ask(r, "POST", "/v1/batches", "Origin: http://evil.example\r\n",
                   (struct str){0})
               .status,
           401);
    rig_free(r);
    keyring_free(keys);
}
