// child.c - what the test programs start as another process: child WHAT ...
// helper: started by other tests
//
// Any object can be a standard handle: that is how parent and child share one.

#include "tests/user/ktap.h"

static NTSTATUS sleep_for_ever(void *argument)
{
    (void)argument;
    return NtDelayExecution(false, MS(3600000));
}

// Reads a stream of its own, and never gets anything.
static NTSTATUS read_stream(void *argument)
{
    (void)argument;
    FILE *file = fopen("CON", "r");
    return file ? fgetc(file) : 0;
}

static void read_disk(void)
{
    static uint8_t buffer[65536] __attribute__((aligned(4096)));
    static IO_STATUS_BLOCK iosb[16];
    HANDLE disk = open_disk(0);
    for (int i = 0; i < 16; i++)
        NtReadFile(disk, NULL, NULL, NULL, &iosb[i], buffer, sizeof(buffer),
                   (uint64_t)i * sizeof(buffer));
}

// Reads the console that it got, says by its output, an event, that it is
// through, and stays or returns what the read said. A read with an event is not
// one that only a port tells of.
static NTSTATUS ask(bool with_event, bool stays)
{
    static IO_STATUS_BLOCK iosb;
    static uint8_t buffer[8];
    RTL_USER_PROCESS_PARAMETERS *own = &NtCurrentPeb()->ProcessParameters;
    HANDLE event = with_event ? new_event(NotificationEvent, false) : NULL;
    NTSTATUS status = NtReadFile(own->StandardInput, event, NULL, (void *)1,
                                 &iosb, buffer, sizeof(buffer), 0);
    NtSetEvent(own->StandardOutput, NULL);
    return stays ? sleep_for_ever(NULL) : status;
}

// A page at CHILD_PAGE; who touches it finds out if there is none.
static volatile char *allocate_page(void)
{
    void *base = CHILD_PAGE;
    size_t size = CHILD_PAGE_SIZE;
    NtAllocateVirtualMemory(NtCurrentProcess(), &base, &size, MEM_COMMIT,
                            PAGE_READWRITE);
    return base;
}

// Reads a sector, with an IOSB at CHILD_PAGE; and stays.
static NTSTATUS read_sector(void)
{
    static uint8_t buffer[512] __attribute__((aligned(512)));
    RTL_USER_PROCESS_PARAMETERS *own = &NtCurrentPeb()->ProcessParameters;
    NtReadFile(own->StandardInput, NULL, NULL, (void *)1,
               (IO_STATUS_BLOCK *)allocate_page(), buffer, sizeof(buffer), 0);
    return sleep_for_ever(NULL);
}

// Fills its page; sets its input, and when its output is set looks whether the
// page is still so.
static int own_memory(void)
{
    RTL_USER_PROCESS_PARAMETERS *own = &NtCurrentPeb()->ProcessParameters;
    volatile char *page = allocate_page();
    memset((void *)page, 'F', CHILD_PAGE_SIZE);
    NtSetEvent(own->StandardInput, NULL);
    NtWaitForSingleObject(own->StandardOutput, false, LONG);
    for (size_t i = 0; i < CHILD_PAGE_SIZE; i++)
        if (page[i] != 'F')
            return 1;
    return 0;
}

static void write_for_ever(void *page)
{
    const uint64_t mask = 2;    // the second processor, if there is one
    NtSetInformationThread(NtCurrentThread(), ThreadAffinityMask, &mask,
                           sizeof(mask));
    for (;;)
        ++*(volatile char *)page;
}

// Takes the page away from under a thread that writes to it and calls nobody:
// that ends the process, if its processor hears of it.
static NTSTATUS take_page(bool protects)
{
    volatile char *page = allocate_page();
    void *base = CHILD_PAGE;
    size_t size = protects ? CHILD_PAGE_SIZE : 0;
    uint32_t old;
    const uint64_t mask = 1;
    NtSetInformationThread(NtCurrentThread(), ThreadAffinityMask, &mask,
                           sizeof(mask));
    new_thread((NTSTATUS(*)(void *))(void *)write_for_ever, (void *)page, 0);
    while (!*page)
        NtYieldExecution();
    NTSTATUS status =
        protects ? NtProtectVirtualMemory(NtCurrentProcess(), &base, &size,
                                          PAGE_READONLY, &old)
                 : NtFreeVirtualMemory(NtCurrentProcess(), &base, &size,
                                       MEM_RELEASE);
    NtDelayExecution(false, LONG);
    return status;
}

int main(int argc, char **argv)
{
    HANDLE input = NtCurrentPeb()->ProcessParameters.StandardInput;
    const char *what = argc > 1 ? argv[1] : "";

    if (strcmp(what, "exit") == 0)
        return argc > 2 ? (int)strtoul(argv[2], NULL, 0) : 0;
    if (strcmp(what, "hash") == 0) {    // of all words, with their ends
        uint32_t hash = 2166136261u;
        for (int i = 2; i < argc; i++)
            for (const char *c = argv[i];; c++) {
                hash = (hash ^ (uint8_t)*c) * 16777619u;
                if (!*c)
                    break;
            }
        return (int)(hash >> 1);
    }
    if (strcmp(what, "wait") == 0)
        return sleep_for_ever(NULL);
    if (strcmp(what, "signal") == 0)    // and then go on living
        return NtSetEvent(input, NULL) ?: sleep_for_ever(NULL);
    if (strcmp(what, "set") == 0)
        return NtSetEvent(input, NULL);
    if (strcmp(what, "own") == 0)       // a mutant, until the end
        return NtWaitForSingleObject(input, false, LONG);
    if (strcmp(what, "post") == 0)
        return NtSetIoCompletion(input, (void *)1, (void *)2, 3, 4);
    if (strcmp(what, "reads") == 0) {   // ends with I/O in flight
        read_disk();
        return 0;
    }
    if (strcmp(what, "asks") == 0)      // and ends
        return ask(true, false);
    if (strcmp(what, "stays") == 0)
        return ask(false, true);
    if (strcmp(what, "sector") == 0)
        return read_sector();
    if (strcmp(what, "unmaps") == 0 || strcmp(what, "protects") == 0)
        return take_page(*what == 'p');
    if (strcmp(what, "owns") == 0)
        return own_memory();
    if (strcmp(what, "threads") == 0) { // main ends, the others sleep (THR-03)
        for (int i = 0; i < 8; i++)
            new_thread(sleep_for_ever, NULL, 0);
        return 5;
    }
    if (strcmp(what, "stream") == 0) {  // main ends, one waits for input
        until_waiting(new_thread(read_stream, NULL, 0), Executive);
        return ktap_failures ? 1 : 5;
    }
    if (strcmp(what, "last") == 0) {    // the other thread's end is the end
        new_thread((NTSTATUS(*)(void *))(void *)sleep_for_ever, NULL, 0);
        NtTerminateThread(NtCurrentThread(), 6);
    }
    return 99;
}
