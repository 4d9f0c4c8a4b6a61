// print.c - printf and its relatives: the core of format.c with two sinks.

#include <stdio.h>

#include <stdint.h>
#include <string.h>

#include "user/lib/format.h"

struct text_buffer {
    char *at;
    size_t left;    // bytes, the zero at the end not counted
};

static void to_buffer(void *context, const char *text, size_t length)
{
    struct text_buffer *buffer = context;
    if (length > buffer->left)
        length = buffer->left;
    memcpy(buffer->at, text, length);
    buffer->at += length;
    buffer->left -= length;
}

int vsnprintf(char *buffer, size_t size, const char *format, va_list arguments)
{
    struct text_buffer text = { buffer, size > 0 ? size - 1 : 0 };
    int count = rtl_format(to_buffer, &text, format, arguments);
    if (size > 0)
        *text.at = 0;
    return count;
}

int snprintf(char *buffer, size_t size, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int count = vsnprintf(buffer, size, format, arguments);
    va_end(arguments);
    return count;
}

int sprintf(char *buffer, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int count = vsnprintf(buffer, PTRDIFF_MAX, format, arguments);
    va_end(arguments);
    return count;
}

int vprintf(const char *format, va_list arguments)
{
    return vfprintf(stdout, format, arguments);
}

int printf(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int count = vfprintf(stdout, format, arguments);
    va_end(arguments);
    return count;
}

int fprintf(FILE *file, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int count = vfprintf(file, format, arguments);
    va_end(arguments);
    return count;
}
