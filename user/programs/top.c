// top.c - what the machine does, live: processors, threads, I/O in flight.
//
// Each round compares two snapshots and reads what the trace rings got in
// between. Keys come by an asynchronous read that is pending all the time: the
// program waits for it and for the next round in one wait, and neither polls
// nor keeps a thread for it. Its own cost is on the screen, too.

#include <road.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCREEN_LINES 24
#define CPU_LINES    8           // processors on a screen
#define DEVICES      8
#define CTRL_C       0x03
#define UNITS        10000000    // of time, in a second
#define FIRST_ROUND  3000000     // a person need not wait for the first one
#define PER_MILLE(part, whole) \
    ((whole) ? (uint32_t)((part) * 1000 / (whole)) : 0)

struct device {
    char name[16];
    uint32_t at_device, queued;
};

static struct {
    bool batch;
    uint64_t rounds;     // 0: for ever
    uint64_t interval;   // in UNITS
} options = { .interval = UNITS };

static uint32_t lines_left;                   // of the screen
static uint64_t spent;                        // ticks, on the round before
static HANDLE console, key_event;
static IO_STATUS_BLOCK key_status;
static char key;

static const char usage[] =
    "usage: top [-b] [-n ROUNDS] [-d SECONDS]\n"
    "\n"
    "Shows what the processors, threads and devices do. q or Ctrl-C leaves.\n"
    "\n"
    "  -n ROUNDS   leave after so many\n"
    "  -d SECONDS  between two rounds; 0.05 to 3600 (1)\n"
    "  -b          one round below the other, with all threads; no keys\n"
    "\n"
    "  idle    the processor was halted        DPC  it ran DPCs\n"
    "  thread  it ran a thread, or the kernel  ISR  it served interrupts\n"
    "\n"
    "APCs are deliveries; one may bring several.\n";

// ---- What is asked for ----------------------------------------------------

// "2" or "0.25", in UNITS; 0: it is neither.
static uint64_t parse_seconds(const char *text)
{
    uint64_t value = 0, unit = UNITS;
    bool point = false;
    for (; *text; text++) {
        if (*text == '.' && !point) {
            point = true;
        } else if (*text < '0' || *text > '9' || value > 3600ull * UNITS) {
            return 0;
        } else if (point) {
            unit /= 10;
            value += (uint64_t)(*text - '0') * unit;
        } else {
            value = value * 10 + (uint64_t)(*text - '0') * UNITS;
        }
    }
    return value >= UNITS / 20 && value <= 3600ull * UNITS ? value : 0;
}

static int complain(const char *what, const char *about)
{
    fprintf(stderr, "top: %s%s; top --help tells more\n", about, what);
    return 2;
}

// Returns: 0 to go on, 1 after the help, 2 if it is not understood
static int parse_arguments(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
            fputs(usage, stdout);
            return 1;
        }
        if (strcmp(word, "-b") == 0) {
            options.batch = true;
        } else if (strcmp(word, "-n") == 0) {
            if (!rtl_parse_number(value, &options.rounds) || !options.rounds)
                return complain(": how many rounds?", "-n ");
            i++;
        } else if (strcmp(word, "-d") == 0) {
            options.interval = parse_seconds(value);
            if (!options.interval)
                return complain(": 0.05 to 3600 seconds", "-d ");
            i++;
        } else {
            return complain(": unknown", word);
        }
    }
    return 0;
}

// ---- Showing --------------------------------------------------------------

// Ends a line; what the round before left there is wiped out.
static void end_line(void)
{
    fputs(options.batch ? "\n" : "\x1b[K\n", stdout);
    if (lines_left > 0)
        lines_left--;
}

static void print_share(uint64_t part, uint64_t whole)
{
    uint32_t share = PER_MILLE(part, whole);
    if (share > 1000)
        share = 1000;
    printf(" %4u.%u", share / 10, share % 10);
}

// Ticks between two looks.
static uint64_t passed(const struct rtl_look *now, const struct rtl_look *old)
{
    return now->snapshot->Time - old->snapshot->Time;
}

