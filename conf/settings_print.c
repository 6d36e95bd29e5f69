#include "conf/settings_print.h"

#include <string.h>

#include "conf/settings_describe.h"
#include "conf/settings_index.h"
#include "conf/settings_profile.h"
#include "conf/settings_table.h"
#include "conf/settings_value.h"

/* Help in the sample is wrapped here, so that it reads well in a terminal of 80 columns. */
#define COLUMNS 78

/* The dump ------------------------------------------------------------------------------------------------ */

/* Paths may hold what iniparser takes for a comment. */
static bool needs_quotes(const struct settings_row *row, const char *text)
{
    return row->type == SETTINGS_TYPE_PATH && strpbrk(text, " #;=\\[]") != NULL;
}

static bool dump_row(const struct settings_row *row, const void *base, FILE *to)
{
    char text[SETTINGS_VALUE_SIZE];
    if (!settings_value_format(row, base, text)) {
        return false;
    }
    const char *quote = needs_quotes(row, text) ? "\"" : "";
    fprintf(to, "%s =%s%s%s%s\n", row->key, text[0] != '\0' ? " " : "", quote, text, quote);
    return true;
}

static bool dump_override(enum settings_section section, const struct policy_override *override, FILE *to)
{
    bool good = true;
    fprintf(to, "\n[%s %s]\n", settings_sections[section].word, override->name);
    for (size_t i = 0; i < settings_row_count; i++) {
        const struct settings_row *row = &settings_rows[i];
        if (row->section == section) {
            good = dump_row(row, override, to) && good;
        }
    }
    for (size_t i = 0; i < settings_row_count; i++) {
        const struct settings_row *row = &settings_rows[i];
        if (row->base == SETTINGS_BASE_TIMEOUTS) {
            good = dump_row(row, &override->timeouts, to) && good;
        } else if (row->base == SETTINGS_BASE_LIMITS) {
            good = dump_row(row, &override->limits, to) && good;
        }
    }
    return good;
}

bool settings_dump(const struct settings *settings, FILE *to)
{
    const struct policy_settings *policy = &settings->policy;
    enum settings_section section = SETTINGS_SECTION_NONE;
    bool good = true;
    fprintf(to, "# Every setting in force. Profiles and inheritance are resolved.\n");
    for (size_t i = 0; i < settings_row_count; i++) {
        const struct settings_row *row = &settings_rows[i];
        if (settings_sections[row->section].named || row->base == SETTINGS_BASE_NONE) {
            continue;
        }
        if (row->section != section) {
            section = row->section;
            fprintf(to, "\n[%s]\n", settings_sections[section].word);
        }
        const void *base = row->base == SETTINGS_BASE_TIMEOUTS ? (const void *)&policy->timeouts
                           : row->base == SETTINGS_BASE_LIMITS ? (const void *)&policy->limits
                                                               : settings;
        good = dump_row(row, base, to) && good;
    }
    for (size_t i = 0; i < policy->source_count; i++) {
        good = dump_override(SETTINGS_SECTION_SOURCE, &policy->sources[i], to) && good;
    }
    for (size_t i = 0; i < policy->server_count; i++) {
        good = dump_override(SETTINGS_SECTION_SERVER, &policy->servers[i], to) && good;
    }
    return good && ferror(to) == 0;
}

/* The sample ---------------------------------------------------------------------------------------------- */

/* Writes words behind "# ", in lines of at most COLUMNS. */
static void print_comment(const char *text, FILE *to)
{
    size_t column = 0;
    while (*text != '\0') {
        size_t word = strcspn(text, " ");
        if (column > 0 && column + 1 + word > COLUMNS) {
            fputc('\n', to);
            column = 0;
        }
        fprintf(to, "%s%.*s", column == 0 ? "# " : " ", (int)word, text);
        column += (column == 0 ? 2 : 1) + word;
        text += word;
        text += strspn(text, " ");
    }
    fputc('\n', to);
}

