/* What the kernel says, damaged in any way: each named packet is found inside the octets, and the walk ends. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "nfq/queue_message.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t size)
{
    const uint8_t *const end = octets + size;
    struct queue_packet packet;
    size_t left = size;
    int error = 0;

    for (;;) {
        size_t before = left;
        switch (queue_message_next(&octets, &left, &packet, &error)) {
        case QUEUE_MESSAGE_PACKET:
            if (packet.octets != NULL &&
                (packet.octets > end || packet.captured > (size_t)(end - packet.octets)))
                abort();
            if (packet.link != NULL && (packet.link > end || 6 > (size_t)(end - packet.link)))
                abort();
            if (packet.wire_length < packet.captured || (packet.octets == NULL && packet.captured != 0))
                abort();
            break;
        case QUEUE_MESSAGE_ERROR:
            if (error <= 0)
                abort();
            break;
        case QUEUE_MESSAGE_OTHER:
        case QUEUE_MESSAGE_DAMAGED:
            break;
        case QUEUE_MESSAGE_END:
            return 0;
        }
        if (left >= before)
            abort();
    }
}
