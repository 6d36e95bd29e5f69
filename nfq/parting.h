/* parting - what is left of connections that we ended: nothing of them goes on, in either direction. The server is
 * reset in the client's name. The client is reset in the server's, or reads a 421 and the end of the stream, repeated
 * until it is acknowledged; then its own end is acknowledged, so that it closes in order.
 * Whoever goes on talking gets a reset whose sequence number is the acknowledgement of what it said: it is the one it
 * expects (RFC 9293 section 3.5.2, RFC 5961 section 3.2), so a reset that was lost, or came too early, does no harm.
 * In the midst of a bypass our first segment, by its mark, puts the bypass off (POSTROUTING), so that all of the
 * connection comes to us again. Across a bridge, where it does not come by there, the client's large segments go on
 * passing to a server that has been reset, but for those the rules show us.
 *
 * Owns:    PARTING_SLOTS connections, each for PARTING_LAST_US. When all are taken the oldest goes: what still comes of
 *          it passes on, to hosts that have been reset.
 * Borrows: the injector. Threads: one at a time. Time: the caller's monotonic microseconds. */
#ifndef SMTPWITNESS_NFQ_PARTING_H
#define SMTPWITNESS_NFQ_PARTING_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/attributes.h"
#include "core/tcp/flow_table.h"
#include "nfq/segment.h"

#define PARTING_SLOTS 1024
#define PARTING_LAST_US                                                                                      \
    UINT64_C(60000000) /* a lost FIN or reset has come again by then; TIME-WAIT on Linux */
#define PARTING_REPEAT_US UINT64_C(1000000) /* RFC 6298 section 2.1, doubled each time */
#define PARTING_REPEATS   4                 /* of the 421, over 15 s; after 31 s the client is reset */
#define PARTING_TEXT      400

struct parting_table;

/* Sends one segment; false when that failed. The injector's, or a test's. */
typedef bool parting_send(void *context, const struct segment *segment);

struct parting_table *parting_table_create(parting_send *send, void *context) MUST_CHECK;
void parting_table_destroy(struct parting_table *table); /* accepts NULL */
uint64_t parting_memory_octets(void);
uint32_t parting_count(const struct parting_table *table);

/* Ends a connection. With `text` the client reads it, if all that was said is acknowledged (parting_can_speak()). */
void parting_begin(struct parting_table *table, const struct flow_entry *entry, const char *text,
                   size_t length, uint64_t now_us);
/* True: nothing is under way in either direction, and the server has not said its last word. */
bool parting_can_speak(const struct flow *flow);

/* Answers a SYN with a reset in the server's name (RFC 9293 section 3.10.7.1). One that cannot be sent only makes the
 * client try again. */
void parting_refuse_syn(struct parting_table *table, const struct packet *syn);

/* Is it a packet of such a connection? Then it must not go on, and was answered as far as it needs one. A new SYN of the
 * client is not: the old connection is forgotten. */
bool parting_takes(struct parting_table *table, const struct packet *packet, uint64_t now_us) MUST_CHECK;
/* Is it one of our own resets, seen on its way out? */
bool parting_knows(const struct parting_table *table, const struct packet *packet) MUST_CHECK;

uint64_t parting_deadline_us(const struct parting_table *table); /* UINT64_MAX = nothing is due */
void parting_on_deadline(struct parting_table *table, uint64_t now_us);

#endif
