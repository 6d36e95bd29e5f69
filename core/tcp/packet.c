#include "core/tcp/packet.h"

#include <string.h>

#define PROTOCOL_HOP_BY_HOP   0
#define PROTOCOL_ICMP         1
#define PROTOCOL_TCP          6
#define PROTOCOL_ROUTING      43
#define PROTOCOL_FRAGMENT     44
#define PROTOCOL_AUTHENTICATE 51
#define PROTOCOL_ICMPV6       58
#define PROTOCOL_DESTINATION  60

/* What is left of a packet. */
struct octets {
    const uint8_t *at;
    size_t captured; /* octets that may be read */
    size_t length;   /* octets there were on the wire */
};

static uint16_t get16(const uint8_t *at)
{
    return (uint16_t)((uint16_t)at[0] << 8 | at[1]);
}

static uint32_t get32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static void octets_limit(struct octets *octets, size_t length)
{
    octets->length = length;
    if (octets->captured > length) {
        octets->captured = length;
    }
}

/* Leaves `count` octets behind; `count` must have been captured. */
static void octets_advance(struct octets *octets, size_t count)
{
    octets->at += count;
    octets->captured -= count;
    octets->length -= count;
}

static void set_ipv4(struct address *address, const uint8_t *at)
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    memcpy(address->octets, mapped, sizeof mapped);
    memcpy(address->octets + sizeof mapped, at, 4);
    address->port = 0;
}

static void set_ipv6(struct address *address, const uint8_t *at)
{
    memcpy(address->octets, at, sizeof address->octets);
    address->port = 0;
}

/* Notes where the packet's part belongs. The first part of a quoted packet is all that is wanted of it. */
static enum packet_result fragment_of(struct packet *packet, uint32_t id, size_t offset, bool more,
                                      bool quoted)
{
    packet->fragmented = offset != 0 || more;
    packet->fragment_id = id;
    packet->fragment_offset = (uint16_t)offset;
    packet->fragment_more = more;
    return packet->fragmented && (offset != 0 || !quoted) ? PACKET_FRAGMENT : PACKET_OK;
}

/* RFC 791 section 3.1. On PACKET_OK `octets` stands behind the header. `quoted`: inside an ICMP error, where the total
 * length may exceed what is quoted. */
static enum packet_result ipv4_header(struct packet *packet, struct octets *octets, uint8_t *protocol,
                                      bool quoted)
{
    if (octets->captured < 20) {
        return octets->length < 20 ? PACKET_MALFORMED : PACKET_CUT;
    }
    const uint8_t *at = octets->at;
    size_t header = (size_t)(at[0] & 0x0f) * 4;
    size_t total = get16(at + 2);
    if (header < 20 || (total != 0 && total < header)) {
        return PACKET_MALFORMED;
    }
    if (total != 0 && (quoted || total < octets->length)) {
        octets_limit(octets, total);
    } else if (total > octets->length) {
        octets->length = total; /* the wire length was not known, or the frame was cut before the capture */
    }
    if (octets->captured < header) {
        return octets->length < header ? PACKET_MALFORMED : PACKET_CUT;
    }
    uint16_t fragment = get16(at + 6);
    *protocol = at[9];
    set_ipv4(&packet->source, at + 12);
    set_ipv4(&packet->destination, at + 16);
    if (!quoted) {
        packet->ttl = at[8];
        packet->ip_id = get16(at + 4);
        packet->has_ip_id = true;
    }
    octets_advance(octets, header);
    return fragment_of(packet, get16(at + 4), (size_t)(fragment & 0x1fff) * 8, (fragment & 0x2000) != 0,
                       quoted);
}

static bool is_extension(uint8_t protocol)
{
    return protocol == PROTOCOL_HOP_BY_HOP || protocol == PROTOCOL_ROUTING || protocol == PROTOCOL_FRAGMENT ||
           protocol == PROTOCOL_AUTHENTICATE || protocol == PROTOCOL_DESTINATION;
}

