// plugin.h - the part of QEMU's plugin interface that count.c uses, and its
// namesake in tools/proof/.
//
// Written from QEMU's documentation (docs/devel/tcg-plugins.rst): Debian ships
// a QEMU that loads plugins, but not the header that declares this. Up to QEMU
// 8.2 it is version 1. Version 2 has scoreboards instead of counters that all
// processors share, version 3 copies an instruction's bytes. A plugin finds out
// where it is when it is loaded: what that QEMU lacks has the address NULL.

#ifndef TINT_BENCH_PLUGIN_H
#define TINT_BENCH_PLUGIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PLUGIN_EXPORT __attribute__((visibility("default")))
#define PLUGIN_WEAK   __attribute__((weak))
enum { PLUGIN_INSTRUCTION_SIZE = 16 };    // at least the longest one's

typedef uint64_t qemu_plugin_id_t;
typedef uint32_t qemu_plugin_meminfo_t;

struct qemu_plugin_tb;      // a block of guest code that is translated at once
struct qemu_plugin_insn;    // an instruction of it
struct qemu_plugin_hwaddr;
struct qemu_plugin_scoreboard;

typedef struct qemu_plugin_u64 {
    struct qemu_plugin_scoreboard *score;
    size_t offset;
} qemu_plugin_u64;

typedef struct qemu_info_t {
    const char *target_name;
    struct {
        int min, cur;
    } version;
    bool system_emulation;
    struct {
        int smp_vcpus, max_vcpus;
    } system;
} qemu_info_t;

enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS };
enum qemu_plugin_mem_rw { QEMU_PLUGIN_MEM_RW = 3 };
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };

typedef void plugin_translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb);
typedef void plugin_execute(unsigned cpu, void *context);
typedef void plugin_access(unsigned cpu, qemu_plugin_meminfo_t info,
                           uint64_t address, void *context);
typedef void plugin_end(qemu_plugin_id_t id, void *context);
typedef void plugin_cpu(qemu_plugin_id_t id, unsigned cpu);

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id,
                                           plugin_translate *callback);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb,
                                          plugin_execute *callback,
                                          enum qemu_plugin_cb_flags flags,
                                          void *context);
// A processor halts, or goes on.
void qemu_plugin_register_vcpu_idle_cb(qemu_plugin_id_t id,
                                       plugin_cpu *callback);
void qemu_plugin_register_vcpu_resume_cb(qemu_plugin_id_t id,
                                         plugin_cpu *callback);
// Writes to QEMU's log (-d plugin).
void qemu_plugin_outs(const char *text);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn,
                                            plugin_execute *callback,
                                            enum qemu_plugin_cb_flags flags,
                                            void *context);
// Adds value to *to, which all processors share, before the instruction. Only
// in version 1.
PLUGIN_WEAK void
qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *insn,
                                           enum qemu_plugin_op op, void *to,
                                           uint64_t value);
// The same to a word of the processor's own entry; from version 2 on.
PLUGIN_WEAK void qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(
    struct qemu_plugin_insn *insn, enum qemu_plugin_op op, qemu_plugin_u64 to,
    uint64_t value);
// An entry of size bytes, all 0, for each processor; the sum of a word of all.
PLUGIN_WEAK struct qemu_plugin_scoreboard *
qemu_plugin_scoreboard_new(size_t size);
PLUGIN_WEAK uint64_t qemu_plugin_u64_sum(qemu_plugin_u64 word);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *insn,
                                      plugin_access *callback,
                                      enum qemu_plugin_cb_flags flags,
                                      enum qemu_plugin_mem_rw which,
                                      void *context);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id, plugin_end *callback,
                                    void *context);

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *
qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t index);
// Returns: where its bytes are; from version 3 on, how many it has copied
uintptr_t qemu_plugin_insn_data(const struct qemu_plugin_insn *insn, void *to,
                                size_t size);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);

struct qemu_plugin_hwaddr *qemu_plugin_get_hwaddr(qemu_plugin_meminfo_t info,
                                                  uint64_t address);
bool qemu_plugin_hwaddr_is_io(const struct qemu_plugin_hwaddr *address);
bool qemu_plugin_mem_is_store(qemu_plugin_meminfo_t info);

// Not called: as old as version 3, QEMU 9.1, which says by no other symbol that
// it is there.
PLUGIN_WEAK void qemu_plugin_register_vcpu_tb_exec_cond_cb(void);

// QEMU looks at it when it has loaded the plugin, and the function has run. One
// that is newer than QEMU is refused: QEMU 9.0 has version 2.
PLUGIN_EXPORT int qemu_plugin_version = 1;

__attribute__((constructor)) static void plugin_choose_version(void)
{
    if (qemu_plugin_register_vcpu_tb_exec_cond_cb)
        qemu_plugin_version = 3;
    else if (qemu_plugin_scoreboard_new)
        qemu_plugin_version = 2;
}

#endif
