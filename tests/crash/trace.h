/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trace: what a run of the program did to its data directory and told its clients, in one
 * total order: written by recorder.c (LEARNT: by drive.py), read by explore.c.
 *
 * The file is a sequence of events without gaps: the head, then `path_n` bytes of path
 * (relative to the root, without NUL), `to_n` bytes of a second path, `data_n` bytes.
 * Both programs run on one machine, so the structs lie there as they are.
 */
#pragma once

#include <stdint.h>

/* X(name, what it says) */
#define TRACE_LIST(X)                                                                    \
    X(CREATE, "a file came to be: path, node")                                           \
    X(WRITE, "data at off of node")                                                      \
    X(TRUNCATE, "node has off bytes")                                                    \
    X(SYNC, "node's bytes were synced without error")                                    \
    X(SYNC_FAILED, "a sync of node failed: what was not synced before never will be")    \
    X(SYNC_DIR_FAILED, "a sync of the names in path failed: they stay as uncertain")     \
    X(SYNC_DIR, "the names in path were synced")                                         \
    X(RENAME, "path became to")                                                          \
    X(UNLINK, "path is gone")                                                            \
    X(MKDIR, "path came to be")                                                          \
    X(SYMLINK, "path points to to")                                                      \
    X(TOLD, "data went to a client on connection node")                                  \
    X(HEARD, "data came from a client on connection node")                               \
    X(LEARNT, "data is a line of what people were told elsewhere: see promise.h")        \
    X(START, "a process began to use the directory")

enum trace_kind {
#define X(name, text) TRACE_##name,
    TRACE_LIST(X)
#undef X
        TRACE_KINDS
};

#define TRACE_MAGIC 0x65636174u

struct trace_event {
    uint32_t magic, kind;
    uint64_t node; /* inode number; connections: the descriptor and a generation */
    uint64_t off;
    uint32_t path_n, to_n;
    uint64_t data_n;
};
