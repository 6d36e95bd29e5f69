/* `smtpwitness rules`: smtpwitness-rules, with what the configuration says. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/command.h"
#include "cli/rules_script.h"
#include "conf/settings.h"

/* Copies the words but for "--config FILE" or "--config=FILE", wherever that stands; the number of words copied. */
static size_t take_config(const struct arguments *arguments, const char **words, const char **config)
{
    size_t count = 0;

    for (size_t i = 0; i < arguments->operand_count; i++) {
        const char *word = arguments->operands[i];

        if (strncmp(word, "--config=", 9) == 0) {
            *config = word + 9;
        } else if (strcmp(word, "--config") == 0) {
            *config = i + 1 < arguments->operand_count ? arguments->operands[++i] : "";
        } else {
            words[count++] = word;
        }
    }
    return count;
}

static bool is_mode(const char *word)
{
    return strcmp(word, "proxy") == 0 || strcmp(word, "nfq") == 0;
}

static bool is_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

/* What takes rules away, or looks at those that are there, must work with a broken configuration, too. */
static bool needs_settings(const char *verb)
{
    return strcmp(verb, "unload") != 0 && strcmp(verb, "status") != 0 && !is_help(verb);
}

enum command_exit command_rules(const struct arguments *arguments)
{
    struct rules_script script = {.mode = "proxy", .config = COMMAND_DEFAULT_CONFIG};
    const char *words[ARGUMENTS_MAX_OPERANDS];
    const char *config = NULL;
    struct settings_error error = {0};
    struct settings *settings = NULL;
    enum command_exit result;
    size_t count = take_config(arguments, words, &config);
    size_t at = 0;

    if (config != NULL && config[0] == '\0') {
        command_error("rules: --config wants a value: --config=FILE");
        return COMMAND_USAGE;
    }
    if (at < count && is_mode(words[at])) {
        script.mode = words[at++];
    }
    if (at == count || (words[at][0] == '-' && !is_help(words[at]))) {
        command_error("rules: say load, unload, show, check or status; see smtpwitness-rules(8)");
        return COMMAND_USAGE;
    }
    script.verb = words[at++];
    script.words = words + at;
    script.word_count = count - at;
    if (config != NULL) {
        script.config = config;
    } else if (access(COMMAND_DEFAULT_CONFIG, R_OK) == 0) {
        config = COMMAND_DEFAULT_CONFIG;
    }
    if (needs_settings(script.verb)) {
        settings = settings_load(config, &error);
        if (settings == NULL) {
            command_error(error.text);
            return COMMAND_USAGE;
        }
    }
    script.settings = settings;
    result = rules_script_become(&script);
    settings_destroy(settings);
    return result;
}
