// elf_test.c - what the loader takes for a program, and what it refuses.
//
// Each test begins with an image that is good and breaks one thing. The image
// is handed over in a block of its exact size, so that the sanitizer sees any
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

#define BASE      0x140000000ull
#define FILE_SIZE 0x5000ull
#define USER_END  (MM_HIGHEST_USER_ADDRESS + 1)

typedef struct image_file {
    Elf64_Ehdr elf;
    Elf64_Phdr part[17];
} image_file;

// Text at BASE, constants and data (with .bss) behind it.
static image_file good(void)
{
    image_file file;
    memset(&file, 0, sizeof(file));
    memcpy(file.elf.e_ident, ELFMAG, SELFMAG);
    file.elf.e_ident[EI_CLASS] = ELFCLASS64;
    file.elf.e_ident[EI_DATA] = ELFDATA2LSB;
    file.elf.e_ident[EI_VERSION] = EV_CURRENT;
    file.elf.e_type = ET_EXEC;
    file.elf.e_machine = EM_X86_64;
    file.elf.e_version = EV_CURRENT;
    file.elf.e_entry = BASE + 0x10;
    file.elf.e_phoff = sizeof(Elf64_Ehdr);
    file.elf.e_ehsize = sizeof(Elf64_Ehdr);
    file.elf.e_phentsize = sizeof(Elf64_Phdr);
    file.elf.e_phnum = 3;
    file.part[0] = (Elf64_Phdr){ PT_LOAD, PF_R | PF_X, 0x1000, BASE, BASE,
                                 0x1800, 0x1800, 0x1000 };
    file.part[1] = (Elf64_Phdr){ PT_LOAD, PF_R, 0x3000, BASE + 0x2000, 0,
                                 0x800, 0x800, 0x1000 };
    file.part[2] = (Elf64_Phdr){ PT_LOAD, PF_R | PF_W, 0x4000, BASE + 0x3000,
                                 0, 0x1000, 0x9000, 0x1000 };
    return file;
}

static NTSTATUS check_size(const image_file *file, size_t size,
                           uint64_t file_size, psp_image *image)
{
    void *copy = malloc(size ? size : 1);
    memcpy(copy, file, size);
    NTSTATUS status = psp_check_elf(copy, size, file_size, image);
    free(copy);
    return status;
}

static NTSTATUS check(const image_file *file)
{
    psp_image image;
    return check_size(file, sizeof(*file), FILE_SIZE, &image);
}

#define ASSERT_GOOD(file) assert_int_equal(check(&(file)), STATUS_SUCCESS)
#define ASSERT_BAD(file) \
    assert_int_equal(check(&(file)), STATUS_INVALID_IMAGE_FORMAT)

// The good image with one statement applied to it.
#define WITH(statement) \
    image_file file = good(); \
    statement
#define GOOD_IF(statement) do { WITH(statement); ASSERT_GOOD(file); } while (0)
#define BAD_IF(statement) do { WITH(statement); ASSERT_BAD(file); } while (0)

static void takes_a_good_image(void **state)
{
    (void)state;
    image_file file = good();
    psp_image image;
    assert_int_equal(check_size(&file, sizeof(file), FILE_SIZE, &image),
                     STATUS_SUCCESS);
    assert_int_equal(image.entry, BASE + 0x10);
    assert_int_equal(image.count, 3);
    assert_int_equal(image.segments[0].p_flags, PF_R | PF_X);
    assert_int_equal(image.segments[1].p_flags, PF_R);
    assert_int_equal(image.segments[2].p_flags, PF_R | PF_W);
    assert_int_equal(image.segments[2].p_vaddr, BASE + 0x3000);
    assert_int_equal(image.segments[2].p_memsz, 0x9000);
    assert_int_equal(image.segments[2].p_offset, 0x4000);
    assert_int_equal(image.segments[2].p_filesz, 0x1000);
}

static void takes_what_the_abi_allows(void **state)
{
    (void)state;
    GOOD_IF(file.part[1].p_type = PT_NOTE);
    GOOD_IF(file.part[1].p_type = PT_GNU_STACK);
    GOOD_IF(file.part[0].p_flags = PF_X);
    GOOD_IF(file.part[0].p_align = 0);
    GOOD_IF(file.part[0].p_align = 1);
    GOOD_IF(file.part[2].p_filesz = 0);                  // only .bss
    GOOD_IF(file.elf.e_ident[EI_OSABI] = ELFOSABI_GNU);
    GOOD_IF(file.elf.e_shoff = ~0ull);                   // sections: not read
    GOOD_IF(file.elf.e_shnum = 0xFFFF);
    GOOD_IF(file.elf.e_entry = BASE + 0x17FF);
}

// An empty segment is left out, wherever it claims to lie.
static void leaves_out_empty_segments(void **state)
{
    (void)state;
    image_file file = good();
    file.part[1] = (Elf64_Phdr){ .p_type = PT_LOAD, .p_vaddr = 0x10 };
    psp_image image;
    assert_int_equal(check_size(&file, sizeof(file), FILE_SIZE, &image),
                     STATUS_SUCCESS);
    assert_int_equal(image.count, 2);
}

