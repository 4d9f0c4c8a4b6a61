// count.c - a plugin for QEMU's TCG: counts guest instructions up to markers.
//
// A marker is the NOP of user/include/measure.h. Each one that is executed
// writes a line into the log: its id, the processor, the time, and all
// counters, which begin at QEMU's start. Whoever reads the log subtracts. The
// marker itself is not counted. With more than one processor each has its own
// counters, through callbacks: adding inline is not atomic.
//
//   log=FILE       where to; needed
//   entry=ADDRESS  also a line `entry` when this address is first executed,
//                  and `user` at the first instruction of ring 3 behind it
//   mmio=on        also counts accesses to device memory; slow
//   map=on         behind each marker 3 a line for each address executed in
//                  the window; one processor only
//
// TCG counts every turn of a `rep`; the counter rep says how many turns.

#include "plugin.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    USER, KERNEL, REP, HLT, IRET, SYSCALL, PORT, SPIN, LOAD, STORE, COUNTERS
};
static const char *const names[COUNTERS] = {
    "user", "kernel", "rep", "hlt", "iret", "syscall", "port", "spin", "load",
    "store"
};

enum { MARK_OPEN = 2, MARK_CLOSE, MARK_SINGLE, MARK_SINGLE_END };
enum { MOST_CPUS = 64, MARKER_SIZE = 8, MARKER_ID = 4 };

static const uint8_t marker[MARKER_SIZE] = {
    0x0F, 0x1F, 0x84, 0x00, 0, 0x52, 0x4B, 0x4D
};

// A processor's counters, on cache lines of their own.
static struct {
    uint64_t counts[COUNTERS];
} __attribute__((aligned(128))) cpus[MOST_CPUS];
static struct qemu_plugin_scoreboard *board;    // the same, where QEMU has it

// An address and how often it was executed; kept for ever, in a hash table.
struct site {
    uint64_t address;
    uint64_t count;
    uint64_t at_open;    // count when the window was opened
};
enum { SITES = 1 << 21 };
static struct site *sites;

static FILE *out;
static struct timespec start;
static uint64_t entry;           // 0: not asked for, or already seen
static bool await_user;          // the entry was seen, ring 3 not yet
static bool several, mmio;
static volatile bool single;     // between markers 4 and 5: each hlt is logged

// ---- The log ---------------------------------------------------------------

static qemu_plugin_u64 word_of(size_t counter)
{
    return (qemu_plugin_u64){ board, counter * sizeof(uint64_t) };
}

static void note(const char *what, uint64_t value, unsigned cpu)
{
    struct timespec now;
    uint64_t sums[COUNTERS] = { 0 };
    clock_gettime(CLOCK_MONOTONIC, &now);
    for (int i = 0; i < MOST_CPUS; i++)
        for (int j = 0; j < COUNTERS; j++)
            sums[j] += cpus[i].counts[j];
    for (size_t j = 0; board && j < COUNTERS; j++)
        sums[j] += qemu_plugin_u64_sum(word_of(j));
    flockfile(out);
    fprintf(out, "%s %" PRIx64 " cpu=%u ns=%" PRId64, what, value, cpu,
            (int64_t)(now.tv_sec - start.tv_sec) * 1000000000 + now.tv_nsec -
                start.tv_nsec);
    for (int j = 0; j < COUNTERS; j++)
        fprintf(out, " %s=%" PRIu64, names[j], sums[j]);
    fputc('\n', out);
    funlockfile(out);
}

static void open_map(void)
{
    for (int i = 0; i < SITES; i++)
        sites[i].at_open = sites[i].count;
}

static void write_map(void)
{
    for (int i = 0; i < SITES; i++)
        if (sites[i].count > sites[i].at_open)
            fprintf(out, "site %" PRIx64 " count=%" PRIu64 "\n",
                    sites[i].address, sites[i].count - sites[i].at_open);
}

// ---- While the guest runs --------------------------------------------------

static void on_marker(unsigned cpu, void *context)
{
    uint64_t id = (uintptr_t)context;
    note("mark", id, cpu);
    if (id == MARK_SINGLE || id == MARK_SINGLE_END)
        single = id == MARK_SINGLE;
    if (id == MARK_OPEN && sites)
        open_map();
    if (id == MARK_CLOSE && sites)
        write_map();
    fflush(out);
}

