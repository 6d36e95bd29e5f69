#include "conf/settings_compare.h"

#include <stdio.h>
#include <string.h>

#include "conf/settings_value.h"

/* A row that needs a restart is a plain field of struct settings; the test of the table holds it to that. */
static bool needs_restart(const struct settings_row *row)
{
    return !row->reloadable && row->base == SETTINGS_BASE_SETTINGS;
}

size_t settings_compare(const struct settings *running, const struct settings *loaded,
                        const struct settings_row **rows, size_t room)
{
    size_t count = 0;
    for (size_t i = 0; i < settings_row_count; i++) {
        const struct settings_row *row = &settings_rows[i];
        if (needs_restart(row) &&
            memcmp((const char *)running + row->offset, (const char *)loaded + row->offset, row->size) != 0) {
            if (count < room) {
                rows[count] = row;
            }
            count++;
        }
    }
    return count;
}

const char *settings_difference_format(const struct settings_row *row, const struct settings *running,
                                       char text[SETTINGS_DIFFERENCE_SIZE])
{
    char value[SETTINGS_VALUE_SIZE];
    if (!settings_value_format(row, running, value)) {
        value[0] = '\0';
    }
    snprintf(text, SETTINGS_DIFFERENCE_SIZE, "%s.%s needs a restart; keeping %.255s",
             settings_sections[row->section].word, row->key, value[0] != '\0' ? value : "it empty");
    return text;
}

void settings_keep(struct settings *loaded, const struct settings *running)
{
    for (size_t i = 0; i < settings_row_count; i++) {
        const struct settings_row *row = &settings_rows[i];
        if (needs_restart(row)) {
            memcpy((char *)loaded + row->offset, (const char *)running + row->offset, row->size);
        }
    }
}
