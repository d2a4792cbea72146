/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ledger and the store in memory take the same random walks through all changes:
 * after each step they answer and show the same, also when the ledger was closed and
 * opened in between.
 */
#include "tests/lib/store_walk.h"

#include <stdio.h>

static struct store *open_ok(void)
{
    struct store_sqlite_opts o = {.path = "ledger.db"};
    struct store *s = NULL;
    struct err e = {{0}};

    if (store_sqlite_open(&o, &s, &e) != RC_OK)
        FAIL("%s", e.text);
    return s;
}

TEST_SLOW(the_ledger_does_what_the_store_in_memory_does, 120)
{
    static struct walk w;
    static const char *const ends[] = {"batch.completed",
                                       "batch.cancelled",
                                       "batch.expired",
                                       "batch.failed",
                                       "upload_00000000000000",
                                       " completed a file file-00000",
                                       "\"status\":\"finalizing\"",
                                       "\"status\":\"in_progress\""};
    unsigned did[WALK_OPS] = {0}, ended[COUNTOF(ends)] = {0};

    for (uint64_t seed = 1; seed <= 6; seed++) {
        struct store *s;

        IGNORE(remove("ledger.db") != 0); /* it may not be there */
        s = open_ok();
        walk_begin(&w, seed, 300);
        for (unsigned i = 0; i < w.n; i++) {
            char row[64];

            EQ_RC(str_fmt(row, sizeof row, "seed %u step %u operation %d", (unsigned)seed,
                          i, (int)w.steps[i].op),
                  RC_OK);
            t_row(row);
            EQ_RC(walk_step(s, &w.steps[i]), w.rc[i]);
            EQ_INT(walk_taken(s, &w, i + 1, false), i + 1);
            did[w.steps[i].op] += w.rc[i] == RC_OK;
            if (i % 50 == 49) {
                store_close(s);
                s = open_ok();
                EQ_INT(walk_taken(s, &w, i + 1, false), i + 1);
            }
        }
        t_row(NULL);
        for (size_t i = 0; i < COUNTOF(ends); i++)
            ended[i] += strstr(w.seen[w.n], ends[i]) != NULL;
        store_close(s);
        walk_end(&w);
    }
    for (unsigned i = 0; i < WALK_OPS; i++)
        OK(did[i] > 3); /* the walks go everywhere */
    for (size_t i = 0; i < COUNTOF(ends); i++)
        if (!ended[i])
            FAIL("no walk came to: %s", ends[i]);
}
