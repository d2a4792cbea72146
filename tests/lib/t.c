/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/t.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

struct test {
    const char *name;
    t_fn *fn;
    unsigned seconds;
};

static struct test tests[512];
static unsigned n_tests;
static char dir[256];
static const char *row;

void t_register(const char *name, t_fn *fn, unsigned seconds)
{
    if (n_tests == COUNTOF(tests))
        abort();
    tests[n_tests++] = (struct test){name, fn, seconds};
}

void t_row(const char *name)
{
    row = name;
}

const char *t_dir(void)
{
    return dir;
}

void t_fail(const char *file, int line, const char *fmt, ...)
{
    va_list ap;

    fprintf(stderr, "# %s:%d: ", file, line);
    if (row)
        fprintf(stderr, "[%s] ", row);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    exit(1);
}

void t_note(const char *fmt, ...)
{
    va_list ap;

    fputs("# ", stdout);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    fputc('\n', stdout);
    fflush(stdout);
}

void t_eq_int(const char *file, int line, const char *what, int64_t got, int64_t want)
{
    if (got != want)
        t_fail(file, line, "%s: got %lld, want %lld", what, (long long)got,
               (long long)want);
}

void t_eq_str(const char *file, int line, const char *what, struct str got,
              struct str want)
{
    if (!str_eq(got, want))
        t_fail(file, line, "%s: got \"%.*s\" (%zu), want \"%.*s\" (%zu)", what,
               STR_ARG(got), got.n, STR_ARG(want), want.n);
}

void t_expect_panic(const char *file, int line, t_fn *fn, const char *text)
{
    char said[1024];
    size_t n = 0;
    ssize_t got;
    int p[2], status;
    pid_t pid;

    if (pipe2(p, O_CLOEXEC) < 0)
        t_fail(file, line, "pipe: errno %d", errno);
    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        dup2(p[1], STDERR_FILENO);
        fn();
        _exit(0);
    }
    close(p[1]);
    while (n < sizeof said - 1 && (got = read(p[0], said + n, sizeof said - 1 - n)) > 0)
        n += (size_t)got;
    said[n] = '\0';
    close(p[0]);
    waitpid(pid, &status, 0);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT)
        t_fail(file, line, "did not panic; it said \"%s\"", said);
    if (!strstr(said, text))
        t_fail(file, line, "panicked with \"%s\", wanted \"%s\"", said, text);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *f)
{
    (void)st, (void)type, (void)f;
    return remove(path);
}

static void run_child(const struct test *t)
{
    setpgid(0, 0);
    alarm(t->seconds * (getenv("T_SLOW") ? 6 : 1));
    if (chdir(dir) < 0)
        t_fail(__FILE__, __LINE__, "chdir %s: errno %d", dir, errno);
    t->fn();
    fflush(NULL);
    exit(0); /* not _exit: LeakSanitizer reports at exit */
}

static bool run(const struct test *t)
{
    const char *tmp = getenv("TMPDIR");
    int status;
    pid_t pid;

    snprintf(dir, sizeof dir, "%s/batchd-test-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(dir))
        abort();
    fflush(NULL);
    pid = fork();
    if (pid < 0)
        abort();
    if (pid == 0)
        run_child(t);
    setpgid(pid, pid);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    kill(-pid, SIGKILL); /* strays; its own group, nobody else's */
    nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    if (WIFSIGNALED(status))
        fprintf(stderr, "# %s: ended by signal %d%s\n", t->name, WTERMSIG(status),
                WTERMSIG(status) == SIGALRM ? " (time limit)" : "");
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

int main(int argc, char **argv)
{
    unsigned failed = 0, ran = 0;

    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc < 2)
        printf("1..%u\n", n_tests);
    for (unsigned i = 0; i < n_tests; i++) {
        bool ok;

        if (argc > 1 && strcmp(argv[1], tests[i].name) != 0)
            continue;
        ok = run(&tests[i]);
        ran++;
        failed += !ok;
        printf("%s %u - %s\n", ok ? "ok" : "not ok", ran, tests[i].name);
    }
    if (ran == 0)
        printf("1..0 # no such test\n");
    return failed != 0 || ran == 0;
}