static uint64_t per_second(uint64_t count, uint64_t ticks)
{
    uint64_t us = rtl_ticks_to_us(ticks);
    return us ? (count * 1000000 + us / 2) / us : 0;
}

static void print_rate(const char *name, uint64_t count, uint64_t ticks)
{
    char number[RTL_GROUPED_SIZE];
    printf("  %s %s", name, rtl_grouped(per_second(count, ticks), number));
}

static void print_processors(const struct rtl_look *now,
                             const struct rtl_look *old)
{
    const SNAPSHOT_PROCESSOR *to = rtl_snapshot_processors(now->snapshot);
    const SNAPSHOT_PROCESSOR *from = rtl_snapshot_processors(old->snapshot);
    uint64_t ticks = passed(now, old);
    char name[24];
    printf("CPU   idle%% thread%%   DPC%%   ISR%%  interrupts/s   DPCs/s  now");
    end_line();
    for (uint32_t i = 0; i < now->snapshot->Processors; i++) {
        if (!options.batch && i == CPU_LINES) {
            printf("... and %u more", now->snapshot->Processors - i);
            end_line();
            return;
        }
        uint64_t idle = rtl_halted_time(now->snapshot, i) -
                        rtl_halted_time(old->snapshot, i);
        uint64_t isr = to[i].IsrTime - from[i].IsrTime;
        uint64_t dpc = to[i].DpcTime - from[i].DpcTime;
        uint64_t others = idle + isr + dpc;
        printf("%3u ", to[i].Number);
        print_share(idle, ticks);
        printf(" ");
        print_share(others < ticks ? ticks - others : 0, ticks);
        print_share(dpc, ticks);
        print_share(isr, ticks);
        printf("  %12lu %8lu  %s",
               per_second(to[i].Interrupts - from[i].Interrupts, ticks),
               per_second(to[i].Dpcs - from[i].Dpcs, ticks),
               to[i].HaltedSince ? "halted"
                   : rtl_thread_name(now->snapshot, to[i].CurrentThread,
                                     name));
        end_line();
    }
}

static void print_rates(const struct rtl_look *now, const struct rtl_look *old)
{
    const SNAPSHOT_PROCESSOR *to = rtl_snapshot_processors(now->snapshot);
    const SNAPSHOT_PROCESSOR *from = rtl_snapshot_processors(old->snapshot);
    uint64_t ticks = passed(now, old), interrupts = 0, dpcs = 0;
    for (uint32_t i = 0; i < now->snapshot->Processors; i++) {
        interrupts += to[i].Interrupts - from[i].Interrupts;
        dpcs += to[i].Dpcs - from[i].Dpcs;
    }
    printf("per second:");
    print_rate("interrupts", interrupts, ticks);
    print_rate("DPCs", dpcs, ticks);
    print_rate("APCs", now->apcs - old->apcs, ticks);
    print_rate("packets", now->packets - old->packets, ticks);
    print_rate("switches", now->switches - old->switches, ticks);
    if (now->lost != old->lost)
        printf("  (at least: %lu records lost)", now->lost - old->lost);
    end_line();
}

// Adds an IRP to its device's; the last entry is for all that do not fit.
static uint32_t add_irp(struct device *devices, uint32_t count,
                        const SNAPSHOT_IRP *irp)
{
    const char *name = irp->Device[0] ? irp->Device : "?";
    uint32_t i = 0;
    while (i < count && strcmp(devices[i].name, name) != 0)
        i++;
    if (i == DEVICES)
        strcpy(devices[--i].name, "others");
    else if (i == count)
        snprintf(devices[count++].name, sizeof(devices->name), "%.15s", name);
    devices[i].queued += irp->State == IrpQueued;
    devices[i].at_device += irp->State != IrpQueued;
    return count;
}

