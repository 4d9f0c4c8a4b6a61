// ubsan.c - undefined behaviour stops the checked kernel and says where.
//
// The checked build is compiled with -fsanitize=undefined: in front of each
// operation that may be undefined stand a test and, if it fails, a call of one
// of these. Names and structures are the ABI that gcc and clang share (LLVM's
// compiler-rt/lib/ubsan/ubsan_handlers.h). None of them returns.

#include "kernel/assert.h"
#include "kernel/rtl/rtl.h"

enum { TEXT_LENGTH = 100, KIND_INTEGER = 0, WORD_BITS = 64 };

typedef struct ubsan_place {
    const char *file;
    uint32_t line, column;
} ubsan_place;

typedef struct ubsan_type {
    uint16_t kind;
    uint16_t info;               // of an integer: bit 0: it is signed; above
                                 // that the logarithm of its bits
    char name[];                 // in quotes
} ubsan_type;

// What a call passes first; the place stands always in front, and not every
// handler has all of the rest.
typedef struct ubsan_finding {
    ubsan_place at;
    const ubsan_type *type;
    union {
        const ubsan_type *second;      // of an index or of a shift's distance
        struct {
            uint8_t alignment;   // its logarithm
            uint8_t access;      // index into accesses
        };
    };
} ubsan_finding;

static const char *const accesses[] = {
    "load of", "store to", "reference to", "member access in", "member call on",
    "constructor call on", "downcast of", "downcast of", "upcast of",
    "cast of", "non-null binding of", "dynamic operation on",
};

static _Noreturn void report(const ubsan_place *at, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static _Noreturn void report(const ubsan_place *at, const char *format, ...)
{
    char text[TEXT_LENGTH];
    va_list args;
    va_start(args, format);
    rtl_vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    ke_assertion_failed(text, at->file, at->line);
}

// A number of this type as the compiler passes it: in the low bits of a word.
static long long number(const ubsan_type *type, uint64_t word)
{
    uint32_t bits = 1u << (type->info >> 1);
    if (type->kind != KIND_INTEGER || bits >= WORD_BITS)
        return (long long)word;
    uint64_t sign = 1ull << (bits - 1);
    word &= (sign << 1) - 1;
    return (long long)(type->info & 1 ? (word ^ sign) - sign : word);
}

// Defines the handler __ubsan_handle_WHAT with these further parameters.
#define HANDLER(what, ...)                                                   \
    _Noreturn void __ubsan_handle_##what(                                    \
        const ubsan_finding *found __VA_ARGS__);                             \
    void __ubsan_handle_##what(const ubsan_finding *found __VA_ARGS__)
#define TWO_WORDS , uint64_t left, uint64_t right

#define OVERFLOW(what, operation)                                            \
    HANDLER(what##_overflow_abort, TWO_WORDS)                                \
    {                                                                        \
        report(&found->at, "undefined: overflow of %s: %lld " operation      \
               " %lld", found->type->name, number(found->type, left),        \
               number(found->type, right));                                  \
    }

OVERFLOW(add, "+")
OVERFLOW(sub, "-")
OVERFLOW(mul, "*")
OVERFLOW(divrem, "/")    // by 0, or the least number by -1

HANDLER(negate_overflow_abort, , uint64_t value)
{
    report(&found->at, "undefined: overflow of %s: -(%lld)",
           found->type->name, number(found->type, value));
}

HANDLER(shift_out_of_bounds_abort, TWO_WORDS)
{
    report(&found->at, "undefined: shift of %s: %lld by %lld",
           found->type->name, number(found->type, left),
           number(found->second, right));
}

HANDLER(out_of_bounds_abort, , uint64_t index)
{
    report(&found->at, "undefined: index %lld of %s",
           number(found->second, index), found->type->name);
}

HANDLER(type_mismatch_v1_abort, , uintptr_t address)
{
    uintptr_t mask = ((uintptr_t)1 << found->alignment) - 1;
    const char *what = !address ? "null" : address & mask ? "misaligned"
                                                          : "too small";
    // The name of the type comes last: clang's may be long, and is cut.
    report(&found->at, "undefined: %s 0x%llx: %s %s", what,
           (unsigned long long)address, accesses[found->access],
           found->type->name);
}

HANDLER(pointer_overflow_abort, TWO_WORDS)
{
    report(&found->at, "undefined: pointer 0x%llx becomes 0x%llx",
           (unsigned long long)left, (unsigned long long)right);
}

HANDLER(load_invalid_value_abort, , uint64_t value)
{
    report(&found->at, "undefined: %lld is no %s", (long long)value,
           found->type->name);
}

HANDLER(vla_bound_not_positive_abort, , uint64_t bound)
{
    report(&found->at, "undefined: array of %lld elements",
           number(found->type, bound));
}

// From clang 17 on.
HANDLER(function_type_mismatch_abort, , uintptr_t function)
{
    report(&found->at, "undefined: call of 0x%llx as %s",
           (unsigned long long)function, found->type->name);
}

HANDLER(invalid_builtin_abort)
{
    report(&found->at, "undefined: count of zeros of 0");
}

HANDLER(nonnull_arg_abort)
{
    report(&found->at, "undefined: null for an argument that must not be");
}

HANDLER(builtin_unreachable)
{
    report(&found->at, "undefined: what cannot be reached was");
}
