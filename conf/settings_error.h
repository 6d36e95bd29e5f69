/* settings_error - the one line that tells an administrator what is wrong with the configuration.
 * Bounds:  the line always fits struct settings_error; octets of the file are escaped, long ones cut.
 * Threads: none. */
#ifndef SMTPWITNESS_CONF_SETTINGS_ERROR_H
#define SMTPWITNESS_CONF_SETTINGS_ERROR_H

#include <stddef.h>
#include <stdint.h>

#include "conf/settings.h"
#include "core/base/attributes.h"

/* How much of a key or value an error line quotes, escapes included. */
#define SETTINGS_QUOTE_SIZE 72

/* Writes "FILE:LINE: ..." (line 0: "FILE: ..."). A long file name loses its beginning. */
void settings_error_set(struct settings_error *error, const char *file, uint32_t line, const char *format,
                        ...) PRINTF_LIKE(4, 5);

/* Copies `length` octets for an error line: other than printable ASCII as \xNN, cut with "..." when too long.
 * Returns `quoted`. */
const char *settings_quote(char quoted[SETTINGS_QUOTE_SIZE], const char *text, size_t length);

#endif