static void print_irps(const SYSTEM_SNAPSHOT *snapshot)
{
    struct device devices[DEVICES] = { 0 };
    const SNAPSHOT_IRP *irps = rtl_snapshot_irps(snapshot);
    char number[RTL_GROUPED_SIZE];
    uint32_t count = 0;
    for (uint32_t i = 0; i < snapshot->Irps; i++)
        count = add_irp(devices, count, &irps[i]);
    printf("I/O requests in flight: %s   threads working on I/O: %u",
           rtl_grouped(snapshot->Irps, number), rtl_threads_on_io(snapshot, 0));
    end_line();
    for (uint32_t i = 0; i < count; i++) {
        printf("  %-15s %5u at the device, %5u queued", devices[i].name,
               devices[i].at_device, devices[i].queued);
        end_line();
    }
}

static uint64_t run_time(const SYSTEM_SNAPSHOT *snapshot, uint32_t id)
{
    const SNAPSHOT_THREAD *threads = rtl_snapshot_threads(snapshot);
    for (uint32_t i = 0; i < snapshot->Threads; i++)
        if (threads[i].ThreadId == id)
            return threads[i].RunTime;
    return 0;    // it was not there yet
}

static void print_own_cost(const struct rtl_look *now,
                           const struct rtl_look *old)
{
    uint32_t id = (uint32_t)NtCurrentPeb()->ClientId.UniqueThread;
    uint64_t ran = run_time(now->snapshot, id) - run_time(old->snapshot, id);
    char number[RTL_GROUPED_SIZE];
    printf("top itself:");
    print_share(ran, passed(now, old));
    printf(" %% of a processor; the round before took %s us",
           rtl_grouped(rtl_ticks_to_us(spent), number));
    end_line();
}

// Busiest first, of equals the first one; order holds their places.
static void sort_threads(const struct rtl_look *now, const struct rtl_look *old,
                         uint32_t *order, uint64_t *ran)
{
    const SNAPSHOT_THREAD *threads = rtl_snapshot_threads(now->snapshot);
    for (uint32_t i = 0; i < now->snapshot->Threads; i++) {
        ran[i] = threads[i].RunTime - run_time(old->snapshot,
                                               threads[i].ThreadId);
        uint32_t at = i;
        for (; at > 0 && ran[order[at - 1]] < ran[i]; at--)
            order[at] = order[at - 1];
        order[at] = i;
    }
}

static void print_threads(const struct rtl_look *now,
                          const struct rtl_look *old)
{
    uint32_t count = now->snapshot->Threads;
    const SNAPSHOT_THREAD *threads = rtl_snapshot_threads(now->snapshot);
    uint32_t *order = calloc(count + 1, sizeof(*order));
    uint64_t *ran = calloc(count + 1, sizeof(*ran));
    if (order && ran)
        sort_threads(now, old, order, ran);
    end_line();
    printf(" PID   TID PROGRAM      STATE    WAITS FOR         WORKS ON"
           "    CPU%%   TIME ms");
    end_line();
    for (uint32_t i = 0; order && ran && i < count; i++) {
        // The last line stays empty, or the screen would scroll.
        if (!options.batch && lines_left <= 2 && count - i > 1) {
            printf("... and %u threads more", count - i);
            end_line();
            break;
        }
        const SNAPSHOT_THREAD *thread = &threads[order[i]];
        char irp[16] = "-", number[RTL_GROUPED_SIZE];
        if (thread->IrpId)
            snprintf(irp, sizeof(irp), "IRP %u", thread->IrpId);
        printf("%4u %5u %-12.12s %-8s %-17.17s %-10.10s", thread->ProcessId,
               thread->ThreadId, thread->Image, rtl_thread_state(thread),
               rtl_wait_text(thread), irp);
        print_share(ran[order[i]], passed(now, old));
        printf(" %9s", rtl_grouped(rtl_ticks_to_us(thread->RunTime) / 1000,
                                   number));
        end_line();
    }
    free(order);
    free(ran);
}

static void show(const struct rtl_look *now, const struct rtl_look *old,
                 uint64_t round)
{
    char number[RTL_GROUPED_SIZE];
    uint64_t ms = rtl_ticks_to_us(passed(now, old)) / 1000;
    lines_left = SCREEN_LINES;
    if (!options.batch)
        fputs("\x1b[H", stdout);
    printf("TINT top, round %lu: the last %s ms; %u threads", round,
           rtl_grouped(ms, number), now->snapshot->Threads);
    if (!options.batch)
        printf("; q leaves");
    end_line();
    print_processors(now, old);
    print_rates(now, old);
    print_irps(now->snapshot);
    print_own_cost(now, old);
    print_threads(now, old);
    if (!options.batch)
        fputs("\x1b[J", stdout);
    else
        fputs("\n", stdout);
    fflush(stdout);
}

