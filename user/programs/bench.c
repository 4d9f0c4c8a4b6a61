// bench.c - what TINT's operations cost, laid out for whoever counts.
//
// Each row does one operation many times between two markers (measure.h), and
// then prints what was done. It counts no instructions itself: a counter from
// outside does, such as tests/bench/count.c, which `make bench` loads into
// QEMU. Nothing is printed inside a window. The rows are those of `make bench`.

#include <bench.h>
#include <stdio.h>
#include <string.h>

// ---- The table ------------------------------------------------------------

static const struct bench_row rows[] = {
    { "1", "write-qd64-direct", bench_writes, 8192, 64, DIRECT_ROAD,
      "4 KiB write, 64 in flight, one call each, direct road" },
    { "1b", "write-qd64-apc", bench_writes, 8192, 64, APC_ROAD,
      "the same on the road with the APC" },
    { "1c", "write-array-64", bench_arrays, 8192, 64, DIRECT_ROAD,
      "the same, up to 64 writes a call" },
    { "2", "write-qd1-direct", bench_writes, 2048, 1, DIRECT_ROAD,
      "one write in flight, asleep meanwhile; direct road" },
    { "2b", "write-qd1-apc", bench_writes, 2048, 1, APC_ROAD,
      "the same on the road with the APC" },
    { "3", "write-qd1024", bench_writes, 16384, 1024, DIRECT_ROAD,
      "as row 1, 1,024 in flight" },
    { "3b", "write-qd10000", bench_writes, 40000, 10000, DIRECT_ROAD,
      "as row 1, 10,000 in flight: more than the disk's ring holds" },
    { "4", "single-writes", bench_single, 4, 1, ANY_ROAD,
      "single writes, for a disk of one request a second" },
    { "5", "null-call", bench_null, 20000, 0, ANY_ROAD,
      "a system call that does nothing (NtTestAlert)" },
    { "6", "port-post-take", bench_ports, 4096, 1, ANY_ROAD,
      "post to a port and take it, same thread" },
    { "7", "port-round-trip", bench_ports, 4096, 2, ANY_ROAD,
      "post to a blocked thread and back" },
    { "8", "user-apc", bench_apc, 4096, 0, ANY_ROAD,
      "user APC to oneself, alertable wait, run, return" },
    { "9", "boot-instructions", bench_outside, 0, 0, ANY_ROAD,
      "from the kernel's entry to marker 1, counted outside" },
    { "10", "boot-time", bench_outside, 0, 0, ANY_ROAD,
      "from QEMU's start to ring 3, timed outside" },
    { "11", "memory-per-write", bench_hold, 10000, 0, ANY_ROAD,
      "the kernel's memory for 10,000 writes in flight" },
    { "12", "memory-10000", bench_hold, 10000, 0, ANY_ROAD,
      "the same, for a machine with little of it" },
    { "13", "iops-null", bench_writes, 32768, 64, ANY_ROAD,
      "as row 1, for a disk that does nothing" },
    { "14", "iops-file", bench_writes, 16384, 64, ANY_ROAD,
      "as row 1, for a disk that is a file" },
    { "15", "ide-write", bench_writes, 1024, 8, ANY_ROAD,
      "4 KiB write, 8 in flight, for an IDE disk" },
    { "16", "submitter-each", bench_fleet, 8192, 64, ANY_ROAD,
      "as row 1, a submitter on each processor" },
};

#define ROWS (sizeof(rows) / sizeof(rows[0]))

static void print_usage(void)
{
    printf("usage: bench [--rows N,N...] [--n COUNT] [--disk N]"
           " [--port apc|direct]\n"
           "\n"
           "Does what each row of `make bench` measures, between markers for"
           " whoever counts\ninstructions outside. `make run` slows the disk"
           " down unless SPEED=full is said,\nand most rows are thousands of"
           " writes.\n"
           "\n"
           "  --rows N,N...      only these (all that ring 3 can do)\n"
           "  --n COUNT          operations in a window (each row's own)\n"
           "  --disk N           \\\\.\\PhysicalDriveN (the first without a"
           " volume)\n"
           "  --port apc|direct  the road of rows that say none (direct)\n"
           "\n");
    for (size_t i = 0; i < ROWS; i++)
        printf("  %-3s %s\n", rows[i].number, rows[i].text);
    printf("\nWHAT IS THERE ON THE DISK IS OVERWRITTEN.\n");
}

