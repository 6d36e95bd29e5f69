/* departure - does what we let go on leave this host? Rules behind ours, or the router itself, may drop or reject it, and
 * the network behind would be blamed.
 * Drops:   a repetition gets a bit in its mark; the rules show packets with that bit to us once more in POSTROUTING, the
 *          last place before the wire. When two repetitions in a row were not shown, and a segment of our own, sent to
 *          ourselves with the same bit after them, was, then they were dropped between. Without that proof (the rules
 *          are not loaded, or others) nothing is concluded.
 * Rejects: resets and ICMP prohibitions that bear the address of others and come by OUTPUT are made by this host.
 * Only where packets are forwarded: on the host of the server itself OUTPUT is its own word.
 * Owns:    two sockets; needs CAP_NET_RAW and CAP_NET_ADMIN to open, nothing to send.
 * Borrows: tracked sessions, during a call.
 * Threads: one at a time. Time: the caller's monotonic microseconds. */
#ifndef SMTPWITNESS_NFQ_DEPARTURE_H
#define SMTPWITNESS_NFQ_DEPARTURE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/report/record.h"
#include "core/tracker/tracker.h"
#include "nfq/queue_message.h"

#define DEPARTURE_FAMILIES 2
#define DEPARTURE_FRESH_US 1000000 /* a proof may be so much older than the repetition it is about */

struct departure {
    int sockets[DEPARTURE_FAMILIES]; /* IPv4, IPv6; -1 = none */
    uint32_t bit;
    uint16_t port;        /* of our own segment: picks our queue as a client's port does */
    uint16_t server_port; /* one of those that are queued */
    bool forwards, is_host;
    bool due[DEPARTURE_FAMILIES];
    uint64_t followed_us[DEPARTURE_FAMILIES], proven_us[DEPARTURE_FAMILIES];
    uint64_t dropped_count;
};

/* `part`: which of the queues is ours. Without sockets nothing is followed. */
void departure_open(struct departure *departure, uint32_t bit, uint16_t part, uint16_t server_port);
void departure_close(struct departure *departure);

/* A packet that is shown once more, or our own segment. False: it is a packet like others. */
bool departure_take(struct departure *departure, struct tracker *tracker, struct queue_packet *queued,
                    enum queue_verdict *verdict, uint64_t now_us) MUST_CHECK;
/* After the tracker's look at a packet that is accepted. */
void departure_follow(struct departure *departure, const struct tracker_latest *latest,
                      struct queue_packet *queued, uint64_t now_us);
/* After the verdicts are out: sends the proof, where one is due. */
void departure_prove(struct departure *departure);

/* Did this host stop the session? Then `verdict` says so, and no more whom it would have accused. */
bool departure_judge(struct departure *departure, const struct tracker_session *tracked,
                     struct verdict *verdict);

#endif
