/* arguments - the words after the subcommand: `--name`, `--name=VALUE`, `--name VALUE` and operands, read strictly.
 * Nothing is abbreviated, nothing may stand twice. "--" ends the options.
 * Borrows: argv, for as long as the arguments are used. Bounds: the two maxima below, which no command exceeds. */
#ifndef SMTPWITNESS_CLI_ARGUMENTS_H
#define SMTPWITNESS_CLI_ARGUMENTS_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/attributes.h"

#define ARGUMENTS_MAX_OPTIONS  8
#define ARGUMENTS_MAX_OPERANDS 256

struct arguments_option {
    const char *name;       /* with its dashes: "--config" */
    const char *value_name; /* "FILE"; NULL = takes none */
    const char *choices;    /* "logfmt|json"; NULL = any value that is not empty */
    const char *help;
};

/* What a command takes. */
struct arguments_form {
    const struct arguments_option *options; /* at most ARGUMENTS_MAX_OPTIONS, ended by a NULL name; or NULL */
    size_t least_operands, most_operands;
    const char *operand_name; /* "FILE"; "" where there are none */
    bool verbatim;            /* every word is an operand, for somebody else to read */
};

struct arguments {
    const char
        *values[ARGUMENTS_MAX_OPTIONS]; /* in the order of the options; NULL = absent, "" = present flag */
    const char *operands[ARGUMENTS_MAX_OPERANDS];
    size_t operand_count;
};

struct arguments_error {
    char text[256]; /* what is wrong, without the program's name */
};

bool arguments_parse(struct arguments *arguments, const struct arguments_form *form, int argc, char **argv,
                     struct arguments_error *error) MUST_CHECK;

#endif
