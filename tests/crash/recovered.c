/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/crash/recovered.h"
#include "app/config.h"
#include "app/node.h"
#include "base/mem.h"
#include "json/json.h"
#include "store/keyring.h"
#include "store/reslog_tail.h"
#include "tests/crash/leftovers.h"
#include "tests/crash/upstream.h"

#include <openssl/evp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* In place of libc's, which writes below /proc: with that, half the time of a recovery went
 * into the end of its process. */
int pthread_setname_np(pthread_t thread, const char *name)
{
    (void)thread, (void)name;
    return 0;
}

static unsigned violations;
static bool resumed; /* we have asked for something else ourselves */

#define VIOLATION(...) (violations++, fprintf(stderr, "violation: " __VA_ARGS__))

/* --- Blobs ----------------------------------------------------------------------------
 */

/* The whole of a blob; .p NULL: it is not there or cannot be read (told). */
static struct str slurp(const struct node *n, const char *id)
{
    const struct blob_ops *ops = n->blobs->ops;
    struct str s = {NULL, 0};
    struct blob *b = NULL;
    struct err e;
    size_t size, got = 0;
    char *p;

    if (ops->open(n->blobs->self, id, &b, &e) != RC_OK) {
        VIOLATION("I9 the bytes of %s are gone: %s\n", id, e.text);
        return s;
    }
    size = (size_t)ops->size(b);
    p = mem_alloc(size + 1);
    if (ops->pread(b, p, size, 0, &got, &e) != RC_OK || got != size)
        VIOLATION("I9 %s cannot be read: %s\n", id, e.text);
    else
        s = (struct str){p, size};
    ops->close(b);
    return s;
}

static void hash(struct str s, uint8_t ret[32])
{
    unsigned n = 32;

    if (EVP_Digest(s.p, s.n, ret, &n, EVP_sha256(), NULL) != 1)
        abort();
}

static void to_hex(const uint8_t from[32], char ret[65])
{
    for (int i = 0; i < 32; i++)
        snprintf(ret + 2 * i, 3, "%02x", from[i]);
}

static void check_bytes(const struct node *n, const struct file_rec *f)
{
    struct str s = slurp(n, f->id.z);
    uint8_t sum[32];

    if (!s.p)
        return;
    hash(s, sum);
    if (s.n != f->bytes || memcmp(sum, f->sha256, 32) != 0)
        VIOLATION("I4 %s has %zu bytes of another sum than its row's %llu\n", f->id.z,
                  s.n, (unsigned long long)f->bytes);
    mem_free((void *)(uintptr_t)s.p);
}

/* --- Promises -------------------------------------------------------------------------
 */

static void check_file(const struct node *n, const struct promised_file *p)
{
    struct file_rec f = {0};
    struct err e;
    char hex[65];
    enum rc rc = n->store->ops->file_get(n->store->self, NULL, p->id.z, &f, &e);

    if (rc == RC_NOTFOUND && !p->may_be_gone)
        VIOLATION("I8 file %s was acknowledged and is gone\n", p->id.z);
    else if (rc == RC_OK && p->is_gone)
        VIOLATION("I8 file %s was deleted and is there\n", p->id.z);
    else if (rc != RC_OK && rc != RC_NOTFOUND)
        VIOLATION("file %s: %s\n", p->id.z, e.text);
    if (rc != RC_OK)
        return;
    to_hex(f.sha256, hex);
    if (f.bytes != p->bytes || (p->sha256[0] && strcmp(hex, p->sha256) != 0))
        VIOLATION("I8 file %s is another than was uploaded\n", p->id.z);
    check_bytes(n, &f);
    file_rec_done(&f);
}

static void check_part(const struct node *n, const struct promised_part *p)
{
    bool known = false;
    struct err e;
    struct str s;

    if (p->may_be_gone)
        return;
    if (n->store->ops->file_known(n->store->self, p->id.z, &known, &e) != RC_OK ||
        !known) {
        VIOLATION("I8 part %s was acknowledged and is gone\n", p->id.z);
        return;
    }
    s = slurp(n, p->id.z);
    mem_free((void *)(uintptr_t)s.p);
}

