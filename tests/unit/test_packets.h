/* Packets for tests: whole ones in octets, and segments as struct packet. */
#ifndef SMTPWITNESS_TESTS_UNIT_TEST_PACKETS_H
#define SMTPWITNESS_TESTS_UNIT_TEST_PACKETS_H

#include <arpa/inet.h>
#include <stdint.h>
#include <string.h>

#include "core/tcp/packet.h"

struct test_tcp {
    const char *source, *destination; /* IPv4 or IPv6 */
    uint16_t source_port, destination_port;
    uint32_t sequence, acknowledgement;
    uint8_t flags, ttl;
    uint16_t window, ip_id;
    const uint8_t *options;
    size_t options_length; /* a multiple of 4 */
    const char *payload;
};

static inline void test_put16(uint8_t *at, unsigned value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static inline void test_put32(uint8_t *at, uint32_t value)
{
    test_put16(at, value >> 16);
    test_put16(at + 2, value & 0xffff);
}

/* The IP header before `length` octets of `protocol`; returns its size. */
static inline size_t test_put_ip(uint8_t *at, const char *source, const char *destination, uint8_t protocol,
                                 uint8_t ttl, uint16_t ip_id, size_t length)
{
    if (strchr(source, ':') != NULL) {
        memset(at, 0, 40);
        at[0] = 0x60;
        test_put16(at + 4, (unsigned)length);
        at[6] = protocol;
        at[7] = ttl;
        inet_pton(AF_INET6, source, at + 8);
        inet_pton(AF_INET6, destination, at + 24);
        return 40;
    }
    memset(at, 0, 20);
    at[0] = 0x45;
    test_put16(at + 2, (unsigned)length + 20);
    test_put16(at + 4, ip_id);
    at[6] = 0x40;
    at[8] = ttl;
    at[9] = protocol;
    inet_pton(AF_INET, source, at + 12);
    inet_pton(AF_INET, destination, at + 16);
    return 20;
}

static inline size_t test_put_tcp(uint8_t *at, const struct test_tcp *tcp)
{
    size_t payload = tcp->payload != NULL ? strlen(tcp->payload) : 0;
    size_t length = 20 + tcp->options_length + payload;
    size_t ip = test_put_ip(at, tcp->source, tcp->destination, 6, tcp->ttl, tcp->ip_id, length);
    uint8_t *head = at + ip;
    memset(head, 0, 20);
    test_put16(head, tcp->source_port);
    test_put16(head + 2, tcp->destination_port);
    test_put32(head + 4, tcp->sequence);
    test_put32(head + 8, tcp->acknowledgement);
    head[12] = (uint8_t)((20 + tcp->options_length) / 4 << 4);
    head[13] = tcp->flags;
    test_put16(head + 14, tcp->window);
    if (tcp->options_length > 0) {
        memcpy(head + 20, tcp->options, tcp->options_length);
    }
    if (payload > 0) {
        memcpy(head + 20 + tcp->options_length, tcp->payload, payload);
    }
    return ip + length;
}

#endif
