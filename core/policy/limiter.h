/* limiter - who may connect now: concurrency per source, in total, and as a part of what remains, and the
 * rate of new connections. One bounded table of sources, shared by all workers.
 *
 * A row is (source, server): source = address, its /64 for IPv6, or a [source NAME] list counted as one;
 * server = the address and port it connects to. A ticket stands for one connection from admission to release.
 *
 * Owns:    the table, its tickets' counts, and the neighbours (neighbours.h, with bounds of its own).
 * Bounds:  max_rows rows, LIMITER_ROW_OCTETS each, allocated once. When the table is full the row that has
 *          been idle longest goes; when every row is in use the connection is admitted uncounted (fail open)
 *          and counted in limiter_stats.uncounted.
 * Hash:    keyed (SipHash-2-4) with the caller's seed: sources cannot choose to collide.
 * Threads: any; one mutex inside, held for a bounded number of steps.
 * Time:    monotonic microseconds from the caller.
 *
 * When a limit is met, `n` sessions being open and the newcomer not yet counted:
 *   per-source  n of its row >= per_source_count
 *   total       n in all >= total_count
 *   percent     n of its row >= max(1, (total_count - n in all) * percent_of_remaining / 100), rounded down;
 *               no such limit while total_count is 0. Source: Microsoft, Set-ReceiveConnector,
 *               MaxInboundConnectionPercentagePerSource: a percentage of the remaining available
 *               connections. Whether its own sessions reduce what remains, and what it does when the part
 *               rounds to nothing, is not published; here they do, and one is allowed.
 *   rate        new ones of its row in the window, this one included, > rate_count. The window slides over
 *               two buckets: this bucket's count plus the previous one's in proportion to its part that the
 *               window still covers, rounded down. A refused or held attempt counts too.
 * When several are met: a refusal we enforce outranks a hold, a hold outranks what is only reported, and
 * among equals the first in the order above is named. A rate over its limit is refused, never held. */
#ifndef SMTPWITNESS_CORE_POLICY_LIMITER_H
#define SMTPWITNESS_CORE_POLICY_LIMITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/address.h"
#include "core/base/attributes.h"
#include "core/policy/neighbours.h"
#include "core/policy/policy_settings.h"

#define LIMITER_ROW_OCTETS 128 /* at most, its share of the index included: a million rows fit 128 MB */
#define LIMITER_WALK_ROWS  64  /* rows with waiters looked at while the lock is held once */

struct limiter;

enum ONE_OCTET limiter_answer {
    LIMITER_ADMIT = 0,
    LIMITER_REFUSE,
    LIMITER_HOLD, /* take a place in the queue with limiter_wait() */
};

enum ONE_OCTET limiter_limit { /* which limit was met first */
                               LIMITER_LIMIT_NONE = 0,
                               LIMITER_LIMIT_PER_SOURCE,
                               LIMITER_LIMIT_TOTAL,
                               LIMITER_LIMIT_PERCENT,
                               LIMITER_LIMIT_RATE,
};

/* What was counted at one instant. "This one" is included even when it was refused: the 21st at a limit of 20
 * reads 21. */
