// stdio.c - streams: an NT handle and one buffer, for input or for output.
//
// stdout keeps a line, stderr a call, a file a full buffer. Reading stdin first
// lets stdout go, so that a question is seen before its answer is awaited; on
// the console stdin is edited line by line. The file's position is the
// kernel's. A stream's lock guards it; list_lock the list of open streams.

#include <stdio.h>

#include <ntdll.h>
#include <stdlib.h>
#include <string.h>

#include "user/lib/format.h"
#include "user/lib/process.h"

enum { BUFFER_FILE, BUFFER_LINE, BUFFER_CALL };

struct FILE {
    rtl_lock lock;
    HANDLE handle;
    FILE *next;              // in the list of open streams
    uint8_t buffering;
    bool readable, writable;
    bool writing;            // the buffer holds output
    bool console;            // input is edited lines
    bool ended, failed;
    size_t start;            // input: what is not read yet is start..end
    size_t end;
    char buffer[BUFSIZ];
};

static FILE input = { .readable = true };
static FILE output = { .writable = true, .buffering = BUFFER_LINE };
static FILE errors = { .writable = true, .buffering = BUFFER_CALL };

FILE *const stdin = &input;
FILE *const stdout = &output;
FILE *const stderr = &errors;

static rtl_lock list_lock;
static FILE *open_files;

// ---- The buffer -----------------------------------------------------------

// Writes out what the buffer holds; the stream's lock is held.
static int flush(FILE *file)
{
    size_t start = 0;
    while (file->writing && start < file->end) {
        uint32_t done = 0;
        NTSTATUS status = nt_write(file->handle, file->buffer + start,
                                   (uint32_t)(file->end - start),
                                   FILE_USE_FILE_POINTER_POSITION, &done);
        if (!NT_SUCCESS(status) || done == 0) {
            file->failed = true;
            break;
        }
        start += done;
    }
    if (file->writing)
        file->start = file->end = 0;
    file->writing = false;
    return file->failed ? EOF : 0;
}

static void put(FILE *file, char c)
{
    if (!file->writable) {
        file->failed = true;
        return;
    }
    if (!file->writing)
        file->start = file->end = 0;
    file->writing = true;
    file->buffer[file->end++] = c;
    if (file->end == sizeof(file->buffer) ||
        (file->buffering == BUFFER_LINE && c == '\n'))
        flush(file);
}

static void end_output(FILE *file)
{
    if (file->buffering == BUFFER_CALL)
        flush(file);
    rtl_release(&file->lock);
}

static void fill_from_console(FILE *file)
{
    int length = rtl_read_line(file->handle, output.handle, "", file->buffer,
                               sizeof(file->buffer) - 1, NULL);
    if (length == RTL_LINE_CANCELLED)
        exit(STATUS_CONTROL_C_EXIT);
    if (length == RTL_LINE_END)
        return;
    file->buffer[length] = '\n';
    file->end = (size_t)length + 1;
}

// Gets more input; false at the end or after an error.
static bool fill(FILE *file)
{
    if (!file->readable || file->ended || flush(file) == EOF)
        return false;
    if (file == stdin)
        fflush(stdout);
    file->start = file->end = 0;
    if (file->console) {
        fill_from_console(file);
    } else {
        uint32_t done = 0;
        NTSTATUS status = nt_read(file->handle, file->buffer,
                                  sizeof(file->buffer),
                                  FILE_USE_FILE_POINTER_POSITION, &done);
        file->failed = !NT_SUCCESS(status) && status != STATUS_END_OF_FILE;
        file->end = NT_SUCCESS(status) ? done : 0;
    }
    file->ended = file->end == 0;
    return file->end > 0;
}

static int get(FILE *file)
{
    if (file->writing || file->start == file->end) {
        if (!fill(file))
            return EOF;
    }
    return (unsigned char)file->buffer[file->start++];
}

// ---- Output ---------------------------------------------------------------

