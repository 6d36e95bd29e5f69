/* rules_script - runs smtpwitness-rules with what this program's configuration says, so that both agree.
 * The script stands beside the program, or in ../rules as in the source tree. A rules.conf beside the configuration
 * is read by it; where that says nothing, listen-port, fail, first-queue and queues are those of the configuration.
 * Threads: the main thread. */
#ifndef SMTPWITNESS_CLI_RULES_SCRIPT_H
#define SMTPWITNESS_CLI_RULES_SCRIPT_H

#include <stdbool.h>
#include <stddef.h>

#include "cli/command.h"
#include "conf/settings.h"

#define RULES_SCRIPT_MAX_WORDS 64

struct rules_script {
    const char *mode, *verb;  /* "proxy" or "nfq"; "check" */
    const char *const *words; /* options for it, behind the verb */
    size_t word_count;
    const char *config;              /* where the settings come from */
    const struct settings *settings; /* NULL: the script's own defaults */
};

/* Becomes the script. Returns only when that failed, after one line on stderr. */
enum command_exit rules_script_become(const struct rules_script *script);

/* Runs it and waits; its exit code. */
enum command_exit rules_script_run(const struct rules_script *script);

#endif