static void on_hlt(unsigned cpu, void *context)
{
    if (single)
        note("hlt", (uintptr_t)context, cpu);
}

static void on_entry(unsigned cpu, void *context)
{
    if (entry)
        note("entry", (uintptr_t)context, cpu);
    await_user |= entry != 0;
    entry = 0;
}

static void on_user(unsigned cpu, void *context)
{
    if (await_user)
        note("user", (uintptr_t)context, cpu);
    await_user = false;
}

static void on_count(unsigned cpu, void *context)
{
    cpus[cpu % MOST_CPUS].counts[(uintptr_t)context]++;
}

static void on_site(unsigned cpu, void *context)
{
    (void)cpu;
    ((struct site *)context)->count++;
}

static void on_access(unsigned cpu, qemu_plugin_meminfo_t info,
                      uint64_t address, void *context)
{
    (void)context;
    struct qemu_plugin_hwaddr *where = qemu_plugin_get_hwaddr(info, address);
    if (where && qemu_plugin_hwaddr_is_io(where))
        on_count(cpu, (void *)(uintptr_t)(qemu_plugin_mem_is_store(info)
                                              ? STORE : LOAD));
}

// ---- While its code is translated ------------------------------------------

static void count(struct qemu_plugin_insn *insn, uintptr_t counter)
{
    if (board)
        qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(
            insn, QEMU_PLUGIN_INLINE_ADD_U64, word_of(counter), 1);
    else if (several)
        qemu_plugin_register_vcpu_insn_exec_cb(
            insn, on_count, QEMU_PLUGIN_CB_NO_REGS, (void *)counter);
    else
        qemu_plugin_register_vcpu_insn_exec_inline(
            insn, QEMU_PLUGIN_INLINE_ADD_U64, &cpus[0].counts[counter], 1);
}

static void call(struct qemu_plugin_insn *insn, plugin_execute *callback,
                 uint64_t value)
{
    qemu_plugin_register_vcpu_insn_exec_cb(
        insn, callback, QEMU_PLUGIN_CB_NO_REGS, (void *)(uintptr_t)value);
}

static void count_site(struct qemu_plugin_insn *insn, struct site *site)
{
    if (board)
        call(insn, on_site, (uintptr_t)site);
    else
        qemu_plugin_register_vcpu_insn_exec_inline(
            insn, QEMU_PLUGIN_INLINE_ADD_U64, &site->count, 1);
}

static struct site *site_of(uint64_t address)
{
    uint64_t i = address * 0x9E3779B97F4A7C15u >> 43;
    for (int tried = 0; tried < SITES; tried++, i++) {
        struct site *site = &sites[i % SITES];
        if (site->address == address || !site->address) {
            site->address = address;
            return site;
        }
    }
    fprintf(stderr, "count: more than %d addresses\n", SITES);
    abort();
}

// The instruction's bytes, in place or copied into room.
static const uint8_t *code_of(const struct qemu_plugin_insn *insn,
                              uint8_t room[PLUGIN_INSTRUCTION_SIZE])
{
    uintptr_t data = qemu_plugin_insn_data(insn, room, PLUGIN_INSTRUCTION_SIZE);
    return data <= PLUGIN_INSTRUCTION_SIZE ? room : (const uint8_t *)data;
}

static bool is_pause(const uint8_t *code, size_t size)
{
    return size == 2 && code[0] == 0xF3 && code[1] == 0x90;
}

static bool spins(const struct qemu_plugin_tb *tb)
{
    for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        uint8_t room[PLUGIN_INSTRUCTION_SIZE];
        if (is_pause(code_of(insn, room), qemu_plugin_insn_size(insn)))
            return true;
    }
    return false;
}

static bool is_string(uint8_t opcode)    // MOVS..SCAS, INS and OUTS
{
    return (opcode >= 0xA4 && opcode <= 0xA7) ||
           (opcode >= 0xAA && opcode <= 0xAF) ||
           (opcode >= 0x6C && opcode <= 0x6F);
}

