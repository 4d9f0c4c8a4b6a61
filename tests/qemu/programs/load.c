// load.c - many writes of random sizes to random places, all checked:
//
//     load DISK WRITES DEPTH THREADS SEED [trace]
//
// DEPTH writes are in flight, each in a slot with a part of the disk to itself:
// so what lies on the disk in the end depends on the seed alone, however the
// writes overtake each other. THREADS threads take the packets from one port,
// each with a handle of its own for the writes it sends; whoever takes a slot's
// packet sends the slot's next write. tests/harness/load.py knows from the seed
// what must be on the disk. With trace, one thread counts what the kernel says
// it did.

#include <measure.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR       512u
#define WORDS        (SECTOR / 8)
#define MOST_BYTES   (64u << 20)    // of all buffers
#define MOST_SECTORS 128u           // of one write
#define MOST_THREADS 64
#define TAKE         16
#define STACK_SIZE   (64u << 10)
#define GOLDEN       0x9E3779B97F4A7C15u
#define DRAIN_EVERY  32             // packets, well before a ring overflows

struct slot {
    IO_STATUS_BLOCK iosb;
    uint64_t state;         // of its random numbers
    uint32_t number;
    uint32_t left;          // writes still to be sent
    uint32_t sectors;       // of the write in flight
    bool in_flight;
};

static struct {
    uint64_t writes, seed;
    uint32_t disk, depth, threads;
    uint32_t part, most;    // sectors of a slot's part, and of one write
    bool tracing;

    HANDLE port;
    struct slot *slots;
    uint64_t *buffers;      // most sectors for each slot
    uint64_t done;          // packets
    NTSTATUS failed;
    const char *failure;
    struct rtl_trace trace;
} load;

struct worker {
    HANDLE thread, disk;
    uint32_t index;
};

