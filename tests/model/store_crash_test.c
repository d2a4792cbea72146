/* SPDX-License-Identifier: Apache-2.0 */
/* link: -Wl,--wrap=fsync,--wrap=rename */
/*
 * A walk through all changes of the ledger (tests/lib/store_walk.h) on a disk that
 * forgets (forgetful_vfs.h): what opens after a power cut shows every change that was
 * answered, and the one that was under way whole or not at all.
 */
#include "tests/lib/store_walk.h"
#include "tests/model/forgetful_vfs.h"

static struct walk w;
static unsigned answered, whole;
static bool under_way;

static struct store *open_ok(const char *path)
{
    struct store_sqlite_opts o = {.path = path};
    struct store *s = NULL;
    struct err e = {{0}};

    if (store_sqlite_open(&o, &s, &e) != RC_OK)
        FAIL("crash %u: %s", crashes, e.text);
    return s;
}

static void crash_and_check(void)
{
    struct store *s;

    for (int i = 0; i < FILES; i++)
        crash_file(i);
    s = open_ok("after.db"); /* this also checks every page */
    whole += walk_taken(s, &w, answered, under_way) > answered;
    store_close(s);
}

TEST_SLOW(after_a_power_cut_each_change_is_there_whole_or_not_at_all, 120)
{
    install_vfs();
    for (uint64_t seed = 1; seed <= 4; seed++) {
        struct store *s;

        x = seed * 0x9e3779b97f4a7c15u;
        every = 3;
        walk_begin(&w, seed, 150);
        for (int i = 0; i < FILES; i++) {
            IGNORE(remove(names[i]) != 0); /* it may not be there */
            forget(i);
        }
        s = open_ok("ledger.db");
        try_crash = crash_and_check;
        for (answered = 0; answered < w.n;) {
            under_way = true;
            EQ_RC(walk_step(s, &w.steps[answered]), w.rc[answered]);
            under_way = false;
            answered++;
            if (answered % 40 == 0) { /* an orderly stop */
                store_close(s);
                s = open_ok("ledger.db");
            }
        }
        store_close(s);
        try_crash = NULL;
        walk_end(&w);
    }
    t_note("%u crashes, %u changes that were under way came through", crashes, whole);
    OK(crashes > 200 && whole > 10);
}