/* RFC 8200 section 4. */
static enum packet_result ipv6_extensions(struct packet *packet, struct octets *octets, uint8_t *protocol,
                                          bool quoted)
{
    for (unsigned count = 0; is_extension(*protocol); count++) {
        if (count == PACKET_MAX_EXTENSIONS) {
            return PACKET_MALFORMED;
        }
        if (octets->captured < 8) {
            return octets->length < 8 ? PACKET_MALFORMED : PACKET_CUT;
        }
        const uint8_t *at = octets->at;
        size_t header = *protocol == PROTOCOL_FRAGMENT ? 8
                        : *protocol == PROTOCOL_AUTHENTICATE
                            ? ((size_t)at[1] + 2) * 4 /* RFC 4302 section 2.2 */
                            : ((size_t)at[1] + 1) * 8;
        if (octets->captured < header) {
            return octets->length < header ? PACKET_MALFORMED : PACKET_CUT;
        }
        bool fragment = *protocol == PROTOCOL_FRAGMENT;
        *protocol = at[0];
        octets_advance(octets, header);
        if (fragment && fragment_of(packet, get32(at + 4), get16(at + 2) & 0xfff8, (at[3] & 1) != 0,
                                    quoted) == PACKET_FRAGMENT) {
            return PACKET_FRAGMENT;
        }
    }
    return PACKET_OK;
}

static enum packet_result ipv6_header(struct packet *packet, struct octets *octets, uint8_t *protocol,
                                      bool quoted)
{
    if (octets->captured < 40) {
        return octets->length < 40 ? PACKET_MALFORMED : PACKET_CUT;
    }
    const uint8_t *at = octets->at;
    size_t payload = get16(at + 4);
    if (payload != 0 && (quoted || payload + 40 < octets->length)) {
        octets_limit(octets, payload + 40);
    } else if (payload != 0 && payload + 40 > octets->length) {
        octets->length = payload + 40;
    }
    *protocol = at[6];
    set_ipv6(&packet->source, at + 8);
    set_ipv6(&packet->destination, at + 24);
    if (!quoted) {
        packet->ttl = at[7];
    }
    octets_advance(octets, 40);
    return ipv6_extensions(packet, octets, protocol, quoted);
}

static enum packet_result ip_header(struct packet *packet, struct octets *octets, uint8_t *protocol,
                                    bool quoted)
{
    if (octets->captured < 1) {
        return PACKET_CUT;
    }
    switch (octets->at[0] >> 4) {
    case 4:
        return ipv4_header(packet, octets, protocol, quoted);
    case 6:
        return ipv6_header(packet, octets, protocol, quoted);
    default:
        return PACKET_MALFORMED;
    }
}

/* RFC 9293 section 3.1; RFC 7323 sections 2.2 and 3.2; RFC 2018 sections 2 and 3. A damaged option ends the list. */
static void tcp_options(struct packet *packet, const uint8_t *at, size_t length)
{
    while (length > 0) {
        size_t size = 1;
        if (at[0] == 0) {
            return;
        }
        if (at[0] != 1) {
            if (length < 2 || at[1] < 2 || at[1] > length) {
                return;
            }
            size = at[1];
        }
        if (at[0] == 2 && size == 4) {
            packet->mss = get16(at + 2);
            packet->options |= PACKET_HAS_MSS;
        } else if (at[0] == 3 && size == 3) {
            packet->window_scale = at[2] > 14 ? 14 : at[2]; /* RFC 7323 section 2.3 */
            packet->options |= PACKET_HAS_WINDOW_SCALE;
        } else if (at[0] == 4 && size == 2) {
            packet->options |= PACKET_HAS_SACK_PERMITTED;
        } else if (at[0] == 5 && size >= 10) {
            for (size_t i = 2; size - i >= 8 && packet->sack_count < PACKET_SACK_BLOCKS; i += 8) {
                packet->sack[packet->sack_count++] =
                    (struct packet_sack){.start = get32(at + i), .end = get32(at + i + 4)};
            }
        } else if (at[0] == 8 && size == 10) {
            packet->timestamp_value = get32(at + 2);
            packet->timestamp_echo = get32(at + 6);
            packet->options |= PACKET_HAS_TIMESTAMP;
        }
        at += size;
        length -= size;
    }
}

static enum packet_result tcp_header(struct packet *packet, struct octets *octets)
{
    if (octets->captured < 20) {
        return octets->length < 20 ? PACKET_MALFORMED : PACKET_CUT;
    }
    const uint8_t *at = octets->at;
    size_t header = (size_t)(at[12] >> 4) * 4;
    if (header < 20 || header > octets->length) {
        return PACKET_MALFORMED;
    }
    packet->source.port = get16(at);
    packet->destination.port = get16(at + 2);
    packet->sequence = get32(at + 4);
    packet->acknowledgement = get32(at + 8);
    packet->flags = at[13] & 0x1f;
    packet->window = get16(at + 14);
    size_t header_captured = header < octets->captured ? header : octets->captured;
    tcp_options(packet, at + 20, header_captured - 20);
    packet->payload = at + header_captured;
    packet->payload_captured = octets->captured - header_captured;
    packet->payload_length = octets->length - header;
    packet->kind = PACKET_TCP;
    return PACKET_OK;
}

