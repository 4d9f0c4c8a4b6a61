// list_test.c - doubly linked lists.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernel/rtl/rtl.h"

#define ITEMS 8

struct item {
    int before;    // the entry is not the first field
    LIST_ENTRY entry;
    int value;
};

// Fails unless list holds exactly the count values, read both ways.
static void assert_list(const LIST_ENTRY *list, const int *values, int count)
{
    const LIST_ENTRY *entry = list->Flink;
    for (int i = 0; i < count; i++, entry = entry->Flink) {
        assert_ptr_not_equal(entry, list);
        assert_int_equal(
            CONTAINING_RECORD((uintptr_t)entry, struct item, entry)->value,
            values[i]);
        assert_ptr_equal(entry->Flink->Blink, entry);
        assert_ptr_equal(entry->Blink->Flink, entry);
    }
    assert_ptr_equal(entry, list);
}

static void fill(LIST_ENTRY *list, struct item *items, int count)
{
    InitializeListHead(list);
    for (int i = 0; i < count; i++) {
        items[i].value = i;
        InsertTailList(list, &items[i].entry);
    }
}

static void new_list_is_empty(void **state)
{
    (void)state;
    LIST_ENTRY list;
    InitializeListHead(&list);
    assert_true(IsListEmpty(&list));
    assert_list(&list, NULL, 0);
}

static void tail_keeps_the_order(void **state)
{
    (void)state;
    LIST_ENTRY list;
    struct item items[ITEMS] = { 0 };
    fill(&list, items, 4);
    assert_false(IsListEmpty(&list));
    assert_list(&list, (int[]){ 0, 1, 2, 3 }, 4);
}

static void head_turns_the_order(void **state)
{
    (void)state;
    LIST_ENTRY list;
    struct item items[3] = { { .value = 1 }, { .value = 2 }, { .value = 3 } };
    InitializeListHead(&list);
    for (int i = 0; i < 3; i++)
        InsertHeadList(&list, &items[i].entry);
    assert_list(&list, (int[]){ 3, 2, 1 }, 3);
}

static void remove_says_when_it_was_the_last(void **state)
{
    (void)state;
    LIST_ENTRY list;
    struct item items[ITEMS] = { 0 };
    fill(&list, items, 3);
    assert_false(RemoveEntryList(&items[1].entry));
    assert_list(&list, (int[]){ 0, 2 }, 2);
    assert_false(RemoveEntryList(&items[0].entry));
    assert_true(RemoveEntryList(&items[2].entry));
    assert_true(IsListEmpty(&list));
}

static void remove_head_is_fifo(void **state)
{
    (void)state;
    LIST_ENTRY list;
    struct item items[ITEMS] = { 0 };
    fill(&list, items, ITEMS);
    for (int i = 0; i < ITEMS; i++)
        assert_ptr_equal(RemoveHeadList(&list), &items[i].entry);
    assert_true(IsListEmpty(&list));
}

static void for_each_visits_all(void **state)
{
    (void)state;
    LIST_ENTRY list;
    struct item items[ITEMS] = { 0 };
    fill(&list, items, ITEMS);
    int expected = 0;
    RTL_FOR_EACH_RECORD(struct item, item, &list, entry)
    assert_ptr_equal(item, &items[expected++]);
    assert_int_equal(expected, ITEMS);

    InitializeListHead(&list);
    RTL_FOR_EACH_RECORD(struct item, item, &list, entry)
    fail_msg("an empty list has no entry, but %p", (void *)item);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(new_list_is_empty),
        cmocka_unit_test(tail_keeps_the_order),
        cmocka_unit_test(head_turns_the_order),
        cmocka_unit_test(remove_says_when_it_was_the_last),
        cmocka_unit_test(remove_head_is_fifo),
        cmocka_unit_test(for_each_visits_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
