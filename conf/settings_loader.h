/* settings_loader - settings from a text in memory.
 * Order:   the table's defaults, then the profile of [limits], then the keys of the file; a named section starts from
 *          the result, then its own profile, then its own keys.
 * Owns:    nothing. Borrows: the text, during the call only. Threads: see settings_file.h. */
#ifndef SMTPWITNESS_CONF_SETTINGS_LOADER_H
#define SMTPWITNESS_CONF_SETTINGS_LOADER_H

#include <stddef.h>

#include "conf/settings.h"

/* As settings_load(); `name` stands for the file in error lines. `text` need not be terminated. */
struct settings *settings_load_text(const char *name, const char *text, size_t length,
                                    struct settings_error *error) MUST_CHECK;

#endif
