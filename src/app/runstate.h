/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runstate: what `batchd run` must know to go on after a crash: which input it was, by
 * size, time and content, and which batch stands for it.  run.json in the state
 * directory.
 *
 * Owns:    nothing.  Threads: main.
 * Errors:  RC_NOTFOUND: there is none.  RC_CORRUPT: it cannot be read.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "base/id.h"
#include "core/endpoint.h"

struct runstate {
    uint64_t bytes;
    int64_t mtime_ns;
    uint64_t hash; /* XXH3 of the content */
    enum endpoint endpoint;
    struct id batch, file;
};

NODISCARD enum rc runstate_load(const char *dir, struct runstate *ret, struct err *e);
NODISCARD enum rc runstate_save(const char *dir, const struct runstate *s, struct err *e);
/* The run is over: without the file the rest of the directory means nothing. */
NODISCARD enum rc runstate_remove(const char *dir, struct err *e);

/* The text of run.json, both ways; pure. */
void runstate_put(const struct runstate *s, struct buf *out);
NODISCARD enum rc runstate_read(struct str text, struct runstate *ret);
