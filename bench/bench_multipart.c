/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_multipart: how fast a form's file goes through the parser, in pieces as they come
 * from a socket.  Prints GB/s for several kinds of content.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "http/multipart.h"

#include <stdio.h>
#include <stdlib.h>

enum { PIECE = 32 << 10, FILE_BYTES = 64 << 20, ROUNDS = 8 };

static uint64_t passed;

static enum rc begin(void *ctx, const struct multipart_part *part)
{
    (void)ctx, (void)part;
    return RC_OK;
}

static enum rc data(void *ctx, struct str piece)
{
    (void)ctx;
    passed += piece.n;
    return RC_OK;
}

static enum rc end(void *ctx)
{
    (void)ctx;
    return RC_OK;
}

static void feed(struct multipart *m, struct str s)
{
    while (s.n) {
        struct str piece = {s.p, s.n < PIECE ? s.n : PIECE};

        if (multipart_feed(m, piece) != RC_OK)
            PANIC("the form was refused");
        s.p += piece.n, s.n -= piece.n;
    }
}

static void measure(const char *name, const char *line)
{
    static const struct multipart_events ev = {NULL, begin, data, end};
    size_t n = strlen(line);
    char *file = mem_try(FILE_BYTES);
    usec_t best = USEC_INFINITY;

    if (!file)
        PANIC("no memory for the file");
    for (size_t i = 0; i < FILE_BYTES; i++)
        file[i] = line[i % n];
    for (int i = 0; i < ROUNDS; i++) {
        struct multipart *m;
        usec_t start = clock_mono(), took;

        if (multipart_new(STR("multipart/form-data; boundary="
                              "------------------------d74496d66958873e"),
                          &ev, &m, NULL) != RC_OK)
            PANIC("multipart_new");
        feed(
            m,
            STR("--------------------------d74496d66958873e\r\n"
                "Content-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n"));
        feed(m, (struct str){file, FILE_BYTES});
        feed(m, STR("\r\n--------------------------d74496d66958873e--\r\n"));
        if (multipart_finish(m) != RC_OK)
            PANIC("the form is not whole");
        IGNORE(multipart_free(m)); /* always NULL */
        took = clock_mono() - start;
        best = took < best ? took : best;
    }
    printf("%-24s %6.2f GB/s\n", name, (double)FILE_BYTES / (double)best / 1e3);
    mem_free(file);
}

int main(void)
{
    measure("JSON lines",
            "{\"custom_id\":\"request-1\",\"method\":\"POST\",\"url\":\"/v1/chat/"
            "completions\",\"body\":{\"model\":\"m\",\"messages\":[{\"role\":\"user\","
            "\"content\":\"What is the capital of France?\"}]}}\n");
    measure("JSON lines, CRLF",
            "{\"custom_id\":\"request-1\",\"method\":\"POST\",\"url\":\"/v1/chat/"
            "completions\",\"body\":{\"model\":\"m\"}}\r\n");
    measure("only CR", "\r");
    measure("only CRLF", "\r\n");
    measure("only dashes", "-");
    measure("nearly the delimiter", "\r\n--------------------------d74496d66958873f");
    return passed == 0;
}
