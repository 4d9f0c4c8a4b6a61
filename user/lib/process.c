// process.c - the C part of a process's start, its end, and its children.

#include "user/lib/process.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COMMAND_LINE_SIZE 4096
#define NAME_SIZE         256

PEB *rtl_peb;

// Adds what the kernel leaves to the process itself: its two strings, of which
// the texts lie behind the PEB, who its first thread is and, for the program
// that the kernel started, the console, opened once for each stream, so that
// nobody who reads keeps another from writing.
static void complete_peb(PEB *peb)
{
    const char *image = (const char *)(peb + 1);
    HANDLE *handles = &peb->ProcessParameters.StandardInput;
    RtlInitString(&peb->ProcessParameters.ImagePathName, image);
    RtlInitString(&peb->ProcessParameters.CommandLine,
                  image + strlen(image) + 1);
    THREAD_BASIC_INFORMATION self = { 0 };
    NTSTATUS status = NtQueryInformationThread(
        NtCurrentThread(), ThreadBasicInformation, &self, sizeof(self), NULL);
    peb->ClientId = self.ClientId;
    for (int i = 0; peb->FirstProgram && i < 3 && NT_SUCCESS(status); i++)
        status = nt_open_file(
            "CON", FILE_READ_DATA | FILE_WRITE_DATA | SYNCHRONIZE, FILE_OPEN,
            FILE_SYNCHRONOUS_IO_NONALERT, &handles[i]);
    if (!NT_SUCCESS(status))
        exit(status);
}

void rtl_start_process(PEB *peb)
{
    rtl_peb = peb;
    complete_peb(peb);
    const STRING *command = &peb->ProcessParameters.CommandLine;
    const int maximum = command->Length / 2 + 1;    // a blank between each
    const size_t size = ((size_t)maximum + 1) * sizeof(char *);

    rtl_start_streams(&peb->ProcessParameters);
    if (peb->FirstProgram)    // the others: whoever starts them says so
        nt_set_foreground(NtCurrentProcess());
    char **words = nt_allocate_pages(size + command->Length + 1);
    if (!words)
        exit(STATUS_NO_MEMORY);
    char *line = memcpy((char *)words + size, command->Buffer, command->Length);
    int count = rtl_split_words(line, words, maximum);
    exit(main(count, words));
}

void nt_set_foreground(HANDLE process)
{
    IO_STATUS_BLOCK iosb;
    HANDLE console = NtCurrentPeb()->ProcessParameters.StandardInput;
    NTSTATUS status = NtDeviceIoControlFile(
        console, NULL, NULL, NULL, &iosb, IOCTL_CONSOLE_SET_FOREGROUND,
        &process, sizeof(process), NULL, 0);
    if (status == STATUS_PENDING)
        NtWaitForSingleObject(console, false, NULL);
}

void exit(int status)
{
    rtl_flush_all();
    for (;;)
        NtTerminateProcess(NtCurrentProcess(), status);
}

void abort(void)
{
    for (;;)
        NtTerminateProcess(NtCurrentProcess(), STATUS_ASSERTION_FAILURE);
}

void rtl_assertion_failed(const char *expression, const char *file, int line)
{
    fflush(stdout);
    fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, expression);
    abort();
}

// Returns: STATUS_OBJECT_NAME_NOT_FOUND  there is no such program
//          STATUS_BUFFER_TOO_SMALL       the words do not fit a command line
//          or what NtCreateUserProcess says
// Owns:    the caller closes *process and *thread
NTSTATUS nt_start_program(int count, char *const *words, uint32_t flags,
                          HANDLE *process, HANDLE *thread)
{
    char program[NAME_SIZE];
    char image[NAME_SIZE];
    char line[COMMAND_LINE_SIZE];
    RTL_USER_PROCESS_PARAMETERS parameters = rtl_peb->ProcessParameters;

    bool bare = !strpbrk(words[0], "\\/:");
    if (snprintf(program, sizeof(program), "%s%s", bare ? "B:\\bin\\" : "",
                 words[0]) >= (int)sizeof(program))
        return STATUS_OBJECT_NAME_INVALID;
    NTSTATUS status = rtl_dos_name_to_nt(program, image, sizeof(image));
    if (NT_SUCCESS(status))
        status = rtl_quote_words(count, words, line, sizeof(line));
    if (!NT_SUCCESS(status))
        return status;
    RtlInitString(&parameters.ImagePathName, image);
    RtlInitString(&parameters.CommandLine, line);
    return NtCreateUserProcess(process, thread, ALL_ACCESS, ALL_ACCESS, flags,
                               &parameters);
}
