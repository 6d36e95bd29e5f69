/* settings_print - the table written out: the settings in force, the sample file, the manual page.
 * Owns:    nothing. Borrows: the file, which stays open. Threads: none.
 * Result:  false when the file took an error (ferror), for the caller to report. */
#ifndef SMTPWITNESS_CONF_SETTINGS_PRINT_H
#define SMTPWITNESS_CONF_SETTINGS_PRINT_H

#include <stdbool.h>
#include <stdio.h>

#include "conf/settings.h"

/* Every value in force, inheritance and profiles resolved, as a file that loads to the same settings. */
bool settings_dump(const struct settings *settings, FILE *to) MUST_CHECK;

/* conf/smtpwitness.conf.sample: every key with its help and default, commented out. */
bool settings_print_sample(FILE *to) MUST_CHECK;

/* man/smtpwitness.conf.5, in mdoc(7). */
bool settings_print_manual(FILE *to) MUST_CHECK;

#endif
