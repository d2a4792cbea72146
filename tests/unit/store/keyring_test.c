/* SPDX-License-Identifier: Apache-2.0 */
#include "store/keyring.h"
#include "base/crc.h"
#include "base/fsio.h"
#include "base/log.h"
#include "base/mem.h"
#include "tests/lib/t.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct err e;

/* A text of lines with the right last line behind it; static, so one at a time. */
static struct str whole(const char *lines, size_t n_keys)
{
    static char text[8192];
    int n = snprintf(text, sizeof text, "%s", lines);

    n += snprintf(text + n, sizeof text - (size_t)n, "end %zu %08x\n", n_keys,
                  crc32c(0, lines, strlen(lines)));
    return (struct str){text, (size_t)n};
}

static void put(struct str text)
{
    int fd = -1;

    EQ_RC(fs_open("keys.new", O_WRONLY | O_CREAT | O_TRUNC, 0600, &fd, NULL), RC_OK);
    EQ_RC(fs_write(fd, text.p, text.n, "keys.new", NULL), RC_OK);
    fs_close(&fd);
    EQ_RC(fs_rename("keys.new", "keys", NULL), RC_OK);
}

static struct keyring *ring(void)
{
    struct keyring *k = NULL;

    log_level_set(LOG_LVL_ERROR);
    EQ_RC(keyring_open(".", &k, &e), RC_OK);
    return k;
}

struct made {
    char text[KEY_TEXT_CAP];
    struct key key;
};

static struct made add(const char *name, const char *project)
{
    struct made m;

    if (keyring_add(".", str_of(name), str_of(project), 1700000000, m.text, &m.key, &e) !=
        RC_OK)
        FAIL("%s", e.text);
    return m;
}

static enum rc check(struct keyring *k, const char *text)
{
    struct id project, key;

    return keyring_check(k, str_of(text), &project, &key, &e);
}

#define SUM  "0d7c3e0fa30f6564166c8e5f9bf89fcdbad544d6b4d35580d4413d1c54008f63"
#define GOOD "key f1e93b2c5654c8f5 alice default " SUM " 1700000000 -\n"
#define HEAD "batchd keys 1\n"

/* --- The file -------------------------------------------------------------------------
 */

TEST(a_key_file_is_read_as_it_was_written)
{
    struct keyfile k = {0};
    struct str text = whole(
        HEAD GOOD "key f1e93b2c5654c8f6 ci.2 team-b " SUM " 1700000001 1700000002\n", 2);
    struct buf out;

    EQ_RC(keyfile_parse(text, &k, &e), RC_OK);
    EQ_INT(k.n, 2);
    EQ_Z(k.v[0].name, "alice");
    EQ_Z(k.v[0].project.z, "default");
    EQ_INT(k.v[0].sha256[0], 0x0d);
    EQ_INT(k.v[0].revoked_at, 0);
    EQ_Z(k.v[1].id, "f1e93b2c5654c8f6");
    EQ_INT(k.v[1].created_at, 1700000001);
    EQ_INT(k.v[1].revoked_at, 1700000002);
    buf_init(&out, KEYFILE_MAX);
    keyfile_put(&k, &out);
    EQ_STR(buf_peek(&out), text);
    buf_done(&out);
    keyfile_done(&k);
    keyfile_done(&k);
}

TEST(what_is_no_key_file_is_refused_with_its_line)
{
    static const struct {
        const char *lines, *says;
    } rows[] = {
        {"", "line 1"},
        {"batchd keys 2\n", "newer batchd"},
        {HEAD "\n", "line 2"},
        {HEAD "kex f1e93b2c5654c8f5 a default " SUM " 1 -\n", "begin with 'key'"},
        {HEAD "key f1e93b2c5654c8f a default " SUM " 1 -\n", "its id"},
        {HEAD "key F1E93B2C5654C8F5 a default " SUM " 1 -\n", "its id"},
        {HEAD "key f1e93b2c5654c8f5  default " SUM " 1 -\n", "its name"},
        {HEAD "key f1e93b2c5654c8f5 -a default " SUM " 1 -\n", "its name"},
        {HEAD "key f1e93b2c5654c8f5 a\tb default " SUM " 1 -\n", "its name"},
        {HEAD "key f1e93b2c5654c8f5 a Default " SUM " 1 -\n", "its project"},
        {HEAD "key f1e93b2c5654c8f5 a default 00 1 -\n", "its SHA-256"},
        {HEAD "key f1e93b2c5654c8f5 a default " SUM " 0 -\n", "creation"},
        {HEAD "key f1e93b2c5654c8f5 a default " SUM " 01 -\n", "creation"},
        {HEAD "key f1e93b2c5654c8f5 a default " SUM " 1 0\n", "revocation"},
        {HEAD "key f1e93b2c5654c8f5 a default " SUM " 1 - \n", "revocation"},
        {HEAD "key f1e93b2c5654c8f5 a default " SUM " 1 9223372036854775808\n",
         "revocation"},
        {HEAD GOOD GOOD, "twice"},
        {HEAD GOOD "key f1e93b2c5654c8f6 alice default " SUM " 1 -\n", "twice"},
    };

    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct keyfile k = {0};
        size_t n = 0;

        for (const char *p = rows[i].lines; *p; p++)
            n += *p == '\n';
        t_row(rows[i].lines);
        EQ_RC(keyfile_parse(whole(rows[i].lines, n ? n - 1 : 0), &k, &e), RC_CORRUPT);
        if (!strstr(e.text, rows[i].says))
            FAIL("'%s' does not say '%s'", e.text, rows[i].says);
        OK(k.v == NULL);
    }
}

TEST(a_file_that_lost_or_changed_a_single_byte_is_refused)
{
    struct str text = whole(HEAD GOOD, 1);
    char copy[8192];
    struct keyfile k = {0};

    for (size_t n = 0; n < text.n; n++)
        EQ_RC(keyfile_parse((struct str){text.p, n}, &k, &e), RC_CORRUPT);
    for (size_t at = 0; at < text.n; at++) {
        for (int bit = 0; bit < 8; bit++) {
            memcpy(copy, text.p, text.n);
            copy[at] = (char)(copy[at] ^ (1 << bit));
            EQ_RC(keyfile_parse((struct str){copy, text.n}, &k, &e), RC_CORRUPT);
        }
    }
    memcpy(copy, text.p, text.n);
    copy[text.n] = '\n';
    EQ_RC(keyfile_parse((struct str){copy, text.n + 1}, &k, &e), RC_CORRUPT);
}

TEST(names_of_keys_and_projects_have_their_forms)
{
    char longest[80];

    memset(longest, 'a', sizeof longest);
    OK(key_name_ok(STR("a")) && key_name_ok(STR("Ann.B_c@d-1")));
    OK(key_name_ok((struct str){longest, KEY_NAME_CAP - 1}));
    OK(!key_name_ok((struct str){longest, KEY_NAME_CAP}));
    OK(!key_name_ok(STR("")) && !key_name_ok(STR(".a")) && !key_name_ok(STR("a b")));
    OK(!key_name_ok(STR("a\0b")) && !key_name_ok(STR("a/b")) && !key_name_ok(STR("é")));
    OK(!key_name_ok(STR("0123456789abcdef"))); /* revoke would not know which is meant */
    OK(project_ok(STR("default")) && project_ok(STR("7-a_b")));
    OK(project_ok((struct str){longest, PROJECT_CAP - 1}));
    OK(!project_ok((struct str){longest, PROJECT_CAP}));
    OK(!project_ok(STR("")) && !project_ok(STR("-a")) && !project_ok(STR("A")));
    OK(!project_ok(STR("a.b")) && !project_ok(STR("a\0")));
}

/* --- The door -------------------------------------------------------------------------
 */

TEST(without_a_file_nobody_is_asked)
{
    struct keyring *k = ring();

    EQ_RC(keyring_state(k, &e), RC_NOTFOUND);
    EQ_RC(check(k, "sk-whatever"), RC_NOTFOUND);
    EQ_RC(keyring_stands(k, &(struct id){""}, &e), RC_OK);
    keyring_free(k);
    OK(keyring_free(NULL) == NULL);
}

TEST(a_key_opens_its_project_and_no_other_text_does)
{
    struct keyring *k = ring();
    struct made a = add("alice", "default"), b = add("bob", "team-b");
    struct id project, key;
    char wrong[KEY_TEXT_CAP + 2];

    EQ_RC(keyring_check(k, str_of(a.text), &project, &key, &e), RC_OK);
    EQ_Z(project.z, "default");
    EQ_Z(key.z, a.key.id);
    EQ_RC(keyring_check(k, str_of(b.text), &project, &key, &e), RC_OK);
    EQ_Z(project.z, "team-b");
    for (size_t i = 0; i < KEY_TEXT_CAP - 1; i++) { /* each character counts */
        memcpy(wrong, a.text, KEY_TEXT_CAP);
        wrong[i] = wrong[i] == '0' ? '1' : '0';
        EQ_RC(check(k, wrong), RC_DENIED);
    }
    snprintf(wrong, sizeof wrong, "%s0", a.text);
    EQ_RC(check(k, wrong), RC_DENIED);
    memcpy(wrong, a.text, KEY_TEXT_CAP);
    memcpy(wrong + sizeof KEY_PREFIX - 1, b.key.id,
           KEY_ID_DIGITS); /* its id, my secret */
    EQ_RC(check(k, wrong), RC_DENIED);
    EQ_RC(check(k, ""), RC_DENIED);
    EQ_RC(keyring_check(k, (struct str){NULL, 0}, &project, &key, &e), RC_DENIED);
    EQ_RC(check(k, KEY_PREFIX), RC_DENIED);
    keyring_free(k);
}

TEST(the_file_holds_no_key)
{
    struct made a = add("alice", "default");
    char *text;
    size_t n;
    struct stat st;

    EQ_RC(fs_slurp("keys", 1 << 20, &text, &n, &e), RC_OK);
    OK(strstr(text, a.text + sizeof KEY_PREFIX + KEY_ID_DIGITS) == NULL);
    OK(strstr(text, a.key.id) != NULL);
    mem_free(text);
    EQ_INT(stat("keys", &st), 0);
    EQ_INT(st.st_mode & 0777, 0600);
}

TEST(a_revoked_key_is_refused_from_the_next_check_on)
{
    struct keyring *k = ring();
    struct made a = add("alice", "default"), b = add("bob", "default");
    struct key gone;
    struct id id;

    EQ_RC(check(k, a.text), RC_OK);
    EQ_RC(id_from(str_of(a.key.id), &id), RC_OK);
    EQ_RC(keyring_stands(k, &id, &e), RC_OK);
    EQ_RC(keyring_stands(k, &(struct id){""}, &e),
          RC_DENIED); /* let in before the keys */
    EQ_RC(keyring_revoke(".", STR("alice"), 1700000009, &gone, &e), RC_OK);
    EQ_RC(keyring_stands(k, &id, &e), RC_DENIED);
    EQ_Z(gone.id, a.key.id);
    EQ_INT(gone.revoked_at, 1700000009);
    EQ_RC(check(k, a.text), RC_DENIED);
    EQ_RC(check(k, b.text), RC_OK);
    EQ_RC(keyring_revoke(".", STR("alice"), 1, &gone, &e), RC_NOTFOUND);
    EQ_RC(keyring_revoke(".", str_of(b.key.id), 1, &gone, &e), RC_OK);
    EQ_RC(check(k, b.text), RC_DENIED);
    /* No key in force is not the same as no keys. */
    EQ_RC(keyring_state(k, &e), RC_OK);
    keyring_free(k);
}

