/* SPDX-License-Identifier: Apache-2.0 */
#include "app/commands.h"
#include "app/config.h"
#include "app/exit.h"
#include "app/options.h"
#include "app/setting.h"

#include "base/mem.h"
#include "core/batch.h"
#include "store/datadir.h"
#include "store/keyring.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct key_options {
    const char *project;
};

static const struct option_spec options[] = {
    {0, "project", "NAME", OPTION_TEXT, offsetof(struct key_options, project),
     "add: the project that the key belongs to; default '" PROJECT_DEFAULT "'."},
};

static const struct command command = {
    .name = "key",
    .synopsis = "add NAME | list | revoke NAME|ID [flags]",
    .text =
        "Manages the keys of a data directory, also while a server runs on it: a new key\n"
        "may be used at once, and one that is revoked is refused from the next request "
        "on.\nOnce there is a key, every request needs one.  `add` prints the key on "
        "standard\noutput; it is kept nowhere and cannot be shown again.  `list` shows "
        "id, name,\nproject, when it was made and when it was revoked, separated by tabs.",
    .options = options,
    .n_options = COUNTOF(options),
    .settings = SETTING_KEYS,
    .min_args = 1,
    .max_args = 2,
};

static int exit_code(enum rc rc)
{
    if (rc == RC_INVALID || rc == RC_CONFLICT || rc == RC_NOTFOUND || rc == RC_LIMIT)
        return EXIT_USAGE;
    return exit_of_rc(rc);
}

/* Root, as the owner of the directory: files of root's would be closed to a server that
 * runs as somebody else. */
static enum rc become_owner(const char *dir, struct err *e)
{
    struct stat st;

    if (stat(dir, &st) < 0)
        return err_sys(e, rc_of_errno(errno), errno, "cannot open data directory '%s'",
                       dir);
    if (geteuid() != 0 || st.st_uid == 0)
        return RC_OK;
    if (setegid(st.st_gid) < 0 || seteuid(st.st_uid) < 0)
        return err_sys(e, RC_DENIED, errno, "cannot act as the owner of '%s'", dir);
    return RC_OK;
}

/* --- The three of them ----------------------------------------------------------------
 */

/* A key that nobody has seen must not stay. */
static int take_back(const char *dir, const struct key *key)
{
    struct key gone;
    struct err e = {""};

    if (keyring_revoke(dir, str_of(key->id), clock_wall_sec(), &gone, &e) == RC_OK)
        err_set(&e, RC_IO,
                "the key could not be written to standard output; it was revoked again");
    return options_fail(EXIT_DISK, &e);
}

static int add_key(const char *dir, const char *name, const char *project)
{
    char text[KEY_TEXT_CAP];
    struct key key;
    struct err e = {""};
    bool told;
    enum rc rc =
        keyring_add(dir, str_of(name), str_of(project), clock_wall_sec(), text, &key, &e);

    if (rc != RC_OK)
        return options_fail(exit_code(rc), &e);
    told = puts(text) >= 0 && fflush(stdout) == 0;
    mem_wipe(text, sizeof text);
    if (!told)
        return take_back(dir, &key);
    fprintf(stderr,
            "batchd: this is the only time that the key is shown: '%s' (%s), project "
            "'%s'\n",
            key.name, key.id, key.project.z);
    return EXIT_DONE;
}

static void put_time(int64_t seconds)
{
    time_t t = seconds;
    char text[40] = "-";
    struct tm tm;

    if (seconds && gmtime_r(&t, &tm))
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    fputs(text, stdout);
}

static int list_keys(const char *dir)
{
    struct keyfile keys = {0};
    struct err e = {""};
    enum rc rc = keyring_list(dir, &keys, &e);

    if (rc != RC_OK && rc != RC_NOTFOUND) /* no file: no keys */
        return options_fail(exit_code(rc), &e);
    for (size_t i = 0; i < keys.n; i++) {
        const struct key *k = &keys.v[i];

        printf("%s\t%s\t%s\t", k->id, k->name, k->project.z);
        put_time(k->created_at);
        putchar('\t');
        put_time(k->revoked_at);
        putchar('\n');
    }
    keyfile_done(&keys);
    return fflush(stdout) == 0 ? EXIT_DONE : EXIT_DISK;
}

static int revoke_key(const char *dir, const char *name)
{
    struct key key;
    struct err e = {""};
    enum rc rc = keyring_revoke(dir, str_of(name), clock_wall_sec(), &key, &e);

    if (rc != RC_OK)
        return options_fail(exit_code(rc), &e);
    fprintf(stderr, "batchd: the key '%s' (%s) is revoked\n", key.name, key.id);
    return EXIT_DONE;
}

/* --- The command ----------------------------------------------------------------------
 */

static enum rc check_words(const struct command_line *cl, const struct key_options *o,
                           struct err *e)
{
    const char *what = cl->args[0];
    bool adds = strcmp(what, "add") == 0, lists = strcmp(what, "list") == 0;

    if (!adds && !lists && strcmp(what, "revoke") != 0)
        return err_set(e, RC_INVALID,
                       "key knows add, list and revoke, not '%.60s'; see batchd key "
                       "--help",
                       what);
    if (lists && cl->n_args > 1)
        return err_set(e, RC_INVALID,
                       "key list takes no argument; see batchd key --help");
    if (!lists && cl->n_args < 2)
        return err_set(e, RC_INVALID,
                       "key %s needs the name of a key; see batchd key --help", what);
    if (o->project && !adds)
        return err_set(e, RC_INVALID, "--project belongs to key add");
    return RC_OK;
}

static int work(const struct command_line *cl, const struct key_options *o,
                const char *dir)
{
    bool adds = strcmp(cl->args[0], "add") == 0;
    struct err e = {""};
    enum rc rc = datadir_prepare(dir, adds, &e);

    if (rc == RC_OK)
        rc = become_owner(dir, &e);
    if (rc != RC_OK)
        return options_fail(EXIT_DATA_DIR, &e);
    if (adds)
        return add_key(dir, cl->args[1], o->project ? o->project : PROJECT_DEFAULT);
    return cl->n_args == 1 ? list_keys(dir) : revoke_key(dir, cl->args[1]);
}

int key_main(int argc, char **argv)
{
    struct key_options o = {0};
    struct command_line cl = {0};
    struct config config = {0};
    struct err e = {""};
    int code = options_take(&command, argc, argv, &o, &cl);

    if (code >= 0)
        return code;
    if (check_words(&cl, &o, &e) != RC_OK ||
        config_load(&cl.config, &config, &e) != RC_OK)
        return options_fail(EXIT_USAGE, &e);
    code = work(&cl, &o, config.data_dir);
    config_done(&config);
    return code;
}
