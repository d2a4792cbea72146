/* SPDX-License-Identifier: Apache-2.0 */
/*
 * target: one upstream as client.c sees it: its URL, its fixed header lines as libcurl
 * wants them, and the lanes that its calls run in.  Private to the client.
 *
 * Owns:    all it points at; the key is wiped when it is freed.
 * Threads: the client's.
 */
#pragma once

#include "http/client.h"
#include "http/lane.h"

/* The changing half of a target, apart because calls hold their target const. */
struct target_state {
    struct lanes lanes;
    struct list spare; /* handles to use again, the last used first */
    unsigned running;  /* calls */
};

struct http_target {
    struct http_client *client; /* NULL: it was freed before */
    struct list link;           /* in the client's targets */
    struct target_state *state;
    char *url; /* without a slash at its end */
    char *proxy;
    char *ca_file; /* NULL: the system's */
    bool tls, insecure, public_only;
    bool numeric; /* the host is an address: no names to look up */
    struct curl_slist *get, *post, *post_large; /* header lines; each ends in the one
                                                   before */
    struct curl_slist *nodes;
    char *lines; /* the bytes of all header lines */
    size_t lines_n;
};

/* Checks and copies; the lists of lanes are left empty.  RC_INVALID says what is wrong.
 */
NODISCARD enum rc target_make(const struct http_target_opts *o, const char *user_agent,
                              struct http_target **ret, struct err *e);
/* Is it "Name: value" in printable ASCII?  RC_INVALID says what is wrong, not the value. */
NODISCARD enum rc target_check_line(const char *line, struct err *e);
struct http_target *
target_destroy(struct http_target *t); /* no lane or spare handle may be left */