TEST(a_name_may_be_used_again_once_it_is_revoked)
{
    struct made a = add("alice", "default"), again;
    struct key key;
    char text[KEY_TEXT_CAP] = "untouched";
    struct keyfile all = {0};

    EQ_RC(keyring_add(".", STR("alice"), STR("x"), 1, text, &key, &e), RC_CONFLICT);
    EQ_Z(text, "untouched");
    EQ_RC(keyring_revoke(".", STR("alice"), 5, &key, &e), RC_OK);
    again = add("alice", "x");
    OK(strcmp(again.text, a.text) != 0);
    EQ_RC(keyring_list(".", &all, &e), RC_OK);
    EQ_INT(all.n, 2);
    EQ_INT(all.v[0].revoked_at, 5);
    EQ_Z(all.v[1].project.z, "x");
    keyfile_done(&all);
    /* The one in force is meant, though both have the name. */
    EQ_RC(keyring_revoke(".", STR("alice"), 6, &key, &e), RC_OK);
    EQ_Z(key.id, again.key.id);
}

TEST(words_of_the_wrong_form_make_no_key)
{
    char text[KEY_TEXT_CAP];
    struct key key;

    EQ_RC(keyring_add(".", STR("a b"), STR("x"), 1, text, &key, &e), RC_INVALID);
    OK(strstr(e.text, "'a b'") != NULL);
    EQ_RC(keyring_add(".", STR("a"), STR("X"), 1, text, &key, &e), RC_INVALID);
    OK(strstr(e.text, "'X'") != NULL);
    OK(access("keys", F_OK) != 0);
    EQ_RC(keyring_add("no-such-dir", STR("a"), STR("x"), 1, text, &key, &e), RC_IO);
}

/* --- What is wrong with the file never opens the door -----------------------------------
 */

TEST(a_damaged_file_shuts_the_door_until_it_is_mended)
{
    struct keyring *k = ring();
    struct made a = add("alice", "default");
    char *good, bad[] = "batchd keys 1\nend 0 00000000\n";
    size_t n;

    EQ_RC(fs_slurp("keys", 1 << 20, &good, &n, &e), RC_OK);
    EQ_RC(check(k, a.text), RC_OK);
    put(str_of(bad));
    EQ_RC(check(k, a.text), RC_CORRUPT);
    EQ_RC(check(k, ""), RC_CORRUPT);
    EQ_RC(keyring_state(k, &e), RC_CORRUPT);
    OK(strstr(e.text, "keys") != NULL);
    put(STR("")); /* empty is damaged, too */
    EQ_RC(check(k, a.text), RC_CORRUPT);
    put((struct str){good, n});
    EQ_RC(check(k, a.text), RC_OK);
    mem_free(good);
    keyring_free(k);
}

TEST(a_file_that_is_damaged_from_the_start_lets_nobody_in)
{
    struct keyring *k = ring();
    struct key key;
    char text[KEY_TEXT_CAP];

    put(STR("nonsense\n"));
    EQ_RC(keyring_state(k, &e), RC_CORRUPT);
    EQ_RC(check(k, "sk-x"), RC_CORRUPT);
    /* And nobody writes over it. */
    EQ_RC(keyring_add(".", STR("a"), STR("x"), 1, text, &key, &e), RC_CORRUPT);
    keyring_free(k);
}

TEST(a_file_that_went_away_lets_nobody_in)
{
    struct keyring *k = ring(), *later;
    struct made a = add("alice", "default");

    EQ_RC(check(k, a.text), RC_OK);
    EQ_INT(unlink("keys"), 0);
    EQ_RC(check(k, a.text), RC_IO);
    EQ_RC(keyring_state(k, &e), RC_IO);
    OK(strstr(e.text, "has gone") != NULL);
    later = ring(); /* a server that starts now never saw one */
    EQ_RC(keyring_state(later, &e), RC_NOTFOUND);
    keyring_free(later);
    keyring_free(k);
}

