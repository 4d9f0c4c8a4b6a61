// stdio.h - streams over NT handles, and formatted text.

#ifndef TINT_STDIO_H
#define TINT_STDIO_H

#include <stdarg.h>
#include <stddef.h>

typedef struct FILE FILE;

// Hidden: an image is linked far above 2 GiB and has no table of addresses.
#define RTL_VARIABLE extern __attribute__((visibility("hidden")))
RTL_VARIABLE FILE *const stdin;
RTL_VARIABLE FILE *const stdout;
RTL_VARIABLE FILE *const stderr;

#define EOF      (-1)
#define BUFSIZ   1024
#define SEEK_SET 0
#define SEEK_CUR 1
#define SEEK_END 2

#define RTL_PRINTF(text, first) __attribute__((format(printf, text, first)))

int printf(const char *format, ...) RTL_PRINTF(1, 2);
int fprintf(FILE *file, const char *format, ...) RTL_PRINTF(2, 3);
int sprintf(char *buffer, const char *format, ...) RTL_PRINTF(2, 3);
int snprintf(char *buffer, size_t size, const char *format, ...)
    RTL_PRINTF(3, 4);
int vprintf(const char *format, va_list arguments);
int vfprintf(FILE *file, const char *format, va_list arguments);
int vsnprintf(char *buffer, size_t size, const char *format,
              va_list arguments);

int fputc(int c, FILE *file);
int putc(int c, FILE *file);
int putchar(int c);
int fputs(const char *text, FILE *file);
int puts(const char *text);
int fgetc(FILE *file);
int getc(FILE *file);
int getchar(void);
int ungetc(int c, FILE *file);
char *fgets(char *line, int size, FILE *file);

FILE *fopen(const char *name, const char *mode);
int fclose(FILE *file);
int fflush(FILE *file);
size_t fread(void *buffer, size_t size, size_t count, FILE *file);
size_t fwrite(const void *buffer, size_t size, size_t count, FILE *file);
int fseek(FILE *file, long offset, int origin);
long ftell(FILE *file);
void rewind(FILE *file);
int feof(FILE *file);
int ferror(FILE *file);
void clearerr(FILE *file);

#endif
