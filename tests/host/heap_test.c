// heap_test.c - the skew heap, against a plain array as its model.
//
// Each round draws its operations from a seed of its own, which a failure
// prints.
//
// link: kernel/rtl/heap.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "kernel/rtl/rtl.h"

enum {
    NODES = 64,
    STEPS = 2000,
    SEEDS = 100,
    DEEP = 100000,
};

struct model {
    rtl_heap heap;
    rtl_heap_node nodes[NODES];
    bool in_heap[NODES];
    int count;
};

static uint64_t smallest(const struct model *model)
{
    uint64_t key = UINT64_MAX;
    for (int i = 0; i < NODES; i++)
        if (model->in_heap[i] && model->nodes[i].key < key)
            key = model->nodes[i].key;
    return key;
}

static void check(const struct model *model, unsigned seed)
{
    if (!model->count && model->heap.root)
        fail_msg("seed %u: an empty heap has a root", seed);
    if (model->count && !model->heap.root)
        fail_msg("seed %u: a heap of %d has no root", seed, model->count);
    if (model->count && model->heap.root->key != smallest(model))
        fail_msg("seed %u: the root is not the smallest", seed);
}

static void insert(struct model *model, int i, uint64_t key)
{
    model->nodes[i].key = key;
    model->in_heap[i] = true;
    model->count++;
    rtl_heap_insert(&model->heap, &model->nodes[i]);
}

static void remove_node(struct model *model, int i)
{
    model->in_heap[i] = false;
    model->count--;
    rtl_heap_remove(&model->heap, &model->nodes[i]);
}

static void random_operations(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= SEEDS; seed++) {
        struct model model = { 0 };
        srand(seed);
        uint64_t keys = seed % 2 ? 8 : RAND_MAX;    // few keys: many are equal
        for (int step = 0; step < STEPS; step++) {
            int i = rand() % NODES;
            if (!model.in_heap[i])
                insert(&model, i, (uint64_t)rand() % keys);
            else if (rand() % 2)
                remove_node(&model, i);
            else
                remove_node(&model, (int)(model.heap.root - model.nodes));
            check(&model, seed);
        }
    }
}

static void drains_in_order(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= SEEDS; seed++) {
        struct model model = { 0 };
        srand(seed);
        for (int i = 0; i < NODES; i++)
            insert(&model, i, (uint64_t)rand());
        uint64_t last = 0;
        while (model.heap.root) {
            if (model.heap.root->key < last)
                fail_msg("seed %u: out of order", seed);
            last = model.heap.root->key;
            remove_node(&model, (int)(model.heap.root - model.nodes));
        }
        assert_int_equal(model.count, 0);
    }
}

static void one_node(void **state)
{
    (void)state;
    rtl_heap heap = { 0 };
    rtl_heap_node node = { .key = 1 };
    for (int i = 0; i < 3; i++) {
        rtl_heap_insert(&heap, &node);
        assert_ptr_equal(heap.root, &node);
        rtl_heap_remove(&heap, &node);
        assert_null(heap.root);
    }
}

// Sorted input makes the tree as deep, or as wide, as it gets.
static void depth_costs_no_stack(void **state)
{
    (void)state;
    rtl_heap_node *nodes = calloc(DEEP, sizeof(*nodes));
    assert_non_null(nodes);
    for (int rising = 0; rising < 2; rising++) {
        rtl_heap heap = { 0 };
        for (uint64_t i = 0; i < DEEP; i++) {
            nodes[i].key = rising ? i : DEEP - 1 - i;
            rtl_heap_insert(&heap, &nodes[i]);
        }
        for (uint64_t i = 0; i < DEEP; i++) {
            assert_int_equal(heap.root->key, i);
            rtl_heap_remove(&heap, heap.root);
        }
        assert_null(heap.root);
    }
    free(nodes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations),
        cmocka_unit_test(drains_in_order),
        cmocka_unit_test(one_node),
        cmocka_unit_test(depth_costs_no_stack),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
