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
#define VERSION      2u
#define HEAD_BYTES   96u
#define RECORD_BYTES 24u
#define PLACE_BYTES  24u
#define FOLLOW_BYTES 8u
#define MAX_LENGTH   (1u << 26)
/* A whole number of each of them next to 256 KiB. */
#define WRITE_BYTES (RECORD_BYTES * 10922u)

/* docs/formats.md has the tables. */
enum {
    H_VERSION = 8,
    H_COUNT = 12,
    H_BATCH = 16,
    H_PLACES = 80,
    H_FOLLOWERS = 84,
    H_BODY_CRC = 88,
    H_CRC = 92
};
enum { R_OFFSET = 0, R_LENGTH = 8, R_NUMBER = 12, R_BODY_OFF = 16, R_BODY_LEN = 20 };
enum { P_ITEM = 0, P_PROMPT = 4, P_SHARED = 8, P_MAX_OUT = 12, P_KEY = 16 };
enum { F_LEADER = 0, F_ITEM = 4 };
_Static_assert(H_BATCH + ID_CAP == H_PLACES && H_CRC + 4 == HEAD_BYTES, "head");

struct index_writer {
    struct id batch;
    char path[FS_PATH_CAP];
    int fd;
    bool made;
    enum rc failed; /* sticky: a write that failed may have left half a record */
    uint32_t count, places, followers, crc;
    uint64_t end;
    size_t n;
    uint8_t out[WRITE_BYTES];
};

struct index {
    uint32_t count, places, followers;
    uint8_t *raw; /* the whole file; after index_trim its head and records */
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

/* Behind what was put at its place in w->out. */
static enum rc put(struct index_writer *w, size_t n, struct err *e)
{
    w->n += n;
    return w->n == WRITE_BYTES ? flush(w, e) : RC_OK;
}

enum rc index_add(struct index_writer *w, const struct index_entry *entry, struct err *e)
{
    uint8_t *p = w->out + w->n;

    CHECK(entry->length < MAX_LENGTH && entry->body_off <= entry->length &&
          entry->body_len <= entry->length - entry->body_off && w->places == 0 &&
          w->followers == 0);
    if (w->count == LIMIT_LINES_EVER)
        return err_set(e, RC_LIMIT, "more than %u requests in one file",
                       LIMIT_LINES_EVER);
    le64_put(p + R_OFFSET, entry->offset);
    le32_put(p + R_LENGTH, entry->length);
    le32_put(p + R_NUMBER, entry->number);
    le32_put(p + R_BODY_OFF, entry->body_off);
    le32_put(p + R_BODY_LEN, entry->body_len);
    w->count++;
    return put(w, RECORD_BYTES, e);
}

enum rc index_order(struct index_writer *w, const struct index_place *place,
                    struct err *e)
{
    uint8_t *p = w->out + w->n;

    CHECK(place->item < w->count && w->places < w->count && w->followers == 0);
    le32_put(p + P_ITEM, place->item);
    le32_put(p + P_PROMPT, place->prompt);
    le32_put(p + P_SHARED, place->shared);
    le32_put(p + P_MAX_OUT, place->max_out);
    le64_put(p + P_KEY, place->key);
    w->places++;
    return put(w, PLACE_BYTES, e);
}

enum rc index_follow(struct index_writer *w, const struct index_follower *follower,
                     struct err *e)
{
    uint8_t *p = w->out + w->n;

    CHECK(follower->leader < follower->item && follower->item < w->count);
    le32_put(p + F_LEADER, follower->leader);
    le32_put(p + F_ITEM, follower->item);
    w->followers++;
    return put(w, FOLLOW_BYTES, e);
}

static void put_head(uint8_t head[HEAD_BYTES], const struct index_writer *w)
{
    memset(head, 0, HEAD_BYTES);
    memcpy(head, MAGIC, 8);
    le32_put(head + H_VERSION, VERSION);
    le32_put(head + H_COUNT, w->count);
    memcpy(head + H_BATCH, w->batch.z, strlen(w->batch.z));
    le32_put(head + H_PLACES, w->places);
    le32_put(head + H_FOLLOWERS, w->followers);
    le32_put(head + H_BODY_CRC, w->crc);
    le32_put(head + H_CRC, crc32c(0, head, H_CRC));
}

enum rc index_finish(struct index_writer *w, struct err *e)
{
    uint8_t head[HEAD_BYTES];
    enum rc rc = flush(w, e);

