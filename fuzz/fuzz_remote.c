/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_remote: what a server tells the commands of a batch: any JSON may come from what
 * only says that it speaks the API.  A batch that is taken has names that are safe in a
 * path, and what is borrowed lies in the answer.
 */
/* reaches: src/app/remote.c 8 */
/* reaches: src/json/json.c 38 */
#include "fuzz/lib/quiet.h"

#include "app/remote.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct str text = {(const char *)data, n};
    struct remote_batch b = {0};
    struct err e = {""};

    if (remote_batch_read(text, &b, &e) != RC_OK) {
        CHECK(e.text[0]);
        return 0;
    }
    CHECK(id_ok(id_str(&b.id)));
    CHECK(id_none(&b.output_file) || id_ok(id_str(&b.output_file)));
    CHECK(id_none(&b.error_file) || id_ok(id_str(&b.error_file)));
    CHECK((unsigned)b.status < BATCH_STATUS_COUNT);
    CHECK(memchr(b.endpoint, '\0', sizeof b.endpoint));
    CHECK(b.created_at >= 0 && b.ended_at >= 0);
    CHECK(b.errors.n == 0 ||
          (b.errors.p >= text.p && b.errors.p + b.errors.n <= text.p + text.n));
    return 0;
}
