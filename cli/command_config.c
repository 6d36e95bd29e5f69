/* The subcommands about the configuration. */
#include <stdio.h>

#include "cli/command.h"
#include "conf/settings.h"
#include "conf/settings_print.h"

static enum command_exit finish(bool printed)
{
    enum command_exit result = command_finish_output();

    return printed ? result : COMMAND_FAILED;
}

enum command_exit command_dump_config(const struct arguments *arguments)
{
    struct settings_error error = {0};
    struct settings *settings = settings_load(arguments->values[0], &error);
    bool printed;

    if (settings == NULL) {
        command_error(error.text);
        return COMMAND_USAGE;
    }
    printed = settings_dump(settings, stdout);
    settings_destroy(settings);
    return finish(printed);
}

enum command_exit command_print_sample(const struct arguments *arguments)
{
    (void)arguments;
    return finish(settings_print_sample(stdout));
}

enum command_exit command_print_manual(const struct arguments *arguments)
{
    (void)arguments;
    return finish(settings_print_manual(stdout));
}
