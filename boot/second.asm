; second.asm - from a start-up interrupt to 64-bit C, for the other processors.
;
; main.c copies this below 1 MiB, where such an interrupt can lead, fills in the
; parameters at the end, and sends it. The page tables that they name map that
; page at its own address; they, and it, are needed only for these lines.

MSR_EFER        equ 0xC0000080
EFER_LME_NX     equ 1 << 8 | 1 << 11
CR0_LONG_MODE   equ 0x80010033          ; PG, WP, NE, ET, MP, PE
CR4_PAE         equ 1 << 5
CODE64          equ 0x08
DESCRIPTOR_CODE64 equ 0x00AF9A000000FFFF
PAGE            equ 0x10000             ; BOOT_SECOND_PAGE in nt.h

%define AT(label) (PAGE + label - boot_second_start)

section .rodata
global boot_second_start, boot_second_parameters, boot_second_end

; void boot_second_start(void): in real mode, CS = PAGE / 16, IP = 0; no stack;
; does not return. Goes to 64 bits in one step, by the parameters' page tables.
bits 16
boot_second_start:
    cli
    mov ax, cs
    mov ds, ax
    lgdt [gdt_pointer - boot_second_start]
    mov eax, CR4_PAE
    mov cr4, eax
    mov eax, [boot_second_parameters - boot_second_start]
    mov cr3, eax
    mov ecx, MSR_EFER
    rdmsr
    or eax, EFER_LME_NX
    wrmsr
    mov eax, CR0_LONG_MODE
    mov cr0, eax
    jmp dword CODE64:AT(enter64)

bits 64
enter64:
    mov rsp, [abs AT(boot_second_parameters) + 8]
    mov rdi, [abs AT(boot_second_parameters) + 16]
    xor ebp, ebp                        ; a backtrace ends here
    call [abs AT(boot_second_parameters) + 24]

align 8
gdt:
    dq 0, DESCRIPTOR_CODE64
gdt_pointer:
    dw gdt_pointer - gdt - 1
    dd AT(gdt)

align 8
boot_second_parameters:                 ; boot_parameters in nt.h
    dq 0, 0, 0, 0
boot_second_end:
