/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_proc: a simulator in a child process, and raw sockets to talk to it.  A wait that
 * takes too long fails the test.
 */
#pragma once

#include "base/mem.h"
#include "base/str.h"
#include "sim/sim.h"
#include "tests/lib/t.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

struct sp {
    pid_t pid;
    int out, err; /* what it prints */
    unsigned port;
};

/* How the bytes of a connection ended. */
enum sp_end { SP_EOF, SP_RESET, SP_SILENCE /* nothing more came in time */ };

struct sp_answer {
    unsigned status;
    char *text; /* head and body */
    size_t n, head;
    struct str body;
};

static inline size_t sp_read_line(int fd, char *dst, size_t cap)
{
    size_t n = 0;

    while (n < cap - 1 && read(fd, dst + n, 1) == 1 && dst[n] != '\n')
        n++;
    dst[n] = '\0';
    return n;
}

/* The port in the next line of those that say where it listens; 0: it is not one. */
static inline unsigned sp_port(int out)
{
    char line[256];
    unsigned port;

    sp_read_line(out, line, sizeof line);
    return sscanf(line, "batchd sim listening on http://127.0.0.1:%u/v1", &port) == 1
               ? port
               : 0;
}

/* argv: the flags, NULL at the end */
static inline struct sp sp_up(const char *const *flags)
{
    char *argv[64] = {(char[]){"sim"}};
    struct sp s;
    int out[2], err[2], argc = 1;

    for (; flags && flags[argc - 1]; argc++)
        argv[argc] = mem_dup(flags[argc - 1], strlen(flags[argc - 1]));
    OK(pipe2(out, O_CLOEXEC) == 0 && pipe2(err, O_CLOEXEC) == 0);
    fflush(NULL);
    s.pid = fork();
    if (s.pid == 0) {
        dup2(out[1], STDOUT_FILENO);
        dup2(err[1], STDERR_FILENO);
        close(out[0]), close(out[1]), close(err[0]), close(err[1]);
        argc = sim_main(argc, argv);
        for (int i = 1; argv[i]; i++)
            mem_free(argv[i]);
        exit(argc); /* LeakSanitizer reports at exit */
    }
    for (int i = 1; i < argc; i++)
        mem_free(argv[i]);
    close(out[1]), close(err[1]);
    s.out = out[0], s.err = err[0];
    s.port = sp_port(s.out);
    return s;
}

#define SP_UP(...) sp_up((const char *const[]){__VA_ARGS__, NULL})

/* Ends it; what it said on stderr goes to said (NULL: nowhere).  Its exit status. */
static inline int sp_wait(struct sp *s, char *said, size_t cap)
{
    char sink[4096];
    size_t n = 0;
    ssize_t got;
    int status;

    if (!said)
        said = sink, cap = sizeof sink;
    while ((got = read(s->err, said + n, cap - 1 - n)) > 0)
        n = n + (size_t)got == cap - 1 ? 0 : n + (size_t)got;
    said[n] = '\0';
    waitpid(s->pid, &status, 0);
    close(s->out), close(s->err);
    if (!WIFEXITED(status))
        FAIL("the simulator ended by signal %d: %s", WTERMSIG(status), said);
    if (WEXITSTATUS(status) != 0 && said == sink)
        t_note("it said: %s", said);
    return WEXITSTATUS(status);
}

static inline void sp_down(struct sp *s)
{
    kill(s->pid, SIGTERM);
    EQ_INT(sp_wait(s, NULL, 0), 0);
}

/* -1: refused */
static inline int sp_try(const struct sp *s)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)s->port)};
    struct timeval limit = {.tv_sec = 10};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    OK(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, (struct sockaddr *)&a, sizeof a) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static inline int sp_connect(const struct sp *s)
{
    int fd = sp_try(s);

    if (fd < 0)
        FAIL("cannot connect: errno %d", errno);
    return fd;
}

static inline void sp_send(int fd, struct str text)
{
    while (text.n) {
        ssize_t n = send(fd, text.p, text.n, MSG_NOSIGNAL);

        if (n <= 0)
            FAIL("cannot send: errno %d", errno);
        text.p += n, text.n -= (size_t)n;
    }
}

/* more: header lines, each with its CRLF */
static inline void sp_post(int fd, const char *path, struct str body, const char *more)
{
    char *text = mem_alloc(body.n + 1024);
    int n = snprintf(text, 1024,
                     "POST %s HTTP/1.1\r\nHost: a\r\n%sContent-Length: %zu\r\n\r\n", path,
                     more, body.n);

    memcpy(text + n, body.p, body.n);
    sp_send(fd, (struct str){text, (size_t)n + body.n});
    mem_free(text);
}

