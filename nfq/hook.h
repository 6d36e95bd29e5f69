/* hook - the packet hook: all queues with their observers. TCP stays end to end; in report mode every packet goes on
 * as it came.
 * Owns:    observers, injector, the open list of kernel queues. Borrows: limiter, log, for its whole life.
 * Bounds:  HOOK_MAX_QUEUES observers; [nfq] max-flows is shared out between them.
 * Threads: all calls from the main thread; observers are its own. */
#ifndef SMTPWITNESS_NFQ_HOOK_H
#define SMTPWITNESS_NFQ_HOOK_H

#include <stdbool.h>
#include <stdint.h>

#include "conf/settings.h"
#include "conf/settings_share.h"
#include "core/base/attributes.h"
#include "core/policy/limiter.h"
#include "daemon/log.h"

#define HOOK_MAX_QUEUES 16

struct hook;

struct hook_options {
    struct settings_share *settings; /* a reference is taken */
    struct limiter *limiter;
    struct log *log;
};

struct hook_stats { /* of all queues, since the start */
    uint64_t packets, octets, batches, dropped, refused_verdicts;
    uint64_t damaged_messages, empty_packets, malformed_packets, other_packets, fragments;
    uint64_t sessions, evicted, records, unjudged, probes_sent, probes_answered;
    uint64_t bypasses, bypassed_octets;
    uint64_t overruns, missed, full, kernel_queue_dropped, kernel_socket_dropped;
    uint64_t refused, held, closed, held_full;
    uint32_t flows_now, half_open_now, kernel_waiting;
};

/* Takes the queues and opens what needs privilege. NULL and one line in `error`. CAP_NET_ADMIN must stay: the kernel
 * asks for it with every verdict (net/netfilter/nfnetlink.c, nfnetlink_rcv). */
struct hook *hook_create(const struct hook_options *options, struct settings_error *error) MUST_CHECK;
bool hook_start(struct hook *hook, struct settings_error *error) MUST_CHECK;
void hook_stop(struct hook *hook);
void hook_destroy(struct hook *hook); /* accepts NULL */

/* New settings for new sessions: what needs a restart must be as before. */
void hook_reload(struct hook *hook, struct settings_share *settings);

/* True when every observer has turned since the last call that said so. */
bool hook_is_alive(struct hook *hook);
/* Looks at the kernel's counters; call a few times a second. */
void hook_look_for_losses(struct hook *hook, uint64_t now_us);
void hook_stats(struct hook *hook, struct hook_stats *stats);
uint64_t hook_memory_octets(const struct settings_nfq *settings);

#endif
