/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reslog_int: what the files of the results log share; nobody else includes it.
 *
 * reslog.c writes, reslog_open.c recovers and scans, reslog_read.c reads one record,
 * reslog_tail.c reads beside the writer.
 */
#pragma once

#include "base/fsio.h"
#include "store/reslog_walk.h"

#define SEGMENT_BYTES ((uint64_t)64 << 20)

struct reslog_reader;

struct reslog {
    char *spool; /* constant after the start, as the next four */
    struct id batch;
    uint32_t items, generation, seed;

    /* The owner's. */
    struct reslog_block *pending;
    size_t last_cut; /* bytes of the block before: a guess at the next one */

    /* The committer's. */
    int fd;            /* of the last segment */
    uint64_t end;      /* of what is committed in it */
    uint32_t *numbers; /* of all segments, ascending; the last one is the open one */
    size_t n_numbers, cap_numbers;
    uint64_t segment_bytes;
    bool dead; /* a promise broke: nothing more is written */

    struct reslog_reader *reader; /* made by the first reslog_read */
};

struct reslog *reslog_new(const char *spool, const struct id *batch, uint32_t items);
uint32_t reslog_last(const struct reslog *l); /* number of the last segment */
NODISCARD enum rc reslog_segment_path(const char *spool, const struct id *batch,
                                      uint32_t segment, char ret[FS_PATH_CAP],
                                      struct err *e);
NODISCARD enum rc reslog_path(const struct reslog *l, uint32_t segment,
                              char ret[FS_PATH_CAP], struct err *e);
void reslog_add_number(struct reslog *l, uint32_t segment);
/* Calls fn with the number of each file of the batch's log; `whole` is false for what an
 * interrupted rewrite left. */
typedef enum rc segment_fn(void *ctx, uint32_t segment, bool whole, struct err *e);
NODISCARD enum rc reslog_each_segment(const char *spool, const struct id *batch,
                                      segment_fn *fn, void *ctx, struct err *e);
/* Makes a file that holds nothing but its head; not synced. */
NODISCARD enum rc reslog_make_segment(const struct reslog *l, uint32_t segment,
                                      const char *path, int flags, int *ret_fd,
                                      struct err *e);
struct reslog_reader *reslog_reader_free(struct reslog_reader *r);
