/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_webhook: what strangers and secret files say about callbacks.  The input: a URL up
 * to the first LF, a list of hosts up to the next, and a secret file; its bytes also make
 * the numbers of a try.
 *
 * A URL that is taken means to libcurl, which will connect, what it means to us, and only
 * a host that a slow reading of the list finds is let through.  Secrets come back in
 * base64 as they stood, and a signature is what OpenSSL says of the same text.
 */
/* reaches: src/core/callback.c 72 */
/* reaches: src/core/webhook.c 50 */
#include "fuzz/lib/quiet.h"

#include "core/callback.h"
#include "core/webhook.h"
#include "json/json.h"

#include <curl/curl.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <strings.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* --- URLs ---------------------------------------------------------------------------- */

static bool is_of(struct str s, const char *chars)
{
    size_t i = 0;

    while (i < s.n && strchr(chars, s.p[i]))
        i++;
    return i == s.n;
}

static void check_part(CURLU *u, CURLUPart part, unsigned flags, struct str want)
{
    char *got = NULL;

    CHECK(curl_url_get(u, part, &got, flags) == CURLUE_OK);
    /* Numbers are written anew: 0x7f.1 is 127.0.0.1.  What that leads to is judged when it
     * is connected to (http/address.h). */
    if (!str_ieq(str_of(got), want) &&
        !(part == CURLUPART_HOST && is_of(str_of(got), "0123456789abcdef.:[]") &&
          is_of(want, "0123456789abcdefxABCDEFX.:[]")))
        t_fail(__FILE__, __LINE__, "we read '%.*s', libcurl '%s'", STR_ARG(want), got);
    curl_free(got);
}

static void check_absent(CURLU *u, CURLUPart part)
{
    char *got = NULL;

    CHECK(curl_url_get(u, part, &got, 0) != CURLUE_OK);
}

/* Some texts libcurl will not connect to at all, such as a host of digits too large:
 * nothing is sent there then. */
static void check_like_curl(struct str url, const struct callback_url *ours)
{
    char *z = mem_dup(url.p, url.n), port[8];
    CURLU *u = curl_url();

    CHECK(u);
    if (curl_url_set(u, CURLUPART_URL, z, 0) == CURLUE_OK) {
        check_part(u, CURLUPART_SCHEME, 0, ours->tls ? STR("https") : STR("http"));
        check_part(u, CURLUPART_HOST, 0, ours->host);
        snprintf(port, sizeof port, "%u", ours->port);
        check_part(u, CURLUPART_PORT, CURLU_DEFAULT_PORT, str_of(port));
        check_absent(u, CURLUPART_USER);
        check_absent(u, CURLUPART_PASSWORD);
        check_absent(u, CURLUPART_FRAGMENT);
    }
    curl_url_cleanup(u);
    mem_free(z);
}

/* The list read once more, entry by entry, on copies. */
static bool slow_allowed(const struct callback_url *url, const char *hosts)
{
    char *list = mem_dup(hosts, strlen(hosts)), *rest = list, *one;
    char *host = mem_dup(url->host.p, url->host.n);
    bool yes = false;

    while ((one = strsep(&rest, ",")) && !yes) {
        struct str s = str_trim(str_of(one));
        char *entry = mem_dup(s.p, s.n), *colon = strrchr(entry, ':'), *end;
        unsigned long port = url->tls ? 443 : 80;
        size_t n, digits = colon ? strspn(colon + 1, "0123456789") : 0;

        if (colon && colon[1 + digits] == '\0') {
            port = digits ? strtoul(colon + 1, &end, 10) : 0;
            *colon = '\0';
        }
        n = strlen(entry);
        if (port == url->port && port > 0 && n > 0) {
            if (strncmp(entry, "*.", 2) == 0)
                yes = strlen(host) >= n &&
                      strcasecmp(host + strlen(host) - n + 1, entry + 1) == 0;
            else
                yes = strcasecmp(host, entry) == 0;
        }
        mem_free(entry);
    }
    mem_free(list);
    mem_free(host);
    return yes;
}

static void check_url(struct str url, struct str hosts)
{
    struct callback_url u;
    const char *why = NULL;
    char *list;

    if (callback_url_read(url, &u, &why) != RC_OK) {
        CHECK(why && *why);
        return;
    }
    CHECK(u.host.n > 0 && u.host.p > url.p && u.port > 0);
    CHECK(u.host.p + u.host.n <= url.p + url.n);
    check_like_curl(url, &u);
    list = mem_dup(hosts.p, hosts.n);
    CHECK(callback_allowed(&u, list) == slow_allowed(&u, list));
    CHECK(!callback_allowed(&u, "") && !callback_allowed(&u, NULL));
    mem_free(list);
}

