// readline.c - a line editor for the console.
//
// The console delivers raw bytes and echoes nothing. One byte is read at a
// time, so that what is typed ahead stays for the next program. The line is
// drawn again after each change; one longer than the screen scrolls sideways.

#include <ntdll.h>

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COLUMNS 80
#define CONTROL(letter) ((letter) & 0x1F)
#define ESCAPE    0x1B
#define BACKSPACE 0x7F

// What an escape sequence stands for; beyond every byte.
enum { KEY_UP = 256, KEY_DOWN, KEY_RIGHT, KEY_LEFT, KEY_HOME, KEY_END,
       KEY_DELETE, KEY_UNKNOWN, KEY_NONE };

struct editor {
    HANDLE input;
    HANDLE output;
    const char *prompt;
    char *line;         // length bytes, not zero-ended while it is edited
    size_t size;
    size_t length;
    size_t cursor;
    struct rtl_history *history;
    int shown;          // which line of the history; its count: a new one
    char *draft;        // the new line, while an old one is shown
};

static void show(struct editor *editor, const char *text, size_t length)
{
    uint32_t done;
    nt_write(editor->output, text, (uint32_t)length,
             FILE_USE_FILE_POINTER_POSITION, &done);
}

static void redraw(struct editor *editor)
{
    char screen[2 * COLUMNS + 32];
    size_t room = COLUMNS - 1 - strnlen(editor->prompt, COLUMNS / 2);
    size_t first = editor->cursor > room ? editor->cursor - room : 0;
    size_t visible = editor->length - first;
    if (visible > room)
        visible = room;

    int used = snprintf(screen, sizeof(screen), "\r%.*s%.*s\x1b[K\r",
                        COLUMNS / 2, editor->prompt, (int)visible,
                        editor->line + first);
    size_t column = COLUMNS - 1 - room + editor->cursor - first;
    if (column > 0)
        used += snprintf(screen + used, sizeof(screen) - (size_t)used,
                         "\x1b[%uC", (unsigned)column);
    show(editor, screen, (size_t)used);
}

// ---- Keys -----------------------------------------------------------------

// Returns: the byte, or KEY_NONE when there is no more input
static int read_byte(struct editor *editor)
{
    unsigned char byte;
    uint32_t done = 0;
    NTSTATUS status = nt_read(editor->input, &byte, 1,
                              FILE_USE_FILE_POINTER_POSITION, &done);
    return NT_SUCCESS(status) && done == 1 ? byte : KEY_NONE;
}

// ESC [ A, ESC O A, ESC [ 3 ~ and the like.
static int read_escape(struct editor *editor)
{
    int c = read_byte(editor);
    if (c != '[' && c != 'O')
        return c == KEY_NONE ? KEY_NONE : KEY_UNKNOWN;
    int number = 0;
    for (c = read_byte(editor); isdigit(c) || c == ';'; c = read_byte(editor))
        number = c == ';' ? 0 : number * 10 % 1000 + c - '0';
    switch (c) {
    case KEY_NONE: return KEY_NONE;
    case 'A': return KEY_UP;
    case 'B': return KEY_DOWN;
    case 'C': return KEY_RIGHT;
    case 'D': return KEY_LEFT;
    case 'H': return KEY_HOME;
    case 'F': return KEY_END;
    case '~':
        return number == 1 || number == 7 ? KEY_HOME
             : number == 4 || number == 8 ? KEY_END
             : number == 3 ? KEY_DELETE : KEY_UNKNOWN;
    default: return KEY_UNKNOWN;
    }
}

static int read_key(struct editor *editor)
{
    static bool after_return;
    int key = read_byte(editor);
    if (key == '\n' && after_return)    // the second half of a CR LF
        key = read_byte(editor);
    after_return = key == '\r';
    return key == ESCAPE ? read_escape(editor) : key;
}

// ---- Changes --------------------------------------------------------------

// Removes the characters from first up to the cursor's old or new place.
static void cut(struct editor *editor, size_t first, size_t end)
{
    memmove(editor->line + first, editor->line + end, editor->length - end);
    editor->length -= end - first;
    editor->cursor = first;
}

