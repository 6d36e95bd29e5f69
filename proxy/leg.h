/* leg - the socket of one side of a session, and what can be asked of it.
 * SO_LINGER{1,0} is armed from the start: if this process dies, the kernel closes by reset, never by a clean end of
 * stream that would turn half a mail into a whole one. leg_close_orderly() disarms it first.
 * Owns:    its descriptor and its pending octets.
 * Bounds:  LEG_ERROR_QUEUE_MAX messages of the error queue per call.
 * Threads: one at a time. Time: the caller's monotonic microseconds. */
#ifndef SMTPWITNESS_PROXY_LEG_H
#define SMTPWITNESS_PROXY_LEG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/address.h"
#include "core/base/attributes.h"
#include "core/base/side.h"
#include "core/fault/evidence.h"
#include "proxy/connect_error.h"
#include "proxy/pending.h"

#define LEG_ERROR_QUEUE_MAX 16

enum leg_keepalive {
    LEG_KEEPALIVE_NEVER = 0, /* not switched on: fast sessions spend no system call on it */
    LEG_KEEPALIVE_PROBING,
    LEG_KEEPALIVE_RESTING, /* on, at the pace any host would use (RFC 1122 4.2.3.6: two hours) */
};

struct leg {
    struct pending *pending; /* octets for this side that it did not take yet */
    int fd;                  /* -1 = closed */
    uint32_t acked_octets;   /* tcpi_bytes_acked, as last sampled */
    uint32_t wrote_ms;       /* last write to it, counted from the session's start; 0 = never */
    int16_t error;           /* what the kernel ended it with; 0 = nothing yet */
    uint8_t keepalive : 2;   /* enum leg_keepalive */
    bool readable : 1;       /* it may have octets for us: no EAGAIN since the last edge */
    bool hung_up : 1;        /* its FIN is in: read on until 0 */
    bool ended : 1;          /* its FIN was read */
    bool finished : 1;       /* our FIN was sent */
    bool paused : 1;         /* the session was told that we stopped reading from it */
    bool other_port : 1;     /* server leg: the client's port is not kept */
    bool fin_first : 1;      /* the reset that ended it came behind its FIN */
    bool urgent : 1;         /* an octet that it marked as urgent has come (RFC 9293 3.8.5) */
    bool urgent_pending : 1; /* the one octet that waits for it is urgent */
    bool translated : 1;     /* client leg: the client called another address (DNAT) */
};

/* What a listener sets so that accepted sockets inherit it (SO_LINGER, TCP_NODELAY, SO_OOBINLINE, IP_RECVERR). An urgent
 * octet thus keeps its place in the stream: reading stops in front of it. */
bool leg_options_inherit(int fd, bool ipv6) MUST_CHECK;

struct leg_dial {
    struct address client, server;
    bool keep_client_port;
    bool transparent; /* bind to the client's address; false only in tests without privilege */
    uint32_t mark;
};

/* Opens the server leg and begins the handshake. Returns the descriptor; -1 and *error (an errno) when it cannot
 * even begin. *other_port tells that the client's port was in use. */
int leg_dial(const struct leg_dial *dial, bool *other_port, int *error) MUST_CHECK;

void leg_init(struct leg *leg, int fd);

/* The address the client called, as it stands in the packets of its leg, when destination translation made `server` of it;
 * false without translation, without conntrack, or when that has forgotten it. */
bool leg_called(const struct leg *leg, const struct address *server, struct address *called);

/* Takes SO_ERROR, 0 = none. */
int leg_take_error(const struct leg *leg);
/* Empties the socket's error queue; true when an ICMP error was in it: the first failure, else the last notice. */
bool leg_take_icmp(const struct leg *leg, struct icmp_error *icmp);
/* True when the kernel has given the connection up. */
bool leg_is_dead(const struct leg *leg);

/* Smoothed round trip, 0 = unknown. */
uint32_t leg_rtt_us(const struct leg *leg);
/* Brings `evidence` up to date; false when the descriptor tells nothing any more. `start_us`: of the session. */
bool leg_sample(struct leg *leg, struct leg_evidence *evidence, bool ipv6, uint64_t start_us,
                uint64_t now_us);
/* The TTL or hop limit of the SYN that opened an accepted leg; 0 = unknown. The kernel tells it once. */
uint8_t leg_take_syn_ttl(const struct leg *leg);
/* Octets the peer has not acknowledged, our FIN as one. */
uint32_t leg_outstanding(const struct leg *leg);
/* The next octet to be read is the urgent one. */
bool leg_at_mark(const struct leg *leg);

/* Keepalive on suspicion (R3): an answer or its absence shows in TCP_INFO. It cannot kill the session: the number of
 * probes allowed is far beyond the time it stays on. */
void leg_probe_begin(struct leg *leg);
enum probe_result leg_probe_result(const struct leg *leg, uint64_t since_us, uint64_t now_us);
void leg_probe_end(struct leg *leg);
/* Keepalive at the pace of any host: for a leg that has been quiet for very long. */
void leg_keepalive_rest(struct leg *leg);

void leg_send_fin(struct leg *leg);
void leg_close_reset(struct leg *leg);   /* RST; pending octets are dropped */
void leg_close_orderly(struct leg *leg); /* what the kernel has is still delivered */

#endif
