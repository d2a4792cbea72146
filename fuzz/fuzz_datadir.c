/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_datadir: the files by which a data directory tells what it is.  The first byte
 * says whether CLEAN is there; the rest is FORMAT.
 *
 * It opens exactly when a slow reading of FORMAT finds the format of this program, and is
 * refused in one sentence otherwise; it was left in order exactly when CLEAN was there,
 * and is not when it is opened again after a crash.
 */
/* reaches: src/store/datadir.c 26 */
#include "fuzz/lib/quiet.h"

#include "base/fsio.h"
#include "store/datadir.h"

#include <fcntl.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char *dir(void)
{
    static char path[64];
    struct datadir *d = NULL;
    struct datadir_opts o = {.create = true};

    if (path[0])
        return path;
    snprintf(path, sizeof path, "%s/fuzz-datadir-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    CHECK(mkdtemp(path));
    CHECK(datadir_open(path, &o, &d, NULL) == RC_OK);
    CHECK(datadir_was_clean(d));
    CHECK(datadir_close(d, true, NULL) == RC_OK);
    return path;
}

static void put(const char *name, const void *p, size_t n)
{
    char path[FS_PATH_CAP];
    int fd = -1;

    CHECK(fs_join(path, dir(), name, NULL) == RC_OK);
    CHECK(fs_open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600, &fd, NULL) == RC_OK);
    CHECK(fs_write(fd, p, n, path, NULL) == RC_OK);
    fs_close(&fd);
}

static void drop(const char *name)
{
    char path[FS_PATH_CAP];

    CHECK(fs_join(path, dir(), name, NULL) == RC_OK);
    IGNORE(unlink(path)); /* it may not be there */
}

/* "batchd data 1", leading zeros allowed, up to the end of its line. */
static bool is_ours(struct str text)
{
    static const char words[] = "batchd data ";
    size_t i = sizeof words - 1;

    if (text.n > 4096 || text.n <= i || memcmp(text.p, words, i) != 0)
        return false;
    while (i < text.n && text.p[i] == '0')
        i++;
    return i < text.n && text.p[i] == '1' && (i + 1 == text.n || text.p[i + 1] == '\n');
}

static bool open_it(struct str text, bool clean)
{
    struct datadir_opts o = {.create = false};
    struct datadir *d = NULL;
    struct err e = {""};
    enum rc rc = datadir_open(dir(), &o, &d, &e);

    if (rc != RC_OK) {
        CHECK(rc == RC_CORRUPT && !is_ours(text));
        CHECK(e.text[0] && !strchr(e.text, '\n'));
        return false;
    }
    CHECK(is_ours(text));
    CHECK(datadir_was_clean(d) == clean);
    CHECK(datadir_close(d, false, NULL) == RC_OK);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct str text = {(const char *)data + 1, n - 1};
    bool clean;

    if (n < 1)
        return 0;
    clean = data[0] & 1;
    put("FORMAT", text.p, text.n);
    if (clean)
        put("CLEAN", "clean\n", 6);
    else
        drop("CLEAN");
    if (open_it(text, clean))
        CHECK(open_it(text, false));
    return 0;
}
