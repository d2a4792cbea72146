/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fault: which request fails, and how: the kinds, their rates and the schedule.  Pure.
 *
 * A decision is a function of the seeded hash of the body and of how often that body was
 * seen before, so that the same requests meet the same faults in every run, in whatever
 * order they come.  `refuse` happens before there is a body: it goes by the number of the
 * connection.
 */
#pragma once

#include "base/err.h"
#include "base/str.h"

/* X(NAME, text, early, good, doc)  early: happens without work, takes no slot;
 * good: a correct client gets the whole true answer. */
#define SIM_FAULTS(X)                                                                    \
    X(NONE, "none", false, true, "")                                                     \
    X(STATUS, "status", true, false, "that HTTP status with an error object")            \
    X(REFUSE, "refuse", true, false, "accept, then RST before reading (by connection)")  \
    X(RESET, "reset", true, false, "RST after the request was read")                     \
    X(RESET_BODY, "reset-body", false, false, "RST in the middle of the answer's body")  \
    X(CLOSE_HEAD, "close-head", false, false, "FIN in the middle of the answer's head")  \
    X(CLOSE_BODY, "close-body", false, false, "FIN in the middle of the answer's body")  \
    X(STALL, "stall", true, false, "read the request and never answer")                  \
    X(STALL_BODY, "stall-body", false, false, "half of the body, then nothing more")     \
    X(SLOW, "slow", false, true, "the answer at --slow-rate bytes a second")             \
    X(GARBAGE, "garbage", true, false, "bytes that are not HTTP, then FIN")              \
    X(HTML, "html", true, false, "200 with a page of HTML")                              \
    X(NOT_JSON, "not-json", true, false, "200 with text called application/json")        \
    X(TRUNCATED_JSON, "truncated-json", false, false,                                    \
      "half of the JSON, its length told right")                                         \
    X(INVALID_UTF8, "invalid-utf8", false, false, "bytes in a string that are no UTF-8") \
    X(NUL, "nul", false, false, "a NUL byte in a string")                                \
    X(HUGE, "huge", false, false, "a body of --huge-bytes")                              \
    X(LONG_LENGTH, "long-length", false, false,                                          \
      "Content-Length above what comes, then FIN")                                       \
    X(SHORT_LENGTH, "short-length", false, false,                                        \
      "Content-Length below what comes, then on")                                        \
    X(BAD_CHUNK, "bad-chunk", false, false, "a chunk size that is no number")            \
    X(HTTP09, "http09", false, false, "the body alone, without a head, then FIN")        \
    X(GZIP, "gzip", false, false, "Content-Encoding: gzip that nobody asked for")        \
    X(EMPTY, "empty", true, false, "200 with an empty body")                             \
    X(HTTP10_CLOSE, "http10-close", false, true, "HTTP/1.0, the body ends with the FIN") \
    X(MULTI_LINE, "multi-line", false, true, "the JSON printed over many lines")         \
    X(SWITCH_100, "switch-100", false, true, "100 Continue first, then the answer")      \
    X(DUP_HEADER, "dup-header", false, true, "every header twice")                       \
    X(BIG_HEAD, "big-head", false, false, "a head of --big-head-bytes")                  \
    X(CLOSE, "close", true, false, "FIN after the request was read")                     \
    X(TLS_ALERT, "tls-alert", true, false, "what a TLS port says to plain HTTP")         \
    X(BAD_STATUS, "bad-status", false, false, "a status that is no number")              \
    X(NO_COLON, "no-colon", false, false, "a header line without a colon")               \
    X(NUL_HEAD, "nul-head", false, false, "a NUL byte in a header's value")              \
    X(BARE_LF, "bare-lf", false, true, "the head's lines end in LF alone")               \
    X(MINUS_LENGTH, "minus-length", false, false, "Content-Length: -1, then FIN")        \
    X(TWO_LENGTHS, "two-lengths", false, false,                                          \
      "two Content-Lengths, the second too long; then FIN")                              \
    X(HALF_CHUNK, "half-chunk", false, false, "half of a chunk, then FIN")               \
    X(HUGE_CHUNK, "huge-chunk", false, false, "a chunk size above 2^64")                 \
    X(INFO_FLOOD, "info-flood", false, true,                                             \
      "103 Early Hints 200 times, then the answer")                                      \
    X(TWO_ANSWERS, "two-answers", false, true,                                           \
      "behind the answer one that nobody asked for")                                     \
    X(TWO_LARGE, "two-large-answers", false, true, "the same, the answer being 100 KiB") \
    X(DEEP_JSON, "deep-json", false, false, "a member of 100,000 arrays in one another") \
    X(SSE, "sse", false, false, "an event stream that nobody asked for")                 \
    X(RETRY_HOUR, "retry-hour", true, false, "429 with Retry-After: 3600")               \
    X(RETRY_MINUS, "retry-minus", true, false, "429 with Retry-After: -5")               \
    X(RETRY_PAST, "retry-past", true, false, "429 with a Retry-After of 2015")           \
    X(RETRY_JUNK, "retry-junk", true, false, "429 with Retry-After: soon")               \
    X(NO_QUOTA, "insufficient-quota", true, false, "429 with the code insufficient_quota")

