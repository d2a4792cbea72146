/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_index: an index file of any bytes.  The first byte's bit 0 makes its checksums and
 * its counts right, or no fuzzer would get behind them: bit 1 says whether there is an
 * order, the bits above how many followers.  What loads must point into its lines.
 */
/* reaches: src/store/index.c 24 */
#include "base/crc.h"
#include "base/fsio.h"
#include "base/mem.h"
#include "store/index.h"
#include "store/le.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define HEAD 96u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const struct id batch = {"batch_0123456789abcdef0123456789abcdef"};

static const char *dir(void)
{
    static char path[64];

    if (!path[0]) {
        snprintf(path, sizeof path, "%s/fuzz-index-XXXXXX",
                 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
        CHECK(mkdtemp(path));
    }
    return path;
}

static void put(const uint8_t *p, size_t n)
{
    char path[FS_PATH_CAP];
    int fd = -1;

    CHECK(str_fmt(path, sizeof path, "%s/%s.idx", dir(), batch.z) == RC_OK);
    CHECK(fs_open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600, &fd, NULL) == RC_OK);
    CHECK(fs_write(fd, p, n, path, NULL) == RC_OK);
    fs_close(&fd);
}

static void mend(uint8_t *p, size_t n, uint8_t how)
{
    uint32_t followers = how >> 2;
    uint32_t count =
        (uint32_t)((n - HEAD - u64_min(followers * 8u, n - HEAD)) / (how & 2 ? 48 : 24));

    memcpy(p, "bd-index", 8);
    le32_put(p + 8, 2);
    le32_put(p + 12, count);
    le32_put(p + 80, how & 2 ? count : 0);
    le32_put(p + 84, followers);
    memset(p + 16, 0, 64);
    memcpy(p + 16, batch.z, strlen(batch.z));
    le32_put(p + 88, crc32c(0, p + HEAD, n - HEAD));
    le32_put(p + 92, crc32c(0, p, 92));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct index *x = NULL;
    bool mended = n > HEAD && data[0] & 1;
    uint8_t *p = mem_try(n + 1), how = n ? data[0] : 0;
    enum rc rc;

    if (n)
        memcpy(p, data + 1, --n);
    if (mended)
        mend(p, n, how);
    put(p, n);
    mem_free(p);
    rc = index_load(dir(), &batch, &x, NULL);
    CHECK(rc == RC_OK || rc == RC_CORRUPT);
    if (rc != RC_OK)
        return 0;
    CHECK(HEAD + index_count(x) * (index_ordered(x) ? 48ull : 24ull) +
              index_followers(x) * 8ull ==
          n);
    for (uint32_t i = 0; i < index_count(x); i++) {
        struct index_entry en = index_get(x, i);

        CHECK(en.length < 1u << 26);
        CHECK((uint64_t)en.body_off + en.body_len <= en.length);
    }
    for (uint32_t k = 0; index_ordered(x) && k < index_count(x); k++)
        CHECK(index_place(x, k).item < index_count(x));
    for (uint32_t k = 0; k < index_followers(x); k++)
        CHECK(index_follower(x, k).leader < index_follower(x, k).item);
    index_trim(x);
    index_free(x);
    return 0;
}