static void refuses_other_files(void **state)
{
    (void)state;
    for (int i = 0; i < SELFMAG; i++)
        BAD_IF(file.elf.e_ident[i] ^= 1);
    BAD_IF(file.elf.e_ident[EI_CLASS] = ELFCLASS32);
    BAD_IF(file.elf.e_ident[EI_DATA] = ELFDATA2MSB);
    BAD_IF(file.elf.e_ident[EI_VERSION] = 0);
    BAD_IF(file.elf.e_version = 2);
    BAD_IF(file.elf.e_type = ET_DYN);
    BAD_IF(file.elf.e_type = ET_REL);
    BAD_IF(file.elf.e_machine = EM_386);
    BAD_IF(file.elf.e_machine = EM_AARCH64);
    BAD_IF(file.elf.e_ehsize = 52);
    BAD_IF(file.elf.e_phentsize = 32);
    BAD_IF(file.elf.e_phentsize = 0);
}

static void refuses_what_wants_a_linker(void **state)
{
    (void)state;
    BAD_IF(file.part[1].p_type = PT_INTERP);
    BAD_IF(file.part[1].p_type = PT_DYNAMIC);
}

static void refuses_short_buffers(void **state)
{
    (void)state;
    image_file file = good();
    psp_image image;
    size_t whole = sizeof(Elf64_Ehdr) + 3 * sizeof(Elf64_Phdr);
    for (size_t size = 0; size < whole; size++)
        assert_int_equal(check_size(&file, size, FILE_SIZE, &image),
                         STATUS_INVALID_IMAGE_FORMAT);
    assert_int_equal(check_size(&file, whole, FILE_SIZE, &image),
                     STATUS_SUCCESS);
    // A file cannot be shorter than what was read of it.
    assert_int_equal(check_size(&file, sizeof(file), sizeof(file) - 1, &image),
                     STATUS_INVALID_IMAGE_FORMAT);
}

static void refuses_program_headers_elsewhere(void **state)
{
    (void)state;
    BAD_IF(file.elf.e_phnum = 0);
    BAD_IF(file.elf.e_phnum = 17);
    BAD_IF(file.elf.e_phnum = 0xFFFF);
    BAD_IF(file.elf.e_phoff = sizeof(image_file));
    BAD_IF(file.elf.e_phoff = sizeof(image_file) - 3 * sizeof(Elf64_Phdr) + 1);
    BAD_IF(file.elf.e_phoff = ~0ull);
    BAD_IF(file.elf.e_phoff = -sizeof(Elf64_Phdr));
    BAD_IF(file.elf.e_phoff = 1ull << 63);
}

// Sixteen headers are the limit, and their order does not matter.
static void takes_sixteen_segments(void **state)
{
    (void)state;
    image_file file = good();
    file.elf.e_phnum = 16;
    for (uint32_t i = 1; i < 16; i++)
        file.part[i] = (Elf64_Phdr){ PT_LOAD, PF_R, 0x1000,
                                     BASE + (32 - i) * 0x1000ull, 0, 0x1000,
                                     0x1000, 0x1000 };
    ASSERT_GOOD(file);
    file.part[15].p_vaddr = file.part[3].p_vaddr;
    ASSERT_BAD(file);
}

static void refuses_addresses_outside_ring_3(void **state)
{
    (void)state;
    BAD_IF(file.part[1].p_vaddr = 0);
    BAD_IF(file.part[1].p_vaddr = 0x400000);
    BAD_IF(file.part[1].p_vaddr = MM_LOWEST_USER_ADDRESS - 0x1000);
    GOOD_IF(file.part[1].p_vaddr = MM_LOWEST_USER_ADDRESS);
    GOOD_IF(file.part[1].p_vaddr = USER_END - 0x1000);
    BAD_IF(file.part[1].p_vaddr = USER_END);
    BAD_IF(file.part[2].p_vaddr = USER_END - 0x8000);
    GOOD_IF(file.part[2].p_vaddr = USER_END - 0x9000);
    BAD_IF(file.part[1].p_vaddr = 0xFFFFFFFF80000000ull);
    BAD_IF(file.part[1].p_vaddr = 0xFFFF800000000000ull);
    BAD_IF(file.part[2].p_memsz = ~0ull);
    BAD_IF(file.part[2].p_memsz = -(BASE + 0x3000));
    BAD_IF(file.part[2].p_memsz = USER_END);
    GOOD_IF(file.part[2].p_memsz = USER_END - BASE - 0x3000);
}

