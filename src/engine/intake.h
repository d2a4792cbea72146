/* SPDX-License-Identifier: Apache-2.0 */
/*
 * intake: the one pass over an input file that finds every bad line or makes the index.
 *
 * Also what `batchd check` runs, so that what it says is what the server would do.
 * Threads: a worker (it reads a whole file).
 * Memory:  16 bytes a line for custom_ids at a load of 60 to 85 %, and one window.
 */
#pragma once

#include "core/line.h"
#include "json/jsonl.h"
#include "store/index.h"
#include "base/limits.h"

#include <stdatomic.h>

struct intake_rules {
    enum endpoint endpoint;
    bool any_endpoint; /* check without --endpoint: the first good line's url rules */
    bool
        many_models; /* configured extension, up to LIMIT_BATCH_MODELS; refused by default,
                         as the real API does */
    uint32_t max_lines;    /* 0: LIMIT_LINES */
    uint32_t max_inputs;   /* embeddings; 0: LIMIT_EMBEDDING_INPUTS */
    uint64_t max_bytes;    /* 0: LIMIT_FILE_BYTES */
    size_t max_line_bytes; /* 0: LIMIT_LINE_BYTES */
    bool (*model_known)(void *ctx, struct str model); /* NULL: every model is taken */
    void *model_ctx;
    /* Told of each request before it is held against the others; NULL: nobody. */
    void (*each)(void *ctx, const struct line *line);
    void *each_ctx;
};

/* One fault; line 0: of the file as a whole (empty_file, too_many_tasks, ...). */
struct intake_fault {
    uint32_t line;
    const char *code;    /* constant */
    const char *param;   /* constant; NULL is null */
    const char *message; /* valid during the call */
    const char *reason;  /* constant: what is wrong with the JSON, for people; or NULL */
    size_t at;           /* with reason: the byte of the line, from 1 */
};
typedef void intake_fault_fn(void *ctx, const struct intake_fault *f);

struct intake_result {
    uint32_t requests;           /* lines that hold one */
    uint32_t faults;             /* all of them, also those not kept by anyone */
    bool several;                /* requests name more models than one (many_models) */
    char model[LIMIT_MODEL + 1]; /* unescaped, of the first request that names one that
                                    is known; "" when none does */
    enum endpoint endpoint;      /* that of the rules, or the one found (any_endpoint);
                                    ENDPOINT_COUNT: none was found */
};

/*
 * RC_OK: the scan is through; faults == 0 means the file is good and, when idx is given,
 * every request is in it (the caller finishes idx).  RC_CANCELLED: *stop became true.
 * RC_IO...: the source failed.  size: bytes of the source.
 */
NODISCARD enum rc intake_scan(jsonl_read_fn *read, void *read_ctx, uint64_t size,
                              const struct intake_rules *rules, struct index_writer *idx,
                              intake_fault_fn *fault, void *fault_ctx,
                              const atomic_bool *stop, struct intake_result *ret,
                              struct err *e);

/*
 * Collects faults into the API's `errors` object: the first LIMIT_LINE_ERRORS kept, and
 * when there were more, a last entry that tells the total.
 */
struct intake_errors;
struct intake_errors *intake_errors_new(void);
void intake_errors_add(void *errors,
                       const struct intake_fault *f); /* an intake_fault_fn */
char *intake_errors_json(struct intake_errors *x);    /* mem_free'd by the caller */
/* The object of one fault of a whole file: of what is wrong before a line can be read. */
char *intake_one_error(const char *code, const char *param, const char *message);
/* That of an input file that is not there. */
char *intake_no_file(const char *file);
struct intake_errors *intake_errors_free(struct intake_errors *x);
