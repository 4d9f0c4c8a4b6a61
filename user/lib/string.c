// string.c - bytes and zero-ended strings.
//
// The compiler calls memcpy, memmove, memset and memcmp on its own, so these
// must not be loops that it would turn into calls of themselves.

#include <string.h>

#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>

void *memcpy(void *to, const void *from, size_t size)
{
    void *start = to;
    size_t words = size / 8;
    size_t rest = size % 8;
    __asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(words)
                                 : : "memory");
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(rest)
                                 : : "memory");
    return start;
}

void *memmove(void *to, const void *from, size_t size)
{
    if ((uintptr_t)to - (uintptr_t)from >= size)
        return memcpy(to, from, size);
    if (size == 0)
        return to;
    char *to_last = (char *)to + size - 1;
    const char *from_last = (const char *)from + size - 1;
    __asm__ volatile("std; rep movsb; cld"
                     : "+D"(to_last), "+S"(from_last), "+c"(size)
                     : : "memory");
    return to;
}

void *memset(void *to, int byte, size_t size)
{
    void *start = to;
    size_t words = size / 8;
    size_t rest = size % 8;
    uint64_t pattern = (uint8_t)byte * 0x0101010101010101u;
    __asm__ volatile("rep stosq" : "+D"(to), "+c"(words)
                                 : "a"(pattern) : "memory");
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(rest)
                                 : "a"(pattern) : "memory");
    return start;
}

int memcmp(const void *a, const void *b, size_t size)
{
    const uint8_t *x = a;
    const uint8_t *y = b;
    for (size_t i = 0; i < size; i++) {
        if (x[i] != y[i])
            return x[i] - y[i];
    }
    return 0;
}

void *memchr(const void *in, int byte, size_t size)
{
    const uint8_t *bytes = in;
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] == (uint8_t)byte)
            return (void *)&bytes[i];
    }
    return NULL;
}

size_t strlen(const char *text)
{
    return strnlen(text, SIZE_MAX);
}

size_t strnlen(const char *text, size_t maximum)
{
    size_t length = 0;
    while (length < maximum && text[length] != 0)
        length++;
    return length;
}

char *strcpy(char *to, const char *from)
{
    return memcpy(to, from, strlen(from) + 1);
}

char *strncpy(char *to, const char *from, size_t size)
{
    size_t length = strnlen(from, size);
    memcpy(to, from, length);
    memset(to + length, 0, size - length);
    return to;
}

char *strcat(char *to, const char *from)
{
    strcpy(to + strlen(to), from);
    return to;
}

char *strncat(char *to, const char *from, size_t size)
{
    char *end = to + strlen(to);
    size_t length = strnlen(from, size);
    memcpy(end, from, length);
    end[length] = 0;
    return to;
}

int strcmp(const char *a, const char *b)
{
    return strncmp(a, b, SIZE_MAX);
}

int strncmp(const char *a, const char *b, size_t size)
{
    for (; size > 0; a++, b++, size--) {
        if (*a != *b || *a == 0)
            return (uint8_t)*a - (uint8_t)*b;
    }
    return 0;
}

int strcasecmp(const char *a, const char *b)
{
    return strncasecmp(a, b, SIZE_MAX);
}

int strncasecmp(const char *a, const char *b, size_t size)
{
    for (; size > 0; a++, b++, size--) {
        int difference = tolower((uint8_t)*a) - tolower((uint8_t)*b);
        if (difference != 0 || *a == 0)
            return difference;
    }
    return 0;
}

char *strchr(const char *in, int c)
{
    return memchr(in, c, strlen(in) + 1);
}

char *strrchr(const char *in, int c)
{
    for (size_t i = strlen(in) + 1; i > 0; i--) {
        if (in[i - 1] == (char)c)
            return (char *)&in[i - 1];
    }
    return NULL;
}

char *strstr(const char *in, const char *what)
{
    size_t length = strlen(what);
    for (;; in++) {
        if (strncmp(in, what, length) == 0)
            return (char *)in;
        if (*in == 0)
            return NULL;
    }
}

size_t strspn(const char *text, const char *accepted)
{
    size_t length = 0;
    while (text[length] != 0 && strchr(accepted, text[length]))
        length++;
    return length;
}

size_t strcspn(const char *text, const char *rejected)
{
    size_t length = 0;
    while (text[length] != 0 && !strchr(rejected, text[length]))
        length++;
    return length;
}

char *strpbrk(const char *in, const char *accepted)
{
    in += strcspn(in, accepted);
    return *in ? (char *)in : NULL;
}

char *strtok(char *text, const char *separators)
{
    static char *rest;
    return strtok_r(text, separators, &rest);
}

char *strtok_r(char *text, const char *separators, char **rest)
{
    if (!text)
        text = *rest;
    text += strspn(text, separators);
    char *end = text + strcspn(text, separators);
    *rest = *end ? end + 1 : end;
    if (end == text)
        return NULL;
    *end = 0;
    return text;
}

char *strdup(const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = malloc(size);
    return copy ? memcpy(copy, text, size) : NULL;
}
