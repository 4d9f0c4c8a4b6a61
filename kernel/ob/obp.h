// obp.h - what only kernel/ob knows.

#ifndef TINT_OB_OBP_H
#define TINT_OB_OBP_H

#include "kernel/ex/ex.h"
#include "kernel/ke/ke.h"
#include "kernel/ob/ob.h"
#include "kernel/rtl/rtl.h"

#define OBP_TAG EX_TAG('O', 'b', 'j', 't')

#endif
