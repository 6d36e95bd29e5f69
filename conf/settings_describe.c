#include "conf/settings_describe.h"

#include <stdio.h>
#include <string.h>

#include "conf/settings_number.h"
#include "conf/settings_profile.h"

void settings_value_range(const struct settings_row *row, char *text, size_t size)
{
    char low[32];
    char high[32];
    text[0] = '\0';
    if (row->type == SETTINGS_TYPE_PORTS) {
        snprintf(text, size, "%s%u ports", row->minimum == 0 ? "at most " : "1 to ", (unsigned)row->maximum);
    } else if (row->maximum > 0) {
        settings_number_write(row, row->minimum, low, sizeof low);
        settings_number_write(row, row->maximum, high, sizeof high);
        snprintf(text, size, "from %s to %s%s%s", low, high, row->zero != NULL ? ", or 0 for " : "",
                 row->zero != NULL ? row->zero : "");
    } else if (row->type == SETTINGS_TYPE_WORD || row->type == SETTINGS_TYPE_HOST_NAME ||
               row->type == SETTINGS_TYPE_PATH) {
        snprintf(text, size, "at most %zu octets", row->size - 1);
    }
}

static void describe_choices(const struct settings_row *row, char *text, size_t size)
{
    size_t used = (size_t)snprintf(text, size, "not one of");
    for (size_t i = 0;; i++) {
        bool profile = row->type == SETTINGS_TYPE_PROFILE;
        if (profile ? i == settings_profile_count : row->choices[i].text == NULL) {
            return;
        }
        int added = snprintf(text + used, size - used, "%s %s", i > 0 ? "," : "",
                             profile ? settings_profiles[i].name : row->choices[i].text);
        if (added < 0 || (size_t)added >= size - used) {
            return;
        }
        used += (size_t)added;
    }
}

static bool is_numeric(enum settings_type type)
{
    return type == SETTINGS_TYPE_COUNT || type == SETTINGS_TYPE_OCTET || type == SETTINGS_TYPE_SIZE ||
           type == SETTINGS_TYPE_DURATION || type == SETTINGS_TYPE_PORT || type == SETTINGS_TYPE_RATE;
}

/* A number without a unit was meant as seconds, when that is possible. */
static void suggest_seconds(const struct settings_row *row, const char *text,
                            struct settings_value_fault *fault)
{
    char seconds[24];
    uint64_t value;
    if (strlen(text) < sizeof seconds - 1) {
        snprintf(seconds, sizeof seconds, "%ss", text);
        if (settings_number_read(row, seconds, &value) && settings_number_in_range(row, value)) {
            snprintf(fault->example, sizeof fault->example, "%s", seconds);
        }
    }
}

void settings_value_describe(const struct settings_row *row, const char *text,
                             struct settings_value_fault *fault)
{
    char range[96];
    const char *noun = "value";
    settings_value_range(row, range, sizeof range);
    if (text[0] == '0' && text[1] >= '0' && text[1] <= '9' && is_numeric(row->type)) {
        snprintf(fault->what, sizeof fault->what, "a number must not start with 0");
        return;
    }
    switch (row->type) {
    case SETTINGS_TYPE_BOOLEAN:
        snprintf(fault->what, sizeof fault->what, "neither yes nor no");
        return;
    case SETTINGS_TYPE_DURATION:
        if (text[strspn(text, "0123456789")] == '\0') {
            snprintf(fault->what, sizeof fault->what, "a duration needs a unit: ms, s, min, h or d");
            suggest_seconds(row, text, fault);
            return;
        }
        noun = "duration in whole ms, s, min, h or d";
        break;
    case SETTINGS_TYPE_COUNT:
    case SETTINGS_TYPE_OCTET:
        noun = "whole number";
        break;
    case SETTINGS_TYPE_SIZE:
        noun = "size in octets, k, M or G";
        break;
    case SETTINGS_TYPE_MARK:
        noun = "firewall mark";
        break;
    case SETTINGS_TYPE_RATE:
        snprintf(fault->what, sizeof fault->what,
                 "not a rate: a whole number %s, a slash, and a duration from 10ms to 7d",
                 "from 1 to 1000000, or 0 alone for no limit");
        return;
    case SETTINGS_TYPE_PORT:
        noun = "port";
        break;
    case SETTINGS_TYPE_PORTS:
        snprintf(fault->what, sizeof fault->what, "not a list of different ports from 1 to 65535, %s", range);
        return;
    case SETTINGS_TYPE_CHOICE:
    case SETTINGS_TYPE_PROFILE:
        describe_choices(row, fault->what, sizeof fault->what);
        return;
    case SETTINGS_TYPE_HOST_NAME:
        snprintf(fault->what, sizeof fault->what, "not a host name");
        return;
    case SETTINGS_TYPE_WORD:
        snprintf(fault->what, sizeof fault->what,
                 "not a word of at most %zu letters, digits, dots, dashes and underscores", row->size - 1);
        return;
    case SETTINGS_TYPE_PATH:
        snprintf(fault->what, sizeof fault->what,
                 "not the absolute path of a file%s, of at most %zu octets and without quotes",
                 row->dash ? " or a dash" : "", row->size - 1);
        return;
    case SETTINGS_TYPE_NETWORKS: /* described where it was found */
    case SETTINGS_TYPE_NONE:
    case SETTINGS_TYPE_END:
        return;
    }
    snprintf(fault->what, sizeof fault->what, "not a %s %s", noun, range);
}
