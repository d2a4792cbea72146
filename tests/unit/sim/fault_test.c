/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/fault.h"
#include "tests/lib/t.h"

#include <math.h>

static enum rc mix_of(const char *spec, struct sim_mix *mix, struct err *e)
{
    memset(mix, 0, sizeof *mix);
    return sim_mix_parse(str_of(spec), mix, e);
}

TEST(every_kind_can_be_named)
{
    for (unsigned i = SIM_FAULT_REFUSE + 1; i < SIM_FAULT_COUNT; i++) {
        struct sim_mix mix;
        char spec[64];

        t_row(sim_fault_name((enum sim_fault)i));
        EQ_RC(str_fmt(spec, sizeof spec, "%s=1", sim_fault_name((enum sim_fault)i)),
              RC_OK);
        EQ_RC(mix_of(spec, &mix, NULL), RC_OK);
        EQ_INT(sim_mix_pick(&mix, 7, 0).kind, i);
        OK(sim_fault_doc((enum sim_fault)i)[0]);
    }
}

TEST(bad_mixes_are_refused_with_their_reason)
{
    static const struct {
        const char *spec, *says;
    } rows[] = {
        {"", "no fault"},
        {"429", "rate"},
        {"429=", "rate"},
        {"429=x", "rate"},
        {"429=-1", "rate"},
        {"429=1.1", "from 0 to 1"},
        {"429=101%", "from 0 to 1"},
        {"429=1e-3", "rate"},
        {"429=0.1.2", "rate"},
        {"429=nan", "rate"},
        {"199=0.1", "HTTP status"},
        {"600=0.1", "HTTP status"},
        {"none=0.1", "neither"},
        {"status=0.1", "neither"},
        {"rest=0.1", "neither"},
        {"429=0.1,,500=0.1", "neither"},
        {"429=0.6,reset=0.6", "more than 1"},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct sim_mix mix;
        struct err e = {""};

        t_row(rows[i].spec);
        EQ_RC(mix_of(rows[i].spec, &mix, &e), RC_INVALID);
        if (!strstr(e.text, rows[i].says))
            FAIL("it says: %s", e.text);
    }
}

TEST(too_many_faults_are_refused)
{
    struct sim_mix mix = {.n = 0};

    for (int i = 0; i < SIM_MIX_MAX; i++)
        EQ_RC(sim_mix_parse(STR("500=0"), &mix, NULL), RC_OK);
    EQ_RC(sim_mix_parse(STR("500=0"), &mix, NULL), RC_LIMIT);
}

TEST(rates_come_out_as_asked)
{
    struct sim_mix mix;
    unsigned got[SIM_FAULT_COUNT] = {0}, of_429 = 0;
    const unsigned n = 200000;

    EQ_RC(mix_of("429=10%,500=0.05,reset=0.2,stall=0", &mix, NULL), RC_OK);
    for (unsigned i = 0; i < n; i++) {
        struct sim_hit hit = sim_mix_pick(&mix, sim_mix64(i), i % 3);

        got[hit.kind]++;
        of_429 += hit.kind == SIM_FAULT_STATUS && hit.status == 429;
    }
    /* five standard deviations of the largest share are 0.005 */
    OK(fabs(of_429 / (double)n - 0.10) < 0.005);
    OK(fabs(got[SIM_FAULT_STATUS] / (double)n - 0.15) < 0.005);
    OK(fabs(got[SIM_FAULT_RESET] / (double)n - 0.20) < 0.005);
    EQ_INT(got[SIM_FAULT_STALL], 0);
}

TEST(a_decision_is_a_function_of_body_and_attempt_and_attempts_differ)
{
    struct sim_mix mix;
    unsigned differ = 0;

    EQ_RC(mix_of("reset=0.5", &mix, NULL), RC_OK);
    for (uint64_t h = 0; h < 1000; h++) {
        struct sim_hit first = sim_mix_pick(&mix, sim_mix64(h), 0);

        EQ_INT(sim_mix_pick(&mix, sim_mix64(h), 0).kind, first.kind);
        differ += sim_mix_pick(&mix, sim_mix64(h), 1).kind != first.kind;
    }
    OK(differ > 400 && differ < 600);
}

TEST(no_faults_means_none_and_certainty_means_all)
{
    struct sim_mix none = {.n = 0}, all;

    EQ_RC(mix_of("reset=0.5,429=0.5", &all, NULL), RC_OK);
    for (uint64_t h = 0; h < 10000; h++) {
        EQ_INT(sim_mix_pick(&none, sim_mix64(h), 0).kind, SIM_FAULT_NONE);
        OK(sim_mix_pick(&all, sim_mix64(h), 0).kind != SIM_FAULT_NONE);
    }
}

TEST(refusing_goes_by_connection_and_beside_the_others)
{
    struct sim_mix mix;
    unsigned refused = 0;

    EQ_RC(mix_of("refuse=0.5,429=1", &mix, NULL), RC_OK);
    EQ_INT(sim_mix_pick(&mix, 1, 0).status, 429);
    for (uint64_t c = 0; c < 10000; c++) {
        refused += sim_mix_refuses(&mix, 1, c);
        EQ_INT(sim_mix_refuses(&mix, 1, c), sim_mix_refuses(&mix, 1, c));
    }
    OK(refused > 4700 && refused < 5300);
}

