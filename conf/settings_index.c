#include "conf/settings_index.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "conf/settings_error.h"
#include "conf/settings_nearest.h"
#include "conf/settings_text.h"
#include "conf/settings_value.h"

_Static_assert(SETTINGS_MAX_LINE_OCTETS < SETTINGS_VALUE_SIZE, "every value of a line fits");

/* What the functions below share while one text is read. */
struct reader {
    struct settings_index *index;
    const char *name;
    struct settings_error *error;
    uint32_t line;
};

#define WRONG(reader, ...)                                                                                   \
    (settings_error_set((reader)->error, (reader)->name, (reader)->line, __VA_ARGS__), false)

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static void trim(const char **text, size_t *length)
{
    while (*length > 0 && is_blank((*text)[0])) {
        (*text)++;
        (*length)--;
    }
    while (*length > 0 && is_blank((*text)[*length - 1])) {
        (*length)--;
    }
}

/* Sections ------------------------------------------------------------------------------------------------ */

static bool section_add(struct reader *reader, enum settings_section section, const char *name, size_t length)
{
    struct settings_index *index = reader->index;
    char title[SETTINGS_HEADER_SIZE];
    for (size_t i = 0; i < index->section_count; i++) {
        const struct settings_index_section *other = &index->sections[i];
        /* iniparser folds case, so two names that differ in case only would be one to it. */
        if (other->section == section && strlen(other->name) == length &&
            strncasecmp(other->name, name, length) == 0) {
            return WRONG(reader, "section [%s] stands already in line %u; put its keys there",
                         settings_index_title(other, title), (unsigned)other->line);
        }
    }
    if (index->section_count == SETTINGS_MAX_SECTIONS) {
        return WRONG(reader, "more than %d sections; put several networks into one section",
                     SETTINGS_MAX_SECTIONS);
    }
    if (index->section_count == index->section_room) {
        size_t room = index->section_room == 0 ? 8 : index->section_room * 2;
        struct settings_index_section *grown = realloc(index->sections, room * sizeof *grown);
        if (grown == NULL) {
            return WRONG(reader, "out of memory");
        }
        index->sections = grown;
        index->section_room = room;
    }
    struct settings_index_section *added = &index->sections[index->section_count++];
    memset(added, 0, sizeof *added);
    added->section = section;
    added->line = reader->line;
    memcpy(added->name, name, length);
    return true;
}

static bool section_unknown(struct reader *reader, const char *inner, size_t length, size_t word)
{
    char quoted[SETTINGS_QUOTE_SIZE];
    const struct settings_section_row *nearest = settings_nearest_section(inner, word);
    settings_quote(quoted, inner, length);
    if (nearest != NULL) {
        return WRONG(reader, "unknown section [%s]; did you mean [%s%s]?", quoted, nearest->word,
                     nearest->named ? " NAME" : "");
    }
    char list[128];
    size_t used = 0;
    for (enum settings_section section = 1; section < SETTINGS_SECTION_COUNT; section++) {
        used += (size_t)snprintf(list + used, sizeof list - used, " [%s%s]", settings_sections[section].word,
                                 settings_sections[section].named ? " NAME" : "");
    }
    return WRONG(reader, "unknown section [%s]; the sections are%s", quoted, list);
}

/* `line` starts with '['. */
static bool read_header(struct reader *reader, const char *line, size_t length)
{
    char quoted[SETTINGS_QUOTE_SIZE];
    if (line[length - 1] != ']') {
        return WRONG(reader, "\"%s\" is no section header; write it alone on its line, for example [limits]",
                     settings_quote(quoted, line, length));
    }
    const char *inner = line + 1;
    size_t inner_length = length - 2;
    size_t word = 0;
    while (word < inner_length && !is_blank(inner[word])) {
        word++;
    }
    const struct settings_section_row *found = NULL;
    for (size_t i = 1; i < SETTINGS_SECTION_COUNT; i++) {
        if (strlen(settings_sections[i].word) == word &&
            memcmp(settings_sections[i].word, inner, word) == 0) {
            found = &settings_sections[i];
        }
    }
    if (found == NULL) {
        return section_unknown(reader, inner, inner_length, word);
    }
    if (!found->named) {
        if (word != inner_length) {
            return WRONG(reader, "section [%s] takes no name; write [%s]", found->word, found->word);
        }
        return section_add(reader, found->section, "", 0);
    }
    const char *name = inner + word + 1;
    size_t name_length = word < inner_length ? inner_length - word - 1 : 0;
    if (name_length == 0 || inner[word] != ' ' || name_length > SETTINGS_MAX_NAME_OCTETS ||
        !settings_word_valid(name, name_length)) {
        return WRONG(
            reader,
            "section [%s] needs one blank and a name of at most %d letters, digits, dots, dashes and "
            "underscores; write for example [%s %s]",
            settings_quote(quoted, inner, inner_length), SETTINGS_MAX_NAME_OCTETS, found->word,
            found->section == SETTINGS_SECTION_SOURCE ? "gateways" : "exchange");
    }
    return section_add(reader, found->section, name, name_length);
}