static void check_upload(const struct node *n, const struct promised_upload *p)
{
    struct upload_rec u = {0};
    struct err e;

    if (n->store->ops->upload_get(n->store->self, NULL, p->id.z, &u, &e) != RC_OK) {
        VIOLATION("I8 upload %s was acknowledged and is gone: %s\n", p->id.z, e.text);
        return;
    }
    if (strcmp(p->status, "pending") != 0 &&
        strcmp(upload_status_name(u.status), p->status) != 0)
        VIOLATION("I6 upload %s was %s and is %s\n", p->id.z, p->status,
                  upload_status_name(u.status));
    if (p->file.z[0] && strcmp(u.file.z, p->file.z) != 0)
        VIOLATION("I5 upload %s became file %s and is %s\n", p->id.z, p->file.z,
                  u.file.z);
    upload_rec_done(&u);
}

/* --- Batches --------------------------------------------------------------------------
 */

static struct str next_line(struct str *s)
{
    struct str line;

    do {
        line = str_cut(s, '\n');
    } while (s->n && str_trim(line).n == 0);
    return line;
}

/* The raw custom_id; "" when there is none. */
static struct str custom_id(struct str line)
{
    static const struct json_want want[] = {{"custom_id", -1}};
    struct json_val v;

    if (json_read(line, &(struct json_limits){0}, want, 1, &v, NULL, NULL) != RC_OK)
        return STR("");
    return v.raw;
}

/* Is that the custom_id of the next line?  Then it is taken. */
static bool take_line(struct str *file, struct str id)
{
    struct str rest = *file;

    if (!rest.n || !str_eq(custom_id(next_line(&rest)), id))
        return false;
    *file = rest;
    return true;
}

/* Both files are in input order: each line of the input is the next of one of them. */
static void compare_lines(const struct batch *b, struct str in, struct str out,
                          struct str err)
{
    struct batch_counts n = {0};

    while (in.n) {
        struct str id = custom_id(next_line(&in));

        if (id.n == 0)
            continue;
        n.total++;
        if (take_line(&out, id)) {
            n.completed++;
        } else if (take_line(&err, id)) {
            n.failed++;
        } else {
            VIOLATION("I1 line %u of batch %s is in neither file\n", n.total, b->id.z);
            return;
        }
    }
    if (out.n || err.n)
        VIOLATION("I1 batch %s has results of no line\n", b->id.z);
    if (memcmp(&b->counts, &n, sizeof n) != 0)
        VIOLATION("I2 batch %s counts %u/%u/%u and has %u/%u/%u\n", b->id.z,
                  b->counts.total, b->counts.completed, b->counts.failed, n.total,
                  n.completed, n.failed);
}

/* .p NULL: it is not there, which was told. */
static struct str slurp_if_any(const struct node *n, const struct id *id)
{
    return id_none(id) ? (struct str){mem_dup("", 0), 0} : slurp(n, id->z);
}

static void check_results(const struct node *n, const struct batch *b)
{
    struct str in = slurp(n, b->input_file.z), out = slurp_if_any(n, &b->output_file),
               err = slurp_if_any(n, &b->error_file);

    if (in.p && out.p && err.p)
        compare_lines(b, in, out, err);
    mem_free((void *)(uintptr_t)in.p);
    mem_free((void *)(uintptr_t)out.p);
    mem_free((void *)(uintptr_t)err.p);
}

static bool deleted(const struct promises *p, const struct id *file)
{
    for (size_t i = 0; i < p->n_files; i++)
        if (p->files[i].may_be_gone && strcmp(p->files[i].id.z, file->z) == 0)
            return true;
    return false;
}

