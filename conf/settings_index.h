/* settings_index - which line of a configuration file sets which key.
 * iniparser 4.1 knows no lines, takes the last of two duplicates, joins a line that ends in a backslash with the next
 * one, drops what follows a closing quote, cuts a value at any ';' or '#', and leaves out lines it does not understand.
 * The index reads the text first, refuses whatever iniparser would read differently from a person, and remembers
 * the lines.
 * Owns:    its sections. Borrows: the text and its name, during settings_index_build() only.
 * Bounds:  SETTINGS_MAX_SECTIONS, SETTINGS_MAX_LINE_OCTETS, SETTINGS_MAX_FILE_OCTETS; more is an error.
 * Threads: none. */
#ifndef SMTPWITNESS_CONF_SETTINGS_INDEX_H
#define SMTPWITNESS_CONF_SETTINGS_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf/settings.h"
#include "conf/settings_table.h"

#define SETTINGS_MAX_SECTIONS    512     /* every new session walks the named ones */
#define SETTINGS_MAX_LINE_OCTETS 1000    /* iniparser 4.1 reads lines of at most 1023 octets (ASCIILINESZ) */
#define SETTINGS_MAX_FILE_OCTETS 1048576 /* every section with every key fits many times over */
#define SETTINGS_MAX_NAME_OCTETS 63      /* of [source NAME]: policy_override.name */

struct settings_index_section {
    enum settings_section section;
    char name[SETTINGS_MAX_NAME_OCTETS + 1]; /* "" where the section has none */
    uint32_t line;                           /* of the header */
    uint32_t row_line[SETTINGS_MAX_ROWS];    /* by row of the table; 0 = not set here */
};

struct settings_index {
    struct settings_index_section *sections; /* in the order of the file */
    size_t section_count;
    size_t section_room;
    size_t key_count; /* in all sections */
};

/* False with `error` filled when the text is not one we can honour. Clear the index in either case. */
bool settings_index_build(struct settings_index *index, const char *name, const char *text, size_t length,
                          struct settings_error *error) MUST_CHECK;
void settings_index_clear(struct settings_index *index);

/* The one section of a kind that has no name; NULL when the file lacks it. */
const struct settings_index_section *settings_index_find(const struct settings_index *index,
                                                         enum settings_section section);

/* Room for "[source NAME]" as a header and in error lines. */
#define SETTINGS_HEADER_SIZE (SETTINGS_MAX_NAME_OCTETS + 16)

/* Writes "smtp" or "source NAME". Returns `text`. */
const char *settings_index_title(const struct settings_index_section *section,
                                 char text[SETTINGS_HEADER_SIZE]);

#endif
