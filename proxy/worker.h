/* worker - one thread: a libevent loop with listeners, the sessions' event set, a timer and a mailbox.
 * Owns:    its thread, its relay_host with all its sessions, its listeners.
 * Bounds:  WORKER_ACCEPTS_PER_TURN connections accepted per turn; WORKER_EVENTS events per turn. At a shortage of
 *          descriptors or memory the listeners pause, longer each time, never spinning.
 * Threads: worker_tell_*() from any; everything else inside runs in its own thread. */
#ifndef SMTPWITNESS_PROXY_WORKER_H
#define SMTPWITNESS_PROXY_WORKER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf/settings.h"
#include "core/base/attributes.h"
#include "proxy/relay.h"

#define WORKER_ACCEPTS_PER_TURN 32
#define WORKER_EVENTS           128
#define WORKER_MAX_LISTENERS    16
#define WORKER_PAUSE_FIRST_US   50000u
#define WORKER_PAUSE_LONGEST_US 1000000u
#define WORKER_TURN_AWAY_MAX    64 /* connections reset per pause once a shortage lasts */
#define WORKER_TAP_INTERVAL_US  50000u
#define WORKER_ANSWER_US        2000000u /* one that did not turn for so long hangs */

struct worker;

struct worker_options {
    struct settings_share *settings; /* acquired */
    struct limiter *limiter;
    struct log *log;
    struct tap *tap;
    struct relay_counters *counters;
    atomic_ullong *accept_pauses;
    atomic_uint *max_sessions;
    _Atomic uint64_t *said_us; /* when a shortage was last logged, by whichever worker */
    unsigned run;
    int listeners[WORKER_MAX_LISTENERS]; /* taken */
    size_t listener_count;
    bool inherited;  /* passed by systemd or a parent, who keeps them open */
    bool drains_tap; /* one worker empties the tap now and then */
};

/* NULL without memory or descriptors. */
struct worker *worker_create(const struct worker_options *options) MUST_CHECK;
bool worker_start(struct worker *worker) MUST_CHECK;
void worker_tell_settings(struct worker *worker, struct settings_share *share); /* acquires */
/* Asks for a sign of life; false when the last question is not answered yet after WORKER_ANSWER_US. */
bool worker_ask_life(struct worker *worker, uint64_t now_us);
bool worker_is_full(
    const struct worker *worker); /* of descriptors or memory, or max-sessions: accepts nothing now */
void worker_tell_drain(struct worker *worker);
void worker_tell_stop(struct worker *worker); /* ends all sessions and the thread */
void worker_join(struct worker *worker);
void worker_destroy(struct worker *worker); /* after the join; accepts NULL */

#endif
