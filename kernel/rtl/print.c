// print.c - text from a format, as C has it, without floating point.
//
// The output is counted even where it no longer fits, so that a caller can
// tell; what is there ends with a zero. Needs nothing but its arguments: a
// bugcheck may print from anywhere.

#include "kernel/rtl/rtl.h"

enum {
    DIGITS_MAX = 20,    // of 2^64 - 1, in decimal
    POINTER_DIGITS = 16,
};

#define LOWER "0123456789abcdef"
#define UPPER "0123456789ABCDEF"

struct output {
    char *to;
    size_t size;
    size_t length;    // of the whole text, kept or not
};

// How one conversion is to look.
struct field {
    size_t width;
    bool left;
    bool zeros;
    bool wide;    // the argument has 64 bits
};

static void put(struct output *out, char c)
{
    if (out->length + 1 < out->size)
        out->to[out->length] = c;
    out->length++;
}

static void fill(struct output *out, char c, size_t n)
{
    while (n--)
        put(out, c);
}

static void put_text(struct output *out, const char *text)
{
    while (*text)
        put(out, *text++);
}

// Puts sign and text as one field.
static void put_field(struct output *out, const struct field *field,
                      const char *sign, const char *text)
{
    size_t used = rtl_strlen(sign) + rtl_strlen(text);
    size_t padding = field->width > used ? field->width - used : 0;
    if (!field->left && !field->zeros)
        fill(out, ' ', padding);
    put_text(out, sign);
    if (!field->left && field->zeros)
        fill(out, '0', padding);
    put_text(out, text);
    if (field->left)
        fill(out, ' ', padding);
}

static void put_number(struct output *out, const struct field *field,
                       const char *sign, uint64_t value, uint32_t base,
                       const char *digits)
{
    char text[DIGITS_MAX + 1] = { 0 };
    char *at = text + DIGITS_MAX;
    do {
        *--at = digits[value % base];
        value /= base;
    } while (value);
    put_field(out, field, sign, at);
}

static void put_signed(struct output *out, const struct field *field,
                       int64_t value)
{
    uint64_t size = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    put_number(out, field, value < 0 ? "-" : "", size, 10, UPPER);
}

// Reads flags, width and length, and returns what follows them.
static const char *read_field(const char *format, struct field *field)
{
    for (; *format == '-' || *format == '0'; format++) {
        field->left |= *format == '-';
        field->zeros |= *format == '0';
    }
    for (; *format >= '0' && *format <= '9'; format++)
        field->width = field->width * 10 + (size_t)(*format - '0');
    for (; *format == 'l' || *format == 'z'; format++)
        field->wide = true;
    return format;
}

// Prints into size bytes.
//
// IRQL:    any level
// Returns: the length of the whole text, without its zero
int rtl_vsnprintf(char *to, size_t size, const char *format, va_list args)
{
    struct output out = { .to = to, .size = size };
    for (; *format; format++) {
        if (*format != '%') {
            put(&out, *format);
            continue;
        }
        struct field field = { 0 };
        format = read_field(format + 1, &field);
        switch (*format) {
        case 's': {
            const char *s = va_arg(args, const char *);
            put_field(&out, &field, "", s ? s : "(null)");
            break;
        }
        case 'c':
            put_field(&out, &field, "", (char[]){ (char)va_arg(args, int), 0 });
            break;
        case 'd':
        case 'i':
            put_signed(&out, &field,
                       field.wide ? va_arg(args, int64_t) : va_arg(args, int));
            break;
        case 'p':
            field =
                (struct field){ POINTER_DIGITS, .zeros = true, .wide = true };
            // fall through
        case 'u':
        case 'x':
        case 'X':
            put_number(
                &out, &field, "",
                field.wide ? va_arg(args, uint64_t) : va_arg(args, uint32_t),
                *format == 'u' ? 10 : 16, *format == 'x' ? LOWER : UPPER);
            break;
        case 0:
            format--;    // a lone % ends the text
            break;
        default:
            put(&out, *format);    // %%, or what we do not know
        }
    }
    if (size)
        to[MIN(out.length, size - 1)] = 0;
    return (int)out.length;
}

// Prints into size bytes.
//
// IRQL:    any level
// Returns: the length of the whole text, without its zero
int rtl_snprintf(char *to, size_t size, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int length = rtl_vsnprintf(to, size, format, args);
    va_end(args);
    return length;
}
