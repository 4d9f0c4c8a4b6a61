// cpu.c - one processor's tables and modes: GDT, TSS, IDT, MSRs, CR0, CR4.
//
// Everything here is written once, before the processor's first interrupt. What
// the boot processor needs is static, so that a fault at any later point finds
// its way to a bugcheck.

#include "kernel/ke/kep.h"

KPRCB *ki_processor[MAXIMUM_PROCESSORS];
uint32_t KeNumberProcessors;
ke_hooks ke_hook;

static ki_processor_block boot_block;
static KPROCESS idle_process;    // of all idle threads

// An IDT gate (Intel SDM 6.14.1): interrupt gate, present, DPL as given.
typedef struct ki_gate {
    uint16_t offset_low;
    uint16_t selector;
    uint8_t ist;
    uint8_t type;
    uint16_t offset_middle;
    uint32_t offset_high;
    uint32_t reserved;
} ki_gate;

enum { GATE_INTERRUPT = 0x8E, GATE_DPL3 = 0x60, VECTOR_BREAKPOINT = 3 };

static ki_gate idt[256];

// Segment descriptors (Intel SDM 3.4.5, 5.2.1): only type, DPL and L count.
#define GDT_KERNEL_CODE 0x00AF9B000000FFFFull
#define GDT_KERNEL_DATA 0x00CF93000000FFFFull
#define GDT_USER_DATA   0x00CFF3000000FFFFull
#define GDT_USER_CODE   0x00AFFB000000FFFFull
#define GDT_TSS         0x0000890000000000ull

struct ki_table_register {
    uint16_t limit;
    uint64_t base;
} __attribute__((packed));

static void fill_tss(KPRCB *prcb, ki_descriptors *descriptors)
{
    ki_tss *tss = &descriptors->tss;
    for (int i = 0; i < KI_IST_COUNT; i++) {
        descriptors->ist[i].owner = prcb;
        tss->ist[i] = (uint64_t)&descriptors->ist[i].owner;
    }
    tss->io_map = sizeof(ki_tss);    // none: ring 3 has no ports

    uint64_t base = (uint64_t)tss;
    descriptors->gdt[KI_TSS / 8] = GDT_TSS | (sizeof(ki_tss) - 1) |
                                   (base & 0xFFFFFFu) << 16 |
                                   (base >> 24 & 0xFFu) << 56;
    descriptors->gdt[KI_TSS / 8 + 1] = base >> 32;
}

// Fills the IDT, which all processors share.
static void fill_idt(void)
{
    static const uint8_t ist[32] = { [1] = KI_IST_DEBUG, [2] = KI_IST_NMI,
                                     [8] = KI_IST_DOUBLE_FAULT,
                                     [18] = KI_IST_MACHINE_CHECK };
    for (uint32_t vector = 0; vector < ARRAY_SIZE(idt); vector++) {
        uint64_t stub = ki_trap_stubs[vector];
        idt[vector] = (ki_gate){
            .offset_low = (uint16_t)stub,
            .selector = KI_KERNEL_CS,
            .ist = vector < ARRAY_SIZE(ist) ? ist[vector] : 0,
            .type = GATE_INTERRUPT |
                    (vector == VECTOR_BREAKPOINT ? GATE_DPL3 : 0),
            .offset_middle = (uint16_t)(stub >> 16),
            .offset_high = (uint32_t)(stub >> 32),
        };
    }
}

// Fills a processor's block; its idle thread is the code that will run there.
//
// IRQL:    any level
KPRCB *ke_prepare_processor(void *zeroed, uint32_t number, uint32_t apic_id,
                            void *dpc_stack_top)
{
    ki_processor_block *block = zeroed;
    KPRCB *prcb = &block->prcb;
    prcb->self = prcb;
    prcb->apic_id = apic_id;
    prcb->trace = &ki_trace_rings[number];
    prcb->Number = number;
    prcb->next_irp_id = number + 1;
    prcb->dpc_stack = dpc_stack_top;
    prcb->clock_deadline = KI_FOREVER;
    prcb->quantum_deadline = KI_FOREVER;
    prcb->poke_deadline = KI_FOREVER;
    prcb->timer_deadline = KI_FOREVER;
    InitializeListHead(&prcb->dpc.list);
    for (int i = 0; i < MAXIMUM_PRIORITY; i++)
        InitializeListHead(&prcb->ready[i]);
    KTHREAD *idle = &block->idle;
    ke_initialize_thread(idle, &idle_process, NULL, NULL, NULL, NULL, NULL);
    idle->Priority = idle->BasePriority = KI_IDLE_PRIORITY;
    idle->State = Running;
    idle->Affinity = 1u << number;
    idle->processor = (uint8_t)number;
    prcb->idle_thread = prcb->CurrentThread = idle;
    ki_processor[number] = prcb;
    return prcb;
}

