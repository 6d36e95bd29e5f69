/* queue_message - what the kernel says about one queued packet, and what we answer: nfnetlink_queue's messages
 * (linux/netfilter/nfnetlink_queue.h; net/netfilter/nfnetlink_queue.c). No socket, no system call.
 * Borrows: the octets; `octets` of a packet points into them.
 * Bounds:  reads only within the given length. A message that is damaged but names a packet still names it: that
 *          packet needs a verdict.
 * Threads: none. */
#ifndef SMTPWITNESS_NFQ_QUEUE_MESSAGE_H
#define SMTPWITNESS_NFQ_QUEUE_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/attributes.h"

#define QUEUE_MESSAGE_OCTETS 128 /* the longest we write: two headers and three attributes */

struct queue_packet {
    uint32_t id;           /* the kernel's; owed exactly one verdict */
    const uint8_t *octets; /* from the IP header on; NULL when the kernel sent none */
    size_t captured;
    size_t wire_length; /* >= captured */
    uint32_t mark;
    uint8_t hook;        /* enum nf_inet_hooks */
    uint32_t port;       /* the bridge's port it came in by, an interface index; 0 = no bridge */
    const uint8_t *link; /* its sender's link address, six octets; NULL = unknown */
    /* Set by the reader: */
    bool is_last;     /* of those that were read together */
    uint64_t read_us; /* when they were read, monotonic, and by the wall clock */
    int64_t read_unix_ms;
};

enum queue_message_result {
    QUEUE_MESSAGE_PACKET = 0,
    QUEUE_MESSAGE_OTHER, /* an acknowledgement, or something for somebody else */
    QUEUE_MESSAGE_ERROR, /* NLMSG_ERROR; *error is a positive errno */
    QUEUE_MESSAGE_DAMAGED,
    QUEUE_MESSAGE_END, /* nothing is left */
};

enum queue_verdict {
    QUEUE_ACCEPT = 0, /* with the mark as it then is in the packet */
    QUEUE_DROP,
    QUEUE_OWN,      /* a segment of ours that has done its work: dropped, and not counted as a drop */
    QUEUE_WITHHOLD, /* none yet: the packet waits in the kernel, see packet_queue_release() */
};

/* Walks the messages of one datagram: takes the next one off `*octets` and `*length`. */
enum queue_message_result queue_message_next(const uint8_t **octets, size_t *length,
                                             struct queue_packet *packet, int *error) MUST_CHECK;

/* Each writes one message and returns its length. A NULL `mark` leaves the packet's mark alone. */
size_t queue_message_verdict(char text[QUEUE_MESSAGE_OCTETS], uint16_t queue, uint32_t id,
                             enum queue_verdict verdict, const uint32_t *mark);
/* For every packet of the queue up to and including `id` that has no verdict yet. */
size_t queue_message_accept_up_to(char text[QUEUE_MESSAGE_OCTETS], uint16_t queue, uint32_t id,
                                  const uint32_t *mark);

/* Takes the queue and has `range` octets of each packet copied to us. */
size_t queue_message_bind(char text[QUEUE_MESSAGE_OCTETS], uint16_t queue, uint32_t range);
size_t queue_message_length(char text[QUEUE_MESSAGE_OCTETS], uint16_t queue, uint32_t packets);
size_t queue_message_flag(char text[QUEUE_MESSAGE_OCTETS], uint16_t queue, uint32_t flag);

#endif
