// psp.h - what only kernel/ps knows: images, and the halves of a creation.

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

// thread.c. A thread is made, then started; its process is acquired from
// before the one until after the other.
NTSTATUS psp_create_thread(EPROCESS *process, uint64_t routine,
                           uint64_t argument, uint64_t stack_size,
                           ETHREAD **thread);
NTSTATUS psp_start_thread(ETHREAD *thread, uint32_t flags);    // or discards it
void psp_discard_thread(ETHREAD *thread);    // instead: it never ran
void psp_end_thread(ETHREAD *thread, NTSTATUS status);    // lock held

// process.c
uint32_t psp_allocate_id(void);
bool psp_drop_process(EPROCESS *process);

#endif
