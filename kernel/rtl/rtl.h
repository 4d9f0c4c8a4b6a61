// rtl.h - lists, strings, printing, a heap: pure C that knows no kernel.

#pragma once

#include "kernel/nt.h"

#include <stdarg.h>

// ---- Doubly linked lists: the head is a LIST_ENTRY itself -----------------

static inline void InitializeListHead(LIST_ENTRY *head)
{
    head->Flink = head->Blink = head;
}

static inline bool IsListEmpty(const LIST_ENTRY *head)
{
    return head->Flink == head;
}

static inline void InsertHeadList(LIST_ENTRY *head, LIST_ENTRY *entry)
{
    LIST_ENTRY *first = head->Flink;
    *entry = (LIST_ENTRY){ .Flink = first, .Blink = head };
    head->Flink = first->Blink = entry;
}

static inline void InsertTailList(LIST_ENTRY *head, LIST_ENTRY *entry)
{
    LIST_ENTRY *last = head->Blink;
    *entry = (LIST_ENTRY){ .Flink = head, .Blink = last };
    head->Blink = last->Flink = entry;
}

// Takes entry off its list; true if the list is empty now.
static inline bool RemoveEntryList(LIST_ENTRY *entry)
{
    LIST_ENTRY *next = entry->Flink, *last = entry->Blink;
    last->Flink = next;
    next->Blink = last;
    return next == last;
}

static inline LIST_ENTRY *RemoveHeadList(LIST_ENTRY *head)
{
    LIST_ENTRY *entry = head->Flink;
    RemoveEntryList(entry);
    return entry;
}

// Walks the records that the entries of a list are a field of; the current
// one must stay on it. Addresses are compared as numbers: the head is a field
// of no such record.
#define RTL_FOR_EACH_RECORD(type, record, head, field)                  \
    for (type *record = CONTAINING_RECORD((head)->Flink, type, field);  \
         (uintptr_t)record + offsetof(type, field) != (uintptr_t)(head);\
         record = CONTAINING_RECORD(record->field.Flink, type, field))

// ---- A skew heap: the smallest key first ----------------------------------

typedef struct rtl_heap_node rtl_heap_node;
struct rtl_heap_node {
    uint64_t key;
    rtl_heap_node *left, *right, *parent;
};

typedef struct rtl_heap {
    rtl_heap_node *root;     // the smallest, or NULL
} rtl_heap;

// O(log n), over any sequence of them.
void rtl_heap_insert(rtl_heap *heap, rtl_heap_node *node);
void rtl_heap_remove(rtl_heap *heap, rtl_heap_node *node);

// ---- Strings --------------------------------------------------------------

void *memcpy(void *to, const void *from, size_t n);
void *memmove(void *to, const void *from, size_t n);
void *memset(void *to, int value, size_t n);
int memcmp(const void *a, const void *b, size_t n);
size_t rtl_strlen(const char *s);
// Compares up to n characters without regard to case.
bool rtl_same_name(const char *a, const char *b, size_t n);
// Copies as much as fits and always ends with a zero.
void rtl_strcpy(char *to, const char *from, size_t size);

// ---- Printing -------------------------------------------------------------

// Knows %s %c %d %i %u %x %X %p %%, with 0, -, width and l, ll, z; %p prints
// 16 hex digits. Returns the length that the whole text has.
int rtl_vsnprintf(char *to, size_t size, const char *format, va_list args);
int rtl_snprintf(char *to, size_t size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// ---- The kernel command line ----------------------------------------------

// Takes the first word off *line into to (unquoted, cut at size); false at the
// end. Blanks separate, "..." groups, \\ \" \' are escapes, any other
// backslash is itself.
bool rtl_next_word(const char **line, char *to, size_t size);
// A decimal or 0x number; false if text is anything else or too large.
bool rtl_parse_number(const char *text, uint64_t *value);
