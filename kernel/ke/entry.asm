; entry.asm - how the processor enters ring 0, and how it leaves again.
;
; Interrupts and exceptions push a KTRAP_FRAME on the current thread's stack
; and call ki_trap; system calls build the same frame, but store of it only
; what they need. The last instructions before ring 3 run with interrupts off.
;
; Ring 3's memory is touched between two pairs of labels only, and in place by
; KI_TOUCH_USER (ke.h): a page fault there is a status (ki_find_fixup).

%include "offsets.inc"

        bits    64
        default rel

        extern  ki_trap, ki_fatal_trap, ki_user_exit, ki_trace_service
        extern  ki_plain_services, ke_hook
        global  ki_trap_stubs, ki_system_call, ki_return_to_user
        global  ki_save_context, ki_load_context, ki_copy_user

; A three-byte NOP that ke_init_features turns into clac or stac, where the
; processor has them: 0F 01 CA, 0F 01 CB.
%macro  SMAP    1
%%site: db      0x0F, 0x1F, 0x00
        [section .smap]
        dq      %%site, %1
        __SECT__
%endmacro
%define CLAC    SMAP 0xCA010F
%define STAC    SMAP 0xCB010F

        section .smap progbits alloc noexec nowrite align=8
        section .fixups progbits alloc noexec nowrite align=8
        dq      ki_user_args_begin, ki_user_args_end, ki_user_args_fault
        dq      ki_save_context, ki_copy_user_end, ki_copy_user_fault
        section .text

; One stub a vector: pushes an error code where the processor does not, and
; the vector. 2, 8, 18 and 1 (NMI, #DF, #MC, #DB) have stacks of their own.
%assign vector 0
%rep    256
ki_stub_ %+ vector:
%if     !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 \
         || vector == 21 || vector == 29 || vector == 30)
        push    0
%endif
        push    vector
%if     vector == 1
        jmp     ki_debug_common
%elif   vector == 2 || vector == 8 || vector == 18
        jmp     ki_fatal_common
%else
        jmp     ki_trap_common
%endif
%assign vector vector + 1
%endrep

%macro  PUSH_REGISTERS 0
        push    rax
        push    rcx
        push    rdx
        push    rsi
        push    rdi
        push    r8
        push    r9
        push    r10
        push    r11
        push    rbx
        push    rbp
        push    r12
        push    r13
        push    r14
        push    r15
%endmacro

; From the stubs; stack: vector, error code, rip, cs, rflags, rsp, ss.
ki_trap_common:
        PUSH_REGISTERS
        CLAC
        cld
        test    byte [rsp + FRAME_CS], 3
        jz      .kernel
        swapgs
.kernel:
        mov     rdi, rsp
        lea     rbp, [rsp + FRAME_RBP]  ; a backtrace goes on beyond the frame
        call    ki_trap

; Leaves by the frame at rsp; to ring 0 with interrupts off already.
ki_trap_exit:
        test    byte [rsp + FRAME_CS], 3
        jz      .kernel
        cli
        mov     rdi, rsp
        call    ki_user_exit
        swapgs
.kernel:
        pop     r15
        pop     r14
        pop     r13
        pop     r12
        pop     rbp
        pop     rbx
        pop     r11
        pop     r10
        pop     r9
        pop     r8
        pop     rdi
        pop     rsi
        pop     rdx
        pop     rcx
        pop     rax
        add     rsp, 16                 ; vector, error code
        iretq

; #DB. From ring 3 it goes on as an ordinary trap on the thread's own stack;
; in ring 0 it is fatal.
ki_debug_common:
        test    byte [rsp + 24], 3      ; cs
        jz      ki_fatal_common
        swapgs
        mov     [gs:PCR_USER_STACK], rax
        mov     rax, rsp
        mov     rsp, [gs:PCR_SERVICE_STACK]
        add     rsp, SERVICE_FRAME
        push    qword [rax + 48]        ; ss
        push    qword [rax + 40]        ; rsp
        push    qword [rax + 32]        ; rflags
        push    qword [rax + 24]        ; cs
        push    qword [rax + 16]        ; rip
        push    qword [rax + 8]         ; error code
        push    qword [rax]             ; vector
        mov     rax, [gs:PCR_USER_STACK]
        swapgs
        jmp     ki_trap_common

