// apc.c - lab 2: what stands where the student's APC delivery belongs.

static bool link_apc(KTHREAD *thread, KAPC *apc, void *argument1,
                     void *argument2, bool *ends)
{
    // Puts an APC on its list, under the thread's ApcQueueLock, and sets the
    // pending flag if the thread has to hear of it. KeInsertQueueApc below
    // calls it for the current thread, and so, maybe, will you.
    (void)thread, (void)apc, (void)argument1, (void)argument2, (void)ends;
    LAB_TODO("link_apc");
    return false;
}

bool ki_insert_apc(KAPC *apc, void *argument1, void *argument2,
                   KPRIORITY increment, KIRQL old)
{
    ASSERT_IRQL(==, DISPATCH_LEVEL);
    (void)apc, (void)argument1, (void)argument2, (void)increment, (void)old;
    LAB_TODO("ki_insert_apc");
    return true;    // else the I/O manager takes its thread for gone
}

static KAPC *take_apc(KTHREAD *thread, KPROCESSOR_MODE mode, KAPC *copy)
{
    // Takes the next APC of the mode that may be delivered off its list, and
    // copies it. ke_rundown_apcs below calls it, and so, maybe, will you.
    (void)thread, (void)mode, (void)copy;
    return NULL;
}

void KiDeliverApc(KPROCESSOR_MODE mode, KTRAP_FRAME *frame)
{
    ASSERT_IRQL(==, APC_LEVEL);
    (void)mode, (void)frame;
    LAB_TODO("KiDeliverApc");
}

NTSTATUS ki_test_alert(KTHREAD *thread)
{
    ASSERT_IRQL(<=, DISPATCH_LEVEL);
    (void)thread;
    LAB_TODO("ki_test_alert");
    return STATUS_SUCCESS;
}
