/* command - one subcommand of the program, and the exit codes all of them use. */
#ifndef SMTPWITNESS_CLI_COMMAND_H
#define SMTPWITNESS_CLI_COMMAND_H

#include "cli/arguments.h"

#define COMMAND_PROGRAM        "smtpwitness"
#define COMMAND_DEFAULT_CONFIG "/etc/smtpwitness/smtpwitness.conf"

enum command_exit {
    COMMAND_OK = 0,
    COMMAND_FAILED = 1,  /* at run time: a missing privilege, a port in use */
    COMMAND_USAGE = 2,   /* wrong arguments or a wrong configuration: nothing was touched */
    COMMAND_DAMAGED = 3, /* replay: a file is damaged; it was read as far as possible */
};

struct command {
    const char *name;
    const char *summary;
    struct arguments_form form;
    enum command_exit (*run)(const struct arguments *arguments);
};

/* The options of `proxy`, in the order of its arguments' values. */
enum command_proxy_option {
    COMMAND_PROXY_CONFIG = 0,
    COMMAND_PROXY_FOREGROUND,
    COMMAND_PROXY_FORMAT,
    COMMAND_PROXY_PID_FILE,
};

/* The options of `nfq` are those of `proxy`, in the same order. */

/* The options of `replay`, likewise. */
enum command_replay_option {
    COMMAND_REPLAY_PORT = 0,
    COMMAND_REPLAY_ANY_PORT,
    COMMAND_REPLAY_FORMAT,
    COMMAND_REPLAY_CONFIG,
};

/* The options of `check`, likewise. */
enum command_check_option {
    COMMAND_CHECK_MACHINE = 0,
};

enum command_exit command_proxy(const struct arguments *arguments);
enum command_exit command_nfq(const struct arguments *arguments);
enum command_exit command_replay(const struct arguments *arguments);
enum command_exit command_check(const struct arguments *arguments);
enum command_exit command_rules(const struct arguments *arguments);
enum command_exit command_explain(const struct arguments *arguments);
enum command_exit command_dump_config(const struct arguments *arguments);
enum command_exit command_print_sample(const struct arguments *arguments);
enum command_exit command_print_manual(const struct arguments *arguments);

/* One line on stderr: "smtpwitness: TEXT". */
void command_error(const char *text);

/* COMMAND_OK, or COMMAND_FAILED and a line when stdout did not take all that was printed. */
enum command_exit command_finish_output(void);

#endif