static void insert(struct editor *editor, char c)
{
    if (editor->length + 1 >= editor->size) {
        show(editor, "\a", 1);
        return;
    }
    char *place = editor->line + editor->cursor;
    memmove(place + 1, place, editor->length - editor->cursor);
    *place = c;
    editor->length++;
    editor->cursor++;

    size_t column = strnlen(editor->prompt, COLUMNS / 2) + editor->length;
    if (editor->cursor == editor->length && column < COLUMNS)
        show(editor, &c, 1);
    else
        redraw(editor);
}

static size_t word_start(const struct editor *editor)
{
    size_t at = editor->cursor;
    while (at > 0 && editor->line[at - 1] == ' ')
        at--;
    while (at > 0 && editor->line[at - 1] != ' ')
        at--;
    return at;
}

static void show_history(struct editor *editor, int step)
{
    struct rtl_history *history = editor->history;
    int next = editor->shown + step;
    if (!history || next < 0 || next > history->count)
        return;
    if (editor->shown == history->count) {
        free(editor->draft);
        editor->line[editor->length] = 0;
        editor->draft = strdup(editor->line);
    }
    editor->shown = next;
    const char *text = next < history->count ? history->lines[next]
                                             : editor->draft;
    editor->length = text ? strnlen(text, editor->size - 1) : 0;
    if (text)
        memcpy(editor->line, text, editor->length);
    editor->cursor = editor->length;
}

static void edit(struct editor *editor, int key)
{
    size_t cursor = editor->cursor;
    size_t length = editor->length;
    switch (key) {
    case CONTROL('A'): case KEY_HOME:
        editor->cursor = 0;
        break;
    case CONTROL('E'): case KEY_END:
        editor->cursor = length;
        break;
    case CONTROL('B'): case KEY_LEFT:
        editor->cursor -= cursor > 0;
        break;
    case CONTROL('F'): case KEY_RIGHT:
        editor->cursor += cursor < length;
        break;
    case CONTROL('P'): case KEY_UP:
        show_history(editor, -1);
        break;
    case CONTROL('N'): case KEY_DOWN:
        show_history(editor, 1);
        break;
    case BACKSPACE: case CONTROL('H'):
        cut(editor, cursor - (cursor > 0), cursor);
        break;
    case CONTROL('D'): case KEY_DELETE:
        cut(editor, cursor, cursor + (cursor < length));
        break;
    case CONTROL('K'):
        editor->length = cursor;
        break;
    case CONTROL('U'):
        cut(editor, 0, cursor);
        break;
    case CONTROL('W'):
        cut(editor, word_start(editor), cursor);
        break;
    case CONTROL('L'):
        show(editor, "\x1b[H\x1b[2J", 7);
        break;
    default:
        return;
    }
    redraw(editor);
}

// ---- The line -------------------------------------------------------------

static int read_keys(struct editor *editor)
{
    for (;;) {
        int key = read_key(editor);
        bool empty = editor->length == 0;
        if (key == KEY_NONE || (key == CONTROL('D') && empty))
            return RTL_LINE_END;
        if (key == '\r' || key == '\n')
            return (int)editor->length;
        if (key == CONTROL('C')) {
            show(editor, "^C", 2);
            return RTL_LINE_CANCELLED;
        }
        if (key < 256 && (isprint(key) || key >= 0x80))
            insert(editor, (char)key);
        else
            edit(editor, key);
    }
}

int rtl_read_line(HANDLE input, HANDLE output, const char *prompt, char *line,
                  size_t size, struct rtl_history *history)
{
    struct editor editor = {
        .input = input, .output = output, .prompt = prompt, .line = line,
        .size = size, .history = history,
        .shown = history ? history->count : 0 };
    show(&editor, prompt, strlen(prompt));
    int result = read_keys(&editor);
    line[editor.length] = 0;
    free(editor.draft);
    show(&editor, "\n", 1);
    return result;
}

void rtl_history_add(struct rtl_history *history, const char *line)
{
    int count = history->count;
    if (*line == 0 ||
        (count > 0 && strcmp(history->lines[count - 1], line) == 0))
        return;
    char *copy = strdup(line);
    if (!copy)
        return;
    if (count == RTL_HISTORY_LINES) {
        free(history->lines[0]);
        memmove(history->lines, history->lines + 1,
                (RTL_HISTORY_LINES - 1) * sizeof(history->lines[0]));
        count--;
    }
    history->lines[count] = copy;
    history->count = count + 1;
}