static void check_result_file(const struct node *n, const struct promises *all,
                              const struct id *id)
{
    struct file_rec f = {0};
    struct err e;

    if (id_none(id) || deleted(all, id))
        return;
    if (n->store->ops->file_get(n->store->self, NULL, id->z, &f, &e) != RC_OK) {
        VIOLATION("I9 the result file %s has no row\n", id->z);
        return;
    }
    check_bytes(n, &f);
    file_rec_done(&f);
}

static bool same_end(const struct promised_batch *p, const struct batch *b)
{
    return b->status == p->status && strcmp(b->output_file.z, p->output.z) == 0 &&
           strcmp(b->error_file.z, p->error.z) == 0 &&
           memcmp(&b->counts, &p->counts, sizeof b->counts) == 0;
}

static bool went_back(const struct promised_batch *p, const struct batch *b)
{
    if (p->status == BATCH_CANCELLING)
        return b->status != BATCH_CANCELLING && b->status != BATCH_CANCELLED;
    return (p->status == BATCH_IN_PROGRESS && b->status == BATCH_VALIDATING) ||
           (p->status == BATCH_FINALIZING && b->status != BATCH_FINALIZING &&
            !batch_terminal(b->status));
}

/* What its owner asked for outlives a crash, as long as nobody asks for something else. */
static void check_asked(const struct promised_batch *p, const struct batch *b)
{
    if (p->changing || resumed)
        return;
    if (p->expires_at && p->expires_at != b->expires_at)
        VIOLATION("I8 batch %s expires at %lld and was told to at %lld\n", b->id.z,
                  (long long)b->expires_at, (long long)p->expires_at);
    if (p->has_asked && (p->priority != b->priority || p->paused != b->paused))
        VIOLATION("I8 batch %s had priority %d and paused %d, and has %d and %d\n",
                  b->id.z, p->priority, p->paused, b->priority, b->paused);
    if (p->has_asked && p->status != BATCH_VALIDATING && p->reused != b->reused)
        VIOLATION("I8 batch %s took over %u results and now %u\n", b->id.z, p->reused,
                  b->reused);
}

/* Its end is to be told to each receiver once, whatever became of that so far. */
static void check_outbox(const struct node *n, const struct promises *all,
                         const struct batch *b)
{
    struct outbox_rec *rows = NULL;
    size_t count = 0;
    char type[40];
    struct err e;

    if (n->store->ops->outbox_list(n->store->self, NULL, b->id.z, &rows, &count, &e) !=
        RC_OK)
        VIOLATION("I16 the outbox cannot be read: %s\n", e.text);
    if (count != all->webhooks)
        VIOLATION("I16 batch %s is %s, which %zu of %u receivers are told\n", b->id.z,
                  batch_status_name(b->status), count, all->webhooks);
    snprintf(type, sizeof type, "batch.%s", batch_status_name(b->status));
    for (size_t i = 0; i < count; i++)
        if (strcmp(rows[i].type, type) != 0 ||
            strcmp(rows[i].event.z, rows[0].event.z) != 0 ||
            (i && strcmp(rows[i].destination, rows[i - 1].destination) == 0))
            VIOLATION("I16 batch %s is %s and receivers are told %s\n", b->id.z,
                      batch_status_name(b->status), rows[i].type);
    outbox_free(rows, count);
}

static void check_batch(const struct node *n, const struct promises *all,
                        const struct promised_batch *p)
{
    struct batch b = {0};
    struct err e = {""};
    enum rc rc = engine_batch_view(n->engine, NULL, p->id.z, &b, &e);

    if (rc != RC_OK) {
        VIOLATION("I8 batch %s was acknowledged: %s\n", p->id.z, e.text);
        return;
    }
    if (batch_terminal(p->status) && !same_end(p, &b))
        VIOLATION("I6 batch %s ended as %s and is %s, or its files or counts changed\n",
                  p->id.z, batch_status_name(p->status), batch_status_name(b.status));
    else if (went_back(p, &b))
        VIOLATION("I6 batch %s was %s and is %s\n", p->id.z, batch_status_name(p->status),
                  batch_status_name(b.status));
    else if (!batch_terminal(b.status) && (b.counts.completed < p->counts.completed ||
                                           b.counts.failed < p->counts.failed))
        VIOLATION("I7 batch %s counted %u and %u and counts %u and %u\n", p->id.z,
                  p->counts.completed, p->counts.failed, b.counts.completed,
                  b.counts.failed);
    check_asked(p, &b);
    if (batch_terminal(p->status))
        check_outbox(n, all, &b);
    if (batch_terminal(b.status) && b.status != BATCH_FAILED) {
        check_result_file(n, all, &b.output_file);
        check_result_file(n, all, &b.error_file);
        if (!deleted(all, &b.input_file) && !deleted(all, &b.output_file) &&
            !deleted(all, &b.error_file) && b.counts.total)
            check_results(n, &b);
    }
    batch_done(&b);
}

