// dead.c - an NVMe controller that does not turn off when it is reset: it may
// still have commands, so it must not reach memory any more.
//
// QEMU's always turns off. So the driver is shown registers of our own, which
// never change, and the PCI function of the controller that is there.

#include "drivers/nvme/nvme.h"
#include "tests/kernel/ktest.h"

enum { PCI_COMMAND = 4, COMMAND_MASTER = 4, CLASS_NVM = 0x0108 };

static bool is_master(const hal_pci_function *pci)
{
    return hal_pci_read(pci, PCI_COMMAND) & COMMAND_MASTER;
}

KTEST(dead_controller_is_cut_off, "")
{
    static uint32_t registers[NVME_CSTS + 1];
    static nvme_controller controller;
    hal_pci_function *pci = &controller.pci;
    while (hal_pci_next(pci) && pci->class >> 16 != CLASS_NVM)
        continue;
    EXPECT(is_master(pci));
    registers[NVME_CSTS] = NVME_CSTS_READY;
    controller.registers = registers;
    controller.resetting = true;
    controller.ticks = UINT32_MAX - 1;    // it has had its time
    KIRQL old = KeRaiseIrqlToDpcLevel();
    nvme_timer_dpc(NULL, &controller, NULL, NULL);
    KeLowerIrql(old);
    EXPECT(!controller.resetting);
    EXPECT(!is_master(pci));
    disk_set_bus_master(pci, true);
    EXPECT(is_master(pci));
}

// A reset's failing Set Features says nothing of how many queues there are.
KTEST(dead_controller_keeps_its_queues, "")
{
    enum { QUEUES = 3, SET_QUEUES = 2, FAILED = 6 << 1 | NVME_PHASE };
    static uint32_t registers[NVME_CSTS + 1];
    static nvme_completion answers[SET_QUEUES + 1];
    static nvme_controller controller;
    answers[SET_QUEUES].status = FAILED;
    controller.registers = controller.doorbells = registers;
    controller.admin_cq = answers;
    controller.step = 2 + SET_QUEUES;
    controller.queue_count = QUEUES;
    controller.resetting = true;
    EXPECT(!NT_SUCCESS(nvme_next_step(&controller)));
    EXPECT(controller.queue_count == QUEUES);
}
