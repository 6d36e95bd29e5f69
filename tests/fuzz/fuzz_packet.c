/* fuzz_packet - any octets as a packet, and as a frame of every link type.
 * What comes out lies within what went in. */
#include <pcap/dlt.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/tcp/packet.h"
#include "replay/link.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "%s\n", what);
        abort();
    }
}

static void check(const uint8_t *octets, size_t captured, size_t length)
{
    struct packet packet;
    if (packet_parse(&packet, octets, captured, length) != PACKET_OK) {
        return;
    }
    require(packet.kind == PACKET_TCP || packet.kind == PACKET_ICMP_ERROR, "a packet of no kind");
    require(packet.sack_count <= PACKET_SACK_BLOCKS, "too many SACK blocks");
    require(packet.payload_captured <= packet.payload_length, "more captured than there was");
    require(packet.window_scale <= 14, "an unlawful window scale");
    if (packet.kind == PACKET_TCP) {
        require(packet.payload >= octets && packet.payload_captured <= captured &&
                    packet.payload + packet.payload_captured <= octets + captured,
                "the payload is not in the packet");
        volatile uint8_t sum = 0;
        for (size_t i = 0; i < packet.payload_captured; i++) {
            sum = (uint8_t)(sum + packet.payload[i]);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int links[] = {DLT_EN10MB, DLT_LINUX_SLL,  DLT_LINUX_SLL2, DLT_RAW,
                                DLT_IPV4,   DLT_IPV6,       DLT_NULL,       DLT_LOOP,
                                DLT_PPP,    DLT_PPP_SERIAL, DLT_PPP_ETHER,  DLT_C_HDLC};
    check(data, size, size);
    check(data, size, size + 1000);
    for (size_t i = 0; i < sizeof links / sizeof links[0]; i++) {
        struct link_payload payload;
        if (link_find_ip(links[i], data, size, size, &payload)) {
            require(payload.octets >= data && payload.octets + payload.captured <= data + size,
                    "not in the frame");
            check(payload.octets, payload.captured, payload.length);
        }
    }
    return 0;
}
