/* SPDX-License-Identifier: Apache-2.0 */
/*
 * board: what faulty tells whoever started the program, in a file that both map: how many
 * calls of each kind there were, and which of them failed.  `sweep` reads it, too: the
 * layout and the order of the kinds are the same there.
 */
#pragma once

#include <stdint.h>

#define FAULT_KINDS(X)                                                                   \
    X(open)                                                                              \
    X(read)                                                                              \
    X(write)                                                                             \
    X(fsync)                                                                             \
    X(fdatasync)                                                                         \
    X(ftruncate)                                                                         \
    X(fallocate)                                                                         \
    X(rename)                                                                            \
    X(unlink)                                                                            \
    X(mkdir)                                                                             \
    X(readdir)                                                                           \
    X(stat)                                                                              \
    X(lock)                                                                              \
    X(alloc)                                                                             \
    X(mmap)                                                                              \
    X(memfd)                                                                             \
    X(socket)                                                                            \
    X(listen)                                                                            \
    X(connect)                                                                           \
    X(accept)                                                                            \
    X(send)                                                                              \
    X(recv)                                                                              \
    X(epoll)                                                                             \
    X(eventfd)                                                                           \
    X(thread)                                                                            \
    X(dup)                                                                               \
    X(random)

enum fault_kind {
#define X(name) FAULT_##name,
    FAULT_KINDS(X)
#undef X
        FAULT_KIND_COUNT
};

enum { FAULT_WHAT = 248, FAULT_SITES = 1 << 20 };

struct fault_board {
    uint64_t hits;         /* calls that failed */
    char what[FAULT_WHAT]; /* the object of the first that did */
    uint64_t counts[32];   /* calls, by kind */
    uint64_t n_sites;
};

/* When nothing is made to fail: the calls in their order, each with a sum over who called. */
struct fault_site {
    uint32_t kind, callers;
};
