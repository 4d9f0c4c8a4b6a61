// offsets.c - what NASM must know of C's structs; compiled to text only.
//
// The build turns each line below into a %define of build/*/offsets.inc, so
// that no offset is ever typed twice. Nothing here is linked.

#include "kernel/ke/kep.h"

#define OFFSET(name, type, field) VALUE(name, offsetof(type, field))
#define VALUE(name, value) \
    __asm__ volatile("\n.ascii \"->" #name " %0\"" ::"i"((uint64_t)(value)))

void ki_offsets(void);

// Never called.
//
// IRQL:    any level
void ki_offsets(void)
{
    OFFSET(FRAME_RBP, KTRAP_FRAME, Rbp);
    OFFSET(FRAME_VECTOR, KTRAP_FRAME, vector);
    OFFSET(FRAME_RIP, KTRAP_FRAME, Rip);
    OFFSET(FRAME_CS, KTRAP_FRAME, SegCs);
    OFFSET(FRAME_EFLAGS, KTRAP_FRAME, EFlags);
    OFFSET(FRAME_RSP, KTRAP_FRAME, Rsp);
    OFFSET(FRAME_SS, KTRAP_FRAME, SegSs);
    OFFSET(CONTEXT_RIP, CONTEXT, Rip);
    OFFSET(CONTEXT_EFLAGS, CONTEXT, EFlags);
    OFFSET(CONTEXT_RSP, CONTEXT, Rsp);
    OFFSET(CONTEXT_FPU, CONTEXT, FltSave);
    OFFSET(PCR_CURRENT_THREAD, KPRCB, CurrentThread);
    OFFSET(PCR_SERVICE_STACK, KPRCB, service_stack);
    OFFSET(PCR_USER_STACK, KPRCB, user_stack);
    OFFSET(THREAD_USER_APC_PENDING, KTHREAD, ApcState.UserApcPending);
    OFFSET(SERVICE_ON_STACK, ke_service, on_stack);
    OFFSET(HOOK_SERVICES, ke_hooks, services);
    OFFSET(HOOK_SERVICE_COUNT, ke_hooks, service_count);
    VALUE(SERVICE_STACK_BYTES, KI_STACK_ARGUMENTS * sizeof(uint64_t));
    VALUE(SERVICE_FRAME, KI_SERVICE_FRAME);
    VALUE(USER_CS, KI_USER_CS);
    VALUE(USER_SS, KI_USER_SS);
    VALUE(USER_TOP, MM_HIGHEST_USER_ADDRESS);
    VALUE(ACCESS_VIOLATION, (uint32_t)STATUS_ACCESS_VIOLATION);
    VALUE(INVALID_SERVICE, (uint32_t)STATUS_INVALID_SYSTEM_SERVICE);
    VALUE(IST_BYTES, KI_IST_BYTES);
    VALUE(MSR_GS, MSR_GS_BASE);
}
