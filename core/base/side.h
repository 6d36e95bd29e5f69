/* side - the two parties of a session, and the legs that lead to them.
 * Client: the side that opened the TCP connection. Server: the side that accepted it. Each leg is the path
 * between the witness and the side of the same name. */
#ifndef SMTPWITNESS_CORE_BASE_SIDE_H
#define SMTPWITNESS_CORE_BASE_SIDE_H

#include <stddef.h>

#include "core/base/attributes.h"

enum ONE_OCTET side {
    SIDE_NONE = 0,
    SIDE_CLIENT = 1,
    SIDE_SERVER = 2,
};

/* Arrays of two, one element per side, are indexed with side_index(). */
#define SIDE_PAIR 2

static inline size_t side_index(enum side side)
{
    return side == SIDE_SERVER ? 1 : 0;
}

static inline enum side side_other(enum side side)
{
    return side == SIDE_CLIENT ? SIDE_SERVER : side == SIDE_SERVER ? SIDE_CLIENT : SIDE_NONE;
}

/* "client", "server", "none": the spelling of the verdict line. Static storage. */
static inline const char *side_name(enum side side)
{
    return side == SIDE_CLIENT ? "client" : side == SIDE_SERVER ? "server" : "none";
}

#endif
