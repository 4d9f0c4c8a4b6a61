// names.c - from the names that people type to those of the kernel.
//
//   \\.\PhysicalDrive0   \??\PhysicalDrive0     a device
//   CON, COM2            \??\CON
//   B:\bin\sh, B:/bin    \??\B:\bin\sh          a drive
//   notes.txt            \??\C:\notes.txt       or B: if there is no C:
//
// "." and ".." are resolved here; the kernel knows no current directory.

#include <ntdll.h>

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define NAME_SIZE 256

void RtlInitString(STRING *string, const char *text)
{
    size_t length = strnlen(text, UINT16_MAX - 1);
    string->Length = (uint16_t)length;
    string->MaximumLength = (uint16_t)(length + 1);
    string->Buffer = text;
}

static NTSTATUS open_nt_name(const char *nt_name, ACCESS_MASK access,
                             uint32_t disposition, uint32_t options,
                             HANDLE *file)
{
    IO_STATUS_BLOCK iosb;
    OBJECT_ATTRIBUTES attributes = { .Length = sizeof(attributes) };
    RtlInitString(&attributes.ObjectName, nt_name);
    return NtCreateFile(file, access, &attributes, &iosb,
                        FILE_SHARE_READ | FILE_SHARE_WRITE, disposition,
                        options);
}

static bool is_separator(char c)
{
    return c == '\\' || c == '/';
}

static bool is_device(const char *name)
{
    return strcasecmp(name, "CON") == 0 ||
           (strncasecmp(name, "COM", 3) == 0 && isdigit(name[3]) &&
            name[4] == 0);
}

static char default_drive(void)
{
    HANDLE volume;
    NTSTATUS status = open_nt_name("\\??\\C:", FILE_READ_ATTRIBUTES, FILE_OPEN,
                                   0, &volume);
    if (!NT_SUCCESS(status))
        return 'B';
    NtClose(volume);
    return 'C';
}

// Appends the parts of path to the root of a drive, which ends in "X:".
static NTSTATUS append_path(char *nt_name, size_t size, const char *path)
{
    size_t root = strlen(nt_name);
    size_t length = root;
    while (*path) {
        path += strspn(path, "\\/");
        size_t part = strcspn(path, "\\/");
        if (part == 2 && memcmp(path, "..", 2) == 0) {
            while (length > root && nt_name[--length] != '\\')
                ;
        } else if (part > 0 && !(part == 1 && *path == '.')) {
            if (length + 1 + part >= size)
                return STATUS_OBJECT_NAME_INVALID;
            nt_name[length++] = '\\';
            memcpy(nt_name + length, path, part);
            length += part;
        }
        path += part;
    }
    if (length == root) {
        if (length + 1 >= size)
            return STATUS_OBJECT_NAME_INVALID;
        nt_name[length++] = '\\';
    }
    nt_name[length] = 0;
    return STATUS_SUCCESS;
}

// Returns: STATUS_OBJECT_NAME_INVALID  empty, or it does not fit
NTSTATUS rtl_dos_name_to_nt(const char *name, char *nt_name, size_t size)
{
    int length;
    if (*name == 0)
        return STATUS_OBJECT_NAME_INVALID;
    if (strncmp(name, "\\??\\", 4) == 0 ||
        strncmp(name, "\\Device\\", 8) == 0) {
        length = snprintf(nt_name, size, "%s", name);
    } else if (is_separator(name[0]) && is_separator(name[1]) &&
               name[2] == '.' && is_separator(name[3])) {
        length = snprintf(nt_name, size, "\\??\\%s", name + 4);
        for (char *c = nt_name; size > 0 && *c; c++)
            *c = *c == '/' ? '\\' : *c;
    } else if (is_device(name)) {
        length = snprintf(nt_name, size, "\\??\\%s", name);
        for (char *c = nt_name; size > 0 && *c; c++)
            *c = (char)toupper(*c);
    } else {
        bool drive = isalpha(name[0]) && name[1] == ':';
        length = snprintf(nt_name, size, "\\??\\%c:",
                          drive ? toupper(name[0]) : default_drive());
        if (length < (int)size)
            return append_path(nt_name, size, drive ? name + 2 : name);
    }
    return length < (int)size ? STATUS_SUCCESS : STATUS_OBJECT_NAME_INVALID;
}

// Returns: STATUS_OBJECT_NAME_INVALID  not a name
//          or what NtCreateFile says
// Owns:    the caller closes *file
NTSTATUS nt_open_file(const char *name, ACCESS_MASK access,
                      uint32_t disposition, uint32_t options, HANDLE *file)
{
    char nt_name[NAME_SIZE];
    NTSTATUS status = rtl_dos_name_to_nt(name, nt_name, sizeof(nt_name));
    if (!NT_SUCCESS(status))
        return status;
    return open_nt_name(nt_name, access, disposition, options, file);
}
