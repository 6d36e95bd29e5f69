/* proxy - the transparent relay: TPROXY listeners, worker threads, two TCP legs per session.
 * In report mode no octet, half-close or reset differs from what would pass without us.
 * Owns:    listeners, workers, sessions. Borrows: log, limiter. Shares: settings by reference count.
 * Threads: proxy_create/run/destroy from the main thread; workers are its own. */
#ifndef SMTPWITNESS_PROXY_PROXY_H
#define SMTPWITNESS_PROXY_PROXY_H

#include <stdbool.h>
#include <stdint.h>

#include "conf/settings.h"
#include "core/base/attributes.h"
#include "core/policy/limiter.h"
#include "daemon/log.h"

struct proxy;

enum proxy_health {
    PROXY_WELL = 0, /* takes new connections */
    PROXY_FULL,     /* a worker takes none: max-sessions, or no descriptor or memory is left */
    PROXY_HANGS,    /* a worker does not answer */
};

struct proxy_options {
    struct settings *settings; /* taken: destroyed when no session uses it any more */
    struct limiter *limiter;
    struct log *log;
    const int *listeners; /* passed by systemd or by a parent; NULL = open our own */
    uint32_t listener_count;
};

struct proxy_stats {
    uint32_t sessions, sessions_peak;
    uint64_t accepted, finished, connect_failed, refused, held;
    uint64_t accept_pauses; /* EMFILE, ENFILE, ENOMEM, ENOBUFS */
    uint64_t icmp_undiverted;
};

/* Opens everything that needs privilege (transparent listeners v4 and v6, the raw taps). NULL and one line in
 * `error` otherwise: the caller may drop privileges after it returns (CAP_NET_RAW or CAP_NET_ADMIN must stay for
 * IP_TRANSPARENT on the server leg). */
struct proxy *proxy_create(const struct proxy_options *options, struct settings_error *error) MUST_CHECK;

/* Starts the workers; returns at once. */
bool proxy_start(struct proxy *proxy, struct settings_error *error) MUST_CHECK;

/* New sessions use `settings` from now on. The old ones are released (settings_destroy) when their last session ended. */
void proxy_reload(struct proxy *proxy, struct settings *settings);

/* Stop accepting; running sessions go on. Returns the number still open. */
uint32_t proxy_drain(struct proxy *proxy);
/* Ends what is left (by reset, verdict with drained note) and joins the workers. */
void proxy_stop(struct proxy *proxy);
void proxy_destroy(struct proxy *proxy); /* accepts NULL */

/* Call it every GATE_INTERVAL_US: each call also asks the workers, whose answer the next one sees. */
enum proxy_health proxy_health(struct proxy *proxy, uint64_t now_us);

void proxy_stats(struct proxy *proxy, struct proxy_stats *stats);

#endif
