/* flow - one TCP connection seen from a point in its middle. The stream is followed, not rebuilt: octets in order go
 * straight on; only what comes before its time is kept, within bounds. What the packets tell about the two legs is
 * collected on the way.
 *
 * Words:   "its" octets are those a side sent. A side's leg lies between it and us: whether its octets reached us is
 *          that leg's doing, whether what we saw going to it was acknowledged too.
 * Order:   a segment that acknowledges octets of the other side which have not been seen waits for them up to
 *          FLOW_GRACE_US (captures reorder); what does not come by then passed unseen: an observer's gap, never a loss
 *          in the network. A hole that nobody acknowledged is waited for without end; but a reset, which may have
 *          overtaken what was sent before it, waits for FLOW_GRACE_US at most.
 * Split:   (Jaiswal et al., "Measurement and classification of out-of-sequence packets", 2003) a repetition of what was
 *          seen here was lost after us, or its acknowledgement was; a late segment that fills a hole was lost before
 *          us, unless its IP ID shows that it was sent earlier, or, where IDs tell nothing, it comes too soon for a
 *          repetition: then it was only reordered. The same packet twice is the capture's or the network's doing.
 *
 * Bypass:  while flow_set_bypass() is on, octets of that side may pass without coming here. What of them is
 *          acknowledged counts as bypassed at once, neither as lost nor as an observer's gap. What is not
 *          acknowledged tells nothing at first: whether it passed, or was lost before us, cannot be known. But its
 *          first octet is repeated, and no bypass lasts so long: when it did not come, it was lost before us.
 *
 * Owns:    pieces out of order: FLOW_PIECES ranges per direction, FLOW_KEPT_OCTETS octets of them, and in all flows
 *          together what the caller's budget allows. What cannot be kept is passed over (skipped) when its turn comes.
 * Threads: none. Time: the caller's monotonic microseconds, never decreasing. */
#ifndef SMTPWITNESS_CORE_TCP_FLOW_H
#define SMTPWITNESS_CORE_TCP_FLOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/attributes.h"
#include "core/base/address.h"
#include "core/base/side.h"
#include "core/tcp/packet.h"

#define FLOW_PIECES       64      /* more holes at once than a window of loss leaves */
#define FLOW_KEPT_OCTETS  65535u  /* an unscaled window */
#define FLOW_GRACE_US     200000  /* longer than captures and multi-queue cards reorder */
#define FLOW_REORDERED_US 3000    /* sooner than this no repetition comes (Wireshark's bound) */
#define FLOW_TWIN_US      1000000 /* the same packet with the same IP ID within this is a copy */
/* ... without one, but with the same timestamp (RFC 7323 section 5.4; ticks of today's hosts are 1 to 10 ms). */
#define FLOW_TWIN_STAMPED_US 50000
#define FLOW_TWIN_BLIND_US   2000   /* ... without either to tell */
#define FLOW_TWIN_TICK_US    100    /* 16 bits of these are more than FLOW_TWIN_US */
#define FLOW_TWINS           4      /* packets of a side remembered to know copies by */
#define FLOW_RTT_TICK_US     32000  /* 8 s at the most */
#define FLOW_CLOSED_TICK_US  100000 /* 109 minutes of closed window are counted */
#define FLOW_SIGNS_LEAST     3      /* fewer may be an accident */
#define FLOW_SIGNS_NEVER     UINT8_MAX
#define FLOW_SPAN_OCTETS     (1u << 26) /* segments further off than this do not belong to the stream */
#define FLOW_DEAF_US         400000 /* repetitions so close together may have crossed the acknowledgement */

enum ONE_OCTET flow_state {
    FLOW_NEW = 0,
    FLOW_SYN_SEEN,
    FLOW_SYN_ACK_SEEN, /* the server answered; the client's acknowledgement is due */
    FLOW_ESTABLISHED,
    FLOW_CLOSED, /* reset, refused, or both sides said FIN and it was acknowledged */
};