static const struct bench_row *find_row(const char *number, size_t length)
{
    for (size_t i = 0; i < ROWS; i++)
        if (strlen(rows[i].number) == length &&
            memcmp(rows[i].number, number, length) == 0)
            return &rows[i];
    return NULL;
}

// Fills chosen in the order of the words; returns how many, 0: an error.
static size_t choose_rows(const char *words, const struct bench_row **chosen,
                          size_t room)
{
    size_t count = 0;
    for (;;) {
        size_t length = strcspn(words, ",");
        const struct bench_row *row = find_row(words, length);
        if (!row || count == room) {
            bench_fail(row ? "--rows: too many"
                           : "--rows: there is no row '%.*s'; bench --help"
                             " names them", (int)length, words);
            return 0;
        }
        chosen[count++] = row;
        if (!words[length])
            return count;
        words += length + 1;
    }
}

static bool parse_option(struct bench *bench, const char *name,
                         const char *value, const char **list)
{
    uint64_t number = 0;
    if (!value)
        return bench_fail("%s: a word is missing behind it", name);
    if (strcmp(name, "--rows") == 0) {
        *list = value;
        return true;
    }
    if (strcmp(name, "--port") == 0) {
        bench->direct = strcmp(value, "direct") == 0;
        return bench->direct || strcmp(value, "apc") == 0 ||
               bench_fail("--port %s: it is apc or direct", value);
    }
    if (!rtl_parse_number(value, &number))
        return bench_fail("%s %s: not a number", name, value);
    if (strcmp(name, "--n") == 0) {
        bench->n = number;
        return number > 0 || bench_fail("--n 0: there is nothing to do");
    }
    bench->disk = (uint32_t)number;
    bench->any_disk = false;
    return number < 100 ||
           bench_fail("--disk %s: there is no such disk", value);
}

static bool is_option(const char *word)
{
    return strcmp(word, "--rows") == 0 || strcmp(word, "--n") == 0 ||
           strcmp(word, "--disk") == 0 || strcmp(word, "--port") == 0;
}

// The disk is only needed by some rows: without one, those say so.
static void choose_disk(struct bench *bench)
{
    DISK_GEOMETRY geometry;
    HANDLE disk;
    if (bench->any_disk &&
        NT_SUCCESS(nt_open_free_disk(&bench->disk, FILE_WRITE_DATA, 0, &disk,
                                     &geometry)))
        NtClose(disk);
}

int main(int argc, char **argv)
{
    RTL_MARK(RTL_MARK_START);
    static const struct bench_row *chosen[4 * ROWS];
    struct bench bench = { .any_disk = true, .direct = true };
    const char *list = NULL;
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        print_usage();
        return 0;
    }
    for (int i = 1; i < argc; i += 2) {
        if (!is_option(argv[i])) {
            bench_fail("%s: unknown; bench --help tells more", argv[i]);
            return 2;
        }
        if (!parse_option(&bench, argv[i], argv[i + 1], &list))
            return 2;
    }
    size_t count = ROWS;
    if (list)
        count = choose_rows(list, chosen, sizeof(chosen) / sizeof(chosen[0]));
    for (size_t i = 0; i < ROWS && !list; i++)
        chosen[i] = &rows[i];
    if (count == 0)
        return 2;
    choose_disk(&bench);
    bool good = true;
    for (size_t i = 0; i < count; i++) {
        good &= chosen[i]->run(&bench, chosen[i]);
        fflush(stdout);
    }
    return good ? 0 : 1;
}
