#include "core/tcp/fragments.h"

#include <stdlib.h>
#include <string.h>

#define BLOCK_OCTETS 8 /* every fragment but the last has whole blocks */
#define BLOCKS       (FRAGMENTS_OCTETS / BLOCK_OCTETS)
#define HEADER_MOST  40 /* the header of the whole: IPv6, or IPv4 without options */

struct datagram {
    struct address source, destination;
    uint64_t since_us;
    uint32_t id;
    uint32_t fragment_count;
    uint32_t length; /* of the whole payload; 0 = its last fragment has not come */
    uint32_t blocks; /* that have come */
    uint32_t cut_at; /* from here on the capture has nothing */
    uint8_t protocol, ttl;
    bool has_ip_id; /* IPv4 */
    bool busy;
    bool spoilt; /* overlaps or is too big: what else comes of it is swallowed */
    uint8_t have[(BLOCKS + 7) / 8];
    uint8_t octets[HEADER_MOST + FRAGMENTS_OCTETS];
};

struct fragments {
    struct datagram datagrams[FRAGMENTS_DATAGRAMS];
};

struct fragments *fragments_create(void)
{
    return calloc(1, sizeof(struct fragments));
}

void fragments_destroy(struct fragments *fragments)
{
    free(fragments);
}

size_t fragments_memory_octets(void)
{
    return sizeof(struct fragments);
}

static bool datagram_fits(const struct datagram *datagram, const struct packet *fragment)
{
    return datagram->busy && datagram->id == fragment->fragment_id &&
           datagram->protocol == fragment->fragment_protocol &&
           memcmp(datagram->source.octets, fragment->source.octets, sizeof fragment->source.octets) == 0 &&
           memcmp(datagram->destination.octets, fragment->destination.octets,
                  sizeof fragment->destination.octets) == 0;
}

/* The datagram that the fragment belongs to; a free or the longest waiting one begins anew otherwise. */
static struct datagram *datagram_of(struct fragments *fragments, const struct packet *fragment,
                                    uint64_t now_us)
{
    struct datagram *best = &fragments->datagrams[0];
    for (size_t i = 0; i < FRAGMENTS_DATAGRAMS; i++) {
        struct datagram *datagram = &fragments->datagrams[i];
        if (datagram->busy && now_us - datagram->since_us >= FRAGMENTS_PATIENCE_US) {
            datagram->busy = false;
        }
        if (datagram_fits(datagram, fragment)) {
            return datagram;
        }
        if (best->busy && (!datagram->busy || datagram->since_us < best->since_us)) {
            best = datagram;
        }
    }
    memset(best->have, 0, sizeof best->have);
    best->source = fragment->source;
    best->destination = fragment->destination;
    best->since_us = now_us;
    best->id = fragment->fragment_id;
    best->protocol = fragment->fragment_protocol;
    best->ttl = fragment->ttl;
    best->has_ip_id = fragment->has_ip_id;
    best->fragment_count = best->length = best->blocks = 0;
    best->cut_at = FRAGMENTS_OCTETS;
    best->busy = true;
    best->spoilt = false;
    return best;
}

static bool block_is_here(const struct datagram *datagram, uint32_t block)
{
    return ((unsigned)datagram->have[block / 8] >> (block % 8) & 1u) != 0;
}

/* False when it contradicts what came before. */
static bool datagram_put(struct datagram *datagram, const struct packet *fragment)
{
    uint32_t offset = fragment->fragment_offset, length = (uint32_t)fragment->payload_length;
    uint32_t captured = (uint32_t)fragment->payload_captured;
    bool last = !fragment->fragment_more;
    if (fragment->payload_length > FRAGMENTS_OCTETS || offset > FRAGMENTS_OCTETS - length || length == 0 ||
        (!last && length % BLOCK_OCTETS != 0) ||
        (datagram->length != 0 &&
         (last ? offset + length != datagram->length : offset + length >= datagram->length))) {
        return false;
    }
    uint8_t *to = datagram->octets + HEADER_MOST + offset;
    uint32_t first = offset / BLOCK_OCTETS, end = (offset + length + BLOCK_OCTETS - 1) / BLOCK_OCTETS;
    uint32_t known = 0;
    for (uint32_t block = first; block < end; block++) {
        known += block_is_here(datagram, block) ? 1 : 0;
    }
    if (known > 0) { /* the same again, or a lie */
        return known == end - first && memcmp(to, fragment->payload, captured) == 0;
    }
    memcpy(to, fragment->payload, captured);
    memset(to + captured, 0, length - captured);
    for (uint32_t block = first; block < end; block++) {
        datagram->have[block / 8] |= (uint8_t)(1u << (block % 8));
    }
    datagram->blocks += end - first;
    datagram->length = last ? offset + length : datagram->length;
    if (captured < length && offset + captured < datagram->cut_at) {
        datagram->cut_at = offset + captured;
    }
    return true;
}

static void put16(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

/* The header as it was before somebody cut the datagram up, but for options and checksum. Returns its size. */
static size_t put_header(uint8_t *end, const struct datagram *datagram)
{
    size_t size = datagram->has_ip_id ? 20 : 40;
    uint8_t *at = end - size;
    memset(at, 0, size);
    if (datagram->has_ip_id) {
        at[0] = 0x45;
        put16(at + 2, (uint32_t)size + datagram->length);
        put16(at + 4, datagram->id);
        at[8] = datagram->ttl;
        at[9] = datagram->protocol;
        memcpy(at + 12, datagram->source.octets + 12, 4);
        memcpy(at + 16, datagram->destination.octets + 12, 4);
    } else {
        at[0] = 0x60;
        put16(at + 4, datagram->length);
        at[6] = datagram->protocol;
        at[7] = datagram->ttl;
        memcpy(at + 8, datagram->source.octets, 16);
        memcpy(at + 24, datagram->destination.octets, 16);
    }
    return size;
}

bool fragments_take(struct fragments *fragments, const struct packet *fragment, uint64_t now_us,
                    struct fragments_whole *whole)
{
    struct datagram *datagram = datagram_of(fragments, fragment, now_us);
    datagram->fragment_count++;
    datagram->spoilt = datagram->spoilt || !datagram_put(datagram, fragment);
    if (datagram->spoilt || datagram->length == 0 ||
        datagram->blocks < (datagram->length + BLOCK_OCTETS - 1) / BLOCK_OCTETS) {
        return false;
    }
    datagram->busy = false;
    uint32_t captured = datagram->cut_at < datagram->length ? datagram->cut_at : datagram->length;
    size_t header = put_header(datagram->octets + HEADER_MOST, datagram);
    *whole = (struct fragments_whole){.octets = datagram->octets + HEADER_MOST - header,
                                      .captured = header + captured,
                                      .length = header + datagram->length,
                                      .fragment_count = datagram->fragment_count};
    return true;
}
