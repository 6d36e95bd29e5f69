/* The manual page smtpwitness.conf(5), from the table. Source of the language: mdoc(7). */
#include "conf/settings_print.h"

#include <string.h>

#include "conf/settings_describe.h"
#include "conf/settings_index.h"
#include "conf/settings_profile.h"
#include "conf/settings_table.h"
#include "conf/settings_value.h"

/* The day the text around the table last changed. */
#define MANUAL_DATE "November 23, 2026"

/* Plain text: one sentence a line, as mdoc wants it; what roff would take for a command is made harmless. */
static void print_text(const char *text, FILE *to)
{
    bool at_start = true;
    for (; *text != '\0'; text++) {
        if (at_start && (*text == '.' || *text == '\'')) {
            fputs("\\&", to);
        }
        at_start = false;
        if (*text == '\\') {
            fputs("\\e", to);
        } else if (text[0] == '.' && text[1] == ' ' && text[2] >= 'A' && text[2] <= 'Z') {
            fputs(".\n", to);
            text++;
            at_start = true;
        } else {
            fputc(*text, to);
        }
    }
    fputc('\n', to);
}

/* One argument of a macro. */
static void print_argument(const char *text, FILE *to)
{
    fputc('"', to);
    for (; *text != '\0'; text++) {
        fputs(*text == '"' ? "\\(dq" : *text == '\\' ? "\\e" : (char[]){*text, '\0'}, to);
    }
    fputc('"', to);
}

static const char *type_name(const struct settings_row *row)
{
    switch (row->type) {
    case SETTINGS_TYPE_BOOLEAN:
        return "yes | no";
    case SETTINGS_TYPE_COUNT:
    case SETTINGS_TYPE_OCTET:
        return row->unit;
    case SETTINGS_TYPE_SIZE:
        return "size";
    case SETTINGS_TYPE_MARK:
        return "mark";
    case SETTINGS_TYPE_DURATION:
        return "duration";
    case SETTINGS_TYPE_RATE:
        return "count/duration";
    case SETTINGS_TYPE_PORT:
        return "port";
    case SETTINGS_TYPE_PORTS:
        return "port ...";
    case SETTINGS_TYPE_CHOICE:
        return "word";
    case SETTINGS_TYPE_HOST_NAME:
        return "host name";
    case SETTINGS_TYPE_WORD:
        return "word";
    case SETTINGS_TYPE_PATH:
        return row->dash ? "path | -" : "path";
    case SETTINGS_TYPE_NETWORKS:
        return "network ...";
    case SETTINGS_TYPE_PROFILE:
        return "profile";
    case SETTINGS_TYPE_NONE:
    case SETTINGS_TYPE_END:
        break;
    }
    return "";
}

static void print_choices(const struct settings_row *row, FILE *to)
{
    for (const struct settings_choice *choice = row->choices; choice->text != NULL; choice++) {
        const char *after = choice[1].text == NULL ? "." : choice[2].text == NULL ? "" : ",";
        if (choice != row->choices && choice[1].text == NULL) {
            fputs("or\n", to);
        }
        fprintf(to, ".Cm %s%s%s\n", choice->text, after[0] != '\0' ? " " : "", after);
    }
}

static void print_row(const struct settings_row *row, FILE *to)
{
    char range[96];
    fprintf(to, ".It Cm %s No = Ar ", row->key);
    print_argument(type_name(row), to);
    fputc('\n', to);
    print_text(row->help, to);
    if (row->choices != NULL) {
        fputs("One of\n", to);
        print_choices(row, to);
    }
    settings_value_range(row, range, sizeof range);
    if (row->type != SETTINGS_TYPE_RATE && range[0] != '\0') {
        fprintf(to, "The value is %s.\n", range);
    } else if (row->type == SETTINGS_TYPE_RATE) {
        fputs("The value is a count from 1 to 1000000, a slash and a duration; or 0 for no limit.\n", to);
    }
    if (row->empty != NULL) {
        fprintf(to, "An empty value means: %s.\n", row->empty);
    }
    if (row->default_text == NULL) {
        fprintf(to, "This key is required.\nExample:\n.Ql %s = %s\n", row->key, row->example);
    } else if (row->default_text[0] != '\0') {
        fputs("Default:\n.Ql ", to);
        fputs(row->default_text, to);
        fputs(" .\n", to);
    } else {
        fputs("Default: empty.\n", to);
    }
    if (!row->reloadable) {
        fputs("A change needs a restart.\n", to);
    }
}

