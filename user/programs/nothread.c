// nothread.c - many asynchronous writes, one thread, and nobody who waits.
//
// One thread hands a file's bytes to the disk, N writes at once, on a handle
// that is bound to a completion port. It takes one snapshot of the machine
// while they are in flight, takes the N packets, and only then prints: what the
// scheduler saw, the road of each write out of the trace, and whether the disk
// holds the right bytes. While writes are in flight nothing is printed; the
// console's interrupts would spoil the picture.

#include <ntdll.h>
#include <road.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_FILE    "B:\\files\\README.md"
#define DEFAULT_SIZE    4096
#define DRAIN_EVERY     64       // writes, well before a trace ring overflows
#define SNAPSHOT_THREADS 256     // room for so many threads and other IRPs
#define CHUNK           65536u   // bytes read back at a time
#define KERNEL_SHARE    1024     // bytes of memory for an IRP, estimated

// One write, from the call until its packet was taken.
struct request {
    IO_STATUS_BLOCK iosb;
    bool taken;
};

// What was asked for, and what it takes.
struct job {
    const char *name;
    uint64_t writes;     // 0: as many as the file needs
    uint64_t size;
    uint32_t disk;
    uint64_t offset;
    bool any_disk;
    bool repeat;         // --writes was given: the file is repeated or cut
    bool threads;        // a thread for each write, which waits in it

    uint8_t *content;    // of the file
    uint64_t length;
    uint64_t total;      // bytes that go to the disk, whole sectors
    uint8_t *stream;     // those bytes; write i is at i * size
    struct request *requests;
    struct rtl_blocking *blocking;
    struct rtl_cost cost;
    struct rtl_road *roads;
    SYSTEM_SNAPSHOT *snapshot;
    uint32_t snapshot_size;

    DISK_GEOMETRY geometry;
    HANDLE handle;       // of the disk, asynchronous
    HANDLE port;
    struct rtl_trace trace;

    uint64_t issued;
    uint64_t taken;
    uint64_t started;    // ticks: before the first call
    uint64_t ended;      // after the last packet
    NTSTATUS status;     // the first failure
    const char *failure; // what failed, NULL: nothing
    uint64_t failed;     // which write
};

static const char usage[] =
    "usage: nothread [FILE] [--writes N] [--size BYTES] [--disk N]"
    " [--offset BYTES]\n"
    "                [--threads]\n"
    "\n"
    "Writes FILE to a disk with asynchronous writes, all at once and from one\n"
    "thread, and shows who works on them meanwhile.\n"
    "\n"
    "  FILE            what is written (B:\\files\\README.md)\n"
    "  --writes N      how many writes; the file is repeated or cut to fit\n"
    "  --size BYTES    of one write, whole sectors (4096)\n"
    "  --disk N        \\\\.\\PhysicalDriveN (the first without a volume)\n"
    "  --offset BYTES  where on the disk, whole sectors (0)\n"
    "  --threads       the other way, to compare: a thread waits in each\n"
    "\n"
    "WHAT IS THERE ON THE DISK IS OVERWRITTEN.\n";

__attribute__((format(printf, 1, 2)))
static bool fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fflush(stdout);
    fprintf(stderr, "nothread: ");
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
    return false;
}

static bool fail_status(const char *what, NTSTATUS status)
{
    char text[RTL_STATUS_SIZE];
    return fail("%s: %s", what, rtl_status_text(status, text));
}

// ---- What is asked for ----------------------------------------------------

static bool parse_option(struct job *job, const char *name, const char *value)
{
    uint64_t number;
    if (!value)
        return fail("%s needs a number", name);
    if (!rtl_parse_number(value, &number))
        return fail("%s %s: not a number", name, value);
    if (strcmp(name, "--writes") == 0) {
        job->writes = number;
        job->repeat = true;
        return number > 0 || fail("--writes 0: there is nothing to do");
    }
    if (strcmp(name, "--size") == 0) {
        job->size = number;
        return (number > 0 && number <= INT32_MAX) ||
               fail("--size %s: one write has 1 to %d bytes", value, INT32_MAX);
    }
    if (strcmp(name, "--disk") == 0) {
        job->disk = (uint32_t)number;
        job->any_disk = false;
        return number < 100 || fail("--disk %s: there is no such disk", value);
    }
    job->offset = number;
    return true;
}

static bool is_option(const char *word)
{
    return strcmp(word, "--writes") == 0 || strcmp(word, "--size") == 0 ||
           strcmp(word, "--disk") == 0 || strcmp(word, "--offset") == 0;
}