/* --- Results that were read ------------------------------------------------------------
 */

/* Everything that the log of a live batch holds. */
static void read_log(const struct node *n, const char *id, struct buf *ret)
{
    struct reslog_tail_rec rec;
    struct reslog_tail *t;
    struct engine_log log;
    struct id batch;
    enum rc rc;
    struct err e;
    char *to;

    if (id_from(str_of(id), &batch) != RC_OK || !engine_log(n->engine, id, &log))
        return;
    t = reslog_tail_new(log.spool, &batch, log.items);
    while ((rc = reslog_tail_next(t, &log.mark, &rec, &e)) == RC_OK || rc == RC_AGAIN) {
        if (rc == RC_AGAIN)
            continue;
        CHECK(buf_reserve(ret, rec.length, &to) == RC_OK);
        CHECK(reslog_tail_read(t, to, rec.length, &e) == RC_OK);
        buf_commit(ret, rec.length);
    }
    reslog_tail_free(t);
}

static void read_file(const struct node *n, const struct id *file, struct buf *ret)
{
    struct str s = slurp_if_any(n, file);

    if (s.p)
        CHECK(buf_add(ret, s.p, s.n) == RC_OK);
    mem_free((void *)(uintptr_t)s.p);
}

/* The log goes when the batch ends, so the row is looked at behind it. */
static void check_lines(const struct node *n, const struct promises *all,
                        const struct promised_batch *p)
{
    struct batch b = {0};
    struct buf text;
    struct err e;
    unsigned lost = 0;

    for (size_t i = 0; i < all->n_lines; i++)
        lost += strcmp(all->lines[i].batch.z, p->id.z) == 0;
    if (!lost)
        return;
    buf_init(&text, 64 << 20);
    read_log(n, p->id.z, &text);
    if (n->store->ops->batch_get(n->store->self, NULL, p->id.z, &b, &e) == RC_OK &&
        !deleted(all, &b.output_file) && !deleted(all, &b.error_file)) {
        read_file(n, &b.output_file, &text);
        read_file(n, &b.error_file, &text);
        lost = 0;
        for (size_t i = 0; i < all->n_lines; i++)
            lost += strcmp(all->lines[i].batch.z, p->id.z) == 0 &&
                    !memmem(text.p, text.n, all->lines[i].text.p, all->lines[i].text.n);
        if (lost)
            VIOLATION("I5 %u results of batch %s were read and are not there\n", lost,
                      p->id.z);
    }
    batch_done(&b);
    buf_done(&text);
}

/* --- Names and keys --------------------------------------------------------------------
 */

static void check_name(const struct node *n, const struct promised_name *p)
{
    struct batch b = {0}, again = {0};
    struct err e = {""};

    if (id_none(&p->batch))
        return;
    if (n->store->ops->batch_get(n->store->self, NULL, p->batch.z, &b, &e) != RC_OK)
        VIOLATION("I8 batch %s was acknowledged and is gone\n", p->batch.z);
    else if (n->store->ops->batch_by_key(n->store->self, &b.project, p->name, &again,
                                         &e) != RC_OK ||
             strcmp(again.id.z, p->batch.z) != 0)
        VIOLATION("I8 the Idempotency-Key %s made %s and names '%s'\n", p->name,
                  p->batch.z, again.id.z);
    batch_done(&b);
    batch_done(&again);
}