static inline void sp_get(int fd, const char *path)
{
    char text[512];

    EQ_RC(str_fmt(text, sizeof text, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", path), RC_OK);
    sp_send(fd, str_of(text));
}

/* Everything until the connection ends, or is silent for wait_ms.  mem_free'd. */
static inline char *sp_read_all(int fd, int wait_ms, size_t *ret_n, enum sp_end *ret_end)
{
    size_t n = 0, cap = 4096;
    char *p = mem_try(cap + 1);

    for (;;) {
        struct pollfd pf = {fd, POLLIN, 0};
        ssize_t got;

        if (poll(&pf, 1, wait_ms) == 0) {
            *ret_end = SP_SILENCE;
            break;
        }
        got = recv(fd, p + n, cap - n, 0);
        if (got <= 0) {
            *ret_end = got == 0 ? SP_EOF : SP_RESET;
            break;
        }
        n += (size_t)got;
        if (n == cap) {
            p = mem_resize(p, cap * 2 + 1);
            OK(p);
            cap *= 2;
        }
    }
    p[n] = '\0';
    *ret_n = n;
    return p;
}

/* The value of the first field of that name (lower case); .p NULL: none. */
static inline struct str sp_field(const struct sp_answer *a, const char *name)
{
    struct str head = {a->text, a->head}, want = str_of(name);

    while (head.n) {
        struct str line = str_cut(&head, '\n');
        struct str key = str_cut(&line, ':');

        if (str_eq(key, want))
            return str_trim(line);
    }
    return (struct str){NULL, 0};
}

static inline bool sp_read_some(int fd, struct sp_answer *a, size_t *cap)
{
    ssize_t got;

    if (a->n == *cap) {
        *cap *= 2;
        a->text = mem_resize(a->text, *cap + 1);
        OK(a->text);
    }
    /* Never beyond this answer: the next one may be behind it. */
    got = recv(fd, a->text + a->n, a->head ? *cap - a->n : 1, 0);
    if (got <= 0)
        return false;
    a->n += (size_t)got;
    a->text[a->n] = '\0';
    return true;
}

/* One answer with Content-Length.  status 0: none came. */
static inline struct sp_answer sp_answer(int fd)
{
    struct sp_answer a = {.status = 0};
    size_t cap = 4096;
    uint64_t length = 0;

    a.text = mem_try(cap + 1);
    while (!(a.n > 4 && memcmp(a.text + a.n - 4, "\r\n\r\n", 4) == 0))
        if (!sp_read_some(fd, &a, &cap))
            return a;
    a.head = a.n;
    if (sp_field(&a, "content-length").p)
        EQ_RC(str_u64(sp_field(&a, "content-length"), &length), RC_OK);
    a.text = mem_resize(a.text, a.head + length + 1);
    OK(a.text);
    cap = a.head + length;
    while (a.n < cap)
        if (!sp_read_some(fd, &a, &cap))
            return a;
    a.text[a.n] = '\0';
    a.body = (struct str){a.text + a.head, length};
    if (sscanf(a.text, "HTTP/1.%*u %u ", &a.status) != 1)
        FAIL("not an answer: %s", a.text);
    return a;
}

static inline void sp_answer_done(struct sp_answer *a)
{
    mem_free(a->text);
    a->text = NULL;
}

/* GET on a connection of its own. */
static inline struct sp_answer sp_ask(const struct sp *s, const char *path)
{
    int fd = sp_connect(s);
    struct sp_answer a;

    sp_get(fd, path);
    a = sp_answer(fd);
    close(fd);
    return a;
}

/* The number behind `"name":` or `name ` in the answer of path; -1: not there. */
static inline long sp_number(const struct sp *s, const char *path, const char *name)
{
    struct sp_answer a = sp_ask(s, path);
    const char *at = strstr(a.text, name);
    long n = at ? strtol(at + strlen(name), NULL, 10) : -1;

    sp_answer_done(&a);
    return n;
}

/* Waits until the number is `want`. */
static inline void sp_until(const struct sp *s, const char *path, const char *name,
                            long want)
{
    long got = -2;

    for (int i = 0; i < 500 && got != want; i++) {
        got = sp_number(s, path, name);
        if (got != want)
            usleep(10000);
    }
    if (got != want)
        FAIL("%s of %s is %ld, not %ld", name, path, got, want);
}
