; switch.asm - from one stack to another: threads, the DPC stack, halting.

        bits    64
        default rel

        extern  ki_thread_start
        global  ki_swap_context, ki_thread_startup, ki_call_on_stack
        global  ki_halt, ki_idle_hlt

        section .text

; void ki_swap_context(void **save_rsp, void *load_rsp)
; Dispatcher lock held. What C may keep in registers across a call goes on the
; stack that is left; returns on the other one.
; IRQL:    == DISPATCH_LEVEL
ki_swap_context:
        push    rbp
        push    rbx
        push    r12
        push    r13
        push    r14
        push    r15
        mov     [rdi], rsp
        mov     rsp, rsi
        pop     r15
        pop     r14
        pop     r13
        pop     r12
        pop     rbx
        pop     rbp
        ret

; The first return of a new thread's ki_swap_context comes here; r12 = start
; routine, r13 = its context (ke_initialize_thread put them on the stack).
; IRQL:    == DISPATCH_LEVEL
ki_thread_startup:
        mov     rdi, r12
        mov     rsi, r13
        xor     ebp, ebp                ; backtraces end here
        call    ki_thread_start
        ud2

; void ki_call_on_stack(void (*routine)(KPRCB *), KPRCB *prcb, void *stack)
; stack: its top, 16-aligned.
; IRQL:    any level
ki_call_on_stack:
        push    rbp
        mov     rbp, rsp
        mov     rsp, rdx
        mov     rax, rdi
        mov     rdi, rsi
        call    rax
        mov     rsp, rbp
        pop     rbp
        ret

; void ki_halt(void)
; Interrupts off on entry. sti holds them back for one more instruction, so
; none can come between the idle loop's last look and the hlt. The hlt is a
; basic block of its own: tools from outside look for its label.
; IRQL:    == PASSIVE_LEVEL
ki_halt:
        sti
ki_idle_hlt:
        hlt
        ret
