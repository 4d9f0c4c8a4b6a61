// verify.c - what the checked kernel watches between a driver and the I/O
// manager, as Windows' Driver Verifier does.
//
// The linker puts __wrap_X in the place of X for whoever calls X from another
// file (--wrap in the Makefile); the free kernel has nothing of it. What is
// broken is fatal, and the text of the bugcheck names the rule.

#include "kernel/wdm.h"

// ---- Assertions -----------------------------------------------------------

// Stops for a broken ASSERT.
//
// IRQL:    any level
void ke_assertion_failed(const char *expression, const char *file,
                         uint32_t line)
{
    static char text[120];
    rtl_snprintf(text, sizeof(text), "%s:%u: %s", file, line, expression);
    ke_bugcheck_note = text;
    KeBugCheckEx(STATUS_ASSERTION_FAILURE_CODE, line, KeGetCurrentIrql(), 0, 0);
}

// ---- Spin locks -----------------------------------------------------------

// By processor; each touches its own only, at DISPATCH_LEVEL or above, or with
// interrupts off. Those of an ISR come and go on top of what it interrupted.
enum { MAXIMUM_HELD = 16, INTERRUPT_FLAG = 0x200 };
static KSPIN_LOCK *volatile held[MAXIMUM_PROCESSORS][MAXIMUM_HELD];
static volatile int32_t held_count[MAXIMUM_PROCESSORS];

// Called by the spin locks themselves (irql.h), before each acquisition, which
// for a lock that the processor holds would never end, and before each release.
// Before there are processors nobody is watched.
//
// IRQL:    >= DISPATCH_LEVEL, or interrupts off
void ke_note_spin_lock(KSPIN_LOCK *lock, bool taken)
{
    uint64_t flags = ki_disable_interrupts();
    if (ki_processor[0]) {
        uint32_t me = KeGetCurrentProcessorNumber();
        int32_t i = held_count[me];
        ASSERT_RULE("IRQL-06", KeGetCurrentIrql() >= DISPATCH_LEVEL ||
                                   !(flags & INTERRUPT_FLAG));
        while (--i >= 0 && held[me][i] != lock)
            continue;
        if (taken) {
            ASSERT_RULE("IRQL-06", i < 0 && held_count[me] < MAXIMUM_HELD);
            held[me][held_count[me]++] = lock;
        } else if (i >= 0) {    // else it was taken before that
            held[me][i] = held[me][--held_count[me]];
        }
    }
    ki_restore_interrupts(flags);
}

// How many the caller holds: at DISPATCH_LEVEL nobody else has any here.
static int32_t held_by_caller(void)
{
    KIRQL old = KeRaiseIrqlToDpcLevel();
    int32_t count = held_count[KeGetCurrentProcessorNumber()];
    KeLowerIrql(old);
    return count;
}

// ---- IoCallDriver ---------------------------------------------------------

// A dispatch routine that has not returned yet; on its caller's stack. Behind
// `passed` or `completed` the IRP belongs to somebody else and may be gone.
typedef struct call {
    LIST_ENTRY entry;
    IRP *irp;
    int8_t location;             // its CurrentLocation
    bool passed;                 // to a driver below
    bool completed;              // from this location
    bool marked;                 // pending: at that moment, or at the return
    struct call *above;          // who passed it to us, and has not returned
    bool asked;                  // it has a routine for our completion
    bool answered, below;        // a driver below returned; STATUS_PENDING
} call;

enum { INVOKE = SL_INVOKE_ON_SUCCESS | SL_INVOKE_ON_ERROR |
                SL_INVOKE_ON_CANCEL };

static KSPIN_LOCK calls_lock;
static LIST_ENTRY calls = { &calls, &calls };    // all that are under way

static bool is_marked(const call *c)
{
    return c->irp->stack[c->location - 1].Control & SL_PENDING_RETURNED;
}

// The call that still owns the IRP; NULL: none.
static call *find_owner(const IRP *irp)
{
    RTL_FOR_EACH_RECORD(call, c, &calls, entry)
        if (c->irp == irp && !c->passed && !c->completed)
            return c;
    return NULL;
}

static void begin(call *this)
{
    KIRQL old;
    KeAcquireSpinLock(&calls_lock, &old);
    call *above = find_owner(this->irp);
    if (above) {
        above->passed = true;
        above->marked = is_marked(above);
        this->above = above;    // one that skipped has no location for it
        this->asked = this->location < above->location &&
                      this->irp->stack[this->location - 1].Control & INVOKE;
    }
    InsertTailList(&calls, &this->entry);
    KeReleaseSpinLock(&calls_lock, old);
}