    CHECK(w->places == 0 || w->places == w->count);
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

static struct index_place place_at(const uint8_t *p)
{
    return (struct index_place){.item = le32_get(p + P_ITEM),
                                .prompt = le32_get(p + P_PROMPT),
                                .shared = le32_get(p + P_SHARED),
                                .max_out = le32_get(p + P_MAX_OUT),
                                .key = le64_get(p + P_KEY)};
}

/* Also what a CRC cannot say: no entry points out of its line, ... */
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

/* ... every line has one place, ... */
static bool places_ok(const struct index *x, uint8_t *seen)
{
    if (x->places != 0 && x->places != x->count)
        return false;
    for (uint32_t k = 0; k < x->places; k++) {
        uint32_t i = index_place(x, k).item;

        if (i >= x->count || seen[i / 8] >> (i % 8) & 1)
            return false;
        seen[i / 8] |= (uint8_t)(1u << (i % 8));
    }
    return true;
}

/* ... and followers are in order, each of one line before it that is none itself. */
static bool followers_ok(const struct index *x, uint8_t *follows)
{
    struct index_follower last = {0, 0};

    for (uint32_t k = 0; k < x->followers; k++) {
        struct index_follower f = index_follower(x, k);

        if (f.item >= x->count || f.leader >= f.item || f.leader < last.leader ||
            (f.leader == last.leader && f.item <= last.item) ||
            follows[f.item / 8] >> (f.item % 8) & 1)
            return false;
        follows[f.item / 8] |= (uint8_t)(1u << (f.item % 8));
        last = f;
    }
    for (uint32_t k = 0; k < x->followers; k++) {
        uint32_t leader = index_follower(x, k).leader;

        if (follows[leader / 8] >> (leader % 8) & 1)
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

static size_t body_bytes(const struct index *x)
{
    return (size_t)x->count * RECORD_BYTES + (size_t)x->places * PLACE_BYTES +
           (size_t)x->followers * FOLLOW_BYTES;
}

static enum rc check(struct index *x, size_t n, const struct id *batch)
{
    size_t bits = 0;
    uint8_t *seen;
    bool good;

    if (!head_ok(x, n, batch))
        return RC_CORRUPT;
    x->count = le32_get(x->raw + H_COUNT);
    x->places = le32_get(x->raw + H_PLACES);
    x->followers = le32_get(x->raw + H_FOLLOWERS);
    if (n != HEAD_BYTES + body_bytes(x) ||
        (GUARD(INDEX_CRC) && le32_get(x->raw + H_BODY_CRC) !=
                                 crc32c(0, x->raw + HEAD_BYTES, n - HEAD_BYTES)) ||
        !entries_ok(x))
        return RC_CORRUPT;
    if (x->places || x->followers)
        bits = (size_t)x->count / 8 + 1;
    seen = mem_new_n(uint8_t, bits * 2 + 1);
    good = places_ok(x, seen) && followers_ok(x, seen + bits);
    mem_free(seen);
    return good ? RC_OK : RC_CORRUPT;
}

enum rc index_load(const char *spool, const struct id *batch, struct index **ret,
                   struct err *e)
{
    struct index *x = mem_new(struct index);
    char path[FS_PATH_CAP], *raw = NULL;
    size_t n = 0;
    enum rc rc = path_of(spool, batch, path, e);

    if (rc == RC_OK)
        rc = fs_slurp(path,
                      HEAD_BYTES + (size_t)LIMIT_LINES_EVER *
                                       (RECORD_BYTES + PLACE_BYTES + FOLLOW_BYTES),
                      &raw, &n, e);
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

bool index_ordered(const struct index *x)
{
    return x->places > 0;
}

struct index_place index_place(const struct index *x, uint32_t k)
{
    CHECK(k < x->places);
    return place_at(x->raw + HEAD_BYTES + (size_t)x->count * RECORD_BYTES +
                    (size_t)k * PLACE_BYTES);
}

uint32_t index_followers(const struct index *x)
{
    return x->followers;
}

struct index_follower index_follower(const struct index *x, uint32_t k)
{
    const uint8_t *p = x->raw + HEAD_BYTES + (size_t)x->count * RECORD_BYTES +
                       (size_t)x->places * PLACE_BYTES + (size_t)k * FOLLOW_BYTES;

    CHECK(k < x->followers);
    return (struct index_follower){.item = le32_get(p + F_ITEM),
                                   .leader = le32_get(p + F_LEADER)};
}

void index_trim(struct index *x)
{
    uint8_t *less;

    x->places = x->followers = 0;
    less = mem_resize(x->raw, HEAD_BYTES + body_bytes(x));
    if (less) /* else it stays as large as it is */
        x->raw = less;
}

enum rc index_remove(const char *spool, const struct id *batch, struct err *e)
{
    char path[FS_PATH_CAP];
    enum rc rc = path_of(spool, batch, path, e);

    return rc == RC_OK ? fs_unlink(path, e) : rc;
}
