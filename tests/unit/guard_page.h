/* guard_page - memory whose last octet is followed by a page that may not be touched: reading too far is a fault.
 * Owns:    two or more pages, until guard_page_free(). */
#ifndef SMTPWITNESS_TESTS_UNIT_GUARD_PAGE_H
#define SMTPWITNESS_TESTS_UNIT_GUARD_PAGE_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct guard_page {
    uint8_t *memory;
    size_t usable; /* octets before the forbidden page */
    size_t mapped;
};

static inline void guard_page_init(struct guard_page *guard, size_t octets)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    guard->usable = (octets + page - 1) / page * page;
    guard->mapped = guard->usable + page;
    guard->memory = mmap(NULL, guard->mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (guard->memory == MAP_FAILED || mprotect(guard->memory + guard->usable, page, PROT_NONE) == -1)
        abort();
}

static inline void guard_page_free(struct guard_page *guard)
{
    if (munmap(guard->memory, guard->mapped) == -1)
        abort();
}

/* A copy of `octets` that ends where the forbidden page begins. */
static inline const uint8_t *guard_page_put(struct guard_page *guard, const void *octets, size_t length)
{
    if (length > guard->usable)
        abort();
    uint8_t *start = guard->memory + guard->usable - length;
    if (length > 0)
        memcpy(start, octets, length);
    return start;
}

#endif
