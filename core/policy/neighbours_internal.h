/* neighbours_internal - the insides shared by neighbours.c (what is told and asked), neighbours_table.c (rows) and
 * neighbours_peaks.c (rings of peaks). Nobody else includes this.
 * Threads: every function here is called with the lock held. */
#ifndef SMTPWITNESS_CORE_POLICY_NEIGHBOURS_INTERNAL_H
#define SMTPWITNESS_CORE_POLICY_NEIGHBOURS_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "core/base/hash.h"
#include "core/policy/limiter_internal.h"
#include "core/policy/neighbours.h"

/* Rows are named by index + 1, 0 = none. Every row type begins with this. */
struct neighbours_row {
    struct limiter_key key; /* of a source's row the server is zero, and the other way round */
    uint32_t seats_count;   /* 0: idle, may be evicted */
    uint32_t chain;         /* next row of the same hash bucket */
    uint32_t older, newer;  /* neighbours among the idle ones */
};

struct neighbours_table {
    uint8_t *rows;
    uint32_t *buckets; /* rows_max of them */
    size_t row_octets;
    uint32_t rows_max, rows_used;
    uint32_t idle_oldest, idle_newest;
    uint8_t seed[HASH_SEED_OCTETS];
};

/* Peaks of the last minutes, the last hour and the last day: rings of buckets, each with the most at once in it. */
#define PEAKS_MINUTES 2
#define PEAKS_FIVES   13 /* of five minutes: an hour, and the one that runs */
#define PEAKS_HOURS   25
struct neighbours_peaks {
    uint16_t minutes[PEAKS_MINUTES];
    uint16_t fives[PEAKS_FIVES];
    uint16_t hours[PEAKS_HOURS];
    uint32_t minute; /* the one that runs, since the clock's zero */
};

struct neighbours_pair {
    struct neighbours_row row;
    uint32_t first_seat;
    uint32_t open_count; /* seats the server still has open */
    uint32_t greeted_count;
    uint16_t admitted_peak;
    uint32_t admitted_minute; /* when that was */
    struct neighbours_peaks peaks;
    uint64_t heard_us;        /* the server spoke on any of its connections */
    uint64_t server_fresh_us; /* the latest beginning of a connection on which the server spoke */
};

struct neighbours_source {
    struct neighbours_row row;
    uint64_t client_fresh_us; /* the latest beginning of a connection on which it spoke */
};

/* The latest event of one source, and the latest of any other: enough to ask "somebody else?" of every source. */
struct neighbours_latest {
    uint32_t source; /* hash of its key; 0 = none */
    uint64_t since_us, at_us;
};

struct neighbours_server {
    struct neighbours_row row;
    struct neighbours_latest connected[2];
    struct neighbours_latest failed[2]; /* SYNs unanswered from `since` until `at` */
};

enum neighbours_seat_state {
    SEAT_FREE = 0,
    SEAT_CONNECTING,
    SEAT_OPEN,
    SEAT_CLOSING,
    SEAT_GONE, /* waits for its verdict only */
};

struct neighbours_seat {
    uint32_t pair, source, server;
    uint32_t next, previous; /* among the pair's; `next` also among the free ones */
    atomic_uchar state;      /* enum neighbours_seat_state */
    atomic_uchar phase;
    bool greeted;
    bool others_exact; /* others_us was noted when a SYN was sent again */
    uint32_t source_hash;
    uint32_t others_ms; /* age at which it was noted that another source had got in since; 0 = not */
    uint64_t opened_us;
    uint32_t told_ms[SIDE_PAIR]; /* age at which "it speaks" was told last; 0 = not yet */
    struct neighbours_receipt *receipt;
    struct neighbours_pace pace;
};

_Static_assert(sizeof(struct neighbours_pair) + sizeof(uint32_t) <= NEIGHBOURS_ROW_OCTETS, "a pair's row");
_Static_assert(sizeof(struct neighbours_server) + sizeof(uint32_t) <= NEIGHBOURS_ROW_OCTETS,
               "a server's row");
_Static_assert(sizeof(struct neighbours_receipt) <= NEIGHBOURS_RECEIPT_OCTETS, "a receipt");
_Static_assert(sizeof(struct neighbours_seat) <= NEIGHBOURS_SEAT_OCTETS, "a seat");

struct neighbours {
    pthread_mutex_t lock;
    struct neighbours_table pairs, sources, servers;
    struct neighbours_seat *seats;
    uint32_t seats_max, seats_used, free_seat;
    uint8_t seed[HASH_SEED_OCTETS];
};

/* neighbours_table.c */
bool neighbours_table_init(struct neighbours_table *table, uint32_t rows_max, size_t row_octets,
                           const uint8_t seed[HASH_SEED_OCTETS]);
void neighbours_table_clear(struct neighbours_table *table);
size_t neighbours_table_octets(const struct neighbours_table *table);
/* The row's index + 1, counted as used once more; makes it, evicting when it must; 0 when every row is in use. */
uint32_t neighbours_table_take(struct neighbours_table *table, const struct limiter_key *key);
void neighbours_table_give(struct neighbours_table *table, uint32_t index);
void *neighbours_table_row(const struct neighbours_table *table, uint32_t index);

/* neighbours_peaks.c */
void peaks_note(struct neighbours_peaks *peaks, uint32_t count, uint64_t now_us);
uint32_t peaks_recent(struct neighbours_peaks *peaks, uint64_t now_us);
uint32_t peaks_hour(struct neighbours_peaks *peaks, uint64_t now_us);
uint32_t peaks_day(struct neighbours_peaks *peaks, uint64_t now_us);

#endif
