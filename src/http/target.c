/* SPDX-License-Identifier: Apache-2.0 */
#include "http/target.h"
#include "base/buf.h"
#include "base/mem.h"

#include <unistd.h>
#include <errno.h>
#include <arpa/inet.h>

/* The longest is a bearer token; JWTs of a few KiB occur, servers stop at 8 to 64. */
enum { HEADERS_MAX = 64 * 1024, BASE_URL_MAX = 4096 };

/* --- the URL --- */

static bool is_plain(struct str s) /* printable ASCII: fit for a header's value */
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < ' ' || s.p[i] > '~')
            return false;
    return true;
}

static bool part_is_set(CURLU *u, CURLUPart part)
{
    char *text = NULL;
    bool there = curl_url_get(u, part, &text, 0) == CURLUE_OK;

    curl_free(text);
    return there;
}

static bool is_address(const char *host)
{
    struct in_addr four;

    return host[0] == '[' || inet_pton(AF_INET, host, &four) == 1;
}

static enum rc look_at_url(struct http_target *t, CURLU *u, struct err *e)
{
    char *scheme = NULL, *host = NULL;
    CURLUcode uc = curl_url_set(u, CURLUPART_URL, t->url, CURLU_DISALLOW_USER);
    enum rc rc = RC_OK;

    if (uc == CURLUE_OK)
        uc = curl_url_get(u, CURLUPART_SCHEME, &scheme, 0);
    if (uc == CURLUE_OUT_OF_MEMORY)
        return err_set(e, RC_NOMEM, "no memory to look at \"%s\"", t->url);

    if (uc == CURLUE_USER_NOT_ALLOWED)
        return err_set(e, RC_INVALID, "an upstream's URL must not name credentials");
    if (uc != CURLUE_OK)
        return err_set(e, RC_INVALID, "\"%s\" is not a URL: %s", t->url,
                       curl_url_strerror(uc));
    t->tls = strcmp(scheme, "https") == 0;
    if (strstr(t->url, ":///")) /* libcurl would take the path's first part for a host */
        rc = err_set(e, RC_INVALID, "\"%s\" names no host", t->url);
    else if (!t->tls && strcmp(scheme, "http") != 0)
        rc = err_set(e, RC_INVALID, "\"%s\" is neither http nor https", t->url);
    else if (part_is_set(u, CURLUPART_QUERY) || part_is_set(u, CURLUPART_FRAGMENT))
        rc = err_set(e, RC_INVALID, "\"%s\": a base URL ends with its path", t->url);
    else if (curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK)
        t->numeric = is_address(host);
    curl_free(scheme);
    curl_free(host);
    return rc;
}

static enum rc set_url(struct http_target *t, const char *url, struct err *e)
{
    struct str s = str_of(url);
    CURLU *u;
    enum rc rc;

    if (s.n == 0 || s.n > BASE_URL_MAX || !is_plain(s))
        return err_set(e, RC_INVALID,
                       "an upstream needs a URL of at most %d plain "
                       "characters",
                       BASE_URL_MAX);
    while (s.n && s.p[s.n - 1] == '/')
        s.n--;
    t->url = mem_dup(s.p, s.n);
    u = curl_url();
    MEM_CHECK(u);
    rc = look_at_url(t, u, e);
    curl_url_cleanup(u);
    return rc;
}

/* --- the header lines --- */

static bool is_token(struct str s) /* RFC 9110, 5.6.2 */
{
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
              (c >= '0' && c <= '9') || (c && strchr("!#$%&'*+-.^_`|~", c))))
            return false;
    }
    return s.n > 0;
}

/* libcurl sends what it is given: a line break in a value would be a header of its own.
 * The value is not told: it may be a key. */
enum rc target_check_line(const char *line, struct err *e)
{
    struct str v = str_of(line), name = str_cut(&v, ':');

    if (!is_token(name) || name.n == str_of(line).n)
        return err_set(e, RC_INVALID, "a header line is not of the form \"Name: value\"");
    if (str_trim(v).n == 0)
        return err_set(e, RC_INVALID, "header %.*s has no value", STR_ARG(name));
    if (!is_plain(v))
        return err_set(e, RC_INVALID,
                       "header %.*s has a value with characters that are "
                       "not printable ASCII",
                       STR_ARG(name));
    return RC_OK;
}

static bool has(const char *const *lines, const char *name)
{
    for (; lines && *lines; lines++) {
        struct str s = str_of(*lines);

        if (str_ieq(str_cut(&s, ':'), str_of(name)))
            return true;
    }
    return false;
}

/* Lines end in NUL in the buffer, one behind the other; those of large POSTs, then of
 * POSTs only come first. */
struct lines {
    struct buf text;
    unsigned n, n_post;
};

static void add(struct lines *l, const char *name, const char *value)
{
    buf_z(&l->text, name);
    buf_z(&l->text, value);
    buf_char(&l->text, '\0');
    l->n++;
}

/*
 * libcurl formats header lines a character at a time and looks through all of them for each
 * name it knows, so bytes and lines are dear: two lines go as one, and what tells a server
 * nothing is left out (callgrind: 120 instructions a byte, 2,000 a line).
 */
