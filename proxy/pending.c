#include "proxy/pending.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* first + length <= size; length > 0. */
struct pending {
    size_t size;
    size_t first;
    size_t length;
    uint8_t octets[];
};

bool pending_append(struct pending **pending, const void *octets, size_t length, size_t limit)
{
    struct pending *kept = *pending;
    const size_t before = pending_length(kept);

    if (length == 0)
        return true;
    if (before > limit || length > limit - before)
        return false;
    if (kept == NULL || length > kept->size - kept->first - kept->length) {
        struct pending *wider;

        if (limit > SIZE_MAX - sizeof *wider)
            return false;
        wider = malloc(sizeof *wider + before + length);
        if (wider == NULL)
            return false;
        wider->size = before + length;
        wider->first = 0;
        wider->length = before;
        if (kept != NULL)
            memcpy(wider->octets, kept->octets + kept->first, before);
        free(kept);
        *pending = kept = wider;
    }
    memcpy(kept->octets + kept->first + kept->length, octets, length);
    kept->length += length;
    assert(kept->first <= kept->size && kept->length <= kept->size - kept->first);
    return true;
}

size_t pending_length(const struct pending *pending)
{
    return pending == NULL ? 0 : pending->length;
}

const uint8_t *pending_octets(const struct pending *pending)
{
    return pending == NULL ? NULL : pending->octets + pending->first;
}

void pending_consume(struct pending **pending, size_t length)
{
    struct pending *kept = *pending;

    if (kept == NULL)
        return;
    assert(length <= kept->length);
    if (length >= kept->length) {
        pending_clear(pending);
        return;
    }
    kept->first += length;
    kept->length -= length;
}

void pending_clear(struct pending **pending)
{
    free(*pending);
    *pending = NULL;
}
