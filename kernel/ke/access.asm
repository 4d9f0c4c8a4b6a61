; access.asm - the loop that copies between ring 0 and ring 3.
;
; A page fault between its labels comes back as STATUS_ACCESS_VIOLATION:
; ki_trap finds the fixup by the address (ki_find_fixup in user.c).

%include "offsets.inc"

        bits    64
        default rel

        global  ki_copy_user, ki_copy_user_end, ki_copy_user_fault

%macro  SMAP    1
%%site: db      0x0F, 0x1F, 0x00
        [section .smap]
        dq      %%site, %1
        __SECT__
%endmacro

        section .smap progbits alloc noexec nowrite align=8
        section .text

; NTSTATUS ki_copy_user(void *to, const void *from, size_t length)
; One of the two is ring 3's; ke_copy_from_user and ke_copy_to_user checked
; its range. Whole words first: what ring 3 shows us is mostly small.
; IRQL:    <= APC_LEVEL
ki_copy_user:
        SMAP    0xCB010F                ; stac
        mov     rcx, rdx
        shr     rcx, 3
        jz      .bytes
.word:
        mov     rax, [rsi]
        mov     [rdi], rax
        add     rsi, 8
        add     rdi, 8
        dec     rcx
        jnz     .word
.bytes:
        and     edx, 7
        jz      .done
.byte:
        mov     al, [rsi]
        mov     [rdi], al
        inc     rsi
        inc     rdi
        dec     edx
        jnz     .byte
.done:
        xor     eax, eax
ki_copy_user_end:
        SMAP    0xCA010F                ; clac
        ret

; Where a fault between ki_copy_user and ki_copy_user_end goes on.
; IRQL:    <= APC_LEVEL
ki_copy_user_fault:
        mov     eax, ACCESS_VIOLATION
        jmp     ki_copy_user_end

        section .note.GNU-stack noalloc noexec nowrite progbits
