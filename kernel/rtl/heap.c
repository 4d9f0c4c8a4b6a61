// heap.c - a pairing heap: the timers of a processor, the earliest first.
//
// A tree in which no child is smaller than its parent. Inserting is one
// comparison; what that leaves undone is paid for when the smallest goes: its
// children are paired from left to right, and the pairs joined from right to
// left. Nothing recurses, so depth costs no stack. The caller locks.

#include "kernel/rtl/rtl.h"

// Makes the larger of two roots the first child of the smaller one, which it
// returns; either may be NULL.
static rtl_heap_node *meld(rtl_heap_node *a, rtl_heap_node *b)
{
    if (!a || !b)
        return a ? a : b;
    if (b->key < a->key) {
        rtl_heap_node *smaller = b;
        b = a;
        a = smaller;
    }
    b->back = a;
    b->next = a->child;
    if (b->next)
        b->next->back = b;
    a->child = b;
    return a;
}

// Joins a list of siblings into one tree, with no one before or behind it.
static rtl_heap_node *join(rtl_heap_node *first)
{
    rtl_heap_node *pairs = NULL;    // a stack, linked by next
    while (first) {
        rtl_heap_node *second = first->next;
        rtl_heap_node *rest = second ? second->next : NULL;
        rtl_heap_node *pair = meld(first, second);
        pair->next = pairs;
        pairs = pair;
        first = rest;
    }

    rtl_heap_node *root = NULL;
    while (pairs) {
        rtl_heap_node *rest = pairs->next;
        root = meld(root, pairs);
        pairs = rest;
    }
    if (root)
        root->next = root->back = NULL;
    return root;
}

// Adds node, whose key is set and which is in no heap.
//
// IRQL:    any level
void rtl_heap_insert(rtl_heap *heap, rtl_heap_node *node)
{
    node->child = node->next = node->back = NULL;
    heap->root = meld(heap->root, node);
}

// Takes node, which is in this heap, out of it: the smallest or any other.
//
// IRQL:    any level
void rtl_heap_remove(rtl_heap *heap, rtl_heap_node *node)
{
    if (node == heap->root) {
        heap->root = join(node->child);
        return;
    }
    if (node->back->child == node)
        node->back->child = node->next;
    else
        node->back->next = node->next;
    if (node->next)
        node->next->back = node->back;
    heap->root = meld(heap->root, join(node->child));
}
