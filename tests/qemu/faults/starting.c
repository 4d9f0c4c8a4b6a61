// starting.c - IDE's time-out while another processor is still about to give
// the disk the command: it waits until the command is out.

#include "drivers/ide/ide.h"
#include "tests/kernel/driver.h"
#include "tests/kernel/ktest.h"

static volatile uint32_t go, began, done;

static void time_out(void *context)
{
    ide_channel *channel = context;
    ktest_spin_until(&go);
    KIRQL old = KeRaiseIrqlToDpcLevel();
    began = 1;
    ide_timeout_dpc(NULL, channel, NULL, NULL);
    KeLowerIrql(old);
    done = 1;
}

KTEST(starting_keeps_the_time_out_away, "")
{
    ktest_thread helper;
    FILE_OBJECT *file = NULL;
    if (!ktest_has_processors(2) || !ktest_has_disk())
        return;
    EXPECT(io_create_file(KTEST_DISK, FILE_READ_DATA, FILE_OPEN, 0, &file,
                          NULL) == STATUS_SUCCESS);
    const ide_disk *disk = file->DeviceObject->DeviceExtension;
    ide_channel *channel = disk->channel;
    go = began = done = 0;
    ktest_start_on(&helper, 1, time_out, channel);

    // As start_command: the command is late already, and not out.
    KIRQL old;
    KeAcquireSpinLock(&channel->starting, &old);
    channel->started = 0;
    channel->armed = true;
    go = 1;
    EXPECT(ktest_spin_until(&began));
    ktest_spin(20);
    EXPECT(!done && channel->armed);
    channel->armed = false;    // the disk has answered
    KeReleaseSpinLock(&channel->starting, old);
    ktest_join(&helper);
    EXPECT(done);
    ktest_close(file);
}
