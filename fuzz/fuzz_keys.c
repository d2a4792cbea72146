/* SPDX-License-Identifier: Apache-2.0 */
/* The text of a keys file: whatever comes, it is taken or refused in one sentence; what
 * was taken is written again byte for byte.  The input as it is, and with the last line
 * that fits it, so that the sum in front of the door does not keep the fuzzer out. */
/* reaches: src/store/keyfile.c 60 */
#include "base/crc.h"
#include "store/keyfile.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void try_text(struct str text)
{
    struct keyfile k = {0};
    struct err e = {""};
    struct buf again;

    if (keyfile_parse(text, &k, &e) != RC_OK) {
        CHECK(e.text[0] && !strchr(e.text, '\n') && !k.v);
        return;
    }
    for (size_t i = 0; i < k.n; i++) {
        CHECK(key_id_ok(str_of(k.v[i].id)) && key_name_ok(str_of(k.v[i].name)));
        CHECK(project_ok(id_str(&k.v[i].project)) && k.v[i].created_at > 0);
    }
    buf_init(&again, KEYFILE_MAX);
    keyfile_put(&k, &again);
    CHECK(str_eq(buf_peek(&again), text));
    buf_done(&again);
    keyfile_done(&k);
    keyfile_done(&k);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct str text = {(const char *)data, n};
    struct buf whole;
    size_t keys = 0;

    if (n > KEYFILE_MAX / 2)
        return 0;
    try_text(text);
    for (size_t i = 0; i < n; i++)
        keys += text.p[i] == '\n';
    buf_init(&whole, KEYFILE_MAX);
    buf_str(&whole, text);
    buf_fmt(&whole, "end %zu %08x\n", keys ? keys - 1 : 0, crc32c(0, data, n));
    try_text(buf_peek(&whole));
    buf_done(&whole);
    return 0;
}
