/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/crash/upstream.h"
#include "base/mem.h"
#include "base/str.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CALLS = 1 << 14, REQUEST_MAX = 64 << 10 };

static struct {
    char line[CALLS][ID_CAP + 16]; /* BATCH/LINE of each request */
    uint32_t n;
    pthread_mutex_t lock;
    char url[64];
    int fd;
} up = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* "X-Request-Id: BATCH/LINE/FAILURES" */
static void note(const char *head)
{
    const char *id = strcasestr(head, "\r\nX-Request-Id: ");
    char batch[ID_CAP];
    unsigned line;

    if (!id || sscanf(id + 16, "%63[^/]/%u/", batch, &line) != 2)
        return;
    pthread_mutex_lock(&up.lock);
    CHECK(up.n < CALLS);
    snprintf(up.line[up.n++], sizeof up.line[0], "%s/%u", batch, line);
    pthread_mutex_unlock(&up.lock);
}

static void answer(int fd, const char *head)
{
    static const char models[] =
        "{\"object\":\"list\",\"data\":[{\"id\":\"sim-model\",\"object\":\"model\"}]}";
    static const char chat[] =
        "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"choices\":[],\"usage\":{"
        "\"prompt_tokens\":1,\"completion_tokens\":1,\"total_tokens\":2}}";
    const char *body = strncmp(head, "GET ", 4) == 0 ? models : chat;
    char text[512];
    int n = snprintf(text, sizeof text,
                     "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                     "Content-Length: %zu\r\n\r\n%s",
                     strlen(body), body);

    if (body == chat)
        note(head);
    if (send(fd, text, (size_t)n, MSG_NOSIGNAL) != n)
        close(fd); /* the engine is going: the next read ends this thread */
}

/* One request and what came behind it; false: the connection is over. */
static bool serve_one(int fd, char *in, size_t *have)
{
    char *end, *length;
    size_t whole = 0;

    while (!whole || *have < whole) {
        ssize_t n = recv(fd, in + *have, REQUEST_MAX - *have, 0);

        if (n <= 0)
            return false;
        *have += (size_t)n; /* a client sends no second request before the answer */
        in[*have] = '\0';
        if (whole)
            continue;
        end = strstr(in, "\r\n\r\n");
        if (!end)
            continue;
        length = strcasestr(in, "\r\nContent-Length: ");
        whole = (size_t)(end - in) + 4;
        if (length && length < end)
            whole += strtoul(length + 18, NULL, 10);
        CHECK(whole < REQUEST_MAX);
    }
    answer(fd, in);
    memmove(in, in + whole, *have - whole + 1);
    *have -= whole;
    return true;
}

static void *connection(void *arg)
{
    int fd = (int)(intptr_t)arg;
    char *in = mem_alloc(REQUEST_MAX + 1);
    size_t have = 0;

    while (serve_one(fd, in, &have))
        continue;
    mem_free(in);
    close(fd);
    return NULL;
}

static void *listener(void *arg)
{
    (void)arg;
    for (;;) {
        int fd = accept(up.fd, NULL, NULL);
        pthread_t thread;

        if (fd < 0)
            continue;
        CHECK(pthread_create(&thread, NULL, connection, (void *)(intptr_t)fd) == 0);
        pthread_detach(thread);
    }
    return NULL;
}

const char *upstream_start(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof at;
    pthread_t thread;

    up.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(up.fd >= 0 && bind(up.fd, (struct sockaddr *)&at, n) == 0 &&
          listen(up.fd, 64) == 0 && getsockname(up.fd, (struct sockaddr *)&at, &n) == 0);
    snprintf(up.url, sizeof up.url, "http://127.0.0.1:%u/v1", ntohs(at.sin_port));
    CHECK(pthread_create(&thread, NULL, listener, NULL) == 0);
    pthread_detach(thread);
    return up.url;
}

uint32_t upstream_calls(const struct id *batch, uint32_t *ret_twice)
{
    size_t n = strlen(batch->z);
    uint32_t calls = 0;

    *ret_twice = 0;
    pthread_mutex_lock(&up.lock);
    for (uint32_t i = 0; i < up.n; i++) {
        if (strncmp(up.line[i], batch->z, n) != 0 || up.line[i][n] != '/')
            continue;
        calls++;
        for (uint32_t k = 0; k < i; k++)
            *ret_twice += strcmp(up.line[k], up.line[i]) == 0;
    }
    pthread_mutex_unlock(&up.lock);
    return calls;
}
