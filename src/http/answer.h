/* SPDX-License-Identifier: Apache-2.0 */
/*
 * answer: what the client wants to know of an answer's head, read line by line.
 *
 * Owns:    its fixed fields; nothing on the heap.
 * Threads: one at a time.
 * Errors:  none: a line that makes no sense says nothing.
 */
#pragma once

#include "base/str.h"

enum {
    ANSWER_ID_CAP = 96,   /* as http_call.answer_id */
    ANSWER_DATE_CAP = 40, /* "Wednesday, 09-Nov-94 08:49:37 GMT" is the longest */
    ANSWER_QUOTA_CAP =
        1024, /* Anthropic's twelve lines have 700 bytes, OpenAI's six 250 */
    ANSWER_HEAD_MAX = 256 * 1024 /* all heads of one answer, interim ones too; servers
                                    themselves stop at 8 to 64 KiB */
};

struct answer {
    long status;      /* of the last status line; 0: none yet */
    bool complete;    /* the head of the final answer has ended */
    size_t bytes;     /* of all heads so far */
    int64_t retry_ms; /* Retry-After in seconds, or retry-after-ms; -1: none */
    bool exact;       /* retry_ms is from retry-after-ms, which wins */
    char id[ANSWER_ID_CAP];
    char retry_date[ANSWER_DATE_CAP]; /* Retry-After as a date; "" when none */
    char date[ANSWER_DATE_CAP];
    /* The lines, each with an LF, that tell of quotas and of trying again: x-ratelimit-...,
     * anthropic-ratelimit-..., x-should-retry, x-llm-d-request-dropped-reason.  What does
     * not fit is left out. */
    char quota[ANSWER_QUOTA_CAP];
    size_t quota_n;
};

void answer_start(struct answer *a);

/* One line of the head with its line ending; an empty line ends the head.  Interim heads
 * (1xx) are forgotten when the next status line comes, trailers are not looked at. */
void answer_line(struct answer *a, struct str line);

/* How long to wait, from the answer's own clock where it told it, else from `wall` (in
 * seconds since the epoch); a date that has passed is 0; -1: nothing was said. */
int64_t answer_retry_ms(const struct answer *a, int64_t wall);

/* Its Date in seconds since the epoch; 0: it told none. */
int64_t answer_date(const struct answer *a);
