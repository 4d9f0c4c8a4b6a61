; crt0.asm - where the kernel enters ring 3.
;
; An image has one entry point. rdi says why the kernel came: a new process, a
; new thread, or an APC for a thread that waited alertably. The numbers are
; NT_ENTRY_PROCESS, _THREAD and _APC of kernel/ntabi.h.

bits 64
default rel

global _start
global RtlUserThreadStart
global KiUserApcDispatcher

extern rtl_start_process
extern NtContinue
extern NtTerminateThread

NT_ENTRY_THREAD  equ 1
NT_ENTRY_APC     equ 2
CURRENT_THREAD   equ -2

section .text

; _Noreturn void _start(uint64_t reason, ...);
; The kernel jumps here. No return address on the stack, no alignment assumed.
_start:
    cmp edi, NT_ENTRY_APC
    je KiUserApcDispatcher
    xor ebp, ebp                ; the outermost frame of a backtrace
    and rsp, -16
    cmp edi, NT_ENTRY_THREAD
    je RtlUserThreadStart
    mov rdi, rsi
    call rtl_start_process      ; does not return
    ud2

; _Noreturn void RtlUserThreadStart(uint64_t reason, NTSTATUS (*start)(void *),
;                                   void *argument);
; From _start, rsp aligned: runs a thread's routine and ends the thread with
; what it returns.
RtlUserThreadStart:
    mov rdi, rdx
    call rsi
    mov esi, eax
    mov rdi, CURRENT_THREAD
    call NtTerminateThread      ; does not return
    ud2

; _Noreturn void KiUserApcDispatcher(uint64_t reason, const CONTEXT *context,
;                                    PS_APC_ROUTINE *routine, void *argument1,
;                                    void *argument2, void *argument3);
; From _start, in the thread that waited, below the CONTEXT on its own stack.
; NtContinue restores every register, so that none needs saving here.
KiUserApcDispatcher:
    mov rbx, rsi                ; survives the routine
    and rsp, -16
    mov rax, rdx
    mov rdi, rcx
    mov rsi, r8
    mov rdx, r9
    call rax
    mov rdi, rbx
    mov esi, 1                  ; test_alert: the next queued APC runs first
    call NtContinue             ; returns only if the CONTEXT was spoilt
    mov esi, eax
    mov rdi, CURRENT_THREAD
    call NtTerminateThread
    ud2

section .note.GNU-stack noalloc noexec nowrite progbits
