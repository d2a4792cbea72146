/* SPDX-License-Identifier: Apache-2.0 */
#include "api/count.h"
#include "base/mem.h"

#include <stdatomic.h>

/* The statuses that this room and the HTTP server answer with; anything else would be
 * counted as 0, which is to be seen in the metrics, not lost. */
static const int statuses[] = {200, 206, 304, 400, 401, 403, 404, 405, 408, 409,
                               411, 413, 414, 415, 416, 429, 431, 500, 503, 0};

struct counts {
    size_t n_routes;
    atomic_uint_least64_t uploads, upload_bytes;
    atomic_uint_least64_t answers[][COUNTOF(statuses)]; /* n_routes + 1 */
};

struct counts *counts_new(size_t n_routes)
{
    struct counts *c =
        mem_alloc(sizeof *c + (n_routes + 1) * sizeof(c->answers[0])); /* zeroed */

    c->n_routes = n_routes;
    return c;
}

struct counts *counts_free(struct counts *c)
{
    mem_free(c);
    return NULL;
}

void count_answer(struct counts *c, size_t route, int status)
{
    size_t i = 0;

    CHECK(route <= c->n_routes);
    while (i < COUNTOF(statuses) - 1 && statuses[i] != status)
        i++;
    atomic_fetch_add_explicit(&c->answers[route][i], 1, memory_order_relaxed);
}

void count_upload(struct counts *c, uint64_t bytes)
{
    atomic_fetch_add_explicit(&c->uploads, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&c->upload_bytes, bytes, memory_order_relaxed);
}

static uint64_t load(const atomic_uint_least64_t *n)
{
    return atomic_load_explicit(n, memory_order_relaxed);
}

static void put_total(struct buf *out, const char *name, const char *help, uint64_t n)
{
    (void)buf_fmt(out, "# HELP %s %s\n# TYPE %s counter\n%s %llu\n", name, help, name,
                  name, (unsigned long long)n);
}

void counts_put(const struct counts *c, struct count_route (*label)(size_t route),
                struct buf *out)
{
    static const char name[] = "batchd_http_requests_total";

    (void)buf_fmt(out, "# HELP %s Requests answered.\n# TYPE %s counter\n", name, name);
    for (size_t r = 0; r <= c->n_routes; r++) {
        struct count_route l = label(r);

        for (size_t i = 0; i < COUNTOF(statuses); i++) {
            uint64_t n = load(&c->answers[r][i]);

            if (n)
                (void)buf_fmt(out, "%s{method=\"%s\",route=\"%s\",code=\"%d\"} %llu\n",
                              name, l.method, l.pattern, statuses[i],
                              (unsigned long long)n);
        }
    }
    put_total(out, "batchd_uploaded_files_total", "Files stored by uploads.",
              load(&c->uploads));
    put_total(out, "batchd_uploaded_bytes_total", "Bytes of the files stored by uploads.",
              load(&c->upload_bytes));
}