/* --- Secrets ------------------------------------------------------------------------- */

/* All of them written again: the file without its blanks. */
static void check_secrets(struct str text, const struct webhook_secrets *s)
{
    char again[128];
    unsigned i = 0;

    CHECK(s->n >= 1 && s->n <= WEBHOOK_SECRETS);
    while (text.n) {
        struct str line = str_trim(str_cut(&text, '\n'));

        if (line.n == 0)
            continue;
        CHECK(i < s->n);
        CHECK(s->key[i].n >= WEBHOOK_KEY_MIN && s->key[i].n <= WEBHOOK_KEY_MAX);
        memcpy(again, "whsec_", 6);
        CHECK(EVP_EncodeBlock((uint8_t *)again + 6, s->key[i].bytes, (int)s->key[i].n) >
              0);
        /* What is left over in the last digit of base64 may be anything. */
        CHECK(line.n == strlen(again) && memcmp(line.p, again, line.n - 3) == 0);
        i++;
    }
    CHECK(i == s->n);
}

static void check_signature(const struct webhook_secrets *s, struct str body)
{
    static const struct id event = {"evt_0123456789abcdef0123456789abcdef"};
    char sig[WEBHOOK_SIGNATURE_CAP];
    struct str rest;
    struct buf text;

    webhook_sign(s, &event, QUIET_START, body, sig);
    buf_init(&text, body.n + 128);
    (void)buf_fmt(&text, "%s.%lld.", event.z, (long long)QUIET_START);
    (void)buf_str(&text, body);
    rest = str_of(sig);
    for (unsigned i = 0; i < s->n; i++) {
        struct str one = str_cut(&rest, ' ');
        uint8_t mac[64], b64[96];
        unsigned n = 0;

        CHECK(HMAC(EVP_sha256(), s->key[i].bytes, (int)s->key[i].n,
                   (const uint8_t *)text.p, text.n, mac, &n));
        EVP_EncodeBlock(b64, mac, (int)n);
        CHECK(str_starts(one, STR("v1,")) &&
              str_is((struct str){one.p + 3, one.n - 3}, (const char *)b64));
    }
    CHECK(rest.n == 0);
    buf_done(&text);
}

static void check_file(struct str text)
{
    struct webhook_secrets s = {0};
    struct err e = {""};

    if (webhook_secrets_read(text, &s, &e) != RC_OK) {
        CHECK(e.text[0] && !strchr(e.text, '\n') && s.n == 0);
        return;
    }
    check_secrets(text, &s);
    check_signature(&s, text);
}

/* --- Tries and events ---------------------------------------------------------------- */

static void check_try(struct str bytes)
{
    struct {
        int64_t wait;
        uint32_t tries, age, give_up;
        uint64_t random;
    } in = {0};
    struct webhook_try t;
    int64_t at = -1;

    memcpy(&in, bytes.p, bytes.n < sizeof in ? bytes.n : sizeof in);
    t = (struct webhook_try){.created_at = QUIET_START - in.age,
                             .now = QUIET_START,
                             .tries = in.tries ? in.tries : 1,
                             .give_up = in.give_up,
                             .retry_after = in.wait,
                             .random = in.random};
    if (!webhook_try_again(&t, &at))
        CHECK(t.now >= t.created_at + t.give_up);
    else
        CHECK(at > t.now && at <= t.created_at + t.give_up);
}

static void check_events(struct str list)
{
    webhook_events events = 0;
    struct err e = {""};

    if (webhook_events_read(list, &events, &e) != RC_OK)
        CHECK(e.text[0]);
    else
        for (int s = 0; s < BATCH_STATUS_COUNT; s++)
            CHECK(!(events >> s & 1) || batch_terminal((enum batch_status)s));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct str rest = {(const char *)data, n}, url = str_cut(&rest, '\n'), hosts;

    check_events(url);
    if (n)
        check_try(rest.p ? rest : STR(""));
    hosts = str_cut(&rest, '\n');
    if (!hosts.p || !memchr(hosts.p, '\0', hosts.n))
        check_url(url, hosts);
    check_file(rest);
    return 0;
}
