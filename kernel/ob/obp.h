// obp.h - what only kernel/ob knows.

#ifndef TINT_OB_OBP_H
#define TINT_OB_OBP_H

#include "kernel/ex/ex.h"
#include "kernel/ke/ke.h"
#include "kernel/ob/ob.h"
#include "kernel/rtl/rtl.h"

#define OBP_TAG EX_TAG('O', 'b', 'j', 't')

// Counts a handle to object (1) or forgets it (-1); returns how many are left.
int32_t obp_count_handle(void *object, int32_t change);

#endif