TEST(what_cannot_be_read_lets_nobody_in)
{
    struct keyring *k = ring();

    EQ_INT(mkdir("keys", 0700), 0);
    EQ_RC(keyring_state(k, &e), RC_CORRUPT);
    EQ_INT(rmdir("keys"), 0);
    EQ_INT(mkfifo("keys", 0600), 0); /* must not be waited for */
    EQ_RC(check(k, "sk-x"), RC_CORRUPT);
    EQ_INT(unlink("keys"), 0);
    EQ_INT(symlink("keys", "keys"), 0); /* a loop */
    EQ_RC(check(k, "sk-x"), RC_IO);
    EQ_INT(unlink("keys"), 0);
    put(STR(HEAD));
    EQ_INT(truncate("keys", KEYFILE_MAX + 1), 0);
    EQ_RC(check(k, "sk-x"), RC_CORRUPT);
    keyring_free(k);
}

TEST(a_change_that_cannot_be_written_leaves_the_keys_as_they_were)
{
    struct keyring *k = ring();
    struct made a = add("alice", "default");
    char text[KEY_TEXT_CAP] = "untouched";
    struct key key;

    EQ_INT(mkdir("keys.tmp", 0700), 0); /* where the new file would be written */
    OK(keyring_add(".", STR("bob"), STR("x"), 1, text, &key, &e) != RC_OK);
    EQ_Z(text, "untouched");
    OK(keyring_revoke(".", STR("alice"), 1, &key, &e) != RC_OK);
    EQ_RC(check(k, a.text), RC_OK);
    EQ_INT(rmdir("keys.tmp"), 0);
    EQ_RC(keyring_revoke(".", STR("alice"), 1, &key, &e), RC_OK);
    keyring_free(k);
}

/* --- Together -------------------------------------------------------------------------
 */

TEST(keys_made_by_many_processes_are_all_there)
{
    struct keyfile all = {0};

    for (int i = 0; i < 8; i++) {
        pid_t pid = fork();

        OK(pid >= 0);
        if (pid == 0) {
            for (int j = 0; j < 10; j++) {
                char name[32];

                snprintf(name, sizeof name, "k%d-%d", i, j);
                add(name, "default");
            }
            _exit(0);
        }
    }
    for (int i = 0; i < 8; i++) {
        int status;

        OK(wait(&status) > 0);
        EQ_INT(status, 0);
    }
    EQ_RC(keyring_list(".", &all, &e), RC_OK);
    EQ_INT(all.n, 80);
    keyfile_done(&all);
}

struct reader {
    struct keyring *k;
    const char *stays, *goes;
    atomic_bool revoked, stop;
    atomic_int late, lost;
};

static void *read_on(void *arg)
{
    struct reader *r = arg;

    while (!atomic_load(&r->stop)) {
        bool after = atomic_load(&r->revoked);
        struct id project, key;

        if (keyring_check(r->k, str_of(r->stays), &project, &key, NULL) != RC_OK)
            atomic_fetch_add(&r->lost, 1);
        if (keyring_check(r->k, str_of(r->goes), &project, &key, NULL) == RC_OK && after)
            atomic_fetch_add(&r->late, 1);
    }
    return NULL;
}

TEST_SLOW(threads_that_check_while_keys_change_see_each_revocation_at_once, 60)
{
    struct keyring *k = ring();
    struct made stays = add("stays", "default");
    struct key gone;

    for (int round = 0; round < 30; round++) {
        struct made goes = add("goes", "default");
        struct reader r = {.k = k, .stays = stays.text, .goes = goes.text};
        pthread_t threads[4];

        for (size_t i = 0; i < COUNTOF(threads); i++)
            EQ_INT(pthread_create(&threads[i], NULL, read_on, &r), 0);
        EQ_RC(keyring_revoke(".", STR("goes"), 1, &gone, &e), RC_OK);
        atomic_store(&r.revoked, true);
        EQ_RC(check(k, goes.text), RC_DENIED);
        atomic_store(&r.stop, true);
        for (size_t i = 0; i < COUNTOF(threads); i++)
            pthread_join(threads[i], NULL);
        EQ_INT(atomic_load(&r.late), 0);
        EQ_INT(atomic_load(&r.lost), 0);
    }
    keyring_free(k);
}
