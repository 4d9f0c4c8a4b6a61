; entry.asm - from either boot loader to 64-bit C.
;
; GRUB (multiboot2) and `qemu -kernel` (PVH) both enter here in 32-bit
; protected mode without paging. All of this lies at 1 MiB, where its physical
; address is its own; mm frees it when the kernel no longer needs it. The page
; tables are data: there is nothing in them that the assembler does not know.
; The kernel's own GDT and segments follow as the first thing in C.

extern kernel_main

MULTIBOOT2_HEADER equ 0xE85250D6
XEN_NOTE_ENTRY    equ 18            ; XEN_ELFNOTE_PHYS32_ENTRY
MAGIC_PVH         equ 0x336EC578    ; PVH in boot.c

CPUID_EXTENDED    equ 0x80000000
CPUID_FEATURES    equ 0x80000001
FEATURE_LM        equ 1 << 29       ; EDX of CPUID_FEATURES
CR0_LONG_MODE     equ 0x80010033    ; PG, WP, NE, ET, MP, PE
CR4_PAE           equ 1 << 5
MSR_EFER          equ 0xC0000080
EFER_LME          equ 1 << 8

CODE64            equ 0x08
DESCRIPTOR_CODE64 equ 0x00AF9A000000FFFF

PAGE              equ 4096
TABLE             equ 0x03          ; present, writable
LARGE             equ 0x83          ; and a page of 2 MiB
LARGE_SHIFT       equ 21
STACK_SIZE        equ 4 * PAGE

COM1_DATA         equ 0x3F8
COM1_STATUS       equ 0x3FD
COM1_READY        equ 0x20
EXIT_PORT         equ 0xF4
EXIT_BUGCHECK     equ 0x12

; ---- What the loaders look for ----------------------------------------------

section .boot.header progbits alloc noexec nowrite align=8
header:
    dd MULTIBOOT2_HEADER, 0, header_end - header
    dd 0x100000000 - (MULTIBOOT2_HEADER + (header_end - header))
    dd 0, 8                         ; the end tag
header_end:

section .note.pvh note alloc noexec nowrite align=4
    dd 4, 8, XEN_NOTE_ENTRY
    db "Xen", 0
    dq boot_pvh_entry

; ---- 32 bits ----------------------------------------------------------------

section .boot.text progbits alloc exec nowrite align=16
bits 32

; void boot_pvh_entry(void): QEMU jumps here; EBX = physical hvm_start_info.
; No stack; does not return.
global boot_pvh_entry
boot_pvh_entry:
    mov eax, MAGIC_PVH

; void boot_multiboot2_entry(void): GRUB jumps here; EAX = its magic, EBX =
; physical boot information. No stack; does not return.
global boot_multiboot2_entry
boot_multiboot2_entry:
    cli
    cld
    mov edi, eax                    ; the two arguments of kernel_main
    mov esi, ebx

    ; The rest that the kernel needs is tested by boot_read_loader.
    mov eax, CPUID_EXTENDED
    cpuid
    cmp eax, CPUID_FEATURES
    jb no_long_mode
    mov eax, CPUID_FEATURES
    cpuid
    test edx, FEATURE_LM
    jz no_long_mode

    mov eax, CR4_PAE
    mov cr4, eax
    mov eax, pml4
    mov cr3, eax
    mov ecx, MSR_EFER
    rdmsr
    or eax, EFER_LME
    wrmsr
    mov eax, CR0_LONG_MODE
    mov cr0, eax
    lgdt [gdt_pointer]
    jmp CODE64:enter64

; Says on COM1 that this is no 64-bit processor, and leaves QEMU. No stack.
no_long_mode:
    mov esi, no_long_mode_text
.next:
    mov edx, COM1_STATUS
.wait:
    in al, dx
    test al, COM1_READY
    jz .wait
    mov edx, COM1_DATA
    outsb
    cmp byte [esi], 0
    jne .next
    mov al, EXIT_BUGCHECK
    out EXIT_PORT, al
.halt:
    hlt
    jmp .halt

; ---- 64 bits ----------------------------------------------------------------

bits 64

; Reached from 32-bit code with EDI = magic, ESI = info; leaves for the higher
; half, with a stack that stays.
enter64:
    mov rsp, boot_stack_end
    xor ebp, ebp                    ; a backtrace ends here
    mov rax, kernel_main
    call rax

; ---- Data at 1 MiB ----------------------------------------------------------

section .boot.data progbits alloc noexec write align=4096

; The first 4 GiB at address 0, at MM_DIRECT_MAP (entry 256) and, where nobody
; uses them, 512 GiB below the end: all by one table, in which the first of them
; comes again 2 GiB below its end, where the kernel is linked.
pml4:
    dq pdpt + TABLE
    times 255 dq 0
    dq pdpt + TABLE
    times 254 dq 0
    dq pdpt + TABLE
pdpt:
    dq directories + TABLE, directories + PAGE + TABLE
    dq directories + 2 * PAGE + TABLE, directories + 3 * PAGE + TABLE
    times 506 dq 0
    dq directories + TABLE, 0
directories:
%assign i 0
%rep 4 * 512
    dq (i << LARGE_SHIFT) | LARGE
%assign i i + 1
%endrep

gdt:
    dq 0, DESCRIPTOR_CODE64
gdt_pointer:
    dw gdt_pointer - gdt - 1
    dq gdt

no_long_mode_text:
    db "TINT cannot start: no processor with 64 bits (long mode)"
    db 13, 10, 0

; ---- The kernel's half ------------------------------------------------------

section .bss nobits alloc noexec write align=4096

; The stack that kernel_main runs on.
    resb STACK_SIZE
boot_stack_end:
