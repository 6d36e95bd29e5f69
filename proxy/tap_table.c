#include "proxy/tap_table.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/hash.h"
#include "core/tcp/packet.h"

#define RESET_FRESH_US  UINT64_C(60000000)
#define ICMP_FRESH_US   UINT64_C(900000000)
#define STEADY_AFTER_US UINT64_C(600000000) /* no other TTL seen for so long */
#define WATCH_STEPS     4u     /* both legs of a session have the same key: a few entries on there is room */
#define WIRE_MOST       65575u /* the longest IP packet; how long this one was is in its header */

/* From and to as in the packet; no padding, so that it can be hashed and compared as octets. */
struct tap_key {
    uint8_t from[16], to[16];
    uint16_t from_port, to_port;
};

struct seen_reset {
    struct tap_key key;
    uint64_t seen_us; /* 0 = free */
    uint8_t ttl;
    bool bare;
};

struct seen_handshake { /* the TTL of a host's SYN-ACKs */
    struct tap_key key; /* only `from` */
    uint64_t seen_us, changed_us;
    uint8_t ttl;
};

struct seen_icmp {
    struct tap_key key; /* of the quoted segment, which was ours */
    uint64_t seen_us;
    struct icmp_error icmp;
    uint32_t mtu;
};

struct watch {
    struct tap_key key; /* from the client to the server */
    uint64_t since_us;  /* 0 = free */
    enum side side;
    bool acknowledged, answered;
    uint32_t our_acknowledgement, its_sequence;
};

struct tap_table {
    uint8_t seed[HASH_SEED_OCTETS];
    uint32_t watched;
    struct seen_reset resets[TAP_RESETS];
    struct seen_handshake handshakes[TAP_HANDSHAKES];
    struct seen_icmp icmps[TAP_ICMPS];
    struct watch watches[TAP_WATCHES];
};

/* ---- keys and places ---- */

static struct tap_key key_of(const struct address *from, const struct address *to)
{
    struct tap_key key;

    memcpy(key.from, from->octets, sizeof key.from);
    memcpy(key.to, to->octets, sizeof key.to);
    key.from_port = from->port;
    key.to_port = to->port;
    return key;
}

static struct tap_key key_of_host(const struct address *from)
{
    struct tap_key key;

    memset(&key, 0, sizeof key);
    memcpy(key.from, from->octets, sizeof key.from);
    key.from_port = from->port;
    return key;
}

static bool same_key(const struct tap_key *a, const struct tap_key *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

/* The two places of a key in a table of `count`. */
static void places_of(const struct tap_table *tap, const struct tap_key *key, size_t count, size_t places[2])
{
    const uint64_t hash = hash_octets(tap->seed, key, sizeof *key);

    places[0] = (size_t)(hash & (count - 1));
    places[1] = (size_t)((hash >> 32) & (count - 1));
}

/* Finds the entry of `key`, else (with `make`) takes the older of its two places. The tables differ in their type
 * only; each begins with the key and has the time next. */
struct entry_head {
    struct tap_key key;
    uint64_t seen_us;
};

_Static_assert(offsetof(struct seen_reset, seen_us) == offsetof(struct entry_head, seen_us) &&
                   offsetof(struct seen_handshake, seen_us) == offsetof(struct entry_head, seen_us) &&
                   offsetof(struct seen_icmp, seen_us) == offsetof(struct entry_head, seen_us),
               "the entries begin alike");

static void *find_entry(const struct tap_table *tap, void *table, size_t entry_octets, size_t count,
                        const struct tap_key *key, bool make)
{
    size_t places[2];
    struct entry_head *found[2];

    places_of(tap, key, count, places);
    for (size_t way = 0; way < 2; way++) {
        found[way] = (struct entry_head *)(void *)((uint8_t *)table + places[way] * entry_octets);
        if (found[way]->seen_us != 0 && same_key(&found[way]->key, key))
            return found[way];
    }
    if (!make)
        return NULL;
    {
        struct entry_head *older = found[0]->seen_us <= found[1]->seen_us ? found[0] : found[1];

        memset(older, 0, entry_octets);
        older->key = *key;
        return older;
    }
}

#define FIND(tap, table, count, key, make)                                                                   \
    find_entry((tap), (tap)->table, sizeof(tap)->table[0], (count), (key), (make))

/* ---- what arrives ---- */

static void note_handshake(struct tap_table *tap, const struct packet *packet, uint64_t now_us)
{
    const struct tap_key key = key_of_host(&packet->source);
    struct seen_handshake *seen = FIND(tap, handshakes, TAP_HANDSHAKES, &key, true);

    if (seen->seen_us != 0 && seen->ttl != packet->ttl)
        seen->changed_us = now_us;
    seen->ttl = packet->ttl;
    seen->seen_us = now_us;
}

static void note_reset(struct tap_table *tap, const struct packet *packet, uint64_t now_us)
{
    const struct tap_key key = key_of(&packet->source, &packet->destination);
    struct seen_reset *seen = FIND(tap, resets, TAP_RESETS, &key, true);

    seen->ttl = packet->ttl;
    seen->bare = (packet->flags & PACKET_ACK) == 0;
    seen->seen_us = now_us;
}

static void note_icmp(struct tap_table *tap, const struct packet *packet, uint64_t now_us)
{
    const struct tap_key key = key_of(&packet->source, &packet->destination);
    struct seen_icmp *seen = FIND(tap, icmps, TAP_ICMPS, &key, true);

    seen->icmp = (struct icmp_error){.seen = true,
                                     .ipv6 = !address_is_ipv4(&packet->icmp_sender),
                                     .type = packet->icmp_type,
                                     .code = packet->icmp_code,
                                     .offender_known = true,
                                     .offender = packet->icmp_sender};
    seen->icmp.offender.port = 0;
    seen->mtu = packet->icmp_mtu;
    seen->seen_us = now_us;
}

static struct watch *find_watch(struct tap_table *tap, const struct tap_key *key, enum side side)
{
    size_t places[2];

    places_of(tap, key, TAP_WATCHES, places);
    for (size_t way = 0; way < 2; way++) {
        for (size_t step = 0; step < WATCH_STEPS; step++) {
            struct watch *watch = &tap->watches[(places[way] + step) & (TAP_WATCHES - 1)];

            if (watch->since_us != 0 && watch->side == side && same_key(&watch->key, key))
                return watch;
        }
    }
    return NULL;
}

static void note_ack(struct tap_table *tap, const struct packet *packet, bool outgoing)
{
    struct tap_key key = key_of(&packet->source, &packet->destination);
    const struct tap_key turned = key_of(&packet->destination, &packet->source);
    struct watch *watch;

    if ((packet->flags & PACKET_ACK) == 0 || packet->payload_length != 0)
        return;
    if (outgoing) {
        /* Ours: towards the server on the server leg, towards the client on the client leg. */
        watch = find_watch(tap, &key, SIDE_SERVER);
        if (watch == NULL)
            watch = find_watch(tap, &turned, SIDE_CLIENT);
        if (watch == NULL)
            return;
        if (!watch->acknowledged || (int32_t)(packet->acknowledgement - watch->our_acknowledgement) > 0)
            watch->our_acknowledgement = packet->acknowledgement;
        watch->acknowledged = true;
        return;
    }
    watch = find_watch(tap, &key, SIDE_CLIENT);
    if (watch == NULL)
        watch = find_watch(tap, &turned, SIDE_SERVER);
    if (watch == NULL)
        return;
    if (!watch->answered || (int32_t)(packet->sequence - watch->its_sequence) > 0)
        watch->its_sequence = packet->sequence;
    watch->answered = true;
}

void tap_table_note(struct tap_table *table, const uint8_t *octets, size_t length, uint64_t now_us)
{
    struct packet packet;

    if (packet_parse(&packet, octets, length, WIRE_MOST) != PACKET_OK)
        return;
    if (packet.kind == PACKET_ICMP_ERROR)
        note_icmp(table, &packet, now_us);
    else if (packet.kind == PACKET_TCP && (packet.flags & PACKET_RST))
        note_reset(table, &packet, now_us);
    else if (packet.kind == PACKET_TCP &&
             (packet.flags & (PACKET_SYN | PACKET_ACK)) == (PACKET_SYN | PACKET_ACK))
        note_handshake(table, &packet, now_us);
}

void tap_table_note_ack(struct tap_table *table, const uint8_t *octets, size_t length, bool outgoing)
{
    struct packet packet;

    if (packet_parse(&packet, octets, length, WIRE_MOST) == PACKET_OK && packet.kind == PACKET_TCP)
        note_ack(table, &packet, outgoing);
}

/* ---- what is asked ---- */

static const struct address *from_of(const struct tap_flow *flow)
{
    return flow->side == SIDE_CLIENT ? &flow->client : &flow->server;
}

static const struct address *to_of(const struct tap_flow *flow)
{
    return flow->side == SIDE_CLIENT ? &flow->server : &flow->client;
}

bool tap_table_find_reset(struct tap_table *table, const struct tap_flow *flow, uint64_t now_us,
                          struct tap_reset *reset)
{
    const struct tap_key key = key_of(from_of(flow), to_of(flow));
    const struct tap_key host = key_of_host(from_of(flow));
    const struct seen_reset *seen = FIND(table, resets, TAP_RESETS, &key, false);
    const struct seen_handshake *usual = FIND(table, handshakes, TAP_HANDSHAKES, &host, false);

    if (seen == NULL || now_us - seen->seen_us >= RESET_FRESH_US)
        return false;
    reset->ttl = seen->ttl;
    reset->bare = seen->bare;
    reset->usual_ttl = 0;
    if (usual != NULL && (usual->changed_us == 0 || now_us - usual->changed_us > STEADY_AFTER_US))
        reset->usual_ttl = usual->ttl;
    return true;
}

bool tap_table_find_icmp(struct tap_table *table, const struct tap_flow *flow, uint64_t now_us,
                         struct icmp_error *icmp, uint32_t *mtu)
{
    const struct tap_key key = key_of(to_of(flow), from_of(flow)); /* it quotes what went to the side */
    const struct seen_icmp *seen = FIND(table, icmps, TAP_ICMPS, &key, false);

    if (seen == NULL || now_us - seen->seen_us >= ICMP_FRESH_US)
        return false;
    *icmp = seen->icmp;
    *mtu = seen->mtu;
    return true;
}

bool tap_table_find_revealed(struct tap_table *table, const struct tap_flow *flow, uint32_t *octets)
{
    const struct tap_key key = key_of(&flow->client, &flow->server);
    const struct watch *watch = find_watch(table, &key, flow->side);
    uint32_t beyond;

    if (watch == NULL || !watch->acknowledged || !watch->answered)
        return false;
    beyond = watch->its_sequence - watch->our_acknowledgement;
    /* Half the sequence space is "before": a keepalive of its own, or an old packet. */
    *octets = (int32_t)beyond > 0 ? beyond : 0;
    return true;
}

/* ---- watching ---- */

bool tap_table_watch(struct tap_table *table, const struct tap_flow *flow, uint64_t now_us)
{
    const struct tap_key key = key_of(&flow->client, &flow->server);
    struct watch *watch = find_watch(table, &key, flow->side);
    size_t places[2];

    places_of(table, &key, TAP_WATCHES, places);
    for (size_t step = 0; step < 2 * WATCH_STEPS && watch == NULL; step++) {
        struct watch *candidate =
            &table->watches[(places[step / WATCH_STEPS] + step % WATCH_STEPS) & (TAP_WATCHES - 1)];

        if (candidate->since_us == 0) {
            watch = candidate;
            table->watched++;
        }
    }
    if (watch == NULL)
        return false;
    memset(watch, 0, sizeof *watch);
    watch->key = key;
    watch->side = flow->side;
    watch->since_us = now_us;
    return true;
}

void tap_table_unwatch(struct tap_table *table, const struct tap_flow *flow)
{
    const struct tap_key key = key_of(&flow->client, &flow->server);
    struct watch *watch = find_watch(table, &key, flow->side);

    if (watch == NULL)
        return;
    watch->since_us = 0;
    table->watched--;
}

uint32_t tap_table_watched(const struct tap_table *table)
{
    return table->watched;
}

size_t tap_table_ports(const struct tap_table *table, uint16_t *ports, size_t room)
{
    size_t count = 0;

    for (size_t index = 0; index < TAP_WATCHES && count < room; index++) {
        if (table->watches[index].since_us != 0)
            ports[count++] = table->watches[index].key.from_port;
    }
    return count;
}

/* ---- life ---- */

struct tap_table *tap_table_create(const uint8_t seed[16])
{
    struct tap_table *table = calloc(1, sizeof *table);

    if (table != NULL)
        memcpy(table->seed, seed, sizeof table->seed);
    return table;
}

void tap_table_destroy(struct tap_table *table)
{
    free(table);
}
