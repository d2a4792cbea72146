/* SPDX-License-Identifier: Apache-2.0 */
/*
 * call: one request on its way through this room: what a handler sees, and the only ways
 * to answer it.  Private to the room.
 *
 * Owns:    the call, from the server's `open` to its `close`.
 *          `close` may run on another thread as soon as it is answered: nothing of the
 *          call may be touched behind the answer.
 * Threads: one at a time, as http/server.h says; struct api is shared and read only but
 * for its atomics.
 * Errors:  every handler ends in exactly one call_reply*, call_fail* or call_text.
 */
#pragma once

#include "api/api.h"
#include "api/apierr.h"
#include "api/coded.h"
#include "api/count.h"
#include "api/files.h"
#include "api/form.h"

#include <stdatomic.h>

struct call;
struct pool;

enum body_plan {
    BODY_NONE,  /* whatever comes is passed over */
    BODY_JSON,  /* kept in memory up to LIMIT_API_BODY */
    BODY_BATCH, /* the same up to max_inline_bytes: it may hold requests */
    BODY_FILE,  /* multipart, streamed into a blob */
    BODY_PART   /* likewise: of an upload in parts */
};

struct route {
    const char *method;
    /* "{id}" stands for one segment, "{path}" for all that is left. */
    const char *pattern;
    void (*serve)(struct call *c);
    enum body_plan body;
};

struct api {
    struct api_opts opts; /* defaults filled in */
    int64_t started;      /* wall seconds */
    _Atomic(char *)
        refused; /* why nothing new is accepted; NULL: all is well; set once */
    struct counts *counts;
    struct pool *slow; /* for what takes seconds, so that no worker is held by it; NULL:
                          it could not be made */
    atomic_uint scans; /* inputs being validated for nothing but an answer */
};

struct call {
    struct api *api;
    struct http_request *rq;
    const struct route *route; /* NULL: none matches */
    struct str var;            /* what {id} or {path} stood for; borrows from the path */
    usec_t began;              /* when its handler began: uploads are the client's time */
    struct form *form;         /* BODY_FILE, BODY_PART */
    char too_large[128];       /* tells the limit of what the form is for */
    const char *too_large_field;
    enum decode_coding coding;
    struct coded *coded;     /* the body comes compressed */
    struct file_fields file; /* what the form's small fields said */
    struct id project;       /* whose objects it may see; set at the head (auth.h) */
    struct id key;           /* the id of the key shown, for logs; "": none asked for */
    struct apierr refusal;   /* decided at the head; valid when `refused` */
    bool refused;
};

/* The room an answer may take: a page of 10,000 files with long names, or of 100 batches
 * with a full set of line errors each, is well under it. */
#define CALL_ANSWER_MAX ((size_t)256 << 20)

void call_reply(struct call *c, int status, const char *content_type, struct buf *body);
void call_reply_json(struct call *c, struct buf *body); /* 200 */
void call_reply_fd(struct call *c, int status, const char *content_type, int fd,
                   uint64_t off, uint64_t n);
/* 200; as http_reply_stream: takes ctx, which borrows nothing from the call. */
void call_reply_stream(struct call *c, const char *content_type, http_pull_fn *pull,
                       http_release_fn *release, void *ctx);
void call_fail(struct call *c, const struct apierr *e);
PRINTF_FMT(4, 5)
void call_fail_as(struct call *c, enum apierr_kind kind, const char *param,
                  const char *fmt, ...);
/* A store, blob or engine failed: answers for it and logs `e`. */
void call_fail_rc(struct call *c, enum rc rc, const struct err *e);

/* ?limit=; empty is the default.  RC_INVALID: *e tells. */
NODISCARD enum rc call_limit(struct call *c, unsigned dflt, unsigned max, unsigned *ret,
                             struct apierr *e);
/* ?after=; not there or empty: ret is "".  RC_NOTFOUND: no id at all, so it names
 * nothing. */
NODISCARD enum rc call_after(struct call *c, struct id *ret);

/* The route's number and labels, for the counters; number route_count() is "none". */
size_t route_count(void);
size_t route_number(const struct route *r);
struct count_route route_label(size_t route);

/* Puts item i as JSON (out NULL: not) and tells its id. */
typedef const char *call_item_fn(const void *items, size_t i, struct buf *out);
/* 200 with {"object":"list","data":[...],"first_id","last_id","has_more"} of n items. */
void call_reply_list(struct call *c, call_item_fn *put, const void *items, size_t n,
                     bool more);
