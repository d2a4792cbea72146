/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/t.h"
#include "base/limits.h"
#include "core/serverinfo.h"

TEST(what_servers_tell_of_their_room_is_read)
{
    static const struct {
        const char *body;
        unsigned slots;
        uint64_t kv;
    } rows[] = {
        {"{\"default_generation_settings\":{\"n_ctx\":8192},\"total_slots\":4,"
         "\"chat_template\":\"x\"}",
         4, 0},
        {"{\"max_running_requests\":256,\"max_total_num_tokens\":163840}", 256, 163840},
        {"{\"max_running_requests\":null,\"internal_states\":[{\"a\":1,"
         "\"effective_max_running_requests_per_dp\":128},"
         "{\"effective_max_running_requests_per_dp\":128}]}",
         256, 0},
        {"{\"model_id\":\"m\",\"max_concurrent_requests\":128,"
         "\"max_batch_total_tokens\":32768}",
         128, 32768},
        {"{\"total_slots\":99999999,\"max_total_num_tokens\":18446744073709551615}",
         LIMIT_INFLIGHT, (uint64_t)1 << 40},
        {"{\"total_slots\":-4}", 0, 0},
        {"{\"total_slots\":\"4\"}", 0, 0},
        {"{\"total_slots\":4.5}", 0, 0},
        {"{\"internal_states\":[1,null,{\"x\":[]}]}", 0, 0},
        {"{\"internal_states\":{\"effective_max_running_requests_per_dp\":128}}", 0, 0},
        {"{\"status\":\"ok\"}", 0, 0},
        {"[]", 0, 0},
        {"<html>", 0, 0},
        {"", 0, 0},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct serverinfo info;

        t_row(rows[i].body);
        EQ_INT(serverinfo_read(str_of(rows[i].body), &info), rows[i].slots || rows[i].kv);
        EQ_INT(info.slots, rows[i].slots);
        EQ_INT(info.kv_tokens, rows[i].kv);
    }
}
