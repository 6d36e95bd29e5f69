/* smtpwitness - one program; the first word says what it does. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/command.h"

#ifndef SMTPWITNESS_VERSION
#define SMTPWITNESS_VERSION "unknown"
#endif

static enum command_exit command_version(const struct arguments *arguments);
static enum command_exit command_help(const struct arguments *arguments);

/* In the order of enum command_proxy_option; nfq has the same. */
static const struct arguments_option proxy_options[] = {
    {"--config", "FILE", NULL, "the configuration; " COMMAND_DEFAULT_CONFIG " when left out"},
    {"--foreground", NULL, NULL, "log to stderr instead of syslog"},
    {"--format", "FORMAT", "logfmt|json", "json: each record also as a JSON line on stdout"},
    {"--pid-file", "FILE", NULL, "instead of pid-file in the configuration"},
    {0},
};

/* In the order of enum command_replay_option. */
static const struct arguments_option replay_options[] = {
    {"--port", "N[,N]", NULL, "SMTP on these ports, too"},
    {"--any-port", NULL, NULL, "SMTP on any port, known by its dialogue"},
    {"--format", "FORMAT", "text|logfmt|json", "a story of each session (the default), or its line"},
    {"--config", "FILE", NULL, "the configuration; without it the defaults"},
    {0},
};

/* In the order of enum command_check_option. */
static const struct arguments_option check_options[] = {
    {"--machine", "MODE", "proxy|nfq", "examine this machine, too, for that way of standing here (root)"},
    {0},
};

static const struct arguments_option config_option[] = {
    {"--config", "FILE", NULL, "the configuration; without it the defaults"},
    {0},
};

static const struct command commands[] = {
    {"proxy",
     "stand between mail gateways and servers as a transparent proxy",
     {proxy_options, 0, 0, "", false},
     command_proxy},
    {"nfq",
     "watch the packets between mail gateways and servers; TCP stays end to end",
     {proxy_options, 0, 0, "", false},
     command_nfq},
    {"replay",
     "whose fault was each session in these captures? pcap or pcapng, also gzip; - is standard input",
     {replay_options, 1, ARGUMENTS_MAX_OPERANDS, "FILE...", false},
     command_replay},
    {"check",
     "say whether a configuration file is good; FILE is " COMMAND_DEFAULT_CONFIG " when left out",
     {check_options, 0, 1, "FILE", false},
     command_check},
    {"rules",
     "load, unload, show, check the packet filter rules, or their status; 'rules load --help' lists options",
     {NULL, 1, ARGUMENTS_MAX_OPERANDS, "[--config=FILE] [proxy|nfq] VERB [OPTION...]", true},
     command_rules},
    {"explain",
     "what a cause in a verdict means and what to do; without CAUSE: list them",
     {NULL, 0, 1, "CAUSE", false},
     command_explain},
    {"--dump-config", "print every setting in force", {config_option, 0, 0, "", false}, command_dump_config},
    {"--print-sample",
     "print the commented sample configuration",
     {NULL, 0, 0, "", false},
     command_print_sample},
    {"--print-manual",
     "print the manual page of the configuration",
     {NULL, 0, 0, "", false},
     command_print_manual},
    {"--version", "print the version", {NULL, 0, 0, "", false}, command_version},
    {"--help", "print this", {NULL, 0, 0, "", false}, command_help},
};
#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

void command_error(const char *text)
{
    fprintf(stderr, COMMAND_PROGRAM ": %s\n", text);
}

enum command_exit command_finish_output(void)
{
    if (fflush(stdout) == EOF || ferror(stdout)) {
        fprintf(stderr, COMMAND_PROGRAM ": cannot write to stdout: %s\n", strerror(errno));
        return COMMAND_FAILED;
    }
    return COMMAND_OK;
}

static enum command_exit command_version(const struct arguments *arguments)
{
    (void)arguments;
    printf(COMMAND_PROGRAM " %s\n", SMTPWITNESS_VERSION);
    return command_finish_output();
}

static void print_command(const struct command *command)
{
    const struct arguments_form *form = &command->form;
    const char *open = form->least_operands == 0 ? "[" : "";
    const char *close = form->least_operands == 0 ? "]" : "";

    printf("  " COMMAND_PROGRAM " %s", command->name);
    if (form->most_operands > 0) {
        printf(" %s%s%s", open, form->operand_name, close);
    }
    printf("%s\n      %s\n", form->options != NULL ? " [OPTION...]" : "", command->summary);
    for (size_t i = 0; form->options != NULL && form->options[i].name != NULL; i++) {
        const struct arguments_option *option = &form->options[i];
        char word[40];

        snprintf(word, sizeof(word), "%s%s%s", option->name, option->value_name != NULL ? "=" : "",
                 option->choices != NULL      ? option->choices
                 : option->value_name != NULL ? option->value_name
                                              : "");
        printf("        %-24s %s\n", word, option->help);
    }
}

static enum command_exit command_help(const struct arguments *arguments)
{
    (void)arguments;
    printf("smtpwitness stands between two mail servers and says whose fault a failing session was.\n\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        print_command(&commands[i]);
    }
    printf("\nExit codes: 0 good, 1 failed while running, 2 wrong arguments or configuration,\n"
           "3 a capture is damaged.\n"
           "Manual pages: smtpwitness(8), smtpwitness.conf(5), smtpwitness-rules(8), smtpwitness-nfq(8),\n"
           "smtpwitness-replay(8), smtpwitness-units(7), smtpwitness-verdicts(7).\n");
    return command_finish_output();
}

static const struct command *find_command(const char *name)
{
    if (strcmp(name, "help") == 0 || strcmp(name, "-h") == 0) {
        name = "--help";
    }
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(commands[i].name, name) == 0) {
            return &commands[i];
        }
    }
    return NULL;
}

/* A program started with a standard descriptor closed would hand its number to a socket. What is written to a closed
 * standard output must fail and be said, not vanish: there the descriptor cannot be written to. */
static void open_standard_descriptors(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) == -1) {
            (void)open("/dev/null",
                       fd == STDERR_FILENO ? O_WRONLY : O_RDONLY); /* the lowest number free: fd */
        }
    }
}

static bool help_is_wanted(const struct command *command, int argc, char **argv)
{
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "--") == 0) {
            return false;
        }
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            return !command->form.verbatim || argc == 3;
        }
    }
    return false;
}

int main(int argc, char **argv)
{
    struct arguments arguments;
    struct arguments_error error;
    const struct command *command;

    open_standard_descriptors();
    if (argc < 2) {
        command_error("say what to do: proxy, nfq, replay, check, rules or explain; 'smtpwitness --help' "
                      "lists everything");
        return COMMAND_USAGE;
    }
    command = find_command(argv[1]);
    if (command == NULL) {
        fprintf(stderr, COMMAND_PROGRAM ": unknown command '%.80s'; 'smtpwitness --help' lists them\n",
                argv[1]);
        return COMMAND_USAGE;
    }
    if (help_is_wanted(command, argc, argv)) {
        print_command(command);
        return (int)command_finish_output();
    }
    if (!arguments_parse(&arguments, &command->form, argc - 2, argv + 2, &error)) {
        fprintf(stderr, COMMAND_PROGRAM ": %s: %s; see 'smtpwitness %s --help'\n", command->name, error.text,
                command->name);
        return COMMAND_USAGE;
    }
    return (int)command->run(&arguments);
}
