/* clock - the only place where the program reads the time.
 * Monotonic microseconds for everything that is measured, wall-clock milliseconds for the `start=` of a line.
 * Threads: any. */
#ifndef SMTPWITNESS_DAEMON_CLOCK_H
#define SMTPWITNESS_DAEMON_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_monotonic_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail with a valid clock and pointer */
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

static inline int64_t clock_unix_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + (int64_t)now.tv_nsec / 1000000;
}

#endif
