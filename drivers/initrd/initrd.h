// initrd.h - the programs and files that the boot loader brought, read-only.
//
// The archive stays where it is in memory and is walked on each open: there
// are a few dozen files. archive.c knows its format, io.c is the file device
// \Device\Initrd (\??\B:). Nothing changes, so nothing is locked. Every
// request completes in its dispatch routine: the other kind of driver, next to
// con and ide.

#pragma once

#include "drivers/disk/disk.h"
#include "kernel/wdm.h"

// With the final zero: ustar's limit, and that of FILE_NAMES_INFORMATION.
#define INITRD_MAX_NAME 100

typedef struct initrd_entry {
    char name[INITRD_MAX_NAME];    // "bin/sh": no slash at either end
    bool directory;
    const uint8_t *data;
    uint64_t size;
} initrd_entry;

// archive.c
bool initrd_next_entry(const uint8_t *archive, size_t length, size_t *at,
                       initrd_entry *entry);
void initrd_clean_name(char *to, const char *from);

// io.c
void initrd_set_archive(const void *base, size_t length);
NTSTATUS initrd_driver_entry(DRIVER_OBJECT *driver);