static void check_key(const struct keyfile *k, const struct promised_key *p)
{
    const struct key *found = NULL;

    for (size_t i = 0; i < k->n; i++)
        if (strcmp(k->v[i].id, p->id.z) == 0)
            found = &k->v[i];
    if (p->use != KEY_UNSURE && !found)
        VIOLATION("I8 the key %s was made and is gone\n", p->id.z);
    else if (p->use == KEY_IN_FORCE && found->revoked_at)
        VIOLATION("I8 the key %s was made and is revoked\n", p->id.z);
    else if (p->use == KEY_REVOKED && !found->revoked_at)
        VIOLATION("I8 the key %s was revoked and is in force\n", p->id.z);
}

static void check_keys(const char *dir, const struct promises *p)
{
    struct keyfile k = {0};
    struct err e;
    enum rc rc = keyring_list(dir, &k, &e);

    if (rc != RC_OK && rc != RC_NOTFOUND)
        VIOLATION("I8 nobody's key opens the door: %s\n", e.text);
    for (size_t i = 0; i < p->n_keys && (rc == RC_OK || rc == RC_NOTFOUND); i++)
        check_key(&k, &p->keys[i]);
    keyfile_done(&k);
}

/* Also of batches whose ends nobody was told yet.  Before node_start: whoever ends from then
 * on is told to nobody, as our own configuration has no receivers. */
static void check_all_outboxes(const struct node *n, const struct promises *p)
{
    struct batch *all = NULL;
    size_t count = 0;
    bool more;
    struct err e;

    if (n->store->ops->batch_list(n->store->self, NULL, NULL, 1000, &all, &count, &more,
                                  &e) != RC_OK)
        VIOLATION("the batches cannot be listed: %s\n", e.text);
    for (size_t i = 0; i < count; i++) {
        if (batch_terminal(all[i].status))
            check_outbox(n, p, &all[i]);
        batch_done(&all[i]);
    }
    mem_free(all);
}

/* --- Recovery ---------------------------------------------------------------------------
 */

static void wait_recovered(struct node *n)
{
    for (int i = 0; i < 10000 && !engine_recovered(n->engine); i++)
        poll(NULL, 0, 1);
    if (!engine_recovered(n->engine))
        VIOLATION("I10 recovery does not end\n");
}

static void on_dead(void *ctx, const char *why)
{
    (void)ctx;
    fprintf(stderr, "violation: the store or the engine died: %s\n", why);
    _exit(1);
}

static NORETURN void does_not_start(const struct err *e)
{
    VIOLATION("it does not start: %s\n", e->text);
    _exit(1);
}

static void on_leftover(const char *what, const char *name)
{
    VIOLATION("I9 %s: %s\n", what, name);
}

static void check_promises(const struct node *n, const struct promises *p)
{
    for (size_t i = 0; i < p->n_files; i++)
        check_file(n, &p->files[i]);
    for (size_t i = 0; i < p->n_parts; i++)
        check_part(n, &p->parts[i]);
    for (size_t i = 0; i < p->n_uploads; i++)
        check_upload(n, &p->uploads[i]);
    for (size_t i = 0; i < p->n_batches; i++)
        check_batch(n, p, &p->batches[i]);
    for (size_t i = 0; i < p->n_batches; i++)
        check_lines(n, p, &p->batches[i]);
    for (size_t i = 0; i < p->n_names; i++)
        check_name(n, &p->names[i]);
    check_keys(n->dir, p);
}

/* --- To the end ------------------------------------------------------------------------
 */