static void print_profiles(FILE *to)
{
    fputs(".Ss Profiles\n"
          "A profile fills in these values.\n"
          ".Bl -tag -width Ds\n",
          to);
    for (size_t i = 0; i < settings_profile_count; i++) {
        const struct settings_profile *profile = &settings_profiles[i];
        fprintf(to, ".It Cm %s\n", profile->name);
        print_text(profile->help, to);
        for (const struct settings_profile_fill *fill = profile->fills; fill->key != NULL; fill++) {
            fprintf(to, ".Ql %s = %s%s\n", fill->key, fill->value, fill[1].key != NULL ? " ," : " .");
        }
    }
    fputs(".El\n", to);
}

static void print_section(const struct settings_section_row *section, FILE *to)
{
    fprintf(to, ".Ss [%s%s]\n", section->word, section->named ? " NAME" : "");
    print_text(section->help, to);
    fputs(".Bl -tag -width Ds\n", to);
    for (size_t i = 0; i < settings_row_count; i++) {
        if (settings_rows[i].section == section->section) {
            print_row(&settings_rows[i], to);
        }
    }
    fputs(".El\n", to);
}

static void print_grammar(FILE *to)
{
    fprintf(
        to,
        ".Sh DESCRIPTION\n"
        "The file consists of sections, each with a header in brackets alone on its line,\n"
        "and of lines with a key, an equals sign and a value.\n"
        "Empty lines and lines that start with\n"
        ".Ql #\n"
        "or\n"
        ".Ql \\&;\n"
        "are comments; behind a value a comment starts with a blank and one of these characters.\n"
        "A value may stand in double quotes.\n"
        "A line cannot be continued and has at most %d octets; a file has at most %d sections.\n"
        "A section, and a key in it, may stand in the file once.\n"
        ".Pp\n"
        "A file with any mistake is refused as a whole, with one line that names the file, the line, the "
        "key\n"
        "and what to write instead.\n"
        "On a reload the running process then keeps what it has.\n"
        ".Bl -tag -width Ds\n"
        ".It Ar duration\n"
        "A whole number and one of the units\n"
        ".Cm ms , s , min , h\n"
        "or\n"
        ".Cm d .\n"
        "Only 0 needs no unit.\n"
        ".It Ar size\n"
        "A whole number of octets, or of units of 1024:\n"
        ".Cm k , M\n"
        "or\n"
        ".Cm G .\n"
        ".It Ar network\n"
        "An IPv4 or IPv6 address, or a network such as 192.0.2.0/24 or 2001:db8::/32, without host bits.\n"
        "Names are not looked up.\n"
        ".It Ar mark\n"
        "A whole number, or a hexadecimal one such as 0x20.\n"
        ".El\n",
        SETTINGS_MAX_LINE_OCTETS, SETTINGS_MAX_SECTIONS);
}

bool settings_print_manual(FILE *to)
{
    fputs(".\\\" Generated from the table of settings; change conf/settings_table.c instead.\n"
          ".Dd " MANUAL_DATE "\n"
          ".Dt SMTPWITNESS.CONF 5\n"
          ".Os\n"
          ".Sh NAME\n"
          ".Nm smtpwitness.conf\n"
          ".Nd configuration of smtpwitness\n",
          to);
    print_grammar(to);
    fputs(".Sh SECTIONS\n", to);
    for (size_t i = 1; i < SETTINGS_SECTION_COUNT; i++) {
        print_section(&settings_sections[i], to);
        if (settings_sections[i].section == SETTINGS_SECTION_LIMITS) {
            print_profiles(to);
        }
    }
    fputs(".Sh FILES\n"
          ".Bl -tag -width Ds\n"
          ".It Pa /etc/smtpwitness/smtpwitness.conf\n"
          "The file that is read unless another one is named.\n"
          ".El\n"
          ".Sh EXAMPLES\n"
          "Let a gateway with many connections wait for a server that takes twenty:\n"
          ".Bd -literal -offset indent\n"
          "[source gateway]\n"
          "networks = 192.0.2.7, 2001:db8::7\n"
          "count-as-one = yes\n"
          "per-source = 20\n"
          "per-source-action = enforce\n"
          "over-limit = hold\n"
          ".Ed\n"
          ".Pp\n"
          "Report what Exchange would have done to the sessions of one server, and refuse nobody:\n"
          ".Bd -literal -offset indent\n"
          "[server mailbox]\n"
          "networks = 192.0.2.25\n"
          "profile = exchange\n"
          ".Ed\n"
          ".Sh SEE ALSO\n"
          ".Xr smtpwitness 8\n",
          to);
    return ferror(to) == 0;
}
