// obp.h - what only kernel/ob knows.

#pragma once

#include "kernel/ex/ex.h"
#include "kernel/ke/ke.h"
#include "kernel/ob/ob.h"
#include "kernel/rtl/rtl.h"

#define OBP_TAG EX_TAG('O', 'b', 'j', 't')
