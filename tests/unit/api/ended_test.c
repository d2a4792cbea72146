/* SPDX-License-Identifier: Apache-2.0 */
#include "api/ended.h"
#include "tests/lib/mem_store.h"

/* A batch whose items' lines go where a test wants them. */
struct made {
    struct mem_store *m;
    struct batch b;
    struct buf output, error;
};

static bool all(void *ctx, uint32_t item)
{
    (void)ctx, (void)item;
    return true;
}

static bool odd(void *ctx, uint32_t item)
{
    unsigned *asked = ctx;

    EQ_INT(item, *asked); /* each once, in order */
    (*asked)++;
    return item % 2;
}

/* Of a batch that was continued, the line may have the id of an earlier one. */
static void line_of(const struct id *batch, uint32_t item, size_t n, struct buf *to)
{
    char hex[33];

    id_request(batch, item, hex);
    (void)buf_fmt(to, "{\"id\":\"batch_req_%s\",\"custom_id\":\"%u\",\"x\":\"", hex,
                  item);
    for (size_t i = 0; i < n; i++)
        (void)buf_char(to, (char)('a' + (item + i) % 26));
    (void)buf_z(to, "\"}\n");
}

static size_t length(uint32_t item)
{
    return item % 50 == 7 ? 100000 + item : item * 31 % 900;
}

static void publish(struct made *x, struct buf *bytes, struct id *ret)
{
    const struct blob_ops *ops = x->m->blobs_if.ops;
    struct file_rec f = {
        .id = id_make(ID_FILE), .project = x->b.project, .created_at = 1};
    struct blob_put *put = NULL;
    struct blob_sum sum;

    if (bytes->n == 0)
        return;
    EQ_RC(ops->put(x->m->blobs_if.self, &put, NULL), RC_OK);
    EQ_RC(ops->write(put, bytes->p, bytes->n, NULL), RC_OK);
    EQ_RC(ops->commit(put, f.id.z, &sum, NULL), RC_OK);
    f.bytes = sum.bytes;
    f.filename = mem_dup("x", 1);
    memcpy(f.purpose, "batch_output", sizeof "batch_output");
    EQ_RC(x->m->store.ops->file_add(x->m->store.self, &f, NULL, NULL), RC_OK);
    *ret = f.id;
    file_rec_done(&f);
}

static void begin(struct made *x, uint32_t items)
{
    *x = (struct made){.m = mem_store_new()};
    x->b = (struct batch){.id = id_make(ID_BATCH),
                          .project = {"default"},
                          .status = BATCH_CANCELLED,
                          .counts = {.total = items}};
    buf_init(&x->output, 64u << 20);
    buf_init(&x->error, 64u << 20);
}

static void done(struct made *x)
{
    buf_done(&x->output);
    buf_done(&x->error);
    mem_store_free(x->m);
}

static struct ended *open_it(struct made *x)
{
    struct ended *e = NULL;
    struct err why = {{0}};

    if (ended_open(&x->m->store, &x->m->blobs_if, &x->b, &e, &why) != RC_OK)
        FAIL("%s", why.text);
    return e;
}

/* All that comes, `room` bytes at a time. */
static enum rc fill(struct ended *e, ended_wanted_fn *wanted, void *ctx, struct buf *out,
                    size_t room)
{
    enum rc rc = RC_OK;

    for (unsigned i = 0; rc == RC_OK; i++) {
        size_t before = out->n;

        rc = ended_fill(e, wanted, ctx, out, room, NULL);
        OK(out->n - before <= room);
        if (i % 3 == 0)
            ended_rest(e);
    }
    return rc;
}

static bool is_error(uint32_t item)
{
    return item % 7 == 3 || item > 900;
}

static void make_lines(struct made *x, const struct id *earlier)
{
    for (uint32_t i = 0; i < x->b.counts.total; i++)
        line_of(earlier && i % 5 == 0 && !is_error(i) ? earlier : &x->b.id, i, length(i),
                is_error(i) ? &x->error : &x->output);
    publish(x, &x->output, &x->b.output_file);
    publish(x, &x->error, &x->b.error_file);
}