/* Keys ---------------------------------------------------------------------------------------------------- */

static bool key_unknown(struct reader *reader, const struct settings_index_section *section, const char *key,
                        size_t length)
{
    char quoted[SETTINGS_QUOTE_SIZE];
    char title[SETTINGS_HEADER_SIZE];
    const struct settings_row *nearest = settings_nearest_row(section->section, key, length);
    settings_index_title(section, title);
    settings_quote(quoted, key, length);
    if (nearest == NULL) {
        return WRONG(reader, "[%s] has no key \"%s\"; smtpwitness.conf(5) lists the keys", title, quoted);
    }
    if (settings_row_fits(nearest, section->section)) {
        return WRONG(reader, "[%s] has no key \"%s\"; did you mean \"%s\"?", title, quoted, nearest->key);
    }
    const struct settings_section_row *home = &settings_sections[nearest->section];
    return WRONG(reader, "[%s] has no key \"%s\"; it belongs in [%s%s]", title, quoted, home->word,
                 home->named ? " NAME" : "");
}

/* Refuses a value that iniparser would cut or take apart differently from a person. */
static bool check_value(struct reader *reader, const char *value, size_t length)
{
    char quoted[SETTINGS_QUOTE_SIZE];
    trim(&value, &length);
    settings_quote(quoted, value, length);
    if (length > 0 && (value[0] == '"' || value[0] == '\'')) {
        const char *closing = memchr(value + 1, value[0], length - 1);
        if (closing == NULL) {
            return WRONG(reader, "the quote in %s is never closed; close it or take it away", quoted);
        }
        const char *rest = closing + 1;
        size_t rest_length = length - (size_t)(rest - value);
        for (const char *at = value + 1; at < closing; at++) {
            if (*at == '"' || *at == '\'') {
                return WRONG(reader, "a quote within the quotes of %s; take it away", quoted);
            }
        }
        trim(&rest, &rest_length);
        if (rest_length > 0 && rest[0] != '#' && rest[0] != ';') {
            return WRONG(reader, "there is something behind the closing quote in %s; take it away", quoted);
        }
        return true;
    }
    for (size_t i = 0; i < length; i++) {
        if (value[i] == '"' || value[i] == '\'') {
            return WRONG(reader,
                         "a quote in the middle of %s; put the whole value into quotes, or take it away",
                         quoted);
        }
        if (value[i] == '#' || value[i] == ';') {
            if (i > 0 && !is_blank(value[i - 1])) {
                return WRONG(
                    reader,
                    "a \"%c\" in %s; put a blank before it if it starts a comment, or put the whole value "
                    "into double quotes",
                    value[i], quoted);
            }
            return true;
        }
    }
    return true;
}

static bool read_key(struct reader *reader, const char *line, size_t length)
{
    char quoted[SETTINGS_QUOTE_SIZE];
    const char *equals = memchr(line, '=', length);
    if (equals == NULL) {
        return WRONG(reader,
                     "\"%s\" is neither a section, a key nor a comment; write for example per-source = 20",
                     settings_quote(quoted, line, length));
    }
    const char *key = line;
    size_t key_length = (size_t)(equals - line);
    trim(&key, &key_length);
    settings_quote(quoted, key, key_length);
    if (key_length == 0) {
        return WRONG(reader, "there is no key before the \"=\"; write for example per-source = 20");
    }
    struct settings_index *index = reader->index;
    if (index->section_count == 0) {
        const struct settings_row *meant = settings_nearest_row(SETTINGS_SECTION_NONE, key, key_length);
        return WRONG(reader, "the key \"%s\" stands before any section; write [%s] on a line above it",
                     quoted,
                     settings_sections[meant != NULL ? meant->section : SETTINGS_SECTION_LIMITS].word);
    }
    struct settings_index_section *section = &index->sections[index->section_count - 1];
    const struct settings_row *row = settings_row_find(section->section, key, key_length);
    if (row == NULL) {
        return key_unknown(reader, section, key, key_length);
    }
    uint32_t *set_in = &section->row_line[row - settings_rows];
    if (*set_in != 0) {
        char title[SETTINGS_HEADER_SIZE];
        return WRONG(reader, "[%s] %s is already set in line %u; keep one of the two",
                     settings_index_title(section, title), row->key, (unsigned)*set_in);
    }
    const char *value = equals + 1;
    if (!check_value(reader, value, length - (size_t)(value - line))) {
        return false;
    }
    *set_in = reader->line;
    index->key_count++;
    return true;
}

