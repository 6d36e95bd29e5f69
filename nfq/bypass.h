/* bypass - which packets need not come here: while a large body runs, the client's full segments are let past the queue
 * by a bit in the mark of the connection, which the rules (smtpwitness-rules nfq load --bypass) go by.
 * What is queued is overtaken by what is not. So the bit goes on and off as seldom as can be, for TCP takes packets that
 * overtake each other for losses.
 * It is on while a body runs fast, has shown to be large, and nothing is amiss; from the 354 on where MAIL announced it as
 * large (SIZE, RFC 1870), for then nothing of it is in the queue that could be overtaken. What puts it off at once: the end
 * of the body, frequent losses, a refusal by the server, a closed window, a hole that lasts, a second repetition, an end.
 * And so does a look (BYPASS_LOOK_MS) in which the server acknowledges little or nothing: what is slow costs little, and it is
 * what the verdicts are about. A body that stands is seen in full when the client's first repetition is due, though no
 * packet comes that could be a reason.
 * BDAT: the chunk's end is known, and what may be under way unseen (a window) never reaches beyond it.
 * Owns:    nothing but itself. Borrows: tracked sessions until bypass_forget().
 * Bounds:  BYPASS_SLOTS connections at once; further ones are seen in full.
 * Threads: one at a time. Time: the caller's monotonic microseconds. */
#ifndef SMTPWITNESS_NFQ_BYPASS_H
#define SMTPWITNESS_NFQ_BYPASS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/tracker/tracker.h"
#include "nfq/connection_marks.h"

#define BYPASS_BEGIN_OCTETS 65536 /* of the body: most mails are over by then */
#define BYPASS_ANNOUNCED_OCTETS                                                                              \
    262144 /* by SIZE= of MAIL, which costs nothing to say: so it begins with the 354 */
#define BYPASS_LOSS_OCTETS  65536 /* more than one repetition in so many octets: everything is looked at */
#define BYPASS_HOLE_MS      200   /* a hole at the server that lasts so long is no reordering: RFC 6298 */
#define BYPASS_SETTLE_MS    250   /* after the bit is off, packets that passed with it may still show */
#define BYPASS_LOOK_MS      150 /* and a round trip, which is before the first repetition (Linux: TCP_RTO_MIN) */
#define BYPASS_LOOK_MOST_MS 2000
#define BYPASS_SLOW_OCTETS  32768  /* acknowledged in a look: with fewer the connection is slow, ... */
#define BYPASS_REST_OCTETS  262144 /* ... and as many more are looked at before it is let past again */
#define BYPASS_TICK_US      25000
#define BYPASS_SLOTS        4096

/* The bit in the kernel's table of connections. */
struct bypass_kernel {
    void *context;
    enum connection_marks_result (*put_on)(void *context, const struct connection *connection);
    bool (*put_off)(void *context, const struct connection *connection); /* false: it may be on, try again */
};

struct bypass_slot { /* a connection whose bit is on */
    struct tracker_session *tracked;
    uint32_t acked, progress_ms;  /* what the server has acknowledged, and when it got on last */
    uint32_t look_acked, look_ms; /* the same when the look began */
};

struct bypass {
    struct bypass_kernel kernel;
    bool enabled;
    uint64_t started_count; /* bodies let past, or the rest of one */
    uint64_t due_us;
    uint32_t busy_count;
    struct bypass_slot slots[BYPASS_SLOTS]; /* the first busy_count */
};

/* A packet was tracked; `is_last` of those read together. */
void bypass_on_packet(struct bypass *bypass, const struct tracker_latest *latest, bool is_last,
                      uint64_t now_us);
/* The session is over, or its connection followed no longer. */
void bypass_forget(struct bypass *bypass, struct tracker_session *tracked);

uint64_t bypass_deadline_us(const struct bypass *bypass); /* UINT64_MAX = nothing is due */
void bypass_on_deadline(struct bypass *bypass, uint64_t now_us);

#endif