TEST(the_whole_is_the_output_and_then_the_error_file)
{
    struct made x;
    struct ended *e;
    struct buf out;

    begin(&x, 1000);
    make_lines(&x, NULL);
    for (size_t room = 100; room < 10u << 20; room *= 37) {
        e = open_it(&x);
        buf_init(&out, 64u << 20);
        EQ_RC(fill(e, NULL, NULL, &out, room), RC_NOTFOUND);
        EQ_INT(out.n, x.output.n + x.error.n);
        OK(memcmp(out.p, x.output.p, x.output.n) == 0);
        OK(memcmp(out.p + x.output.n, x.error.p, x.error.n) == 0);
        buf_done(&out);
        IGNORE(ended_free(e));
    }
    IGNORE(ended_free(NULL));
    done(&x);
}

/* Also where some lines were answered for an earlier batch and have its ids. */
TEST(lines_are_found_by_item_and_those_not_wanted_passed_over)
{
    struct id earlier = id_make(ID_BATCH);

    for (int reused = 0; reused < 2; reused++) {
        struct made x;
        struct buf want;

        begin(&x, 1000);
        make_lines(&x, reused ? &earlier : NULL);
        buf_init(&want, 64u << 20);
        for (uint32_t i = 1; i < 1000; i += 2)
            line_of(reused && i % 5 == 0 && !is_error(i) ? &earlier : &x.b.id, i,
                    length(i), &want);
        for (size_t room = 60; room < 10u << 20; room *= 41) {
            struct ended *e = open_it(&x);
            unsigned asked = 0;
            struct buf out;

            buf_init(&out, 64u << 20);
            EQ_RC(fill(e, odd, &asked, &out, room), RC_NOTFOUND);
            EQ_INT(asked, 1000);
            EQ_INT(out.n, want.n);
            OK(memcmp(out.p, want.p, want.n) == 0);
            buf_done(&out);
            IGNORE(ended_free(e));
        }
        buf_done(&want);
        done(&x);
    }
}

static bool only_errors(void *ctx, uint32_t item)
{
    (void)ctx;
    return is_error(item);
}

TEST(the_output_is_not_read_when_none_of_it_is_wanted)
{
    struct made x;
    struct ended *e;
    struct buf out;

    begin(&x, 1000);
    make_lines(&x, NULL);
    e = open_it(&x);
    ended_only_errors(e);
    buf_init(&out, 64u << 20);
    EQ_RC(fill(e, only_errors, NULL, &out, 5000), RC_NOTFOUND);
    EQ_STR(buf_peek(&out), buf_peek(&x.error));
    buf_done(&out);
    IGNORE(ended_free(e));
    e = open_it(&x);
    ended_only_errors(e);
    buf_init(&out, 64u << 20);
    EQ_RC(fill(e, all, NULL, &out, 5000), RC_CORRUPT); /* a line that must be there */
    buf_done(&out);
    IGNORE(ended_free(e));
    done(&x);
}

TEST(files_that_lack_a_line_or_its_end_are_told_of)
{
    struct made x;
    struct ended *e;
    struct buf out;

    for (int cut = 0; cut < 2; cut++) {
        begin(&x, 10);
        for (uint32_t i = 0; i < 9u + (unsigned)cut; i++)
            line_of(&x.b.id, i, 100, &x.output);
        x.output.n -= (size_t)cut; /* the last line feed */
        publish(&x, &x.output, &x.b.output_file);
        e = open_it(&x);
        buf_init(&out, 64u << 20);
        EQ_RC(fill(e, all, NULL, &out, 500), RC_CORRUPT);
        buf_done(&out);
        IGNORE(ended_free(e));
        done(&x);
    }
}

TEST(a_deleted_file_is_named_and_a_batch_without_files_is_empty)
{
    struct made x;
    struct ended *e = NULL;
    struct err why;
    struct buf out;

    begin(&x, 1000);
    make_lines(&x, NULL);
    EQ_RC(x.m->store.ops->file_delete(x.m->store.self, NULL, x.b.error_file.z, 5, NULL),
          RC_OK);
    EQ_RC(ended_open(&x.m->store, &x.m->blobs_if, &x.b, &e, &why), RC_NOTFOUND);
    OK(strstr(why.text, x.b.error_file.z));
    done(&x);
    begin(&x, 0);
    e = open_it(&x);
    buf_init(&out, 100);
    EQ_RC(ended_fill(e, NULL, NULL, &out, 100, NULL), RC_NOTFOUND);
    EQ_RC(ended_fill(e, all, NULL, &out, 100, NULL), RC_NOTFOUND);
    EQ_INT(out.n, 0);
    buf_done(&out);
    IGNORE(ended_free(e));
    done(&x);
}
