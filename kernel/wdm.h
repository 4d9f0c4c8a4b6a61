// wdm.h - all that a driver sees of the kernel.

#pragma once

#include "kernel/assert.h"
#include "kernel/ex/ex.h"
#include "kernel/hal/hal.h"
#include "kernel/io/device.h"
#include "kernel/io/io.h"
#include "kernel/io/irp.h"
#include "kernel/ke/ke.h"
#include "kernel/mm/mm.h"
#include "kernel/nt.h"
#include "kernel/ob/ob.h"
#include "kernel/ps/ps.h"
#include "kernel/rtl/rtl.h"