TEST(a_schedule_says_what_holds_when)
{
    struct sim_schedule s = {.n = 0};

    EQ_RC(sim_schedule_parse(STR("429@10s+5s,down@1s+2s,stall@0+100ms"), &s, NULL),
          RC_OK);
    EQ_INT(s.n, 3);
    OK(s.row[1].act == SIM_ACT_DOWN && s.row[1].from == USEC_PER_SEC &&
       s.row[1].to == 3 * USEC_PER_SEC);
    EQ_INT(sim_schedule_at(&s, SIM_ACT_FAULT, 1, 0)->hit.kind, SIM_FAULT_STALL);
    OK(sim_schedule_at(&s, SIM_ACT_FAULT, 1, 100 * USEC_PER_MS) == NULL);
    OK(sim_schedule_at(&s, SIM_ACT_FAULT, 1, 2 * USEC_PER_SEC) ==
       NULL); /* down is no fault of a request */
    EQ_INT(sim_schedule_at(&s, SIM_ACT_FAULT, 1, 10 * USEC_PER_SEC)->hit.status, 429);
    EQ_INT(sim_schedule_at(&s, SIM_ACT_FAULT, 1, 15 * USEC_PER_SEC - 1)->hit.status, 429);
    OK(sim_schedule_at(&s, SIM_ACT_FAULT, 1, 15 * USEC_PER_SEC) == NULL);
}

TEST(a_schedule_knows_what_is_no_fault_of_a_request)
{
    static const struct {
        const char *spec;
        enum sim_act act;
        double value;
        enum sim_blur blur;
        unsigned replica;
    } rows[] = {
        {"crash@1s+1s", SIM_ACT_CRASH, 1, SIM_BLUR_NONE, 0},
        {"slow@1s+1s:2.5", SIM_ACT_SLOWER, 2.5, SIM_BLUR_NONE, 0},
        {"slow@1s+1s:0.5#3", SIM_ACT_SLOWER, 0.5, SIM_BLUR_NONE, 3},
        {"unload@1s+1s#1", SIM_ACT_UNLOAD, 1, SIM_BLUR_NONE, 1},
        {"shrink@1s+1s:25%", SIM_ACT_SHRINK, 0.25, SIM_BLUR_NONE, 0},
        {"metrics-500@1s+1s", SIM_ACT_METRICS, 1, SIM_BLUR_500, 0},
        {"metrics-slow@1s+1s", SIM_ACT_METRICS, 1, SIM_BLUR_SLOW, 0},
        {"metrics-stale@1s+1s", SIM_ACT_METRICS, 1, SIM_BLUR_STALE, 0},
        {"metrics-garbage@1s+1s#2", SIM_ACT_METRICS, 1, SIM_BLUR_GARBAGE, 2},
        {"slow@1s+1s", SIM_ACT_FAULT, 1, SIM_BLUR_NONE, 0}, /* the fault of that name */
        {"429@1s+1s#256", SIM_ACT_FAULT, 1, SIM_BLUR_NONE, 256},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct sim_schedule s = {.n = 0};

        t_row(rows[i].spec);
        EQ_RC(sim_schedule_parse(str_of(rows[i].spec), &s, NULL), RC_OK);
        EQ_INT(s.row[0].act, rows[i].act);
        OK(s.row[0].value == rows[i].value);
        EQ_INT(s.row[0].blur, rows[i].blur);
        EQ_INT(s.row[0].replica, rows[i].replica);
    }
}

TEST(what_is_scheduled_for_one_replica_leaves_the_others_alone)
{
    struct sim_schedule s = {.n = 0};

    EQ_RC(sim_schedule_parse(STR("slow@1s+4s:4#2,slow@2s+1s:3,503@0+1s#1"), &s, NULL),
          RC_OK);
    OK(sim_schedule_at(&s, SIM_ACT_FAULT, 1, 0));
    OK(!sim_schedule_at(&s, SIM_ACT_FAULT, 2, 0));
    OK(sim_schedule_value(&s, SIM_ACT_SLOWER, 1, USEC_PER_SEC) == 1);
    OK(sim_schedule_value(&s, SIM_ACT_SLOWER, 2, USEC_PER_SEC) == 4);
    OK(sim_schedule_value(&s, SIM_ACT_SLOWER, 1, 2 * USEC_PER_SEC) == 3);
    OK(sim_schedule_value(&s, SIM_ACT_SLOWER, 2, 2 * USEC_PER_SEC) == 12);
    OK(sim_schedule_value(&s, SIM_ACT_SLOWER, 2, 5 * USEC_PER_SEC) == 1);
}

TEST(bad_schedules_are_refused)
{
    static const char *const rows[] = {"",
                                       "down",
                                       "down@",
                                       "down@1s",
                                       "down@1s+",
                                       "down@1+1s",
                                       "down@1s+1",
                                       "nothing@1s+1s",
                                       "refuse@1s+1s",
                                       "@1s+1s",
                                       "down@1s-1s",
                                       "429@1s+1s,,",
                                       "down@1s+1s:2",
                                       "slow@1s+1s:0",
                                       "slow@1s+1s:x",
                                       "slow@1s+1s:1e9",
                                       "shrink@1s+1s",
                                       "shrink@1s+1s:0",
                                       "shrink@1s+1s:2",
                                       "down@1s+1s#",
                                       "down@1s+1s#0",
                                       "down@1s+1s#257",
                                       "down@1s+1s#a",
                                       "metrics-@1s+1s",
                                       "metrics-404@1s+1s"};

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct sim_schedule s = {.n = 0};
        struct err e = {""};

        t_row(rows[i]);
        EQ_RC(sim_schedule_parse(str_of(rows[i]), &s, &e), RC_INVALID);
        OK(e.text[0]);
    }
}
