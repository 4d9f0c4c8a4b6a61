// ut_gates.c - instructions that ring 3 must not execute, memory that it must
// not touch, places where it must not jump.
// cpus: 1
// cpus: 1 qemu64
// cpus: 4
//
// Each is a few bytes of code which a process of its own executes: it must end
// with the status that names the fault. Meanwhile a neighbour works on.

#include "tests/user/neighbour.h"

#define SURVIVED 200    // the code came back
#define PAGE     4096u

#define AV   STATUS_ACCESS_VIOLATION
#define PRIV STATUS_PRIVILEGED_INSTRUCTION
#define ILL  STATUS_ILLEGAL_INSTRUCTION

// The code finds an address in rsi, a page that it may use in rdi, 0 in rdx
// and rcx, and the address of what comes behind it in rbx.
struct gate {
    const char *name, *code;
    uint64_t address;
    NTSTATUS status;
};

static const struct gate gates[] = {
    { "nothing", "90", 0, SURVIVED },
    { "hlt", "F4", 0, PRIV },
    { "cli", "FA", 0, PRIV },
    { "sti", "FB", 0, PRIV },
    { "in al, 0x60", "E460", 0, PRIV },
    { "in eax, 0x60", "E560", 0, PRIV },
    { "out 0xf4, al", "E6F4", 0, PRIV },
    { "out 0xf4, eax", "E7F4", 0, PRIV },
    { "in al, dx", "EC", 0, PRIV },
    { "in ax, dx", "66ED", 0, PRIV },
    { "out dx, al", "EE", 0, PRIV },
    { "out dx, eax", "EF", 0, PRIV },
    { "insb", "6C", 0, PRIV },
    { "outsd", "6F", 0, PRIV },
    { "rep insb", "F36C", 0, PRIV },
    { "rep outsb", "F36E", 0, PRIV },
    { "mov rax, cr0", "0F20C0", 0, PRIV },
    { "mov rax, cr2", "0F20D0", 0, PRIV },
    { "mov rax, cr3", "0F20D8", 0, PRIV },
    { "mov rax, cr4", "0F20E0", 0, PRIV },
    { "mov rax, cr8", "440F20C0", 0, PRIV },
    { "mov cr0, rax", "0F22C0", 0, PRIV },
    { "mov cr2, rax", "0F22D0", 0, PRIV },
    { "mov cr3, rax", "0F22D8", 0, PRIV },
    { "mov cr4, rax", "0F22E0", 0, PRIV },
    { "mov cr8, rax", "440F22C0", 0, PRIV },
    { "mov rax, dr0", "0F21C0", 0, PRIV },
    { "mov rax, dr7", "0F21F8", 0, PRIV },
    { "mov dr0, rax", "0F23C0", 0, PRIV },
    { "mov dr7, rax", "0F23F8", 0, PRIV },
    { "lgdt [rdi]", "0F0117", 0, PRIV },
    { "lidt [rdi]", "0F011F", 0, PRIV },
    { "lldt ax", "0F00D0", 0, PRIV },
    { "ltr ax", "0F00D8", 0, PRIV },
    { "lmsw ax", "0F01F0", 0, PRIV },
    { "clts", "0F06", 0, PRIV },
    { "invlpg [rdi]", "0F013F", 0, PRIV },
    { "swapgs", "0F01F8", 0, PRIV },
    { "sysretd", "0F07", 0, PRIV },
    { "sysretq", "480F07", 0, PRIV },
    { "rdmsr", "0F32", 0, PRIV },
    { "wrmsr", "0F30", 0, PRIV },
    { "rdpmc", "0F33", 0, PRIV },
    { "sysenter", "0F34", 0, ILL },
    { "sysexit", "0F35", 0, ILL },
    { "rsm", "0FAA", 0, ILL },
    { "monitor", "0F01C8", 0, ILL },
    { "vmcall", "0F01C1", 0, ILL },
    { "vmrun", "0F01D8", 0, ILL },
    { "vmmcall", "0F01D9", 0, ILL },
    { "stgi", "0F01DC", 0, ILL },
    { "clgi", "0F01DD", 0, ILL },
    { "skinit", "0F01DE", 0, ILL },
    { "xgetbv", "0F01D0", 0, ILL },
    { "rdfsbase rax", "F3480FAEC0", 0, ILL },
    { "wrfsbase rax", "F3480FAED0", 0, ILL },
    { "wrgsbase rax", "F3480FAED8", 0, ILL },
    { "rdpkru", "0F01EE", 0, ILL },
    { "far call", "9A00000000", 0, ILL },
    { "ud2", "0F0B", 0, ILL },
    { "too many prefixes", "66666666666666666666666666666690", 0, AV },
    { "cpuid", "530FA25B", 0, SURVIVED },
    { "rdtsc", "0F31", 0, SURVIVED },
    { "lar rax, rdx", "0F02C2", 0, SURVIVED },
    { "verw dx", "0F00EA", 0, SURVIVED },
    { "int3", "CC", 0, STATUS_BREAKPOINT },
    { "div rdx", "48F7F2", 0, STATUS_INTEGER_DIVIDE_BY_ZERO },
    // popf: TF, and one more instruction; IF, IOPL, VM and the like are not
    // ring 3's to change.
    { "TF", "9C810C24000100009D90C3", 0, STATUS_SINGLE_STEP },
    { "TF, then int3", "9C810C24000100009DCC", 0, STATUS_BREAKPOINT },
    { "TF, then syscall", "9C810C2400010000B8FFFFFFFF9D0F05C3", 0,
      STATUS_SINGLE_STEP },
    { "TF behind mov ss", "9C810C24000100008CD09D8ED00F05C3", 0,
      STATUS_SINGLE_STEP },
    { "IOPL, then cli", "9C810C24003000009DFA", 0, PRIV },
    { "VM, RF by popf", "9C810C24000003009DC3", 0, SURVIVED },
    { "NT, then iretq", "9C810C24004000009D48CF", 0, AV },
    { "retf into ring 0", "6A085348CB", 0, AV },
    { "jmp far [rdi] to 32 bits", "C7070000000066C747041B00FF2F", 0, AV },
    { "jmp far [rdi] to ring 0", "C7070000000066C747040800FF2F", 0, AV },
    { "jmp far [rdi] to the TSS", "C7070000000066C747043300FF2F", 0, AV },
    { "movaps misaligned", "0F284701", 0, AV },
    { "x87: an unmasked exception",
      "DBE366C7074003D92FD9EED9EEDEF99BDB3F", 0,
      STATUS_FLOAT_INVALID_OPERATION },
    { "x87: 1 / 0", "DBE366C7074003D92FD9E8D9EEDEF99B", 0,
      STATUS_FLOAT_DIVIDE_BY_ZERO },
    { "x87: 1 / pi, the precision not masked", "DBE366C7074003D92FD9E8D9EBDEF9"
      "9B", 0, STATUS_FLOAT_INEXACT_RESULT },
    { "x87: an exception, then a service",
      "DBE366C7074003D92FD9EED9EEDEF9B8FFFFFFFF0F05DBE2C3", 0, SURVIVED },
};

