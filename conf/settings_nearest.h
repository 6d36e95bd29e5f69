/* settings_nearest - what an administrator probably meant by a misspelt name.
 * Bounds:  names longer than NEAREST_MAX_OCTETS have no suggestion. Threads: none. */
#ifndef SMTPWITNESS_CONF_SETTINGS_NEAREST_H
#define SMTPWITNESS_CONF_SETTINGS_NEAREST_H

#include <stddef.h>

#include "conf/settings_table.h"

#define NEAREST_MAX_OCTETS 40 /* longer than any key or section word */

/* How many octets must be added, removed or changed to make `a` of `b`, letter case aside. */
size_t settings_distance(const char *a, size_t a_length, const char *b);

/* The row the key was meant for: the same key in another section, else the nearest key that may stand in `section`
 * (any section when it is SETTINGS_SECTION_NONE), else NULL. */
const struct settings_row *settings_nearest_row(enum settings_section section, const char *key,
                                                size_t length);

/* The nearest section word, else NULL. */
const struct settings_section_row *settings_nearest_section(const char *word, size_t length);

#endif
