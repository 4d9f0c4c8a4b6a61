// format.c - printf's language: %[-+ 0#][width][.precision][length]conversion.
//
// One loop walks the format and hands finished pieces of text to a sink, which
// is a stream or a buffer. Conversions: d i u x X o c s p f %.

#include "user/lib/format.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define DIGITS_MAXIMUM 64

// One conversion, as written in the format.
struct spec {
    bool left, zero, alternate;
    char sign;        // '+' or ' ' before what is not negative; or 0
    int width;
    int precision;    // -1: not given
    int length;       // -1 h, -2 hh, 1 l, 2 ll and its equals
};

struct output {
    rtl_sink *sink;
    void *context;
    int count;
};

static void emit(struct output *out, const char *text, size_t length)
{
    if (length > 0)
        out->sink(out->context, text, length);
    out->count += (int)length;
}

static void pad(struct output *out, char c, int count)
{
    for (; count > 0; count--)
        emit(out, &c, 1);
}

// Prefix (a sign, or 0x), leading zeros, text; padded to the width.
static void emit_field(struct output *out, const struct spec *spec,
                       const char *prefix, int zeros, const char *text,
                       int length)
{
    int prefix_length = (int)strlen(prefix);
    int blanks = spec->width - prefix_length - zeros - length;
    if (!spec->left)
        pad(out, ' ', blanks);
    emit(out, prefix, (size_t)prefix_length);
    pad(out, '0', zeros);
    emit(out, text, (size_t)length);
    if (spec->left)
        pad(out, ' ', blanks);
}

// Writes digits backwards from end; returns the first one. 0 gives none.
static char *put_digits(char *end, uint64_t value, unsigned base,
                        const char *digits)
{
    for (; value != 0; value /= base)
        *--end = digits[value % base];
    return end;
}

static void emit_number(struct output *out, const struct spec *spec,
                        const char *prefix, uint64_t value, unsigned base,
                        const char *digits)
{
    char buffer[DIGITS_MAXIMUM];
    char *end = buffer + sizeof(buffer);
    char *first = put_digits(end, value, base, digits);
    int length = (int)(end - first);
    int zeros = (spec->precision < 0 ? 1 : spec->precision) - length;
    if (spec->precision < 0 && spec->zero && !spec->left)
        zeros = spec->width - (int)strlen(prefix) - length;
    if (spec->alternate && base == 8 && zeros <= 0)
        zeros = 1;
    if (value == 0 && spec->precision < 0 && zeros < 1)
        zeros = 1;
    emit_field(out, spec, prefix, zeros > 0 ? zeros : 0, first, length);
}

static const char *sign_prefix(const struct spec *spec, bool negative)
{
    if (negative)
        return "-";
    return spec->sign == '+' ? "+" : spec->sign ? " " : "";
}

static void emit_signed(struct output *out, const struct spec *spec,
                        int64_t value)
{
    bool negative = value < 0;
    emit_number(out, spec, sign_prefix(spec, negative),
                negative ? -(uint64_t)value : (uint64_t)value, 10,
                "0123456789");
}

// What a fraction below 1 has before the point when it is scaled: exactly, the
// next digit rounded, and of two as near the even one. whole: before the point.
static uint64_t scale_fraction(double fraction, uint64_t scale, uint64_t whole)
{
    enum { MANTISSA_BITS = 52, SHIFT_OF_0 = 1075, ALL_GONE = 96 };
    uint64_t bits;
    memcpy(&bits, &fraction, sizeof(bits));
    uint64_t exponent = bits >> MANTISSA_BITS;
    uint64_t shift = SHIFT_OF_0 - exponent;    // of an integer of 53 bits
    if (shift > ALL_GONE)
        return 0;
    bits &= (UINT64_C(1) << MANTISSA_BITS) - 1;
    bits |= UINT64_C(1) << MANTISSA_BITS;
    unsigned __int128 product = (unsigned __int128)bits * scale;
    uint64_t digits = (uint64_t)(product >> shift);
    unsigned __int128 one = (unsigned __int128)1 << shift;
    unsigned __int128 twice = (product & (one - 1)) * 2;
    uint64_t last = scale > 1 ? digits : whole;
    return digits + (twice > one || (twice == one && last % 2 != 0));
}

// Fixed point for magnitudes below 2^63 and up to nine digits behind the
// point; more digits are zeros.
static void emit_double(struct output *out, const struct spec *spec,
                        double value)
{
    bool negative = __builtin_signbit(value);
    if (negative)
        value = -value;
    if (!(value < 9.2e18)) {
        emit_field(out, spec, sign_prefix(spec, negative), 0,
                   value != value ? "nan" : "inf", 3);
        return;
    }
    int asked = spec->precision < 0 ? 6 : spec->precision;
    int precision = asked > 9 ? 9 : asked;
    uint64_t scale = 1;
    for (int i = 0; i < precision; i++)
        scale *= 10;
    uint64_t whole = (uint64_t)value;
    uint64_t fraction = scale_fraction(value - (double)whole, scale, whole);
    if (fraction >= scale) {
        fraction -= scale;
        whole++;
    }

    char buffer[DIGITS_MAXIMUM];
    char *point = buffer + 24;
    *point = '.';
    for (int i = precision; i > 0; i--, fraction /= 10)
        point[i] = (char)('0' + fraction % 10);
    int more = asked - precision;
    if (more > (int)sizeof(buffer) - 24 - 1 - precision)
        more = (int)sizeof(buffer) - 24 - 1 - precision;
    memset(point + 1 + precision, '0', (size_t)more);
    char *first = put_digits(point, whole, 10, "0123456789");
    if (first == point)
        *--first = '0';
    bool dot = asked > 0 || spec->alternate;
    int length = (int)(point - first) + (dot ? 1 + precision + more : 0);
    const char *prefix = sign_prefix(spec, negative);
    int zeros = spec->width - (int)strlen(prefix) - length;
    emit_field(out, spec, prefix,
               spec->zero && !spec->left && zeros > 0 ? zeros : 0, first,
               length);
}

