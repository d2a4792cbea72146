/* SPDX-License-Identifier: Apache-2.0 */
#include "store/keyfile.h"
#include "base/crc.h"
#include "base/guard.h"
#include "base/mem.h"

#include <stdlib.h>

#define HEAD "batchd keys 1\n"

void keyfile_done(struct keyfile *k)
{
    mem_free(k->v);
    *k = (struct keyfile){0};
}

/* --- The forms of names ---------------------------------------------------------------
 */

static bool is_lower_or_digit(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool key_id_ok(struct str id)
{
    if (id.n != KEY_ID_DIGITS)
        return false;
    for (size_t i = 0; i < id.n; i++)
        if (hex_value(id.p[i]) < 0)
            return false;
    return true;
}

bool key_name_ok(struct str name)
{
    if (name.n == 0 || name.n >= KEY_NAME_CAP || key_id_ok(name))
        return false;
    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i];
        bool plain = is_lower_or_digit(c) || (c >= 'A' && c <= 'Z');

        if (!plain && (i == 0 || !c || !strchr("._@-", c)))
            return false;
    }
    return true;
}

bool project_ok(struct str project)
{
    if (project.n == 0 || project.n >= PROJECT_CAP)
        return false;
    for (size_t i = 0; i < project.n; i++) {
        char c = project.p[i];

        if (!is_lower_or_digit(c) && (i == 0 || (c != '_' && c != '-')))
            return false;
    }
    return true;
}

/* --- Reading --------------------------------------------------------------------------
 */

static bool read_hex(struct str s, uint8_t *dst, size_t n)
{
    if (s.n != 2 * n)
        return false;
    for (size_t i = 0; i < n; i++) {
        int hi = hex_value(s.p[2 * i]), lo = hex_value(s.p[2 * i + 1]);

        if (hi < 0 || lo < 0)
            return false;
        dst[i] = (uint8_t)(hi << 4 | lo);
    }
    return true;
}

/* A time after 1970 that is its own shortest text. */
static bool read_time(struct str s, int64_t *ret)
{
    uint64_t v;

    if (str_u64(s, &v) != RC_OK || v == 0 || v > INT64_MAX || s.p[0] == '0')
        return false;
    *ret = (int64_t)v;
    return true;
}

/* What of a line's seven words is not as it should be; NULL: all is well. */
static const char *read_key(struct str line, struct key *ret)
{
    struct str id, name, project, sum, made;

    *ret = (struct key){.revoked_at = 0};
    if (!str_is(str_cut(&line, ' '), "key"))
        return "it does not begin with 'key'";
    id = str_cut(&line, ' ');
    name = str_cut(&line, ' ');
    project = str_cut(&line, ' ');
    sum = str_cut(&line, ' ');
    made = str_cut(&line, ' ');
    if (!key_id_ok(id))
        return "its id is not one";
    if (!key_name_ok(name))
        return "its name is not one";
    if (!project_ok(project))
        return "its project is not one";
    if (!read_hex(sum, ret->sha256, sizeof ret->sha256))
        return "its SHA-256 is not one";
    if (!read_time(made, &ret->created_at))
        return "its time of creation is not one";
    if (!str_is(line, "-") && !read_time(line, &ret->revoked_at))
        return "its time of revocation is not one";
    memcpy(ret->id, id.p, id.n);
    memcpy(ret->name, name.p, name.n);
    memcpy(ret->project.z, project.p, project.n);
    return NULL;
}

static int by_id(const void *a, const void *b)
{
    const struct key *const *x = a, *const *y = b;

    return strcmp((*x)->id, (*y)->id);
}

static int by_name(const void *a, const void *b)
{
    const struct key *const *x = a, *const *y = b;

    return strcmp((*x)->name, (*y)->name);
}

