/* SPDX-License-Identifier: Apache-2.0 */
#include "app/input.h"

#include "base/fsio.h"
#include "base/limits.h"
#include "base/mem.h"
#include "json/json.h"
#include "json/jsonl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

enum { CHUNK = 1 << 20 };

static enum rc temporary(int *ret_fd, struct err *e)
{
    const char *dir = getenv("TMPDIR");

    if (!dir || !dir[0])
        dir = "/tmp";
    return fs_open(dir, O_RDWR | O_TMPFILE, 0600, ret_fd, e);
}

static enum rc drain(int from, int to, const char *path, struct err *e)
{
    char *chunk = mem_alloc(CHUNK);
    enum rc rc = RC_OK;

    while (rc == RC_OK) {
        ssize_t got = read(from, chunk, CHUNK);

        if (got == 0)
            break;
        if (got > 0)
            rc = fs_write(to, chunk, (size_t)got, "a temporary file", e);
        else if (errno != EINTR)
            rc = err_sys(e, RC_IO, errno, "cannot read '%s'", path);
    }
    mem_free(chunk);
    return rc;
}

static enum rc spool(struct input *in, struct err *e)
{
    int tmp = -1;
    enum rc rc = temporary(&tmp, e);

    if (rc == RC_OK)
        rc = drain(in->fd, tmp, in->path, e);
    fs_close(&in->fd);
    in->fd = tmp;
    in->spooled = true;
    return rc;
}

static enum rc look(struct input *in, struct err *e)
{
    struct stat st;

    if (fstat(in->fd, &st) < 0)
        return err_sys(e, RC_IO, errno, "cannot stat '%s'", in->path);
    if (S_ISDIR(st.st_mode))
        return err_set(e, RC_INVALID, "'%s' is a directory; a JSON Lines file is needed",
                       in->path);
    if (!S_ISREG(st.st_mode) && !in->spooled) {
        enum rc rc = spool(in, e);

        return rc == RC_OK ? look(in, e) : rc;
    }
    in->size = (uint64_t)st.st_size;
    in->mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
    in->dev = st.st_dev;
    in->ino = st.st_ino;
    return RC_OK;
}

enum rc input_open(struct input *in, const char *path, struct err *e)
{
    enum rc rc = RC_OK;

    *in = (struct input){.fd = -1, .path = path};
    if (strcmp(path, "-") == 0) {
        in->path = "stdin";
        in->fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
        rc = in->fd < 0 ? err_sys(e, RC_IO, errno, "cannot read stdin") : spool(in, e);
    } else {
        rc = fs_open(path, O_RDONLY | O_NOCTTY, 0, &in->fd, e);
    }
    if (rc == RC_OK)
        rc = look(in, e);
    if (rc != RC_OK)
        input_close(in);
    return rc;
}

void input_close(struct input *in)
{
    fs_close(&in->fd);
}

enum rc input_read(void *input, char *dst, size_t cap, uint64_t off, size_t *ret_n)
{
    struct input *in = input;

    return fs_pread(in->fd, dst, cap, off, ret_n, in->path, NULL);
}

enum rc input_endpoint(struct input *in, enum endpoint *ret, struct err *e)
{
    static const struct json_want want = {"url", -1};
    struct jsonl *lines = jsonl_new(input_read, in, LIMIT_LINE_BYTES);
    struct jsonl_line line;
    struct json_val url = {0};
    struct buf text;
    enum rc rc;

    do {
        rc = jsonl_next(lines, &line);
    } while (rc == RC_OK && line.blank);
    buf_init(&text, 256);
    if (rc == RC_OK)
        rc = json_read(line.text, NULL, &want, 1, &url, NULL, NULL);
    if (rc == RC_OK && (url.type != JSON_STRING || json_unescape(url.raw, &text) ||
                        endpoint_from(buf_peek(&text), ret)))
        rc = RC_INVALID;
    buf_done(&text);
    jsonl_free(lines);
    if (rc == RC_OK || rc == RC_IO)
        return rc == RC_OK ? rc : err_set(e, rc, "cannot read '%s'", in->path);
    return err_set(
        e, RC_INVALID,
        "the first line of '%.200s' names no known url; give one by --endpoint, "
        "or see what batchd check says",
        in->path);
}

enum rc input_choose_endpoint(struct input *in, const char *flag, enum endpoint *ret,
                              struct err *e)
{
    if (!flag)
        return input_endpoint(in, ret, e);
    if (endpoint_from(str_of(flag), ret) == RC_OK)
        return RC_OK;
    return err_set(e, RC_INVALID, "--endpoint is '%.100s'; it must be one of %s", flag,
                   endpoint_all());
}

enum rc input_hash(struct input *in, uint64_t *ret, struct err *e)
{
    XXH3_state_t *state = XXH3_createState();
    char *chunk = mem_alloc(CHUNK);
    uint64_t off = 0;
    size_t n = 0;
    enum rc rc = RC_OK;

    CHECK(state != NULL && XXH3_64bits_reset(state) == XXH_OK);
    do {
        rc = fs_pread(in->fd, chunk, CHUNK, off, &n, in->path, e);
        if (rc == RC_OK)
            CHECK(XXH3_64bits_update(state, chunk, n) == XXH_OK);
        off += n;
    } while (rc == RC_OK && n == CHUNK);
    if (rc == RC_OK)
        *ret = XXH3_64bits_digest(state);
    mem_free(chunk);
    XXH3_freeState(state);
    return rc;
}
