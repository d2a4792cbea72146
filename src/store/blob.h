/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blob: immutable bytes under a name: uploaded, output and error files.
 *
 * An interface with back ends (blob_dir.c now, S3 later).
 *
 * Threads: any thread that may block; a put or an open blob belongs to one thread at a
 * time. Errors:  RC_OK of blob_commit means: durable under its final name.  RC_NOSPACE:
 * retry after room was made.
 */
#pragma once

#include "base/err.h"
#include "base/id.h"

struct blob_put; /* being written; seen by nobody */
struct blob;     /* published, open for reading */

struct blob_sum {
    uint64_t bytes;
    uint8_t sha256[32];
};

struct blobs {
    const struct blob_ops *ops;
    void *self;
};

struct blob_ops {
    enum rc (*put)(void *self, struct blob_put **ret, struct err *e);
    enum rc (*write)(struct blob_put *p, const void *data, size_t n, struct err *e);
    /* Published under id (allocated by the caller); replaces a same-named one of equal
     * origin (a repeated finish).  p is gone whatever is returned. */
    enum rc (*commit)(struct blob_put *p, const char *id, struct blob_sum *ret,
                      struct err *e);
    void (*abort)(struct blob_put *p); /* accepts NULL */
    /* A file of the user's own, read in place, never written or deleted: for `batchd
     * run`. */
    enum rc (*adopt)(void *self, const char *path, const char *id, struct err *e);

    enum rc (*open)(void *self, const char *id, struct blob **ret, struct err *e);
    uint64_t (*size)(const struct blob *b);
    /* As fs_pread: *ret_n < n only at the end. */
    enum rc (*pread)(struct blob *b, void *dst, size_t n, uint64_t off, size_t *ret_n,
                     struct err *e);
    int (*fd)(const struct blob *b); /* for sendfile; -1: this back end has none */
    void (*close)(struct blob *b);   /* accepts NULL */
    enum rc (*remove)(void *self, const char *id, struct err *e); /* not there: RC_OK */
    /* Calls fn for every published id; RC_OK when all were seen. */
    enum rc (*each)(void *self, void (*fn)(void *ctx, const char *id), void *ctx,
                    struct err *e);
    /* What was removed does not come back by a power cut when RC_OK comes: for whoever is
     * about to say that nothing has to be swept.  all: also what a process before this one
     * may have removed, which ended without settling. */
    enum rc (*settle)(void *self, bool all, struct err *e);
    void (*shut)(void *self);
};

/* files/xx/<id> under dir; tmp/ for what is being written (emptied here, at the start).
 */
NODISCARD enum rc blob_dir_open(const char *dir, struct blobs **ret, struct err *e);
struct blobs *blobs_close(struct blobs *b); /* accepts NULL, returns NULL */
