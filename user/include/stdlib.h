// stdlib.h - memory, numbers, sorting, the end.

#ifndef TINT_STDLIB_H
#define TINT_STDLIB_H

#include <stddef.h>

#define EXIT_SUCCESS 0
#define EXIT_FAILURE 1
#define RAND_MAX     0x7FFFFFFF

void *malloc(size_t size);
void *calloc(size_t count, size_t size);
void *realloc(void *block, size_t size);
void free(void *block);

// Ends the process after flushing every stream.
_Noreturn void exit(int status);
// Ends the process at once, with STATUS_ASSERTION_FAILURE.
_Noreturn void abort(void);

int atoi(const char *text);
long atol(const char *text);
long strtol(const char *text, char **end, int base);
long long strtoll(const char *text, char **end, int base);
unsigned long strtoul(const char *text, char **end, int base);
unsigned long long strtoull(const char *text, char **end, int base);

void qsort(void *base, size_t count, size_t size,
           int (*compare)(const void *a, const void *b));
void *bsearch(const void *key, const void *base, size_t count, size_t size,
              int (*compare)(const void *a, const void *b));

int rand(void);
void srand(unsigned seed);
int abs(int number);
long labs(long number);

// There is no environment: always NULL.
char *getenv(const char *name);

#endif
