// main.c - the table of contents: who is started, in which order, and who is
// wired to whom.
//
// The boot processor comes here from boot/ with interrupts off. When memory,
// clock and scheduler stand, it becomes the idle thread; the rest is done by a
// thread of the system process, which then starts the first program and waits
// for its end.

#include "kernel/assert.h"
#include "kernel/ex/ex.h"
#include "kernel/hal/hal.h"
#include "kernel/io/io.h"
#include "kernel/ke/ke.h"
#include "kernel/mm/mm.h"
#include "kernel/nt/nt.h"
#include "kernel/ob/ob.h"
#include "kernel/ps/ps.h"
#include "kernel/rtl/rtl.h"

enum { UNITS_PER_SECOND = 10000000, DEFAULT_IO_TIMEOUT = 30,
       MAXIMUM_IO_TIMEOUT = 3600, MEBIBYTE = 1 << 20,
       TRACE_RECORDS = 16384, TRACE_RECORDS_SMALL = 2048,
       SMALL_MACHINE = 64 * MEBIBYTE, WORD_LENGTH = 256 };

// ---- Drivers: one line each -----------------------------------------------

void initrd_set_archive(const void *base, size_t length);
DRIVER_INITIALIZE initrd_driver_entry, con_driver_entry, ide_driver_entry,
    nvme_driver_entry;

static const struct {
    const char *name;
    DRIVER_INITIALIZE *entry;
} drivers[] = {
    { "con", con_driver_entry },
    { "initrd", initrd_driver_entry },
    { "ide", ide_driver_entry },
    { "nvme", nvme_driver_entry },
};

#if DBG
// tests/kernel/ktest.c: runs what matches, returns how many failed.
uint32_t ktest_run(const char *pattern, uint64_t seed);
#endif

// ---- The command line -----------------------------------------------------

static uint64_t power_off, road, trace_mask = KI_TRACE_DEFAULT, seed, cpus;
static uint64_t io_timeout = DEFAULT_IO_TIMEOUT;    // seconds
static char test_pattern[64];                       // empty: none
static const char *program = "sh";                  // the words behind "--"

// What may stand before "--": key=word sets its value, key=number (no word)
// the number, if it is in its bounds.
static const struct {
    const char *key, *word;
    uint64_t *to, value, most;    // value: the least one for a number
} options[] = {
    { "then", "poweroff", &power_off, true, 0 },
    { "port", "apc", &road, false, 0 },
    { "port", "direct", &road, true, 0 },
    { "trace", "off", &trace_mask, 0, 0 },
    { "trace", "on", &trace_mask, KI_TRACE_DEFAULT, 0 },
    { "trace", "all", &trace_mask, UINT32_MAX, 0 },
    { "iotimeout", NULL, &io_timeout, 1, MAXIMUM_IO_TIMEOUT },
    { "seed", NULL, &seed, 0, UINT64_MAX },
    { "cpus", NULL, &cpus, 1, MAXIMUM_PROCESSORS },
};

static _Noreturn void refuse(const char *what)
{
    hal_print("TINT cannot start: %s\n", what);
    hal_exit(HAL_EXIT_BUGCHECK);
}

// value: what stands behind "key=". False if it is not a value of that key.
static bool set_option(const char *key, const char *value)
{
    if (DBG && !rtl_strcmp(key, "ktest")) {
        rtl_strcpy(test_pattern, value, sizeof(test_pattern));
        return true;
    }
    for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
        if (rtl_strcmp(key, options[i].key))
            continue;
        uint64_t number = options[i].value;
        bool valid = options[i].word
                         ? !rtl_strcmp(value, options[i].word)
                         : rtl_parse_number(value, &number) &&
                               number >= options[i].value &&
                               number <= options[i].most;
        if (!valid)
            continue;
        *options[i].to = number;
        return true;
    }
    return false;
}

static void parse_command_line(const char *line)
{
    char word[WORD_LENGTH];
    while (rtl_next_word(&line, word, sizeof(word)) && rtl_strcmp(word, "--")) {
        char *value = word;
        while (*value && *value != '=')
            value++;
        bool has_value = *value == '=';
        *value = '\0';
        if (!has_value || !set_option(word, value + 1))
            hal_print("TINT: ignored option '%s%s%s'\n", word,
                  has_value ? "=" : "", has_value ? value + 1 : "");
    }
    while (*line == ' ')
        line++;
    if (*line)
        program = line;
}

// ---- The system thread ----------------------------------------------------

static void print_banner(void)
{
    hal_print("TINT " TINT_VERSION " (%s build): %u processor%s, %llu MiB, "
          "%u disk%s\n", DBG ? "checked" : "free", KeNumberProcessors,
          KeNumberProcessors == 1 ? "" : "s",
          (unsigned long long)((mm_total_frames << PAGE_SHIFT) / MEBIBYTE),
          io_disk_count(), io_disk_count() == 1 ? "" : "s");
}

