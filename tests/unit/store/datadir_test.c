/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fsio.h"
#include "base/mem.h"
#include "store/datadir.h"
#include "tests/lib/t.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct datadir_opts make = {.create = true, .reserve_bytes = 1 << 20};
static const struct datadir_opts use = {.create = false, .reserve_bytes = 1 << 20};

static void put(const char *path, const char *text)
{
    int fd = -1;

    EQ_RC(fs_open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600, &fd, NULL), RC_OK);
    EQ_RC(fs_write(fd, text, strlen(text), path, NULL), RC_OK);
    fs_close(&fd);
}

static bool has(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0;
}

static int64_t blocks(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 ? (int64_t)st.st_blocks * 512 : -1;
}

static struct datadir *open_ok(const struct datadir_opts *o)
{
    struct datadir *d = NULL;
    struct err e = {{0}};

    if (datadir_open("data", o, &d, &e) != RC_OK)
        FAIL("%s", e.text);
    return d;
}

static void close_ok(struct datadir *d, bool clean)
{
    EQ_RC(datadir_close(d, clean, NULL), RC_OK);
}

TEST(a_new_directory_has_its_parts_and_is_private)
{
    static const char *const dirs[] = {"data", "data/files", "data/tmp", "data/spool"};
    struct datadir *d = open_ok(&make);
    struct stat st;
    char *text = NULL;
    size_t n;

    for (size_t i = 0; i < COUNTOF(dirs); i++) {
        t_row(dirs[i]);
        EQ_INT(stat(dirs[i], &st), 0);
        EQ_INT(st.st_mode, S_IFDIR | 0700);
    }
    EQ_RC(fs_slurp("data/FORMAT", 100, &text, &n, NULL), RC_OK);
    EQ_Z(text, "batchd data 1\n");
    EQ_Z(datadir_path(d), "data");
    EQ_Z(datadir_ledger(d), "data/ledger.db");
    EQ_Z(datadir_spool(d), "data/spool");
    OK(datadir_was_clean(d));
    mem_free(text);
    close_ok(d, true);
}

TEST(without_create_nothing_is_made)
{
    struct datadir *d = NULL;
    struct err e;

    EQ_RC(datadir_open("data", &use, &d, &e), RC_NOTFOUND);
    OK(!has("data"));
    EQ_INT(mkdir("data", 0700), 0);
    EQ_RC(datadir_open("data", &use, &d, &e), RC_CORRUPT);
    OK(!has("data/FORMAT"));
    EQ_RC(datadir_open("no/such/parent", &make, &d, &e), RC_NOTFOUND);
    put("plain", "x");
    EQ_RC(datadir_open("plain", &make, &d, &e), RC_INVALID);
}

TEST(a_directory_of_someone_elses_files_is_left_alone)
{
    struct datadir *d = NULL;
    struct err e;

    EQ_INT(mkdir("data", 0755), 0);
    put("data/thesis.tex", "x");
    EQ_RC(datadir_open("data", &make, &d, &e), RC_CORRUPT);
    OK(strstr(e.text, "thesis.tex"));
    OK(!has("data/FORMAT") && !has("data/LOCK") && !has("data/files"));
}

TEST(a_start_that_was_interrupted_before_FORMAT_goes_on)
{
    EQ_INT(mkdir("data", 0700), 0);
    EQ_INT(mkdir("data/files", 0700), 0);
    put("data/FORMAT.tmp", "batch");
    close_ok(open_ok(&make), false);
    OK(has("data/spool"));
}

TEST(only_a_clean_close_is_remembered_and_only_once)
{
    static const struct {
        bool clean;
        bool want_next;
    } rows[] = {{true, true}, {false, false}, {true, true}, {true, true}, {false, false}};
    bool want = true;

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct datadir *d = open_ok(&make);

        EQ_INT(datadir_was_clean(d), want);
        OK(!has("data/CLEAN")); /* a crash from here on must show */
        close_ok(d, rows[i].clean);
        want = rows[i].want_next;
    }
    close_ok(NULL, true);
}

TEST(the_time_that_was_noted_is_there_for_the_next_and_damage_tells_nothing)
{
    static const char *const bad[] = {"",     "1700000000", "1700000000 00000000\n",
                                      "-1 0", "junk\n",     "1700000000 7a9e7b1d"};
    struct datadir *d = open_ok(&make);
    struct err e;

    EQ_INT(datadir_clock(d), 0);
    EQ_RC(datadir_note_clock(d, 1700000000, &e), RC_OK);
    EQ_INT(datadir_clock(d), 1700000000);
    close_ok(d, false);
    d = open_ok(&make);
    EQ_INT(datadir_clock(d), 1700000000);
    EQ_RC(datadir_note_clock(d, 1700000601, &e), RC_OK);
    close_ok(d, true);
    d = open_ok(&make);
    EQ_INT(datadir_clock(d), 1700000601);
    for (size_t i = 0; i < COUNTOF(bad); i++) {
        close_ok(d, true);
        put("data/clock", bad[i]);
        d = open_ok(&make);
        EQ_INT(datadir_clock(d), 0);
    }
    close_ok(d, true);
}

