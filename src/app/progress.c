/* SPDX-License-Identifier: Apache-2.0 */
#include "app/progress.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define REDRAW_EVERY (200 * USEC_PER_MS)
#define PLAIN_EVERY  (10 * USEC_PER_SEC)
#define SAMPLE_EVERY USEC_PER_SEC
/* A rate over less than this says nothing: the first answers come in bursts. */
#define RATE_NEEDS (800 * USEC_PER_MS)

/* Long answers take their time; silence for longer is worth a word. */
#define SILENCE (10 * USEC_PER_SEC)

enum { BAR_MIN = 10, BAR_MAX = 40 };

enum progress_mode progress_mode(bool quiet)
{
    if (quiet)
        return PROGRESS_QUIET;
    return isatty(STDERR_FILENO) ? PROGRESS_BAR : PROGRESS_PLAIN;
}

void progress_init(struct progress *p, enum progress_mode mode)
{
    *p = (struct progress){.mode = mode};
}

static uint32_t settled(const struct progress_view *v)
{
    return v->counts.completed + v->counts.failed;
}

/* --- Rate and forecast -------------------------------------------------------------- */

static const struct progress_sample *sample(const struct progress *p, size_t i)
{
    return &p->samples[(p->first + i) % COUNTOF(p->samples)];
}

void progress_sample(struct progress *p, const struct progress_view *v, usec_t now)
{
    struct progress_sample *s;

    if (v->counts.total == 0) { /* not begun: no rate may start from here */
        p->n = p->first = 0;
        return;
    }
    if (p->n == 0 || sample(p, p->n - 1)->settled != settled(v))
        p->moved = now;
    /* The newest but one is a second old at least; the newest moves along with now. */
    if (p->n < 2 || now - sample(p, p->n - 2)->at >= SAMPLE_EVERY) {
        if (p->n == COUNTOF(p->samples))
            p->first = (p->first + 1) % COUNTOF(p->samples);
        else
            p->n++;
    }
    s = &p->samples[(p->first + p->n - 1) % COUNTOF(p->samples)];
    *s = (struct progress_sample){now, settled(v)};
}

double progress_rate(const struct progress *p)
{
    const struct progress_sample *old, *new;

    if (p->n < 2)
        return -1;
    old = sample(p, 0);
    new = sample(p, p->n - 1);
    if (new->at - old->at < RATE_NEEDS || new->settled < old->settled)
        return -1;
    return (double)(new->settled - old->settled) * (double)USEC_PER_SEC /
           (double)(new->at - old->at);
}

usec_t progress_eta(const struct progress *p, const struct progress_view *v)
{
    double rate = progress_rate(p), seconds;

    if (rate <= 0 || v->counts.total == 0 || settled(v) > v->counts.total)
        return USEC_INFINITY;
    seconds = (double)(v->counts.total - settled(v)) / rate;
    return seconds < 1e9 ? (usec_t)(seconds * (double)USEC_PER_SEC) : USEC_INFINITY;
}

/* --- Words -------------------------------------------------------------------------- */

void progress_duration(usec_t t, char ret[32])
{
    long long s = (t + USEC_PER_SEC / 2) / USEC_PER_SEC;

    if (t < 0)
        t = s = 0;
    if (t < 10 * USEC_PER_SEC - 50 * USEC_PER_MS)
        snprintf(ret, 32, "%.1f s", (double)t / (double)USEC_PER_SEC);
    else if (s < 60)
        snprintf(ret, 32, "%lld s", s);
    else if (s < 3600)
        snprintf(ret, 32, "%lld min %02lld s", s / 60, s % 60);
    else if (s < 86400)
        snprintf(ret, 32, "%lld h %02lld min", s / 3600, s / 60 % 60);
    else
        snprintf(ret, 32, "%lld d %02lld h", s / 86400, s / 3600 % 24);
}

