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
