// plugin.h - the part of QEMU's plugin interface (version 1) that count.c uses,
// and its namesake in tools/proof/.
//
// Written from QEMU's documentation (docs/devel/tcg-plugins.rst): Debian ships
// a QEMU that loads plugins, but not the header that declares this.

#ifndef TINT_BENCH_PLUGIN_H
#define TINT_BENCH_PLUGIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PLUGIN_EXPORT  __attribute__((visibility("default")))
#define PLUGIN_VERSION 1

typedef uint64_t qemu_plugin_id_t;
typedef uint32_t qemu_plugin_meminfo_t;

struct qemu_plugin_tb;      // a block of guest code that is translated at once
struct qemu_plugin_insn;    // an instruction of it
struct qemu_plugin_hwaddr;

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
// Adds value to *to, which all processors share, before the instruction.
void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *insn,
                                                enum qemu_plugin_op op,
                                                void *to, uint64_t value);
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
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);

struct qemu_plugin_hwaddr *qemu_plugin_get_hwaddr(qemu_plugin_meminfo_t info,
                                                  uint64_t address);
bool qemu_plugin_hwaddr_is_io(const struct qemu_plugin_hwaddr *address);
bool qemu_plugin_mem_is_store(qemu_plugin_meminfo_t info);

#endif
