// heir.c - takes over the memory of a program that dies with I/O in flight:
//
//     heir OPERATION DEATH      r or w; see deaths[]
//
// It starts itself as the victim, whose requests the host holds back at the
// disk; sees to its death; takes all memory there is, again and again until
// the victim is gone, and fills it. In the end no byte of that may have
// changed. The words it prints are what test_death.py waits for.

#include <ntdll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LARGE    (3u * 1024 * 1024)    // more than one command of the disk
#define SMALL    (64u * 1024)
#define SMALLS   12
#define REQUESTS (1 + SMALLS)
#define PIECES   8192
#define PAGE     4096u
#define MS(n)    (&(int64_t){ (n) * -10000LL })
#define CHARGED  "VVVVVVVV"            // what the victim writes

typedef enum death { KILL, CTRL_C, FAULT, EXIT, THREAD, CLOSE, UNMAP } death;

static const char *const deaths[] = {
    [KILL] = "kill",        // by NtTerminateProcess of another
    [CTRL_C] = "ctrl-c",
    [FAULT] = "fault",      // its own
    [EXIT] = "exit",
    [THREAD] = "thread",    // only the thread that asked; the memory is freed
    [CLOSE] = "close",      // its handles; then it is killed
    [UNMAP] = "unmap",      // only the memory goes; then it is killed
};

static _Noreturn void give_up(const char *what, NTSTATUS status)
{
    char text[RTL_STATUS_SIZE];
    printf("heir: %s: %s\n", what, rtl_status_text(status, text));
    exit(1);
}

static void must(const char *what, NTSTATUS status)
{
    if (!NT_SUCCESS(status))
        give_up(what, status);
}

static uint32_t number_of(const char *name)
{
    for (uint32_t i = 0; i < sizeof(deaths) / sizeof(*deaths); i++)
        if (!strcmp(name, deaths[i]))
            return i;
    give_up(name, STATUS_INVALID_PARAMETER);
}

// ---- The victim -------------------------------------------------------------

static struct victim {
    bool write;
    HANDLE bound, plain, port;
    char *buffer;
    size_t size;
    IO_STATUS_BLOCK iosb[REQUESTS];
} victim;

// Every other request belongs to a port and outlives its thread; the others
// are the thread's.
static NTSTATUS ask(void *unused)
{
    (void)unused;
    uint64_t at = 0;
    for (uint64_t i = 0; i < REQUESTS; i++) {
        uint32_t length = i ? SMALL : LARGE;
        HANDLE file = i & 1 ? victim.plain : victim.bound;
        NTSTATUS status =
            victim.write
                ? NtWriteFile(file, NULL, NULL, (void *)(i + 1),
                              &victim.iosb[i], victim.buffer + at, length, at)
                : NtReadFile(file, NULL, NULL, (void *)(i + 1),
                             &victim.iosb[i], victim.buffer + at, length, at);
        if (status != STATUS_PENDING)
            give_up("request", status);
        at += length;
    }
    return STATUS_SUCCESS;
}

static NTSTATUS ask_and_stay(void *event)
{
    ask(NULL);
    NtSetEvent(event, NULL);
    return NtDelayExecution(false, MS(3600000));
}

static void open_files(void)
{
    DISK_GEOMETRY geometry;
    IO_STATUS_BLOCK iosb;
    FILE_COMPLETION_INFORMATION to = { 0 };
    ACCESS_MASK access = FILE_READ_DATA | FILE_WRITE_DATA;
    must("disk", nt_open_disk(0, access, 0, &victim.bound, &geometry));
    must("disk", nt_open_disk(0, access, 0, &victim.plain, &geometry));
    must("port", NtCreateIoCompletion(&victim.port, ALL_ACCESS, NULL, 0));
    to.Port = victim.port;
    must("bind", NtSetInformationFile(victim.bound, &iosb, &to, sizeof(to),
                                      FileCompletionInformation));
    victim.size = LARGE + SMALLS * SMALL;
    victim.buffer = nt_allocate_pages(victim.size);
    if (!victim.buffer)
        give_up("buffer", STATUS_NO_MEMORY);
    memset(victim.buffer, CHARGED[0], victim.size);
}

static void unmap(void)
{
    void *base = victim.buffer;
    size_t size = 0;
    must("free", NtFreeVirtualMemory(NtCurrentProcess(), &base, &size,
                                     MEM_RELEASE));
}

