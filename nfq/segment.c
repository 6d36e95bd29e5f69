#include "nfq/segment.h"

#include <string.h>

#define IPV4_OCTETS      20u
#define IPV6_OCTETS      40u
#define TCP_OCTETS       20u
#define TIMESTAMP_OCTETS 12u /* two NOPs before it, as every stack writes it */
#define PROTOCOL_TCP     6u
#define DO_NOT_FRAGMENT  0x4000u

static void put16(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static void put32(uint8_t *at, uint32_t value)
{
    put16(at, value >> 16);
    put16(at + 2, value & 0xffffu);
}

/* RFC 1071, without the final complement. */
static uint32_t sum(const uint8_t *octets, size_t length, uint32_t so_far)
{
    for (; length > 1; octets += 2, length -= 2)
        so_far += (uint32_t)octets[0] << 8 | octets[1];
    if (length > 0)
        so_far += (uint32_t)octets[0] << 8;
    while (so_far >> 16 != 0)
        so_far = (so_far & 0xffffu) + (so_far >> 16);
    return so_far;
}

static void put_ipv4(const struct segment *segment, uint8_t *octets, size_t length)
{
    octets[0] = 0x45;
    put16(octets + 2, (uint32_t)length);
    put16(octets + 4, segment->ip_id);
    put16(octets + 6, DO_NOT_FRAGMENT);
    octets[8] = segment->ttl;
    octets[9] = PROTOCOL_TCP;
    memcpy(octets + 12, segment->source.octets + 12, 4);
    memcpy(octets + 16, segment->destination.octets + 12, 4);
    put16(octets + 10, ~sum(octets, IPV4_OCTETS, 0) & 0xffffu);
}

static void put_ipv6(const struct segment *segment, uint8_t *octets, size_t length)
{
    octets[0] = 0x60;
    put16(octets + 4, (uint32_t)(length - IPV6_OCTETS));
    octets[6] = PROTOCOL_TCP;
    octets[7] = segment->ttl;
    memcpy(octets + 8, segment->source.octets, 16);
    memcpy(octets + 24, segment->destination.octets, 16);
}

static void put_tcp(const struct segment *segment, uint8_t *octets, size_t header)
{
    put16(octets, segment->source.port);
    put16(octets + 2, segment->destination.port);
    put32(octets + 4, segment->sequence);
    put32(octets + 8, segment->acknowledgement);
    octets[12] = (uint8_t)(header / 4 << 4);
    octets[13] = segment->flags;
    put16(octets + 14, segment->window);
    if (segment->has_timestamps) {
        octets[20] = octets[21] = 1; /* NOP */
        octets[22] = 8;
        octets[23] = 10;
        put32(octets + 24, segment->timestamp_value);
        put32(octets + 28, segment->timestamp_echo);
    }
    if (segment->payload_length > 0)
        memcpy(octets + header, segment->payload, segment->payload_length);
}

size_t segment_build(const struct segment *segment, uint8_t *octets, size_t room)
{
    const bool ipv4 = address_is_ipv4(&segment->source);
    const size_t ip = ipv4 ? IPV4_OCTETS : IPV6_OCTETS;
    const size_t header = TCP_OCTETS + (segment->has_timestamps ? TIMESTAMP_OCTETS : 0);
    const size_t bare = ip + header;
    const size_t own = ipv4 ? 12 : 0; /* where an address begins in its sixteen octets */
    uint32_t pseudo;
    size_t length;

    if (ipv4 != address_is_ipv4(&segment->destination) || room < bare ||
        room - bare < segment->payload_length || segment->payload_length > UINT16_MAX - bare)
        return 0;
    length = bare + segment->payload_length;
    memset(octets, 0, bare);
    if (ipv4)
        put_ipv4(segment, octets, length);
    else
        put_ipv6(segment, octets, length);
    put_tcp(segment, octets + ip, header);
    pseudo = sum(segment->source.octets + own, 16 - own, PROTOCOL_TCP + (uint32_t)(length - ip));
    pseudo = sum(segment->destination.octets + own, 16 - own, pseudo);
    put16(octets + ip + 16, ~sum(octets + ip, length - ip, pseudo) & 0xffffu);
    return length;
}
