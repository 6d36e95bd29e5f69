/* neighbours - what the connections of one source, of one server and of one pair of both tell about each other: who
 * else gets in, whether a fresh connection works, and how many a source had open at the instant it was refused.
 *
 * Every connection that is followed has a seat, from its SYN (or its acceptance) until its verdict. Seats hang on three
 * rows: of the pair (source, server), of the source and of the server. A source is what the limiter counts as one.
 *
 * Owns:    seats and rows, all allocated once; a receipt per refused session, until its seat is given back.
 * Bounds:  NEIGHBOURS_MOST_ROWS rows of pairs and of sources (fewer when the limiter has fewer), NEIGHBOURS_SERVERS of
 *          servers, NEIGHBOURS_SEATS seats. When a table is full the row idle longest goes; when none is idle, or no
 *          seat is left, the connection has no seat: it is judged by itself alone. A receipt counts
 *          NEIGHBOURS_WALK seats at most.
 * Hash:    keyed (SipHash-2-4) with the caller's seed.
 * Threads: any; one mutex inside, held for a bounded number of steps. neighbours_phase() takes no lock; it, the marks
 *          of one seat and its receipt belong to the thread that has the seat.
 * Time:    monotonic microseconds from the caller. */
#ifndef SMTPWITNESS_CORE_POLICY_NEIGHBOURS_H
#define SMTPWITNESS_CORE_POLICY_NEIGHBOURS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/address.h"
#include "core/base/attributes.h"
#include "core/base/phase.h"
#include "core/base/side.h"
#include "core/fault/near.h"
#include "core/policy/policy_settings.h"

#define NEIGHBOURS_MOST_ROWS 16384u /* recently active pairs; the limiter's own table may be larger */
#define NEIGHBOURS_SERVERS   4096u
#define NEIGHBOURS_SEATS     65536u /* [nfq] max-flows' default, and more than the proxy's descriptors allow */
#define NEIGHBOURS_WALK      4096u
#define NEIGHBOURS_SYN_WALK  256u  /* a repeated SYN takes a receipt of no more: anybody can send SYNs */
#define NEIGHBOURS_HEARD_MS  1000u /* "it speaks" is told to the neighbours at most this often */
#define NEIGHBOURS_ROW_OCTETS                                                                                \
    224 /* a pair's row, its share of the index included; source and server rows are smaller */
#define NEIGHBOURS_SEAT_OCTETS    64
#define NEIGHBOURS_RECEIPT_OCTETS 120 /* of a refused session, while it lasts */
#define NEIGHBOURS_WORST_OCTETS                                                                              \
    ((size_t)NEIGHBOURS_MOST_ROWS * 2 * NEIGHBOURS_ROW_OCTETS +                                              \
     (size_t)NEIGHBOURS_SERVERS * NEIGHBOURS_ROW_OCTETS +                                                    \
     (size_t)NEIGHBOURS_SEATS * (NEIGHBOURS_SEAT_OCTETS + NEIGHBOURS_RECEIPT_OCTETS))

struct neighbours;

/* NULL without memory. `seed` 16 random octets. */
struct neighbours *neighbours_create(uint32_t max_rows, const uint8_t seed[16]) MUST_CHECK;
void neighbours_destroy(struct neighbours *neighbours); /* accepts NULL */
/* The worst case: every seat with a receipt. */
size_t neighbours_memory_octets(const struct neighbours *neighbours);

/* A seat for a connection that begins: its number, 0 = none. All functions accept seat 0 and do nothing. */
uint32_t neighbours_open(struct neighbours *neighbours, const struct policy_settings *settings,
                         const struct address *client, const struct address *server, uint64_t now_us);
/* Gives it back and zeroes it. */
void neighbours_close(struct neighbours *neighbours, uint32_t *seat, uint64_t now_us);

/* Where its dialogue stands. No lock. */
void neighbours_phase(struct neighbours *neighbours, uint32_t seat, enum phase phase);
/* Its end is decided, but the server still has it open (no lock) ...*/
void neighbours_closing(struct neighbours *neighbours, uint32_t seat);
/* ... and now no more: it counts no longer. */
void neighbours_gone(struct neighbours *neighbours, uint32_t seat, uint64_t now_us);

/* The server accepted the connection (`just_now`), or had done so before it was picked up / greeted it with 220. */
void neighbours_connected(struct neighbours *neighbours, uint32_t seat, bool just_now, uint64_t now_us);
void neighbours_greeted(struct neighbours *neighbours, uint32_t seat, uint64_t now_us);
/* That side said something. */
void neighbours_heard(struct neighbours *neighbours, uint32_t seat, enum side side, uint64_t now_us);
/* No answer to its SYNs so far; `again`: this is the moment at which one is sent again. */
void neighbours_unanswered(struct neighbours *neighbours, uint32_t seat, bool again, uint64_t now_us);

/* What the neighbours show (enum near) about a connection that got no answer, tried until `until_us` with so many
 * repeated SYNs (0 = unknown) ... */
uint32_t neighbours_of_connect(struct neighbours *neighbours, uint32_t seat, uint32_t repeated_count,
                               uint64_t until_us);
/* ... and about octets that have been undelivered on the leg of `side` since `since_us`. */
uint32_t neighbours_of_leg(struct neighbours *neighbours, uint32_t seat, enum side side, uint64_t since_us);

/* The connections of a source to one server at the instant of a refusal, the refused one included. */
struct neighbours_receipt {
    uint32_t connecting, established, closing;
    uint32_t phases[PHASE_COUNT]; /* of those established */
    uint64_t oldest_us;           /* age of the oldest */
    uint32_t peak_recent;         /* most at once in this minute and the one before */
    uint32_t peak_hour, peak_day;
    uint32_t admitted_peak; /* most greeted with 220 at once, within a day */
};

/* Takes the receipt now, once: it is kept with the seat. NULL without a seat, or without memory. */
const struct neighbours_receipt *neighbours_take_receipt(struct neighbours *neighbours, uint32_t seat,
                                                         uint64_t now_us);
/* NULL when none was taken. */
const struct neighbours_receipt *neighbours_receipt(struct neighbours *neighbours, uint32_t seat);

/* Room in the seat for whoever has it: the forecast's notes. NULL without a seat. */
struct neighbours_pace {
    uint32_t since_ms; /* the session's age when the body began, plus one; 0 = none is under way */
    bool said;         /* the forecast line was said */
};
struct neighbours_pace *neighbours_pace(struct neighbours *neighbours, uint32_t seat);

#endif
