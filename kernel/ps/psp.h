// psp.h - what only kernel/ps knows: images, how a thread or a process ends.

#ifndef TINT_PS_PSP_H
#define TINT_PS_PSP_H

#include "kernel/nt.h"

// ---- elf.c: needs nothing of the kernel -----------------------------------

#define PSP_MAX_SEGMENTS 16

typedef struct psp_segment {
    uint64_t address, size;      // in memory; the rest of it is zeros
    uint64_t file_offset, file_size;
    uint32_t protect;            // PAGE_...
} psp_segment;

typedef struct psp_image {
    uint64_t entry;
    uint32_t count;
    psp_segment segments[PSP_MAX_SEGMENTS];
} psp_image;

// header: the first size bytes of a file of file_size bytes.
NTSTATUS psp_check_elf(const void *header, size_t size, uint64_t file_size,
                       psp_image *image);

// ---- The others -----------------------------------------------------------

#define PSP_POOL_TAG 0x20207350u    // "Ps  "

// image.c: maps the program into a new process and notes its entry point.
NTSTATUS psp_load_image(EPROCESS *process, const char *name);

// thread.c
void psp_end_thread(ETHREAD *thread, NTSTATUS status);    // lock held

// process.c
uint32_t psp_allocate_id(void);
bool psp_drop_process(EPROCESS *process);

#endif
