/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content: GET and HEAD of /v1/files/{id}/content: a file's bytes, whole or one range,
 * straight from the descriptor.
 */
#include "api/call.h"
#include "api/entity.h"
#include "api/files.h"
#include "base/fsio.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

/* '"' + SHA-256 as hex + '"' */
enum { ETAG_CAP = 67 };

static void make_etag(const uint8_t sha256[32], char ret[ETAG_CAP])
{
    static const char hex[] = "0123456789abcdef";
    char *p = ret;

    *p++ = '"';
    for (int i = 0; i < 32; i++) {
        *p++ = hex[sha256[i] >> 4];
        *p++ = hex[sha256[i] & 15];
    }
    *p++ = '"';
    *p = '\0';
}

static bool names_jsonl(const struct file_rec *f)
{
    return strcmp(f->purpose, "batch") == 0 || strcmp(f->purpose, "batch_output") == 0;
}

static const char *content_type(const struct file_rec *f)
{
    return names_jsonl(f) ? "application/jsonl" : "application/octet-stream";
}

static void add_headers(struct call *c, const struct file_rec *f, const char *etag)
{
    struct buf b;
    char *value;

    http_add_header(c->rq, "ETag", etag);
    http_add_header(c->rq, "Accept-Ranges", "bytes");
    buf_init(&b, 64 + 4 * strlen(f->filename)); /* a byte: '_' and "%XX" */
    disposition_put(f->filename, &b);
    value = buf_take(&b, NULL);
    if (value)
        http_add_header(c->rq, "Content-Disposition", value);
    mem_free(value);
}

/* The bytes through memory, for a back end without descriptors. */
static enum rc copy_out(const struct blob_ops *ops, struct blob *b, uint64_t off,
                        uint64_t n, int fd, struct err *e)
{
    enum { PIECE = 256 << 10 };
    char *piece = mem_try(PIECE);
    enum rc rc = piece ? RC_OK : RC_NOMEM;

    while (rc == RC_OK && n) {
        size_t want = (size_t)u64_min(n, PIECE), got = 0;

        rc = ops->pread(b, piece, want, off, &got, e);
        if (rc == RC_OK && got < want)
            rc = err_set(e, RC_CORRUPT, "a file's bytes end early");
        if (rc == RC_OK)
            rc = fs_write(fd, piece, got, "memory", e);
        off += got;
        n -= got;
    }
    mem_free(piece);
    return rc;
}

/* A descriptor that the server may close; *off is the range's place in it. */
static enum rc descriptor(const struct blob_ops *ops, struct blob *b, uint64_t *off,
                          uint64_t n, int *ret_fd, struct err *e)
{
    int own = ops->fd(b), fd = own >= 0 ? fcntl(own, F_DUPFD_CLOEXEC, 0)
                                        : memfd_create("batchd-content", MFD_CLOEXEC);
    enum rc rc = RC_OK;

    if (fd < 0)
        return err_sys(e, errno == EMFILE || errno == ENFILE ? RC_NOMEM : RC_IO, errno,
                       "no descriptor for a download");
    if (own < 0) {
        rc = copy_out(ops, b, *off, n, fd, e);
        *off = 0;
    }
    if (rc == RC_OK)
        *ret_fd = fd;
    else
        fs_close(&fd);
    return rc;
}

static void reply_unsatisfiable(struct call *c, uint64_t size)
{
    char range[40];

    CHECK(str_fmt(range, sizeof range, "bytes */%llu", (unsigned long long)size) ==
          RC_OK);
    http_add_header(c->rq, "Content-Range", range);
    call_fail_as(c, APIERR_RANGE, NULL,
                 "The range asked for is outside of the file, which has %llu bytes.",
                 (unsigned long long)size);
}

static void send_part(struct call *c, const struct file_rec *f, struct blob *b,
                      int status, uint64_t off, uint64_t n)
{
    struct err e = {0};
    int fd = -1;
    enum rc rc = descriptor(c->api->opts.blobs->ops, b, &off, n, &fd, &e);

    if (rc == RC_OK)
        call_reply_fd(c, status, content_type(f), fd, off, n);
    else
        call_fail_rc(c, rc, &e);
}

/* A Range counts for GET only (RFC 9110, 14.2), and with If-Range only while the bytes
 * are still those that the client has. */
static enum range_verdict asked_range(struct call *c, const char *etag, uint64_t size,
                                      uint64_t *off, uint64_t *n)
{
    struct str range = http_header(c->rq, "Range"),
               only_if = http_header(c->rq, "If-Range");

    if (!range.p || str_is(http_method(c->rq), "HEAD") ||
        (only_if.p && !str_is(str_trim(only_if), etag)))
        return RANGE_WHOLE;
    return range_read(range, size, off, n);
}

/* If-Match before If-None-Match before Range (RFC 9110, 13.2.2).  There is no
 * modification date, so the conditions with dates do not count (13.1.3, 13.1.4).  False:
 * the call is answered. */
static bool conditions_hold(struct call *c, const struct file_rec *f, const char *etag)
{
    struct str only = http_header(c->rq, "If-Match");
    struct buf empty;

    if (only.p && !etag_matches(only, etag)) {
        http_add_header(c->rq, "ETag", etag);
        call_fail_as(c, APIERR_PRECONDITION, NULL,
                     "The file is not the one that If-Match names: its ETag is %s.",
                     etag);
        return false;
    }
    if (!etag_listed(http_header(c->rq, "If-None-Match"), etag))
        return true;
    http_add_header(c->rq, "ETag", etag);
    buf_init(&empty, 1);
    call_reply(c, 304, content_type(f), &empty);
    return false;
}

static void send_bytes(struct call *c, const struct file_rec *f, struct blob *b)
{
    uint64_t off = 0, n = f->bytes;
    enum range_verdict verdict;
    char etag[ETAG_CAP], range[80];

    make_etag(f->sha256, etag);
    if (!conditions_hold(c, f, etag))
        return;
    verdict = asked_range(c, etag, f->bytes, &off, &n);
    if (verdict == RANGE_OUTSIDE) {
        reply_unsatisfiable(c, f->bytes);
        return;
    }
    add_headers(c, f, etag);
    if (verdict == RANGE_PART) {
        CHECK(str_fmt(range, sizeof range, "bytes %llu-%llu/%llu",
                      (unsigned long long)off, (unsigned long long)(off + n - 1),
                      (unsigned long long)f->bytes) == RC_OK);
        http_add_header(c->rq, "Content-Range", range);
    }
    send_part(c, f, b, verdict == RANGE_PART ? 206 : 200, off, n);
}

void files_content(struct call *c)
{
    struct blobs *blobs = c->api->opts.blobs;
    struct blob *b = NULL;
    struct file_rec f, again;
    struct err e = {0};
    enum rc rc = files_find(c, &f);

    if (rc != RC_OK)
        return;
    rc = blobs->ops->open(blobs->self, f.id.z, &b, &e);
    if (rc == RC_OK && blobs->ops->size(b) != f.bytes)
        rc = err_set(&e, RC_CORRUPT, "file %s has %llu bytes, its record says %llu",
                     f.id.z, (unsigned long long)blobs->ops->size(b),
                     (unsigned long long)f.bytes);
    if (rc == RC_OK) {
        send_bytes(c, &f, b);
    } else if (rc != RC_NOTFOUND) {
        call_fail_rc(c, rc, &e);
    } else if (files_find(c, &again) == RC_OK) { /* not deleted meanwhile: it is lost */
        call_fail_rc(c, RC_CORRUPT, &e);
        file_rec_done(&again);
    }
    blobs->ops->close(b);
    file_rec_done(&f);
}
