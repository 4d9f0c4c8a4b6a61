// psp.h - what only kernel/ps knows: images, how a thread or a process ends.

#pragma once

#include "kernel/nt.h"

// ---- elf.c: needs nothing of the kernel -----------------------------------

// A program header of an ELF64 file, and two of its p_flags.
enum { PSP_MAX_SEGMENTS = 16, PSP_EXECUTABLE = 1, PSP_WRITABLE = 2 };

typedef struct psp_segment {
    uint32_t p_type, p_flags;
    uint64_t p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align;
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

// image.c: maps the program into a new process and notes its entry point.
NTSTATUS psp_load_image(EPROCESS *process, const char *name);

// Guards the list of all threads, who holds a process, and how a process or a
// thread ends. It comes before the IRP lists' locks and the dispatcher's; the
// cancel lock is never taken inside (IRP-07).
extern KSPIN_LOCK psp_lock;
extern LIST_ENTRY psp_threads;   // that have not ended, with a reference each
#define PSP_FOR_EACH_THREAD(thread) \
    RTL_FOR_EACH_RECORD(ETHREAD, thread, &psp_threads, ThreadListEntry)

void psp_end_thread(ETHREAD *thread, NTSTATUS status);    // lock held
uint32_t psp_allocate_id(void);
// Takes a hold back; thread: the current one, which ends with it, or NULL.
bool psp_let_go(EPROCESS *process, ETHREAD *thread);
