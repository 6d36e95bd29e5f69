/* evidence - what TCP tells about one leg. The proxy fills it from TCP_INFO, ICMP and its tap, the packet ways from
 * the packets; the attribution reads it. Plain data, all zero = nothing known.
 * Words:   "our" octets are those sent towards the leg's side; "its" octets come from that side. */
#ifndef SMTPWITNESS_CORE_FAULT_EVIDENCE_H
#define SMTPWITNESS_CORE_FAULT_EVIDENCE_H

#include <stdbool.h>
#include <stdint.h>

enum probe_result {
    PROBE_NONE = 0,   /* never probed */
    PROBE_SENT,       /* no answer yet */
    PROBE_ANSWERED,   /* its host is alive, and (with a tap) said nothing we missed */
    PROBE_UNANSWERED, /* several probes without an answer */
    PROBE_REVEALED, /* the answer's sequence number is beyond what reached us: its octets were lost on the way */
    PROBE_COUNT,
};

enum connect_result {
    CONNECT_PENDING = 0,
    CONNECT_ESTABLISHED,
    CONNECT_REFUSED,     /* RST to our SYN */
    CONNECT_TIMED_OUT,   /* nothing at all */
    CONNECT_UNREACHABLE, /* ICMP: no route to host or network */
    CONNECT_PROHIBITED,  /* ICMP: administratively prohibited */
    CONNECT_REJECTED,    /* ICMP port unreachable and the like: a firewall's REJECT */
    CONNECT_LOCAL_ERROR, /* our own box could not even try */
    CONNECT_COUNT,
};

enum leg_flag {
    LEG_TAPPED = 1u << 0,          /* sequence numbers of the leg were watched since before the silence */
    LEG_WINDOW_ZERO = 1u << 1,     /* its window is closed right now */
    LEG_WINDOW_TINY = 1u << 2,     /* window scaling is missing and throttles it */
    LEG_RESET_FOREIGN = 1u << 3,   /* the RST's TTL, IP ID or window does not fit that side's packets */
    LEG_RESET_FITS = 1u << 4,      /* the RST's TTL was seen and fits */
    LEG_ICMP_TOO_BIG = 1u << 5,    /* a path MTU message came */
    LEG_ICMP_FOREIGN = 1u << 6,    /* the ICMP error came from another address than the side's own */
    LEG_ICMP_UNDIVERTED = 1u << 7, /* path MTU messages for our flow are forwarded past us */
    LEG_ONLY_BIG_LOST = 1u << 8,   /* full-size segments stay unacknowledged, smaller ones got through */
    LEG_TIMED_OUT = 1u << 9,       /* the kernel gave the connection up (ETIMEDOUT) */
    LEG_UNREACHABLE = 1u << 10,    /* the kernel said EHOSTUNREACH/ENETUNREACH on an established leg */
    LEG_LOSS_BEFORE_US = 1u << 11, /* gaps later refilled: lost between that side and us */
    LEG_LOSS_AFTER_US = 1u << 12,  /* our octets had to be repeated */
    LEG_GAP = 1u << 13,            /* the observer lost packets here */
    LEG_ONE_WAY = 1u << 14,        /* only one direction was ever seen */
    LEG_SYN_ACK_REPEATED = 1u << 15,
    LEG_HEARD = 1u << 16, /* while our octets stayed unacknowledged that side was heard all the same */
    LEG_RESET_ANSWERS =
        1u << 17,             /* its RST answers what was sent to it: its end of the connection was gone */
    LEG_RESET_OWN = 1u << 18, /* its RST is of its own accord */
    LEG_WINDOW_TRACKED = 1u << 19, /* every loss begins where its window would end without scaling */
    LEG_SACK_FOREIGN = 1u << 20,   /* its SACK blocks are about octets that nobody sent */
    LEG_BIG_DOUBTED = 1u << 21,    /* LEG_ONLY_BIG_LOST, but a full one may be among those that got through */
};

struct leg_evidence {
    uint32_t flags; /* enum leg_flag */
    enum probe_result probe;
    enum connect_result connect;
    uint32_t rtt_us; /* smoothed, 0 = unknown */
    uint32_t rtt_least_us, rtt_most_us;
    uint32_t retrans_count;    /* segments of ours repeated on this leg */
    uint32_t unacked_octets;   /* ours, sent and not acknowledged */
    uint32_t unsent_octets;    /* ours, accepted by our kernel and not sent yet */
    uint64_t unacked_since_us; /* monotonic; 0 = all acknowledged */
    uint64_t stuck_since_us;   /* kept by the session: ours were stuck since then ... */
    uint64_t freed_us;         /* ... and got through now; 0 = never */
    uint32_t revealed_octets;  /* PROBE_REVEALED: how many of its octets never reached us */
    uint32_t window_octets;    /* its last advertised window */
    uint32_t busy_ms;          /* tcpi_busy_time: we had octets to send */
    uint32_t sent_segments;    /* ours, with octets */
    uint32_t came_segments;    /* its, with octets */
    uint32_t late_segments;    /* its, lost before they reached us and repeated (by TCP_INFO: out of order) */
    uint32_t window_limited_ms; /* its window stopped us: tcpi_rwnd_limited, or closed as seen in packets */
    uint32_t buffer_limited_ms; /* tcpi_sndbuf_limited: our own buffer stopped us */
    uint32_t turn_limited_ms;   /* its octets stood here, ready to go on, until our turn came; at the least */
    uint16_t segment_octets;    /* send MSS */
    uint8_t icmp_type, icmp_code; /* of the last ICMP error, when icmp_seen */
    bool icmp_seen;
    uint8_t ttl;       /* of its packets, 0 = unknown */
    uint8_t reset_ttl; /* of its RST, 0 = unknown */
    uint8_t probes_unanswered;
};

/* What kept the client's octets from coming faster to the server (T-RAT, Zhang et al., "On the characteristics and
 * origins of internet flow rates", 2002). Not known is an answer. */
enum bottleneck {
    BOTTLENECK_UNKNOWN = 0,
    BOTTLENECK_CLIENT,      /* its application: small segments, nothing lost, the server takes them at once */
    BOTTLENECK_SERVER,      /* its window */
    BOTTLENECK_CLIENT_LOSS, /* segments are lost on the client leg */
    BOTTLENECK_SERVER_LOSS,
    BOTTLENECK_CLIENT_PATH, /* full segments come slowly: the client leg's bandwidth, or a client that paces them */
    BOTTLENECK_SERVER_PATH, /* the server leg's bandwidth: the round trip grew under load */
    BOTTLENECK_WITNESS,     /* ourselves: a buffer too small for the path, or no processor for it */
    BOTTLENECK_COUNT,
};

/* `octets`: sent by the client in `us` of sending. */
enum bottleneck bottleneck_find(const struct leg_evidence *client_leg, const struct leg_evidence *server_leg,
                                uint64_t octets, uint64_t us);
const char *
bottleneck_name(enum bottleneck bottleneck); /* "client" "server-leg-loss" "witness" ..., "" for unknown */

const char *probe_result_name(enum probe_result probe); /* "none" "sent" "answered" "unanswered" "revealed" */
const char *connect_result_name(enum connect_result connect); /* "refused", "timed-out", ... */

#endif
