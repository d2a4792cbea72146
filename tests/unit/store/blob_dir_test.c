/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fsio.h"
#include "base/map.h"
#include "base/mem.h"
#include "store/blob.h"
#include "tests/lib/t.h"

#include <fcntl.h>
#include <openssl/sha.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

static struct blobs *open_all(void)
{
    struct blobs *b = NULL;
    struct err e = {{0}};

    if (blob_dir_open(t_dir(), &b, &e) != RC_OK)
        FAIL("%s", e.text);
    return b;
}

static uint8_t byte_of(uint64_t i)
{
    return (uint8_t)((i * 2654435761u) >> 13);
}

static struct blob_put *put_in_pieces(struct blobs *b, size_t n, size_t piece)
{
    struct blob_put *p = NULL;
    uint8_t *part = mem_alloc(piece);

    EQ_RC(b->ops->put(b->self, &p, NULL), RC_OK);
    for (size_t at = 0; at < n; at += piece) {
        size_t len = n - at < piece ? n - at : piece;

        for (size_t i = 0; i < len; i++)
            part[i] = byte_of(at + i);
        EQ_RC(b->ops->write(p, part, len, NULL), RC_OK);
    }
    mem_free(part);
    return p;
}

static void check_bytes(struct blobs *b, const char *id, size_t n)
{
    struct blob *x = NULL;
    uint8_t *got = mem_alloc(n + 1);
    size_t got_n = 0;

    EQ_RC(b->ops->open(b->self, id, &x, NULL), RC_OK);
    EQ_INT(b->ops->size(x), n);
    OK(b->ops->fd(x) >= 0);
    EQ_RC(b->ops->pread(x, got, n + 1, 0, &got_n, NULL), RC_OK);
    EQ_INT(got_n, n);
    for (size_t i = 0; i < n; i++)
        if (got[i] != byte_of(i))
            FAIL("byte %zu differs", i);
    if (n > 10) {
        EQ_RC(b->ops->pread(x, got, 5, n - 3, &got_n, NULL), RC_OK);
        EQ_INT(got_n, 3);
        EQ_INT(got[0], byte_of(n - 3));
    }
    EQ_RC(b->ops->pread(x, got, 1, n + 100, &got_n, NULL), RC_OK);
    EQ_INT(got_n, 0);
    b->ops->close(x);
    mem_free(got);
}

TEST(what_was_put_is_read_with_its_sum_whatever_the_pieces)
{
    static const struct {
        const char *name;
        size_t n, piece;
    } rows[] = {
        {"empty", 0, 1},
        {"one byte", 1, 1},
        {"small pieces", 200000, 1700},
        {"pieces of the buffer's size", 262144, 65536},
        {"one more than the buffer", 65537, 65537},
        {"large and odd", 3000001, 100003},
        {"over the early writeback", 20 << 20, 1 << 20},
    };
    struct blobs *b = open_all();

    for (size_t k = 0; k < COUNTOF(rows); k++) {
        struct id id = id_make(ID_FILE);
        struct blob_sum sum = {0};
        uint8_t *all = mem_alloc(rows[k].n), want[32];

        t_row(rows[k].name);
        for (size_t i = 0; i < rows[k].n; i++)
            all[i] = byte_of(i);
        SHA256(all, rows[k].n, want);
        EQ_RC(
            b->ops->commit(put_in_pieces(b, rows[k].n, rows[k].piece), id.z, &sum, NULL),
            RC_OK);
        EQ_INT(sum.bytes, rows[k].n);
        OK(memcmp(sum.sha256, want, 32) == 0);
        check_bytes(b, id.z, rows[k].n);
        mem_free(all);
    }
    blobs_close(b);
}

TEST(a_put_is_seen_by_nobody_before_commit_and_leaves_nothing_when_aborted)
{
    struct blobs *b = open_all();
    struct id id = id_make(ID_FILE);
    struct blob *x = NULL;
    struct blob_put *p = put_in_pieces(b, 100, 100);
    struct err e;

    EQ_RC(b->ops->open(b->self, id.z, &x, &e), RC_NOTFOUND);
    OK(strstr(e.text, id.z));
    b->ops->abort(p);
    b->ops->abort(NULL);
    EQ_INT(rmdir("tmp"), 0); /* it is empty */
    blobs_close(b);
}

TEST(a_repeated_commit_replaces_the_first)
{
    struct blobs *b = open_all();
    struct id id = id_make(ID_FILE);
    struct blob_sum sum;

    EQ_RC(b->ops->commit(put_in_pieces(b, 10, 10), id.z, &sum, NULL), RC_OK);
    EQ_RC(b->ops->commit(put_in_pieces(b, 500, 10), id.z, &sum, NULL), RC_OK);
    check_bytes(b, id.z, 500);
    blobs_close(b);
}

TEST(tmp_is_emptied_at_the_start_and_published_blobs_stay)
{
    struct blobs *b = open_all();
    struct id id = id_make(ID_FILE);
    struct blob_sum sum;
    int fd = -1;

    EQ_RC(b->ops->commit(put_in_pieces(b, 10, 10), id.z, &sum, NULL), RC_OK);
    EQ_RC(fs_open("tmp/x", O_CREAT | O_WRONLY, 0600, &fd, NULL), RC_OK);
    fs_close(&fd);
    EQ_INT(symlink("/etc/passwd", "tmp/link"), 0);
    blobs_close(b);
    b = open_all();
    EQ_INT(rmdir("tmp"), 0);
    check_bytes(b, id.z, 10);
    blobs_close(b);
}

TEST(a_blob_lies_where_the_format_says)
{
    struct blobs *b = open_all();
    struct blob_sum sum;
    struct stat st;

    EQ_RC(b->ops->commit(put_in_pieces(b, 10, 10), "file-abcdef", &sum, NULL), RC_OK);
    EQ_INT(stat("files/ef/file-abcdef", &st), 0);
    EQ_INT(st.st_mode, S_IFREG | 0600);
    EQ_INT(stat("files/ef", &st), 0);
    EQ_INT(st.st_mode, S_IFDIR | 0700);
    blobs_close(b);
}

TEST(names_that_are_no_ids_reach_no_file)
{
    static const char *const bad[] = {"",   "a",     "../../etc/passwd", "file-a/b", "..",
                                      ".x", "a b c", "file-\n\n",        "file-é"};
    struct blobs *b = open_all();
    struct blob_sum sum;
    struct blob *x = NULL;

    for (size_t i = 0; i < COUNTOF(bad); i++) {
        t_row(bad[i]);
        EQ_RC(b->ops->open(b->self, bad[i], &x, NULL), RC_INVALID);
        EQ_RC(b->ops->remove(b->self, bad[i], NULL), RC_INVALID);
        EQ_RC(b->ops->adopt(b->self, "/etc/passwd", bad[i], NULL), RC_INVALID);
        EQ_RC(b->ops->commit(put_in_pieces(b, 1, 1), bad[i], &sum, NULL), RC_INVALID);
    }
    EQ_INT(rmdir("tmp"), 0);
    blobs_close(b);
}

TEST(an_adopted_file_is_read_in_place_and_survives_removal)
{
    struct blobs *b = open_all();
    struct id id = id_make(ID_FILE);
    struct blob *x = NULL;
    struct stat st;
    int fd = -1;

    EQ_RC(fs_open("mine.jsonl", O_CREAT | O_WRONLY, 0644, &fd, NULL), RC_OK);
    for (unsigned i = 0; i < 100; i++) {
        uint8_t c = byte_of(i);

        EQ_RC(fs_write(fd, &c, 1, "mine.jsonl", NULL), RC_OK);
    }
    fs_close(&fd);
    EQ_RC(b->ops->adopt(b->self, "mine.jsonl", id.z, NULL), RC_OK);
    check_bytes(b, id.z, 100);
    EQ_RC(b->ops->adopt(b->self, "./mine.jsonl", id.z, NULL), RC_OK); /* once more */
    blobs_close(b);
    b = open_all();
    check_bytes(b, id.z, 100); /* the link is absolute and lasts */
    EQ_RC(b->ops->remove(b->self, id.z, NULL), RC_OK);
    EQ_RC(b->ops->open(b->self, id.z, &x, NULL), RC_NOTFOUND);
    EQ_INT(stat("mine.jsonl", &st), 0);
    EQ_INT(st.st_size, 100);
    blobs_close(b);
}

TEST(what_cannot_be_adopted_is_refused)
{
    struct blobs *b = open_all();
    struct id id = id_make(ID_FILE);
    struct err e;

    EQ_RC(b->ops->adopt(b->self, "not-there", id.z, &e), RC_NOTFOUND);
    OK(strstr(e.text, "not-there"));
    EQ_RC(b->ops->adopt(b->self, ".", id.z, &e), RC_INVALID);
    EQ_INT(mkfifo("pipe", 0600), 0);
    EQ_RC(b->ops->adopt(b->self, "pipe", id.z, &e), RC_INVALID);
    EQ_INT(rmdir("tmp"), 0);
    blobs_close(b);
}

TEST(a_link_under_an_ordinary_name_is_not_followed)
{
    struct blobs *b = open_all();
    struct blob *x = NULL;

    EQ_INT(mkdir("files/ab", 0700), 0);
    EQ_INT(symlink("/etc/passwd", "files/ab/file-ab"), 0);
    OK(b->ops->open(b->self, "file-ab", &x, NULL) != RC_OK);
    blobs_close(b);
}

TEST(removing_is_final_and_removing_nothing_is_fine)
{
    struct blobs *b = open_all();
    struct id id = id_make(ID_FILE);
    struct blob_sum sum;
    struct blob *x = NULL;

    EQ_RC(b->ops->remove(b->self, id.z, NULL), RC_OK);
    EQ_RC(b->ops->commit(put_in_pieces(b, 10, 10), id.z, &sum, NULL), RC_OK);
    EQ_RC(b->ops->remove(b->self, id.z, NULL), RC_OK);
    EQ_RC(b->ops->open(b->self, id.z, &x, NULL), RC_NOTFOUND);
    EQ_RC(b->ops->remove(b->self, id.z, NULL), RC_OK);
    blobs_close(b);
}

TEST(an_open_blob_can_be_read_after_its_removal)
{
    struct blobs *b = open_all();
    struct blob_sum sum;
    struct blob *x = NULL;
    char got[10];
    size_t n;

    EQ_RC(b->ops->commit(put_in_pieces(b, 10, 10), "file-xx", &sum, NULL), RC_OK);
    EQ_RC(b->ops->open(b->self, "file-xx", &x, NULL), RC_OK);
    EQ_RC(b->ops->remove(b->self, "file-xx", NULL), RC_OK);
    EQ_RC(b->ops->pread(x, got, 10, 0, &n, NULL), RC_OK);
    EQ_INT(n, 10);
    b->ops->close(x);
    b->ops->close(NULL);
    blobs_close(b);
}

TEST(a_file_that_became_shorter_is_damage_and_not_its_end)
{
    struct blobs *b = open_all();
    struct blob_sum sum;
    struct blob *x = NULL;
    struct err e;
    char got[10];
    size_t n;

    EQ_RC(b->ops->commit(put_in_pieces(b, 10, 10), "file-xx", &sum, NULL), RC_OK);
    EQ_RC(b->ops->open(b->self, "file-xx", &x, NULL), RC_OK);
    EQ_INT(truncate("files/xx/file-xx", 4), 0);
    EQ_RC(b->ops->pread(x, got, 10, 0, &n, &e), RC_CORRUPT);
    EQ_RC(b->ops->pread(x, got, 4, 0, &n, &e), RC_OK);
    b->ops->close(x);
    blobs_close(b);
}

static struct map *listed;

static void note(void *ctx, const char *id)
{
    static char one;

    (void)ctx;
    if (map_put(listed, str_of(id), &one))
        FAIL("%s was told twice", id);
}

TEST(each_tells_every_published_blob_once_and_nothing_else)
{
    struct blobs *b = open_all();
    struct blob_sum sum;
    struct id ids[40];
    struct blob_put *unfinished = put_in_pieces(b, 10, 10);
    int fd = -1;

    listed = map_new();
    for (size_t i = 0; i < COUNTOF(ids); i++) {
        ids[i] = id_make(ID_FILE);
        EQ_RC(b->ops->commit(put_in_pieces(b, 1, 1), ids[i].z, &sum, NULL), RC_OK);
    }
    EQ_RC(b->ops->adopt(b->self, "/etc/passwd", "file-adopted", NULL), RC_OK);
    EQ_RC(fs_open("files/stray", O_CREAT | O_WRONLY, 0600, &fd, NULL), RC_OK);
    fs_close(&fd);
    EQ_INT(mkdir("files/zz", 0700), 0);
    EQ_RC(fs_open("files/zz/file-of-another-place", O_CREAT | O_WRONLY, 0600, &fd, NULL),
          RC_OK);
    fs_close(&fd);
    EQ_RC(b->ops->each(b->self, note, NULL, NULL), RC_OK);
    EQ_INT(map_len(listed), COUNTOF(ids) + 1);
    for (size_t i = 0; i < COUNTOF(ids); i++)
        OK(map_get(listed, id_str(&ids[i])));
    OK(map_get(listed, STR("file-adopted")));
    b->ops->abort(unfinished);
    map_free(listed);
    blobs_close(b);
}

static void *put_many(void *arg)
{
    struct blobs *b = arg;

    for (unsigned i = 0; i < 20; i++) {
        struct id id = id_make(ID_FILE);
        struct blob_sum sum;

        EQ_RC(b->ops->commit(put_in_pieces(b, 3000, 700), id.z, &sum, NULL), RC_OK);
        check_bytes(b, id.z, 3000);
        EQ_RC(b->ops->remove(b->self, id.z, NULL), RC_OK);
    }
    return NULL;
}

TEST(threads_put_and_read_side_by_side)
{
    struct blobs *b = open_all();
    pthread_t t[4];

    for (unsigned i = 0; i < 4; i++)
        EQ_INT(pthread_create(&t[i], NULL, put_many, b), 0);
    for (unsigned i = 0; i < 4; i++)
        EQ_INT(pthread_join(t[i], NULL), 0);
    EQ_INT(rmdir("tmp"), 0);
    blobs_close(b);
}
