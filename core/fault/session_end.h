/* session_end - what made a session end; the first one counts. */
#ifndef SMTPWITNESS_CORE_FAULT_SESSION_END_H
#define SMTPWITNESS_CORE_FAULT_SESSION_END_H

#include "core/base/attributes.h"

enum ONE_OCTET session_end {
    SESSION_END_NONE = 0, /* it still runs */
    SESSION_END_REPLY,    /* the server said 421, or refused the greeting */
    SESSION_END_CLIENT_FIN,
    SESSION_END_SERVER_FIN,
    SESSION_END_CLIENT_RESET,
    SESSION_END_SERVER_RESET,
    SESSION_END_CLIENT_LOST, /* the kernel gave the client leg up: ETIMEDOUT, EHOSTUNREACH */
    SESSION_END_SERVER_LOST,
    SESSION_END_CONNECT_FAILED, /* the server leg was never established; see its evidence's connect result */
    SESSION_END_WITNESS,        /* our own timeout closed it */
    SESSION_END_REFUSED,        /* our own limit refused it */
    SESSION_END_DRAIN,          /* the witness stops */
    SESSION_END_OVERLOAD,       /* the witness had no descriptor or memory */
    SESSION_END_CAPTURE,        /* the capture ends here */
    SESSION_END_COUNT,
};

#endif