/* Ids are unique, names are among those in force: whoever says `revoke NAME` means one. */
static const struct key *find_twin(const struct keyfile *k)
{
    const struct key **at = mem_new_n(const struct key *, k->n + 1), *twin = NULL;
    size_t n = k->n;

    for (size_t i = 0; i < n; i++)
        at[i] = &k->v[i];
    qsort(at, n, sizeof *at, by_id);
    for (size_t i = 1; i < n && !twin; i++)
        if (strcmp(at[i]->id, at[i - 1]->id) == 0)
            twin = at[i];
    n = 0;
    for (size_t i = 0; i < k->n; i++)
        if (!k->v[i].revoked_at)
            at[n++] = &k->v[i];
    qsort(at, n, sizeof *at, by_name);
    for (size_t i = 1; i < n && !twin; i++)
        if (strcmp(at[i]->name, at[i - 1]->name) == 0)
            twin = at[i];
    mem_free(at);
    return twin;
}

static bool is_end(struct str line, size_t n, uint32_t crc)
{
    char want[64];

    return str_fmt(want, sizeof want, "end %zu %08x", n, crc) == RC_OK &&
           (str_is(line, want) || !GUARD(KEYS_CRC));
}

/* Takes a line off with its LF; one without is none. */
static bool take_line(struct str *rest, struct str *ret)
{
    if (!rest->n || !memchr(rest->p, '\n', rest->n))
        return false;
    *ret = str_cut(rest, '\n');
    return true;
}

static enum rc parse(struct str text, struct keyfile *k, struct err *e)
{
    struct str rest = text, line;
    const struct key *twin;
    unsigned number = 1;

    if (!str_starts(text, STR(HEAD)))
        return err_set(e, RC_CORRUPT,
                       "line 1 is not '%.*s': not a keys file, or one of a newer batchd",
                       (int)sizeof HEAD - 2, HEAD);
    rest.p += sizeof HEAD - 1;
    rest.n -= sizeof HEAD - 1;
    for (;;) {
        size_t at = (size_t)(rest.p - text.p);
        const char *wrong;

        number++;
        if (!take_line(&rest, &line))
            return err_set(e, RC_CORRUPT, "it ends early, in line %u", number);
        if (str_starts(line, STR("end "))) {
            if (!is_end(line, k->n, crc32c(0, text.p, at)) || rest.n)
                return err_set(e, RC_CORRUPT,
                               "line %u does not fit the lines before it, or is not the "
                               "last one: the file was changed by hand or damaged",
                               number);
            break;
        }
        if (k->n == KEYS_MAX)
            return err_set(e, RC_CORRUPT, "it has more than %u keys", KEYS_MAX);
        wrong = read_key(line, &k->v[k->n]);
        if (wrong)
            return err_set(e, RC_CORRUPT, "line %u is no key: %s", number, wrong);
        k->n++;
    }
    twin = find_twin(k);
    if (twin)
        return err_set(e, RC_CORRUPT, "the id %s or the name '%s' is there twice",
                       twin->id, twin->name);
    return RC_OK;
}

enum rc keyfile_parse(struct str text, struct keyfile *ret, struct err *e)
{
    struct keyfile k = {0};
    size_t lines = 1;
    enum rc rc;

    for (size_t i = 0; i < text.n && lines < KEYS_MAX; i++)
        lines += text.p[i] == '\n';
    k.v = mem_new_n(struct key, lines);
    rc = parse(text, &k, e);
    if (rc == RC_OK)
        *ret = k;
    else
        keyfile_done(&k);
    return rc;
}

/* --- Writing --------------------------------------------------------------------------
 */

static void put_hex(struct buf *out, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        buf_fmt(out, "%02x", p[i]);
}

void keyfile_put(const struct keyfile *k, struct buf *out)
{
    size_t start = out->n;

    buf_z(out, HEAD);
    for (size_t i = 0; i < k->n; i++) {
        const struct key *one = &k->v[i];

        buf_fmt(out, "key %s %s %s ", one->id, one->name, one->project.z);
        put_hex(out, one->sha256, sizeof one->sha256);
        buf_fmt(out, " %lld ", (long long)one->created_at);
        if (one->revoked_at)
            buf_i64(out, one->revoked_at);
        else
            buf_char(out, '-');
        buf_char(out, '\n');
    }
    if (!buf_failed(out))
        buf_fmt(out, "end %zu %08x\n", k->n, crc32c(0, out->p + start, out->n - start));
}
