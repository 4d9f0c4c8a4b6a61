// words.c - the kernel command line, word by word.
//
// The rules are few because three programs share them: the launcher escapes,
// GRUB escapes once more, and this undoes both.

#include "kernel/rtl/rtl.h"

// Takes the first word off *line into to, unquoted; a longer one is cut at
// size, which is at least 1. A quote that nothing closes reaches to the end.
//
// IRQL:    any level
// Returns: false if there is no word left
bool rtl_next_word(const char **line, char *to, size_t size)
{
    const char *s = *line;
    while (*s == ' ' || *s == '\t')
        s++;
    bool found = *s != 0, quoted = false;
    for (; *s && (quoted || (*s != ' ' && *s != '\t')); s++) {
        if (*s == '"') {
            quoted = !quoted;
            continue;
        }
        if (s[0] == '\\' && (s[1] == '\\' || s[1] == '"' || s[1] == '\''))
            s++;
        if (size > 1) {
            *to++ = *s;
            size--;
        }
    }
    *to = 0;
    *line = s;
    return found;
}

static uint32_t digit_value(char c)
{
    if (c >= '0' && c <= '9')
        return (uint32_t)(c - '0');
    c |= 'a' - 'A';    // letters become small ones
    return c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a') + 10 : UINT32_MAX;
}

// Reads a decimal or 0x number that is all of text.
//
// IRQL:    any level
// Returns: false if text is anything else, or does not fit into 64 bits
bool rtl_parse_number(const char *text, uint64_t *value)
{
    uint32_t base = 10;
    if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) {
        base = 16;
        text += 2;
    }
    uint64_t result = 0;
    if (!*text)
        return false;
    for (; *text; text++) {
        uint32_t digit = digit_value(*text);
        if (digit >= base || __builtin_mul_overflow(result, base, &result) ||
            __builtin_add_overflow(result, digit, &result))
            return false;
    }
    *value = result;
    return true;
}
