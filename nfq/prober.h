/* prober - is a silent side alive, and is anything of it missing here? Asks with a keepalive in the other side's name:
 * sequence number one below its next, no octets, the timestamp it sent last (RFC 9293 section 3.8.4, RFC 7323). The
 * side answers with an acknowledgement that tells where its stream stands. The answer is for us: when it says nothing
 * new to the other side (same acknowledgement, same window, no SACK) it is dropped, otherwise it goes on its way.
 * A reset that answers a probe (RFC 9293 section 3.10.7.1: its sequence number is the probe's acknowledgement) is dropped,
 * too, and proves nothing: without us nobody would have called it forth. So answers a host for which this router gives the
 * connection other addresses than are seen here.
 * Only a leg where everything is acknowledged is probed: otherwise the repetitions of the other side ask already.
 *
 * Owns:    nothing but itself. Borrows: the injector; tracked sessions until prober_forget().
 * Bounds:  PROBER_SLOTS sessions at once, PROBER_TRIES probes each, PROBER_INTERVAL_US apart; further ones stay
 *          unprobed. Threads: one at a time. */
#ifndef SMTPWITNESS_NFQ_PROBER_H
#define SMTPWITNESS_NFQ_PROBER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/attributes.h"
#include "core/tcp/packet.h"
#include "core/tracker/tracker.h"
#include "nfq/injector.h"

#define PROBER_SLOTS       1024
#define PROBER_TRIES       4 /* three unanswered ones are evidence (the tracker's count), one for the road */
#define PROBER_INTERVAL_US 1000000

struct prober_slot {
    struct tracker_session *tracked;
    enum side side;
    uint8_t sent_count;
    bool answer_due;
    uint32_t acknowledgement; /* of the probe */
    uint64_t due_us;
};

struct prober {
    const struct injector *injector;
    struct prober_slot slots[PROBER_SLOTS];
    uint32_t busy_count;
    uint16_t ip_id;
    uint64_t sent_count, answered_count, provoked_count, dropped_count, failed_count, full_count;
};

void prober_init(struct prober *prober, const struct injector *injector);

void prober_start(struct prober *prober, struct tracker_session *tracked, enum side side, uint64_t now_us);
void prober_forget(struct prober *prober, struct tracker_session *tracked);

uint64_t prober_deadline_us(const struct prober *prober); /* UINT64_MAX = nothing is due */
void prober_on_deadline(struct prober *prober, uint64_t now_us);

/* Is it a reset that our own probe called forth? Then nobody else may see it, nor the tracker. */
bool prober_provoked(struct prober *prober, struct prober_slot *slot, const struct packet *packet) MUST_CHECK;

/* Around the tracker's look at a packet: before it, which slot could it answer (NULL = none)? After it, is it an
 * answer that must not go on? */
struct prober_slot *prober_match(struct prober *prober, const struct packet *packet);
struct prober_view { /* what the other side has been told so far */
    uint32_t acknowledged, window;
};
struct prober_view prober_look(const struct prober_slot *slot);
bool prober_swallows(struct prober *prober, struct prober_slot *slot, const struct prober_view *before,
                     const struct packet *packet) MUST_CHECK;

/* The probe of `side` as it would be sent now. False: this leg cannot be probed now. For prober.c and its test. */
bool prober_segment(const struct tracker_session *tracked, enum side side,
                    struct segment *segment) MUST_CHECK;

#endif
