/* settings_compare - what a reload cannot take over.
 * Threads: none; both settings are only read, but for settings_keep(). */
#ifndef SMTPWITNESS_CONF_SETTINGS_COMPARE_H
#define SMTPWITNESS_CONF_SETTINGS_COMPARE_H

#include <stddef.h>

#include "conf/settings.h"
#include "conf/settings_table.h"

/* Finds the rows that need a restart and differ between the two. Stores at most `room` of them and returns how many
 * there are; SETTINGS_MAX_ROWS is always room enough. */
size_t settings_compare(const struct settings *running, const struct settings *loaded,
                        const struct settings_row **rows, size_t room);

#define SETTINGS_DIFFERENCE_SIZE 320 /* the longest such value is a path of 255 octets */

/* Writes "proxy.listen-port needs a restart; keeping 10025". Returns `text`. */
const char *settings_difference_format(const struct settings_row *row, const struct settings *running,
                                       char text[SETTINGS_DIFFERENCE_SIZE]);

/* Copies every value that needs a restart from the running settings, so that those loaded are what is in force. */
void settings_keep(struct settings *loaded, const struct settings *running);

#endif