// An IRP that was neither passed on nor completed is there as long as we hold
// the lock: whoever completes it takes that first.
static void end(call *this, bool pending)
{
    KIRQL old;
    KeAcquireSpinLock(&calls_lock, &old);
    RemoveEntryList(&this->entry);
    if (!this->passed && !this->completed)
        this->marked = is_marked(this);
    RTL_FOR_EACH_RECORD(call, c, &calls, entry)
        c->above = c->above == this ? NULL : c->above;
    if (this->above && !this->asked) {
        this->above->answered = true;
        this->above->below = pending;
    }
    KeReleaseSpinLock(&calls_lock, old);
}

NTSTATUS __real_IoCallDriver(DEVICE_OBJECT *device, IRP *irp);
NTSTATUS __wrap_IoCallDriver(DEVICE_OBJECT *device, IRP *irp);

// One that passed the request on may return STATUS_PENDING without a mark of
// its own: its completion routine marks it, or the way up does (IRP-04).
NTSTATUS __wrap_IoCallDriver(DEVICE_OBJECT *device, IRP *irp)
{
    call this = { .irp = irp, .location = (int8_t)(irp->CurrentLocation - 1) };
    if (this.location < 1)
        return __real_IoCallDriver(device, irp);    // IRP-01: it stops there
    ASSERT(irp->stack[this.location - 1].MajorFunction <=
           IRP_MJ_MAXIMUM_FUNCTION);
    KIRQL irql = KeGetCurrentIrql();
    int32_t locks = held_by_caller();
    begin(&this);
    NTSTATUS status = __real_IoCallDriver(device, irp);
    bool pending = status == STATUS_PENDING;
    ASSERT_RULE("IRQL-01", KeGetCurrentIrql() == irql);
    ASSERT_RULE("IRQL-06", held_by_caller() == locks);
    end(&this, pending);
    ASSERT_RULE("IRP-05", this.marked || this.passed || !pending);
    ASSERT_RULE("IRP-05", pending || !this.marked);
    ASSERT_RULE("IRP-05", pending || this.passed || this.completed);
    ASSERT_RULE("IRP-05", !this.answered || this.marked ||
                              pending == this.below);
    return status;
}

// ---- IoCompleteRequest ----------------------------------------------------

void __real_IoCompleteRequest(IRP *irp, KPRIORITY boost);
void __wrap_IoCompleteRequest(IRP *irp, KPRIORITY boost);

void __wrap_IoCompleteRequest(IRP *irp, KPRIORITY boost)
{
    ASSERT_RULE("IRP-07", KeGetCurrentIrql() <= DISPATCH_LEVEL);
    ASSERT_RULE("IRP-07", held_by_caller() == 0);
    KIRQL old;
    KeAcquireSpinLock(&calls_lock, &old);
    call *owner = find_owner(irp);
    if (owner && owner->location == irp->CurrentLocation) {
        owner->completed = true;
        owner->marked = is_marked(owner);
    }
    KeReleaseSpinLock(&calls_lock, old);
    // A driver's own, which has no thread, ends in a routine that keeps it.
    const IO_STACK_LOCATION *top = &irp->stack[irp->StackCount - 1];
    ASSERT_RULE("IRP-06", irp->Thread || irp->flags & IRP_KERNEL_WAIT ||
                              top->CompletionRoutine);
    KIRQL irql = KeGetCurrentIrql();
    __real_IoCompleteRequest(irp, boost);
    ASSERT_RULE("IRQL-01", KeGetCurrentIrql() == irql);
    ASSERT_RULE("IRQL-06", held_by_caller() == 0);
}

// ---- Cancel routines ------------------------------------------------------

bool __real_iop_call_cancel_routine(IRP *irp, DRIVER_CANCEL *routine,
                                    KIRQL irql);
bool __wrap_iop_call_cancel_routine(IRP *irp, DRIVER_CANCEL *routine,
                                    KIRQL irql);

// The cancel routine has let the cancel lock go, at CancelIrql (CAN-10).
bool __wrap_iop_call_cancel_routine(IRP *irp, DRIVER_CANCEL *routine,
                                    KIRQL irql)
{
    int32_t others = held_by_caller() - 1;
    bool called = __real_iop_call_cancel_routine(irp, routine, irql);
    ASSERT_RULE("CAN-10", held_by_caller() == others);
    ASSERT_RULE("CAN-10", KeGetCurrentIrql() == irql);
    return called;
}
