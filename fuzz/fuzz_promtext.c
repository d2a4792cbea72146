/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_promtext: an upstream's metrics.  The input is the text of two answers, one after
 * the other, with an empty byte between.
 *
 * Whatever comes, every figure is untold or a number that a server could have; what is
 * read does not hang on what stands behind the text; twice the same text is believed.
 */
/* reaches: src/core/promtext.c 60 */
#include "base/mem.h"
#include "core/promtext.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check_number(double v, double most)
{
    CHECK(v == v);
    CHECK((v >= 0 && v <= most) || v == -1);
}

static struct promtext read_text(struct str text)
{
    char *copy = mem_dup(text.p, text.n); /* so that a byte too far is seen */
    struct promtext p, again;
    bool any = promtext_read((struct str){copy, text.n}, &p);

    check_number(p.running, 9007199254740992.0);
    check_number(p.waiting, 9007199254740992.0);
    check_number(p.kv, 1);
    check_number(p.preemptions, 9007199254740992.0);
    check_number(p.prefix_hits, 9007199254740992.0);
    check_number(p.prefix_queries, 9007199254740992.0);
    check_number(p.prompt_tokens, 9007199254740992.0);
    check_number(p.output_tokens, 9007199254740992.0);
    check_number(p.kv_tokens, 9007199254740992.0);
    check_number(p.started, 9007199254740992.0);
    CHECK(any == (p.running >= 0 || p.waiting >= 0));
    CHECK(promtext_read((struct str){copy, text.n}, &again) == any);
    CHECK(p.running == again.running && p.waiting == again.waiting && p.kv == again.kv &&
          p.preemptions == again.preemptions && p.prefix_hits == again.prefix_hits &&
          p.prefix_queries == again.prefix_queries && p.started == again.started);
    mem_free(copy);
    return p;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct str rest = {(const char *)data, n}, first = str_cut(&rest, '\0');
    struct promtext a = read_text(first), b = read_text(rest);
    struct promwatch w;

    promwatch_init(&w);
    CHECK(promwatch_see(&w, &a, 1));
    CHECK(promwatch_see(&w, &a, 2));
    (void)promwatch_see(&w, &b, 3);
    (void)promwatch_see(&w, &a, 4);
    CHECK(promwatch_see(&w, &a, 5 + PROMWATCH_AGAIN)); /* the last sign is long ago */
    return 0;
}
