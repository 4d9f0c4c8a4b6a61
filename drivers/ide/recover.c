// recover.c - a command that never ends: reset the channel, go on.
//
// The watchdog's DPC takes the request from StartIo under the lock `starting`,
// and, inside it, from the interrupt under the interrupt's lock: only one can
// clear armed. Then a timer DPC looks at the channel once a tick until it is
// ready; nobody polls. The request fails with STATUS_IO_TIMEOUT by the usual
// DPC, those behind it go on, and if the disk is still deaf they time out as
// well. (A write that timed out may still reach the disk: QEMU lets a held one
// go when the bus master stops.)

#include "drivers/ide/ide.h"

#define RESET_TICK      100000ll    // 10 ms, in 100 ns
#define RESET_MAX_TICKS 3100u       // 31 s (ATA/ATAPI-6, clause 9.1)

// Takes the request over unless its interrupt came, or the watchdog barked
// for the one before. A KSYNCHRONIZE_ROUTINE.
static bool take_over(void *context)
{
    ide_channel *channel = context;
    if (!channel->armed)
        return false;
    // Not the watchdog's own stamp, which moves on when it barks. Signed:
    // another processor's clock may be a moment ahead of ours.
    int64_t waited = (int64_t)(hal_read_tsc() - channel->started);
    if (waited < (int64_t)channel->watchdog.timeout)
        return false;
    channel->armed = false;
    return true;
}

// The watchdog: the present command has been out for too long.
//
// IRQL:    == DISPATCH_LEVEL
void ide_timeout_dpc(KDPC *, void *context, void *, void *)
{
    ASSERT_IRQL(==, DISPATCH_LEVEL);

    ide_channel *channel = context;
    KeAcquireSpinLockAtDpcLevel(&channel->starting);
    bool late = KeSynchronizeExecution(&channel->interrupt, take_over, channel);
    KeReleaseSpinLockFromDpcLevel(&channel->starting);
    if (!late)
        return;
    channel->watchdog.busy = false;
    channel->reset_ticks = 0;
    hal_out8(channel->bus_master + IDE_BM_COMMAND, 0);
    hal_out8(channel->control, IDE_CONTROL_RESET);
    KeSetTimerEx(&channel->reset_timer, -RESET_TICK, 0, &channel->reset_dpc);
}

// A tick of the reset: the first ends the reset pulse, the others look
// whether the disks are ready.
//
// IRQL:    == DISPATCH_LEVEL
void ide_reset_dpc(KDPC *, void *context, void *, void *)
{
    ASSERT_IRQL(==, DISPATCH_LEVEL);

    ide_channel *channel = context;
    bool first = channel->reset_ticks++ == 0;
    if (first)
        hal_out8(channel->control, 0);
    if (first || (hal_in8(channel->control) & IDE_STATUS_BUSY &&
                  channel->reset_ticks < RESET_MAX_TICKS)) {
        KeSetTimerEx(&channel->reset_timer, -RESET_TICK, 0,
                     &channel->reset_dpc);
        return;
    }
    hal_out8(channel->bus_master + IDE_BM_STATUS,
             IDE_BM_INTERRUPT | IDE_BM_ERROR);
    channel->failure = STATUS_IO_TIMEOUT;
    IoRequestDpc(channel->device, channel->device->CurrentIrp, NULL);
}
