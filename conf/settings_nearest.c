#include "conf/settings_nearest.h"

#include <ctype.h>
#include <string.h>

size_t settings_distance(const char *a, size_t a_length, const char *b)
{
    /* Levenshtein's distance, one row of the matrix at a time. */
    size_t b_length = strlen(b);
    size_t row[NEAREST_MAX_OCTETS + 1];
    if (a_length > NEAREST_MAX_OCTETS || b_length > NEAREST_MAX_OCTETS) {
        return SIZE_MAX;
    }
    for (size_t j = 0; j <= b_length; j++) {
        row[j] = j;
    }
    for (size_t i = 1; i <= a_length; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b_length; j++) {
            size_t above = row[j];
            size_t best = diagonal;
            if (tolower((unsigned char)a[i - 1]) != tolower((unsigned char)b[j - 1])) {
                best = (diagonal < above ? diagonal : above) + 1;
                if (row[j - 1] + 1 < best) {
                    best = row[j - 1] + 1;
                }
            }
            row[j] = best;
            diagonal = above;
        }
    }
    return row[b_length];
}

/* About a quarter of the letters may be wrong; more is another word. */
static size_t allowed(size_t length)
{
    return length < 3 ? 1 : 1 + length / 4;
}

const struct settings_row *settings_nearest_row(enum settings_section section, const char *key, size_t length)
{
    const struct settings_row *nearest = NULL;
    size_t least = allowed(length) + 1;
    for (size_t i = 0; i < settings_row_count; i++) {
        const struct settings_row *row = &settings_rows[i];
        bool fits = section == SETTINGS_SECTION_NONE || settings_row_fits(row, section);
        size_t distance = settings_distance(key, length, row->key);
        if (distance == 0 && !fits) {
            return row;
        }
        if (fits && distance < least) {
            least = distance;
            nearest = row;
        }
    }
    return nearest;
}

const struct settings_section_row *settings_nearest_section(const char *word, size_t length)
{
    const struct settings_section_row *nearest = NULL;
    size_t least = allowed(length) + 1;
    for (size_t i = 1; i < SETTINGS_SECTION_COUNT; i++) {
        size_t distance = settings_distance(word, length, settings_sections[i].word);
        if (distance < least) {
            least = distance;
            nearest = &settings_sections[i];
        }
    }
    return nearest;
}