enum flow_side_flag {
    FLOW_SIDE_SEEN = 1u << 0,  /* a packet of this side was seen */
    FLOW_SIDE_BEGUN = 1u << 1, /* `next` is known */
    FLOW_SIDE_SYN = 1u << 2,   /* its SYN was seen */
    FLOW_SIDE_FIN = 1u << 3,   /* its FIN came in order */
    FLOW_SIDE_FIN_ACKED = 1u << 4,
    FLOW_SIDE_RESET = 1u << 5,        /* a valid RST bore its address */
    FLOW_SIDE_RESET_STRAY = 1u << 6,  /* an RST outside the window, ignored */
    FLOW_SIDE_RESET_BELIED = 1u << 7, /* it went on sending after the RST: the RST was not its own */
    FLOW_SIDE_WINDOW_ZERO = 1u << 8,
    FLOW_SIDE_GAP = 1u << 9, /* octets of it were acknowledged that never came by here, or were cut */
    FLOW_SIDE_LOST_BEFORE = 1u << 10,
    FLOW_SIDE_LOST_AFTER = 1u << 11,
    FLOW_SIDE_REORDERED = 1u << 12,
    FLOW_SIDE_TWINS = 1u << 13,   /* copies of the same packet */
    FLOW_SIDE_DIFFERS = 1u << 14, /* a repetition with other octets than before */
    FLOW_SIDE_TIMING = 1u << 15,
    FLOW_SIDE_SACKS = 1u << 16,      /* it sent SACK blocks */
    FLOW_SIDE_SCALES = 1u << 17,     /* its SYN offered window scaling */
    FLOW_SIDE_UNKEPT = 1u << 18,     /* pieces out of order exceeded the bounds */
    FLOW_SIDE_FRAGMENTED = 1u << 19, /* IP fragments */
    FLOW_SIDE_SYN_REPEATED = 1u << 20,
    FLOW_SIDE_SYN_REPEATED_LATE =
        1u << 21, /* SYN-ACK again and again although the client's acknowledgements had passed here */
    FLOW_SIDE_TIMESTAMPS = 1u << 22,
    FLOW_SIDE_FIN_SHOWN = 1u << 23, /* its FIN was seen, in order or not */
    FLOW_SIDE_END_UNSEEN =
        1u << 24, /* the last of what is acknowledged of it passed unseen: a FIN may be there */
    FLOW_SIDE_BYPASS = 1u << 25,   /* its octets may pass unseen, as we wanted it */
    FLOW_SIDE_BYPASSED = 1u << 26, /* and may have, up to `bypass_end` */
    FLOW_SIDE_RESET_BARE =
        1u << 27, /* its RST has no ACK: it answers a segment (RFC 9293 section 3.10.7.1) */
    FLOW_SIDE_SYN_REPEATED_ONCE =
        1u << 29,                     /* SYN-ACK again for the first time: that acknowledgement may be lost */
    FLOW_SIDE_RESET_WAITS = 1u << 28, /* ... and is not told yet: what was sent before it may still come */
};

/* For a caller who can tell whether packets leave this host; kept here, one nibble a side. */
enum flow_departure {
    FLOW_FOLLOWED = 1u << 0,       /* a repetition of the side's was followed out of this host ... */
    FLOW_FOLLOWED_AGAIN = 1u << 1, /* ... and another one ... */
    FLOW_LEFT = 1u << 2,           /* ... and left. These three go when the other side acknowledges more. */
    FLOW_REFUSED_HERE = 1u << 3,   /* this host said in the side's name that it refuses */
};

struct flow_piece;