// With UMIP; without it these tell a little about the kernel.
static const struct gate umip[] = {
    { "sgdt [rdi]", "0F0107", 0, PRIV },
    { "sidt [rdi]", "0F010F", 0, PRIV },
    { "sldt eax", "0F00C0", 0, PRIV },
    { "str eax", "0F00C8", 0, PRIV },
    { "smsw eax", "0F01E0", 0, PRIV },
};

// The frame is ss, rsp, flags, cs, rip; rbx is behind the code. With SMAP all
// end with STATUS_ACCESS_VIOLATION in an older QEMU (7.2, 8.2), which reads the
// frame as ring 0 would: the first one tells which it is.
static const struct gate irets[] = {
    { "iretq", "4889E06A23506A026A2B5348CF", 0, SURVIVED },
    { "iretq, ring 0", "4889E06A10506A026A085348CF", 0, AV },
    { "iretq, cs of ring 0, rpl 3", "4889E06A23506A026A0B5348CF", 0, AV },
    { "iretq, ss of ring 0", "4889E06A13506A026A2B5348CF", 0, AV },
    { "iretq, ss NULL", "4889E06A00506A026A2B5348CF", 0, AV },
    { "iretq, cs NULL", "4889E06A23506A026A005348CF", 0, AV },
    { "iretq, cs is data", "4889E06A23506A026A235348CF", 0, AV },
    { "iretq, cs is the TSS", "4889E06A23506A026A335348CF", 0, AV },
    { "iretq, cs in the LDT", "4889E06A23506A026A0F5348CF", 0, AV },
    { "iretq, cs beyond the GDT", "4889E06A23506A026A7B5348CF", 0, AV },
    { "iretq into 32 bits, then syscall",
      "4889E06A23506A026A1B488D05030000005048CF0F05C3", 0, AV },
    { "iretq, IOPL and IF", "4889E06A23506802300000" "6A2B5348CF", 0,
      SURVIVED },
    { "iretq, NT TF", "4889E06A23506802410000" "6A2B5348CF", 0,
      STATUS_SINGLE_STEP },
    { "iretq, VIF VIP ID", "4889E06A23506802003800" "6A2B5348CF", 0,
      SURVIVED },
    { "iretq, VM RF", "4889E06A23506802000300" "6A2B5348CF", 0, SURVIVED },
    { "iretq, rip in the hole", "4889E06A23506A026A2B5648CF",
      0x0000800000000000ull, AV },
    { "iretq, rip in the kernel", "4889E06A23506A026A2B5648CF",
      0xFFFFFFFF80200000ull, AV },
    { "iretq, rsp in the hole", "6A23566A026A2B5348CF",
      0x0000800000000000ull, AV },
};

