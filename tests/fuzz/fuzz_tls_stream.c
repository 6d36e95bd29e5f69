/* TLS records of both sides. Input: pieces of one octet (top bit: the side; next: passes unseen; low six:
 * length) and so many octets. Records must come out the same octet by octet while nothing passes unseen. */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/smtp/tls_stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool follow(struct tls_stream *tls, const uint8_t *data, size_t size, bool octets)
{
    bool gaps = false;
    tls_stream_init(tls, size > 0 && (data[0] & 1) != 0);
    while (size > 0) {
        enum side side = (*data & 0x80) != 0 ? SIDE_SERVER : SIDE_CLIENT;
        bool unseen = (*data & 0x40) != 0;
        size_t length = *data & 0x3f;
        data++;
        size--;
        if (unseen) {
            gaps = true;
            tls_stream_skip(tls, side, (uint64_t)length * length * length);
            continue;
        }
        length = length < size ? length : size;
        for (size_t i = 0; octets && i < length; i++)
            tls_stream_consume(tls, side, data + i, 1);
        if (!octets)
            tls_stream_consume(tls, side, data, length);
        if ((unsigned)tls->phase >= PHASE_COUNT || (unsigned)tls->owed_by > SIDE_SERVER)
            abort();
        data += length;
        size -= length;
    }
    return gaps;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tls_stream whole, cut;
    if (follow(&whole, data, size, false))
        return 0;
    (void)follow(&cut, data, size, true);
    if (whole.phase != cut.phase || whole.owed_by != cut.owed_by || whole.commands != cut.commands ||
        whole.replies != cut.replies || whole.established != cut.established || whole.not_tls != cut.not_tls)
        abort();
    return 0;
}
