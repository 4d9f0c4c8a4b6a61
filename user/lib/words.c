// words.c - command lines, numbers and status codes as text.
//
// A command line is words between blanks. "..." groups; \\ \" and \' stand for
// the second character; any other backslash is itself. The kernel's command
// line follows the same rule.

#include <ntdll.h>

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_escape(const char *at)
{
    return at[0] == '\\' && at[1] != 0 && strchr("\\\"'", at[1]);
}

// Words beyond the maximum are left out.
int rtl_split_words(char *line, char **words, int maximum)
{
    char *out = line;    // never overtakes the reader
    int count = 0;
    for (;;) {
        while (is_blank(*line))
            line++;
        if (*line == 0 || count == maximum)
            return count;
        words[count++] = out;
        bool quoted = false;
        for (; *line && (quoted || !is_blank(*line)); line++) {
            if (*line == '"')
                quoted = !quoted;
            else
                *out++ = is_escape(line) ? *++line : *line;
        }
        if (*line)
            line++;
        *out++ = 0;
    }
}

// Returns: STATUS_BUFFER_TOO_SMALL  the words do not fit
NTSTATUS rtl_quote_words(int count, char *const *words, char *line,
                         size_t size)
{
    size_t length = 0;
    for (int i = 0; i < count; i++) {
        const char *word = words[i];
        bool quote = *word == 0 || strpbrk(word, " \t\r\n");
        size_t longer = sizeof("\"\" ");
        for (const char *c = word; *c; c++)
            longer += strchr("\\\"'", *c) ? 2 : 1;
        if (length + longer > size)
            return STATUS_BUFFER_TOO_SMALL;
        if (i > 0)
            line[length++] = ' ';
        if (quote)
            line[length++] = '"';
        for (; *word; word++) {
            if (strchr("\\\"'", *word))
                line[length++] = '\\';
            line[length++] = *word;
        }
        if (quote)
            line[length++] = '"';
    }
    line[length] = 0;
    return STATUS_SUCCESS;
}

bool rtl_parse_number(const char *text, uint64_t *number)
{
    bool hex = text[0] == '0' && (text[1] | 0x20) == 'x';
    const char *digits = hex ? text + 2 : text;
    size_t allowed = strspn(digits, hex ? "0123456789abcdefABCDEF"
                                        : "0123456789");
    if (allowed == 0 || digits[allowed] != 0)
        return false;
    *number = strtoull(digits, NULL, hex ? 16 : 10);
    return *number != UINT64_MAX;
}

const char *rtl_grouped(uint64_t number, char buffer[RTL_GROUPED_SIZE])
{
    char *at = buffer + RTL_GROUPED_SIZE - 1;
    *at = 0;
    for (int digits = 0; digits == 0 || number > 0; digits++, number /= 10) {
        if (digits > 0 && digits % 3 == 0)
            *--at = ',';
        *--at = (char)('0' + number % 10);
    }
    return at;
}

const char *rtl_status_text(NTSTATUS status, char buffer[RTL_STATUS_SIZE])
{
    const char *name = rtl_status_name(status);
    if (name)
        snprintf(buffer, RTL_STATUS_SIZE, "%s (0x%08X)", name,
                 (uint32_t)status);
    else
        snprintf(buffer, RTL_STATUS_SIZE, "status 0x%08X", (uint32_t)status);
    return buffer;
}
