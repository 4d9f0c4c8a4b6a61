// archive.c - a ustar archive, and whether it is one (POSIX.1-2017, pax).
//
// Trusts nothing: sizes, names and checksums are looked at before they are
// used. Pure C, so that a host test can try broken archives.

#include "drivers/initrd/initrd.h"

// A header is one block; where its fields lie, and how long they are.
enum {
    BLOCK = 512, NAME_LENGTH = 100, SIZE = 124, SIZE_LENGTH = 12,
    CHECKSUM = 148, CHECKSUM_LENGTH = 8, TYPE = 156, MAGIC = 257,
    PREFIX = 345,    // of longer names; not supported
};

// Reads an octal number that ends with a blank, a zero or its field.
static bool parse_octal(const uint8_t *field, size_t length, uint64_t *value)
{
    *value = 0;
    for (size_t i = 0; i < length && field[i] && field[i] != ' '; i++) {
        if (field[i] < '0' || field[i] > '7')
            return false;
        *value = *value * 8 + (field[i] - '0');
    }
    return true;
}

static bool is_intact(const uint8_t *header)
{
    uint64_t stated, sum = 0;
    for (size_t i = 0; i < BLOCK; i++)
        sum += header[i];
    for (size_t i = 0; i < CHECKSUM_LENGTH; i++)    // that counts as blanks
        sum += ' ' - header[CHECKSUM + i];
    return parse_octal(header + CHECKSUM, CHECKSUM_LENGTH, &stated) &&
           stated == sum &&
           rtl_same_name((const char *)header + MAGIC, "ustar",
                         sizeof("ustar") - 1) &&
           !header[NAME_LENGTH - 1] && !header[PREFIX];
}

// Copies a name of less than INITRD_MAX_NAME characters without the slashes
// and "./" in front of it and the slashes behind it; '\\' becomes '/'.
//
// IRQL:    any level
void initrd_clean_name(char *to, const char *from)
{
    size_t length = 0;
    for (; *from; from++) {
        char c = *from == '\\' ? '/' : *from;
        bool dot = c == '.' && (from[1] == '/' || from[1] == '\\');
        bool skip = !length && (c == '/' || dot);
        if (!skip)
            to[length++] = c;
    }
    while (length && to[length - 1] == '/')
        length--;
    to[length] = 0;
}

// Reads the next file or directory at *at and moves *at behind it. Entries of
// other types, and the root itself, are passed over.
//
// IRQL:    any level
// Returns: true with an entry, whose data lies wholly in the archive; false
//          at the end, with *at == length, or where the archive is damaged
bool initrd_next_entry(const uint8_t *archive, size_t length, size_t *at,
                       initrd_entry *entry)
{
    while (length - *at >= BLOCK && archive[*at]) {
        const uint8_t *header = archive + *at;
        size_t room = length - *at - BLOCK;
        if (!is_intact(header) ||
            !parse_octal(header + SIZE, SIZE_LENGTH, &entry->size) ||
            entry->size > room)
            return false;
        *at += BLOCK + MIN(room, (entry->size + BLOCK - 1) / BLOCK * BLOCK);
        entry->data = header + BLOCK;
        entry->directory = header[TYPE] == '5';
        initrd_clean_name(entry->name, (const char *)header);
        bool is_file = header[TYPE] == '0' || header[TYPE] == 0;
        if (entry->name[0] && (entry->directory || is_file))
            return true;
    }
    *at = length;    // a block that begins with a zero ends the archive
    return false;
}