enum sim_fault {
#define X(name, text, early, good, doc) SIM_FAULT_##name,
    SIM_FAULTS(X)
#undef X
        SIM_FAULT_COUNT
};

struct sim_hit {
    enum sim_fault kind;
    unsigned status; /* of SIM_FAULT_STATUS */
};

#define SIM_MIX_MAX 64
struct sim_mix {
    unsigned n;
    struct {
        struct sim_hit hit;
        double rate;
    } row[SIM_MIX_MAX];
    double refuse, sum;
};

/* How /metrics is wrong. */
enum sim_blur {
    SIM_BLUR_NONE,
    SIM_BLUR_500,
    SIM_BLUR_SLOW,   /* at --slow-rate bytes a second */
    SIM_BLUR_STALE,  /* what it was when this began */
    SIM_BLUR_GARBAGE /* no text of metrics */
};

/* What a window of the schedule does. */
enum sim_act {
    SIM_ACT_FAULT,   /* every request has `hit` */
    SIM_ACT_DOWN,    /* nobody listens */
    SIM_ACT_CRASH,   /* likewise, and what was cached and counted is gone */
    SIM_ACT_SLOWER,  /* work takes `value` times as long */
    SIM_ACT_UNLOAD,  /* no model is there: 404 */
    SIM_ACT_SHRINK,  /* the KV memory is `value` of what it was */
    SIM_ACT_METRICS, /* /metrics has `blur` */
    SIM_ACT_COUNT
};

#define SIM_SCHEDULE_MAX 32
struct sim_schedule {
    unsigned n;
    struct sim_window {
        usec_t from, to;  /* since the start */
        unsigned replica; /* from 1; 0: all */
        enum sim_act act;
        struct sim_hit hit;
        double value;
        enum sim_blur blur;
    } row[SIM_SCHEDULE_MAX];
};

#define SIM_REPLICAS_MAX 256

/* "0.25", "12": digits and at most one point; RC_INVALID */
NODISCARD enum rc sim_decimal(struct str s, double *ret);

const char *sim_fault_name(enum sim_fault f);
const char *sim_fault_doc(enum sim_fault f);
bool sim_fault_early(enum sim_fault f);
bool sim_fault_good(enum sim_fault f);
/* "429", "reset-body"; NULL-terminated into dst, which is returned */
const char *sim_hit_text(struct sim_hit hit, char dst[24]);

/* "429=0.1,reset=2%": adds to the mix. */
NODISCARD enum rc sim_mix_parse(struct str spec, struct sim_mix *mix, struct err *e);
/* "down@10s+5s,429@1m+10s,slow@5s+20s:5#2": adds to the schedule. */
NODISCARD enum rc sim_schedule_parse(struct str spec, struct sim_schedule *s,
                                     struct err *e);
/* "500", "slow", "stale", "garbage" */
NODISCARD enum rc sim_blur_parse(struct str name, enum sim_blur *ret, struct err *e);
/* For --help: how an entry is written, and what it does. */
const char *sim_act_form(enum sim_act act);
const char *sim_act_doc(enum sim_act act);

struct sim_hit sim_mix_pick(const struct sim_mix *mix, uint64_t hash, uint32_t attempt);
bool sim_mix_refuses(const struct sim_mix *mix, uint64_t seed, uint64_t connection);
/* The first window of that kind that replica (from 1) is in at `t` since the start; NULL:
 * none. */
const struct sim_window *sim_schedule_at(const struct sim_schedule *s, enum sim_act act,
                                         unsigned replica, usec_t t);
/* The product of the values of all that hold; 1 when none does. */
double sim_schedule_value(const struct sim_schedule *s, enum sim_act act,
                          unsigned replica, usec_t t);

/* A well mixed 64-bit function (Stafford's variant 13 of the MurmurHash3 finalizer). */
static inline uint64_t sim_mix64(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebu;
    return x ^ x >> 31;
}