static void add_post_line(struct lines *l, const struct http_target_opts *o,
                          const char *user_agent)
{
    bool agent = user_agent && *user_agent && !has(o->headers, "User-Agent");

    if (has(o->headers, "Content-Type"))
        return;
    if (agent)
        add(l, "Content-Type: application/json\r\nUser-Agent: ", user_agent);
    else
        add(l, "Content-Type: application/json", "");
}

static enum rc collect(struct lines *l, const struct http_target_opts *o,
                       const char *user_agent, struct err *e)
{
    enum rc rc = RC_OK;

    add(l, "Expect:", ""); /* no line: libcurl would wait for 100 Continue over 1 MB */
    add_post_line(l, o, user_agent);
    l->n_post = l->n;
    if (!has(o->headers, "Accept"))
        add(l, "Accept:", ""); /* no line: an answer is JSON whatever is accepted */
    if (o->bearer && *o->bearer) {
        if (!is_plain(str_of(o->bearer)))
            return err_set(e, RC_INVALID, "a key must be printable ASCII");
        add(l, "Authorization: Bearer ", o->bearer);
    }
    for (const char *const *h = o->headers; rc == RC_OK && h && *h; h++) {
        rc = target_check_line(*h, e);
        add(l, *h, "");
    }
    return rc;
}

static void chain(struct http_target *t, const struct lines *l)
{
    char *p = t->lines;

    t->nodes = mem_new_n(struct curl_slist, l->n);
    for (unsigned i = 0; i < l->n; i++) {
        t->nodes[i].data = p;
        t->nodes[i].next = i + 1 < l->n ? &t->nodes[i + 1] : NULL;
        p += strlen(p) + 1;
    }
    t->post_large = &t->nodes[0];
    t->post = l->n > 1 ? &t->nodes[1] : NULL;
    t->get = l->n_post < l->n ? &t->nodes[l->n_post] : NULL;
}

/* So that the buffer never moves: a key must not stay behind in freed memory. */
static size_t room_for(const struct http_target_opts *o, const char *user_agent)
{
    size_t n = 256 + str_of(user_agent).n + str_of(o->bearer).n;

    for (const char *const *h = o->headers; h && *h; h++)
        n += strlen(*h) + 1;
    return n;
}

static enum rc set_headers(struct http_target *t, const struct http_target_opts *o,
                           const char *user_agent, struct err *e)
{
    struct lines l = {.n = 0};
    char *at;
    enum rc rc;

    buf_init(&l.text, HEADERS_MAX);
    rc = buf_reserve(&l.text, room_for(o, user_agent), &at);
    if (rc == RC_OK)
        rc = collect(&l, o, user_agent, e);
    if (rc == RC_NOMEM || buf_failed(&l.text) == RC_NOMEM)
        rc = err_set(e, RC_NOMEM, "no memory for an upstream's header lines");
    else if (buf_failed(&l.text) != RC_OK)
        rc = err_set(e, RC_LIMIT, "an upstream's header lines are over %d bytes",
                     HEADERS_MAX);
    t->lines = buf_take(&l.text, &t->lines_n);
    if (rc == RC_OK)
        chain(t, &l);
    return rc;
}

enum rc target_make(const struct http_target_opts *o, const char *user_agent,
                    struct http_target **ret, struct err *e)
{
    struct http_target *t = mem_new(struct http_target);
    enum rc rc;

    t->state = mem_new(struct target_state);
    list_init(&t->link);
    list_init(&t->state->spare);
    lanes_init(&t->state->lanes, 1); /* the client knows better */
    t->insecure = o->insecure;
    t->public_only = o->public_only;
    rc = set_url(t, o->base_url ? o->base_url : "", e);
    if (rc == RC_OK && o->proxy && !is_plain(str_of(o->proxy)))
        rc = err_set(e, RC_INVALID, "a proxy must be printable ASCII");
    if (rc == RC_OK && o->proxy && o->public_only)
        rc = err_set(e, RC_INVALID,
                     "behind a proxy it cannot be seen whether an address is public");
    if (rc == RC_OK && o->ca_file && access(o->ca_file, R_OK) < 0)
        rc = err_sys(e, rc_of_errno(errno), errno, "cannot read the CA file %s",
                     o->ca_file);
    if (rc == RC_OK)
        rc = set_headers(t, o, user_agent, e);
    if (rc != RC_OK) {
        IGNORE(target_destroy(t)); /* always NULL */
        return rc;
    }
    t->proxy = mem_dup(o->proxy ? o->proxy : "", str_of(o->proxy).n);
    if (o->ca_file)
        t->ca_file = mem_dup(o->ca_file, strlen(o->ca_file));
    *ret = t;
    return RC_OK;
}

struct http_target *target_destroy(struct http_target *t)
{
    if (!t)
        return NULL;
    CHECK(list_empty(&t->state->lanes.room) && list_empty(&t->state->lanes.full));
    CHECK(list_empty(&t->state->spare));
    list_del(&t->link);
    if (t->lines)
        mem_wipe(t->lines, t->lines_n);
    mem_free(t->lines);
    mem_free(t->nodes);
    if (t->proxy)
        mem_wipe(t->proxy, strlen(t->proxy)); /* it may name a password */
    mem_free(t->proxy);
    mem_free(t->ca_file);
    mem_free(t->url);
    mem_free(t->state);
    mem_free(t);
    return NULL;
}
