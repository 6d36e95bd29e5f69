/* `smtpwitness rules`: smtpwitness-rules, with what the configuration says. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/command.h"
#include "cli/rules_script.h"
#include "conf/settings.h"

/* Takes "--config FILE" or "--config=FILE" from the front; the number of words it took. */
static size_t take_config(const struct arguments *arguments, const char **config)
{
    const char *word = arguments->operand_count > 0 ? arguments->operands[0] : "";

    if (strncmp(word, "--config=", 9) == 0) {
        *config = word + 9;
        return 1;
    }
    if (strcmp(word, "--config") == 0 && arguments->operand_count > 1) {
        *config = arguments->operands[1];
        return 2;
    }
    return 0;
}

static bool is_mode(const char *word)
{
    return strcmp(word, "proxy") == 0 || strcmp(word, "nfq") == 0;
}

/* What takes rules away, or looks at those that are there, must work with a broken configuration, too. */
static bool needs_settings(const char *verb)
{
    return strcmp(verb, "unload") != 0 && strcmp(verb, "status") != 0;
}

enum command_exit command_rules(const struct arguments *arguments)
{
    struct rules_script script = {.mode = "proxy", .config = COMMAND_DEFAULT_CONFIG};
    const char *config = NULL;
    struct settings_error error = {0};
    struct settings *settings = NULL;
    enum command_exit result;
    size_t at = take_config(arguments, &config);

    if (at < arguments->operand_count && is_mode(arguments->operands[at])) {
        script.mode = arguments->operands[at++];
    }
    if (at == arguments->operand_count || arguments->operands[at][0] == '-') {
        command_error("rules: say load, unload, show, check or status; see smtpwitness-rules(8)");
        return COMMAND_USAGE;
    }
    script.verb = arguments->operands[at++];
    script.words = arguments->operands + at;
    script.word_count = arguments->operand_count - at;
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
