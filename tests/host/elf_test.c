// elf_test.c - which files are programs: a good one, and every way to spoil it.
//
// The buffer is always exactly as large as said, so that the sanitizer sees a
// read behind it.
//
// link: kernel/ps/elf.c

#include <elf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernel/ps/psp.h"

enum {
    PARTS = 3,
    FILE_SIZE = 0x4000,
    FUZZ_ROUNDS = 200000,
    SEED = 20260101,
};

#define TEXT   0x100001000ull
#define RODATA 0x100000000ull
#define DATA   0x100003000ull

struct program {
    Elf64_Ehdr header;
    Elf64_Phdr parts[PARTS];
};

// A program as the linker makes it: constants, code, variables with zeros.
static struct program good_program(void)
{
    return (struct program){
        .header = {
            .e_ident = { 0x7F, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB,
                         EV_CURRENT },
            .e_type = ET_EXEC,
            .e_machine = EM_X86_64,
            .e_version = EV_CURRENT,
            .e_entry = TEXT + 0x10,
            .e_phoff = sizeof(Elf64_Ehdr),
            .e_ehsize = sizeof(Elf64_Ehdr),
            .e_phentsize = sizeof(Elf64_Phdr),
            .e_phnum = PARTS,
        },
        .parts = {
            { .p_type = PT_LOAD, .p_flags = PF_R, .p_offset = 0,
              .p_vaddr = RODATA, .p_filesz = 0x800, .p_memsz = 0x800,
              .p_align = 0x1000 },
            { .p_type = PT_LOAD, .p_flags = PF_R | PF_X, .p_offset = 0x1000,
              .p_vaddr = TEXT, .p_filesz = 0x1200, .p_memsz = 0x1200,
              .p_align = 0x1000 },
            { .p_type = PT_LOAD, .p_flags = PF_R | PF_W, .p_offset = 0x3000,
              .p_vaddr = DATA, .p_filesz = 0x100, .p_memsz = 0x5000,
              .p_align = 0x1000 },
        },
    };
}

// Checks size bytes of program, in memory of exactly that size.
static NTSTATUS check_size(const struct program *program, size_t size,
                           uint64_t file_size, psp_image *image)
{
    void *exact = malloc(size ? size : 1);
    assert_non_null(exact);
    memcpy(exact, program, size);
    NTSTATUS status = psp_check_elf(exact, size, file_size, image);
    free(exact);
    return status;
}

static NTSTATUS check(const struct program *program)
{
    psp_image image;
    return check_size(program, sizeof(*program), FILE_SIZE, &image);
}

static void a_good_program_is_taken_as_it_is(void **state)
{
    (void)state;
    struct program program = good_program();
    psp_image image;
    assert_int_equal(check_size(&program, sizeof(program), FILE_SIZE, &image),
                     STATUS_SUCCESS);
    assert_int_equal(image.entry, TEXT + 0x10);
    assert_int_equal(image.count, PARTS);
    static const uint32_t protect[] = { PAGE_READONLY, PAGE_EXECUTE_READ,
                                        PAGE_READWRITE };
    for (int i = 0; i < PARTS; i++) {
        assert_int_equal(image.segments[i].address, program.parts[i].p_vaddr);
        assert_int_equal(image.segments[i].size, program.parts[i].p_memsz);
        assert_int_equal(image.segments[i].file_offset,
                         program.parts[i].p_offset);
        assert_int_equal(image.segments[i].file_size,
                         program.parts[i].p_filesz);
        assert_int_equal(image.segments[i].protect, protect[i]);
    }
}

static void too_short_is_refused_at_every_length(void **state)
{
    (void)state;
    struct program program = good_program();
    psp_image image;
    for (size_t size = 0; size < sizeof(program); size++)
        assert_int_equal(check_size(&program, size, FILE_SIZE, &image),
                         STATUS_INVALID_IMAGE_FORMAT);
    assert_int_equal(check_size(&program, sizeof(program), 1, &image),
                     STATUS_INVALID_IMAGE_FORMAT);
}

