/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/board.h"
#include "tests/lib/t.h"

#include <pthread.h>

TEST(what_was_set_is_read_until_it_is_removed)
{
    struct board *b = board_new();
    struct id id = id_make(ID_BATCH);
    struct board_entry e = {.counts = {3, 1, 1}}, got;

    OK(!board_get(b, id.z, &got));
    board_set(b, &id, &e);
    e.counts.completed = 2;
    board_set(b, &id, &e);
    OK(board_get(b, id.z, &got));
    EQ_INT(got.counts.completed, 2);
    board_remove(b, &id);
    board_remove(b, &id);
    OK(!board_get(b, id.z, &got));
    board_free(b);
    board_free(NULL);
}

static struct id shared_id;

static void *reader(void *ctx)
{
    struct board *b = ctx;
    uint32_t last = 0;

    while (last < 20000) {
        struct board_entry got;

        if (!board_get(b, shared_id.z, &got))
            continue;
        if (got.counts.completed < last || got.counts.completed != got.counts.total)
            return ctx; /* torn or backwards */
        last = got.counts.completed;
    }
    return NULL;
}

TEST(readers_see_whole_entries_and_never_older_ones)
{
    struct board *b = board_new();
    pthread_t t[2];
    void *bad;

    shared_id = id_make(ID_BATCH);
    for (unsigned i = 0; i < 2; i++)
        EQ_INT(pthread_create(&t[i], NULL, reader, b), 0);
    for (uint32_t i = 1; i <= 20000; i++) {
        struct board_entry e = {.counts = {i, i, 0}};

        board_set(b, &shared_id, &e);
    }
    for (unsigned i = 0; i < 2; i++) {
        pthread_join(t[i], &bad);
        OK(bad == NULL);
    }
    board_free(b);
}

TEST(the_number_of_changes_moves_with_all_but_the_counts)
{
    struct board *b = board_new();
    struct id id = id_make(ID_BATCH);
    struct board_entry e = {.counts = {3, 1, 1}};
    uint64_t was = board_changes(b, id.z);

    board_set(b, &id, &e);
    OK(board_changes(b, id.z) != was);
    was = board_changes(b, id.z);
    e.counts.completed = 2;
    board_set(b, &id, &e);
    OK(board_changes(b, id.z) == was);
    board_changed(b, &id);
    OK(board_changes(b, id.z) != was);
    was = board_changes(b, id.z);
    board_remove(b, &id);
    OK(board_changes(b, id.z) != was);
    board_free(b);
}

/* --- Lines of a project -----------------------------------------------------------------
 */

static struct id named(const char *name)
{
    struct id id;

    EQ_RC(id_from(str_of(name), &id), RC_OK);
    return id;
}

TEST(a_project_may_have_as_many_lines_as_its_limit_and_not_one_more)
{
    struct board *b = board_new();
    struct id p = named("p"), q = named("q"), one = named("one"), two = named("two"),
              three = named("three"), four = named("four");
    struct board_entry e = {.counts = {60, 15, 5}}, got;
    uint64_t used = 0;

    EQ_RC(board_enter(b, &p, &one, 60, 100, &used), RC_OK);
    OK(!board_get(b, "one", &got)); /* not before board_set */
    EQ_RC(board_enter(b, &p, &two, 41, 100, &used), RC_LIMIT);
    EQ_INT(used, 60);
    OK(!board_get(b, "two", &got));
    EQ_RC(board_enter(b, &q, &two, 100, 100, &used), RC_OK); /* another's room */
    board_remove(b, &two);
    EQ_RC(board_enter(b, &p, &two, 40, 100, &used), RC_OK);
    EQ_RC(board_enter(b, &p, &three, 1, 100, &used), RC_LIMIT);
    EQ_INT(used, 100);
    board_set(b, &one, &e);
    OK(board_get(b, "one", &got));
    EQ_INT(got.counts.completed, 15);
    /* 20 of its lines have their result */
    EQ_RC(board_enter(b, &p, &three, 21, 100, &used), RC_LIMIT);
    EQ_RC(board_enter(b, &p, &three, 20, 100, &used), RC_OK);
    EQ_RC(board_enter(b, &p, &three, 20, 100, &used), RC_OK); /* not against itself */
    board_remove(b, &two);
    EQ_RC(board_enter(b, &p, &two, 40, 100, &used), RC_OK);
    EQ_RC(board_enter(b, &p, &four, 1, 0, &used), RC_OK); /* no limit */
    board_free(b);
}

TEST(what_is_only_reserved_makes_others_wait_and_is_not_shown)
{
    struct board *b = board_new();
    struct id p = named("p"), old = named("old"), new = named("new");
    struct board_entry e = {.counts = {90, 80, 0}}, got;
    uint64_t used;

    board_reserve(b, &p, &old, 90);
    OK(!board_get(b, "old", &got));
    EQ_RC(board_enter(b, &p, &new, 20, 100, &used), RC_AGAIN);
    EQ_RC(board_enter(b, &p, &new, 101, 100, &used), RC_LIMIT); /* whatever comes out */
    EQ_RC(board_enter(b, &p, &new, 10, 100, &used), RC_OK);
    board_remove(b, &new);
    board_set(b, &old, &e);
    OK(board_get(b, "old", &got));
    EQ_RC(board_enter(b, &p, &new, 91, 100, &used), RC_LIMIT);
    EQ_RC(board_enter(b, &p, &new, 90, 100, &used), RC_OK);
    board_free(b);
}

struct race {
    struct board *b;
    unsigned from;
    unsigned entered;
};

static void *enter_many(void *ctx)
{
    struct race *r = ctx;
    struct id p = named("p");
    uint64_t used;
    char name[32];

    for (unsigned i = 0; i < 500; i++) {
        struct id batch;

        CHECK(str_fmt(name, sizeof name, "b%u", r->from + i) == RC_OK);
        batch = named(name);
        r->entered += board_enter(r->b, &p, &batch, 7, 1000, &used) == RC_OK;
    }
    return NULL;
}

TEST(of_many_that_enter_at_a_time_as_many_get_in_as_there_is_room_for)
{
    struct race r[4];
    struct board *b = board_new();
    pthread_t t[4];
    unsigned sum = 0;

    for (unsigned i = 0; i < 4; i++) {
        r[i] = (struct race){b, i * 1000, 0};
        EQ_INT(pthread_create(&t[i], NULL, enter_many, &r[i]), 0);
    }
    for (unsigned i = 0; i < 4; i++) {
        pthread_join(t[i], NULL);
        sum += r[i].entered;
    }
    EQ_INT(sum, 142); /* 7 * 142 = 994 */
    board_free(b);
}
