#include "cli/arguments.h"

#include <stdio.h>
#include <string.h>

#define QUOTE_MAX 80 /* as much of a wrong word as an error line shows */

static size_t option_count(const struct arguments_form *form)
{
    size_t count = 0;

    while (form->options != NULL && form->options[count].name != NULL) {
        count++;
    }
    return count;
}

/* The option that `word` names up to its end or its '='; the number of options when there is none. */
static size_t find_option(const struct arguments_form *form, const char *word)
{
    size_t length = strcspn(word, "=");
    size_t count = option_count(form);

    for (size_t i = 0; i < count; i++) {
        if (strlen(form->options[i].name) == length && strncmp(form->options[i].name, word, length) == 0) {
            return i;
        }
    }
    return count;
}

static bool is_choice(const char *choices, const char *value)
{
    size_t length = strlen(value);

    while (*choices != '\0') {
        size_t word = strcspn(choices, "|");

        if (word == length && strncmp(choices, value, length) == 0) {
            return true;
        }
        choices += word;
        choices += *choices == '|' ? 1 : 0;
    }
    return false;
}

static bool take_value(struct arguments *arguments, const struct arguments_option *option, size_t index,
                       const char *value, struct arguments_error *error)
{
    if (arguments->values[index] != NULL) {
        snprintf(error->text, sizeof(error->text), "%s stands twice; leave one out", option->name);
        return false;
    }
    if (option->value_name != NULL && (value == NULL || value[0] == '\0')) {
        snprintf(error->text, sizeof(error->text), "%s wants a value: %s=%s", option->name, option->name,
                 option->choices != NULL ? option->choices : option->value_name);
        return false;
    }
    if (option->value_name == NULL && value != NULL) {
        snprintf(error->text, sizeof(error->text), "%s takes no value", option->name);
        return false;
    }
    if (value != NULL && option->choices != NULL && !is_choice(option->choices, value)) {
        snprintf(error->text, sizeof(error->text), "%s=%.*s: must be one of %s", option->name, QUOTE_MAX,
                 value, option->choices);
        return false;
    }
    arguments->values[index] = value != NULL ? value : "";
    return true;
}

static bool take_operand(struct arguments *arguments, const struct arguments_form *form, const char *word,
                         struct arguments_error *error)
{
    if (arguments->operand_count >= ARGUMENTS_MAX_OPERANDS) {
        snprintf(error->text, sizeof(error->text), "more than %d words; give fewer at once",
                 ARGUMENTS_MAX_OPERANDS);
        return false;
    }
    if (arguments->operand_count >= form->most_operands) {
        snprintf(error->text, sizeof(error->text), "unexpected '%.*s'", QUOTE_MAX, word);
        return false;
    }
    arguments->operands[arguments->operand_count++] = word;
    return true;
}

bool arguments_parse(struct arguments *arguments, const struct arguments_form *form, int argc, char **argv,
                     struct arguments_error *error)
{
    size_t count = option_count(form);
    bool options_end = form->verbatim;

    memset(arguments, 0, sizeof(*arguments));
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i];
        const char *value;
        size_t index;

        if (options_end || word[0] != '-' || word[1] == '\0') {
            if (!take_operand(arguments, form, word, error)) {
                return false;
            }
            continue;
        }
        if (strcmp(word, "--") == 0) {
            options_end = true;
            continue;
        }
        index = find_option(form, word);
        if (index == count) {
            snprintf(error->text, sizeof(error->text), "unknown option '%.*s'", QUOTE_MAX, word);
            return false;
        }
        value = strchr(word, '=');
        if (value != NULL) {
            value++;
        } else if (form->options[index].value_name != NULL && i + 1 < argc) {
            value = argv[++i];
        }
        if (!take_value(arguments, &form->options[index], index, value, error)) {
            return false;
        }
    }
    if (!form->verbatim && arguments->operand_count < form->least_operands) {
        snprintf(error->text, sizeof(error->text), "%s is missing", form->operand_name);
        return false;
    }
    return true;
}
