/* settings_file - a configuration file in memory, and back through iniparser.
 * Owns:    what it returns is the caller's: free() the text, iniparser_freedict() the dictionary.
 * Bounds:  SETTINGS_MAX_FILE_OCTETS. Threads: iniparser keeps its error callback in a global. */
#ifndef SMTPWITNESS_CONF_SETTINGS_FILE_H
#define SMTPWITNESS_CONF_SETTINGS_FILE_H

#include <iniparser/iniparser.h>
#include <stddef.h>

#include "conf/settings.h"

/* The whole file, not terminated. NULL with `error` filled when it cannot be read or is no regular file. */
char *settings_file_read(const char *path, size_t *length, struct settings_error *error) MUST_CHECK;

/* iniparser 4.1 reads files by name only; it gets the very text that was indexed, through an anonymous file, so that
 * an editor saving at that moment cannot slip in another one. NULL with `error` filled. */
dictionary *settings_file_parse(const char *name, const char *text, size_t length,
                                struct settings_error *error) MUST_CHECK;

#endif