// QEMU 7.2 does not check these, or has another fault for them.
static const struct {
    struct gate gate;
    NTSTATUS other;
} unchecked[] = {
    { { "int1", "F1", 0, STATUS_SINGLE_STEP }, ILL },
    { { "AC, then a misaligned read", "9C810C24000004009D8B4701", 0,
        STATUS_DATATYPE_MISALIGNMENT }, SURVIVED },
    { { "xsetbv", "0F01D1", 0, ILL }, PRIV },
    { { "ldmxcsr, reserved bits", "C707000001000FAE17", 0, AV }, SURVIVED },
    { { "xmm: an unmasked exception", "C707000000000FAE170F57C00F5EC0", 0,
        STATUS_FLOAT_INVALID_OPERATION }, SURVIVED },
};

// QEMU 10.0 does not check these.
static const struct gate newer[] = {
    { "invd", "0F08", 0, PRIV },
    { "wbinvd", "0F09", 0, PRIV },
    { "into", "CE", 0, ILL },
};

// What a selector register may be loaded with: NULL and ring 3's data.
static const struct gate selectors[] = {
    { "mov ds", "8EDE", 0, 0 }, { "mov es", "8EC6", 0, 0 },
    { "mov fs", "8EE6", 0, 0 }, { "mov gs", "8EEE", 0, 0 },
    { "mov ss", "8ED6", 0, 0 },
};

// Ways to touch an address.
static const struct gate touches[] = {
    { "read", "488B06", 0, AV },
    { "write", "488916", 0, AV },
    { "add", "480116", 0, AV },
    { "cmpxchg16b", "4883E6F0480FC70E", 0, AV },
    { "read by string", "48AD", 0, AV },
    { "write by string", "4889F748AB", 0, AV },
    { "jmp", "FFE6", 0, AV },
    { "call", "FFD6", 0, AV },
    { "ret", "56C3", 0, AV },
    { "push", "4889F450", 0, AV },
    { "pop", "4889F458", 0, AV },
    { "call with such a stack", "4889F4FFD3", 0, AV },
    { "int3 with such a stack", "4889F4CC", 0, STATUS_BREAKPOINT },
    { "ud2 with such a stack", "4889F40F0B", 0, ILL },
    { "ud2 with such a frame", "4889F50F0B", 0, ILL },
    { "movaps", "0F2806", 0, AV },
    { "fxsave", "480FAE06", 0, AV },
    { "rep movsb", "B900200000F3A4", 0, AV },
};

static const uint64_t addresses[] = {
    0, 8, 0xFFF, 0x1000, 0xFFFFFFF0ull,
    0x00007FFFFFFF0000ull, 0x00007FFFFFFFF000ull, 0x00007FFFFFFFFFF8ull,
    0x0000800000000000ull, 0x1000000000000000ull, 0x8000000000000000ull,
    0xFFFF7FFFFFFFFFF8ull, 0xFFFF800000000000ull, 0xFFFF800000100000ull,
    0xFFFF8000FEE00020ull, 0xFFFFC00000000000ull, 0xFFFFC00000001000ull,
    0xFFFFFFFF80000000ull, 0xFFFFFFFF80200000ull, 0xFFFFFFFFFFFFF000ull,
    0xFFFFFFFFFFFFFFF0ull,
};

// ---- The victim -------------------------------------------------------------

static uint8_t hex_digit(char c)
{
    return (uint8_t)(c <= '9' ? c - '0' : c - 'A' + 10);
}

static int victim(const char *code, uint64_t address)
{
    uint8_t *page = nt_allocate_pages(PAGE), *to = page;
    void *base = page, *data = nt_allocate_pages(4 * PAGE);
    size_t size = PAGE;
    uint32_t old;
    for (; code[0]; code += 2)
        *to++ = (uint8_t)(hex_digit(code[0]) << 4 | hex_digit(code[1]));
    *to = 0xC3;    // ret
    if (!CHECK_OK(NtProtectVirtualMemory(NtCurrentProcess(), &base, &size,
                                         PAGE_EXECUTE_READ, &old)))
        return 1;
    __asm__ volatile("push %%rbp\n mov %3, %%rbx\n xor %%eax, %%eax\n"
                     "call *%2\n pop %%rbp\n"
                     "push $2\n popf"
                     : "+S"(address), "+D"(data)
                     : "r"(page), "r"(to), "d"(0), "c"(0)
                     : "rax", "rbx", "r8", "r9", "r10", "r11", "memory", "cc");
    return SURVIVED;
}

