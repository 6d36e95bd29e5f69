/* settings_number - whole numbers, sizes, durations, marks and rates, read strictly.
 * strtol() and iniparser take "12abc" for 12 and "010" for 8; here both are wrong.
 * Threads: any; nothing is kept. */
#ifndef SMTPWITNESS_CONF_SETTINGS_NUMBER_H
#define SMTPWITNESS_CONF_SETTINGS_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf/settings_table.h"
#include "core/base/attributes.h"

/* Digits only, no sign, no leading zero, no overflow. Moves `cursor` behind them. */
bool settings_number_whole(const char **cursor, uint64_t *value) MUST_CHECK;

/* The whole text as the row's type writes numbers: microseconds of a duration, octets of a size, else a count. */
bool settings_number_read(const struct settings_row *row, const char *text, uint64_t *value) MUST_CHECK;

/* Writes it in the largest unit that divides it. */
void settings_number_write(const struct settings_row *row, uint64_t value, char *text, size_t size);

/* Within the row's bounds, or the row's special 0. */
bool settings_number_in_range(const struct settings_row *row, uint64_t value);

/* "30/1min", or "0" for none. */
bool settings_number_read_rate(const struct settings_row *row, const char *text, uint32_t *count,
                               uint64_t *window_us) MUST_CHECK;
void settings_number_write_rate(uint32_t count, uint64_t window_us, char *text, size_t size);

#endif