; NMI, #DF, #MC and #DB in ring 0, on an IST stack. They may come between any
; two instructions, swapgs included, so GS is not asked: the KPRCB's address
; lies at the top of the stack.
ki_fatal_common:
        PUSH_REGISTERS
        cld
        mov     ecx, MSR_GS
        rdmsr
        mov     ebx, eax
        mov     r12d, edx
        mov     rax, rsp
        or      rax, IST_BYTES - 1
        mov     rax, [rax - 15]         ; the last 16 bytes: KPRCB, padding
        mov     rdx, rax
        shr     rdx, 32
        wrmsr
        mov     rdi, rsp
        call    ki_fatal_trap
        mov     ecx, MSR_GS
        mov     eax, ebx
        mov     edx, r12d
        wrmsr
        jmp     ki_trap_exit.kernel

; NTSTATUS ki_system_call(a1 .. a10) - from ring 3 by `syscall`: eax = number,
; rdi, rsi, rdx, r10, r8, r9 = the first six arguments, the others on the user
; stack above the return address; rcx = rip, r11 = rflags. Interrupts are off
; (SFMASK). rbx, rbp, r12-r15 keep ring 3's values all the way down, which is
; why the slow path below can store them.
; IRQL:    == PASSIVE_LEVEL
ki_system_call:
        swapgs
        mov     [gs:PCR_USER_STACK], rsp
        mov     rsp, [gs:PCR_SERVICE_STACK]
        mov     [rsp + SERVICE_STACK_BYTES + FRAME_RIP], rcx
        mov     [rsp + SERVICE_STACK_BYTES + FRAME_EFLAGS], r11
        mov     r11, [gs:PCR_USER_STACK]
        mov     [rsp + SERVICE_STACK_BYTES + FRAME_RSP], r11
        mov     rcx, r10
        sti
        cmp     eax, [ki_plain_services]
        jae     ki_call_other
ki_call_known:
        shl     eax, 4                  ; sizeof(ke_service)
        add     rax, [ke_hook + HOOK_SERVICES]
        cmp     byte [rax + SERVICE_ON_STACK], 0
        jne     ki_call_arguments
ki_call_service:
        call    [rax]

ki_system_exit:
        cli
        cdqe                            ; a status is 32 bits
        mov     rcx, [gs:PCR_CURRENT_THREAD]
        cmp     byte [rcx + THREAD_USER_APC_PENDING], 0
        jne     .slow
        mov     rcx, [rsp + SERVICE_STACK_BYTES + FRAME_RIP]
        mov     r11, [rsp + SERVICE_STACK_BYTES + FRAME_EFLAGS]
        xor     edx, edx                ; nothing of ring 0 leaks out
        xor     esi, esi
        xor     edi, edi
        xor     r8d, r8d
        xor     r9d, r9d
        xor     r10d, r10d
        mov     rsp, [rsp + SERVICE_STACK_BYTES + FRAME_RSP]
        swapgs
        o64 sysret

; A user APC is pending: complete the frame, and leave by iretq. What ring 3
; may not see of us is 0.
.slow:
        mov     qword [rsp + SERVICE_STACK_BYTES + FRAME_CS], USER_CS
        mov     qword [rsp + SERVICE_STACK_BYTES + FRAME_SS], USER_SS
        add     rsp, SERVICE_STACK_BYTES + FRAME_VECTOR
        push    rax
%rep    8
        push    0                       ; rcx, rdx, rsi, rdi, r8-r11
%endrep
        push    rbx
        push    rbp
        push    r12
        push    r13
        push    r14
        push    r15
        jmp     ki_trap_exit

; There is no such service, or calls are traced: then none is plain.
; ki_trace_service leaves all registers alone.
ki_call_other:
        push    rdi
        mov     edi, eax
        call    ki_trace_service
        pop     rdi
        cmp     eax, [ke_hook + HOOK_SERVICE_COUNT]
        jb      ki_call_known
        mov     eax, INVALID_SERVICE
        jmp     ki_system_exit