// The first failure counts.
static bool fail(const char *what, NTSTATUS status)
{
    const char *none = NULL;
    if (__atomic_compare_exchange_n(&load.failure, &none, what, false,
                                    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        load.failed = status;
    return false;
}

// Vigna's splitmix64.
static uint64_t next_random(uint64_t *state)
{
    uint64_t x = *state += GOLDEN;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
}

// Sends the slot's next write, from memory that begins anywhere in a page.
static bool send(const struct worker *worker, struct slot *slot)
{
    uint64_t r = next_random(&slot->state);
    uint64_t *words = load.buffers +
                      (size_t)slot->number * load.most * WORDS;
    slot->sectors = 1 + (uint32_t)r % load.most;
    uint64_t first = (uint64_t)slot->number * load.part +
                     (r >> 32) % (load.part - slot->sectors + 1);
    for (uint32_t i = 0; i < slot->sectors; i++) {
        uint64_t word = next_random(&slot->state);
        for (uint32_t j = 0; j < WORDS; j++)
            words[i * WORDS + j] = word += GOLDEN;
    }
    slot->left--;
    slot->iosb = (IO_STATUS_BLOCK){ .Pointer = (void *)STATUS_PENDING };
    if (__atomic_exchange_n(&slot->in_flight, true, __ATOMIC_SEQ_CST))
        return fail("a slot was busy", STATUS_INTERNAL_ERROR);
    NTSTATUS status = NtWriteFile(worker->disk, NULL, NULL, slot, &slot->iosb,
                                  words, slot->sectors * SECTOR,
                                  first * SECTOR);
    return status == STATUS_PENDING || fail("a write was refused", status);
}

static bool check(struct slot *slot, const IO_STATUS_BLOCK *told)
{
    if (!__atomic_exchange_n(&slot->in_flight, false, __ATOMIC_SEQ_CST))
        return fail("a write completed twice", STATUS_INTERNAL_ERROR);
    if (!NT_SUCCESS(told->Status))
        return fail("a write failed", told->Status);
    if (told->Information != slot->sectors * SECTOR ||
        slot->iosb.Information != told->Information ||
        slot->iosb.Status != told->Status)
        return fail("packet and status block differ", slot->iosb.Status);
    return true;
}

// One packet was the last: the others wait in vain, but for this.
static void send_home(uint32_t threads)
{
    for (uint32_t i = 0; i < threads; i++)
        NtSetIoCompletion(load.port, NULL, NULL, STATUS_SUCCESS, 0);
}

static void handle(const struct worker *worker, struct slot *slot,
                   const FILE_IO_COMPLETION_INFORMATION *entry)
{
    uint64_t done = __atomic_add_fetch(&load.done, 1, __ATOMIC_SEQ_CST);
    bool good = check(slot, &entry->IoStatusBlock) &&
                (!slot->left || send(worker, slot));
    if (load.tracing && done % DRAIN_EVERY == 0)
        rtl_trace_drain(&load.trace);
    if (!good || done == load.writes)
        send_home(load.threads);
}

static NTSTATUS work(void *argument)
{
    const struct worker *worker = argument;
    FILE_IO_COMPLETION_INFORMATION entries[TAKE];
    for (uint32_t i = worker->index; i < load.depth; i += load.threads) {
        if (load.slots[i].left && !send(worker, &load.slots[i]))
            send_home(load.threads);
        if (load.tracing && i % DRAIN_EVERY == 0)
            rtl_trace_drain(&load.trace);
    }
    for (uint32_t calls_home = 0; !calls_home;) {
        uint32_t count = 0;
        NTSTATUS status = NtRemoveIoCompletionEx(
            load.port, entries, 1 + worker->index * 2 % TAKE, &count, NULL,
            false);
        if (status != STATUS_SUCCESS) {
            fail("nothing comes from the port", status);
            return status;
        }
        for (uint32_t i = 0; i < count; i++)
            if (entries[i].ApcContext)
                handle(worker, entries[i].ApcContext, &entries[i]);
            else
                calls_home++;
        if (calls_home > 1)    // the others' came along
            send_home(calls_home - 1);
    }
    return STATUS_SUCCESS;
}

// ---- Before and after -----------------------------------------------------

static bool get_ready(void)
{
    DISK_GEOMETRY geometry;
    HANDLE disk;
    NTSTATUS status = nt_open_disk(load.disk, FILE_WRITE_DATA, 0, &disk,
                                   &geometry);
    if (NT_SUCCESS(status))
        status = NtCreateIoCompletion(&load.port, ALL_ACCESS, NULL, 0);
    if (!NT_SUCCESS(status))
        return fail("disk or port", status);
    NtClose(disk);
    load.part = (uint32_t)(geometry.DiskSize / SECTOR / load.depth);
    load.most = MOST_BYTES / SECTOR / load.depth;
    if (load.most > MOST_SECTORS)
        load.most = MOST_SECTORS;
    if (load.most > load.part)
        load.most = load.part;
    if (load.most == 0)
        return fail("the disk is too small", STATUS_INVALID_PARAMETER);
    load.slots = nt_allocate_pages(load.depth * sizeof(*load.slots));
    load.buffers = nt_allocate_pages((size_t)load.depth * load.most * SECTOR);
    if (!load.slots || !load.buffers)
        return fail("memory", STATUS_NO_MEMORY);
    for (uint32_t i = 0; i < load.depth; i++) {
        uint64_t state = load.seed + i;
        load.slots[i].number = i;
        load.slots[i].state = next_random(&state);
        load.slots[i].left = (uint32_t)(load.writes / load.depth +
                                        (i < load.writes % load.depth));
    }
    return true;
}

static NTSTATUS start(struct worker *worker, uint32_t index)
{
    DISK_GEOMETRY geometry;
    IO_STATUS_BLOCK iosb;
    worker->index = index;
    NTSTATUS status = nt_open_disk(load.disk, FILE_WRITE_DATA, 0,
                                   &worker->disk, &geometry);
    FILE_COMPLETION_INFORMATION completion = { .Port = load.port };
    if (NT_SUCCESS(status))
        status = NtSetInformationFile(worker->disk, &iosb, &completion,
                                      sizeof(completion),
                                      FileCompletionInformation);
    if (NT_SUCCESS(status) && index > 0)
        status = NtCreateThreadEx(&worker->thread, ALL_ACCESS, NULL,
                                  NtCurrentProcess(), work, worker, 0,
                                  STACK_SIZE);
    return status;
}

// All threads are home: only their leave may still lie in the port.
static void look_for_more(void)
{
    const int64_t now = 0;
    FILE_IO_COMPLETION_INFORMATION entry;
    uint32_t count;
    while (NtRemoveIoCompletionEx(load.port, &entry, 1, &count, &now, false) ==
           STATUS_SUCCESS)
        if (entry.ApcContext)
            fail("one packet too many", STATUS_INTERNAL_ERROR);
    for (uint32_t i = 0; i < load.depth; i++)
        if (load.slots[i].in_flight || load.slots[i].left)
            fail("a write never ended", STATUS_INTERNAL_ERROR);
}

static void print_trace(const struct rtl_counts *before)
{
    uint64_t codes[TRACE_EVENTS] = { 0 }, vectors[256] = { 0 };
    struct rtl_counts now;
    rtl_trace_end(&load.trace);
    rtl_read_counts(&now);
    for (uint32_t i = 0; i < load.trace.processors; i++)
        for (size_t j = 0; j < load.trace.rings[i].count; j++) {
            const TRACE_RECORD *record = &load.trace.rings[i].records[j];
            uint32_t code = TRACE_CODE(record->Event);
            if (code == TRACE_IRP_COMPLETE && TRACE_IRQL(record->Event) < 2)
                continue;    // completed in the call: no write
            codes[code]++;
            if (code == TRACE_ISR_IN)
                vectors[record->Id & 0xFF]++;
        }
    printf("trace: lost=%lu dma=%lu complete=%lu insert=%lu remove=%lu"
           " dpcs=%lu interrupts=%lu\n", load.trace.lost,
           codes[TRACE_DMA_START], codes[TRACE_IRP_COMPLETE],
           codes[TRACE_PORT_INSERT], codes[TRACE_PORT_REMOVE],
           now.dpcs - before->dpcs, now.interrupts - before->interrupts);
    for (int i = 0; i < 256; i++)
        if (vectors[i])
            printf("trace: vector=0x%02x count=%lu\n", (unsigned)i, vectors[i]);
}

static bool parse(int argc, char **argv)
{
    uint64_t numbers[5];
    for (int i = 0; i < 5; i++)
        if (argc <= i + 1 || !rtl_parse_number(argv[i + 1], &numbers[i]))
            return false;
    load.disk = (uint32_t)numbers[0];
    load.writes = numbers[1];
    load.depth = (uint32_t)numbers[2];
    load.threads = (uint32_t)numbers[3];
    load.seed = numbers[4];
    load.tracing = argc > 6;
    return load.writes && load.depth && load.threads &&
           load.threads <= MOST_THREADS;
}

static void run(void)
{
    static struct worker workers[MOST_THREADS];
    NTSTATUS status = STATUS_SUCCESS;
    uint32_t started = 0;
    for (; started < load.threads && NT_SUCCESS(status); started++)
        status = start(&workers[started], started);
    if (!NT_SUCCESS(status)) {
        fail("a thread or its handle", status);
        load.threads = started;
        send_home(load.threads);
    } else {
        work(&workers[0]);
    }
    for (uint32_t i = 0; i < started; i++) {
        if (workers[i].thread)
            NtWaitForSingleObject(workers[i].thread, false, NULL);
        if (workers[i].disk)
            NtClose(workers[i].disk);
    }
}

int main(int argc, char **argv)
{
    struct rtl_counts before;
    char text[RTL_STATUS_SIZE];
    if (!parse(argc, argv))
        return 2;
    bool ready = get_ready();
    rtl_read_counts(&before);
    if (ready && load.tracing &&
        !NT_SUCCESS(rtl_trace_begin(&load.trace, 1u << TRACE_PORT_INSERT)))
        ready = fail("no trace", STATUS_UNSUCCESSFUL);
    if (ready) {
        run();
        if (!load.failure)
            look_for_more();
    }
    if (load.failure) {
        printf("load: %s: %s\n", load.failure,
               rtl_status_text(load.failed, text));
        return 1;
    }
    if (load.tracing)
        print_trace(&before);
    printf("load: %lu writes, %lu packets\n", load.writes, load.done);
    return 0;
}
