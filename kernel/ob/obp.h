// obp.h - what only kernel/ob knows.

#ifndef TINT_OB_OBP_H
#define TINT_OB_OBP_H

#include "kernel/ex/ex.h"
#include "kernel/ke/ke.h"
#include "kernel/ob/ob.h"
#include "kernel/rtl/rtl.h"

#define OBP_OBJECT_TAG EX_TAG('O', 'b', 'j', 't')
#define OBP_TABLE_TAG  EX_TAG('O', 'b', 't', 'b')
#define OBP_NAME_TAG   EX_TAG('O', 'b', 'N', 'm')

// Counts a handle to object; its pointer is the caller's reference.
void obp_add_handle(void *object);
// The opposite. Returns how many handles are left.
int32_t obp_drop_handle(void *object);
void obp_init_names(void);

#endif