/* Lines --------------------------------------------------------------------------------------------------- */

static bool check_characters(struct reader *reader, const char *line, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        unsigned char octet = (unsigned char)line[i];
        if (octet == 0) {
            return WRONG(reader, "a NUL octet; this is no text file, or it is in UTF-16: save it as UTF-8");
        }
        if ((octet < 0x20 && octet != '\t') || octet == 0x7f) {
            return WRONG(reader, "the control character 0x%02x in column %zu; delete it", octet, i + 1);
        }
    }
    return true;
}

static bool read_line(struct reader *reader, const char *line, size_t length)
{
    char quoted[SETTINGS_QUOTE_SIZE];
    if (length > 0 && line[length - 1] == '\r') {
        length--;
    }
    if (!check_characters(reader, line, length)) {
        return false;
    }
    if (length > SETTINGS_MAX_LINE_OCTETS) {
        return WRONG(reader, "the line has %zu octets, the most is %d; shorten it, or split the section",
                     length, SETTINGS_MAX_LINE_OCTETS);
    }
    trim(&line, &length);
    if (length == 0) {
        return true;
    }
    if (line[length - 1] == '\\') {
        return WRONG(reader, "\"%s\" ends in a backslash; lines cannot be continued, delete it",
                     settings_quote(quoted, line, length));
    }
    if (line[0] == '#' || line[0] == ';') {
        return true;
    }
    return line[0] == '[' ? read_header(reader, line, length) : read_key(reader, line, length);
}

static bool check_beginning(struct reader *reader, const char *text, size_t length)
{
    if (length >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
        return WRONG(reader, "the file begins with a byte order mark; save it as UTF-8 without one");
    }
    if (length >= 2 && (memcmp(text, "\xff\xfe", 2) == 0 || memcmp(text, "\xfe\xff", 2) == 0)) {
        return WRONG(reader, "the file is in UTF-16; save it as UTF-8");
    }
    return true;
}

bool settings_index_build(struct settings_index *index, const char *name, const char *text, size_t length,
                          struct settings_error *error)
{
    struct reader reader = {.index = index, .name = name, .error = error, .line = 0};
    memset(index, 0, sizeof *index);
    if (length > SETTINGS_MAX_FILE_OCTETS) {
        return WRONG(&reader, "the file has more than %d octets; is it a configuration file?",
                     SETTINGS_MAX_FILE_OCTETS);
    }
    reader.line = 1;
    if (!check_beginning(&reader, text, length)) {
        return false;
    }
    while (length > 0) {
        const char *newline = memchr(text, '\n', length);
        size_t line_length = newline != NULL ? (size_t)(newline - text) : length;
        size_t step = newline != NULL ? line_length + 1 : length;
        if (!read_line(&reader, text, line_length)) {
            return false;
        }
        text += step;
        length -= step;
        reader.line++;
    }
    return true;
}

void settings_index_clear(struct settings_index *index)
{
    free(index->sections);
    memset(index, 0, sizeof *index);
}

const struct settings_index_section *settings_index_find(const struct settings_index *index,
                                                         enum settings_section section)
{
    for (size_t i = 0; i < index->section_count; i++) {
        if (index->sections[i].section == section) {
            return &index->sections[i];
        }
    }
    return NULL;
}

const char *settings_index_title(const struct settings_index_section *section,
                                 char text[SETTINGS_HEADER_SIZE])
{
    snprintf(text, SETTINGS_HEADER_SIZE, "%s%s%s", settings_sections[section->section].word,
             section->name[0] != '\0' ? " " : "", section->name);
    return text;
}