static bool parse_arguments(struct job *job, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        if (is_option(word)) {
            if (!parse_option(job, word, i + 1 < argc ? argv[i + 1] : NULL))
                return false;
            i++;
        } else if (strcmp(word, "--threads") == 0) {
            job->threads = true;
        } else if (word[0] == '-') {
            return fail("%s: unknown; nothread --help tells more", word);
        } else if (job->name) {
            return fail("%s: one FILE is enough", word);
        } else {
            job->name = word;
        }
    }
    if (!job->name)
        job->name = DEFAULT_FILE;
    return true;
}

// ---- Making ready ---------------------------------------------------------

static bool load_file(struct job *job)
{
    NTSTATUS status = nt_load_file(job->name, &job->content, &job->length);
    if (!NT_SUCCESS(status))
        return fail_status(job->name, status);
    return job->length > 0 ||
           fail("%s is empty: there is nothing to write", job->name);
}

static bool open_disk(struct job *job)
{
    ACCESS_MASK access = FILE_READ_DATA | FILE_WRITE_DATA;
    NTSTATUS status;
    if (job->any_disk)
        status = nt_open_free_disk(&job->disk, access, 0, &job->handle,
                                   &job->geometry);
    else
        status = nt_open_disk(job->disk, access, 0, &job->handle,
                              &job->geometry);
    char what[24] = "a disk without a volume";
    if (!job->any_disk)
        snprintf(what, sizeof(what), "--disk %u", job->disk);
    return NT_SUCCESS(status) || fail_status(what, status);
}

static bool check_range(struct job *job)
{
    uint64_t sector = job->geometry.BytesPerSector;
    uint64_t end;
    if (sector == 0)
        return fail("disk %u tells no sector size", job->disk);
    if (job->size % sector != 0)
        return fail("--size %lu: the disk writes whole sectors of %lu bytes",
                    job->size, sector);
    if (job->offset % sector != 0)
        return fail("--offset %lu: a write begins at a sector, that is at a"
                    " multiple of %lu", job->offset, sector);
    job->total = (job->length + sector - 1) / sector * sector;
    if (!job->repeat)
        job->writes = (job->total + job->size - 1) / job->size;
    if ((job->repeat &&
         __builtin_mul_overflow(job->writes, job->size, &job->total)) ||
        __builtin_add_overflow(job->offset, job->total, &end) ||
        end > job->geometry.DiskSize)
        return fail("%lu writes of %lu bytes from %lu on end beyond the disk"
                    " (%lu bytes)", job->writes, job->size, job->offset,
                    job->geometry.DiskSize);
    return true;
}

// The byte of the file that belongs at a place of the stream.
static uint8_t expected(const struct job *job, uint64_t at)
{
    if (at >= job->length && !job->repeat)
        return 0;
    return job->content[at % job->length];
}

static void fill_stream(struct job *job)
{
    for (uint64_t at = 0; at < job->total;) {
        uint64_t left = job->total - at;
        uint64_t count = job->length < left ? job->length : left;
        if (at > 0 && !job->repeat)
            break;    // pages come zeroed: the padding is there
        memcpy(job->stream + at, job->content, count);
        at += count;
    }
}

static bool get_memory(struct job *job)
{
    uint64_t writes = job->writes;
    uint64_t others = writes * (sizeof(*job->requests) + sizeof(*job->roads) +
                                sizeof(SNAPSHOT_IRP) +
                                32 * sizeof(TRACE_RECORD) + KERNEL_SHARE);
    SYSTEM_PERFORMANCE_INFORMATION system;
    NTSTATUS status = NtQuerySystemInformation(SystemPerformanceInformation,
                                               &system, sizeof(system), NULL);
    if (!NT_SUCCESS(status))
        return fail_status("system information", status);
    if (job->total + others > system.AvailablePages * 4096)
        return fail("%lu writes of %lu bytes need %lu KiB of memory, %lu KiB"
                    " are free", writes, job->size,
                    (job->total + others) / 1024, system.AvailablePages * 4);

    job->stream = nt_allocate_pages(job->total);
    job->requests = calloc(writes, sizeof(*job->requests));
    job->blocking = calloc(job->threads ? writes : 1, sizeof(*job->blocking));
    job->roads = calloc(writes, sizeof(*job->roads));
    job->snapshot_size = (uint32_t)(
        sizeof(SYSTEM_SNAPSHOT) + RTL_PROCESSORS * sizeof(SNAPSHOT_PROCESSOR) +
        (job->threads ? writes + SNAPSHOT_THREADS : SNAPSHOT_THREADS) *
            sizeof(SNAPSHOT_THREAD) +
        (writes + SNAPSHOT_THREADS) * sizeof(SNAPSHOT_IRP));
    job->snapshot = calloc(1, job->snapshot_size);
    if (!job->stream || !job->requests || !job->blocking || !job->roads ||
        !job->snapshot)
        return fail("no memory for %lu writes of %lu bytes", writes,
                    job->size);
    fill_stream(job);
    return true;
}

