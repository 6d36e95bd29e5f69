#include <string.h>

#include "core/policy/neighbours_internal.h"

#define MINUTE_US       60000000u
#define MINUTES_A_FIVE  5u
#define MINUTES_AN_HOUR 60u

/* Empties the buckets that time has passed over since the bucket numbered `from`. */
static void ring_advance(uint16_t *ring, uint32_t buckets, uint32_t from, uint32_t to)
{
    uint32_t passed = to - from < buckets ? to - from : buckets;
    for (uint32_t i = 1; i <= passed; i++) {
        ring[(from + i) % buckets] = 0;
    }
}

static void peaks_advance(struct neighbours_peaks *peaks, uint64_t now_us)
{
    uint32_t now = (uint32_t)(now_us / MINUTE_US), then = peaks->minute;
    if (now <= then) {
        return; /* a clock that stepped back counts where it was */
    }
    ring_advance(peaks->minutes, PEAKS_MINUTES, then, now);
    ring_advance(peaks->fives, PEAKS_FIVES, then / MINUTES_A_FIVE, now / MINUTES_A_FIVE);
    ring_advance(peaks->hours, PEAKS_HOURS, then / MINUTES_AN_HOUR, now / MINUTES_AN_HOUR);
    peaks->minute = now;
}

static void raise(uint16_t *most, uint32_t count)
{
    uint16_t capped = count < UINT16_MAX ? (uint16_t)count : UINT16_MAX;
    *most = capped > *most ? capped : *most;
}

void peaks_note(struct neighbours_peaks *peaks, uint32_t count, uint64_t now_us)
{
    peaks_advance(peaks, now_us);
    raise(&peaks->minutes[peaks->minute % PEAKS_MINUTES], count);
    raise(&peaks->fives[peaks->minute / MINUTES_A_FIVE % PEAKS_FIVES], count);
    raise(&peaks->hours[peaks->minute / MINUTES_AN_HOUR % PEAKS_HOURS], count);
}

static uint32_t most_of(const uint16_t *ring, uint32_t buckets)
{
    uint16_t most = 0;
    for (uint32_t i = 0; i < buckets; i++) {
        raise(&most, ring[i]);
    }
    return most;
}

uint32_t peaks_recent(struct neighbours_peaks *peaks, uint64_t now_us)
{
    peaks_advance(peaks, now_us);
    return most_of(peaks->minutes, PEAKS_MINUTES);
}

uint32_t peaks_hour(struct neighbours_peaks *peaks, uint64_t now_us)
{
    peaks_advance(peaks, now_us);
    return most_of(peaks->fives, PEAKS_FIVES);
}

uint32_t peaks_day(struct neighbours_peaks *peaks, uint64_t now_us)
{
    peaks_advance(peaks, now_us);
    return most_of(peaks->hours, PEAKS_HOURS);
}
