/* SPDX-License-Identifier: Apache-2.0 */
/* The text of a configuration file: whatever comes, it is taken or refused in one
 * sentence; what was taken prints as a file that is taken again and says the same. */
/* reaches: src/app/config_file.c 42 */
/* reaches: src/app/setting.c 42 */
#include "app/config.h"
#include "app/setting.h"

#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define LINE_MAX_BYTES 4094 /* batchd.conf(5) */

/* libinih takes what follows a ';' behind a space for a comment, so such a value cannot be
 * written down; nor can one that is too long for a line with spaces around its '='. */
static bool can_be_written(const struct config *c, struct buf *text)
{
    struct str s;

    config_print(c, text);
    s = buf_peek(text);
    while (s.n) {
        struct str line = str_cut(&s, '\n');

        if (line.n && line.p[0] != '#' && line.p[0] != ';' &&
            (memmem(line.p, line.n, " ;", 2) || memmem(line.p, line.n, "\t;", 2)))
            return false;
        if (line.n > LINE_MAX_BYTES)
            return false;
    }
    return !buf_failed(text);
}

static void check_round_trip(const struct config *c)
{
    struct config again = {0};
    struct buf one, two;
    struct err e;

    for (size_t i = 0; i < n_settings; i++) /* config_load sets them before */
        if (settings[i].value)
            CHECK(setting_set(&settings[i], &again, str_of(settings[i].value), "",
                              NULL) == RC_OK);
    buf_init(&one, (size_t)8 << 20);
    buf_init(&two, (size_t)8 << 20);
    if (can_be_written(c, &one)) {
        if (config_parse(&again, buf_peek(&one), "again", &e) != RC_OK)
            PANIC("%s", e.text);
        config_print(&again, &two);
        CHECK(str_eq(buf_peek(&one), buf_peek(&two)));
    }
    buf_done(&one);
    buf_done(&two);
    config_done(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct config c = {0};
    struct err e = {""};
    struct catalog *catalog;

    for (size_t i = 0; i < n_settings; i++)
        if (settings[i].value)
            CHECK(setting_set(&settings[i], &c, str_of(settings[i].value), "", NULL) ==
                  RC_OK);
    if (config_parse(&c, (struct str){(const char *)data, n}, "fuzz.ini", &e) == RC_OK) {
        for (size_t i = 0; i < c.n_upstreams; i++)
            CHECK(c.upstreams[i].url && c.upstreams[i].name);
        (void)config_loopback(c.listen);
        catalog = config_catalog(&c);
        catalog_free(catalog);
        check_round_trip(&c);
    } else {
        CHECK(e.text[0] && !strchr(e.text, '\n'));
    }
    config_done(&c);
    config_done(&c);
    return 0;
}
