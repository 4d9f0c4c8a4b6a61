// lab.h - a part that is not written yet says so, once, on the console.

#ifndef TINT_KE_LAB_H
#define TINT_KE_LAB_H

#include "kernel/hal/hal.h"

#define LAB_TODO(what)                                             \
    do {                                                           \
        static volatile bool said;                                 \
        if (!__atomic_exchange_n(&said, true, __ATOMIC_RELAXED))   \
            hal_print("LAB: " what " is not written yet (%s)\n",   \
                      __FILE__);                                   \
    } while (0)

#endif
