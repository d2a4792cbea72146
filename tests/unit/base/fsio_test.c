/* SPDX-License-Identifier: Apache-2.0 */
/* link: -Wl,--wrap=mem_try */
#include "base/fsio.h"
#include "base/mem.h"
#include "tests/lib/t.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static bool no_memory;

void *__wrap_mem_try(size_t n);
void *__real_mem_try(size_t n);

void *__wrap_mem_try(size_t n)
{
    return no_memory ? NULL : __real_mem_try(n);
}

TEST(replace_leaves_the_new_content_and_no_temporary)
{
    struct err e;
    size_t n;
    char *p;

    EQ_RC(fs_replace(".", "f", "one", 3, &e), RC_OK);
    EQ_RC(fs_replace(".", "f", "second", 6, &e), RC_OK);
    EQ_RC(fs_slurp("f", 100, &p, &n, &e), RC_OK);
    EQ_STR(((struct str){p, n}), STR("second"));
    mem_free(p);
    EQ_INT(access("f.tmp", F_OK), -1);
    EQ_RC(fs_slurp("f", 5, &p, &n, &e), RC_LIMIT);
}

TEST(a_file_that_no_memory_is_there_for_is_named)
{
    struct err e = {""};
    size_t n;
    char *p;

    EQ_RC(fs_replace(".", "f", "one", 3, &e), RC_OK);
    no_memory = true;
    EQ_RC(fs_slurp("f", 100, &p, &n, &e), RC_NOMEM);
    no_memory = false;
    EQ_Z(e.text, "no memory to read 'f'");
}

TEST(a_missing_file_is_not_found_and_named)
{
    struct err e;
    int fd;

    EQ_RC(fs_open("no/such", O_RDONLY, 0, &fd, &e), RC_NOTFOUND);
    OK(strstr(e.text, "'no/such'") && strstr(e.text, "No such file"));
    EQ_RC(fs_unlink("no-such", &e), RC_OK);
    EQ_RC(fs_open("x", O_RDONLY, 0, &fd, NULL), RC_NOTFOUND);
}

TEST(reads_are_whole_until_the_end)
{
    struct err e;
    char got[8];
    size_t n;
    int fd;

    EQ_RC(fs_open("f", O_RDWR | O_CREAT, 0600, &fd, &e), RC_OK);
    EQ_RC(fs_write(fd, "0123456789", 10, "f", &e), RC_OK);
    EQ_RC(fs_pwrite(fd, "ab", 2, 4, "f", &e), RC_OK);
    EQ_RC(fs_pread(fd, got, 8, 3, &n, "f", &e), RC_OK);
    EQ_STR(((struct str){got, n}), STR("3ab6789"));
    EQ_RC(fs_truncate(fd, 3, "f", &e), RC_OK);
    EQ_RC(fs_pread(fd, got, 8, 3, &n, "f", &e), RC_OK);
    EQ_INT(n, 0);
    EQ_RC(fs_close_checked(&fd, "f", &e), RC_OK);
    EQ_INT(fd, -1);
}

TEST(one_directory_has_one_owner)
{
    struct err e;
    int fd, status;
    pid_t pid;

    EQ_RC(fs_lock_dir(".", &fd, &e), RC_OK);
    pid = fork();
    if (pid == 0) {
        int other;

        _exit(fs_lock_dir(".", &other, &e) == RC_CONFLICT && strstr(e.text, "--data-dir")
                  ? 0
                  : 1);
    }
    OK(waitpid(pid, &status, 0) == pid && status == 0);
    fs_close(&fd);
    EQ_RC(fs_lock_dir(".", &fd, &e), RC_OK);
    fs_close(&fd);
    fs_close(&fd);
}

TEST(errors_of_the_system_have_their_codes)
{
    EQ_RC(rc_of_errno(ENOSPC), RC_NOSPACE);
    EQ_RC(rc_of_errno(EDQUOT), RC_NOSPACE);
    EQ_RC(rc_of_errno(ENOENT), RC_NOTFOUND);
    EQ_RC(rc_of_errno(EACCES), RC_DENIED);
    EQ_RC(rc_of_errno(EROFS), RC_DENIED);
    EQ_RC(rc_of_errno(ENOMEM), RC_NOMEM);
    EQ_RC(rc_of_errno(EMFILE), RC_NOMEM);
    EQ_RC(rc_of_errno(ENFILE), RC_NOMEM);
    EQ_RC(rc_of_errno(EIO), RC_IO);
}

TEST(a_path_too_long_is_an_error)
{
    char path[FS_PATH_CAP], name[FS_PATH_CAP];
    struct err e;

    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    EQ_RC(fs_join(path, "dir", name, &e), RC_LIMIT);
    EQ_RC(fs_join(path, "dir", "name", &e), RC_OK);
    EQ_Z(path, "dir/name");
}
