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

// By processor; each touches its own only, at DISPATCH_LEVEL or above.
static volatile int32_t held[MAXIMUM_PROCESSORS];

// Called by the spin locks themselves (irql.h), behind each acquisition and
// before each release. Before there are processors nobody is counted.
//
// IRQL:    >= DISPATCH_LEVEL, or interrupts off
void ke_count_spin_lock(int change)
{
    if (ki_processor[0])
        held[KeGetCurrentProcessorNumber()] += change;
}

// How many the caller holds: at DISPATCH_LEVEL nobody else has any here.
static int32_t held_by_caller(void)
{
    KIRQL old = KeRaiseIrqlToDpcLevel();
    int32_t count = held[KeGetCurrentProcessorNumber()];
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
} call;

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
    }
    InsertTailList(&calls, &this->entry);
    KeReleaseSpinLock(&calls_lock, old);
}

// An IRP that was neither passed on nor completed is there as long as we hold
// the lock: whoever completes it takes that first.
static void end(call *this)
{
    KIRQL old;
    KeAcquireSpinLock(&calls_lock, &old);
    RemoveEntryList(&this->entry);
    if (!this->passed && !this->completed)
        this->marked = is_marked(this);
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
    begin(&this);
    NTSTATUS status = __real_IoCallDriver(device, irp);
    end(&this);
    bool pending = status == STATUS_PENDING;
    ASSERT_RULE("IRP-05", this.marked || this.passed || !pending);
    ASSERT_RULE("IRP-05", pending || !this.marked);
    ASSERT_RULE("IRP-05", pending || this.passed || this.completed);
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
    __real_IoCompleteRequest(irp, boost);
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