// Loads a prepared processor's GDT, TSS, GS, IDT and the system call's
// registers; the caller runs on it.
//
// IRQL:    any level
void ki_load_processor(KPRCB *prcb)
{
    // Where sysret counts from, 32-bit code would lie: ring 3 must not get into
    // that mode, whose syscall goes where nobody has said (AMD APM 2, 6.1.1).
    static const uint64_t segments[] = {
        0, GDT_KERNEL_CODE, GDT_KERNEL_DATA, 0, GDT_USER_DATA, GDT_USER_CODE,
    };
    ki_descriptors *descriptors = &((ki_processor_block *)prcb)->descriptors;
    memcpy(descriptors->gdt, segments, sizeof(segments));
    fill_tss(prcb, descriptors);

    struct ki_table_register idtr = { sizeof(idt) - 1, (uint64_t)idt };
    struct ki_table_register gdtr = { sizeof(descriptors->gdt) - 1,
                                      (uint64_t)descriptors->gdt };
    __asm__ volatile("lidt %5\n"
                     "lgdt %0\n"
                     "pushq %1\n"
                     "leaq 1f(%%rip), %%rax\n"
                     "pushq %%rax\n"
                     "lretq\n"
                     "1: movw %2, %%ss\n"
                     "movw %3, %%ds\n"
                     "movw %3, %%es\n"
                     "movw %3, %%fs\n"
                     "movw %3, %%gs\n"
                     "ltr %4\n"
                     "lldt %3\n"    // none; after reset it lies at 0
                     ::"m"(gdtr), "i"(KI_KERNEL_CS),
                     "r"((uint16_t)KI_KERNEL_SS), "r"((uint16_t)0),
                     "r"((uint16_t)KI_TSS), "m"(idtr)
                     : "rax", "memory");

    hal_write_msr(MSR_GS_BASE, (uint64_t)prcb);
    hal_write_msr(MSR_KERNEL_GS_BASE, 0);    // ring 3's, after swapgs
    hal_write_msr(MSR_STAR, (uint64_t)(KI_USER_SS - 8) << 48 |
                            (uint64_t)KI_KERNEL_CS << 32);
    hal_write_msr(MSR_LSTAR, (uint64_t)ki_system_call);
    hal_write_msr(MSR_SFMASK, EFLAGS_IF | EFLAGS_TF | EFLAGS_DF |
                              EFLAGS_AC | EFLAGS_NT);
}

// Makes the caller's stack the idle thread of the boot processor. From here
// on a fault is a bugcheck that says where.
//
// IRQL:    any level
void ke_init_boot_processor(void)
{
    KeNumberProcessors = 1;
    ke_initialize_process(&idle_process, KI_READ_CR(3));
    fill_idt();
    ki_load_processor(ke_prepare_processor(&boot_block, 0, 0, NULL));
}

// Switches on what CPUID has of SMEP, SMAP and UMIP; NX and the system call,
// which it must have (boot.c); and SSE for ring 3. CR0 is as boot/ has set it.
// The boot processor patches the stac and clac sites, before mm_init takes away
// that the kernel's text can be written.
//
// IRQL:    any level
void ke_init_features(void)
{
    enum { CPUID_FEATURES = 7, EBX_SMEP = 1 << 7, EBX_SMAP = 1 << 20,
           ECX_UMIP = 1 << 2 };
    uint32_t eax = CPUID_FEATURES, ebx, ecx = 0, edx;
    __asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    if (ebx & EBX_SMAP && KeGetCurrentPrcb() == &boot_block.prcb)
        for (const ki_smap_site *s = ki_smap_sites; s < ki_smap_sites_end; s++)
            memcpy(s->address, &s->opcode, 3);

    uint64_t cr4 = KI_READ_CR(4) | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT;
    cr4 |= (ebx & EBX_SMEP ? CR4_SMEP : 0) | (ebx & EBX_SMAP ? CR4_SMAP : 0) |
           (ecx & ECX_UMIP ? CR4_UMIP : 0);
    KI_WRITE_CR(4, cr4);
    hal_write_msr(MSR_EFER, hal_read_msr(MSR_EFER) | EFER_SCE | EFER_NXE);
}
