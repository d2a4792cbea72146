/* SPDX-License-Identifier: Apache-2.0 */
/*
 * progress: how a batch is getting on, for people: one line on stderr that is redrawn on
 * a terminal, a plain line every ten seconds elsewhere.
 *
 * Owns:    its samples of the last half minute, from which rate and forecast come.
 * Threads: one at a time.  Time is passed in.
 */
#pragma once

#include "base/buf.h"
#include "base/clock.h"
#include "core/batch.h"

enum progress_mode { PROGRESS_QUIET, PROGRESS_PLAIN, PROGRESS_BAR };

struct progress_view {
    const char *status; /* "in_progress" */
    struct batch_counts counts;
    uint32_t inflight; /* UINT32_MAX: not known */
};

struct progress_sample {
    usec_t at;
    uint32_t settled;
};

struct progress {
    enum progress_mode mode;
    bool drawn; /* the cursor stands behind a bar */
    usec_t last;
    char last_status[24];
    struct progress_sample samples[32]; /* a ring; one a second at most */
    size_t first, n;
    usec_t moved; /* when a line was settled last */
};

/* PLAIN where stderr is no terminal, else BAR. */
enum progress_mode progress_mode(bool quiet);
void progress_init(struct progress *p, enum progress_mode mode);

/* Takes the view in and shows it when it is time to (5 times a second on a terminal). */
void progress_show(struct progress *p, const struct progress_view *v, usec_t now);
/* Clears the bar, so that other lines can be written. */
void progress_clear(struct progress *p);

/* Lines settled a second over the samples, or < 0 when there are too few to tell. */
double progress_rate(const struct progress *p);
/* Time to the end at the present rate; USEC_INFINITY: nobody knows. */
usec_t progress_eta(const struct progress *p, const struct progress_view *v);
/* Notes a sample; progress_show does it. */
void progress_sample(struct progress *p, const struct progress_view *v, usec_t now);

/* The line as it is written; columns: of the terminal, 0 for the plain form. */
void progress_line(const struct progress *p, const struct progress_view *v,
                   unsigned columns, struct buf *out);

/* "0.4 s", "12 s", "3 min 05 s", "2 h 13 min", "3 d 04 h". */
void progress_duration(usec_t t, char ret[32]);
