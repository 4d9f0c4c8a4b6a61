// format.h - the core of printf, shared by streams and buffers.

#ifndef TINT_FORMAT_H
#define TINT_FORMAT_H

#include <stdarg.h>
#include <stddef.h>

typedef void rtl_sink(void *context, const char *text, size_t length);

// Formats to the sink.
int rtl_format(rtl_sink *sink, void *context, const char *format,
               va_list arguments);

#endif