// ---- Keys -----------------------------------------------------------------

static void read_key(void)
{
    NTSTATUS status = NtReadFile(console, key_event, NULL, NULL, &key_status,
                                 &key, 1, 0);
    if (NT_ERROR(status)) {    // no keys; leave by -n, or be ended
        NtClose(console);
        console = NULL;
    }
}

static void open_keys(void)
{
    NtCreateEvent(&key_event, ALL_ACCESS, NULL, SynchronizationEvent, false);
    if (!NtCurrentPeb()->ProcessParameters.StandardInput)
        return;    // beside the shell, whose the keys are
    NTSTATUS status = nt_open_file("CON", FILE_READ_DATA | SYNCHRONIZE,
                                   FILE_OPEN, 0, &console);
    if (!NT_SUCCESS(status)) {
        console = NULL;
        return;
    }
    nt_set_foreground(NULL);    // Ctrl-C comes as a byte, so that we clean up
    read_key();
}

// Takes the read back, so that it swallows nothing of what is typed next.
static void close_keys(void)
{
    IO_STATUS_BLOCK iosb;
    if (!console)
        return;
    if (NT_SUCCESS(NtCancelIoFile(console, &iosb)))
        NtWaitForSingleObject(key_event, false, NULL);
    NtClose(console);
}

// Sleeps until the next round is due. False: somebody wants to leave.
static bool wait_for_round(uint64_t interval)
{
    int64_t now, due;
    NtQuerySystemTime(&now);
    for (due = now + (int64_t)interval;;) {
        if (!console) {
            NtDelayExecution(false, &due);
            return true;
        }
        if (NtWaitForSingleObject(key_event, false, &due) == STATUS_TIMEOUT)
            return true;
        bool leave = !NT_SUCCESS(key_status.Status) ||
                     key_status.Information == 0 || key == 'q' || key == 'Q' ||
                     key == CTRL_C;
        if (leave) {
            NtClose(console);
            console = NULL;
            return false;
        }
        read_key();
    }
}

// ---------------------------------------------------------------------------

static bool look_at(struct rtl_look *look, const struct rtl_look *before)
{
    char text[RTL_STATUS_SIZE];
    NTSTATUS status = rtl_look_at(look, before);
    if (!NT_SUCCESS(status))
        fprintf(stderr, "top: %s\n", rtl_status_text(status, text));
    return NT_SUCCESS(status);
}

static bool run(void)
{
    static struct rtl_look looks[2];
    struct rtl_look *now = &looks[0], *old = &looks[1];
    if (!look_at(old, NULL))
        return false;
    for (uint64_t round = 1;; round++) {
        bool first = round == 1 && !options.batch && !options.rounds &&
                     options.interval > FIRST_ROUND;
        if (!wait_for_round(first ? FIRST_ROUND : options.interval))
            return true;
        uint64_t start = rtl_ticks();
        if (!look_at(now, old))
            return false;
        show(now, old, round);
        spent = rtl_ticks() - start;
        if (round == options.rounds)
            return true;
        struct rtl_look *other = now;
        now = old;
        old = other;
    }
}

int main(int argc, char **argv)
{
    int why = parse_arguments(argc, argv);
    if (why != 0)
        return why == 1 ? 0 : why;
    if (!options.batch && !options.rounds &&
        !NtCurrentPeb()->ProcessParameters.StandardInput) {
        fputs("top: without the keyboard only -n or -b ends it\n", stderr);
        return 2;
    }
    rtl_widen_trace();
    if (!options.batch) {
        open_keys();
        fputs("\x1b[2J", stdout);
    }
    bool good = run();
    nt_trace_mask(0, NULL);
    if (!options.batch) {
        close_keys();
        puts("");    // the cursor is below the last line
    }
    return good ? 0 : 1;
}