static void by_thread(void)
{
    HANDLE asked, thread;
    must("event", NtCreateEvent(&asked, ALL_ACCESS, NULL, NotificationEvent,
                                false));
    must("thread", NtCreateThreadEx(&thread, ALL_ACCESS, NULL,
                                    NtCurrentProcess(), (void *)ask_and_stay,
                                    asked, 0, 0));
    NtWaitForSingleObject(asked, false, NULL);
    must("end", NtTerminateThread(thread, 1));
    unmap();
}

static int be_victim(death how, HANDLE ready)
{
    open_files();
    if (how == THREAD)
        by_thread();
    else
        ask(NULL);
    if (how == CLOSE) {
        NtClose(victim.bound);
        NtClose(victim.plain);
        NtClose(victim.port);
    }
    if (how == UNMAP)
        unmap();
    // Long enough for the first of the large request's commands to be done;
    // nothing but how much is tried depends on it.
    NtDelayExecution(false, MS(100));
    NtSetEvent(ready, NULL);
    if (how == FAULT)
        *(volatile int *)(uintptr_t)UINT64_C(0x700000000000) = 1;
    if (how == EXIT)
        return 0;
    NtDelayExecution(false, MS(3600000));
    return 0;
}

// ---- The heir ---------------------------------------------------------------

static struct piece {
    uint64_t *base;
    size_t size;
} pieces[PIECES];
static uint32_t count;
static uint64_t taken;

static uint64_t pattern(uint64_t *at)
{
    return (uint64_t)(uintptr_t)at ^ UINT64_C(0x4E4E4E4E4E4E4E4E);    // 'N'
}

// Takes what there is, in ever smaller pieces, and fills it.
static void take_all(void)
{
    for (size_t size = 1024 * 1024; size >= PAGE; size /= 4) {
        uint64_t *base;
        while (count < PIECES && (base = nt_allocate_pages(size))) {
            pieces[count++] = (struct piece){ base, size };
            taken += size;
            for (uint64_t *at = base; at < base + size / sizeof(*at); at++)
                *at = pattern(at);
        }
    }
}

static uint64_t count_changed(void)
{
    uint64_t changed = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t *base = pieces[i].base;
        for (uint64_t *at = base; at < base + pieces[i].size / sizeof(*at);
             at++)
            changed += *(volatile uint64_t *)at != pattern(at);
    }
    return changed;
}

static HANDLE start_victim(char *const *words, HANDLE ready)
{
    RTL_USER_PROCESS_PARAMETERS *own = &NtCurrentPeb()->ProcessParameters;
    HANDLE before = own->StandardInput, process = NULL;
    char *line[] = { words[0], words[1], words[2], "victim" };
    own->StandardInput = ready;
    must("victim", nt_start_program(4, line, 0, &process, NULL));
    own->StandardInput = before;
    return process;
}

static void say(const char *format, uint64_t value)
{
    printf(format, (unsigned long long)value);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    death how = (death)number_of(argv[2]);
    victim.write = argv[1][0] == 'w';
    if (argc > 3)
        return be_victim(how, NtCurrentPeb()->ProcessParameters.StandardInput);

    HANDLE ready;
    must("event", NtCreateEvent(&ready, ALL_ACCESS, NULL, NotificationEvent,
                                false));
    HANDLE process = start_victim(argv, ready);
    if (how == CTRL_C)
        nt_set_foreground(process);
    NtWaitForSingleObject(ready, false, NULL);
    if (how == KILL)
        must("kill", NtTerminateProcess(process, 9));
    if (how == CTRL_C) {
        say("press\n", 0);
        getchar();    // what the host types behind it
    }
    take_all();
    bool dying = NtWaitForSingleObject(process, false, MS(0)) ==
                 STATUS_TIMEOUT;
    say(dying ? "filled %llu, in flight\n" : "filled %llu, dead\n", taken);
    getchar();    // the host has let the disk go on
    if (how == THREAD || how == CLOSE || how == UNMAP) {
        NtDelayExecution(false, MS(300));
        take_all();
        must("kill", NtTerminateProcess(process, 9));
    }
    while (NtWaitForSingleObject(process, false, MS(1)) == STATUS_TIMEOUT)
        take_all();
    take_all();
    uint64_t changed = count_changed();
    say("changed %llu", changed);
    say(" of %llu\n", taken);
    return changed != 0;
}
