/* SPDX-License-Identifier: Apache-2.0 */
/*
 * input: the JSON Lines file that a command line names.
 *
 * Standard input ("-") and pipes are copied to an unnamed temporary file first, because
 * a scan reads by offset and an upload tells its size before it starts.
 *
 * Owns:    its descriptor.  Threads: one at a time.  Errors: the sentence names the path.
 */
#pragma once

#include "base/err.h"
#include "core/endpoint.h"

#include <sys/types.h>

struct input {
    int fd;           /* -1: not open */
    const char *path; /* borrowed; "stdin" for "-" */
    bool spooled;     /* not the file itself, a copy of what came */
    uint64_t size;
    int64_t mtime_ns;
    dev_t dev;
    ino_t ino;
};

NODISCARD enum rc input_open(struct input *in, const char *path, struct err *e);
void input_close(struct input *in); /* may run twice */

/* A jsonl_read_fn; ctx is the struct input. */
enum rc input_read(void *input, char *dst, size_t cap, uint64_t off, size_t *ret_n);

/* The endpoint that the first request's url names.  RC_INVALID: there is none. */
NODISCARD enum rc input_endpoint(struct input *in, enum endpoint *ret, struct err *e);

/* XXH3, 64 bits, of the whole content. */
NODISCARD enum rc input_hash(struct input *in, uint64_t *ret, struct err *e);

/* From --endpoint when it was given, else from the first request. */
NODISCARD enum rc input_choose_endpoint(struct input *in, const char *flag,
                                        enum endpoint *ret, struct err *e);