static const char *parse_number(const char *at, int *number, va_list *arguments)
{
    if (*at == '*') {
        *number = va_arg(*arguments, int);
        return at + 1;
    }
    *number = 0;
    for (; isdigit(*at); at++)
        *number = *number * 10 + (*at - '0');
    return at;
}

static const char *parse_spec(const char *at, struct spec *spec,
                              va_list *arguments)
{
    *spec = (struct spec){ .precision = -1 };
    for (;; at++) {
        if (*at == '-')
            spec->left = true;
        else if (*at == '0')
            spec->zero = true;
        else if (*at == '#')
            spec->alternate = true;
        else if (*at == '+' || (*at == ' ' && spec->sign == 0))
            spec->sign = *at;
        else if (*at != ' ')
            break;
    }
    at = parse_number(at, &spec->width, arguments);
    if (spec->width < 0) {
        spec->left = true;
        spec->width = -spec->width;
    }
    if (*at == '.')
        at = parse_number(at + 1, &spec->precision, arguments);
    for (;; at++) {
        if (*at == 'h')
            spec->length--;
        else if (*at == 'l')
            spec->length++;
        else if (*at == 'z' || *at == 'j' || *at == 't')
            spec->length = 2;
        else
            return at;
    }
}

static int64_t take_signed(const struct spec *spec, va_list *arguments)
{
    if (spec->length > 0)
        return va_arg(*arguments, int64_t);
    int value = va_arg(*arguments, int);
    if (spec->length == -1)
        return (int16_t)value;
    return spec->length == -2 ? (int8_t)value : value;
}

static uint64_t take_unsigned(const struct spec *spec, va_list *arguments)
{
    if (spec->length > 0)
        return va_arg(*arguments, uint64_t);
    unsigned value = va_arg(*arguments, unsigned);
    if (spec->length == -1)
        return (uint16_t)value;
    return spec->length == -2 ? (uint8_t)value : value;
}

static void emit_string(struct output *out, const struct spec *spec,
                        const char *text)
{
    if (!text)
        text = "(null)";
    size_t maximum = spec->precision < 0 ? SIZE_MAX : (size_t)spec->precision;
    emit_field(out, spec, "", 0, text, (int)strnlen(text, maximum));
}

static void convert(struct output *out, const struct spec *spec,
                    char conversion, va_list *arguments)
{
    const char *small = "0123456789abcdef";
    uint64_t value;
    char c;
    switch (conversion) {
    case 'd': case 'i':
        emit_signed(out, spec, take_signed(spec, arguments));
        break;
    case 'u':
        emit_number(out, spec, "", take_unsigned(spec, arguments), 10, small);
        break;
    case 'o':
        emit_number(out, spec, "", take_unsigned(spec, arguments), 8, small);
        break;
    case 'x':
        value = take_unsigned(spec, arguments);
        emit_number(out, spec, spec->alternate && value ? "0x" : "", value, 16,
                    small);
        break;
    case 'X':
        value = take_unsigned(spec, arguments);
        emit_number(out, spec, spec->alternate && value ? "0X" : "", value, 16,
                    "0123456789ABCDEF");
        break;
    case 'p':
        value = (uintptr_t)va_arg(*arguments, void *);
        emit_number(out, spec, "0x", value, 16, small);
        break;
    case 'c':
        c = (char)va_arg(*arguments, int);
        emit_field(out, spec, "", 0, &c, 1);
        break;
    case 's':
        emit_string(out, spec, va_arg(*arguments, const char *));
        break;
    case 'f': case 'F':
        emit_double(out, spec, va_arg(*arguments, double));
        break;
    default:
        emit(out, &conversion, 1);
    }
}

// Formats to the sink.
//
// Returns: the number of characters
int rtl_format(rtl_sink *sink, void *context, const char *format,
               va_list arguments)
{
    struct output out = { .sink = sink, .context = context };
    va_list rest;
    va_copy(rest, arguments);
    while (*format) {
        size_t plain = strcspn(format, "%");
        emit(&out, format, plain);
        format += plain;
        if (*format == 0)
            break;
        struct spec spec;
        format = parse_spec(format + 1, &spec, &rest);
        if (*format == 0)
            break;
        convert(&out, &spec, *format++, &rest);
    }
    va_end(rest);
    return out.count;
}
