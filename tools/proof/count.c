// count.c - a plugin for QEMU's TCG: how many instructions each processor has
// executed, said when it halts and when it goes on.
//
// It is the second witness of `make proof`: it hangs a call into every block of
// guest code that QEMU translates, whatever its address, and so has no filter
// that something could slip through. Its lines go into QEMU's log (-d plugin),
// between those of the first witness:
//
//   count: idle CPU INSTRUCTIONS SECONDS      (seconds since 1970)
//   count: resume CPU INSTRUCTIONS SECONDS
//
// An instruction is counted when its block begins.

#include "tests/bench/plugin.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id,
                                      const qemu_info_t *info, int argc,
                                      char **argv);

enum { MOST_CPUS = 64 };
static uint64_t executed[MOST_CPUS];    // each is written by its CPU alone

static void on_executed(unsigned cpu, void *data)
{
    if (cpu < MOST_CPUS)
        executed[cpu] += (uintptr_t)data;
}

static void on_translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_cb(tb, on_executed,
                                         QEMU_PLUGIN_CB_NO_REGS,
                                         (void *)qemu_plugin_tb_n_insns(tb));
}

static void say(const char *what, unsigned cpu)
{
    char line[96];
    struct timespec now;
    if (cpu >= MOST_CPUS)
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    snprintf(line, sizeof(line), "count: %s %u %" PRIu64 " %lld.%06ld\n", what,
             cpu, executed[cpu], (long long)now.tv_sec, now.tv_nsec / 1000);
    qemu_plugin_outs(line);
}

static void on_idle(qemu_plugin_id_t id, unsigned cpu)
{
    (void)id;
    say("idle", cpu);
}

static void on_resume(qemu_plugin_id_t id, unsigned cpu)
{
    (void)id;
    say("resume", cpu);
}

int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc,
                        char **argv)
{
    (void)info, (void)argc, (void)argv;
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translated);
    qemu_plugin_register_vcpu_idle_cb(id, on_idle);
    qemu_plugin_register_vcpu_resume_cb(id, on_resume);
    return 0;
}