static void put_rate(const struct progress *p, const struct progress_view *v,
                     const char *between, struct buf *out)
{
    double rate = progress_rate(p);
    usec_t eta = progress_eta(p, v),
           silence = p->n ? sample(p, p->n - 1)->at - p->moved : 0;
    char text[32];

    if (silence >= SILENCE && settled(v) < v->counts.total) {
        progress_duration(silence, text);
        buf_fmt(out, "%sno answer for %s", between, text);
        return;
    }
    if (rate < 0)
        return;
    buf_fmt(out, rate < 100 ? "%s%.1f/s" : "%s%.0f/s", between, rate);
    if (eta == USEC_INFINITY || settled(v) == v->counts.total)
        return;
    progress_duration(eta, text);
    buf_fmt(out, "%sETA %s", between, text);
}

static void put_plain(const struct progress *p, const struct progress_view *v,
                      struct buf *out)
{
    buf_z(out, v->status);
    if (v->counts.total == 0)
        return;
    buf_fmt(out, ": %u of %u lines, %u failed", settled(v), v->counts.total,
            v->counts.failed);
    if (v->inflight != UINT32_MAX)
        buf_fmt(out, ", %u in flight", v->inflight);
    put_rate(p, v, ", ", out);
}

/* What stands beside the bar comes first: the bar takes the room that is left. */
static void put_bar(const struct progress *p, const struct progress_view *v,
                    unsigned columns, struct buf *out)
{
    uint64_t done = settled(v), total = v->counts.total;
    unsigned width, filled, failed;
    struct buf tail;

    if (total == 0) {
        buf_z(out, v->status);
        return;
    }
    buf_init(&tail, 512);
    buf_fmt(&tail, " %3u%%  %u/%u", (unsigned)(done * 100 / total), (unsigned)done,
            (unsigned)total);
    if (v->counts.failed)
        buf_fmt(&tail, "  %u failed", v->counts.failed);
    put_rate(p, v, "  ", &tail);
    buf_z(out, v->status);
    if (out->n + tail.n + BAR_MIN + 2 <= columns) {
        width = (unsigned)u64_min(columns - out->n - tail.n - 2, BAR_MAX);
        filled = (unsigned)(done * width / total);
        failed = (unsigned)(v->counts.failed * (uint64_t)width / total);
        buf_z(out, "  ");
        for (unsigned i = 0; i < width; i++)
            buf_char(out, i < filled - failed ? '#' : i < filled ? 'x' : '.');
    }
    buf_str(out, buf_peek(&tail));
    buf_done(&tail);
}

void progress_line(const struct progress *p, const struct progress_view *v,
                   unsigned columns, struct buf *out)
{
    struct buf bar;

    if (columns == 0) {
        put_plain(p, v, out);
        return;
    }
    buf_init(&bar, 1024);
    put_bar(p, v, columns, &bar);
    /* A line that wraps could not be redrawn. */
    buf_add(out, bar.p, bar.n < columns ? bar.n : columns);
    buf_done(&bar);
}

/* --- Showing ------------------------------------------------------------------------ */

static unsigned columns(void)
{
    struct winsize w;

    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &w) < 0 || w.ws_col < 20)
        return 79;
    return w.ws_col - 1u;
}

static bool due(const struct progress *p, const struct progress_view *v, usec_t now)
{
    usec_t every = p->mode == PROGRESS_BAR ? REDRAW_EVERY : PLAIN_EVERY;

    if (p->mode == PROGRESS_QUIET)
        return false;
    return p->last == 0 || now - p->last >= every ||
           strcmp(p->last_status, v->status) != 0;
}

void progress_show(struct progress *p, const struct progress_view *v, usec_t now)
{
    struct buf line;

    progress_sample(p, v, now);
    if (!due(p, v, now))
        return;
    buf_init(&line, 1024);
    progress_line(p, v, p->mode == PROGRESS_BAR ? columns() : 0, &line);
    if (p->mode == PROGRESS_BAR)
        fprintf(stderr, "\r%.*s\033[K", STR_ARG(buf_peek(&line)));
    else
        fprintf(stderr, "batchd: %.*s\n", STR_ARG(buf_peek(&line)));
    fflush(stderr);
    buf_done(&line);
    p->drawn = p->mode == PROGRESS_BAR;
    p->last = now;
    snprintf(p->last_status, sizeof p->last_status, "%s", v->status);
}

void progress_clear(struct progress *p)
{
    if (!p->drawn)
        return;
    fputs("\r\033[K", stderr);
    fflush(stderr);
    p->drawn = false;
}
