/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/plan.h"
#include "engine/intake.h"
#include "base/mem.h"
#include "tests/lib/t.h"

#include <stdio.h>

static const struct id batch = {"batch_0123456789abcdef0123456789abcdef"};

/* A file of bodies, scanned as the server does. */
struct rig {
    struct buf file;
    enum endpoint ep;
    enum dedup_mode dedup;
    uint32_t n;
    struct index *index;
};

static void rig_init(struct rig *r, enum endpoint ep, enum dedup_mode dedup)
{
    *r = (struct rig){.ep = ep, .dedup = dedup};
    buf_init(&r->file, 64u << 20);
}

static void rig_add(struct rig *r, const char *body)
{
    OK(buf_fmt(&r->file,
               "{\"custom_id\":\"%u\",\"method\":\"POST\",\"url\":\"%s\",\"body\":%s}\n",
               r->n++, endpoint_path(r->ep), body) == RC_OK);
}

static enum rc read_file(void *ctx, char *dst, size_t cap, uint64_t off, size_t *ret_n)
{
    const struct buf *b = ctx;

    *ret_n = off < b->n ? (size_t)u64_min(cap, b->n - off) : 0;
    memcpy(dst, b->p + off, *ret_n);
    return RC_OK;
}

static void fault(void *ctx, const struct intake_fault *f)
{
    (void)ctx;
    FAIL("%s", f->message);
}

static void rig_scan(struct rig *r)
{
    struct plan *plan = plan_new(r->dedup, 1000000);
    struct intake_rules rules = {
        .endpoint = r->ep, .each = plan_add, .each_ctx = plan, .many_models = true};
    struct index_writer *w = NULL;
    struct intake_result result;
    struct err e;

    EQ_RC(index_create(t_dir(), &batch, &w, &e), RC_OK);
    EQ_RC(intake_scan(read_file, &r->file, r->file.n, &rules, w, fault, NULL, NULL,
                      &result, &e),
          RC_OK);
    EQ_RC(plan_write(plan, w, &e), RC_OK);
    plan_free(plan);
    EQ_RC(index_finish(w, &e), RC_OK);
    r->index = index_free(r->index);
    EQ_RC(index_load(t_dir(), &batch, &r->index, &e), RC_OK);
    EQ_INT(index_count(r->index), r->n);
}

static void rig_done(struct rig *r)
{
    buf_done(&r->file);
    index_free(r->index);
}

static void fill(char *text, size_t n, unsigned seed)
{
    for (size_t i = 0; i < n; i++)
        text[i] = (char)('a' + (seed = seed * 1103515245 + 12345) / 65536 % 26);
    text[n] = '\0';
}

TEST(questions_on_one_document_stand_side_by_side)
{
    enum { DOCS = 20, EACH = 5 };
    struct rig r;
    unsigned runs = 0;
    char doc[4001], body[5000];
    uint64_t key = 0;

    rig_init(&r, ENDPOINT_CHAT, DEDUP_OFF);
    for (unsigned i = 0; i < DOCS * EACH; i++) {
        fill(doc, 4000, i % DOCS + 1);
        snprintf(body, sizeof body,
                 "{\"messages\":[{\"role\":\"user\",\"content\":\"%s and %u?\"}],"
                 "\"max_tokens\":%u}",
                 doc, i, i + 1);
        rig_add(&r, body);
    }
    rig_scan(&r);
    OK(index_ordered(r.index));
    for (uint32_t k = 0; k < r.n; k++) {
        struct index_place at = index_place(r.index, k);

        if (k == 0 || at.item % DOCS != index_place(r.index, k - 1).item % DOCS) {
            runs++;
            OK(at.shared < at.prompt / 4);
        } else {
            OK(at.shared > at.prompt * 3 / 4 && at.shared <= at.prompt);
        }
        EQ_INT(at.max_out, at.item + 1);
        OK(at.prompt > 4000 / 4 && at.prompt < 4200 / 4);
        OK(at.key >= key);
        key = at.key;
    }
    EQ_INT(runs, DOCS);
    rig_done(&r);
}

