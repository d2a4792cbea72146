/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/oracle.h"
#include "tests/lib/t.h"

static const struct sim_hit none = {SIM_FAULT_NONE, 0}, reset = {SIM_FAULT_RESET, 0};

static uint64_t come(struct sim_oracle *o, const char *id, uint64_t hash)
{
    struct sim_record r = {
        .path = "/p", .hash = hash, .crc = 0xabc, .bytes = 9, .came = 5};

    EQ_RC(str_fmt(r.id, sizeof r.id, "%s", id), RC_OK);
    r.attempt = sim_oracle_seen(o, hash);
    return sim_oracle_came(o, &r);
}

static void end(struct sim_oracle *o, uint64_t ticket, uint64_t hash, struct sim_hit hit,
                uint32_t status, bool aborted, usec_t now)
{
    struct sim_end e = {.hit = hit, .status = status, .aborted = aborted, .now = now};

    sim_oracle_went(o, ticket, hash, &e);
}

static bool counts_have(const struct sim_oracle *o, const char *text)
{
    struct buf b;
    bool found;

    buf_init(&b, 1 << 16);
    sim_oracle_counts(o, &b, NULL, NULL);
    found = memmem(b.p, b.n, text, strlen(text)) != NULL;
    if (!found)
        t_note("%.*s", (int)b.n, b.p);
    buf_done(&b);
    return found;
}

TEST(each_body_has_its_own_count_through_growth)
{
    struct sim_oracle *o = sim_oracle_new(0);

    for (uint32_t round = 0; round < 3; round++)
        for (uint64_t h = 0; h < 20000; h++) /* a hash of 0 is one, too */
            EQ_INT(sim_oracle_seen(o, sim_mix64(h)), round);
    OK(counts_have(o, "\"bodies\":20000,"));
    IGNORE(sim_oracle_free(o));
}

TEST(lines_tell_what_came_and_what_it_was_given)
{
    struct sim_oracle *o = sim_oracle_new(4);
    uint64_t a = come(o, "a\"b", 1), b = come(o, "b", 1);
    struct buf text;

    end(o, a, 1, reset, 0, false, 7);
    buf_init(&text, 1 << 16);
    sim_oracle_lines(o, &text);
    EQ_STR(
        buf_peek(&text),
        STR("{\"id\":\"a\\\"b\",\"path\":\"/p\",\"hash\":\"0000000000000001\",\"crc32\":"
            "\"00000abc\",\"bytes\":9,\"attempt\":0,\"status\":0,\"fault\":\"reset\","
            "\"aborted\":false,\"came_us\":5,\"began_us\":null,\"went_us\":7}\n"
            "{\"id\":\"b\",\"path\":\"/p\",\"hash\":\"0000000000000001\",\"crc32\":"
            "\"00000abc\",\"bytes\":9,\"attempt\":1,\"status\":0,\"fault\":\"none\","
            "\"aborted\":false,\"came_us\":5,\"began_us\":null,\"went_us\":null}\n"));
    end(o, b, 1, none, 200, false, 8);
    buf_done(&text);
    IGNORE(sim_oracle_free(o));
}

TEST(the_ring_keeps_the_last_and_late_ends_harm_nobody)
{
    struct sim_oracle *o = sim_oracle_new(2);
    uint64_t a = come(o, "a", 1), b = come(o, "b", 2), c = come(o, "c", 3);
    struct buf text;

    end(o, a, 1, reset, 0, false, 7); /* its place is c's now */
    end(o, b, 2, none, 200, false, 7);
    buf_init(&text, 1 << 16);
    sim_oracle_lines(o, &text);
    OK(!memmem(text.p, text.n, "\"a\"", 3));
    OK(memmem(text.p, text.n, "\"b\"", 3) && memmem(text.p, text.n, "\"c\"", 3));
    OK(!memmem(text.p, text.n, "reset", 5));
    OK(counts_have(o, "\"requests\":3,") && counts_have(o, "\"reset\":1"));
    end(o, c, 3, none, 200, false, 7);
    buf_done(&text);
    IGNORE(sim_oracle_free(o));
}

