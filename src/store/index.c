/* SPDX-License-Identifier: Apache-2.0 */
#include "store/index.h"
#include "base/crc.h"
#include "base/fsio.h"
#include "base/guard.h"
#include "base/limits.h"
#include "base/mem.h"
#include "store/le.h"

#include <fcntl.h>

#define MAGIC        "bd-index"
#define VERSION      1u
#define HEAD_BYTES   96u
#define RECORD_BYTES 24u
#define MAX_LENGTH   (1u << 26)
/* A whole number of records next to 256 KiB. */
#define WRITE_BYTES (RECORD_BYTES * 10922u)

/* docs/formats.md has the tables. */
enum {
    H_VERSION = 8,
    H_COUNT = 12,
    H_BATCH = 16,
    H_ZERO = 80,
    H_BODY_CRC = 88,
    H_CRC = 92
};
enum { R_OFFSET = 0, R_LENGTH = 8, R_NUMBER = 12, R_BODY_OFF = 16, R_BODY_LEN = 20 };
_Static_assert(H_BATCH + ID_CAP == H_ZERO && H_CRC + 4 == HEAD_BYTES, "head");

struct index_writer {
    struct id batch;
    char path[FS_PATH_CAP];
    int fd;
    bool made;
    enum rc failed; /* sticky: a write that failed may have left half a record */
    uint32_t count, crc;
    uint64_t end;
    size_t n;
    uint8_t out[WRITE_BYTES];
};

struct index {
    uint32_t count;
    uint8_t *raw; /* the whole file */
};

static enum rc path_of(const char *spool, const struct id *batch, char ret[FS_PATH_CAP],
                       struct err *e)
{
    char name[ID_CAP + 8];

    if (str_fmt(name, sizeof name, "%s.idx", batch->z) != RC_OK)
        PANIC("a batch id of %zu bytes", strlen(batch->z));
    return fs_join(ret, spool, name, e);
}

/* ---- writing ------------------------------------------------------------------------*/

enum rc index_create(const char *spool, const struct id *batch, struct index_writer **ret,
                     struct err *e)
{
    struct index_writer *w = mem_new(struct index_writer);
    enum rc rc = path_of(spool, batch, w->path, e);

    w->fd = -1;
    w->batch = *batch;
    w->end = HEAD_BYTES; /* the head comes last: half a file has none */
    if (rc == RC_OK)
        rc = fs_open(w->path, O_WRONLY | O_CREAT | O_TRUNC, 0600, &w->fd, e);
    if (rc != RC_OK) {
        index_abort(w);
        return rc;
    }
    w->made = true;
    *ret = w;
    return RC_OK;
}

static enum rc flush(struct index_writer *w, struct err *e)
{
    if (w->failed == RC_OK)
        w->failed = fs_pwrite(w->fd, w->out, w->n, w->end, w->path, e);
    else
        err_set(e, w->failed, "writing '%s' failed before", w->path);
    if (w->failed != RC_OK)
        return w->failed;
    w->crc = crc32c(w->crc, w->out, w->n);
    w->end += w->n;
    w->n = 0;
    return RC_OK;
}

enum rc index_add(struct index_writer *w, const struct index_entry *entry, struct err *e)
{
    uint8_t *p = w->out + w->n;

    CHECK(entry->length < MAX_LENGTH && entry->body_off <= entry->length &&
          entry->body_len <= entry->length - entry->body_off);
    if (w->count == LIMIT_LINES_EVER)
        return err_set(e, RC_LIMIT, "more than %u requests in one file",
                       LIMIT_LINES_EVER);
    le64_put(p + R_OFFSET, entry->offset);
    le32_put(p + R_LENGTH, entry->length);
    le32_put(p + R_NUMBER, entry->number);
    le32_put(p + R_BODY_OFF, entry->body_off);
    le32_put(p + R_BODY_LEN, entry->body_len);
    w->n += RECORD_BYTES;
    w->count++;
    return w->n == WRITE_BYTES ? flush(w, e) : RC_OK;
}

static void put_head(uint8_t head[HEAD_BYTES], const struct index_writer *w)
{
    memset(head, 0, HEAD_BYTES);
    memcpy(head, MAGIC, 8);
    le32_put(head + H_VERSION, VERSION);
    le32_put(head + H_COUNT, w->count);
    memcpy(head + H_BATCH, w->batch.z, strlen(w->batch.z));
    le32_put(head + H_BODY_CRC, w->crc);
    le32_put(head + H_CRC, crc32c(0, head, H_CRC));
}