static void refuses_bytes_outside_the_file(void **state)
{
    (void)state;
    BAD_IF(file.part[2].p_filesz = 0x1001);
    BAD_IF(file.part[2].p_offset = 0x5000);
    BAD_IF(file.part[2].p_offset = ~0xFFFull);
    BAD_IF(file.part[2].p_offset = 1ull << 63);
    BAD_IF(file.part[2].p_filesz = ~0ull);
    BAD_IF(file.part[1].p_filesz = 0x801);               // > p_memsz
    BAD_IF((file.part[1].p_memsz = 0));                  // with bytes in file
    BAD_IF((file.part[2].p_filesz = ~0ull, file.part[2].p_memsz = ~0ull));
}

static void refuses_shared_pages(void **state)
{
    (void)state;
    BAD_IF(file.part[1].p_vaddr = BASE);
    BAD_IF(file.part[1].p_vaddr = BASE + 0x1000);
    BAD_IF(file.part[0].p_memsz = 0x2001);
    BAD_IF(file.part[2].p_vaddr = BASE - 0x8000);        // its .bss reaches in
    GOOD_IF(file.part[2].p_vaddr = BASE - 0x9000);
    // Apart, but on one page.
    BAD_IF((file.part[1].p_offset = 0x1900,
            file.part[1].p_vaddr = BASE + 0x1900, file.part[1].p_filesz = 16,
            file.part[1].p_memsz = 16));
    // One byte at the end of a page touches that page alone.
    GOOD_IF((file.part[1].p_offset = 0x2FFF,
             file.part[1].p_vaddr = BASE + 0x2FFF, file.part[1].p_filesz = 1,
             file.part[1].p_memsz = 1));
}

static void refuses_writable_code(void **state)
{
    (void)state;
    BAD_IF(file.part[0].p_flags = PF_R | PF_W | PF_X);
    BAD_IF(file.part[2].p_flags = PF_W | PF_X);
}

static void refuses_bad_alignment(void **state)
{
    (void)state;
    BAD_IF(file.part[0].p_align = 3);
    BAD_IF(file.part[0].p_align = 0x1001);
    BAD_IF(file.part[0].p_align = ~0ull);
    BAD_IF(file.part[0].p_offset = 0x1008);
    BAD_IF(file.part[0].p_align = 0x10000);    // 0x1000 is no remainder of BASE
}

static void refuses_entries_that_are_no_code(void **state)
{
    (void)state;
    BAD_IF(file.elf.e_entry = 0);
    BAD_IF(file.elf.e_entry = BASE - 1);
    BAD_IF(file.elf.e_entry = BASE + 0x1800);
    BAD_IF(file.elf.e_entry = BASE + 0x2000);            // constants
    BAD_IF(file.elf.e_entry = BASE + 0x3000);            // data
    BAD_IF(file.elf.e_entry = ~0ull);
    BAD_IF(file.part[0].p_flags = PF_R);                 // no code at all
    BAD_IF(file.part[0].p_type = PT_NOTE);
    BAD_IF(file.elf.e_phnum = 0);
}

// Whatever the bytes: a status, and an image that keeps what it promises.
static void survives_random_damage(void **state)
{
    (void)state;
    uint32_t seed = 1;
    for (int round = 0; round < 200000; round++) {
        image_file file = good();
        uint8_t *bytes = (uint8_t *)&file;
        for (int i = 0; i <= round % 4; i++) {
            seed = seed * 1664525u + 1013904223u;
            size_t used = sizeof(Elf64_Ehdr) + 3 * sizeof(Elf64_Phdr);
            bytes[(seed >> 8) % used] ^= (uint8_t)(1u << (seed & 7));
        }
        psp_image image;
        if (psp_check_elf(&file, sizeof(file), FILE_SIZE, &image) !=
            STATUS_SUCCESS)
            continue;
        assert_in_range(image.count, 1, PSP_MAX_SEGMENTS);
        for (uint32_t i = 0; i < image.count; i++) {
            const psp_segment *s = &image.segments[i];
            assert_true(s->p_vaddr >= MM_LOWEST_USER_ADDRESS);
            assert_true(s->p_memsz <= USER_END - s->p_vaddr);
            assert_true(s->p_filesz <= s->p_memsz);
            assert_true(s->p_offset <= FILE_SIZE);
            assert_true(s->p_filesz <= FILE_SIZE - s->p_offset);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_a_good_image),
        cmocka_unit_test(takes_what_the_abi_allows),
        cmocka_unit_test(leaves_out_empty_segments),
        cmocka_unit_test(refuses_other_files),
        cmocka_unit_test(refuses_what_wants_a_linker),
        cmocka_unit_test(refuses_short_buffers),
        cmocka_unit_test(refuses_program_headers_elsewhere),
        cmocka_unit_test(takes_sixteen_segments),
        cmocka_unit_test(refuses_addresses_outside_ring_3),
        cmocka_unit_test(refuses_bytes_outside_the_file),
        cmocka_unit_test(refuses_shared_pages),
        cmocka_unit_test(refuses_writable_code),
        cmocka_unit_test(refuses_bad_alignment),
        cmocka_unit_test(refuses_entries_that_are_no_code),
        cmocka_unit_test(survives_random_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
