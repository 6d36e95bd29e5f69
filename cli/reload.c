#include "cli/reload.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "conf/settings_compare.h"
#include "conf/settings_print.h"

#define RELOAD_MAX_CHANGES 16 /* so many are named one by one; the rest is counted */

/* The settings as the dump prints them, in memory. NULL without memory. */
static char *dump_text(const struct settings *settings)
{
    char *text = NULL;
    size_t length = 0;
    FILE *to = open_memstream(&text, &length);
    bool printed;

    if (to == NULL) {
        return NULL;
    }
    printed = settings_dump(settings, to);
    if (fclose(to) == EOF || !printed) {
        free(text);
        return NULL;
    }
    return text;
}

/* Walks a dump line by line. */
struct walk {
    const char *next;
    const char *section, *line;
    int section_length, line_length;
};

static bool walk_step(struct walk *walk)
{
    while (*walk->next != '\0') {
        const char *line = walk->next;
        size_t length = strcspn(line, "\n");

        walk->next += length + (line[length] == '\n' ? 1 : 0);
        if (line[0] == '[') {
            walk->section = line;
            walk->section_length = (int)length;
        } else if (length > 0 && line[0] != '#' && line[0] != ';') {
            walk->line = line;
            walk->line_length = (int)length;
            return true;
        }
    }
    return false;
}

static bool same_text(const char *a, int a_length, const char *b, int b_length)
{
    return a_length == b_length && strncmp(a, b, (size_t)a_length) == 0;
}

/* Length of the key before " = ". */
static int key_length(const struct walk *walk)
{
    int length = 0;

    while (length < walk->line_length && walk->line[length] != ' ' && walk->line[length] != '=') {
        length++;
    }
    return length;
}

/* Finds the line of the same section and key in `text`. */
static bool find_line(const char *text, const struct walk *wanted, struct walk *found)
{
    *found = (struct walk){.next = text, .section = "", .line = ""};
    while (walk_step(found)) {
        if (same_text(found->section, found->section_length, wanted->section, wanted->section_length) &&
            same_text(found->line, key_length(found), wanted->line, key_length(wanted))) {
            return true;
        }
    }
    return false;
}

/* The value behind "key = ". */
static int value_offset(const struct walk *walk)
{
    int offset = key_length(walk);

    while (offset < walk->line_length && (walk->line[offset] == ' ' || walk->line[offset] == '=')) {
        offset++;
    }
    return offset;
}

static void log_change(struct log *log, const struct walk *now, const struct walk *was)
{
    if (was == NULL) {
        log_message(log, LOG_NOTICE, "reload", "%.*s %.*s (was not set)", now->section_length, now->section,
                    now->line_length, now->line);
    } else {
        int offset = value_offset(was);

        log_message(log, LOG_NOTICE, "reload", "%.*s %.*s (was %.*s)", now->section_length, now->section,
                    now->line_length, now->line, was->line_length - offset, was->line + offset);
    }
}

static unsigned log_changes(struct log *log, const char *before, const char *after)
{
    struct walk now = {.next = after, .section = "", .line = ""};
    struct walk was = {.next = before, .section = "", .line = ""};
    struct walk found;
    unsigned changes = 0;

    while (walk_step(&now)) {
        bool present = find_line(before, &now, &found);

        if (present && same_text(found.line, found.line_length, now.line, now.line_length)) {
            continue;
        }
        if (changes++ < RELOAD_MAX_CHANGES) {
            log_change(log, &now, present ? &found : NULL);
        }
    }
    while (walk_step(&was)) {
        if (!find_line(after, &was, &found) && changes++ < RELOAD_MAX_CHANGES) {
            log_message(log, LOG_NOTICE, "reload", "%.*s %.*s: removed", was.section_length, was.section,
                        was.line_length, was.line);
        }
    }
    return changes;
}

static void log_differences(struct log *log, const struct settings *running, const struct settings *loaded)
{
    char *before = dump_text(running);
    char *after = dump_text(loaded);

    if (before != NULL && after != NULL) {
        unsigned changes = log_changes(log, before, after);

        if (changes > RELOAD_MAX_CHANGES) {
            log_message(log, LOG_NOTICE, "reload", "and %u changes more", changes - RELOAD_MAX_CHANGES);
        } else if (changes == 0) {
            log_message(log, LOG_NOTICE, "reload", "nothing changed");
        }
    }
    free(before);
    free(after);
}

struct settings *reload_settings(const char *path, const struct settings *running, struct log *log)
{
    const struct settings_row *rows[SETTINGS_MAX_ROWS];
    char text[SETTINGS_DIFFERENCE_SIZE];
    struct settings_error error = {0};
    struct settings *loaded = settings_load(path, &error);
    size_t kept;

    if (loaded == NULL) {
        log_message(log, LOG_ERR, "reload", "%s; the running configuration stays", error.text);
        return NULL;
    }
    kept = settings_compare(running, loaded, rows, SETTINGS_MAX_ROWS);
    for (size_t i = 0; i < kept && i < SETTINGS_MAX_ROWS; i++) {
        log_message(log, LOG_WARNING, "reload", "%s", settings_difference_format(rows[i], running, text));
    }
    settings_keep(loaded, running);
    if (!log_reconfigure(log, &loaded->log, &error)) {
        log_message(log, LOG_ERR, "reload", "%s; the running configuration stays", error.text);
        settings_destroy(loaded);
        return NULL;
    }
    log_differences(log, running, loaded);
    log_message(log, LOG_NOTICE, "reload", "%s is in force for new sessions", path);
    return loaded;
}
