// ntdll.h - the native services, and what the library adds to them.
//
// The services, their structures and status codes are kernel/ntabi.h. What
// follows here runs in ring 3 only: names, words, programs, lines.

#ifndef TINT_NTDLL_H
#define TINT_NTDLL_H

#include "kernel/ntabi.h"

// ---- Process --------------------------------------------------------------

extern PEB *rtl_peb __attribute__((visibility("hidden")));
#define NtCurrentPeb() (rtl_peb)

// Quotes and joins words, starts the program words[0] with this process's
// standard handles; thread may be NULL.
NTSTATUS nt_start_program(int count, char *const *words, uint32_t flags,
                          HANDLE *process, HANDLE *thread);

// Zeroed, page-aligned memory for I/O; NULL if there is none.
void *nt_allocate_pages(size_t size);

// ---- Names and files ------------------------------------------------------

// Whom Ctrl-C on the console ends; NULL: nobody, it comes as a byte.
void nt_set_foreground(HANDLE process);
void RtlInitString(STRING *string, const char *text);

// Turns a name as a person types it into one of the kernel's namespace.
NTSTATUS rtl_dos_name_to_nt(const char *name, char *nt_name, size_t size);

// Opens a file or device by a name as a person types it.
NTSTATUS nt_open_file(const char *name, ACCESS_MASK access,
                      uint32_t disposition, uint32_t options, HANDLE *file);

// Read and write that wait for the result, whatever the handle is.
NTSTATUS nt_read(HANDLE file, void *buffer, uint32_t length, uint64_t offset,
                 uint32_t *done);
NTSTATUS nt_write(HANDLE file, const void *buffer, uint32_t length,
                  uint64_t offset, uint32_t *done);

// Opens \\.\PhysicalDriveN and says how large it is.
NTSTATUS nt_open_disk(uint32_t disk, ACCESS_MASK access, uint32_t options,
                      HANDLE *file, DISK_GEOMETRY *geometry);

// The same with the first disk that holds no volume; *disk says which.
NTSTATUS nt_open_free_disk(uint32_t *disk, ACCESS_MASK access,
                           uint32_t options, HANDLE *file,
                           DISK_GEOMETRY *geometry);

// Reads a whole file; the caller frees *content.
NTSTATUS nt_load_file(const char *name, uint8_t **content, uint64_t *length);

// ---- Words and numbers ----------------------------------------------------

// Splits a command line in place; returns the number of words.
int rtl_split_words(char *line, char **words, int maximum);

// Its inverse.
NTSTATUS rtl_quote_words(int count, char *const *words, char *line,
                         size_t size);

// A whole decimal or 0x number and nothing else.
bool rtl_parse_number(const char *text, uint64_t *number);

#define RTL_GROUPED_SIZE 28
// 1234567 -> "1,234,567".
const char *rtl_grouped(uint64_t number, char buffer[RTL_GROUPED_SIZE]);

// ---- Status codes ---------------------------------------------------------

// "STATUS_PENDING"; NULL if it has no name here.
const char *rtl_status_name(NTSTATUS status);

#define RTL_STATUS_SIZE 56
// "STATUS_ACCESS_VIOLATION (0xC0000005)".
const char *rtl_status_text(NTSTATUS status, char buffer[RTL_STATUS_SIZE]);

// ---- Locks ----------------------------------------------------------------

typedef volatile uint32_t rtl_lock;
void rtl_acquire(rtl_lock *lock);
void rtl_release(rtl_lock *lock);

// ---- Lines from the console -----------------------------------------------

#define RTL_HISTORY_LINES 32

// Oldest first; the lines are malloc'ed.
struct rtl_history {
    char *lines[RTL_HISTORY_LINES];
    int count;
};

#define RTL_LINE_END       (-1)    // ^D on an empty line, or no console
#define RTL_LINE_CANCELLED (-2)    // ^C

// Reads one edited line; history may be NULL. Returns its length or RTL_LINE_.
int rtl_read_line(HANDLE input, HANDLE output, const char *prompt, char *line,
                  size_t size, struct rtl_history *history);
void rtl_history_add(struct rtl_history *history, const char *line);

#endif
