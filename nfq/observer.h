/* observer - one queue and one thread: packets to a tracker of its own, verdicts back, records to the log. Flows are
 * spread over the queues by the rules, so that a flow stays with its observer.
 * Owns:    its queue, tracker, prober, enforcer and thread; a reference to the settings, and one for each session that
 *          began under them. Borrows: limiter, log, injector, for its whole life.
 * Bounds:  the tracker's table; OBSERVER_READS batches are read before timers and requests are looked at again.
 * Threads: observer_create/start/stop/destroy/reload from the main thread; observer_beats(), observer_stats() and
 *          observer_lost() from any; everything else runs in its own. */
#ifndef SMTPWITNESS_NFQ_OBSERVER_H
#define SMTPWITNESS_NFQ_OBSERVER_H

#include <stdbool.h>
#include <stdint.h>

#include "conf/settings.h"
#include "conf/settings_share.h"
#include "core/base/attributes.h"
#include "core/policy/limiter.h"
#include "core/tracker/tracker.h"
#include "daemon/log.h"
#include "nfq/enforcer.h"
#include "nfq/injector.h"
#include "nfq/packet_queue.h"

#define OBSERVER_READS   16
#define OBSERVER_WAKE_MS 250 /* a sign of life at least as often */

struct observer;

struct observer_options {
    struct settings_share *settings; /* a reference is taken */
    struct limiter *limiter;
    struct log *log;
    const struct injector *injector;
    int kernel_fd; /* of kernel_queues_open(); -1 = none */
    bool can_bypass;
    bool can_probe;
    bool can_enforce; /* else what is to be enforced is only counted */
    uint16_t queue;
    uint32_t max_flows;
    unsigned run; /* what the session ids begin with */
};

struct observer_stats {
    struct tracker_stats tracker;
    struct packet_queue_stats queue;
    uint64_t records, unjudged; /* records whose verdict was withdrawn because packets were lost here */
    uint64_t full;              /* how often the kernel's queue was found full */
    uint64_t probes_sent, probes_answered;
    uint64_t bypasses; /* bodies let past the queue */
    struct enforcer_stats enforcer;
};

/* Takes the queue: needs CAP_NET_ADMIN. NULL and one line in `error`. */
struct observer *observer_create(const struct observer_options *options, struct packet_queue_granted *granted,
                                 struct settings_error *error) MUST_CHECK;
bool observer_start(struct observer *observer) MUST_CHECK;
void observer_stop(struct observer *observer);    /* every open session gets its verdict; joins the thread */
void observer_destroy(struct observer *observer); /* after the stop; accepts NULL */

/* New settings, for new sessions; taken over within OBSERVER_WAKE_MS. */
void observer_reload(struct observer *observer, struct settings_share *settings);

/* Grows while the thread turns. */
uint64_t observer_beats(const struct observer *observer);
/* The kernel dropped packets of this queue at about `now_us`. */
void observer_lost(struct observer *observer, uint64_t now_us);
void observer_stats(struct observer *observer, struct observer_stats *stats);

#endif