/* What a side sent, and how the other side acknowledged it. */
struct flow_side {
    uint64_t last_us;     /* its latest packet */
    uint64_t progress_us; /* its latest new octets, in order */
    uint64_t clean_us; /* its latest packet whose sequence number showed that nothing of it is missing here */
    uint64_t unacked_since_us; /* its oldest unacknowledged octet passed; 0 = all acknowledged */
    struct flow_piece *pieces; /* by sequence number */
    uint32_t flags;            /* enum flow_side_flag */
    uint32_t first;            /* sequence number of its first octet, when its SYN was seen */
    uint32_t next;             /* next octet due here, in order */
    uint32_t highest;          /* end of the highest segment seen */
    uint32_t shown;            /* highest sequence number it has shown, segments or not */
    uint32_t acked;            /* acknowledged by the other side */
    uint32_t timestamp;        /* the latest it has sent, with FLOW_SIDE_TIMESTAMPS (RFC 7323) */
    uint32_t window;           /* its last advertised window, scaled where known */
    uint32_t window_most;      /* the largest since the handshake */
    /* The clock's low 32 bits; of the first two 0 = none. */
    uint32_t hole_us;               /* a hole stands since */
    uint32_t gap_us;                /* acknowledged and unseen since */
    uint32_t timed_us, timed_end;   /* the segment whose round trip is measured */
    uint32_t rtt_us, rtt_least_us;  /* from here to the OTHER side and back: its octets acknowledged */
    uint32_t last_start, last_hash; /* of its last segment, with last_length: to know a changed repetition */
    uint32_t reset_sequence;
    uint32_t biggest_end; /* of the first segment as big as `biggest_sent` */
    union {
        uint32_t syn_interval_us; /* between its latest two SYNs; until the handshake is done */
        uint32_t bypass_end;      /* with FLOW_SIDE_BYPASSED */
    };
    uint16_t repeated_after;                              /* seen before: lost after us */
    uint16_t repeated_before;                             /* filled a hole: lost before us */
    uint16_t duplicate_acks;                              /* sent by this side */
    uint16_t raw_window;                                  /* its last advertised window as written */
    uint16_t mss;                                         /* announced by this side */
    uint16_t biggest_sent, biggest_delivered, timed_size; /* sizes of segments */
    uint16_t last_length;                                 /* UINT16_MAX: or longer */
    uint16_t repeated_least; /* of what is repeated since the last progress of `acked` */
    uint16_t ip_id;
    uint8_t repeats;    /* repetitions since the last progress of `acked` */
    uint8_t unanswered; /* keepalives and probes of this side since the other's last packet */
    bool echoed : 1;    /* duplicate acknowledgements and SACKs since then: something else gets through */
    uint8_t twin_next : 2;
    uint8_t scale : 4;
    uint8_t ttl_low, ttl_high; /* of its packets, 0 = none yet; RSTs do not count */
    uint8_t reset_ttl;
    uint8_t syn_count;
    uint8_t rtt_most_ticks;          /* the longest round trip, in FLOW_RTT_TICK_US */
    uint16_t twin_ticks[FLOW_TWINS]; /* when, in FLOW_TWIN_TICK_US */
    uint16_t mean_size; /* of its segments with octets, smoothed; in a bypass of the large ones */
    uint32_t twin_hashes[FLOW_TWINS];
};

enum flow_event {
    FLOW_EVENT_CONNECTED,   /* the server answered the SYN */
    FLOW_EVENT_ESTABLISHED, /* and the client that */
    FLOW_EVENT_FIN,         /* of `side`, in order */
    FLOW_EVENT_RESET,
    FLOW_EVENT_REFUSED, /* RST to the SYN */
    FLOW_EVENT_WINDOW_CLOSED,
    FLOW_EVENT_WINDOW_OPENED,
    FLOW_EVENT_STUCK, /* what was sent towards the other side had to be repeated */
    FLOW_EVENT_FREED, /* and has got through */
    FLOW_EVENT_GAP,   /* octets of `side` passed unseen */
    FLOW_EVENT_CLEAN, /* `side` sent a packet that shows that nothing of it is missing */
    FLOW_EVENT_SHOWN, /* `side` showed that octets of it are missing */
};

/* Where a flow's events go. Spans are borrowed during the call. */
struct flow_sink {
    void *context;
    void (*octets)(void *context, enum side side, const uint8_t *octets, size_t length, uint64_t now_us);
    void (*skipped)(void *context, enum side side, uint64_t length, uint64_t now_us);
    void (*bypassed)(void *context, enum side side, uint64_t length, uint64_t now_us);
    void (*event)(void *context, enum flow_event event, enum side side, uint64_t now_us);
    size_t *budget_octets; /* what all flows together may still keep; may be NULL */
};

/* The client's octets and the server's window as it is written. */
enum flow_beyond {
    FLOW_BEYOND_NOT = 0,
    FLOW_BEYOND_SENT,     /* from beyond_from on they exceed it */
    FLOW_BEYOND_REPAIRED, /* what was lost there is being repeated, up to beyond_from */
};

struct flow {
    struct flow_side sides[SIDE_PAIR];
    enum flow_state state;
    bool midstream : 1;                    /* picked up without its SYN */
    bool connected : 1;                    /* octets may go on */
    bool syn_pending : 1;                  /* a new SYN on a live connection: believed when it is answered */
    bool server_reset_first : 1;           /* of two resets that wait */
    bool deaf_is_server : 1;               /* the side that `deaf_count` is about */
    uint8_t departures;                    /* enum flow_departure */
    uint8_t edge_losses;                   /* the client's losses that began at beyond_from */
    uint32_t pending_sequence, pending_us; /* of that SYN; the clock's low 32 bits */
    uint16_t pending_window, pending_mss;
    uint8_t pending_scale, pending_options, pending_ttl;
    uint8_t deaf_count; /* a side repeated what is acknowledged so often, and showed nothing new */
    /* What boxes and windows do to the client's octets: bodies go that way. */
    uint32_t beyond_from; /* as `beyond` says */
    uint16_t
        sack_foreign_at; /* where the server's latest SACK block lay that is about nothing sent, its high half */
    uint16_t closed_ticks, closed_since; /* the server's window, in FLOW_CLOSED_TICK_US */
    uint8_t sacks_foreign;               /* FLOW_SIGNS_NEVER: some fitted */
    uint8_t beyond;                      /* enum flow_beyond */
    uint32_t reset_us;                   /* when the first reset came that waits; the clock's low 32 bits */
    uint32_t deaf_us;                    /* the latest of `deaf_count`; likewise */
};

