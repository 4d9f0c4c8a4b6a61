// leaks.c - runs a program several times, and looks whether all comes back.
// helper: test_user.py starts every other program through it
//
// The first run fills what the kernel keeps for later; the lists of free IRPs,
// one a processor, are filled to the brim before each count. After each
// further run all that is counted must be what it was before. A cache may grow
// once more; a leak grows in every run, so two runs that agree are the proof.

#include "tests/user/ktap.h"

#define RUNS 4
#define IRPS 300    // more than such a list keeps

static const struct {
    const char *name;
    size_t offset;
} fields[] = {
#define FIELD(name) { #name, offsetof(SYSTEM_PERFORMANCE_INFORMATION, name) }
    FIELD(AvailablePages), FIELD(PoolBytes), FIELD(PoolBlocks),
    FIELD(Handles), FIELD(Objects), FIELD(Irps), FIELD(Threads),
    FIELD(Processes),
};

static uint64_t field(const SYSTEM_PERFORMANCE_INFORMATION *counts, size_t i)
{
    uint64_t value;
    memcpy(&value, (const char *)counts + fields[i].offset, sizeof(value));
    return value;
}

// Asks for more IRPs than are kept, and cancels them, on every processor.
static void fill_caches(void)
{
    static IO_STATUS_BLOCK iosbs[IRPS];
    static uint8_t bytes[IRPS];
    SYSTEM_BASIC_INFORMATION basic = { .NumberOfProcessors = 1 };
    HANDLE console = NULL;
    IO_STATUS_BLOCK iosb;
    CHECK_OK(NtQuerySystemInformation(SystemBasicInformation, &basic,
                                      sizeof(basic), NULL));
    CHECK_OK(nt_open_file("CON", FILE_READ_DATA, FILE_OPEN, 0, &console));
    for (uint32_t i = 0; i <= basic.NumberOfProcessors; i++) {
        bool last = i == basic.NumberOfProcessors;
        uint64_t mask = last ? (2ull << (i - 1)) - 1 : 1ull << i;
        CHECK_OK(NtSetInformationThread(NtCurrentThread(), ThreadAffinityMask,
                                        &mask, sizeof(mask)));
        for (int j = 0; j < IRPS && !last; j++)
            NtReadFile(console, NULL, NULL, NULL, &iosbs[j], &bytes[j], 1, 0);
        CHECK_OK(NtCancelIoFile(console, &iosb));
    }
    CHECK_OK(NtClose(console));
}

static void take_counts(SYSTEM_PERFORMANCE_INFORMATION *counts)
{
    fflush(stdout);
    nt_set_foreground(NtCurrentProcess());    // the console holds on to it
    fill_caches();
    CHECK_OK(NtQuerySystemInformation(SystemPerformanceInformation, counts,
                                      sizeof(*counts), NULL));
    // Pages that are cut into small blocks fill up differently each time; the
    // blocks themselves are counted.
    counts->AvailablePages += counts->PoolPages;
}

// Whether both are the same; says what differs.
static bool compare(const SYSTEM_PERFORMANCE_INFORMATION *before,
                    const SYSTEM_PERFORMANCE_INFORMATION *after)
{
    bool same = true;
    for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++) {
        long long more = (long long)(field(after, i) - field(before, i));
        if (more)
            printf("leaks: %s changed by %lld\n", fields[i].name, more);
        same &= !more;
    }
    return same;
}

int main(int argc, char **argv)
{
    SYSTEM_PERFORMANCE_INFORMATION before, after;
    if (argc < 2) {
        printf("usage: leaks PROGRAM ARGUMENTS...\n");
        return 2;
    }
    rule("leaks");
    take_counts(&before);
    for (int i = 0; i < RUNS; i++) {
        HANDLE process = NULL;
        char text[RTL_STATUS_SIZE];
        NTSTATUS status = nt_start_program(argc - 1, argv + 1, 0, &process,
                                           NULL);
        if (NT_SUCCESS(status)) {
            NtWaitForSingleObject(process, false, NULL);
            status = process_status(process);
            NtClose(process);
        }
        if (status == KTAP_SKIPPED)
            return KTAP_SKIPPED;
        if (status != STATUS_SUCCESS) {
            printf("not ok - %s ended with %s\n", argv[1],
                   rtl_status_text(status, text));
            return 1;
        }
        take_counts(&after);
        if (i && compare(&before, &after))
            return ktap_end();
        before = after;
    }
    printf("not ok - leaks: %s never left all as it was\n", argv[1]);
    return 1;
}
