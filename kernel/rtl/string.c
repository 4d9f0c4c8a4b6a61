// string.c - memory blocks and strings.
//
// The four mem* functions exist because the compiler may call them at any
// place, also when it links the kernel as a whole. They use the string
// instructions, eight bytes at a time: QEMU counts each repetition as one
// instruction. The direction flag stays clear always, as an interrupt would
// inherit it.

#include "kernel/rtl/rtl.h"

#define EVERY_BYTE 0x0101010101010101ull

// Copies n bytes; the blocks do not overlap, or to lies below from.
//
// IRQL:    any level
__attribute__((used)) void *memcpy(void *to, const void *from, size_t n)
{
    void *at = to;
    size_t words = n / sizeof(uint64_t), tail = n % sizeof(uint64_t);
    __asm__ volatile("rep movsq; mov %3, %%rcx; rep movsb"
                     : "+D"(at), "+S"(from), "+c"(words)
                     : "r"(tail)
                     : "memory");
    return to;
}

// Copies n bytes between blocks that may overlap.
//
// IRQL:    any level
__attribute__((used)) void *memmove(void *to, const void *from, size_t n)
{
    if ((uintptr_t)to - (uintptr_t)from >= n)
        return memcpy(to, from, n);
    while (n--) {
        ((char *)to)[n] = ((const char *)from)[n];
        __asm__ volatile("" ::: "memory");    // or gcc would call memmove
    }
    return to;
}

// Sets n bytes to value.
//
// IRQL:    any level
__attribute__((used)) void *memset(void *to, int value, size_t n)
{
    void *at = to;
    size_t words = n / sizeof(uint64_t), tail = n % sizeof(uint64_t);
    uint64_t pattern = (uint8_t)value * EVERY_BYTE;
    __asm__ volatile("rep stosq; mov %3, %%rcx; rep stosb"
                     : "+D"(at), "+c"(words)
                     : "a"(pattern), "r"(tail)
                     : "memory");
    return to;
}

// Compares n bytes.
//
// IRQL:    any level
// Returns: < 0, 0 or > 0, as the first byte that differs is less in a, there
//          is none, or it is greater
__attribute__((used)) int memcmp(const void *a, const void *b, size_t n)
{
    const uint8_t *left = a, *right = b;
    for (; n; n--, left++, right++)
        if (*left != *right)
            return *left - *right;
    return 0;
}

// The number of characters in front of the zero.
//
// IRQL:    any level
size_t rtl_strlen(const char *s)
{
    size_t length = 0;
    while (s[length])
        length++;
    return length;
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

// Compares up to n characters without regard to case (of A to Z).
//
// IRQL:    any level
// Returns: true if they are the same, or both end at the same place
bool rtl_same_name(const char *a, const char *b, size_t n)
{
    for (; n && lower(*a) == lower(*b); n--, a++, b++)
        if (!*a)
            return true;
    return n == 0;
}

// Copies as much of from as fits into size bytes, and always ends it with a
// zero; size is at least 1.
//
// IRQL:    any level
void rtl_strcpy(char *to, const char *from, size_t size)
{
    while (--size && *from)
        *to++ = *from++;
    *to = 0;
}