/* Of two lines, each `head`, a long text, `middle`, another word and `tail`: does the
 * second share (nearly) all of the text with the first? */
static bool share(enum endpoint ep, const char *head, const char *middle,
                  const char *tail)
{
    struct rig r;
    char text[3001], body[8000];
    bool shared;

    fill(text, 3000, 7);
    rig_init(&r, ep, DEDUP_OFF);
    for (int i = 0; i < 2; i++) {
        snprintf(body, sizeof body, "%s%s%s%s%s", head, text, middle, i ? "you" : "me",
                 tail);
        rig_add(&r, body);
    }
    rig_scan(&r);
    shared = index_place(r.index, 1).shared > 3000 / 4 * 4 / 5;
    rig_done(&r);
    return shared;
}

TEST(a_prompt_is_what_the_template_puts_first)
{
    /* Where the member stands in the body makes no difference. */
    OK(share(ENDPOINT_CHAT, "{\"messages\":[\"", "\"],\"user\":\"", "\"}"));
    OK(share(ENDPOINT_CHAT, "{\"tools\":[\"", "\"],\"messages\":[\"", "\"]}"));
    OK(!share(ENDPOINT_CHAT, "{\"messages\":[\"", "\"],\"tools\":[\"", "\"]}"));
    OK(!share(ENDPOINT_CHAT, "{\"messages\":[\"", "\"],\"response_format\":[\"", "\"]}"));
    OK(share(ENDPOINT_RESPONSES, "{\"instructions\":\"", "\",\"input\":\"", "\"}"));
    OK(!share(ENDPOINT_RESPONSES, "{\"input\":\"", "\",\"instructions\":\"", "\"}"));
    OK(share(ENDPOINT_COMPLETIONS, "{\"prompt\":\"", " ", "\"}"));
}

TEST(endpoints_without_such_prompts_stay_in_the_order_of_the_file)
{
    struct rig r;

    rig_init(&r, ENDPOINT_EMBEDDINGS, DEDUP_OFF);
    for (int i = 0; i < 50; i++)
        rig_add(&r, i % 2 ? "{\"input\":\"abcdefghijkl\"}" : "{\"input\":[1,2,3]}");
    rig_scan(&r);
    for (uint32_t k = 0; k < r.n; k++) {
        struct index_place at = index_place(r.index, k);

        EQ_INT(at.item, k);
        EQ_INT(at.shared, 0);
        EQ_INT(at.prompt, k % 2 ? 4 : 3);
        EQ_INT(at.max_out, 1);
    }
    rig_done(&r);
}

/* --- Which follow which --------------------------------------------------------------- */

struct pair {
    enum endpoint ep;
    enum dedup_mode mode;
    bool follows;
    const char *one, *two;
};

static void check_pair(const struct pair *p)
{
    struct rig r;

    t_row(p->two);
    rig_init(&r, p->ep, p->mode);
    rig_add(&r, p->one);
    rig_add(&r, "{\"input\":\"between\",\"prompt\":\"them\"}");
    rig_add(&r, p->two);
    rig_scan(&r);
    EQ_INT(index_followers(r.index), p->follows);
    if (p->follows) {
        EQ_INT(index_follower(r.index, 0).leader, 0);
        EQ_INT(index_follower(r.index, 0).item, 2);
    }
    rig_done(&r);
}

#define EMB  ENDPOINT_EMBEDDINGS
#define CHAT ENDPOINT_CHAT