TEST(two_processes_cannot_share_a_directory)
{
    struct datadir *d = open_ok(&make);
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        struct datadir *other = NULL;
        struct err e;
        enum rc rc = datadir_open("data", &make, &other, &e);

        _exit(rc == RC_CONFLICT && strstr(e.text, "in use") ? 0 : 1);
    }
    EQ_INT(waitpid(pid, &status, 0), pid);
    EQ_INT(status, 0);
    close_ok(d, false);
    close_ok(open_ok(&make), true);
}

TEST(a_newer_or_unreadable_format_is_refused_in_words_that_help)
{
    static const struct {
        const char *text, *said[3];
    } rows[] = {
        {"batchd data 2\n", {"format 2", "up to 1", "newer batchd"}},
        {"batchd data 999\n", {"format 999", "up to 1", "newer batchd"}},
        {"batchd data 0\n", {"does not tell", "FORMAT", "backup"}},
        {"batchd data \n", {"does not tell", "FORMAT", "backup"}},
        {"batchd data -1\n", {"does not tell", "FORMAT", "backup"}},
        {"something else\n", {"does not tell", "FORMAT", "backup"}},
        {"", {"does not tell", "FORMAT", "backup"}},
    };

    close_ok(open_ok(&make), true);
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct datadir *d = NULL;
        struct err e = {{0}};

        t_row(rows[i].text);
        put("data/FORMAT", rows[i].text);
        EQ_RC(datadir_open("data", &make, &d, &e), RC_CORRUPT);
        for (size_t k = 0; k < 3; k++)
            if (!strstr(e.text, rows[i].said[k]))
                FAIL("'%s' does not say '%s'", e.text, rows[i].said[k]);
        OK(has("data/CLEAN")); /* a refused start leaves no trace */
    }
    put("data/FORMAT", "batchd data 1\n");
    close_ok(open_ok(&make), true);
}

TEST(the_reserve_holds_blocks_gives_them_back_and_takes_them_again)
{
    struct datadir_opts less = {.create = true, .reserve_bytes = 64 << 10},
                        none = {true, 0};
    struct datadir *d = open_ok(&make);

    OK(blocks("data/reserve") >= 1 << 20);
    EQ_RC(datadir_release_reserve(d, NULL), RC_OK);
    EQ_INT(blocks("data/reserve"), 0);
    EQ_RC(datadir_release_reserve(d, NULL), RC_OK);
    EQ_RC(datadir_restore_reserve(d, NULL), RC_OK);
    OK(blocks("data/reserve") >= 1 << 20);
    EQ_INT(truncate("data/reserve", 0), 0); /* a copy may have made holes of it */
    EQ_INT(truncate("data/reserve", 1 << 20), 0);
    EQ_RC(datadir_restore_reserve(d, NULL), RC_OK);
    OK(blocks("data/reserve") >= 1 << 20);
    close_ok(d, true);

    d = open_ok(&less);
    OK(blocks("data/reserve") >= 64 << 10 && blocks("data/reserve") < 1 << 20);
    close_ok(d, true);
    d = open_ok(&none);
    OK(!has("data/reserve"));
    EQ_RC(datadir_release_reserve(d, NULL), RC_OK);
    close_ok(d, true);
}

TEST(a_path_that_is_too_long_is_said_to_be)
{
    static char name[FS_PATH_CAP];
    struct datadir *d = NULL;
    struct err e;

    memset(name, 'x', sizeof name - 2);
    EQ_RC(datadir_open(name, &make, &d, &e), RC_LIMIT);
}

TEST(a_directory_with_keys_alone_becomes_a_data_directory)
{
    struct err e;

    EQ_RC(datadir_prepare("data", false, &e), RC_NOTFOUND);
    EQ_RC(datadir_prepare("data", true, &e), RC_OK);
    put("data/keys", "x");
    put("data/keys.lock", "");
    put("data/keys.tmp", "");
    EQ_RC(datadir_prepare("data", false, &e), RC_OK);
    close_ok(open_ok(&make), true);
    EQ_RC(datadir_prepare("data", false, &e), RC_OK);
    put("data/FORMAT", "batchd data 999\n");
    EQ_RC(datadir_prepare("data", true, &e), RC_CORRUPT);
    EQ_INT(mkdir("home", 0755), 0);
    put("home/letter.txt", "");
    EQ_RC(datadir_prepare("home", true, &e), RC_CORRUPT);
    OK(strstr(e.text, "letter.txt") != NULL);
}

TEST(keys_may_be_put_beside_a_process_that_uses_the_directory)
{
    struct datadir *d = open_ok(&make);

    EQ_RC(datadir_prepare("data", true, NULL), RC_OK);
    close_ok(d, true);
}
