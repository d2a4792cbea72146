/* SPDX-License-Identifier: Apache-2.0 */
/*
 * webhook: what an event says, how it is signed, whom it concerns and when it is sent
 * again.
 *
 * Sources: the Standard Webhooks specification 1.0.0 (headers, signature, secrets) and
 * the API reference (webhook events, batch.*), which the SDKs' `webhooks.unwrap` follow.
 * Pure: no I/O, no clock; time and randomness are passed in.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "core/batch.h"

/* Keys of 24 to 64 bytes (the specification's rule).  Two are in use while one is being
 * replaced; four leave room for those who are slow at it. */
#define WEBHOOK_KEY_MIN 24u
#define WEBHOOK_KEY_MAX 64u
#define WEBHOOK_SECRETS 4u

struct webhook_secrets {
    unsigned n; /* 0: none */
    struct {
        uint8_t bytes[WEBHOOK_KEY_MAX];
        size_t n;
    } key[WEBHOOK_SECRETS];
};

/*
 * The content of a secret file: "whsec_" and the key in base64 (RFC 4648, 4, padded), one
 * a line; blank lines are passed over.  RC_INVALID: the sentence begins with "line 2" and
 * never shows what stands there.  The caller wipes *ret in the end.
 */
NODISCARD enum rc webhook_secrets_read(struct str text, struct webhook_secrets *ret,
                                       struct err *e);

/* "v1," and base64 of HMAC-SHA256 for each secret, with spaces between. */
#define WEBHOOK_SIGNATURE_CAP (WEBHOOK_SECRETS * 48u)
/* now: wall seconds of this try; n >= 1. */
void webhook_sign(const struct webhook_secrets *s, const struct id *event, int64_t now,
                  struct str body, char ret[WEBHOOK_SIGNATURE_CAP]);

/* {"object":"event","id","type","created_at","data":{"id"}}; always the same bytes. */
void webhook_put_body(struct buf *out, const struct id *event, const char *type,
                      int64_t created_at, const struct id *batch);

/* Bit s is set: statuses s are told of; only of terminal ones. */
typedef uint32_t webhook_events;

/* "completed, failed": RC_INVALID names the one that is none.  Empty: all four. */
NODISCARD enum rc webhook_events_read(struct str list, webhook_events *ret,
                                      struct err *e);

/* Is a destination for these events, of this project (NULL or "": of all), to be told
 * that a batch of `of` is now at `status`? */
bool webhook_concerns(webhook_events events, const char *project, const struct id *of,
                      enum batch_status status);

struct webhook_try {
    int64_t created_at;  /* of the event */
    int64_t now;         /* wall seconds, when the try was over */
    uint32_t tries;      /* that were made, with this one: >= 1 */
    int64_t give_up;     /* seconds after created_at */
    int64_t retry_after; /* seconds that the receiver asked for; negative: it did not */
    uint64_t random;
};

/*
 * When it is sent again: after a pause drawn from 1 s up to 5 s, 10 s, 20 s ... 4 h (full
 * jitter: those that failed together do not come together), no sooner than the receiver
 * asked, and no later than give_up, so that the last try is made then.  False: that time
 * has come; it is given up.
 */
bool webhook_try_again(const struct webhook_try *t, int64_t *ret_at);
