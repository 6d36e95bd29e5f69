/* settings_text - names and paths: what they may consist of. Threads: any; nothing is kept. */
#ifndef SMTPWITNESS_CONF_SETTINGS_TEXT_H
#define SMTPWITNESS_CONF_SETTINGS_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "conf/settings_table.h"

/* Letters, digits, dots, dashes and underscores, at least one. */
bool settings_word_valid(const char *text, size_t length);

/* RFC 5321 section 4.1.2 Domain: labels of letters, digits and inner dashes; the last one is no number. */
bool settings_host_name_valid(const char *text);

/* The absolute path of a file that fits the row's field, without quotes; or a dash where the row allows it. */
bool settings_path_valid(const struct settings_row *row, const char *text);

#endif
