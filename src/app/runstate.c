/* SPDX-License-Identifier: Apache-2.0 */
#include "app/runstate.h"

#include "base/fsio.h"
#include "base/mem.h"
#include "json/json.h"

#include <inttypes.h>
#include <stdio.h>

#define NAME "run.json"

enum { VERSION = 1, FILE_MAX = 4096 };

enum { V_VERSION, V_BYTES, V_MTIME, V_HASH, V_ENDPOINT, V_BATCH, V_FILE, V_COUNT };

static const struct json_want wants[V_COUNT] = {
    [V_VERSION] = {"version", -1},   [V_BYTES] = {"bytes", -1},
    [V_MTIME] = {"mtime_ns", -1},    [V_HASH] = {"xxh3", -1},
    [V_ENDPOINT] = {"endpoint", -1}, [V_BATCH] = {"batch", -1},
    [V_FILE] = {"file", -1},
};

void runstate_put(const struct runstate *s, struct buf *out)
{
    struct json_writer w;
    char hash[17];

    snprintf(hash, sizeof hash, "%016" PRIx64, s->hash);
    jw_init(&w, out);
    jw_open(&w, NULL, '{');
    jw_i64(&w, "version", VERSION);
    jw_i64(&w, "bytes", (int64_t)s->bytes);
    jw_i64(&w, "mtime_ns", s->mtime_ns);
    jw_z(&w, "xxh3", hash);
    jw_z(&w, "endpoint", endpoint_path(s->endpoint));
    jw_z(&w, "batch", s->batch.z);
    jw_z(&w, "file", s->file.z);
    jw_close(&w, '}');
    buf_char(out, '\n');
}

/* The text between the quotes: all that we wrote needs no unescaping. */
static struct str text_of(const struct json_val *v)
{
    if (v->type != JSON_STRING)
        return (struct str){0};
    return (struct str){v->raw.p + 1, v->raw.n - 2};
}

static enum rc read_hash(struct str s, uint64_t *ret)
{
    uint64_t v = 0;

    if (s.n != 16)
        return RC_INVALID;
    for (size_t i = 0; i < s.n; i++) {
        const char *digits = "0123456789abcdef", *at = memchr(digits, s.p[i], 16);

        if (!at)
            return RC_INVALID;
        v = v << 4 | (uint64_t)(at - digits);
    }
    *ret = v;
    return RC_OK;
}

/* A file from before 1970 has a negative time. */
static enum rc read_i64(const struct json_val *v, int64_t *ret)
{
    struct json_val digits = *v;
    bool minus = v->type == JSON_NUMBER && v->raw.n > 1 && v->raw.p[0] == '-';
    uint64_t n;

    if (minus)
        digits.raw = (struct str){v->raw.p + 1, v->raw.n - 1};
    if (v->type != JSON_NUMBER || json_u64(&digits, &n) != RC_OK || n > INT64_MAX)
        return RC_INVALID;
    *ret = minus ? -(int64_t)n : (int64_t)n;
    return RC_OK;
}

enum rc runstate_read(struct str text, struct runstate *ret)
{
    struct json_val v[V_COUNT];
    struct runstate s = {0};
    uint64_t version = 0;

    if (json_read(text, NULL, wants, V_COUNT, v, NULL, NULL) != RC_OK ||
        v[V_VERSION].type != JSON_NUMBER || json_u64(&v[V_VERSION], &version) != RC_OK ||
        version != VERSION || v[V_BYTES].type != JSON_NUMBER ||
        json_u64(&v[V_BYTES], &s.bytes) != RC_OK ||
        read_i64(&v[V_MTIME], &s.mtime_ns) != RC_OK ||
        read_hash(text_of(&v[V_HASH]), &s.hash) != RC_OK ||
        endpoint_from(text_of(&v[V_ENDPOINT]), &s.endpoint) != RC_OK ||
        id_from(text_of(&v[V_BATCH]), &s.batch) != RC_OK ||
        id_from(text_of(&v[V_FILE]), &s.file) != RC_OK)
        return RC_CORRUPT;
    *ret = s;
    return RC_OK;
}

enum rc runstate_load(const char *dir, struct runstate *ret, struct err *e)
{
    char path[FS_PATH_CAP], *text;
    size_t n;
    enum rc rc = fs_join(path, dir, NAME, e);

    if (rc == RC_OK)
        rc = fs_slurp(path, FILE_MAX, &text, &n, e);
    if (rc != RC_OK)
        return rc;
    rc = runstate_read((struct str){text, n}, ret);
    mem_free(text);
    if (rc != RC_OK)
        err_set(e, rc, "'%.300s' is not a state of batchd run that can be read", path);
    return rc;
}

enum rc runstate_save(const char *dir, const struct runstate *s, struct err *e)
{
    struct buf text;
    enum rc rc;

    buf_init(&text, FILE_MAX);
    runstate_put(s, &text);
    rc = buf_failed(&text);
    if (rc == RC_OK)
        rc = fs_replace(dir, NAME, text.p, text.n, e);
    buf_done(&text);
    return rc;
}

enum rc runstate_remove(const char *dir, struct err *e)
{
    char path[FS_PATH_CAP];
    enum rc rc = fs_join(path, dir, NAME, e);

    if (rc == RC_OK)
        rc = fs_unlink(path, e);
    return rc == RC_OK ? fs_sync_dir(dir, e) : rc;
}