// Sets one field of a good program to value; it must then be refused.
#define REFUSED(field, value)                                 \
    do {                                                      \
        struct program program = good_program();              \
        program.field = (value);                              \
        if (check(&program) != STATUS_INVALID_IMAGE_FORMAT)   \
            fail_msg(#field " = " #value " was not refused"); \
    } while (0)

#define ACCEPTED(field, value)                            \
    do {                                                  \
        struct program program = good_program();          \
        program.field = (value);                          \
        if (check(&program) != STATUS_SUCCESS)            \
            fail_msg(#field " = " #value " was refused"); \
    } while (0)

static void every_field_of_the_header_counts(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++)
        REFUSED(header.e_ident[i], 'x');
    REFUSED(header.e_ident[EI_CLASS], ELFCLASS32);
    REFUSED(header.e_ident[EI_DATA], ELFDATA2MSB);
    REFUSED(header.e_ident[EI_VERSION], 0);
    REFUSED(header.e_version, 2);
    REFUSED(header.e_type, ET_DYN);
    REFUSED(header.e_type, ET_REL);
    REFUSED(header.e_type, ET_CORE);
    REFUSED(header.e_machine, EM_386);
    REFUSED(header.e_machine, EM_AARCH64);
    REFUSED(header.e_phentsize, sizeof(Elf64_Phdr) - 1);
    REFUSED(header.e_phnum, 0);
    REFUSED(header.e_phnum, PARTS + 1);    // behind the buffer
    REFUSED(header.e_phnum, PSP_MAX_SEGMENTS + 1);
    REFUSED(header.e_phnum, UINT16_MAX);
    REFUSED(header.e_phoff, sizeof(Elf64_Ehdr) + 1);
    REFUSED(header.e_phoff, UINT64_MAX);
    REFUSED(header.e_phoff, UINT64_MAX - sizeof(Elf64_Phdr));
}

static void the_entry_lies_in_code(void **state)
{
    (void)state;
    ACCEPTED(header.e_entry, TEXT);
    ACCEPTED(header.e_entry, TEXT + 0x11FF);
    REFUSED(header.e_entry, TEXT + 0x1200);
    REFUSED(header.e_entry, TEXT - 1);
    REFUSED(header.e_entry, RODATA);
    REFUSED(header.e_entry, DATA);
    REFUSED(header.e_entry, 0);
    REFUSED(header.e_entry, UINT64_MAX);
}

static void segments_lie_where_ring_3_may(void **state)
{
    (void)state;
    REFUSED(parts[0].p_vaddr, 0);
    REFUSED(parts[0].p_vaddr, 0x400000);
    REFUSED(parts[0].p_vaddr, MM_LOWEST_USER_ADDRESS - 0x1000);
    ACCEPTED(parts[0].p_vaddr, MM_LOWEST_USER_ADDRESS);
    REFUSED(parts[0].p_vaddr, MM_HIGHEST_USER_ADDRESS + 1);
    REFUSED(parts[0].p_vaddr, 0xFFFFFFFF80000000ull);
    REFUSED(parts[2].p_memsz, UINT64_MAX);
    REFUSED(parts[2].p_memsz, UINT64_MAX - DATA);
    REFUSED(parts[2].p_memsz, MM_HIGHEST_USER_ADDRESS + 2 - DATA);
    ACCEPTED(parts[2].p_memsz, MM_HIGHEST_USER_ADDRESS + 1 - DATA);
}

static void segments_lie_in_the_file(void **state)
{
    (void)state;
    REFUSED(parts[2].p_filesz, 0x5001);    // more than in memory
    REFUSED(parts[2].p_filesz, FILE_SIZE - 0x3000 + 1);
    ACCEPTED(parts[2].p_filesz, FILE_SIZE - 0x3000);
    ACCEPTED(parts[2].p_filesz, 0);
    REFUSED(parts[2].p_offset, FILE_SIZE);
    REFUSED(parts[2].p_offset, UINT64_MAX - 0xFFF);
    REFUSED(parts[2].p_offset, 0x3001);    // not as in memory
    REFUSED(parts[2].p_align, 3);
    ACCEPTED(parts[2].p_align, 0);
    ACCEPTED(parts[2].p_align, 1);
}

static void no_page_is_writable_and_executable(void **state)
{
    (void)state;
    REFUSED(parts[1].p_flags, PF_R | PF_W | PF_X);
    REFUSED(parts[2].p_flags, PF_W | PF_X);
    // Two segments in one page would need the rights of both.
    REFUSED(parts[1].p_vaddr, RODATA);
    REFUSED(parts[2].p_vaddr, TEXT + 0x1000);
    REFUSED(parts[0].p_memsz, 0x1001);
}

static void it_needs_no_linker(void **state)
{
    (void)state;
    REFUSED(parts[0].p_type, PT_INTERP);
    REFUSED(parts[2].p_type, PT_DYNAMIC);
    ACCEPTED(parts[0].p_type, PT_NOTE);
    ACCEPTED(parts[0].p_type, PT_NULL);
    REFUSED(parts[1].p_type, PT_NOTE);    // no code is left
}

// Whatever is accepted must keep the promises that the loader relies on.
static void assert_safe(const psp_image *image)
{
    bool entry = false;
    assert_in_range(image->count, 1, PSP_MAX_SEGMENTS);
    for (uint32_t i = 0; i < image->count; i++) {
        const psp_segment *part = &image->segments[i];
        uint64_t end = part->address + part->size;
        assert_true(part->address >= MM_LOWEST_USER_ADDRESS);
        assert_true(end >= part->address);
        assert_true(end <= MM_HIGHEST_USER_ADDRESS + 1);
        assert_true(part->file_size <= part->size);
        assert_true(part->file_offset + part->file_size >= part->file_offset);
        assert_true(part->file_offset + part->file_size <= FILE_SIZE);
        entry |= part->protect == PAGE_EXECUTE_READ &&
                 image->entry - part->address < part->size;
    }
    assert_true(entry);
}

static void spoiled_bytes_do_no_harm(void **state)
{
    (void)state;
    static const uint8_t edges[] = { 0x00, 0x01, 0x7F, 0x80, 0xFF };
    srand(SEED);
    int accepted = 0;
    for (int round = 0; round < FUZZ_ROUNDS; round++) {
        struct program program = good_program();
        for (int n = rand() % 4; n >= 0; n--)
            ((uint8_t *)&program)[(size_t)rand() % sizeof(program)] =
                rand() % 2 ? (uint8_t)rand()
                           : edges[(size_t)rand() % sizeof(edges)];
        psp_image image;
        if (NT_SUCCESS(
                check_size(&program, sizeof(program), FILE_SIZE, &image))) {
            assert_safe(&image);
            accepted++;
        }
    }
    assert_in_range(accepted, 1, FUZZ_ROUNDS - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_program_is_taken_as_it_is),
        cmocka_unit_test(too_short_is_refused_at_every_length),
        cmocka_unit_test(every_field_of_the_header_counts),
        cmocka_unit_test(the_entry_lies_in_code),
        cmocka_unit_test(segments_lie_where_ring_3_may),
        cmocka_unit_test(segments_lie_in_the_file),
        cmocka_unit_test(no_page_is_writable_and_executable),
        cmocka_unit_test(it_needs_no_linker),
        cmocka_unit_test(spoiled_bytes_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
