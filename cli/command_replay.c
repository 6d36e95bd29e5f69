/* `smtpwitness replay FILE...`: whose fault was each session in these captures? */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/command.h"
#include "conf/settings.h"
#include "replay/replay.h"

/* "2525" or "2525,1025". False when it is no list of port numbers. */
static bool parse_ports(const char *text, struct replay_options *options)
{
    for (;;) {
        char *end;
        errno = 0;
        unsigned long port = *text >= '0' && *text <= '9' ? strtoul(text, &end, 10) : 0;

        if (port == 0 || port > UINT16_MAX || errno != 0 || options->port_count == REPLAY_MAX_PORTS ||
            (*end != '\0' && *end != ',')) {
            return false;
        }
        options->ports[options->port_count++] = (uint16_t)port;
        if (*end == '\0') {
            return true;
        }
        text = end + 1;
    }
}

static enum replay_format parse_format(const char *word)
{
    if (word == NULL || strcmp(word, "text") == 0) {
        return REPLAY_TEXT;
    }
    return strcmp(word, "json") == 0 ? REPLAY_JSON : REPLAY_LOGFMT;
}

static enum command_exit exit_of(enum replay_result result)
{
    switch (result) {
    case REPLAY_OK:
        return command_finish_output();
    case REPLAY_UNREADABLE:
        return COMMAND_USAGE;
    case REPLAY_DAMAGED:
        return command_finish_output() == COMMAND_OK ? COMMAND_DAMAGED : COMMAND_FAILED;
    case REPLAY_FAILED:
        (void)command_finish_output();
        return COMMAND_FAILED;
    }
    return COMMAND_FAILED;
}

enum command_exit command_replay(const struct arguments *arguments)
{
    struct replay_options options = {.paths = arguments->operands,
                                     .path_count = arguments->operand_count,
                                     .any_port = arguments->values[COMMAND_REPLAY_ANY_PORT] != NULL,
                                     .format = parse_format(arguments->values[COMMAND_REPLAY_FORMAT]),
                                     .output = stdout,
                                     .remarks = stderr};
    const char *ports = arguments->values[COMMAND_REPLAY_PORT];
    struct settings_error error;
    struct replay_totals totals;
    unsigned standard_inputs = 0;

    if (ports != NULL && !parse_ports(ports, &options)) {
        fprintf(stderr,
                COMMAND_PROGRAM
                ": replay: --port wants port numbers from 1 to 65535, at most %d, not '%.80s'\n",
                REPLAY_MAX_PORTS, ports);
        return COMMAND_USAGE;
    }
    for (size_t i = 0; i < arguments->operand_count; i++) {
        standard_inputs += strcmp(arguments->operands[i], "-") == 0 ? 1 : 0;
    }
    if (standard_inputs > 1) {
        command_error("replay: standard input (-) can be read only once");
        return COMMAND_USAGE;
    }
    struct settings *settings = settings_load(arguments->values[COMMAND_REPLAY_CONFIG], &error);
    if (settings == NULL) {
        command_error(error.text);
        return COMMAND_USAGE;
    }
    options.settings = settings;
    enum replay_result result = replay_run(&options, &totals);
    settings_destroy(settings);
    return exit_of(result);
}
