/* limiter - who may connect now: concurrency per source, in total, and as a part of what remains, and the rate of
 * new connections. One bounded table of sources, shared by all workers.
 *
 * A row is (source, server): source = address, its /64 for IPv6, or a [source NAME] list counted as one; server =
 * the address and port it connects to. A ticket stands for one connection from admission to release.
 *
 * Owns:    the table, its tickets' counts. Bounds: max_rows rows, LIMITER_ROW_OCTETS each, allocated once. When the
 *          table is full the row that has been idle longest goes; when every row is in use the connection is
 *          admitted uncounted (fail open) and counted in limiter_stats.uncounted.
 * Hash:    keyed (SipHash-like) with the caller's seed: sources cannot choose to collide.
 * Threads: any; one mutex inside, held for a bounded number of steps. Time: monotonic microseconds from the caller. */
#ifndef SMTPWITNESS_CORE_POLICY_LIMITER_H
#define SMTPWITNESS_CORE_POLICY_LIMITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/address.h"
#include "core/base/attributes.h"
#include "core/policy/policy_settings.h"

#define LIMITER_ROW_OCTETS 128 /* upper bound, asserted; a million rows fit 128 MB */

struct limiter;

enum limiter_answer {
    LIMITER_ADMIT = 0,
    LIMITER_REFUSE,
    LIMITER_HOLD, /* take a place in the queue with limiter_wait() */
};

enum limiter_limit { /* which limit was met first */
                     LIMITER_LIMIT_NONE = 0,
                     LIMITER_LIMIT_PER_SOURCE,
                     LIMITER_LIMIT_TOTAL,
                     LIMITER_LIMIT_PERCENT,
                     LIMITER_LIMIT_RATE,
};

/* What was counted at one instant. */
struct limiter_counts {
    uint32_t concurrent;      /* open sessions of this source to this server, this one included */
    uint32_t concurrent_peak; /* since the row exists */
    uint32_t greeted;         /* of them, those the server has greeted with 220 and not refused */
    uint32_t total;           /* open sessions in all */
    uint32_t rate;            /* new ones of this source in the last window, this one included */
    uint32_t limit;           /* the limit that was met, as a count; 0 = none */
    enum limiter_limit met;   /* the limit met, whether enforced or reported */
    bool would_refuse;        /* a report-only limit was passed */
    bool would_hold;
};

/* One connection's place. All zero = none. */
struct limiter_ticket {
    uint32_t row;        /* index + 1; 0 = uncounted */
    uint32_t generation; /* of the row */
    bool greeted;
    bool counted_total;
};

struct limiter_stats {
    uint32_t rows_used, rows_max;
    uint32_t total, total_peak;
    uint64_t admitted, refused, held, uncounted, evicted;
    size_t memory_octets;
};

/* Returns NULL without memory. `seed` 16 random octets. */
struct limiter *limiter_create(uint32_t max_rows, const uint8_t seed[16]) MUST_CHECK;
void limiter_destroy(struct limiter *limiter); /* accepts NULL */

/* Asks for a place. On ADMIT the ticket counts until limiter_release(). On REFUSE and HOLD nothing is counted
 * (but the rate); `counts` is filled in every case, and says what a report-only limit would have done.
 * With waiters queued before it a newcomer of the same row is put on HOLD too: no overtaking. */
enum limiter_answer limiter_admit(struct limiter *limiter, const struct policy_settings *settings,
                                  const struct address *client, const struct address *server, uint64_t now_us,
                                  struct limiter_ticket *ticket, struct limiter_counts *counts) MUST_CHECK;

/* Gives the place back; harmless on a zero ticket; zeroes it. */
void limiter_release(struct limiter *limiter, struct limiter_ticket *ticket, uint64_t now_us);

/* The server greeted this one (220) / refused it after all: what the server's own limit looks like from here. */
void limiter_greeted(struct limiter *limiter, struct limiter_ticket *ticket, bool greeted);

/* The counts of the ticket's row as they stand. */
void limiter_count(struct limiter *limiter, const struct limiter_ticket *ticket,
                   struct limiter_counts *counts);

/* A held connection. Embedded by value in the caller's session; linked while it waits. */
struct limiter_waiter {
    struct limiter_waiter *next, *previous;
    struct address client, server;
    uint32_t row, generation;
    uint64_t since_us;
    bool linked;
    bool granted;                 /* set under the limiter's lock */
    struct limiter_ticket ticket; /* valid once granted */
    void (*wake)(void *context);  /* called, without the lock, from the thread that freed the slot */
    void *context;
};

/* Queues after LIMITER_HOLD. Slots freed by limiter_release() are reserved for waiters in order of arrival: the
 * waiter is granted its ticket before wake() is called. May grant at once (granted is then set, wake not called). */
void limiter_wait(struct limiter *limiter, const struct policy_settings *settings,
                  struct limiter_waiter *waiter, uint64_t now_us);

/* Leaves the queue (client gone, held too long). If it was granted meanwhile the ticket is released. After return
 * wake() is not running and will not be called. */
void limiter_leave(struct limiter *limiter, struct limiter_waiter *waiter, uint64_t now_us);

void limiter_stats(struct limiter *limiter, struct limiter_stats *stats);

/* The busiest sources by peak since the last call with reset; returns how many were written, most first. */
struct limiter_peak {
    struct address source; /* network address for IPv6 /64 or a named list: see name */
    struct address server;
    uint32_t peak, concurrent, opened;
    char name[32]; /* of the [source NAME] counted as one, else "" */
};
size_t limiter_peaks(struct limiter *limiter, struct limiter_peak *peaks, size_t room, bool reset);

#endif
