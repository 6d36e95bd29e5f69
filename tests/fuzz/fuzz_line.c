/* Lines: the first octet says how the rest is cut. Whole and cut must give the same lines. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/stream/line.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct digest {
    uint64_t lines, octets, flags;
};

static struct digest follow(const uint8_t *octets, size_t length, size_t piece)
{
    struct line line = {0};
    struct digest digest = {0};
    while (length > 0) {
        size_t taken = piece < length ? piece : length;
        uint8_t *copy = malloc(taken);
        if (copy == NULL)
            abort();
        memcpy(copy, octets, taken);
        const uint8_t *span = copy;
        size_t left = taken;
        struct line_view view;
        while (line_next(&line, &span, &left, &view)) {
            digest.lines++;
            digest.flags = digest.flags * 31 + (uint64_t)(view.bare_lf + 2 * view.nul + 4 * view.truncated);
            digest.octets = digest.octets * 31 + view.total;
            for (size_t i = 0; i < view.length; i++)
                digest.octets = digest.octets * 31 + view.text[i];
        }
        if (left != 0)
            abort();
        free(copy);
        octets += taken;
        length -= taken;
    }
    digest.flags = digest.flags * 31 + line_is_open(&line);
    line_clear(&line);
    return digest;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    struct digest whole = follow(data + 1, size - 1, size);
    struct digest cut = follow(data + 1, size - 1, 1 + data[0] % 64);
    if (memcmp(&whole, &cut, sizeof whole) != 0)
        abort();
    return 0;
}
