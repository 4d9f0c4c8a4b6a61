// assert.h - a broken assertion names itself and ends the process.

#ifndef TINT_USER_ASSERT_H
#define TINT_USER_ASSERT_H

_Noreturn void rtl_assertion_failed(const char *expression, const char *file,
                                    int line);

#ifdef NDEBUG
#define assert(condition) ((void)0)
#else
#define assert(condition)    \
    ((condition) ? (void)0   \
                 : rtl_assertion_failed(#condition, __FILE__, __LINE__))
#endif
#define static_assert _Static_assert

#endif
