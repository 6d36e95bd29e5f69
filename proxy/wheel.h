/* wheel - a timing wheel: arming, moving and cancelling a timer are O(1), and 20,000 quiet timers cost nothing.
 * A timer farther away than one turn waits in the last slot and is put forward when its slot comes up: one touch
 * per turn. A timer may fire up to one tick late, never early.
 * Owns:    nothing; timers are embedded in their owners and linked here.
 * Bounds:  WHEEL_SLOTS lists. Threads: none. Time: the caller's monotonic microseconds. */
#ifndef SMTPWITNESS_PROXY_WHEEL_H
#define SMTPWITNESS_PROXY_WHEEL_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/attributes.h"

#define WHEEL_TICK_US  8192u /* a power of two near 8 ms: short against the shortest timeout of 10 ms */
#define WHEEL_SLOTS    1024u /* one turn is 8.4 s */
#define WHEEL_NEVER_US UINT64_MAX

struct wheel_timer {
    struct wheel_timer *next, *previous; /* NULL = not linked */
    uint64_t due_us;
};

struct wheel {
    struct wheel_timer slots[WHEEL_SLOTS]; /* heads of circular lists */
    uint64_t filled[WHEEL_SLOTS / 64];     /* a bit per slot that may hold timers */
    uint64_t tick;                         /* everything due before this tick has been handed out */
    uint32_t timer_count;
};

void wheel_init(struct wheel *wheel, uint64_t now_us);

/* Links the timer, or moves it. WHEEL_NEVER_US cancels. */
void wheel_arm(struct wheel *wheel, struct wheel_timer *timer, uint64_t due_us);
void wheel_cancel(struct wheel *wheel, struct wheel_timer *timer);

/* Unlinks and returns one timer that is due, NULL when there is none. Call until NULL. */
struct wheel_timer *wheel_take_due(struct wheel *wheel, uint64_t now_us) MUST_CHECK;

/* When wheel_take_due() should be called next; WHEEL_NEVER_US with no timer armed. */
uint64_t wheel_next_us(const struct wheel *wheel);

#endif
