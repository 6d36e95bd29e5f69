/* causes - what each cause means, for the manual and `smtpwitness explain`. One row per enum cause.
 * All text is static, plain English, for an administrator who is woken by it. */
#ifndef SMTPWITNESS_CORE_FAULT_CAUSES_H
#define SMTPWITNESS_CORE_FAULT_CAUSES_H

#include "core/fault/verdict.h"

struct cause_text {
    enum fault fault;        /* whose fault it usually is; FAULT_COUNT = client or server, by who owed;
                              * network causes name FAULT_SERVER_NETWORK and say that the leg is in `where` */
    const char *summary;     /* one line, no full stop: "the client stopped after the server's 354" */
    const char *seen;        /* what was observed on the wire */
    const char *proves;      /* what that proves, what it does not, how sure */
    const char *client_step; /* next step for the client's administrator; NULL = nothing to do */
    const char *server_step;
    const char *network_step; /* for who runs the network or the box between */
    const char *manual;       /* an RFC section, kernel behaviour or product page the rule rests on */
};

const struct cause_text *cause_text(enum cause cause);

/* By its spelling in the verdict line; CAUSE_COUNT when unknown. */
enum cause cause_by_name(const char *name);

#endif
