/* SPDX-License-Identifier: Apache-2.0 */
#include "api/join.h"
#include "base/mem.h"

#include <openssl/evp.h>

enum { PIECE = 256 << 10 };

struct joining {
    const struct join *j;
    struct blob_put *put;
    EVP_MD_CTX *md5; /* NULL: nobody asks */
    char *piece;
};

static enum rc add_piece(struct joining *x, struct blob *b, uint64_t off, uint64_t left,
                         size_t *ret_n, struct err *e)
{
    const struct blob_ops *ops = x->j->blobs->ops;
    enum rc rc;

    if (x->j->stop(x->j->ctx))
        return err_set(e, RC_CANCELLED, "joining parts was stopped");
    rc = ops->pread(b, x->piece, (size_t)u64_min(left, PIECE), off, ret_n, e);
    if (rc != RC_OK)
        return rc;
    if (*ret_n == 0)
        return err_set(e, RC_CORRUPT, "a part's bytes end early");
    if (x->md5 && EVP_DigestUpdate(x->md5, x->piece, *ret_n) != 1)
        return err_set(e, RC_NOMEM, "MD5 failed");
    return ops->write(x->put, x->piece, *ret_n, e);
}

static enum rc add_part(struct joining *x, const struct join_part *part, struct err *e)
{
    const struct blobs *blobs = x->j->blobs;
    struct blob *b = NULL;
    uint64_t off = 0;
    size_t n = 0;
    enum rc rc = blobs->ops->open(blobs->self, part->id, &b, e);

    if (rc == RC_OK && blobs->ops->size(b) != part->bytes)
        rc = err_set(e, RC_CORRUPT, "part %s has %llu bytes, its record says %llu",
                     part->id, (unsigned long long)blobs->ops->size(b),
                     (unsigned long long)part->bytes);
    while (rc == RC_OK && off < part->bytes) {
        rc = add_piece(x, b, off, part->bytes - off, &n, e);
        if (rc == RC_OK)
            off += n;
    }
    blobs->ops->close(b);
    return rc;
}

static enum rc begin(struct joining *x, struct err *e)
{
    const struct blobs *blobs = x->j->blobs;
    bool md5 = x->j->md5 != NULL;

    x->piece = mem_try(PIECE);
    if (md5)
        x->md5 = EVP_MD_CTX_new();
    if (!x->piece || (md5 && !x->md5))
        return err_set(e, RC_NOMEM, "no memory to join parts");
    /* An OpenSSL that allows approved algorithms only has none. */
    if (md5 && EVP_DigestInit_ex(x->md5, EVP_md5(), NULL) != 1)
        return err_set(e, RC_NOMEM, "this machine's OpenSSL does not allow MD5");
    return blobs->ops->put(blobs->self, &x->put, e);
}

enum rc join_parts(const struct join *j, struct blob_put **ret, struct err *e)
{
    struct joining x = {.j = j};
    enum rc rc = begin(&x, e);

    for (size_t i = 0; i < j->n && rc == RC_OK; i++)
        rc = add_part(&x, &j->parts[i], e);
    if (rc == RC_OK && j->md5 && EVP_DigestFinal_ex(x.md5, j->md5, NULL) != 1)
        rc = err_set(e, RC_NOMEM, "MD5 failed");
    EVP_MD_CTX_free(x.md5);
    mem_free(x.piece);
    if (rc == RC_OK)
        *ret = x.put;
    else if (x.put)
        j->blobs->ops->abort(x.put);
    return rc;
}