struct limiter_counts {
    uint32_t concurrent;      /* open sessions of this source to this server, this one included */
    uint32_t concurrent_peak; /* since the row exists */
    uint32_t greeted;         /* of them, those the server has greeted with 220 and not refused */
    uint32_t total;           /* open sessions in all, this one included */
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

/* What the same connections tell about each other; the limiter's own. NULL of NULL. */
struct neighbours *limiter_neighbours(struct limiter *limiter);

/* Asks for a place. On ADMIT the ticket counts until limiter_release(). On REFUSE and HOLD nothing is counted
 * (but the rate); `counts` is filled in every case, and says what a report-only limit would have done.
 * With waiters queued before it a newcomer of the same row is put on HOLD too, and `met` names the limit they
 * wait for: no overtaking. */
enum limiter_answer limiter_admit(struct limiter *limiter, const struct policy_settings *settings,
                                  const struct address *client, const struct address *server, uint64_t now_us,
                                  struct limiter_ticket *ticket, struct limiter_counts *counts) MUST_CHECK;

/* Gives the place back; harmless on a zero ticket; zeroes it. May call wake() of whoever gets the place. */
void limiter_release(struct limiter *limiter, struct limiter_ticket *ticket, uint64_t now_us);

/* The server greeted this one (220) / refused it after all: the server's own limit as seen from here. */
void limiter_greeted(struct limiter *limiter, struct limiter_ticket *ticket, bool greeted);

/* The counts of the ticket's row as they stand; the rate is that of the bucket begun last. */
void limiter_count(struct limiter *limiter, const struct limiter_ticket *ticket,
                   struct limiter_counts *counts);

/* What enforcement holds this waiter for; 0 = not that limit. Filled by the limiter. */
struct limiter_hold {
    uint32_t per_source_count;
    uint32_t total_count;
    uint32_t percent;
    uint32_t percent_of_count;
};

/* A held connection. Embedded by value in the caller's session, all zero at first; linked while it waits.
 * The caller sets client, server, wake and context, and reads the rest only through limiter_take(). */
struct limiter_waiter {
    struct limiter_waiter *next, *previous;
    struct address client, server;
    struct limiter_hold hold;
    uint32_t row, generation;
    uint64_t since_us;
    bool linked;
    bool granted;                 /* set under the limiter's lock */
    struct limiter_ticket ticket; /* valid once granted */
    void (*wake)(void *context);  /* called, without the lock, from a thread that freed a slot */
    void *context;
};

/* Queues after LIMITER_HOLD. Returns true when a slot was free at once: then wake() is not called, and the
 * ticket is there for limiter_take(). Otherwise the waiter is granted its ticket before wake() is called.
 * Order:   first come, first served within a row. Among rows that wait for the total or the percentage, one
 * each in turn, so that a source with a long queue does not starve the others. At most LIMITER_WALK_ROWS rows
 * are looked at before the lock is let go; those passed over go to the end, so that each has its turn. */
bool limiter_wait(struct limiter *limiter, const struct policy_settings *settings,
                  struct limiter_waiter *waiter, uint64_t now_us);

/* Takes over the ticket of a granted waiter; false when it is not granted. On true the same holds as after
 * limiter_leave(), and the caller owes the limiter_release(). */
bool limiter_take(struct limiter *limiter, struct limiter_waiter *waiter,
                  struct limiter_ticket *ticket) MUST_CHECK;

/* Leaves the queue (client gone, held too long). If it was granted meanwhile the ticket is released. After
 * return wake() is not running in another thread and will not be called: the waiter's memory may go. Waits
 * for a wake() that runs in another thread, unless that one is itself waiting for this thread's wake() to end
 * (two wake()s that leave each other's waiters); then, and only then, it returns without waiting. May be
 * called inside any wake(). */
void limiter_leave(struct limiter *limiter, struct limiter_waiter *waiter, uint64_t now_us);

/* After a reload: everyone who waits is measured against the new settings, and let in or kept. Without this
 * call a waiter learns of new limits at the next limiter_admit() that reaches its row. */
void limiter_reload(struct limiter *limiter, const struct policy_settings *settings, uint64_t now_us);

/* Would these limits let in one more connection of a source that has `open_count` open, as far as that alone decides?
 * The rest of the server's load is not known. */
bool limiter_limits_admit(const struct policy_limits *limits, uint32_t open_count);

void limiter_stats(struct limiter *limiter, struct limiter_stats *stats);

/* The busiest sources by peak since the last call with reset; returns how many were written, most first.
 * Walks the whole table, letting the lock go between slices: for the periodic report. */
struct limiter_peak {
    struct address source; /* port 0; of an IPv6 /64 its first address; all zero for a named list */
    struct address server;
    uint32_t peak, concurrent, opened;
    char name[32]; /* of the [source NAME] counted as one, else "" */
};
size_t limiter_peaks(struct limiter *limiter, struct limiter_peak *peaks, size_t room, bool reset);

#endif
