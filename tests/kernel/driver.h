// driver.h - the tests' driver: a stack of two devices whose routines each
// test chooses.

#ifndef TINT_TESTS_KERNEL_DRIVER_H
#define TINT_TESTS_KERNEL_DRIVER_H

#include "kernel/wdm.h"

#define KTEST_DEVICE "\\Device\\Ktest"

typedef struct ktest_routines {
    DRIVER_DISPATCH *upper;      // reads of the upper device; passes them down
    DRIVER_DISPATCH *lower;      // of the lower one; succeeds
    DRIVER_DISPATCH *closing;    // cleanup and close, at the top; succeeds
    DRIVER_STARTIO *start_io;
} ktest_routines;

// Set by a test; back to the defaults before each.
extern ktest_routines ktest_driver;
extern DEVICE_OBJECT *ktest_upper, *ktest_lower;

bool ktest_driver_load(void);    // once
void ktest_driver_reset(void);

// Completes with a status, 0 bytes; what a dispatch routine returns then.
NTSTATUS ktest_complete(IRP *irp, NTSTATUS status);

// Opens the stack: overlapped (options 0), or FILE_SYNCHRONOUS_IO_...
FILE_OBJECT *ktest_open(uint32_t options);
void ktest_close(FILE_OBJECT *file);    // as its last handle would
// A read of file that was not sent yet.
IRP *ktest_build_read(FILE_OBJECT *file);
// A referenced, waitable event, as NtReadFile has them.
KEVENT *ktest_create_event(void);
// The same for a port.
NTSTATUS ktest_create_port(uint32_t count, KQUEUE **port);

#endif
