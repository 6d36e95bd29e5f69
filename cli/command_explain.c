/* `smtpwitness explain [CAUSE]`: what stands in a verdict, in words. */
#include <stdio.h>

#include "cli/command.h"
#include "core/fault/causes.h"
#include "core/fault/verdict.h"
#include "daemon/causes_print.h"

enum command_exit command_explain(const struct arguments *arguments)
{
    enum cause cause;

    if (arguments->operand_count == 0) {
        causes_print_list(stdout);
        return command_finish_output();
    }
    cause = cause_by_name(arguments->operands[0]);
    if (cause == CAUSE_COUNT) {
        fprintf(stderr,
                COMMAND_PROGRAM ": explain: no cause is called '%.80s'; 'smtpwitness explain' lists them, "
                                "smtpwitness-verdicts(7) has the other words of a verdict\n",
                arguments->operands[0]);
        return COMMAND_USAGE;
    }
    causes_print_one(stdout, cause);
    return command_finish_output();
}
