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
       TRACE_RECORDS_EXPORTED = 131072,
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

// What may stand before "--": a whole word, which sets its value, or with most
// the beginning of one, on which a number from value to most must follow.
static const struct {
    const char *text;
    uint64_t *to, value, most;
} options[] = {
    { "then=poweroff", &power_off, true, 0 },
    { "port=apc", &road, false, 0 },
    { "port=direct", &road, true, 0 },
    { "trace=off", &trace_mask, 0, 0 },
    { "trace=on", &trace_mask, KI_TRACE_DEFAULT | KI_TRACE_EXPORT, 0 },
    { "trace=all", &trace_mask, UINT32_MAX, 0 },
    { "iotimeout=", &io_timeout, 1, MAXIMUM_IO_TIMEOUT },
    { "seed=", &seed, 0, UINT64_MAX },
    { "cpus=", &cpus, 1, MAXIMUM_PROCESSORS },
};

static _Noreturn void refuse(const char *what)
{
    hal_print("TINT cannot start: %s\n", what);
    hal_exit(HAL_EXIT_BUGCHECK);
}

static bool set_option(const char *word)
{
    for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
        uint64_t number = options[i].value, least = number;
        bool whole = !options[i].most;
        size_t length = rtl_strlen(options[i].text);
        if (memcmp(word, options[i].text, length + whole))
            continue;
        if (!whole && (!rtl_parse_number(word + length, &number) ||
                       number < least || number > options[i].most))
            return false;
        *options[i].to = number;
        return true;
    }
    return false;
}

static void parse_command_line(const char *line)
{
    const size_t key = sizeof("ktest=") - 1;
    char word[WORD_LENGTH] = { 0 };
    while (rtl_next_word(&line, word, sizeof(word)) && memcmp(word, "--", 3))
        if (DBG && !memcmp(word, "ktest=", key))
            rtl_strcpy(test_pattern, word + key, sizeof(test_pattern));
        else if (!set_option(word))
            hal_print("TINT: ignored option '%s'\n", word);
    while (*line == ' ')
        line++;
    if (*line)
        program = line;
}

// ---- The other processors -------------------------------------------------

static bool init_trace(uint32_t processor)
{
    uint64_t count =
        mm_total_frames << PAGE_SHIFT < SMALL_MACHINE ? TRACE_RECORDS_SMALL
        : trace_mask & KI_TRACE_EXPORT                ? TRACE_RECORDS_EXPORTED
                                                      : TRACE_RECORDS;
    TRACE_RECORD *records = mm_allocate_system_pages(
        (uint32_t)BYTES_TO_PAGES(count * sizeof(*records)));
    if (records)
        ki_trace_rings[processor] =
            (ki_trace_ring){ .mask = count * sizeof(*records) - 1,
                             .records = records };
    return records;
}

static void *new_stack(void)
{
    char *pages = mm_allocate_system_pages(MM_STACK_PAGES);
    return pages ? pages + MM_STACK_PAGES * PAGE_SIZE : NULL;
}

// Starts one by its boot parameters. False: no memory, or it did not come.
static bool start_processor(uint32_t apic_id, boot_parameters *parameters)
{
    void *block = mm_allocate_system_pages(
        (uint32_t)BYTES_TO_PAGES(ke_processor_size));
    void *dpc_stack = new_stack();
    parameters->stack = new_stack();
    if (!block || !dpc_stack || !parameters->stack ||
        !init_trace(KeNumberProcessors))
        return false;
    KPRCB *prcb = ke_prepare_processor(block, KeNumberProcessors, apic_id,
                                       dpc_stack);
    parameters->argument = prcb;
    parameters->entry = (void *)ke_enter_processor;
    return ke_start_processor(prcb, BOOT_SECOND_PAGE);
}

