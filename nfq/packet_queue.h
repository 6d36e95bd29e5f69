/* packet_queue - one NFQUEUE: its netlink socket, batched reads, batched verdicts.
 * Every packet id that was read gets exactly one verdict, also when it makes no sense. Accepted packets are let go
 * together, in one message, as long as judge() leaves their marks alone or gives them the same one; a drop is sent by
 * itself, after everything before it was accepted. The kernel keeps the packets of a queue in order and a batch verdict
 * covers all up to its id, so while one is withheld those behind it get a verdict each.
 * Owns:    the socket and PACKET_QUEUE_BATCH buffers of 64 kB (a GSO packet fits).
 * Bounds:  PACKET_QUEUE_BATCH packets per read; how many are withheld is the caller's to bound: each takes a place of
 *          the kernel's queue. What is withheld when the queue closes is dropped by the kernel. Verdicts are flushed whenever the socket is drained.
 * Threads: one at a time. */
#ifndef SMTPWITNESS_NFQ_PACKET_QUEUE_H
#define SMTPWITNESS_NFQ_PACKET_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "conf/settings.h"
#include "core/base/attributes.h"
#include "nfq/queue_message.h"

#define PACKET_QUEUE_BATCH      32
#define PACKET_QUEUE_COPY_RANGE 65531u /* the most a netlink attribute holds (65535 less its header) */

struct packet_queue;

struct packet_queue_options {
    uint16_t number;
    uint32_t length_packets;
    uint32_t receive_octets;
    bool fail_open;
};

/* What the kernel granted beyond the bare queue; said in the log at the start. */
struct packet_queue_granted {
    bool gso;
    bool fail_open;
    bool length;
    uint32_t receive_octets;
};

struct packet_queue_stats {
    uint64_t packets, octets, accepted, dropped, batches;
    uint64_t overruns; /* ENOBUFS: the kernel had packets for us that did not fit the socket */
    uint64_t missed; /* ids that never came: with fail-open such a packet passes, and nobody else counts it */
    uint64_t damaged; /* messages without a packet id */
    uint64_t empty;   /* packets without octets */
    uint64_t refused_verdicts;
};

/* NULL and one line in `error` when the queue cannot be had. */
struct packet_queue *packet_queue_open(const struct packet_queue_options *options,
                                       struct packet_queue_granted *granted,
                                       struct settings_error *error) MUST_CHECK;
void packet_queue_close(struct packet_queue *queue); /* accepts NULL */
/* Lets go all that waits and gives the queue back, so that from now on packets bypass it; the kernel drops what waits in a
 * queue that is closed. Only packet_queue_stats() and packet_queue_close() may follow. */
void packet_queue_end(struct packet_queue *queue);

int packet_queue_descriptor(const struct packet_queue *queue);

/* Reads at most one batch and asks `judge` about each packet, in order. False: the socket is drained, and every
 * verdict is out. */
bool packet_queue_read(struct packet_queue *queue,
                       enum queue_verdict (*judge)(void *context, struct queue_packet *packet),
                       void *context);

/* Lets go now what was accepted so far: what we say in another's name must not overtake it, nor be undone by its mark. */
void packet_queue_flush(struct packet_queue *queue);

/* The verdict of a packet that was withheld: accept or drop. */
void packet_queue_release(struct packet_queue *queue, uint32_t id, enum queue_verdict verdict);

void packet_queue_stats(const struct packet_queue *queue, struct packet_queue_stats *stats);

#endif
