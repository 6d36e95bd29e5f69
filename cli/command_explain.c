/* `smtpwitness explain [CAUSE]`: what stands in a verdict, in words. */
#include <stdio.h>

#include "cli/command.h"
#include "core/fault/causes.h"
#include "core/fault/verdict.h"

#define WIDTH 78

/* Prints `text` in lines of at most WIDTH columns, each behind `indent` blanks. */
static void print_wrapped(const char *text, int indent)
{
    int column = 0;

    while (*text != '\0') {
        int length = 0;

        while (text[length] != '\0' && text[length] != ' ') {
            length++;
        }
        if (column > 0 && column + 1 + length > WIDTH) {
            printf("\n");
            column = 0;
        }
        column += column == 0 ? printf("%*s", indent, "") : printf(" ");
        column += printf("%.*s", length, text);
        text += length;
        text += *text == ' ' ? 1 : 0;
    }
    printf("\n");
}

static void print_part(const char *title, const char *text)
{
    if (text != NULL) {
        printf("\n%s\n", title);
        print_wrapped(text, 4);
    }
}

static enum command_exit list_causes(void)
{
    for (int cause = 0; cause < CAUSE_COUNT; cause++) {
        printf("%-22s %s\n", cause_name((enum cause)cause), cause_text((enum cause)cause)->summary);
    }
    return command_finish_output();
}

enum command_exit command_explain(const struct arguments *arguments)
{
    const struct cause_text *text;
    enum cause cause;

    if (arguments->operand_count == 0) {
        return list_causes();
    }
    cause = cause_by_name(arguments->operands[0]);
    if (cause == CAUSE_COUNT) {
        fprintf(stderr,
                COMMAND_PROGRAM ": explain: no cause is called '%.80s'; 'smtpwitness explain' lists them\n",
                arguments->operands[0]);
        return COMMAND_USAGE;
    }
    text = cause_text(cause);
    printf("%s: %s\n", cause_name(cause), text->summary);
    print_part("What was seen", text->seen);
    print_part("What that proves", text->proves);
    printf("\nWhose fault\n    %s\n", text->fault == FAULT_COUNT
                                          ? "client or server: the side that owed the next word (owed-by)"
                                          : fault_name(text->fault));
    print_part("The client's administrator", text->client_step);
    print_part("The server's administrator", text->server_step);
    print_part("Whoever runs the network between", text->network_step);
    print_part("Rests on", text->manual);
    return command_finish_output();
}