// Starts the first program and waits for its end. False if it never ran.
static bool run_first_program(NTSTATUS *exit_status)
{
    char word[WORD_LENGTH], image[WORD_LENGTH];
    const char *line = program;
    rtl_next_word(&line, word, sizeof(word));
    bool is_path = false;
    for (const char *c = word; *c; c++)
        is_path |= *c == '\\' || *c == '/';
    rtl_snprintf(image, sizeof(image), "\\??\\%s%s", is_path ? "" : "B:\\bin\\",
                 word);
    EPROCESS *process;
    ETHREAD *thread;
    NTSTATUS status = ps_create_process(
        &(ps_start){ .image = image, .command_line = program,
                     .first_program = true, .restarts = !power_off },
        &process, &thread);
    if (!NT_SUCCESS(status)) {
        hal_print("TINT: cannot start '%s': status 0x%08X\n", word,
              (uint32_t)status);
        return false;
    }
    ObDereferenceObject(thread);
    KeWaitForSingleObject(process, Executive, KernelMode, false, NULL);
    *exit_status = process->ExitStatus;
    ObDereferenceObject(process);
    return true;
}

static void system_thread(void *context)
{
    const LOADER_PARAMETER_BLOCK *loader = context;
    io_init(io_timeout * UNITS_PER_SECOND);
    io_direct_road = road;
    initrd_set_archive(mm_phys_to_virt(loader->initrd.start),
                       loader->initrd.end - loader->initrd.start);
    for (size_t i = 0; i < ARRAY_SIZE(drivers); i++) {
        NTSTATUS status = io_load_driver(drivers[i].name, drivers[i].entry);
        if (!NT_SUCCESS(status) && status != STATUS_NO_SUCH_DEVICE)
            hal_print("TINT: driver %s: status 0x%08X\n", drivers[i].name,
                  (uint32_t)status);
        if (status == STATUS_DATA_ERROR)
            refuse("the initrd is damaged, or no ustar archive with files");
    }
    print_banner();
#if DBG
    if (test_pattern[0])
        hal_exit(ktest_run(test_pattern, seed)
                     ? HAL_EXIT_FAILURE
                     : HAL_EXIT_SUCCESS);
#endif
    NTSTATUS status;
    while (run_first_program(&status)) {
        if (power_off)
            hal_exit(status == STATUS_SUCCESS ? HAL_EXIT_SUCCESS
                                              : HAL_EXIT_FAILURE);
        hal_print("\nTINT: the first program ended with status 0x%08X; "
              "starting it again\n", (uint32_t)status);
    }
    hal_exit(HAL_EXIT_FAILURE);
}

// ---- From boot/ to idle ---------------------------------------------------

static void init_trace(void)
{
    uint64_t count = mm_total_frames << PAGE_SHIFT < SMALL_MACHINE
                         ? TRACE_RECORDS_SMALL
                         : TRACE_RECORDS;
    TRACE_RECORD *records = mm_allocate_system_pages(
        (uint32_t)BYTES_TO_PAGES(count * sizeof(*records)));
    if (!records)
        refuse("no memory for the trace ring");
    ke_init_trace(0, records, count);
    ki_trace_mask = ke_default_trace_mask = (uint32_t)trace_mask;
}

// Brings the kernel up on the boot processor, with what the boot loader passed
// on (boot.c). Interrupts are off; ends as the idle loop.
//
// IRQL:    any level (PASSIVE, before there are any)
_Noreturn void kernel_main(uint32_t magic, uint32_t info)
{
    static LOADER_PARAMETER_BLOCK loader;

    ke_init_boot_processor();    // first: from here on a fault is a bugcheck
    const char *missing = boot_read_loader(magic, info, &loader);
    if (missing)
        refuse(missing);
    ke_init_features();
    parse_command_line(loader.command_line);
    if (!mm_init(&loader))
        refuse("less than 32 MiB of memory");
    ke_set_system_cr3(mm_kernel_cr3);
    ke_is_readable = mm_is_kernel_address_valid;
    ex_init_pool();
    init_trace();
    if (!NT_SUCCESS(hal_init_apics(MmMapIoSpace)))
        refuse("no ACPI table of processors and interrupts (MADT)");
    KeGetCurrentPrcb()->apic_id = hal_lapic_id();
    hal_calibrate_clock();
    ke_init_time();

    ps_init();
    nt_version = TINT_VERSION;
    ke_set_services(nt_services, NT_SERVICE_COUNT);
    ke_hook = (ke_hooks){ .user_fault = ps_user_fault,
                          .thread_dead = ps_thread_dead, .reap = ps_reap };
    if (!NT_SUCCESS(ps_create_system_thread(system_thread, &loader)))
        refuse("no memory for the first thread");
    ke_idle();
}
