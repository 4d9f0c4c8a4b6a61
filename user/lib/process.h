// process.h - what the parts of the library do at a process's start and end.

#ifndef TINT_PROCESS_H
#define TINT_PROCESS_H

#include <ntdll.h>

// stdio.c: takes over the standard handles; writes out every stream.
void rtl_start_streams(const RTL_USER_PROCESS_PARAMETERS *parameters);
void rtl_flush_all(void);

// crt0.asm calls it: builds argv, runs main, exits with its result.
_Noreturn void rtl_start_process(PEB *peb);

int main(int argc, char **argv);

#endif
