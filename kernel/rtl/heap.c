// heap.c - a skew heap: the timers of a processor, the earliest first.
//
// A binary tree in which no child is smaller than its parent. Two are melded
// along their right edges, and each node on the way swaps its children: what
// was walked now lies to the left, so the next walk is short. Any sequence of
// operations takes O(log n) each (Sleator, Tarjan 1986); nothing recurses, so
// depth costs no stack. The caller locks.

#include "kernel/rtl/rtl.h"

// Makes one tree of two, either of which may be NULL, below parent.
static rtl_heap_node *meld(rtl_heap_node *a, rtl_heap_node *b,
                           rtl_heap_node *parent)
{
    rtl_heap_node *root = NULL, **link = &root;
    while (a || b) {
        if (!a || (b && b->key < a->key)) {
            rtl_heap_node *smaller = b;
            b = a;
            a = smaller;
        }
        *link = a;
        a->parent = parent;
        if (!b)
            break;
        parent = a;
        link = &a->left;
        a = parent->right;
        parent->right = parent->left;
    }
    return root;
}

// Adds node, whose key is set and which is in no heap.
//
// IRQL:    any level
void rtl_heap_insert(rtl_heap *heap, rtl_heap_node *node)
{
    node->left = node->right = NULL;
    heap->root = meld(heap->root, node, NULL);
}

// Takes node, which is in this heap, out of it: the smallest or any other.
//
// IRQL:    any level
void rtl_heap_remove(rtl_heap *heap, rtl_heap_node *node)
{
    rtl_heap_node *parent = node->parent, **link = &heap->root;
    if (parent)
        link = parent->left == node ? &parent->left : &parent->right;
    *link = meld(node->left, node->right, parent);
}
