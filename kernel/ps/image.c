// image.c - brings a program's segments from its file into a new process.
//
// The process does not run yet: its pages are pinned by way of its page
// tables, and the file's driver reads straight into them, piece by piece. Only
// when a segment is complete does it get the rights that it asks for.

#include "kernel/ps/psp.h"

#include "kernel/ps/ps.h"

enum { CHUNK = 65536 };    // what is pinned and read at a time
#define POOL_TAG EX_TAG('P', 's', ' ', ' ')

// A short read means that the file is not what its size said.
static NTSTATUS read_all(FILE_OBJECT *file, MDL *mdl, uint64_t offset)
{
    uintptr_t got = 0;
    NTSTATUS status = io_request(
        file, &(IO_STACK_LOCATION){ .MajorFunction = IRP_MJ_READ,
            .Parameters.Read = { mdl->ByteCount, offset } }, mdl, NULL, &got);
    if (status == STATUS_END_OF_FILE ||
        (NT_SUCCESS(status) && got != mdl->ByteCount))
        return STATUS_INVALID_IMAGE_FORMAT;
    return status;
}

// Reads the first page of the file, and checks it.
static NTSTATUS read_headers(FILE_OBJECT *file, MDL *mdl, void *page,
                             psp_image *image)
{
    FILE_STANDARD_INFORMATION size = { 0 };
    NT_TRY(io_request(
        file, &(IO_STACK_LOCATION){
            .MajorFunction = IRP_MJ_QUERY_INFORMATION,
            .Parameters.QueryFile = { sizeof(size), FileStandardInformation }
        }, NULL, &size, NULL));
    uint32_t length = (uint32_t)MIN(size.EndOfFile, PAGE_SIZE);
    if (!length)
        return STATUS_INVALID_IMAGE_FORMAT;
    MmBuildMdlForNonPagedPool(mdl, page, length);
    NT_TRY(read_all(file, mdl, 0));
    return psp_check_elf(page, length, size.EndOfFile, image);
}

static NTSTATUS load_segment(mm_space *space, FILE_OBJECT *file, MDL *mdl,
                             const psp_segment *segment)
{
    uint64_t base = segment->p_vaddr, size = segment->p_memsz;
    NT_TRY(mm_allocate(space, &base, &size, PAGE_READWRITE));
    for (uint64_t done = 0; done < segment->p_filesz; done += CHUNK) {
        uint32_t length = (uint32_t)MIN(segment->p_filesz - done, CHUNK);
        NT_TRY(mm_lock_space(mdl, space, segment->p_vaddr + done, length));
        NTSTATUS status = read_all(file, mdl, segment->p_offset + done);
        MmUnlockPages(mdl);
        NT_TRY(status);
    }
    uint32_t rights = segment->p_flags & PSP_EXECUTABLE ? PAGE_EXECUTE_READ
                      : segment->p_flags & PSP_WRITABLE ? PAGE_READWRITE
                                                        : PAGE_READONLY;
    return mm_protect(space, &base, &size, rights, &rights);
}

// Loads the program called name (an NT name) into the space of a process that
// has no thread yet, and notes its entry point. What a failure leaves in the
// space goes with it.
//
// IRQL:    == PASSIVE_LEVEL
// Returns: STATUS_SUCCESS, STATUS_INVALID_IMAGE_FORMAT,
//          STATUS_INSUFFICIENT_RESOURCES, STATUS_NO_MEMORY,
//          or why the file cannot be opened or read
NTSTATUS psp_load_image(EPROCESS *process, const char *name)
{
    ASSERT_IRQL(==, PASSIVE_LEVEL);

    FILE_OBJECT *file;
    NT_TRY(io_create_file(
        name, FILE_READ_DATA | FILE_READ_ATTRIBUTES | SYNCHRONIZE, FILE_OPEN,
        FILE_SYNCHRONOUS_IO_NONALERT | FILE_NON_DIRECTORY_FILE, &file, NULL));

    // Room for a chunk that begins at the last byte of a page.
    _Alignas(MDL) uint8_t room[sizeof(MDL) + (CHUNK / PAGE_SIZE + 1) *
                                                 sizeof(PFN_NUMBER)] = { 0 };
    MDL *mdl = (MDL *)room;
    psp_image image;
    void *page = ExAllocatePoolWithTag(NonPagedPool, PAGE_SIZE, POOL_TAG);
    NTSTATUS status = page ? read_headers(file, mdl, page, &image)
                           : STATUS_INSUFFICIENT_RESOURCES;
    for (uint32_t i = 0; NT_SUCCESS(status) && i < image.count; i++)
        status = load_segment(&process->space, file, mdl, &image.segments[i]);
    if (NT_SUCCESS(status))
        process->Pcb.user_entry = image.entry;
    if (page)
        ExFreePoolWithTag(page, POOL_TAG);
    ObDereferenceObject(file);
    return status;
}
