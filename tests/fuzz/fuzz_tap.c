/* Whatever crosses the wire is shown to the tap's tables: no octet beyond the packet is read, no table overflows,
 * and what is watched stays counted. The first octet says how many octets each packet takes and which socket saw it. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/tap_table.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t length);

static struct tap_flow flow_from(const uint8_t *octets, size_t length, enum side side)
{
    struct tap_flow flow;

    memset(&flow, 0, sizeof flow);
    flow.side = side;
    if (length >= 20) {
        flow.client.octets[10] = flow.client.octets[11] = flow.server.octets[10] = flow.server.octets[11] =
            0xff;
        memcpy(flow.client.octets + 12, octets + 12, 4);
        memcpy(flow.server.octets + 12, octets + 16, 4);
        flow.client.port = 40000;
        flow.server.port = 25;
    }
    return flow;
}

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t length)
{
    static const uint8_t seed[16] = {1, 2, 3};
    struct tap_table *table = tap_table_create(seed);
    uint64_t now_us = 1;

    if (table == NULL)
        return 0;
    while (length > 1) {
        const size_t wanted = (size_t)(octets[0] & 0x3f) * 4;
        const size_t taken = wanted < length - 1 ? wanted : length - 1;
        uint8_t *packet = malloc(taken == 0 ? 1 : taken); /* of exactly its size: a read beyond it is found */
        struct tap_flow flow;
        struct tap_reset reset;
        struct icmp_error icmp;
        uint32_t number;

        if (packet == NULL)
            break;
        memcpy(packet, octets + 1, taken);
        flow = flow_from(packet, taken, (octets[0] & 0x40) != 0 ? SIDE_CLIENT : SIDE_SERVER);
        if (octets[0] & 0x80) {
            (void)tap_table_watch(table, &flow, now_us);
            tap_table_note_ack(table, packet, taken, (octets[0] & 0x20) != 0);
            if (tap_table_find_revealed(table, &flow, &number))
                assert(number <= INT32_MAX);
            if (octets[0] & 0x10)
                tap_table_unwatch(table, &flow);
        } else {
            tap_table_note(table, packet, taken, now_us);
            (void)tap_table_find_reset(table, &flow, now_us, &reset);
            (void)tap_table_find_icmp(table, &flow, now_us, &icmp, &number);
        }
        assert(tap_table_watched(table) <= TAP_WATCHES);
        free(packet);
        octets += taken + 1;
        length -= taken + 1;
        now_us += 1000;
    }
    tap_table_destroy(table);
    return 0;
}
