/* settings_describe - what a value should have been, in words. Threads: any; nothing is kept. */
#ifndef SMTPWITNESS_CONF_SETTINGS_DESCRIBE_H
#define SMTPWITNESS_CONF_SETTINGS_DESCRIBE_H

#include "conf/settings_value.h"

/* Writes "from 10ms to 7d, or 0 for no limit": the row's range in its own unit; empty when it has none. */
void settings_value_range(const struct settings_row *row, char *text, size_t size);

/* Says why `text` is not a value of the row. A list of networks is described where it is read. */
void settings_value_describe(const struct settings_row *row, const char *text,
                             struct settings_value_fault *fault);

#endif
