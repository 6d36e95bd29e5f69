/* bypass - which packets need not come here: while a large body runs, the client's full segments are let past the queue
 * by a bit in the mark of the connection, which the rules (smtpwitness-rules nfq load --bypass) keep and go by.
 * How it works: a packet of a connection whose bit is on arrives with `bit` in its mark, and without the other bit of
 * `mask`. The verdict says what shall be from now on: `bit` alone puts it on, both bits put it off, and where neither
 * is set nothing changes (rules/nfq.sh). What the kernel does is seen from the packets that come, so a restart finds the
 * connections as they are, and what was lost on the way is said again.
 * What is queued is overtaken by what is not. So the bit goes on and off as seldom as can be, for TCP takes packets that
 * overtake each other for losses.
 * It is on while a body runs, has shown to be large, and nothing is amiss; from the 354 on where MAIL announced it as large
 * (SIZE, RFC 1870), for then nothing of it is in the queue that could be overtaken. What puts it off at once: the end of the
 * body, frequent losses, a refusal by the server, a closed window, a hole that lasts, a repetition, an end.
 * BDAT: the chunk's end is known, and what may be under way unseen (a window) never reaches beyond it.
 * Owns:    nothing but itself. Borrows: tracked sessions during the call.
 * Threads: one at a time. Time: the caller's monotonic microseconds. */
#ifndef SMTPWITNESS_NFQ_BYPASS_H
#define SMTPWITNESS_NFQ_BYPASS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/tracker/tracker.h"

#define BYPASS_BEGIN_OCTETS 65536 /* of the body: most mails are over by then */
#define BYPASS_ANNOUNCED_OCTETS                                                                              \
    262144                       /* by SIZE= of MAIL, which costs nothing to say: so it begins with the 354 */
#define BYPASS_LOSS_OCTETS 65536 /* more than one repetition in so many octets: everything is looked at */
#define BYPASS_HOLE_MS     200   /* a hole at the server that lasts so long is no reordering: RFC 6298 */
#define BYPASS_SETTLE_MS   250   /* after the bit is off, packets that passed with it may still show */

struct bypass {
    uint32_t bit, mask;
    bool enabled; /* else what is on, from an earlier run, is put off */
    uint64_t started_count, ended_count;
};

/* The mark with which the packet that came with `mark` shall leave. The bypass begins only when it `is_last` of those read
 * together: those behind it would be overtaken. */
uint32_t bypass_mark(struct bypass *bypass, const struct tracker_latest *latest, uint32_t mark, bool is_last,
                     uint64_t now_us);

#endif
