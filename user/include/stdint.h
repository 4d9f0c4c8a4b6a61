// stdint.h - the compiler's own, for a hosted program without a C library.

#ifdef __clang__
#include_next <stdint.h>
#else
#include <stdint-gcc.h>
#endif