/* A new flow. A midstream one has no SYN: its streams begin with the first segments seen. */
void flow_init(struct flow *flow, bool midstream);
void flow_clear(struct flow *flow, size_t *budget_octets);

enum flow_verdict {
    FLOW_TAKEN = 0,
    FLOW_COPY,  /* the same packet again */
    FLOW_STRAY, /* does not belong to these streams */
    FLOW_RESTART, /* a new connection on the same addresses and ports: finish this one, feed the packet to a new flow */
};

/* A packet of `side`, of kind PACKET_TCP. */
enum flow_verdict flow_on_packet(struct flow *flow, enum side side, const struct packet *packet,
                                 const struct flow_sink *sink, uint64_t now_us);

/* From now on octets of `side` may pass unseen, or none may any more. */
void flow_set_bypass(struct flow *flow, enum side side, bool on);

/* After FLOW_RESTART by a SYN-ACK: the SYN it answers, which was not believed when it came. Returns when that was; 0 when
 * there is none. */
uint64_t flow_pending_syn(const struct flow *flow, const struct packet *answer, struct packet *syn,
                          uint64_t now_us);

static inline uint32_t flow_departure(const struct flow *flow, enum side side)
{
    return (uint32_t)flow->departures >> (4 * side_index(side)) & 0xfu;
}

static inline void flow_set_departure(struct flow *flow, enum side side, uint32_t departure)
{
    const unsigned shift = 4 * (unsigned)side_index(side);
    flow->departures = (uint8_t)((flow->departures & ~(0xfu << shift)) | departure << shift);
}

/* When flow_on_deadline() is due; UINT64_MAX = not before the next packet. */
uint64_t flow_deadline_us(const struct flow *flow);
void flow_on_deadline(struct flow *flow, const struct flow_sink *sink, uint64_t now_us);

/* Nothing more will come: gives up waiting and lets go what is kept behind acknowledged gaps. */
void flow_finish(struct flow *flow, const struct flow_sink *sink, uint64_t now_us);

/* Octets of `side` that it has shown to have sent and that are missing here, not acknowledged by anybody. `long_since`: so
 * long that a bypass does not explain it. */
uint32_t flow_missing_octets(const struct flow *flow, enum side side, bool long_since);
uint32_t flow_unacked_octets(const struct flow *flow, enum side side);

/* How often did `side` repeat octets whose acknowledgement had passed here, and show nothing new? It does not get what is
 * sent to it. */
unsigned flow_deaf_count(const struct flow *flow, enum side side);

/* Was the other side heard while octets of `side` stayed unacknowledged? */
bool flow_is_heard(const struct flow *flow, enum side side);
/* The repeated octets of `side` are big segments only; nothing as big was ever acknowledged, and the other side is
 * heard meanwhile. */
bool flow_only_big_lost(const struct flow *flow, enum side side);

/* Something on the way drops what the client sends beyond the server's window as written, without its scale: every
 * loss begins exactly there, and nothing beyond ever passed. */
bool flow_window_is_tracked(const struct flow *flow);

/* The server's SACK blocks are about octets far from any that were sent, always as far: sequence numbers are rewritten
 * behind us and the blocks are not. */
bool flow_sacks_are_foreign(const struct flow *flow);

/* How long the server's window was closed in all. */
uint32_t flow_closed_ms(const struct flow *flow, uint64_t now_us);

/* As far as can be seen both sides have said their last word; only an acknowledgement may be due. */
bool flow_has_ended(const struct flow *flow);

/* Is the TTL of the RST that bears this side's address one of its own? 1 yes, -1 no, 0 cannot be told. */
int flow_reset_fits(const struct flow_side *side);

/* One direction alone was seen though both spoke. `side`: the unseen one. */
bool flow_one_way(const struct flow *flow, enum side side);

#endif
