/* SPDX-License-Identifier: Apache-2.0 */
#include "api/join.h"
#include "base/mem.h"

#include <openssl/evp.h>

enum { PIECE = 256 << 10 };

struct join {
    struct blobs *blobs;
    struct blob_put *put;
    EVP_MD_CTX *md5; /* NULL: nobody asks */
    char *piece;
};

static enum rc add_piece(struct join *j, struct blob *b, uint64_t off, uint64_t left,
                         size_t *ret_n, struct err *e)
{
    const struct blob_ops *ops = j->blobs->ops;
    enum rc rc = ops->pread(b, j->piece, (size_t)u64_min(left, PIECE), off, ret_n, e);

    if (rc != RC_OK)
        return rc;
    if (*ret_n == 0)
        return err_set(e, RC_CORRUPT, "a part's bytes end early");
    if (j->md5 && EVP_DigestUpdate(j->md5, j->piece, *ret_n) != 1)
        return err_set(e, RC_NOMEM, "MD5 failed");
    return ops->write(j->put, j->piece, *ret_n, e);
}

static enum rc add_part(struct join *j, const struct join_part *part, struct err *e)
{
    const struct blob_ops *ops = j->blobs->ops;
    struct blob *b = NULL;
    uint64_t off = 0;
    size_t n;
    enum rc rc = ops->open(j->blobs->self, part->id, &b, e);

    if (rc == RC_OK && ops->size(b) != part->bytes)
        rc = err_set(e, RC_CORRUPT, "part %s has %llu bytes, its record says %llu",
                     part->id, (unsigned long long)ops->size(b),
                     (unsigned long long)part->bytes);
    while (rc == RC_OK && off < part->bytes) {
        rc = add_piece(j, b, off, part->bytes - off, &n, e);
        if (rc == RC_OK)
            off += n;
    }
    ops->close(b);
    return rc;
}

static enum rc begin(struct join *j, bool md5, struct err *e)
{
    j->piece = mem_try(PIECE);
    if (md5)
        j->md5 = EVP_MD_CTX_new();
    if (!j->piece || (md5 && !j->md5))
        return err_set(e, RC_NOMEM, "no memory to join parts");
    /* An OpenSSL that allows approved algorithms only has none. */
    if (md5 && EVP_DigestInit_ex(j->md5, EVP_md5(), NULL) != 1)
        return err_set(e, RC_NOMEM, "this machine's OpenSSL does not allow MD5");
    return j->blobs->ops->put(j->blobs->self, &j->put, e);
}

enum rc join_parts(struct blobs *blobs, const struct join_part *parts, size_t n,
                   uint8_t md5[16], struct blob_put **ret, struct err *e)
{
    struct join j = {.blobs = blobs};
    enum rc rc = begin(&j, md5 != NULL, e);

    for (size_t i = 0; i < n && rc == RC_OK; i++)
        rc = add_part(&j, &parts[i], e);
    if (rc == RC_OK && md5 && EVP_DigestFinal_ex(j.md5, md5, NULL) != 1)
        rc = err_set(e, RC_NOMEM, "MD5 failed");
    EVP_MD_CTX_free(j.md5);
    mem_free(j.piece);
    if (rc == RC_OK)
        *ret = j.put;
    else if (j.put)
        blobs->ops->abort(j.put);
    return rc;
}
