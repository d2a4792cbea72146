/* SPDX-License-Identifier: Apache-2.0 */
#include "api/auth.h"
#include "api/call.h"

/* The key in "Bearer KEY"; .n == 0: there is none, or another scheme. */
static struct str bearer(struct call *c)
{
    struct str rest = str_trim(http_header(c->rq, "Authorization"));
    struct str scheme = str_cut(&rest, ' ');

    if (!str_ieq(scheme, STR("Bearer")))
        return (struct str){"", 0};
    return str_trim(rest);
}

/* The end of what was shown, as the real API does: enough to tell which of one's keys it
 * was, and never more than a part of a long one. */
static enum rc wrong_key(struct str shown, struct apierr *e)
{
    char last[5] = "";

    for (size_t i = 0; shown.n >= 20 && i < 4; i++) {
        char ch = shown.p[shown.n - 4 + i];

        last[i] = (char)(ch > ' ' && ch < 0x7f ? ch : '?');
    }
    return apierr_set(e, APIERR_WRONG_KEY, NULL,
                      "Incorrect API key provided: %s...%s. Keys of this server are made "
                      "with 'batchd key add'; ask whoever runs it for one.",
                      str_starts(shown, STR("sk-")) ? "sk-" : "", last);
}

static enum rc no_key(struct apierr *e)
{
    return apierr_set(
        e, APIERR_NO_KEY, NULL,
        "You didn't provide an API key. You need to provide your API key in an "
        "Authorization header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY). "
        "Keys of this server are made with 'batchd key add'.");
}

/* --- Without keys --------------------------------------------------------------------
 */

/* http://HOST[:PORT] against a Host header; "null" and what is no origin are others. */
static bool same_place(struct str origin, struct str host)
{
    static const struct str schemes[] = {{"http://", 7}, {"https://", 8}};

    for (size_t i = 0; i < COUNTOF(schemes); i++) {
        size_t n = schemes[i].n;

        if (str_starts(origin, schemes[i]))
            return str_ieq((struct str){origin.p + n, origin.n - n}, host);
    }
    return false;
}

static enum rc judge_open(struct call *c, struct apierr *e)
{
    struct str origin = http_header(c->rq, "Origin"),
               site = http_header(c->rq, "Sec-Fetch-Site"),
               host = http_header(c->rq, "Host");
    bool reads = str_is(http_method(c->rq), "GET") || str_is(http_method(c->rq), "HEAD");

    if (!reads && ((origin.p && !same_place(str_trim(origin), str_trim(host))) ||
                   str_is(str_trim(site), "cross-site")))
        return apierr_set(e, APIERR_CROSS_SITE, NULL,
                          "This server asks for no key and so takes no browser's call "
                          "that another site caused. Make a key with 'batchd key add' "
                          "and send it, or serve the page from this address.");
    c->key = (struct id){""};
    CHECK(id_from(STR(PROJECT_DEFAULT), &c->project) == RC_OK);
    return RC_OK;
}

/* --- With keys ------------------------------------------------------------------------
 */

enum rc auth_judge(struct call *c, struct apierr *e)
{
    struct keyring *keys = c->api->opts.keys;
    struct str shown = bearer(c);
    struct err why = {""};
    enum rc rc =
        keys ? keyring_check(keys, shown, &c->project, &c->key, &why) : RC_NOTFOUND;

    if (rc == RC_OK)
        return RC_OK;
    if (rc == RC_NOTFOUND)
        return judge_open(c, e);
    if (rc == RC_DENIED)
        return shown.n ? wrong_key(shown, e) : no_key(e);
    /* Nothing of the inside: who asks may be anybody.  The log and /readyz tell. */
    return apierr_set(
        e, APIERR_UNAVAILABLE, NULL,
        "The server cannot read its API keys at present and takes no calls. "
        "Its operator finds the reason in its log and in /readyz.");
}

bool auth_stands(const struct api *a, const struct id *key)
{
    return !a->opts.keys || keyring_stands(a->opts.keys, key, NULL) == RC_OK;
}
