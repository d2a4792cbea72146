/* SPDX-License-Identifier: Apache-2.0 */
/* The files that a command line names: inputs and outputs. */
#include "app/input.h"
#include "app/outfile.h"
#include "base/mem.h"
#include "tests/lib/t.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static struct err e;

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");

    OK(f != NULL);
    OK(fputs(text, f) >= 0);
    OK(fclose(f) == 0);
}

static void holds(const char *path, const char *want)
{
    char *text;
    size_t n;

    EQ_RC(fs_slurp(path, 1 << 20, &text, &n, NULL), RC_OK);
    EQ_Z(text, want);
    mem_free(text);
}

static bool there(const char *path)
{
    return access(path, F_OK) == 0;
}

TEST(an_output_appears_whole_at_its_commit)
{
    struct outfile o;

    write_file("out", "old");
    EQ_RC(outfile_open(&o, "out", &e), RC_OK);
    EQ_RC(outfile_write(&o, "new", 3, &e), RC_OK);
    holds("out", "old");
    EQ_RC(outfile_commit(&o, &e), RC_OK);
    holds("out", "new");
    OK(!there("out.part"));
    outfile_abort(&o);
    holds("out", "new");
}

TEST(an_aborted_output_leaves_nothing)
{
    struct outfile o;

    EQ_RC(outfile_open(&o, "out", &e), RC_OK);
    EQ_RC(outfile_write(&o, "new", 3, &e), RC_OK);
    outfile_abort(&o);
    outfile_abort(&o);
    OK(!there("out") && !there("out.part"));
}

TEST(an_output_that_cannot_be_a_file_is_refused_at_once)
{
    OK(mkdir("dir", 0700) == 0);
    OK(mkfifo("pipe", 0600) == 0);
    EQ_RC(outfile_check("dir", &e), RC_INVALID);
    EQ_Z(e.text, "'dir' is a directory; a file is needed");
    EQ_RC(outfile_check("pipe", &e), RC_INVALID);
    EQ_Z(e.text, "'pipe' is not a regular file");
    EQ_RC(outfile_check("-", &e), RC_INVALID);
    EQ_RC(outfile_check("/dev/null", &e), RC_INVALID);
    EQ_RC(outfile_check("new", &e), RC_OK);
}

TEST(a_link_is_written_through_not_replaced)
{
    struct outfile o;
    struct stat st;

    write_file("real", "old");
    OK(symlink("real", "link") == 0);
    EQ_RC(outfile_open(&o, "link", &e), RC_OK);
    EQ_RC(outfile_write(&o, "new", 3, &e), RC_OK);
    EQ_RC(outfile_commit(&o, &e), RC_OK);
    holds("real", "new");
    OK(lstat("link", &st) == 0 && S_ISLNK(st.st_mode));
}

TEST(placing_moves_no_bytes_on_one_file_system)
{
    struct stat a, b;
    mode_t mask = umask(027);
    int fd;

    write_file("blob", "result\n");
    OK(chmod("blob", 0600) == 0);
    write_file("out", "old");
    fd = open("blob", O_RDONLY | O_CLOEXEC);
    EQ_RC(outfile_place(fd, "out", &e), RC_OK);
    EQ_RC(outfile_place(fd, "out", &e), RC_OK); /* again, as after a crash */
    holds("out", "result\n");
    OK(stat("blob", &a) == 0 && stat("out", &b) == 0);
    EQ_INT(a.st_ino, b.st_ino);
    EQ_INT(b.st_mode & 0777, 0640);
    OK(!there("out.part"));
    close(fd);
    umask(mask);
}

TEST(placing_copies_where_a_link_cannot_reach)
{
    char path[64];
    struct stat a, b;
    int fd;

    if (stat("/dev/shm", &a) < 0 || stat(".", &b) < 0 || a.st_dev == b.st_dev) {
        t_note("no second file system to test with");
        return;
    }
    snprintf(path, sizeof path, "/dev/shm/batchd-test-%d", (int)getpid());
    write_file("blob", "result\n");
    fd = open("blob", O_RDONLY | O_CLOEXEC);
    EQ_RC(outfile_place(fd, path, &e), RC_OK);
    holds(path, "result\n");
    OK(unlink(path) == 0);
    close(fd);
}

TEST(an_old_error_file_is_deleted_and_a_missing_one_is_fine)
{
    write_file("errors", "old");
    EQ_RC(outfile_remove_stale("errors", &e), RC_OK);
    OK(!there("errors"));
    EQ_RC(outfile_remove_stale("errors", &e), RC_OK);
}

TEST(two_names_of_one_file_are_known_as_such)
{
    static const struct {
        const char *a, *b;
        bool want;
    } cases[] = {
        {"x", "x", true},       {"x", "./x", true},      {"x", "hard", true},
        {"x", "soft", true},    {"x", "y", false},       {"x", "new", false},
        {"new", "new", true},   {"new", "./new", true},  {"new", "d/../new", true},
        {"new", "new2", false}, {"new", "d/new", false}, {"no/x", "no/x", true},
    };

    write_file("x", "1");
    write_file("y", "2");
    OK(link("x", "hard") == 0 && symlink("x", "soft") == 0 && mkdir("d", 0700) == 0);
    for (size_t i = 0; i < COUNTOF(cases); i++) {
        t_row(cases[i].b);
        EQ_INT(outfile_same(cases[i].a, cases[i].b), cases[i].want);
    }
}