static void print_facts(const struct settings_row *row, FILE *to)
{
    char range[96];
    char facts[512];
    size_t used = 0;
    settings_value_range(row, range, sizeof range);
    if (row->type == SETTINGS_TYPE_CHOICE) {
        used = (size_t)snprintf(facts, sizeof facts, "One of");
        for (const struct settings_choice *choice = row->choices; choice->text != NULL; choice++) {
            used += (size_t)snprintf(facts + used, sizeof facts - used, "%s %s",
                                     choice != row->choices ? "," : "", choice->text);
        }
        snprintf(facts + used, sizeof facts - used, ".");
    } else if (row->type == SETTINGS_TYPE_PROFILE) {
        used = (size_t)snprintf(facts, sizeof facts, "One of");
        for (size_t i = 0; i < settings_profile_count; i++) {
            used += (size_t)snprintf(facts + used, sizeof facts - used, "%s %s", i > 0 ? "," : "",
                                     settings_profiles[i].name);
        }
        snprintf(facts + used, sizeof facts - used, ".");
    } else if (row->type == SETTINGS_TYPE_BOOLEAN) {
        snprintf(facts, sizeof facts, "Yes or no.");
    } else if (row->empty != NULL) {
        snprintf(facts, sizeof facts, "Empty: %s.", row->empty);
    } else if (range[0] != '\0') {
        bool wordy = row->type == SETTINGS_TYPE_COUNT || row->type == SETTINGS_TYPE_OCTET;
        snprintf(facts, sizeof facts, "%s%s%s.", wordy ? row->unit : "", wordy ? " " : "", range);
        if (facts[0] >= 'a' && facts[0] <= 'z') {
            facts[0] = (char)(facts[0] - 'a' + 'A');
        }
    } else {
        return;
    }
    print_comment(facts, to);
}

static void print_sample_row(const struct settings_row *row, FILE *to)
{
    const char *text = row->default_text != NULL ? row->default_text : row->example;
    fputc('\n', to);
    print_comment(row->help, to);
    print_facts(row, to);
    if (!row->reloadable) {
        print_comment("A change needs a restart.", to);
    }
    fprintf(to, "#%s =%s%s\n", row->key, text[0] != '\0' ? " " : "", text);
}

static void print_sample_named(const struct settings_section_row *section, FILE *to)
{
    bool source = section->section == SETTINGS_SECTION_SOURCE;
    fprintf(to, "#[%s %s]\n", section->word, source ? "gateways" : "exchange");
    for (size_t i = 0; i < settings_row_count; i++) {
        if (settings_rows[i].section == section->section) {
            print_sample_row(&settings_rows[i], to);
        }
    }
    fprintf(to, "\n# For example:\n%s\n",
            source ? "#per-source = 60\n#over-limit = hold" : "#profile = exchange");
}

bool settings_print_sample(FILE *to)
{
    fputs("# smtpwitness.conf - see smtpwitness.conf(5).\n"
          "#\n"
          "# Every key is shown with its default, commented out. Durations need a unit:\n"
          "# 500ms, 30s, 5min, 1h, 2d. Sizes may have one: 64k, 1M. A \"#\" or \";\" after a\n"
          "# blank starts a comment. \"smtpwitness check FILE\" tells what is wrong with a\n"
          "# file before it is used.\n",
          to);
    for (size_t i = 1; i < SETTINGS_SECTION_COUNT; i++) {
        const struct settings_section_row *section = &settings_sections[i];
        fputs("\n\n", to);
        print_comment(section->help, to);
        if (section->named) {
            print_sample_named(section, to);
            continue;
        }
        fprintf(to, "[%s]\n", section->word);
        for (size_t row = 0; row < settings_row_count; row++) {
            if (settings_rows[row].section == section->section) {
                print_sample_row(&settings_rows[row], to);
            }
        }
    }
    return ferror(to) == 0;
}