static enum packet_icmp icmp_meaning(uint8_t type, uint8_t code)
{
    if (type != 3) {
        return PACKET_ICMP_OTHER;
    }
    switch (code) { /* RFC 792, RFC 1122 section 3.2.2.1, RFC 1812 section 5.2.7.1 */
    case 2:
    case 3:
        return PACKET_ICMP_REJECTED;
    case 4:
        return PACKET_ICMP_TOO_BIG;
    case 9:
    case 10:
    case 13:
        return PACKET_ICMP_PROHIBITED;
    default:
        return PACKET_ICMP_UNREACHABLE;
    }
}

static enum packet_icmp icmpv6_meaning(uint8_t type, uint8_t code)
{
    if (type == 2) {
        return PACKET_ICMP_TOO_BIG;
    }
    if (type != 1) {
        return PACKET_ICMP_OTHER;
    }
    switch (code) { /* RFC 4443 section 3.1 */
    case 1:
    case 5:
    case 6:
        return PACKET_ICMP_PROHIBITED;
    case 4:
        return PACKET_ICMP_REJECTED;
    default:
        return PACKET_ICMP_UNREACHABLE;
    }
}

/* RFC 792: destination unreachable 3, source quench 4, time exceeded 11, parameter problem 12; RFC 4443: 1 to 4.
 * Eight octets of the quoted TCP header are enough: ports and sequence number. */
static enum packet_result icmp_error(struct packet *packet, struct octets *octets, bool version6)
{
    if (octets->captured < 8) {
        return octets->length < 8 ? PACKET_MALFORMED : PACKET_CUT;
    }
    uint8_t type = octets->at[0], code = octets->at[1];
    bool error = version6 ? type >= 1 && type <= 4 : type == 3 || type == 4 || type == 11 || type == 12;
    if (!error) {
        return PACKET_OTHER;
    }
    packet->icmp_sender = packet->source;
    packet->icmp_type = type;
    packet->icmp_code = code;
    packet->icmp = version6 ? icmpv6_meaning(type, code) : icmp_meaning(type, code);
    packet->icmp_mtu = version6 ? get32(octets->at + 4) : get16(octets->at + 6);
    octets_advance(octets, 8);
    uint8_t protocol = 0;
    enum packet_result result = ip_header(packet, octets, &protocol, true);
    if (result != PACKET_OK) {
        return result;
    }
    if (protocol != PROTOCOL_TCP) {
        return PACKET_OTHER;
    }
    if (octets->captured < 8) {
        return PACKET_CUT;
    }
    packet->source.port = get16(octets->at);
    packet->destination.port = get16(octets->at + 2);
    packet->sequence = get32(octets->at + 4);
    packet->payload_length = octets->length; /* with its TCP header: how big the quoted packet was */
    packet->kind = PACKET_ICMP_ERROR;
    return PACKET_OK;
}

enum packet_result packet_parse(struct packet *packet, const uint8_t *octets, size_t captured,
                                size_t wire_length)
{
    struct octets left = {
        .at = octets, .captured = captured, .length = wire_length > captured ? wire_length : captured};
    uint8_t protocol = 0;
    memset(packet, 0, sizeof *packet);
    enum packet_result result = ip_header(packet, &left, &protocol, false);
    if (result == PACKET_FRAGMENT) {
        packet->fragment_protocol = protocol;
        packet->payload = left.at;
        packet->payload_captured = left.captured;
        packet->payload_length = left.length;
        return protocol == PROTOCOL_TCP || is_extension(protocol) ? PACKET_FRAGMENT : PACKET_OTHER;
    }
    if (result != PACKET_OK) {
        return result;
    }
    if (protocol == PROTOCOL_TCP) {
        return tcp_header(packet, &left);
    }
    if (protocol == PROTOCOL_ICMP && octets[0] >> 4 == 4) {
        return icmp_error(packet, &left, false);
    }
    if (protocol == PROTOCOL_ICMPV6 && octets[0] >> 4 == 6) {
        return icmp_error(packet, &left, true);
    }
    return PACKET_OTHER;
}

uint32_t packet_sequence_length(const struct packet *packet)
{
    return (uint32_t)packet->payload_length + ((packet->flags & PACKET_SYN) != 0) +
           ((packet->flags & PACKET_FIN) != 0);
}
