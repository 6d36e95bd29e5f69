#include "core/base/phase.h"

#include <assert.h>

static const char *const phase_names[] = {
    [PHASE_CONNECT] = "connect",
    [PHASE_GREETING] = "greeting",
    [PHASE_HELO] = "helo",
    [PHASE_STARTTLS] = "starttls",
    [PHASE_TLS] = "tls",
    [PHASE_AUTH] = "auth",
    [PHASE_MAIL] = "mail",
    [PHASE_RCPT] = "rcpt",
    [PHASE_DATA] = "data",
    [PHASE_BODY] = "body",
    [PHASE_END_OF_DATA] = "end-of-data",
    [PHASE_BDAT] = "bdat",
    [PHASE_RSET] = "rset",
    [PHASE_QUIT] = "quit",
    [PHASE_COMMAND] = "command",
    [PHASE_IDLE] = "idle",
    [PHASE_CLOSED] = "closed",
    [PHASE_OPAQUE] = "opaque",
};
_Static_assert(sizeof phase_names / sizeof phase_names[0] == PHASE_COUNT, "a name per phase");

const char *phase_name(enum phase phase)
{
    assert((unsigned)phase < PHASE_COUNT);
    return phase_names[phase];
}
