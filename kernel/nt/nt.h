// nt.h - the system services as main.c wires them.

#ifndef TINT_NT_NT_H
#define TINT_NT_NT_H

#include "kernel/ke/ke.h"

extern const ke_service nt_services[NT_SERVICE_COUNT];
extern const char *nt_version;    // for SystemBasicInformation; main.c sets it

#endif