TEST(counts_tell_good_answers_and_those_given_again)
{
    static const struct sim_hit slow = {SIM_FAULT_SLOW, 0},
                                half = {SIM_FAULT_CLOSE_BODY, 0};
    struct sim_oracle *o = sim_oracle_new(2);

    end(o, come(o, "a", 1), 1, half, 200, false, 1);
    end(o, come(o, "a", 1), 1, slow, 200, false, 1);
    end(o, come(o, "a", 1), 1, none, 200, false, 1);
    end(o, come(o, "b", 2), 2, none, 0, true, 1);
    end(o, come(o, "c", 3), 3, none, 400, false, 1);
    sim_oracle_refused(o);
    sim_oracle_crashed(o);
    OK(counts_have(o,
                   "{\"requests\":5,\"bodies\":3,\"good\":2,\"good_again\":1,"
                   "\"faults\":2,\"aborted\":1,\"refused_connections\":1,\"crashes\":1,"
                   "\"status\":{\"none\":1,\"200\":3,\"400\":1},"
                   "\"fault\":{\"close-body\":1,\"slow\":1}}\n"));
    EQ_INT(sim_oracle_totals(o).good, 2);
    IGNORE(sim_oracle_free(o));
}

TEST(a_full_table_of_bodies_forgets_and_goes_on)
{
    struct sim_oracle *o = sim_oracle_new(0);
    const uint64_t most = (4u << 20) / 4 * 3;

    for (uint64_t h = 1; h <= most; h++)
        EQ_INT(sim_oracle_seen(o, sim_mix64(h)), 0);
    EQ_INT(sim_oracle_seen(o, sim_mix64(1)), 1);
    EQ_INT(sim_oracle_seen(o, sim_mix64(most + 1)), 0); /* one too many: all forgotten */
    EQ_INT(sim_oracle_seen(o, sim_mix64(1)), 0);
    OK(counts_have(o, "\"bodies\":3145730,"));
    IGNORE(sim_oracle_free(o));
}

TEST(what_a_model_did_for_a_request_is_told_and_summed_up)
{
    struct sim_oracle *o = sim_oracle_new(4);
    struct sim_work done = {.modelled = true,
                            .began = 10,
                            .first = 20,
                            .prompt = 100,
                            .cached = 32,
                            .computed = 68,
                            .made = 7,
                            .preempted = 1};
    struct sim_work cut = {.modelled = true, .began = 11, .prompt = 50, .computed = 40};
    uint64_t a = come(o, "a", 1), b = come(o, "b", 2), c = come(o, "c", 3);
    struct sim_end e = {.status = 200, .now = 30, .work = done};
    struct buf text;

    sim_oracle_went(o, a, 1, &e);
    e = (struct sim_end){.aborted = true, .now = 31, .work = cut};
    sim_oracle_went(o, b, 2, &e);
    e = (struct sim_end){.aborted = true, .now = 32}; /* its work goes on */
    sim_oracle_went(o, c, 3, &e);
    sim_oracle_worked(o, c, &done);
    buf_init(&text, 1 << 16);
    sim_oracle_lines(o, &text);
    (void)buf_char(&text, '\0');
    OK(strstr(text.p, "\"began_us\":10,\"first_us\":20,\"prompt\":100,\"cached\":32,"));
    OK(strstr(text.p, "\"began_us\":11,\"first_us\":null,\"prompt\":50,\"cached\":0,"
                      "\"computed\":40,\"made\":0,\"preempted\":0,\"went_us\":31}"));
    buf_done(&text);
    OK(counts_have(o, "\"tokens\":{\"prompt\":250,\"cached\":64,\"computed\":176,"
                      "\"made\":14,\"wasted\":115},\"preempted\":2"));
    IGNORE(sim_oracle_free(o));
}
