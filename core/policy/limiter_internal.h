/* limiter_internal - the insides shared by limiter.c (the answers), limiter_table.c (rows) and
 * limiter_queue.c (who waits). Nobody else includes this.
 * Threads: every function here is called with the lock held, but for limiter_lock() itself. */
#ifndef SMTPWITNESS_CORE_POLICY_LIMITER_INTERNAL_H
#define SMTPWITNESS_CORE_POLICY_LIMITER_INTERNAL_H

#include <pthread.h>

#include "core/base/hash.h"
#include "core/policy/limiter.h"

#define LIMITER_NAME_OCTETS 32

enum limiter_key_kind {
    LIMITER_KEY_ADDRESS = 1,
    LIMITER_KEY_NAME,
};

/* What makes two connections share a count. Octets only, no padding: compared and hashed as they lie. */
struct limiter_key {
    uint8_t source[LIMITER_NAME_OCTETS]; /* 16 octets of address, or a section's name */
    uint8_t server[16];
    uint8_t server_port[2]; /* network order */
    uint8_t kind;           /* enum limiter_key_kind */
};
_Static_assert(sizeof(struct limiter_key) == 51, "a key has no padding");

enum limiter_list {
    LIMITER_LIST_NONE = 0, /* sessions open, nobody waits */
    LIMITER_LIST_IDLE,     /* nothing open, nobody waits: may be evicted, longest idle first */
    LIMITER_LIST_READY,    /* waits, and not for its own per-source limit: for the total or the percentage */
    LIMITER_LIST_BLOCKED,  /* waits for its own per-source limit: only a release of its own helps */
    LIMITER_LIST_COUNT,
};

/* Rows are named by index + 1, 0 = none. */
struct limiter_row {
    struct limiter_key key;
    uint8_t list;        /* enum limiter_list */
    uint32_t generation; /* counts the uses of this place in the table */
    uint32_t concurrent, concurrent_peak, greeted;
    uint32_t interval_peak, interval_opened; /* for limiter_peaks() */
    uint32_t rate_now, rate_before;          /* attempts in this bucket and in the one before */
    uint32_t chain;                          /* next row of the same hash bucket */
    uint32_t older, newer;                   /* neighbours in the list of `list` */
    uint64_t rate_since_us;                  /* start of this bucket */
    struct limiter_waiter *first, *last;     /* in order of arrival */
};
_Static_assert(sizeof(struct limiter_row) + sizeof(uint32_t) <= LIMITER_ROW_OCTETS,
               "a row and its share of the index");

struct limiter_row_list {
    uint32_t oldest, newest, count;
};

/* A thread that is inside a wake(); lives on its stack. */
struct limiter_waking {
    struct limiter_waking *next;
    const struct limiter_waiter *waiter;
    const struct limiter_waking *waits_for; /* its wake() waits in limiter_leave() for that one */
    pthread_t thread;
};

struct limiter {
    pthread_mutex_t lock;
    pthread_cond_t wake_ended;
    uint32_t leavers; /* threads waiting on wake_ended */
    bool unserved;    /* the last walk ended at its bound: there may be more to grant */
    uint32_t rows_max, rows_used;
    uint32_t total, total_peak;
    struct limiter_row *rows;
    uint32_t *buckets; /* rows_max of them */
    struct limiter_row_list lists[LIMITER_LIST_COUNT];
    struct limiter_waiter *granted_first, *granted_last; /* granted, wake() not called yet */
    struct limiter_waking *waking;
    uint64_t admitted, refused, held, uncounted, evicted;
    size_t memory_octets;
    uint8_t seed[HASH_SEED_OCTETS];
    struct neighbours *neighbours;
};

void limiter_lock(struct limiter *limiter);
void limiter_unlock(struct limiter *limiter);

/* limiter_table.c */
void limiter_key_make(struct limiter_key *key, const uint8_t seed[HASH_SEED_OCTETS],
                      const struct policy_settings *settings, const struct policy_override *source,
                      const struct address *client, const struct address *server);
/* The row's index + 1; makes it, evicting when it must; 0 when every row is in use. */
uint32_t limiter_row_find(struct limiter *limiter, const struct limiter_key *key);
struct limiter_row *limiter_row_at(struct limiter *limiter, uint32_t index);
/* NULL when the row has been given to somebody else, or index is 0. */
struct limiter_row *limiter_row_held(struct limiter *limiter, uint32_t index, uint32_t generation);
void limiter_row_move(struct limiter *limiter, uint32_t index,
                      enum limiter_list list);                      /* to its newest end */
void limiter_row_classify(struct limiter *limiter, uint32_t index); /* into the list where it belongs now */

/* limiter.c */
void limiter_row_open(struct limiter *limiter, uint32_t index, struct limiter_ticket *ticket);
void limiter_row_close(struct limiter *limiter, struct limiter_ticket *ticket);
uint32_t limiter_percent_allows(uint32_t total_count, uint32_t percent, uint32_t total);

/* limiter_queue.c */
/* Grants what can be granted, to at most LIMITER_WALK_ROWS rows and then to row `own`; with `settings` those
 * rows are measured anew. */
void limiter_queue_serve(struct limiter *limiter, const struct policy_settings *settings, uint32_t own);
/* Ends the call: grants on while there is more, lets the lock go and calls wake() for those granted. */
void limiter_queue_finish(struct limiter *limiter);

#endif
