/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disk: the directory with indexes and results logs, in memory (replaces base/fsio.c): what
 * the process reads (the page cache) and what a power cut would leave lie apart.
 *
 *   write            in the cache; a cut keeps all of it, none, or a part
 *   sync             on disk; one that fails leaves the cache as it is and the disk as it was,
 *                    and what was not written then never is, unless written again
 *   create, rename,  in the cache; a cut keeps the first few of those that no sync of the
 *   unlink           directory came after
 */
#pragma once

#include "base/base.h"

void disk_reset(void);
void disk_cut(void);       /* the power went; without it the cache survives the process */
void disk_life_over(void); /* the descriptors of the process are closed */

unsigned disk_open_files(void);
unsigned disk_files(void);       /* in the directory */
const char *disk_any_file(void); /* its name, or NULL */

/* Are the file and its first `n` bytes, as they are read, on disk? */
bool disk_durable(const char *name, uint64_t n);

/* One byte of a file of that name's beginning is not what was written, and its CRC may tell:
 * somewhere behind `from`.  false: there is none. */
bool disk_rot(const char *prefix, uint64_t from);
