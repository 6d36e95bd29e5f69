/* kernel_queues - what the kernel counts per queue, in /proc/net/netfilter/nfnetlink_queue. Its columns
 * (net/netfilter/nfnetlink_queue.c, seq_show): queue, port id, packets waiting, copy mode, copy range, dropped because
 * the queue was full, dropped because our socket was full, id of the last packet, 1.
 * With the fail-open flag a packet that finds the queue full passes and is not counted there.
 * Owns:    the open file: opened while we are root, for it is not readable by others.
 * Threads: one at a time. */
#ifndef SMTPWITNESS_NFQ_KERNEL_QUEUES_H
#define SMTPWITNESS_NFQ_KERNEL_QUEUES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/attributes.h"

struct kernel_queue {
    uint32_t number;
    uint32_t waiting_count;
    uint64_t queue_dropped, socket_dropped;
};

/* The line of queue `number` in `text`; false when there is none, or it is damaged. */
bool kernel_queues_find(const char *text, size_t length, uint32_t number,
                        struct kernel_queue *found) MUST_CHECK;

#define KERNEL_QUEUES_TEXT 8192 /* a hundred queues */

/* -1 with errno. */
int kernel_queues_open(void) MUST_CHECK;
/* The whole text; 0 when it cannot be read. */
size_t kernel_queues_read(int fd, char text[KERNEL_QUEUES_TEXT]);

#endif
