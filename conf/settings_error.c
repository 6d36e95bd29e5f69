#include "conf/settings_error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Longer file names lose their beginning, so that the end of the line, the remedy, survives. */
#define FILE_NAME_OCTETS 96

void settings_error_set(struct settings_error *error, const char *file, uint32_t line, const char *format,
                        ...)
{
    char what[sizeof error->text - FILE_NAME_OCTETS - 24];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);

    char quoted[FILE_NAME_OCTETS + 1];
    size_t length = strlen(file);
    size_t skip = length > FILE_NAME_OCTETS ? length - FILE_NAME_OCTETS + 3 : 0;
    size_t used = 0;
    if (skip > 0) {
        memcpy(quoted, "...", 3);
        used = 3;
    }
    for (const char *at = file + skip; *at != '\0' && used < FILE_NAME_OCTETS; at++) {
        quoted[used++] = (unsigned char)*at < 0x20 || *at == 0x7f ? '?' : *at;
    }
    quoted[used] = '\0';

    if (line == 0) {
        snprintf(error->text, sizeof error->text, "%s: %s", quoted, what);
    } else {
        snprintf(error->text, sizeof error->text, "%s:%u: %s", quoted, (unsigned)line, what);
    }
}

const char *settings_quote(char quoted[SETTINGS_QUOTE_SIZE], const char *text, size_t length)
{
    static const char hex[] = "0123456789abcdef";
    size_t used = 0;
    for (size_t i = 0; i < length; i++) {
        unsigned char octet = (unsigned char)text[i];
        bool plain = octet >= 0x20 && octet < 0x7f;
        size_t need = plain ? 1 : 4;
        if (SETTINGS_QUOTE_SIZE - 4 - used < need) { /* room for "..." and the end */
            memcpy(quoted + used, "...", 3);
            used += 3;
            break;
        }
        if (plain) {
            quoted[used++] = (char)octet;
        } else {
            quoted[used++] = '\\';
            quoted[used++] = 'x';
            quoted[used++] = hex[octet >> 4];
            quoted[used++] = hex[octet & 15];
        }
    }
    quoted[used] = '\0';
    return quoted;
}
