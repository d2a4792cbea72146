/* SPDX-License-Identifier: Apache-2.0 */
#include "api/coded.h"
#include "api/form.h"
#include "base/mem.h"
#include "http/server.h"

struct coded {
    struct coded_opts o;
    struct decode *decode;
    bool form_done; /* the form wants no more and will say why */
    bool too_large; /* to be kept in memory */
};

static enum rc take(void *ctx, struct str piece)
{
    struct coded *k = ctx;
    enum rc rc;

    if (k->o.form) {
        rc = form_feed(k->o.form, piece);
        k->form_done = rc != RC_OK;
        return rc;
    }
    rc = http_keep(k->o.rq, piece, k->o.max_bytes);
    k->too_large = rc == RC_LIMIT;
    return rc;
}

struct coded *coded_new(const struct coded_opts *o)
{
    struct coded *k = mem_new(struct coded);

    k->o = *o;
    k->decode = decode_new(o->coding, o->max_expansion, take, k);
    return k;
}

struct coded *coded_free(struct coded *k)
{
    if (!k)
        return NULL;
    IGNORE(decode_free(k->decode)); /* always NULL */
    mem_free(k);
    return NULL;
}

enum rc coded_feed(struct coded *k, struct str piece)
{
    return decode_feed(k->decode, piece);
}

enum rc coded_end(struct coded *k, struct apierr *e)
{
    const char *name = k->o.coding == DECODE_GZIP ? "gzip" : "zstd";
    enum rc rc = decode_end(k->decode);

    if (k->form_done)
        return RC_OK;
    if (k->too_large)
        return apierr_set(e, APIERR_BODY_TOO_LARGE, NULL,
                          "The request body has more than %zu bytes without its "
                          "compression.",
                          k->o.max_bytes);
    if (rc == RC_LIMIT)
        return apierr_set(e, APIERR_BODY_TOO_LARGE, NULL,
                          "The compressed body becomes more than %u times as large, the "
                          "most that this server takes; send it as it is.",
                          k->o.max_expansion);
    if (rc == RC_INVALID)
        return apierr_set(e, APIERR_BAD_REQUEST, NULL,
                          "The body is not good %s, as its Content-Encoding says; it may "
                          "have been cut off.",
                          name);
    if (rc != RC_OK) {
        apierr_of_rc(e, rc);
        return RC_INVALID;
    }
    return RC_OK;
}
