#include "proxy/wheel.h"

#include <stddef.h>

static uint64_t tick_of(uint64_t due_us)
{
    /* Rounded up, so that a timer never fires early. */
    return due_us / WHEEL_TICK_US + (due_us % WHEEL_TICK_US != 0 ? 1 : 0);
}

static void unlink_timer(struct wheel_timer *timer)
{
    timer->next->previous = timer->previous;
    timer->previous->next = timer->next;
    timer->next = timer->previous = NULL;
}

void wheel_init(struct wheel *wheel, uint64_t now_us)
{
    for (size_t slot = 0; slot < WHEEL_SLOTS; slot++) {
        wheel->slots[slot].next = wheel->slots[slot].previous = &wheel->slots[slot];
        wheel->slots[slot].due_us = 0;
    }
    for (size_t word = 0; word < WHEEL_SLOTS / 64; word++)
        wheel->filled[word] = 0;
    wheel->tick = now_us / WHEEL_TICK_US;
    wheel->timer_count = 0;
}

void wheel_cancel(struct wheel *wheel, struct wheel_timer *timer)
{
    if (timer->next == NULL)
        return;
    unlink_timer(timer);
    wheel->timer_count--;
}

void wheel_arm(struct wheel *wheel, struct wheel_timer *timer, uint64_t due_us)
{
    uint64_t tick;
    size_t slot;

    wheel_cancel(wheel, timer);
    if (due_us == WHEEL_NEVER_US)
        return;
    tick = tick_of(due_us);
    if (tick < wheel->tick)
        tick = wheel->tick;
    if (tick - wheel->tick >= WHEEL_SLOTS)
        tick = wheel->tick + WHEEL_SLOTS - 1;
    slot = (size_t)(tick % WHEEL_SLOTS);
    timer->due_us = due_us;
    timer->next = &wheel->slots[slot];
    timer->previous = wheel->slots[slot].previous;
    timer->previous->next = timer;
    timer->next->previous = timer;
    wheel->filled[slot / 64] |= UINT64_C(1) << (slot % 64);
    wheel->timer_count++;
}

/* How many ticks after `tick` the first slot with its bit set comes; WHEEL_SLOTS when there is none. */
static uint64_t distance_to_filled(const struct wheel *wheel)
{
    const size_t first = (size_t)(wheel->tick % WHEEL_SLOTS);

    for (uint64_t distance = 0; distance < WHEEL_SLOTS;) {
        const size_t slot = (first + (size_t)distance) % WHEEL_SLOTS;
        const uint64_t word = wheel->filled[slot / 64] >> (slot % 64);

        if (word != 0)
            return distance + (uint64_t)__builtin_ctzll(word);
        distance += 64 - slot % 64;
    }
    return WHEEL_SLOTS;
}

struct wheel_timer *wheel_take_due(struct wheel *wheel, uint64_t now_us)
{
    const uint64_t now_tick = now_us / WHEEL_TICK_US;

    while (wheel->timer_count > 0) {
        const uint64_t distance = distance_to_filled(wheel);
        const uint64_t tick = wheel->tick + distance;
        const size_t slot = (size_t)(tick % WHEEL_SLOTS);
        struct wheel_timer *head = &wheel->slots[slot];

        if (distance >= WHEEL_SLOTS || tick > now_tick)
            break;
        wheel->tick = tick;
        if (head->next != head) {
            struct wheel_timer *timer = head->next;

            unlink_timer(timer);
            wheel->timer_count--;
            if (tick_of(timer->due_us) <= now_tick)
                return timer;
            /* Farther than one turn: at most WHEEL_SLOTS - 1 ticks on, so never into this slot again. */
            wheel_arm(wheel, timer, timer->due_us);
            continue;
        }
        wheel->filled[slot / 64] &= ~(UINT64_C(1) << (slot % 64));
    }
    if (wheel->tick < now_tick)
        wheel->tick = now_tick;
    return NULL;
}

uint64_t wheel_next_us(const struct wheel *wheel)
{
    uint64_t distance;

    if (wheel->timer_count == 0)
        return WHEEL_NEVER_US;
    distance = distance_to_filled(wheel);
    if (distance >= WHEEL_SLOTS)
        distance = WHEEL_SLOTS - 1;
    return (wheel->tick + distance) * WHEEL_TICK_US;
}