enum rc index_finish(struct index_writer *w, struct err *e)
{
    uint8_t head[HEAD_BYTES];
    enum rc rc = flush(w, e);

    if (rc == RC_OK) {
        put_head(head, w);
        rc = fs_pwrite(w->fd, head, sizeof head, 0, w->path, e);
    }
    if (rc == RC_OK)
        rc = fs_close_checked(&w->fd, w->path, e);
    if (rc != RC_OK)
        index_abort(w);
    else
        mem_free(w);
    return rc;
}

struct index_writer *index_abort(struct index_writer *w)
{
    if (!w)
        return NULL;
    if (w->made)
        IGNORE(fs_unlink(w->path, NULL)); /* without a head it is no index anyway */
    fs_close(&w->fd);
    mem_free(w);
    return NULL;
}

/* ---- reading ------------------------------------------------------------------------*/

static struct index_entry entry_at(const uint8_t *p)
{
    return (struct index_entry){.offset = le64_get(p + R_OFFSET),
                                .length = le32_get(p + R_LENGTH),
                                .number = le32_get(p + R_NUMBER),
                                .body_off = le32_get(p + R_BODY_OFF),
                                .body_len = le32_get(p + R_BODY_LEN)};
}

/* Also what a CRC cannot say: no entry points out of its line. */
static bool entries_ok(const struct index *x)
{
    for (uint32_t i = 0; i < x->count; i++) {
        struct index_entry en = index_get(x, i);

        if (en.length >= MAX_LENGTH || en.body_off > en.length ||
            en.body_len > en.length - en.body_off)
            return false;
    }
    return true;
}

static bool head_ok(const struct index *x, size_t n, const struct id *batch)
{
    const uint8_t *h = x->raw;
    char id[ID_CAP] = {0};

    memcpy(id, batch->z, strlen(batch->z));
    return n >= HEAD_BYTES && memcmp(h, MAGIC, 8) == 0 &&
           le32_get(h + H_VERSION) == VERSION &&
           le32_get(h + H_CRC) == crc32c(0, h, H_CRC) &&
           memcmp(h + H_BATCH, id, ID_CAP) == 0;
}

static enum rc check(struct index *x, size_t n, const struct id *batch)
{
    if (!head_ok(x, n, batch))
        return RC_CORRUPT;
    x->count = le32_get(x->raw + H_COUNT);
    if (n != HEAD_BYTES + (size_t)x->count * RECORD_BYTES ||
        (GUARD(INDEX_CRC) && le32_get(x->raw + H_BODY_CRC) !=
                                 crc32c(0, x->raw + HEAD_BYTES, n - HEAD_BYTES)) ||
        !entries_ok(x))
        return RC_CORRUPT;
    return RC_OK;
}

enum rc index_load(const char *spool, const struct id *batch, struct index **ret,
                   struct err *e)
{
    struct index *x = mem_new(struct index);
    char path[FS_PATH_CAP], *raw = NULL;
    size_t n = 0;
    enum rc rc = path_of(spool, batch, path, e);

    if (rc == RC_OK)
        rc = fs_slurp(path, HEAD_BYTES + (size_t)LIMIT_LINES_EVER * RECORD_BYTES, &raw,
                      &n, e);
    x->raw = (uint8_t *)raw;
    if (rc == RC_LIMIT || (rc == RC_OK && check(x, n, batch) != RC_OK))
        rc = err_set(e, RC_CORRUPT, "'%s' is not a whole index of this batch", path);
    if (rc != RC_OK) {
        index_free(x);
        return rc;
    }
    *ret = x;
    return RC_OK;
}

struct index *index_free(struct index *x)
{
    if (!x)
        return NULL;
    mem_free(x->raw);
    mem_free(x);
    return NULL;
}

uint32_t index_count(const struct index *x)
{
    return x->count;
}

struct index_entry index_get(const struct index *x, uint32_t item)
{
    CHECK(item < x->count);
    return entry_at(x->raw + HEAD_BYTES + (size_t)item * RECORD_BYTES);
}

enum rc index_remove(const char *spool, const struct id *batch, struct err *e)
{
    char path[FS_PATH_CAP];
    enum rc rc = path_of(spool, batch, path, e);

    return rc == RC_OK ? fs_unlink(path, e) : rc;
}