// Starts the others that the MADT names, as far as cpus= allows. They begin in
// the first MiB, which is nobody's, in an address space where that page lies at
// its own address; nothing of that is left afterwards.
static void start_processors(void)
{
    KPROCESS nobody = { 0 };
    mm_space space;
    uint32_t most = (uint32_t)MIN(cpus ? cpus : MAXIMUM_PROCESSORS,
                                  hal_processor_count);
    if (KeNumberProcessors >= most ||
        !NT_SUCCESS(mm_create_space(&space, &nobody)))
        return;
    char *code = mm_phys_to_virt(BOOT_SECOND_PAGE);
    memcpy(code, boot_second_start,
           (size_t)(boot_second_end - boot_second_start));
    boot_parameters *parameters =
        (void *)(code + (boot_second_parameters - boot_second_start));
    parameters->cr3 = space.cr3;
    bool mapped = mm_map_page(&space, BOOT_SECOND_PAGE);
    for (uint32_t i = 0; mapped && KeNumberProcessors < most &&
                         i < hal_processor_count; i++) {
        uint32_t apic_id = hal_processor_apic_id[i];
        if (apic_id != ki_processor[0]->apic_id &&
            !start_processor(apic_id, parameters))
            hal_print("TINT: the processor with APIC id %u did not start\n",
                      apic_id);
    }
    mm_delete_space(&space);
    KeSetAffinityThread(KeGetCurrentThread(), UINT32_MAX);
}

// ---- The system thread ----------------------------------------------------

// Starts the first program, waits for its end, and leaves QEMU then if that is
// wanted. False if it must not be started again.
static bool run_first_program(void)
{
    char word[WORD_LENGTH], image[WORD_LENGTH];
    const char *line = program;
    rtl_next_word(&line, word, sizeof(word));
    const char *folder = "B:\\bin\\";    // of a word that is no path
    for (const char *c = word; *c; c++)
        if (*c == '\\' || *c == '/')
            folder = "";
    rtl_snprintf(image, sizeof(image), "\\??\\%s%s", folder, word);
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
    KeResumeThread(&thread->Tcb);
    ObDereferenceObject(thread);
    KeWaitForSingleObject(process, Executive, KernelMode, false, NULL);
    status = process->ExitStatus;
    ObDereferenceObject(process);
    ke_export_trace();
    if (power_off && status == STATUS_SUCCESS)
        hal_exit(HAL_EXIT_SUCCESS);
    hal_print("\nTINT: the first program ended with status 0x%08X%s\n",
              (uint32_t)status, power_off ? "" : "; starting it again");
    return !power_off;
}

static void free_apc(KAPC *apc)
{
    ExFreePoolWithTag(apc, 0);    // its owner's tag, whoever that was
}

static void system_thread(void *context)
{
    const LOADER_PARAMETER_BLOCK *loader = context;
    start_processors();
    io_request_timeout = io_timeout * UNITS_PER_SECOND;
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
    hal_print("TINT " TINT_VERSION " (%s build): %u processor%s, %u MiB, "
              "%u disk%s\n", DBG ? "checked" : "free", KeNumberProcessors,
              KeNumberProcessors == 1 ? "" : "s",
              (uint32_t)((mm_total_frames << PAGE_SHIFT) / MEBIBYTE),
              io_disk_count, io_disk_count == 1 ? "" : "s");
#if DBG
    if (test_pattern[0])
        hal_exit(ktest_run(test_pattern, seed)
                     ? HAL_EXIT_FAILURE
                     : HAL_EXIT_SUCCESS);
#endif
    while (run_first_program())
        continue;
    hal_exit(HAL_EXIT_FAILURE);
}

// ---- From boot/ to idle ---------------------------------------------------

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
    KeGetCurrentThread()->Process->DirectoryTableBase = mm_kernel_cr3;
    ex_init_pool();
    KeGetCurrentPrcb()->dpc_stack = new_stack();    // no interrupt came yet
    if (!KeGetCurrentPrcb()->dpc_stack || !init_trace(0))
        refuse("no memory for the DPC stack or the trace ring");
    ke_hook = (ke_hooks){ .services = nt_services,
                          .service_count = NT_SERVICE_COUNT,
                          .user_fault = ps_user_fault,
                          .thread_dead = ps_thread_dead, .reap = ob_reap,
                          .free_apc = free_apc };
    ke_default_trace_mask = (uint32_t)trace_mask;
    ke_want_trace(&(uint32_t){ 0 }, 0);
    if (!NT_SUCCESS(hal_init_apics(MmMapIoSpace)))
        refuse("no ACPI table of processors and interrupts (MADT)");
    KeGetCurrentPrcb()->apic_id = hal_lapic_id();
    if (!hal_calibrate_clock())
        refuse("no 82C54 timer (PIT), which the clocks are measured by");
    ke_init_time();
    ke_init_export();

    ps_init();
    io_cancel_of_threads = ps_cancel_io;
    io_try_threads = ps_try_threads;
    if (!NT_SUCCESS(ps_create_system_thread(system_thread, &loader)))
        refuse("no memory for the first thread");
    ke_idle();
}
