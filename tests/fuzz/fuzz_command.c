/* One client line. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/smtp/command.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct command command;
    command_parse(&command, data, size);
    if ((unsigned)command.verb >= VERB_COUNT || verb_name(command.verb) == NULL)
        abort();
    if (command.verb == VERB_END_OF_DATA || command.verb == VERB_GREETING)
        abort(); /* no client line is one */
    return 0;
}
