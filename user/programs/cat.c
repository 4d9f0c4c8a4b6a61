// cat.c - prints files, or what is typed: cat [FILE...].

#include <ntdll.h>
#include <stdio.h>

static int copy_input(void)
{
    int c;
    while ((c = getchar()) != EOF)
        putchar(c);
    return ferror(stdin) ? 1 : 0;
}

static int copy_file(const char *name)
{
    static char buffer[4096];
    char text[RTL_STATUS_SIZE];
    HANDLE file;
    NTSTATUS status = nt_open_file(name, FILE_READ_DATA | SYNCHRONIZE,
                                   FILE_OPEN,
                                   FILE_SYNCHRONOUS_IO_NONALERT |
                                       FILE_NON_DIRECTORY_FILE, &file);
    uint32_t done = 1;
    uint64_t offset = 0;
    if (NT_SUCCESS(status)) {
        while (NT_SUCCESS(status) && done > 0) {
            status = nt_read(file, buffer, sizeof(buffer), offset, &done);
            fwrite(buffer, 1, done, stdout);
            offset += done;
        }
        NtClose(file);
    }
    fflush(stdout);
    if (NT_SUCCESS(status) || status == STATUS_END_OF_FILE)
        return 0;
    fprintf(stderr, "cat: %s: %s\n", name, rtl_status_text(status, text));
    return 1;
}

int main(int argc, char **argv)
{
    int result = 0;
    if (argc == 1)
        return copy_input();
    for (int i = 1; i < argc; i++)
        result |= copy_file(argv[i]);
    return result;
}
