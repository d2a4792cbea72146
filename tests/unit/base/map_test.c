/* SPDX-License-Identifier: Apache-2.0 */
#include "base/map.h"
#include "base/crc.h"
#include "base/id.h"
#include "tests/lib/t.h"

#include <stdio.h>

static struct str key(char *dst, unsigned i)
{
    return (struct str){dst, (size_t)snprintf(dst, 32, "key-%u", i)};
}

TEST(what_was_put_is_found_and_what_was_deleted_is_not)
{
    static int values[5000];
    struct map *m = map_new();
    char text[32];

    for (unsigned i = 0; i < 5000; i++)
        OK(map_put(m, key(text, i), &values[i]) == NULL);
    OK(map_put(m, key(text, 7), &values[8]) == &values[7]);
    EQ_INT(map_len(m), 5000);
    for (unsigned i = 0; i < 5000; i += 2)
        OK(map_del(m, key(text, i)) == &values[i]);
    OK(map_del(m, STR("nope")) == NULL);
    for (unsigned i = 0; i < 5000; i++) {
        void *want = i % 2 == 0 ? NULL : i == 7 ? &values[8] : &values[i];

        OK(map_get(m, key(text, i)) == want);
    }
    EQ_INT(map_len(m), 2500);
    OK(map_free(m) == NULL);
}

TEST(a_walk_sees_every_entry_once)
{
    static int values[100];
    struct map *m = map_new();
    char text[32];
    size_t cursor = 0;
    int *v;

    for (unsigned i = 0; i < 100; i++)
        map_put(m, key(text, i), &values[i]);
    while ((v = map_next(m, &cursor)))
        (*v)++;
    for (unsigned i = 0; i < 100; i++)
        EQ_INT(values[i], 1);
    map_free(m);
    map_free(NULL);
}

TEST(crc32c_agrees_with_rfc_3720)
{
    uint8_t zeros[32] = {0}, ones[32], up[32];

    memset(ones, 0xff, sizeof ones);
    for (unsigned i = 0; i < 32; i++)
        up[i] = (uint8_t)i;
    EQ_INT(crc32c(0, "123456789", 9), 0xe3069283);
    EQ_INT(crc32c(0, zeros, 32), 0x8a9136aa);
    EQ_INT(crc32c(0, ones, 32), 0x62a8ab43);
    EQ_INT(crc32c(0, up, 32), 0x46dd794e);
    for (unsigned cut = 0; cut <= 32; cut++)
        EQ_INT(crc32c(crc32c(0, up, cut), up + cut, 32 - cut), 0x46dd794e);
}

TEST(ids_have_their_form_and_differ)
{
    struct id a = id_make(ID_BATCH), b = id_make(ID_BATCH), c;

    EQ_INT(strlen(a.z), 6 + 32);
    OK(str_starts(id_str(&a), STR("batch_")) && !str_eq(id_str(&a), id_str(&b)));
    EQ_RC(id_from(id_str(&a), &c), RC_OK);
    OK(str_eq(id_str(&a), id_str(&c)) && !id_none(&c));
}

TEST(an_id_is_safe_in_a_path)
{
    static const char *const bad[] = {"",    "../x", "a/b",      "a b",
                                      "a\n", ".",    "\xc3\xa9", "a%2f"};
    char longest[65];

    for (size_t i = 0; i < COUNTOF(bad); i++) {
        t_row(bad[i]);
        OK(!id_ok(str_of(bad[i])));
    }
    OK(!id_ok((struct str){"a\0b", 3}));
    memset(longest, 'a', sizeof longest);
    OK(id_ok((struct str){longest, 63}) && !id_ok((struct str){longest, 64}));
}

TEST(request_ids_are_a_function_of_batch_and_item_and_differ)
{
    struct id batch = id_make(ID_BATCH);
    struct map *m = map_new();
    char hex[33], again[33];
    static int mark;

    for (uint32_t i = 0; i < 20000; i++) {
        id_request(&batch, i, hex);
        id_request(&batch, i, again);
        EQ_Z(hex, again);
        EQ_INT(strlen(hex), 32);
        OK(map_put(m, str_of(hex), &mark) == NULL);
    }
    map_free(m);
}