// ---- The parent -------------------------------------------------------------

// Runs the code; returns the status that its process ends with.
static NTSTATUS outcome(const char *code, uint64_t address)
{
    char digits[128], number[24];
    char *words[] = { "ut_gates", "victim", digits, number };
    snprintf(digits, sizeof(digits), "%s", code);
    snprintf(number, sizeof(number), "0x%llx", (unsigned long long)address);
    return run(4, words);
}

// That must be either status.
static void expect_either(const char *name, const char *code, uint64_t address,
                          NTSTATUS should, NTSTATUS other)
{
    char text[2][RTL_STATUS_SIZE];
    NTSTATUS status = outcome(code, address);
    ktap_checks++;
    if (status == should || status == other)
        return;
    ktap_failures++;
    printf("not ok - %s, 0x%llx: the process ended with %s, not %s\n", name,
           (unsigned long long)address, rtl_status_text(status, text[0]),
           rtl_status_text(should, text[1]));
}

static void expect(const char *name, const char *code, uint64_t address,
                   NTSTATUS should)
{
    expect_either(name, code, address, should, should);
}

#define FOR_EACH(entry, array)              \
    for (const struct gate *entry = (array); \
         entry < (array) + sizeof(array) / sizeof(*(array)); entry++)

static void instructions(void)
{
    enum { FEATURES = 7, EBX_SMAP = 1 << 20, ECX_UMIP = 1 << 2 };
    uint32_t eax = FEATURES, ebx, ecx = 0, edx;
    __asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    rule("instructions");
    FOR_EACH(gate, gates)
        expect(gate->name, gate->code, gate->address, gate->status);
    FOR_EACH(gate, umip)
        expect(gate->name, gate->code, 0,
               ecx & ECX_UMIP ? gate->status : SURVIVED);
    bool is_old = ebx & EBX_SMAP && outcome(irets[0].code, 0) == AV;
    FOR_EACH(gate, irets)
        expect(gate->name, gate->code, gate->address,
               is_old ? AV : gate->status);
    FOR_EACH(gate, newer)
        expect_either(gate->name, gate->code, 0, gate->status,
                      is_old ? gate->status : SURVIVED);
    for (size_t i = 0; i < sizeof(unchecked) / sizeof(*unchecked); i++)
        expect_either(unchecked[i].gate.name, unchecked[i].gate.code, 0,
                      unchecked[i].gate.status, unchecked[i].other);
}

static void interrupts(void)
{
    char code[12], name[16];
    for (int n = 0; n < 256; n++) {
        snprintf(code, sizeof(code), "CD%02X", n);
        snprintf(name, sizeof(name), "int 0x%02x", n);
        expect(name, code, 0, n == 3 ? STATUS_BREAKPOINT : AV);
    }
}

static void segments(void)
{
    static const uint64_t values[] = {
        0, 1, 2, 3, 7, 8, 0xB, 0xF, 0x10, 0x13, 0x18, 0x1B, 0x20, 0x22, 0x23,
        0x28, 0x2B, 0x30, 0x33, 0x38, 0x3B, 0x40, 0x7C, 0xFFFF,
    };
    FOR_EACH(gate, selectors) {
        bool is_stack = strcmp(gate->name, "mov ss") == 0;
        for (size_t j = 0; j < sizeof(values) / sizeof(*values); j++) {
            uint64_t value = values[j];
            // Ring 3's data under any RPL, its code if it can be read.
            bool good = is_stack ? value == 0x23
                                 : value < 4 || (value & ~3ull) == 0x20 ||
                                       (value & ~3ull) == 0x28;
            expect(gate->name, gate->code, value,
                   good ? SURVIVED : AV);
        }
    }
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "victim") == 0)
        return victim(argv[2], strtoull(argv[3], NULL, 0));
    neighbour beside = start_neighbour("all");
    instructions();
    interrupts();
    segments();
    FOR_EACH(touch, touches)
        for (size_t i = 0; i < sizeof(addresses) / sizeof(*addresses); i++)
            expect(touch->name, touch->code, addresses[i], touch->status);
    stop_neighbour(beside);
    return ktap_end();
}
