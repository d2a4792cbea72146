/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reslog_walk: reads the records of one segment in order, passing over what is damaged.
 *
 * Owns:    a window of 1 MiB over the file (more for a larger record); not the fd.
 * Threads: one at a time.
 * Errors:  damage is not an error: walk_next tells of it.  RC_IO and RC_NOMEM are.
 */
#pragma once

#include "store/reslog_frame.h"

struct walk {
    uint32_t seed, items;
    uint32_t generation; /* 0: the head was unreadable; the first good record tells */

    int fd;           /* private from here on */
    const char *path; /* borrowed */
    uint64_t end, at;
    uint8_t *win;
    size_t win_cap, win_n;
    uint64_t win_off;
};

struct walk_rec {
    struct frame frame;
    uint8_t *p;      /* the whole record; valid and writable until the next walk_next */
    uint64_t offset; /* in the file */
    bool gap;        /* bytes that are no record lie before it */
    bool stray;      /* its item is none of the batch: damage of another kind, pass on */
};

void walk_init(struct walk *w, uint32_t seed, uint32_t items);
void walk_done(struct walk *w);
/* Starts on another file, records from `from` to `end`. */
void walk_file(struct walk *w, int fd, const char *path, uint32_t generation,
               uint64_t from, uint64_t end);
/* RC_NOTFOUND: no further record; then ret->gap tells whether bytes were left over. */
NODISCARD enum rc walk_next(struct walk *w, struct walk_rec *ret, struct err *e);
