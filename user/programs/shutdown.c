// shutdown.c - leaves QEMU, or powers the machine off: shutdown [N].

#include <ntdll.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    uint64_t code = 0;
    char text[RTL_STATUS_SIZE];
    if (argc > 2 || (argc == 2 && (!rtl_parse_number(argv[1], &code) ||
                                   code > UINT32_MAX))) {
        fprintf(stderr, "usage: shutdown [N]     N: 0 for success\n");
        return 2;
    }
    NTSTATUS status = nt_shutdown((uint32_t)code);
    fprintf(stderr, "shutdown: %s\n", rtl_status_text(status, text));
    return 1;
}