TEST(what_asks_the_same_of_an_embedding_model_follows)
{
    static const struct pair rows[] = {
        {EMB, DEDUP_OFF, false, "{\"input\":\"a\"}", "{\"input\":\"a\"}"},
        {EMB, DEDUP_EMBEDDINGS, true, "{\"input\":\"a\"}", "{\"input\":\"a\"}"},
        {EMB, DEDUP_DETERMINISTIC, true, "{\"input\":\"a\"}", "{\"input\":\"a\"}"},
        {ENDPOINT_MODERATIONS, DEDUP_EMBEDDINGS, true, "{\"input\":\"a\"}",
         "{\"input\":\"a\"}"},
        {EMB, DEDUP_EMBEDDINGS, false, "{\"input\":\"a\"}", "{\"input\":\"b\"}"},
        {EMB, DEDUP_EMBEDDINGS, false, "{\"input\":\"a\"}", "{\"input\": \"a\"}"},
        {EMB, DEDUP_EMBEDDINGS, false, "{\"model\":\"x\",\"input\":\"a\"}",
         "{\"model\":\"y\",\"input\":\"a\"}"},
        {EMB, DEDUP_EMBEDDINGS, false, "{\"input\":\"a\",\"dimensions\":1}",
         "{\"input\":\"a\",\"dimensions\":2}"},
        {EMB, DEDUP_EMBEDDINGS, true, "{\"input\":\"a\",\"user\":\"x\"}",
         "{\"input\":\"a\",\"user\":\"yy\"}"},
        {EMB, DEDUP_EMBEDDINGS, false, "{\"input\":\"a\",\"user\":\"x\",\"n\":1}",
         "{\"input\":\"a\",\"user\":\"x\",\"n\":2}"},
        {EMB, DEDUP_EMBEDDINGS, true,
         "{\"metadata\":{\"a\":\"b\"},\"input\":\"a\",\"store\":true,"
         "\"prompt_cache_key\":\"k\",\"safety_identifier\":\"s\"}",
         "{\"metadata\":{},\"input\":\"a\",\"store\":false,\"prompt_cache_key\":\"\","
         "\"safety_identifier\":null}"},
        {EMB, DEDUP_EMBEDDINGS, false, "{\"input\":{\"user\":\"a\"}}",
         "{\"input\":{\"user\":\"b\"}}"},
        {ENDPOINT_IMAGES, DEDUP_DETERMINISTIC, false, "{\"prompt\":\"a\"}",
         "{\"prompt\":\"a\"}"},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++)
        check_pair(&rows[i]);
}

TEST(of_chats_only_what_draws_nothing_follows_and_only_when_it_is_asked_for)
{
    static const struct {
        const char *body;
        bool follows;
    } rows[] = {
        {"{\"messages\":[]}", false},
        {"{\"messages\":[],\"seed\":1}", false},
        {"{\"messages\":[],\"temperature\":0}", true},
        {"{\"messages\":[],\"temperature\":0.0}", true},
        {"{\"messages\":[],\"temperature\":-0e7}", true},
        {"{\"messages\":[],\"temperature\":null}", false},
        {"{\"messages\":[],\"temperature\":\"0\"}", false},
        {"{\"messages\":[],\"temperature\":0.01}", false},
        {"{\"messages\":[],\"temperature\":1}", false},
        {"{\"messages\":[],\"temperature\":0,\"n\":1}", true},
        {"{\"messages\":[],\"temperature\":0,\"n\":null}", true},
        {"{\"messages\":[],\"temperature\":0,\"n\":2}", false},
        {"{\"messages\":[],\"temperature\":0,\"tools\":[]}", true},
        {"{\"messages\":[],\"temperature\":0,\"tools\":[{}]}", false},
        {"{\"messages\":[],\"temperature\":0,\"functions\":[{}]}", false},
        {"{\"messages\":[],\"temperature\":0,\"conversation\":\"c\"}", false},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        const char *body = rows[i].body;

        check_pair(&(struct pair){CHAT, DEDUP_EMBEDDINGS, false, body, body});
        check_pair(
            &(struct pair){CHAT, DEDUP_DETERMINISTIC, rows[i].follows, body, body});
    }
}

TEST(many_follow_the_first_of_each)
{
    struct rig r;
    char body[100];

    rig_init(&r, EMB, DEDUP_EMBEDDINGS);
    for (int i = 0; i < 20000; i++) {
        snprintf(body, sizeof body, "{\"input\":\"%d\"}", i % 7000);
        rig_add(&r, body);
    }
    rig_scan(&r);
    EQ_INT(index_followers(r.index), 13000);
    for (uint32_t k = 0; k < 13000; k++) {
        struct index_follower f = index_follower(r.index, k);

        OK(f.leader < 7000 && f.item > f.leader);
        EQ_INT(f.item % 7000, f.leader);
    }
    rig_done(&r);
}
