/* SPDX-License-Identifier: Apache-2.0 */
#include "core/webhook.h"
#include "base/mem.h"
#include "json/json.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>

#define FIRST_PAUSE   5
#define LONGEST_PAUSE (4 * 3600)

/* --- secrets --- */

static bool base64_char(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
           c == '+' || c == '/';
}

/* Strict, which OpenSSL's decoder is not: it passes over white space and counts the
 * padding as zeros. */
static bool decode(struct str text, uint8_t *dst, size_t cap, size_t *ret_n)
{
    uint8_t all[(WEBHOOK_KEY_MAX + 2) / 3 * 3 + 3];
    size_t pad = 0;
    int got;
    bool good = false;

    while (pad < 2 && pad < text.n && text.p[text.n - 1 - pad] == '=')
        pad++;
    for (size_t i = 0; i < text.n - pad; i++)
        if (!base64_char(text.p[i]))
            return false;
    if (text.n == 0 || text.n % 4 || text.n / 4 * 3 > sizeof all)
        return false;
    got = EVP_DecodeBlock(all, (const uint8_t *)text.p, (int)text.n);
    if (got > 0 && (size_t)got - pad <= cap) {
        *ret_n = (size_t)got - pad;
        memcpy(dst, all, *ret_n);
        good = true;
    }
    mem_wipe(all, sizeof all);
    return good;
}

static enum rc read_line(struct str line, unsigned number, struct webhook_secrets *s,
                         struct err *e)
{
    static const char prefix[] = "whsec_";
    struct str text;

    if (s->n == WEBHOOK_SECRETS)
        return err_set(e, RC_INVALID, "line %u is one secret too many: at most %u count",
                       number, WEBHOOK_SECRETS);
    if (!str_starts(line, STR("whsec_")))
        return err_set(e, RC_INVALID, "line %u does not begin with whsec_", number);
    text = (struct str){line.p + sizeof prefix - 1, line.n - (sizeof prefix - 1)};
    if (!decode(text, s->key[s->n].bytes, WEBHOOK_KEY_MAX, &s->key[s->n].n) ||
        s->key[s->n].n < WEBHOOK_KEY_MIN)
        return err_set(e, RC_INVALID,
                       "line %u: behind whsec_ there must be %u to %u random bytes in "
                       "base64, such as `openssl rand -base64 32` prints",
                       number, WEBHOOK_KEY_MIN, WEBHOOK_KEY_MAX);
    s->n++;
    return RC_OK;
}

enum rc webhook_secrets_read(struct str text, struct webhook_secrets *ret, struct err *e)
{
    struct webhook_secrets s = {0};
    unsigned number = 0;
    enum rc rc = RC_OK;

    while (rc == RC_OK && text.n) {
        struct str line = str_trim(str_cut(&text, '\n'));

        number++;
        if (line.n)
            rc = read_line(line, number, &s, e);
    }
    if (rc == RC_OK && s.n == 0)
        rc = err_set(e, RC_INVALID, "there is no secret in it");
    if (rc == RC_OK)
        *ret = s;
    mem_wipe(&s, sizeof s);
    return rc;
}

/* --- what is sent --- */

void webhook_sign(const struct webhook_secrets *s, const struct id *event, int64_t now,
                  struct str body, char ret[WEBHOOK_SIGNATURE_CAP])
{
    char *to = ret;
    struct buf signed_text;

    CHECK(s->n > 0 && s->n <= WEBHOOK_SECRETS);
    buf_init(&signed_text, body.n + 128);
    (void)buf_fmt(&signed_text, "%s.%lld.", event->z, (long long)now);
    (void)buf_str(&signed_text, body);
    MEM_CHECK(buf_failed(&signed_text) == RC_OK);
    for (unsigned i = 0; i < s->n; i++) {
        uint8_t mac[EVP_MAX_MD_SIZE];
        unsigned n = 0;

        CHECK(HMAC(EVP_sha256(), s->key[i].bytes, (int)s->key[i].n,
                   (const uint8_t *)signed_text.p, signed_text.n, mac, &n));
        if (i)
            *to++ = ' ';
        memcpy(to, "v1,", 3);
        to += 3 + EVP_EncodeBlock((uint8_t *)to + 3, mac, (int)n);
    }
    CHECK(to < ret + WEBHOOK_SIGNATURE_CAP);
    *to = '\0';
    buf_done(&signed_text);
}

void webhook_put_body(struct buf *out, const struct id *event, const char *type,
                      int64_t created_at, const struct id *batch)
{
    struct json_writer w;

    jw_init(&w, out);
    jw_open(&w, NULL, '{');
    jw_z(&w, "object", "event");
    jw_str(&w, "id", id_str(event));
    jw_z(&w, "type", type);
    jw_i64(&w, "created_at", created_at);
    jw_open(&w, "data", '{');
    jw_str(&w, "id", id_str(batch));
    jw_close(&w, '}');
    jw_close(&w, '}');
}

/* --- who is told --- */

#define BIT(status) ((webhook_events)1 << (status))

static const webhook_events every_event =
    BIT(BATCH_FAILED) | BIT(BATCH_COMPLETED) | BIT(BATCH_EXPIRED) | BIT(BATCH_CANCELLED);

enum rc webhook_events_read(struct str list, webhook_events *ret, struct err *e)
{
    webhook_events events = 0;

    while (list.n) {
        struct str name = str_trim(str_cut(&list, ','));
        enum batch_status status;

        if (name.n == 0)
            continue;
        if (batch_status_from(name, &status) != RC_OK || !batch_terminal(status))
            return err_set(e, RC_INVALID,
                           "there is no event '%.*s'; there are completed, failed, "
                           "expired and cancelled",
                           (int)(name.n < 64 ? name.n : 64), name.p);
        events |= BIT(status);
    }
    *ret = events ? events : every_event;
    return RC_OK;
}

bool webhook_concerns(webhook_events events, const char *project, const struct id *of,
                      enum batch_status status)
{
    return batch_terminal(status) && (events & BIT(status)) &&
           (!project || !*project || str_is(id_str(of), project));
}

/* --- when it is sent again --- */

bool webhook_try_again(const struct webhook_try *t, int64_t *ret_at)
{
    int64_t end = t->created_at + t->give_up, most = FIRST_PAUSE, at;

    CHECK(t->tries > 0);
    if (t->now >= end)
        return false;
    for (uint32_t i = 1; i < t->tries && most < LONGEST_PAUSE; i++)
        most *= 2;
    if (most > LONGEST_PAUSE)
        most = LONGEST_PAUSE;
    at = t->now + 1 + (int64_t)(t->random % (uint64_t)most);
    if (t->retry_after > at - t->now)
        at = t->retry_after < end - t->now ? t->now + t->retry_after : end;
    *ret_at = at < end ? at : end;
    return true;
}
