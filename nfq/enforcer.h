/* enforcer - carries out what the engine decided about connections: refuses, holds and closes them by their packets. What
 * is decided, and when, is the same as in the proxy (core/policy/limiter, core/session); here is only how.
 *
 * Refused: the SYN is dropped and answered with a reset, so that the server never hears of it; or, with refuse-with =
 *          421, the handshake is let through to its last packet, which is dropped: the client reads 421 in the server's
 *          name, the server, which has not accepted the connection yet, is reset.
 * Held:    the SYN's verdict is withheld and its repetitions are dropped, until a place is free; then it goes on. Who
 *          stops repeating it has left the queue.
 * Closed:  421 and reset (nfq/parting.h), once everything under way is acknowledged, ENFORCER_SETTLE_US at most;
 *          reset alone where no reply may be said (session_close_reply()).
 *
 * Owns:    a parting_table and the held connections. Borrows: everything in enforcer_options.
 * Bounds:  ENFORCER_HELD_MAX held connections, and half of the kernel's queue; more are refused.
 * Threads: one at a time, but for the limiter's wake-ups, which only set a flag under a lock and write to wake_fd. */
#ifndef SMTPWITNESS_NFQ_ENFORCER_H
#define SMTPWITNESS_NFQ_ENFORCER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/attributes.h"
#include "core/tracker/tracker.h"
#include "daemon/log.h"
#include "nfq/packet_queue.h"
#include "nfq/parting.h"

#define ENFORCER_HELD_MAX  1024
#define ENFORCER_SETTLE_US UINT64_C(3000000)
#define ENFORCER_DOUBT_US                                                                                    \
    UINT64_C(600000000) /* RFC 5321 4.5.3.2.6: the reply to the final dot may take 10 min */
#define ENFORCER_FIRST_US UINT64_C(5000000) /* who has not repeated its SYN by then has gone */

struct enforcer;

enum ONE_OCTET enforcer_state {
    ENFORCER_PASSING = 0,
    ENFORCER_TO_REFUSE, /* decided with the packet that is being looked at */
    ENFORCER_TO_HOLD,
    ENFORCER_REFUSING, /* 421 when the handshake is done */
    ENFORCER_HELD,
    ENFORCER_CLOSING, /* waits for a harmless moment */
};

struct enforcer_options {
    struct tracker *tracker;
    struct limiter *limiter;
    struct log *log;
    struct packet_queue *queue;
    parting_send *send;
    void *send_context;
    int wake_fd; /* an eventfd */
    uint32_t held_max;
};

struct enforcer_stats {
    uint64_t refused, held, closed, held_full;
};

/* NULL without memory. */
struct enforcer *enforcer_create(const struct enforcer_options *options) MUST_CHECK;
void enforcer_destroy(struct enforcer *enforcer); /* accepts NULL; after the tracker's end */

/* True: packets have to be shown to enforcer_takes() and enforcer_judge(). */
bool enforcer_is_busy(const struct enforcer *enforcer);

/* From the tracker's callbacks: a session began, should be closed, is gone. */
void enforcer_opened(struct enforcer *enforcer, struct tracker_session *tracked);
void enforcer_close(struct enforcer *enforcer, struct tracker_session *tracked, uint64_t now_us);
void enforcer_forget(struct enforcer *enforcer, struct tracker_session *tracked);

/* Before the tracker sees a packet: true when it must not see it; `verdict` is the packet's then. */
bool enforcer_takes(struct enforcer *enforcer, const struct packet *packet, const struct queue_packet *queued,
                    uint64_t now_us, enum queue_verdict *verdict) MUST_CHECK;
/* After it. */
enum queue_verdict enforcer_judge(struct enforcer *enforcer, const struct packet *packet,
                                  const struct queue_packet *queued, uint64_t now_us) MUST_CHECK;

uint64_t enforcer_deadline_us(const struct enforcer *enforcer); /* UINT64_MAX = nothing is due */
void enforcer_on_deadline(struct enforcer *enforcer, uint64_t now_us);
/* After wake_fd was written to. */
void enforcer_run_woken(struct enforcer *enforcer, uint64_t now_us);

void enforcer_stats(const struct enforcer *enforcer, struct enforcer_stats *stats);
uint64_t enforcer_memory_octets(void);

#endif
