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
       SMALL_MACHINE = 64 * MEBIBYTE, WORD_LENGTH = 256,
       LINE_LENGTH = WORD_LENGTH + 80 };

// ---- Drivers: one line each -----------------------------------------------

void initrd_set_archive(const void *base, size_t length);
DRIVER_INITIALIZE initrd_driver_entry, con_driver_entry, ide_driver_entry;

static const struct {
    const char *name;
    DRIVER_INITIALIZE *entry;
} drivers[] = {
    { "con", con_driver_entry },
    { "initrd", initrd_driver_entry },
    { "ide", ide_driver_entry },
};

#if DBG
// tests/kernel/ktest.c: runs what matches, returns how many failed.
uint32_t ktest_run(const char *pattern, uint64_t seed);
#endif

// ---- The command line -----------------------------------------------------

typedef struct kernel_options {
    bool power_off;              // then=poweroff
    uint64_t io_timeout;         // seconds
    uint64_t seed;
    uint32_t trace_mask;
    char test_pattern[64];       // ktest=; empty: none
    const char *program;         // the words behind "--"
} kernel_options;

static kernel_options options = { .io_timeout = DEFAULT_IO_TIMEOUT,
                                  .trace_mask = KI_TRACE_DEFAULT,
                                  .program = "sh" };

static void print(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

static void print(const char *format, ...)
{
    char line[LINE_LENGTH];
    va_list args;
    va_start(args, format);
    rtl_vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    for (const char *c = line; *c; c++)
        hal_put_char(*c);
}

static _Noreturn void refuse(const char *what)
{
    print("TINT cannot start: %s\n", what);
    hal_exit(HAL_EXIT_BUGCHECK);
}

// value: what stands behind "key=". False if it is not a value of that key.
static bool set_option(const char *key, const char *value)
{
    uint64_t number = 0;
    bool is_number = rtl_parse_number(value, &number);
    if (!rtl_strcmp(key, "then")) {
        bool valid = !rtl_strcmp(value, "poweroff");
        options.power_off |= valid;
        return valid;
    }
    if (!rtl_strcmp(key, "port")) {
        io_direct_road = !rtl_strcmp(value, "direct");
        return io_direct_road || !rtl_strcmp(value, "apc");
    }
    if (!rtl_strcmp(key, "trace")) {
        bool all = !rtl_strcmp(value, "all"), off = !rtl_strcmp(value, "off");
        options.trace_mask = all ? ~0u : off ? 0 : KI_TRACE_DEFAULT;
        return all || off || !rtl_strcmp(value, "on");
    }
    if (!rtl_strcmp(key, "iotimeout")) {
        bool valid = is_number && number > 0 && number <= MAXIMUM_IO_TIMEOUT;
        options.io_timeout = valid ? number : options.io_timeout;
        return valid;
    }
    if (!rtl_strcmp(key, "seed")) {
        options.seed = number;
        return is_number;
    }
    if (!rtl_strcmp(key, "cpus"))
        return is_number && number > 0 && number <= MAXIMUM_PROCESSORS;
#if DBG
    if (!rtl_strcmp(key, "ktest")) {
        rtl_strcpy(options.test_pattern, value, sizeof(options.test_pattern));
        return true;
    }
#endif
    return false;
}

static void parse_command_line(const char *line)
{
    char word[WORD_LENGTH];
    while (rtl_next_word(&line, word, sizeof(word))) {
        if (!rtl_strcmp(word, "--")) {
            while (*line == ' ')
                line++;
            if (*line)
                options.program = line;
            return;
        }
        char *value = word;
        while (*value && *value != '=')
            value++;
        bool has_value = *value == '=';
        *value = '\0';
        if (!has_value || !set_option(word, value + 1))
            print("TINT: ignored option '%s%s%s'\n", word,
                  has_value ? "=" : "", has_value ? value + 1 : "");
    }
}

// ---- The system thread ----------------------------------------------------

static void print_banner(void)
{
    print("TINT " TINT_VERSION " (%s build): %u processor%s, %llu MiB, "
          "%u disk%s\n", DBG ? "checked" : "free", KeNumberProcessors,
          KeNumberProcessors == 1 ? "" : "s",
          (unsigned long long)((mm_total_frames << PAGE_SHIFT) / MEBIBYTE),
          io_disk_count(), io_disk_count() == 1 ? "" : "s");
}

// Starts the first program and waits for its end. False if it never ran.
static bool run_first_program(NTSTATUS *exit_status)
{
    char word[WORD_LENGTH], image[WORD_LENGTH];
    const char *line = options.program;
    rtl_next_word(&line, word, sizeof(word));
    bool is_path = false;
    for (const char *c = word; *c; c++)
        is_path |= *c == '\\' || *c == '/';
    rtl_snprintf(image, sizeof(image), "\\??\\%s%s", is_path ? "" : "B:\\bin\\",
                 word);
    EPROCESS *process;
    ETHREAD *thread;
    NTSTATUS status = ps_create_process(
        &(ps_start){ .image = image, .command_line = options.program,
                     .first_program = true, .restarts = !options.power_off },
        &process, &thread);
    if (!NT_SUCCESS(status)) {
        print("TINT: cannot start '%s': status 0x%08X\n", word,
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
    io_init(options.io_timeout * UNITS_PER_SECOND);
    initrd_set_archive(mm_phys_to_virt(loader->initrd.base),
                       loader->initrd.length);
    for (size_t i = 0; i < ARRAY_SIZE(drivers); i++) {
        NTSTATUS status = io_load_driver(drivers[i].name, drivers[i].entry);
        if (!NT_SUCCESS(status) && status != STATUS_NO_SUCH_DEVICE)
            print("TINT: driver %s: status 0x%08X\n", drivers[i].name,
                  (uint32_t)status);
        if (status == STATUS_DATA_ERROR)
            refuse("the initrd is damaged, or no ustar archive with files");
    }
    print_banner();
#if DBG
    if (options.test_pattern[0])
        hal_exit(ktest_run(options.test_pattern, options.seed)
                     ? HAL_EXIT_FAILURE
                     : HAL_EXIT_SUCCESS);
#endif
    NTSTATUS status;
    while (run_first_program(&status)) {
        if (options.power_off)
            hal_exit(status == STATUS_SUCCESS ? HAL_EXIT_SUCCESS
                                              : HAL_EXIT_FAILURE);
        print("\nTINT: the first program ended with status 0x%08X; "
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
    ke_default_trace_mask = options.trace_mask;
    ki_trace_mask = options.trace_mask;
}

// Brings the kernel up on the boot processor, with what the boot loader passed
// on (boot.c). Interrupts are off; ends as the idle loop.
//
// IRQL:    any level (PASSIVE, before there are any)
_Noreturn void kernel_main(uint32_t magic, uint32_t info)
{
    static LOADER_PARAMETER_BLOCK loader;

    ke_init_boot_processor();    // first: from here on a fault is a bugcheck
    hal_init_serial();
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
