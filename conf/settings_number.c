#include "conf/settings_number.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct unit {
    const char *text;
    uint64_t factor;
};

/* Largest first: a value is written in the largest unit that divides it. */
static const struct unit duration_units[] = {
    {"d", UINT64_C(86400000000)}, {"h", UINT64_C(3600000000)}, {"min", UINT64_C(60000000)},
    {"s", UINT64_C(1000000)},     {"ms", UINT64_C(1000)},      {NULL, 0},
};
static const struct unit size_units[] = {
    {"G", UINT64_C(1) << 30}, {"M", UINT64_C(1) << 20}, {"k", UINT64_C(1) << 10}, {"", 1}, {NULL, 0},
};

/* Digits only, no sign, no leading zero (010 is eight to some readers), no overflow. Moves `cursor` behind them. */
bool settings_number_whole(const char **cursor, uint64_t *value)
{
    const char *at = *cursor;
    uint64_t sum = 0;
    if (*at < '0' || *at > '9' || (at[0] == '0' && at[1] >= '0' && at[1] <= '9')) {
        return false;
    }
    for (; *at >= '0' && *at <= '9'; at++) {
        uint64_t digit = (uint64_t)(*at - '0');
        if (sum > (UINT64_MAX - digit) / 10) {
            return false;
        }
        sum = sum * 10 + digit;
    }
    *cursor = at;
    *value = sum;
    return true;
}

static bool with_unit_read(const char *text, const struct unit *units, uint64_t *value)
{
    uint64_t number;
    if (!settings_number_whole(&text, &number)) {
        return false;
    }
    if (number == 0 && *text == '\0') {
        *value = 0;
        return true;
    }
    for (; units->text != NULL; units++) {
        if (strcmp(units->text, text) == 0) {
            if (number > UINT64_MAX / units->factor) {
                return false;
            }
            *value = number * units->factor;
            return true;
        }
    }
    return false;
}

static void with_unit_write(uint64_t value, const struct unit *units, char *text, size_t size)
{
    if (value == 0) {
        snprintf(text, size, "0");
        return;
    }
    while (value % units->factor != 0 && units[1].text != NULL) {
        units++;
    }
    snprintf(text, size, "%" PRIu64 "%s", value / units->factor, units->text);
}

static bool read_mark(const char *text, uint64_t *value)
{
    if (strncmp(text, "0x", 2) != 0) {
        return settings_number_whole(&text, value) && *text == '\0';
    }
    text += 2;
    size_t digits = strspn(text, "0123456789abcdefABCDEF");
    if (digits == 0 || digits > 8 || text[digits] != '\0') {
        return false;
    }
    *value = strtoul(text, NULL, 16);
    return true;
}

bool settings_number_in_range(const struct settings_row *row, uint64_t value)
{
    return (value >= row->minimum && value <= row->maximum) || (value == 0 && row->zero != NULL);
}

bool settings_number_read(const struct settings_row *row, const char *text, uint64_t *value)
{
    if (row->type == SETTINGS_TYPE_DURATION) {
        return with_unit_read(text, duration_units, value);
    }
    if (row->type == SETTINGS_TYPE_SIZE) {
        return with_unit_read(text, size_units, value);
    }
    if (row->type == SETTINGS_TYPE_MARK) {
        return read_mark(text, value);
    }
    return settings_number_whole(&text, value) && *text == '\0';
}

void settings_number_write(const struct settings_row *row, uint64_t value, char *text, size_t size)
{
    if (row->type == SETTINGS_TYPE_DURATION) {
        with_unit_write(value, duration_units, text, size);
    } else if (row->type == SETTINGS_TYPE_SIZE) {
        with_unit_write(value, size_units, text, size);
    } else if (row->type == SETTINGS_TYPE_MARK && value != 0) {
        snprintf(text, size, "0x%" PRIx64, value);
    } else {
        snprintf(text, size, "%" PRIu64, value);
    }
}

/* A window shorter than 10 ms counts nothing, a longer one than a week never forgets. */
#define RATE_WINDOW_MIN_US     UINT64_C(10000)
#define RATE_WINDOW_MAX_US     (UINT64_C(7) * 86400 * 1000000)
#define RATE_WINDOW_DEFAULT_US UINT64_C(60000000) /* the window beside a rate of 0 */

bool settings_number_read_rate(const struct settings_row *row, const char *text, uint32_t *count,
                               uint64_t *window_us)
{
    uint64_t number;
    if (strcmp(text, "0") == 0) {
        *count = 0;
        *window_us = RATE_WINDOW_DEFAULT_US;
        return true;
    }
    if (!settings_number_whole(&text, &number) || number < row->minimum || number > row->maximum ||
        *text != '/' || !with_unit_read(text + 1, duration_units, window_us) ||
        *window_us < RATE_WINDOW_MIN_US || *window_us > RATE_WINDOW_MAX_US) {
        return false;
    }
    *count = (uint32_t)number;
    return true;
}

void settings_number_write_rate(uint32_t count, uint64_t window_us, char *text, size_t size)
{
    char window[32];
    if (count == 0) {
        snprintf(text, size, "0");
        return;
    }
    with_unit_write(window_us, duration_units, window, sizeof window);
    snprintf(text, size, "%" PRIu32 "/%s", count, window);
}