; Copies arguments from the user stack to ours. A fault lands in
; ki_user_args_fault (ki_find_fixup).
ki_call_arguments:
        movzx   r10d, byte [rax + SERVICE_ON_STACK]
        mov     r11, USER_TOP - 64
        cmp     [rsp + SERVICE_STACK_BYTES + FRAME_RSP], r11
        ja      ki_user_args_fault
        STAC
ki_call_next:
        mov     r11, [rsp + SERVICE_STACK_BYTES + FRAME_RSP]
ki_user_args_begin:
        mov     r11, [r11 + r10 * 8]
ki_user_args_end:
        mov     [rsp + r10 * 8 - 8], r11
        dec     r10d
        jnz     ki_call_next
        CLAC
        jmp     ki_call_service

; Where a fault between ki_user_args_begin and _end goes on: the service is
; not called.
; IRQL:    == PASSIVE_LEVEL
ki_user_args_fault:
        mov     eax, ACCESS_VIOLATION
        jmp     ki_system_exit

; _Noreturn void ki_return_to_user(KTRAP_FRAME *frame)
; frame lies at the top of the thread's stack.
; IRQL:    == PASSIVE_LEVEL
ki_return_to_user:
        mov     rsp, rdi
        jmp     ki_trap_exit

; NTSTATUS ki_save_context(CONTEXT *to, const KTRAP_FRAME *from)
; With the FPU's registers, which ring 0 leaves alone; to is 16-aligned.
; IRQL:    <= APC_LEVEL
ki_save_context:
        STAC
        fxsave64 [rdi + CONTEXT_FPU]
        mov     rax, [rsi + FRAME_RIP]
        mov     rcx, [rsi + FRAME_EFLAGS]
        mov     rdx, [rsi + FRAME_RSP]
        mov     [rdi + CONTEXT_RIP], rax
        mov     [rdi + CONTEXT_EFLAGS], rcx
        mov     [rdi + CONTEXT_RSP], rdx
        mov     ecx, CONTEXT_RIP / 8    ; the general registers
        rep     movsq
        xor     eax, eax
        CLAC
        ret

; NTSTATUS ki_load_context(KTRAP_FRAME *to, const CONTEXT *from)
; All registers but rip, the FPU's included. fxrstor faults on reserved bits of
; MXCSR (Intel SDM 10.5.1.2): a status, too. The frame's rsp and flags, which
; may be the way out, are replaced when nothing can fault any more.
; IRQL:    <= APC_LEVEL
ki_load_context:
        STAC
        mov     r8, rdi
        mov     r9, rsi
        mov     ecx, CONTEXT_RIP / 8    ; the general registers
        rep     movsq
        mov     rcx, [r9 + CONTEXT_EFLAGS]
        mov     rdx, [r9 + CONTEXT_RSP]
        fxrstor64 [r9 + CONTEXT_FPU]
        mov     [r8 + FRAME_EFLAGS], rcx
        mov     [r8 + FRAME_RSP], rdx
        xor     eax, eax
        CLAC
        ret

; NTSTATUS ki_copy_user(void *to, const void *from, size_t length)
; One of the two is ring 3's; ke_copy_from_user and ke_copy_to_user checked
; its range; a bugcheck's backtrace looks for the kernel's frames by it, too.
; Whole words first: what ring 3 shows us is mostly small.
; IRQL:    any level
ki_copy_user:
        STAC
        mov     rcx, rdx
        shr     rcx, 3
        rep     movsq
        mov     ecx, edx
        and     ecx, 7
        rep     movsb
        xor     eax, eax
ki_copy_user_end:
        CLAC
        ret

; Where a fault between ki_save_context and ki_copy_user_end goes on.
; IRQL:    any level
ki_copy_user_fault:
        mov     eax, ACCESS_VIOLATION
        ret

        section .rodata
; The entry point of each vector, for the IDT.
        align   8
ki_trap_stubs:
%assign vector 0
%rep    256
        dq      ki_stub_ %+ vector
%assign vector vector + 1
%endrep
