/* settings_value - the text of one value, read strictly, and written back.
 * What is written reads back as the same value.
 * Owns:    a list of networks it allocates is the caller's, to be freed with free().
 * Bounds:  SETTINGS_VALUE_SIZE per text, SETTINGS_MAX_NETWORKS per list. Threads: none. */
#ifndef SMTPWITNESS_CONF_SETTINGS_VALUE_H
#define SMTPWITNESS_CONF_SETTINGS_VALUE_H

#include <stdbool.h>
#include <stddef.h>

#include "conf/settings_table.h"
#include "core/base/attributes.h"

#define SETTINGS_VALUE_SIZE   1024 /* iniparser 4.1 reads lines of at most 1023 octets (ASCIILINESZ) */
#define SETTINGS_MAX_NETWORKS 256  /* fills a line even with the shortest addresses; a match walks the list */

enum settings_value_result {
    SETTINGS_VALUE_OK = 0,
    SETTINGS_VALUE_WRONG,
    SETTINGS_VALUE_NO_MEMORY,
};

struct settings_value_fault {
    char what[224];    /* "not a whole number from 1 to 1000000, or 0 for no limit" */
    char example[128]; /* a value to write instead */
};

/* Reads `text` into the row's field, `base` being the structure the row's offset counts from (NULL for a profile:
 * only checked). A networks field must be empty before. On anything but OK nothing is stored and `fault` is set. */
enum settings_value_result settings_value_parse(const struct settings_row *row, const char *text, void *base,
                                                struct settings_value_fault *fault) MUST_CHECK;

/* Writes the field's value; false when it does not fit SETTINGS_VALUE_SIZE or the row has no field. */
bool settings_value_format(const struct settings_row *row, const void *base,
                           char text[SETTINGS_VALUE_SIZE]) MUST_CHECK;

#endif