static bool is_port(uint8_t opcode)      // IN, OUT, INS and OUTS
{
    return (opcode >= 0xE4 && opcode <= 0xE7) ||
           (opcode >= 0xEC && opcode <= 0xEF) ||
           (opcode >= 0x6C && opcode <= 0x6F);
}

// Looks behind the prefixes at what kind of instruction this is.
static void count_kind(struct qemu_plugin_insn *insn, const uint8_t *code,
                       uint64_t address)
{
    static const uint8_t prefixes[] = {
        0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF0, 0xF2, 0xF3
    };
    const uint8_t *end = code + qemu_plugin_insn_size(insn);
    bool repeated = false;
    for (; code < end && memchr(prefixes, *code, sizeof(prefixes)); code++)
        repeated |= *code >= 0xF2;
    if (code + 1 < end && (*code & 0xF0) == 0x40)    // REX
        code++;
    if (code == end)
        return;
    if (repeated && is_string(*code))
        count(insn, REP);
    if (is_port(*code))
        count(insn, PORT);
    if (*code == 0xCF)
        count(insn, IRET);
    if (*code == 0x0F && code + 1 < end && code[1] == 0x05)
        count(insn, SYSCALL);
    if (*code == 0xF4) {
        call(insn, on_hlt, address);
        count(insn, HLT);
    }
}

static void on_instruction(struct qemu_plugin_insn *insn, bool spin)
{
    uint8_t room[PLUGIN_INSTRUCTION_SIZE];
    const uint8_t *code = code_of(insn, room);
    uint64_t address = qemu_plugin_insn_vaddr(insn);
    bool kernel = address >> 63;
    if (qemu_plugin_insn_size(insn) == MARKER_SIZE &&
        memcmp(code, marker, MARKER_ID) == 0 &&
        memcmp(code + MARKER_ID + 1, marker + MARKER_ID + 1,
               MARKER_SIZE - MARKER_ID - 1) == 0) {
        call(insn, on_marker, code[MARKER_ID]);
        return;
    }
    if (entry && address == entry)
        call(insn, on_entry, address);
    if (await_user && !kernel && address >> 32)
        call(insn, on_user, address);
    count(insn, kernel ? KERNEL : USER);
    if (spin)
        count(insn, SPIN);
    count_kind(insn, code, address);
    if (sites)
        count_site(insn, site_of(address));
    if (mmio)
        qemu_plugin_register_vcpu_mem_cb(insn, on_access,
                                         QEMU_PLUGIN_CB_NO_REGS,
                                         QEMU_PLUGIN_MEM_RW, NULL);
}

static void on_translation(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    (void)id;
    bool spin = spins(tb);
    for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); i++)
        on_instruction(qemu_plugin_tb_get_insn(tb, i), spin);
}

static void on_end(qemu_plugin_id_t id, void *context)
{
    (void)id, (void)context;
    note("end", 0, 0);
    fclose(out);
}

// ---- Start -----------------------------------------------------------------

static bool set_option(const char *word, const qemu_info_t *info)
{
    several = info->system.smp_vcpus > 1;
    if (strncmp(word, "log=", 4) == 0)
        return (out = fopen(word + 4, "w"));
    if (strncmp(word, "entry=", 6) == 0)
        return (entry = strtoull(word + 6, NULL, 16));
    if (strcmp(word, "map=on") == 0)
        return !several && (sites = calloc(SITES, sizeof(*sites)));
    return mmio = strcmp(word, "mmio=on") == 0;
}

PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id,
                                      const qemu_info_t *info, int count,
                                      char **words)
{
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (int i = 0; i < count; i++)
        if (!set_option(words[i], info)) {
            fprintf(stderr, "count: what is %s?\n", words[i]);
            return -1;
        }
    if (!out) {
        fprintf(stderr, "count: log=FILE is missing\n");
        return -1;
    }
    if (qemu_plugin_scoreboard_new)
        board = qemu_plugin_scoreboard_new(sizeof(cpus[0].counts));
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    qemu_plugin_register_atexit_cb(id, on_end, NULL);
    return 0;
}