TEST(the_directory_of_a_path_is_found)
{
    static const char *const cases[][2] = {
        {"x", "."}, {"./x", "."}, {"a/b", "a"}, {"/x", "/"}, {"/a/b/c", "/a/b"}};
    char dir[FS_PATH_CAP];

    for (size_t i = 0; i < COUNTOF(cases); i++) {
        EQ_RC(outfile_dir(cases[i][0], dir, &e), RC_OK);
        EQ_Z(dir, cases[i][1]);
    }
}

/* --- Inputs ---------------------------------------------------------------------------
 */

TEST(an_input_is_read_by_offset_and_knows_its_size)
{
    struct input in;
    char text[16] = "";
    size_t n;

    write_file("in", "0123456789");
    EQ_RC(input_open(&in, "in", &e), RC_OK);
    EQ_INT(in.size, 10);
    OK(!in.spooled);
    EQ_RC(input_read(&in, text, 4, 3, &n), RC_OK);
    EQ_STR(((struct str){text, n}), STR("3456"));
    input_close(&in);
    input_close(&in);
}

TEST(a_pipe_is_copied_first)
{
    struct input in;
    char text[16] = "";
    size_t n;
    int p[2];

    OK(pipe(p) == 0);
    OK(write(p[1], "hello", 5) == 5);
    close(p[1]);
    OK(dup2(p[0], STDIN_FILENO) == STDIN_FILENO);
    EQ_RC(input_open(&in, "-", &e), RC_OK);
    OK(in.spooled);
    EQ_Z(in.path, "stdin");
    EQ_INT(in.size, 5);
    EQ_RC(input_read(&in, text, sizeof text, 1, &n), RC_OK);
    EQ_STR(((struct str){text, n}), STR("ello"));
    input_close(&in);
}

TEST(what_is_no_file_is_refused)
{
    struct input in;

    EQ_RC(input_open(&in, "nothing", &e), RC_NOTFOUND);
    EQ_Z(e.text, "cannot open 'nothing': No such file or directory");
    EQ_RC(input_open(&in, ".", &e), RC_INVALID);
    EQ_Z(e.text, "'.' is a directory; a JSON Lines file is needed");
    EQ_INT(in.fd, -1);
}

TEST(the_endpoint_is_that_of_the_first_request)
{
    static const struct {
        const char *text, *flag;
        enum endpoint want; /* ENDPOINT_COUNT: refused */
    } cases[] = {
        {"{\"url\":\"/v1/embeddings\"}\n", NULL, ENDPOINT_EMBEDDINGS},
        {"\n  \n\xEF\xBB\xBF{}", NULL, ENDPOINT_COUNT},
        {"\n\r\n{\"url\":\"\\/v1\\/responses\"}", NULL, ENDPOINT_RESPONSES},
        {"{\"url\":\"/v1/nothing\"}", NULL, ENDPOINT_COUNT},
        {"{\"url\":7}", NULL, ENDPOINT_COUNT},
        {"not json\n{\"url\":\"/v1/embeddings\"}", NULL, ENDPOINT_COUNT},
        {"", NULL, ENDPOINT_COUNT},
        {"not json", "/v1/completions", ENDPOINT_COMPLETIONS},
        {"{\"url\":\"/v1/embeddings\"}\n", "/v1/x", ENDPOINT_COUNT},
    };

    for (size_t i = 0; i < COUNTOF(cases); i++) {
        struct input in;
        enum endpoint ep = ENDPOINT_COUNT;

        t_row(cases[i].text);
        write_file("in", cases[i].text);
        EQ_RC(input_open(&in, "in", &e), RC_OK);
        EQ_RC(input_choose_endpoint(&in, cases[i].flag, &ep, &e),
              cases[i].want == ENDPOINT_COUNT ? RC_INVALID : RC_OK);
        EQ_INT(ep, cases[i].want);
        input_close(&in);
    }
}

TEST(the_hash_is_of_the_content_only)
{
    struct input a, b, c;
    uint64_t ha, hb, hc;

    write_file("a", "same");
    write_file("b", "same");
    write_file("c", "sama");
    EQ_RC(input_open(&a, "a", &e), RC_OK);
    EQ_RC(input_open(&b, "b", &e), RC_OK);
    EQ_RC(input_open(&c, "c", &e), RC_OK);
    EQ_RC(input_hash(&a, &ha, &e), RC_OK);
    EQ_RC(input_hash(&b, &hb, &e), RC_OK);
    EQ_RC(input_hash(&c, &hc, &e), RC_OK);
    OK(ha == hb && ha != hc);
    input_close(&a);
    input_close(&b);
    input_close(&c);
}
