/* packet - one IP packet taken apart: IPv4 (RFC 791), IPv6 with extension headers (RFC 8200), TCP with its options
 * (RFC 9293, RFC 7323, RFC 2018), ICMP and ICMPv6 errors with the packet they quote (RFC 792, RFC 4443).
 * Borrows: the octets; `payload` points into them. Owns: nothing.
 * Bounds:  PACKET_MAX_EXTENSIONS extension headers are walked; never reads beyond `captured`.
 * Lengths: the headers' own lengths are trusted only within what was captured; a payload that was cut (snap length)
 *          has payload_captured < payload_length. An IP length of 0 (BIG TCP, or offload seen at the sender) stands
 *          for the whole wire length.
 * Threads: none. Time: none. */
#ifndef SMTPWITNESS_CORE_TCP_PACKET_H
#define SMTPWITNESS_CORE_TCP_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/address.h"
#include "core/base/attributes.h"

#define PACKET_MAX_EXTENSIONS 16 /* more than any real packet carries */
#define PACKET_SACK_BLOCKS    4  /* as many as fit TCP's 40 octets of options (RFC 2018 section 3) */

enum packet_kind {
    PACKET_NONE = 0,
    PACKET_TCP,
    PACKET_ICMP_ERROR, /* about a TCP packet, whose addresses are in `source` and `destination` */
};

enum packet_result {
    PACKET_OK = 0,
    PACKET_OTHER,    /* well-formed, but neither TCP nor an error about TCP */
    PACKET_FRAGMENT, /* a part of a packet that may be TCP: see fragments.h */
    PACKET_CUT,      /* the capture ends before the TCP header does */
    PACKET_MALFORMED,
};

enum packet_tcp_flag {
    PACKET_FIN = 0x01,
    PACKET_SYN = 0x02,
    PACKET_RST = 0x04,
    PACKET_PSH = 0x08,
    PACKET_ACK = 0x10,
};

enum packet_option {
    PACKET_HAS_MSS = 1u << 0,
    PACKET_HAS_WINDOW_SCALE = 1u << 1,
    PACKET_HAS_SACK_PERMITTED = 1u << 2,
    PACKET_HAS_TIMESTAMP = 1u << 3,
};

/* What an ICMP error says about the packet it quotes. */
enum packet_icmp {
    PACKET_ICMP_NONE = 0,
    PACKET_ICMP_UNREACHABLE, /* no route to host or network */
    PACKET_ICMP_PROHIBITED,  /* administratively prohibited */
    PACKET_ICMP_REJECTED, /* port or protocol unreachable: a REJECT rule, for a TCP host answers with RST */
    PACKET_ICMP_TOO_BIG,  /* path MTU */
    PACKET_ICMP_OTHER,    /* time exceeded, parameter problem, source quench */
};

struct packet_sack {
    uint32_t start, end;
};

struct packet {
    enum packet_kind kind;
    struct address source, destination; /* of the TCP packet; for an ICMP error, of the quoted one */
    uint8_t ttl;                        /* of the packet itself, also for an ICMP error */
    uint16_t ip_id;
    bool has_ip_id;     /* IPv4 only */
    bool fragmented;    /* it came in fragments, or is one */
    bool fragment_more; /* of a fragment: it is not the last */
    uint8_t fragment_protocol;
    uint16_t fragment_offset; /* in octets */
    uint32_t fragment_id;

    uint32_t sequence, acknowledgement;
    uint16_t window; /* as written, unscaled */
    uint8_t flags;   /* enum packet_tcp_flag */
    uint8_t options; /* enum packet_option */
    uint8_t window_scale;
    uint8_t sack_count;
    uint16_t mss;
    uint32_t timestamp_value, timestamp_echo;
    struct packet_sack sack[PACKET_SACK_BLOCKS];

    const uint8_t *payload;
    size_t payload_captured;
    size_t payload_length; /* as on the wire */

    enum packet_icmp icmp;
    struct address icmp_sender; /* port 0 */
    uint8_t icmp_type, icmp_code;
    uint32_t icmp_mtu;
};

/* `captured` octets from the IP header on; `wire_length` octets were on the wire (>= captured; padding allowed).
 * PACKET_OK fills everything; PACKET_FRAGMENT the addresses without ports, `fragment_*` and `payload`, which is the
 * fragment's; PACKET_OTHER the addresses alone. */
enum packet_result packet_parse(struct packet *packet, const uint8_t *octets, size_t captured,
                                size_t wire_length) MUST_CHECK;

/* The sequence space the segment takes: payload, and one each for SYN and FIN. */
uint32_t packet_sequence_length(const struct packet *packet);

/* RFC 9293 section 3.4: a is before b, modulo 2^32. */
static inline bool sequence_before(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) < 0;
}

#endif
