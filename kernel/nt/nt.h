// nt.h - the system services as main.c wires them.

#pragma once

#include "kernel/ke/ke.h"

extern const ke_service nt_services[NT_SERVICE_COUNT];
