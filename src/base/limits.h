/* SPDX-License-Identifier: Apache-2.0 */
/*
 * limits: every maximum of the program with the rule or the arithmetic that gave it.
 * What an operator may change has its default here and its key in app/config.c.
 */
#pragma once

/* The Batch API: 50,000 requests a batch, 200 MB an input file, 50,000 embedding inputs a
 * batch (platform.openai.com, Batch guide). */
#define LIMIT_LINES            50000u
#define LIMIT_FILE_BYTES       (200u << 20)
#define LIMIT_EMBEDDING_INPUTS 50000u

/* The index counts lines in 32 bits and bodies by 24-bit lengths are refused: one line
 * holds base64 images; 32 MiB is twice what vLLM's default limits let through. */
#define LIMIT_LINE_BYTES (32u << 20)
#define LIMIT_LINES_EVER                                                                 \
    100000000u /* 100 M: 2.4 GB of index; above it ordinals get tight */
#define LIMIT_ANSWER_BYTES                                                               \
    (64u << 20) /* 2,048 embeddings of 4,096 floats as text: 90 % of it */

/* One result line: an answer of the size above, as a JSON string with every byte escaped. */
#define LIMIT_RESULT (512u << 20)

/* Nesting: Python's json module gives up at about 1,000; real requests stay under 30. */
#define LIMIT_JSON_DEPTH 128

/* custom_id: the real API documents none; 64+ occurs in use, 512 is its metadata limit.
 */
#define LIMIT_CUSTOM_ID 512

/* Metadata: 16 pairs, keys of 64 and values of 512 characters (API reference, Batch). */
#define LIMIT_METADATA_PAIRS 16
#define LIMIT_METADATA_KEY   64
#define LIMIT_METADATA_VALUE 512

/* Line errors kept with a failed batch; the total is told.  1,000 at ~200 bytes: 200 kB.
 */
#define LIMIT_LINE_ERRORS 1000u

/* A JSON request body of the API: 16 pairs of metadata at 6 bytes a character twice over.
 */
#define LIMIT_API_BODY (1u << 20)

/* GET lists: batches 1..100 by default 20; files 1..10,000, by default all 10,000. */
#define LIMIT_BATCH_LIST 100
#define LIMIT_FILE_LIST  10000

/* A request head: 32 KiB and 64 lines are four times what SDKs and proxies together send;
 * 10 s from its first byte to its last, and then 1,000 bytes of body a second once 30 s
 * have gone, keep out those that hold connections and send nothing. */
#define LIMIT_HEAD_BYTES   (32u << 10)
#define LIMIT_HEAD_FIELDS  64
#define LIMIT_HEAD_SECONDS 10
#define LIMIT_BODY_GRACE   30   /* seconds */
#define LIMIT_BODY_RATE    1000 /* bytes a second */

/* A form: 16 KiB hold any file name in percent-encoding several times over; the API's
 * forms have at most a handful of fields, 64 as the head's lines have. */
#define LIMIT_MULTIPART_HEAD  (16u << 10)
#define LIMIT_MULTIPART_PARTS 64

/* An upload in parts: 8 GB, each part 64 MB (API reference, Uploads). */
#define LIMIT_UPLOAD_BYTES ((uint64_t)8 << 30)
#define LIMIT_PART_BYTES   (64u << 20)

#define LIMIT_FILENAME 255 /* NAME_MAX; names are data, never paths */
#define LIMIT_MODEL    256
/* An upstream's list: the largest public router tells some 400 models in 700 kB. */
#define LIMIT_MODELS     4096u
#define LIMIT_MODEL_LIST (4u << 20)
/* Different models in one file: each is a queue of its own in the scheduler. */
#define LIMIT_BATCH_MODELS 64u
#define LIMIT_UPSTREAMS    256
#define LIMIT_WEBHOOKS     64
#define LIMIT_PROJECTS     1024 /* with a section of their own; others have none */
#define LIMIT_ALIASES      256
#define LIMIT_INFLIGHT     65536 /* slots; an fd each, so the fd limit comes first */