static void to_file(void *context, const char *text, size_t length)
{
    for (; length > 0; text++, length--)
        put(context, *text);
}

int vfprintf(FILE *file, const char *format, va_list arguments)
{
    rtl_acquire(&file->lock);
    int count = rtl_format(to_file, file, format, arguments);
    end_output(file);
    return file->failed ? -1 : count;
}

size_t fwrite(const void *buffer, size_t size, size_t count, FILE *file)
{
    rtl_acquire(&file->lock);
    to_file(file, buffer, size * count);
    end_output(file);
    return file->failed || size == 0 ? 0 : count;
}

int fputc(int c, FILE *file)
{
    char byte = (char)c;
    return fwrite(&byte, 1, 1, file) == 1 ? (unsigned char)c : EOF;
}

int putc(int c, FILE *file)
{
    return fputc(c, file);
}

int putchar(int c)
{
    return fputc(c, stdout);
}

int fputs(const char *text, FILE *file)
{
    size_t length = strlen(text);
    return fwrite(text, 1, length, file) == length ? 0 : EOF;
}

int puts(const char *text)
{
    return printf("%s\n", text) < 0 ? EOF : 0;
}

int fflush(FILE *file)
{
    if (!file) {
        rtl_flush_all();
        return 0;
    }
    rtl_acquire(&file->lock);
    int result = flush(file);
    rtl_release(&file->lock);
    return result;
}

// ---- Input ----------------------------------------------------------------

int fgetc(FILE *file)
{
    rtl_acquire(&file->lock);
    int c = get(file);
    rtl_release(&file->lock);
    return c;
}

int getc(FILE *file)
{
    return fgetc(file);
}

int getchar(void)
{
    return fgetc(stdin);
}

// One character can always be put back, also at the end or behind a seek.
int ungetc(int c, FILE *file)
{
    rtl_acquire(&file->lock);
    if (file->start == 0 && file->end == 0 && !file->writing)
        file->start = file->end = 1;
    bool room = c != EOF && file->readable && !file->writing && file->start > 0;
    if (room) {
        file->buffer[--file->start] = (char)c;
        file->ended = false;
    }
    rtl_release(&file->lock);
    return room ? (unsigned char)c : EOF;
}

char *fgets(char *line, int size, FILE *file)
{
    int length = 0;
    int c = 0;
    rtl_acquire(&file->lock);
    while (length + 1 < size && c != '\n' && (c = get(file)) != EOF)
        line[length++] = (char)c;
    rtl_release(&file->lock);
    if (length == 0 && size != 1)
        return NULL;
    line[length] = 0;
    return line;
}

size_t fread(void *buffer, size_t size, size_t count, FILE *file)
{
    char *bytes = buffer;
    size_t total = size * count;
    size_t length = 0;
    rtl_acquire(&file->lock);
    for (int c; length < total && (c = get(file)) != EOF; length++)
        bytes[length] = (char)c;
    rtl_release(&file->lock);
    return size > 0 ? length / size : 0;
}

// ---- Position and state ---------------------------------------------------

int fseek(FILE *file, long offset, int origin)
{
    IO_STATUS_BLOCK iosb;
    FILE_STANDARD_INFORMATION standard;
    FILE_POSITION_INFORMATION position = { 0 };
    NTSTATUS status = STATUS_SUCCESS;

    if (origin != SEEK_SET && origin != SEEK_CUR && origin != SEEK_END)
        return -1;
    if (origin == SEEK_CUR)
        offset += ftell(file);
    rtl_acquire(&file->lock);
    flush(file);
    if (origin == SEEK_END) {
        status = NtQueryInformationFile(file->handle, &iosb, &standard,
                                        sizeof(standard),
                                        FileStandardInformation);
        if (NT_SUCCESS(status))
            offset += (long)standard.EndOfFile;
    }
    position.CurrentByteOffset = (uint64_t)offset;
    if (NT_SUCCESS(status))
        status = offset < 0 ? STATUS_INVALID_PARAMETER
                            : NtSetInformationFile(file->handle, &iosb,
                                                   &position, sizeof(position),
                                                   FilePositionInformation);
    if (NT_SUCCESS(status)) {
        file->start = file->end = 0;
        file->ended = false;
    }
    rtl_release(&file->lock);
    return NT_SUCCESS(status) ? 0 : -1;
}