/* Those that their owners made wait go on. */
static void resume_all(const struct node *n)
{
    struct batch_edit edit = {.has_paused = true, .has_hold = true};
    struct batch *live = NULL, after = {0};
    size_t count = 0;
    struct err e;

    if (n->store->ops->batch_live(n->store->self, &live, &count, &e) != RC_OK)
        VIOLATION("the live batches cannot be listed: %s\n", e.text);
    for (size_t i = 0; i < count; i++) {
        enum rc rc = engine_edit(n->engine, NULL, live[i].id.z, &edit, &after, &e);

        if (rc != RC_OK && rc != RC_CONFLICT)
            VIOLATION("batch %s cannot be resumed: %s\n", live[i].id.z, e.text);
        batch_done(&after);
        batch_done(&live[i]);
    }
    mem_free(live);
    resumed = true;
}

/* Nothing is asked again that a client was told the answer of, and nothing twice. */
static void check_calls(const struct promised_batch *p, const struct batch *b)
{
    uint32_t twice, calls = upstream_calls(&b->id, &twice);
    uint32_t told = p ? p->counts.completed + p->counts.failed : 0;

    if (twice || (b->counts.total && calls + told > b->counts.total))
        VIOLATION("I11 batch %s: %u lines, %u told to be done, and %u calls, %u of them "
                  "again\n",
                  b->id.z, b->counts.total, told, calls, twice);
}

static const struct promised_batch *find_batch(const struct promises *p, const char *id)
{
    for (size_t i = 0; i < p->n_batches; i++)
        if (strcmp(p->batches[i].id.z, id) == 0)
            return &p->batches[i];
    return NULL;
}

/* Also batches that nobody was told of. */
static void check_ended(const struct node *n, const struct promises *p)
{
    struct batch *all = NULL;
    size_t count = 0;
    bool more;
    struct err e;

    if (n->store->ops->batch_list(n->store->self, NULL, NULL, 1000, &all, &count, &more,
                                  &e) != RC_OK)
        VIOLATION("the batches cannot be listed: %s\n", e.text);
    for (size_t i = 0; i < count; i++) {
        const struct batch *b = &all[i];

        if (!batch_terminal(b->status))
            VIOLATION("I10 batch %s is %s and does not end\n", b->id.z,
                      batch_status_name(b->status));
        else if (b->status != BATCH_FAILED && b->counts.total &&
                 !deleted(p, &b->input_file) && !deleted(p, &b->output_file) &&
                 !deleted(p, &b->error_file))
            check_results(n, b);
        check_calls(find_batch(p, b->id.z), b);
        batch_done(&all[i]);
    }
    mem_free(all);
}

static void finish(struct node *n, const struct promises *p)
{
    resume_all(n);
    for (int i = 0; i < 20000 && !engine_idle(n->engine); i++)
        poll(NULL, 0, 1);
    check_ended(n, p);
    check_promises(n, p);
}

/* --- All together ---------------------------------------------------------------------
 */

/* first: nobody has recovered here before. */
static void recover(const char *dir, const struct config *config,
                    const struct promises *p, bool first)
{
    struct node n = {.dir = dir, .config = config, .on_dead = on_dead};
    struct leftovers *left;
    struct err e = {""};

    if (node_open(&n, &e) != RC_OK)
        does_not_start(&e);
    left = leftovers_look(&n, on_leftover);
    if (first)
        check_all_outboxes(&n, p);
    if (node_start(&n, &e) != RC_OK)
        does_not_start(&e);
    leftovers_done(left);
    wait_recovered(&n);
    check_promises(&n, p);
    if (config->n_upstreams)
        finish(&n, p);
    node_drain(&n, 0);
    node_close(&n);
}

void recovered_check(const char *dir, const struct promises *p, enum recovered_how how)
{
    struct config_sources sources = {0};
    struct config config = {0};
    struct err e;

    log_level_set(LOG_LVL_ERROR);
    if (how == RECOVERED_TO_THE_END)
        sources.upstreams[sources.n_upstreams++] = upstream_start();
    if (config_load(&sources, &config, &e) != RC_OK)
        PANIC("%s", e.text);
    recover(dir, &config, p, how != RECOVERED_TWICE);
    if (how == RECOVERED_AGAIN && !violations)
        recover(dir, &config, p, false);
    _exit(violations ? 1 : 0);
}
