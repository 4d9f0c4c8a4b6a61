// print.c - text from a format, as C has it, without floating point.
//
// The output is counted even where it no longer fits, so that a caller can
// tell; what is there ends with a zero. Needs nothing but its arguments: a
// bugcheck may print from anywhere.

#include "kernel/rtl/rtl.h"

struct output {
    char *to;
    size_t size, length;    // length: of the whole text, kept or not
};

// How one conversion is to look; wide: the argument has 64 bits.
struct field {
    size_t width;
    bool left, zeros, wide;
};

static void put(struct output *out, char c)
{
    if (out->length + 1 < out->size)
        out->to[out->length] = c;
    out->length++;
}

// Puts sign and text as one field; zeros stand between the two.
static void put_field(struct output *out, const struct field *field,
                      const char *sign, const char *text)
{
    size_t used = rtl_strlen(sign) + rtl_strlen(text);
    size_t padding = field->width > used ? field->width - used : 0;
    for (; padding && !field->left && !field->zeros; padding--)
        put(out, ' ');
    while (*sign)
        put(out, *sign++);
    for (; padding && !field->left; padding--)
        put(out, '0');
    while (*text)
        put(out, *text++);
    for (; padding; padding--)
        put(out, ' ');
}

// value: as it was passed; of an argument with 32 bits, with its sign extended.
static void put_number(struct output *out, const struct field *field,
                       uint64_t value, char type)
{
    const char *digits = type == 'x' ? "0123456789abcdef" : "0123456789ABCDEF";
    bool is_signed = type == 'd' || type == 'i';
    bool negative = is_signed && (int64_t)value < 0;
    uint32_t base = is_signed || type == 'u' ? 10 : 16;
    if (!is_signed && !field->wide)
        value = (uint32_t)value;
    value = negative ? 0 - value : value;
    char text[sizeof("18446744073709551615")] = { 0 };
    char *at = text + sizeof(text) - 1;
    do {
        *--at = digits[value % base];
        value /= base;
    } while (value);
    put_field(out, field, negative ? "-" : "", at);
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
        char character[] = { *format, 0 };    // %%, or what we do not know
        const char *text = character;
        switch (*format) {
        case 0:
            format--;    // a lone % ends the text
            break;
        case 'd': case 'i': case 'u': case 'x': case 'X': case 'p':
            if (*format == 'p')
                field = (struct field){ 16, .zeros = true, .wide = true };
            put_number(&out, &field,
                       field.wide ? va_arg(args, uint64_t)
                                  : (uint64_t)va_arg(args, int), *format);
            break;
        case 's':
            text = va_arg(args, const char *);
            put_field(&out, &field, "", text ? text : "(null)");
            break;
        case 'c':
            character[0] = (char)va_arg(args, int);
            // fall through
        default:
            put_field(&out, &field, "", text);
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
