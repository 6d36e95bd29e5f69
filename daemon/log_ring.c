#include "daemon/log_ring.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

bool log_ring_init(struct log_ring *ring)
{
    memset(ring, 0, sizeof(*ring));
    ring->octets = malloc(LOG_RING_OCTETS);
    return ring->octets != NULL;
}

void log_ring_clear(struct log_ring *ring)
{
    free(ring->octets);
    memset(ring, 0, sizeof(*ring));
}

static void append(struct log_ring *ring, const void *from, size_t length)
{
    size_t end = (ring->first + ring->used) % LOG_RING_OCTETS;
    size_t straight = LOG_RING_OCTETS - end;

    if (straight > length) {
        straight = length;
    }
    memcpy(ring->octets + end, from, straight);
    memcpy(ring->octets, (const unsigned char *)from + straight, length - straight);
    ring->used += length;
}

static void remove_first(struct log_ring *ring, void *to, size_t length)
{
    size_t straight = LOG_RING_OCTETS - ring->first;

    if (straight > length) {
        straight = length;
    }
    memcpy(to, ring->octets + ring->first, straight);
    memcpy((unsigned char *)to + straight, ring->octets, length - straight);
    ring->first = (ring->first + length) % LOG_RING_OCTETS;
    ring->used -= length;
}

bool log_ring_put(struct log_ring *ring, const struct log_ring_line *line, const char *text)
{
    assert(line->length < LOG_LINE_OCTETS);
    if (ring->lines >= LOG_RING_LINES || sizeof(*line) + line->length > LOG_RING_OCTETS - ring->used) {
        return false;
    }
    append(ring, line, sizeof(*line));
    append(ring, text, line->length);
    ring->lines++;
    return true;
}

bool log_ring_take(struct log_ring *ring, struct log_ring_line *line, char text[LOG_LINE_OCTETS])
{
    if (ring->lines == 0) {
        return false;
    }
    remove_first(ring, line, sizeof(*line));
    assert(line->length < LOG_LINE_OCTETS);
    remove_first(ring, text, line->length);
    text[line->length] = '\0';
    ring->lines--;
    return true;
}