long ftell(FILE *file)
{
    IO_STATUS_BLOCK iosb;
    FILE_POSITION_INFORMATION position;
    NTSTATUS status = NtQueryInformationFile(file->handle, &iosb, &position,
                                             sizeof(position),
                                             FilePositionInformation);
    if (!NT_SUCCESS(status))
        return -1;
    if (file->writing)
        return (long)(position.CurrentByteOffset + file->end);
    return (long)(position.CurrentByteOffset - (file->end - file->start));
}

void rewind(FILE *file)
{
    fseek(file, 0, SEEK_SET);
    clearerr(file);
}

int feof(FILE *file)
{
    return file->ended;
}

int ferror(FILE *file)
{
    return file->failed;
}

void clearerr(FILE *file)
{
    file->ended = file->failed = false;
}

// ---- Opening and closing --------------------------------------------------

FILE *fopen(const char *name, const char *mode)
{
    bool both = strchr(mode, '+') != NULL;
    bool readable = *mode == 'r' || both;
    bool writable = *mode != 'r' || both;
    uint32_t disposition = *mode == 'r' ? FILE_OPEN
                         : *mode == 'w' ? FILE_OVERWRITE_IF : FILE_OPEN_IF;
    FILE *file = calloc(1, sizeof(*file));
    if (!file || !*mode || !strchr("rwa", *mode))
        goto failed;

    NTSTATUS status = nt_open_file(name,
                                   (readable ? GENERIC_READ : 0) |
                                       (writable ? GENERIC_WRITE : 0) |
                                       SYNCHRONIZE,
                                   disposition,
                                   FILE_SYNCHRONOUS_IO_NONALERT |
                                       FILE_NON_DIRECTORY_FILE,
                                   &file->handle);
    if (!NT_SUCCESS(status))
        goto failed;
    file->readable = readable;
    file->writable = writable;
    if (*mode == 'a')
        fseek(file, 0, SEEK_END);

    rtl_acquire(&list_lock);
    file->next = open_files;
    open_files = file;
    rtl_release(&list_lock);
    return file;

failed:
    free(file);
    return NULL;
}

int fclose(FILE *file)
{
    rtl_acquire(&list_lock);
    for (FILE **link = &open_files; *link; link = &(*link)->next) {
        if (*link == file) {
            *link = file->next;
            break;
        }
    }
    rtl_release(&list_lock);

    int result = fflush(file);
    NtClose(file->handle);
    if (file != stdin && file != stdout && file != stderr)
        free(file);
    return result;
}

// A stream that holds no output is left alone: a thread may wait for input in
// it, with its lock, for ever, and that keeps no process from ending (THR-03).
static void flush_output(FILE *file)
{
    if (__atomic_load_n(&file->writing, __ATOMIC_RELAXED))
        fflush(file);
}

void rtl_flush_all(void)
{
    flush_output(stdout);
    flush_output(stderr);
    rtl_acquire(&list_lock);
    for (FILE *file = open_files; file; file = file->next)
        flush_output(file);
    rtl_release(&list_lock);
}

// A console has no size, and that is how it is told from a file. Who has no
// input is at its end.
void rtl_start_streams(const RTL_USER_PROCESS_PARAMETERS *parameters)
{
    IO_STATUS_BLOCK iosb;
    FILE_STANDARD_INFORMATION standard;
    input.handle = parameters->StandardInput;
    output.handle = parameters->StandardOutput;
    errors.handle = parameters->StandardError;
    input.console = !NT_SUCCESS(
        NtQueryInformationFile(input.handle, &iosb, &standard,
                               sizeof(standard), FileStandardInformation));
    input.ended = !input.handle;
}
