// status.c - the names of the status codes.

#include <ntdll.h>

#define NAME(name, code) { STATUS_##name, "STATUS_" #name },

static const struct {
    NTSTATUS status;
    const char *name;
} names[] = { NT_STATUS_CODES(NAME) };

const char *rtl_status_name(NTSTATUS status)
{
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (names[i].status == status)
            return names[i].name;
    }
    return NULL;
}