static bool bind_port(struct job *job)
{
    IO_STATUS_BLOCK iosb;
    NTSTATUS status = NtCreateIoCompletion(&job->port, ALL_ACCESS, NULL, 1);
    if (!NT_SUCCESS(status))
        return fail_status("completion port", status);
    FILE_COMPLETION_INFORMATION completion = { .Port = job->port };
    status = NtSetInformationFile(job->handle, &iosb, &completion,
                                  sizeof(completion),
                                  FileCompletionInformation);
    return NT_SUCCESS(status) || fail_status("binding disk to port", status);
}

// ---- The run: nothing is printed from here ... ----------------------------

static uint32_t write_length(const struct job *job, uint64_t i)
{
    uint64_t left = job->total - i * job->size;
    return (uint32_t)(left < job->size ? left : job->size);
}

// Keeps the first failure for later.
static void note(struct job *job, const char *what, uint64_t i, NTSTATUS status)
{
    if (job->failure)
        return;
    job->failure = what;
    job->failed = i;
    job->status = status;
}

static void issue_writes(struct job *job)
{
    for (uint64_t i = 0; i < job->writes; i++) {
        struct request *request = &job->requests[i];
        uint64_t at = i * job->size;
        NTSTATUS status = NtWriteFile(job->handle, NULL, NULL, request,
                                      &request->iosb, job->stream + at,
                                      write_length(job, i), job->offset + at);
        if (NT_ERROR(status)) {    // refused: no packet will come
            note(job, "was refused", i, status);
            return;
        }
        job->issued++;
        if (i % DRAIN_EVERY == DRAIN_EVERY - 1)
            rtl_trace_drain(&job->trace);
    }
}

static void take_packets(struct job *job)
{
    while (job->taken < job->issued) {
        void *key;
        void *context;
        IO_STATUS_BLOCK iosb;
        NTSTATUS status = NtRemoveIoCompletion(job->port, &key, &context,
                                               &iosb, NULL);
        if (status != STATUS_SUCCESS) {
            note(job, "cannot be waited for", job->taken, status);
            return;
        }
        struct request *request = context;
        uint64_t i = (uint64_t)(request - job->requests);
        if (i >= job->writes || request->taken) {
            note(job, "completed twice", i, STATUS_INTERNAL_ERROR);
            return;
        }
        request->taken = true;
        job->taken++;
        if (NT_ERROR(iosb.Status))
            note(job, "failed", i, iosb.Status);
        else if (iosb.Information != write_length(job, i))
            note(job, "wrote too little", i, iosb.Status);
        if (job->taken % DRAIN_EVERY == 0)
            rtl_trace_drain(&job->trace);
    }
}

// The same, with a thread for each write.
static void start_threads(struct job *job)
{
    NTSTATUS status;
    for (uint64_t i = 0; i < job->writes; i++) {
        struct rtl_blocking *write = &job->blocking[i];
        write->buffer = job->stream + i * job->size;
        write->length = write_length(job, i);
        write->offset = job->offset + i * job->size;
    }
    job->issued = rtl_start_blocking(job->blocking, job->writes, job->disk,
                                     &status);
    if (!NT_SUCCESS(status))
        note(job, "got no thread", job->issued, status);
}

static void end_threads(struct job *job)
{
    rtl_end_blocking(job->blocking, job->issued);
    for (uint64_t i = 0; i < job->issued; i++) {
        const struct rtl_blocking *write = &job->blocking[i];
        if (NT_ERROR(write->status))
            note(job, "failed", i, write->status);
        else if (write->iosb.Information != write->length)
            note(job, "wrote too little", i, write->status);
    }
}

static bool run(struct job *job)
{
    NTSTATUS status = rtl_trace_begin(&job->trace, rtl_road_mask());
    if (!NT_SUCCESS(status))
        return fail_status("trace", status);

    rtl_look_at_cost(&job->cost);
    job->started = rtl_ticks();
    (job->threads ? start_threads : issue_writes)(job);
    rtl_look_at_cost(&job->cost);
    status = NtQuerySystemInformation(SystemSnapshotInformation, job->snapshot,
                                      job->snapshot_size, NULL);
    (job->threads ? end_threads : take_packets)(job);
    job->ended = rtl_ticks();
    rtl_trace_end(&job->trace);

    if (job->failure) {
        char what[80];
        snprintf(what, sizeof(what), "write %lu of %lu %s",
                 job->failed + 1, job->writes, job->failure);
        return fail_status(what, job->status);
    }
    return NT_SUCCESS(status) || fail_status("snapshot", status);
}

// ---- ... to here ----------------------------------------------------------

// ---- What came of it ------------------------------------------------------

// Through another handle, a synchronous one, in other pieces than it was
// written, and against the file itself.
static bool read_back(const struct job *job)
{
    DISK_GEOMETRY geometry;
    HANDLE disk;
    NTSTATUS status = nt_open_disk(job->disk, FILE_READ_DATA,
                                   FILE_SYNCHRONOUS_IO_NONALERT, &disk,
                                   &geometry);
    uint8_t *bytes = nt_allocate_pages(CHUNK);
    if (!bytes)
        return fail("no memory to read it back");
    for (uint64_t at = 0; NT_SUCCESS(status) && at < job->total;) {
        uint64_t left = job->total - at;
        uint32_t wanted = left < CHUNK ? (uint32_t)left : CHUNK;
        uint32_t done = 0;
        status = nt_read(disk, bytes, wanted, job->offset + at, &done);
        if (NT_SUCCESS(status) && done != wanted)
            return fail("read back %u bytes instead of %u", done, wanted);
        for (uint32_t i = 0; i < done; i++) {
            if (bytes[i] != expected(job, at + i))
                return fail("byte %lu of the disk is 0x%02x and should be"
                            " 0x%02x", job->offset + at + i, bytes[i],
                            expected(job, at + i));
        }
        at += done;
    }
    return NT_SUCCESS(status) || fail_status("reading back", status);
}

static uint32_t count_irps(const SYSTEM_SNAPSHOT *snapshot, uint32_t process)
{
    const SNAPSHOT_IRP *irps = rtl_snapshot_irps(snapshot);
    uint32_t count = 0;
    for (uint32_t i = 0; i < snapshot->Irps; i++)
        count += irps[i].ProcessId == process;
    return count;
}

static void conclude(const struct job *job, unsigned halted)
{
    char number[RTL_GROUPED_SIZE];
    uint32_t self = (uint32_t)NtCurrentPeb()->ClientId.UniqueProcess;
    uint32_t flying = count_irps(job->snapshot, self);
    uint32_t others = rtl_threads_on_io(job->snapshot, 0);
    rtl_print_title("What you have just seen");
    if (flying == 0 || rtl_threads_on_io(job->snapshot, self) > 0) {
        printf(flying == 0
                   ? "  The disk was faster than the picture: no write was in"
                     " flight any more when it\n  was taken. A slower disk"
                     " shows more; `make run` slows it down.\n"
                   : "  Threads were working on an I/O when the picture was"
                     " taken; see above whose.\n");
        return;
    }
    printf("  One thread handed over %s bytes in %lu call%s.\n"
           "  With %u write%s in flight no thread worked on %s, and for"
           " %u.%u %% of the\n  whole time no processor executed a single"
           " instruction.\n\n", rtl_grouped(job->total, number), job->writes,
           job->writes == 1 ? " and did not wait in it"
                            : "s and waited in none",
           flying, flying == 1 ? "" : "s",
           others ? "them (other programs wait in\n  requests of their own)"
                  : "I/O",
           halted / 10, halted % 10);
    printf("  A write in flight is an entry in a queue, then the disk's own"
           " business. At its\n  end an interrupt borrowed a processor, and"
           " then a thread to store the status,\n  for some microseconds. Who"
           " waited for the disk? There was no thread.\n");
}

int main(int argc, char **argv)
{
    static struct job job = { .size = DEFAULT_SIZE, .any_disk = true };
    char number[2][RTL_GROUPED_SIZE];
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        printf("%s", usage);
        return 0;
    }
    if (!parse_arguments(&job, argc, argv))
        return 2;
    if (!load_file(&job) || !open_disk(&job) || !check_range(&job) ||
        !get_memory(&job) || !bind_port(&job))
        return 1;

    printf("%s goes to \\\\.\\PhysicalDrive%u, from byte %s on:\n"
           "%s bytes, %lu %s write%s, all at once, %s.\n"
           "Nothing more is printed until the last one is done ...\n",
           job.name, job.disk, rtl_grouped(job.offset, number[0]),
           rtl_grouped(job.total, number[1]), job.writes,
           job.threads ? "synchronous" : "asynchronous",
           job.writes == 1 ? "" : "s",
           job.threads ? "each from a thread that waits" : "from one thread");
    if (!run(&job))
        return 1;
    printf("... after %s us.\n",
           rtl_grouped(rtl_ticks_to_us(job.ended - job.started), number[0]));
    unsigned halted = rtl_print_run(&job.trace, job.snapshot, job.roads,
                                    job.writes, job.started, job.ended);

    rtl_print_cost(&job.cost, &job.trace, job.writes);
    rtl_print_title("Is it on the disk?");
    if (!read_back(&job))
        return 1;
    printf("  Yes: read back, all %s bytes are as they should be.\n",
           rtl_grouped(job.total, number[0]));
    conclude(&job, halted);
    return 0;
}
