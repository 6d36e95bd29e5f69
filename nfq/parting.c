#include "nfq/parting.h"

#include <stdlib.h>
#include <string.h>

#include "core/tcp/packet.h"
#include "nfq/flow_segment.h"

#define NEVER_US UINT64_MAX
#define BUCKETS  1024u /* a power of two */
#define OWN_TTL  64

struct parting {
    uint32_t next;                /* of the bucket; index + 1 */
    struct segment to[SIDE_PAIR]; /* in the other side's name; `sequence` is the next one */
    uint64_t until_us;            /* 0 = free */
    uint64_t due_us;              /* of the next repetition; NEVER_US = none */
    uint8_t repeats;
    bool speaks;       /* the client reads `text` */
    bool acknowledged; /* it has */
    uint16_t length;
    char text[PARTING_TEXT];
};

struct parting_table {
    parting_send *send;
    void *context;
    uint32_t count, newest;
    uint64_t due_us;           /* not before: something is to do */
    uint32_t buckets[BUCKETS]; /* index + 1 */
    struct parting slots[PARTING_SLOTS];
};

struct parting_table *parting_table_create(parting_send *send, void *context)
{
    struct parting_table *table = calloc(1, sizeof *table);

    if (table == NULL)
        return NULL;
    table->send = send;
    table->context = context;
    table->due_us = NEVER_US;
    return table;
}

void parting_table_destroy(struct parting_table *table)
{
    free(table);
}

uint64_t parting_memory_octets(void)
{
    return sizeof(struct parting_table);
}

uint32_t parting_count(const struct parting_table *table)
{
    return table->count;
}

/* Both directions alike. What is here was ended by us: nobody can fill a bucket at will beyond the slots. */
static uint32_t bucket_of(const struct address *one, const struct address *other)
{
    uint32_t hash = (uint32_t)one->port * 2654435761u ^ (uint32_t)other->port * 2654435761u;

    for (size_t i = 0; i < sizeof one->octets; i++)
        hash += (uint32_t)(one->octets[i] ^ other->octets[i]) << (i % 4 * 8);
    return (hash ^ hash >> 15) & (BUCKETS - 1);
}

static struct parting *find(const struct parting_table *table, const struct packet *packet, enum side *sender)
{
    uint32_t link = table->count == 0 ? 0 : table->buckets[bucket_of(&packet->source, &packet->destination)];

    while (link != 0) {
        const struct parting *parting = &table->slots[link - 1];
        const struct segment *to_client = &parting->to[side_index(SIDE_CLIENT)];

        for (unsigned i = 0; i < SIDE_PAIR; i++) {
            const bool from_client = i == 0;
            const struct address *source = from_client ? &to_client->destination : &to_client->source;
            const struct address *target = from_client ? &to_client->source : &to_client->destination;

            if (address_equal(source, &packet->source) && address_equal(target, &packet->destination)) {
                *sender = from_client ? SIDE_CLIENT : SIDE_SERVER;
                return (struct parting *)(uintptr_t)parting;
            }
        }
        link = parting->next;
    }
    return NULL;
}

static void forget(struct parting_table *table, struct parting *parting)
{
    const struct segment *any = &parting->to[0];
    uint32_t *link = &table->buckets[bucket_of(&any->source, &any->destination)];
    const uint32_t own = (uint32_t)(parting - table->slots) + 1;

    while (*link != own)
        link = &table->slots[*link - 1].next;
    *link = parting->next;
    parting->until_us = 0;
    table->count--;
}

static struct parting *take_slot(struct parting_table *table)
{
    struct parting *slot;

    table->newest =
        (table->newest + 1) % PARTING_SLOTS; /* all last equally long: in a ring the next is the oldest */
    slot = &table->slots[table->newest];
    if (slot->until_us != 0)
        forget(table, slot);
    memset(slot, 0, sizeof *slot);
    return slot;
}

static void reset(struct parting_table *table, struct segment segment, uint32_t sequence)
{
    segment.flags = PACKET_RST | PACKET_ACK;
    segment.sequence = sequence;
    segment.window = 0;
    segment.payload_length = 0;
    (void)table->send(table->context,
                      &segment); /* one that fails is made up for when that side says something */
}

/* The text and the end of the stream, in one segment. */
static void speak(struct parting_table *table, const struct parting *parting)
{
    struct segment segment = parting->to[side_index(SIDE_CLIENT)];

    segment.flags = PACKET_ACK | PACKET_PSH | PACKET_FIN;
    segment.sequence -= parting->length + 1u;
    segment.payload = (const uint8_t *)parting->text;
    segment.payload_length = parting->length;
    (void)table->send(table->context, &segment);
}

bool parting_can_speak(const struct flow *flow)
{
    for (unsigned i = 0; i < SIDE_PAIR; i++) {
        const struct flow_side *side = &flow->sides[i];

        if (side->next != side->highest || side->acked != side->highest || side->pieces != NULL)
            return false;
    }
    return flow->state == FLOW_ESTABLISHED &&
           !(flow->sides[side_index(SIDE_SERVER)].flags & FLOW_SIDE_FIN_SHOWN);
}

/* What the side expects next is what it has acknowledged, or, if the rest is on its way there, the end of it. */
static void reset_side(struct parting_table *table, const struct parting *parting, enum side side,
                       const struct flow_side *spoken)
{
    const struct segment *to = &parting->to[side_index(side)];

    reset(table, *to, spoken->acked);
    if (spoken->highest != spoken->acked)
        reset(table, *to, spoken->highest);
}

static void begin_client(struct parting_table *table, struct parting *parting, const struct flow *flow,
                         const char *text, size_t length, uint64_t now_us)
{
    struct segment *to = &parting->to[side_index(SIDE_CLIENT)];

    parting->due_us = NEVER_US;
    if (flow->state < FLOW_SYN_ACK_SEEN) { /* its SYN is all there is */
        to->acknowledgement = flow->sides[side_index(SIDE_CLIENT)].first;
        reset(table, *to, 0);
        return;
    }
    if (text == NULL || length == 0 || length > PARTING_TEXT || !parting_can_speak(flow)) {
        reset_side(table, parting, SIDE_CLIENT, &flow->sides[side_index(SIDE_SERVER)]);
        return;
    }
    memcpy(parting->text, text, length);
    parting->length = (uint16_t)length;
    parting->speaks = true;
    parting->due_us = now_us + PARTING_REPEAT_US;
    to->sequence += (uint32_t)length + 1;
    speak(table, parting);
}

void parting_begin(struct parting_table *table, const struct flow_entry *entry, const char *text,
                   size_t length, uint64_t now_us)
{
    const struct flow *flow = &entry->flow;
    struct parting *parting = take_slot(table);
    uint32_t bucket;

    for (unsigned i = 0; i < SIDE_PAIR; i++)
        parting->to[i] = flow_segment(entry, i == 0 ? SIDE_SERVER : SIDE_CLIENT);
    bucket = bucket_of(&parting->to[0].source, &parting->to[0].destination);
    parting->next = table->buckets[bucket];
    parting->until_us = now_us + PARTING_LAST_US;
    table->buckets[bucket] = (uint32_t)(parting - table->slots) + 1;
    table->count++;
    begin_client(table, parting, flow, text, length, now_us);
    if (flow->state >= FLOW_SYN_ACK_SEEN)
        reset_side(table, parting, SIDE_SERVER, &flow->sides[side_index(SIDE_CLIENT)]);
    table->due_us = parting->due_us < table->due_us ? parting->due_us : table->due_us;
    table->due_us = parting->until_us < table->due_us ? parting->until_us : table->due_us;
}

void parting_refuse_syn(struct parting_table *table, const struct packet *syn)
{
    const struct segment answer = {.source = syn->destination,
                                   .destination = syn->source,
                                   .acknowledgement = syn->sequence + packet_sequence_length(syn),
                                   .flags = PACKET_RST | PACKET_ACK,
                                   .ttl = OWN_TTL};

    (void)table->send(table->context, &answer);
}

/* The client of a connection that ends with a text: what it says is acknowledged, and goes nowhere. */
static void attend_client(struct parting_table *table, struct parting *parting, const struct packet *packet)
{
    struct segment *to = &parting->to[side_index(SIDE_CLIENT)];
    const uint32_t end = packet->sequence + packet_sequence_length(packet);

    if (packet->options & PACKET_HAS_TIMESTAMP)
        to->timestamp_echo = packet->timestamp_value;
    if (!sequence_before(to->acknowledgement, packet->sequence) && sequence_before(to->acknowledgement, end))
        to->acknowledgement = end;
    if ((packet->flags & PACKET_ACK) && !sequence_before(packet->acknowledgement, to->sequence)) {
        parting->acknowledged = true;
        parting->due_us = NEVER_US;
    }
    if (packet_sequence_length(packet) > 0) {
        struct segment answer = *to;

        answer.flags = PACKET_ACK;
        answer.sequence = parting->acknowledged ? to->sequence : to->sequence - parting->length - 1u;
        (void)table->send(table->context, &answer);
    }
}

bool parting_takes(struct parting_table *table, const struct packet *packet, uint64_t now_us)
{
    enum side sender;
    struct parting *parting = find(table, packet, &sender);

    if (parting == NULL)
        return false;
    if (now_us >= parting->until_us || (packet->flags & (PACKET_SYN | PACKET_ACK)) == PACKET_SYN) {
        forget(table, parting);
        return false;
    }
    if (packet->flags & PACKET_RST) {
        parting->due_us = sender == SIDE_CLIENT ? NEVER_US : parting->due_us;
    } else if (sender == SIDE_CLIENT && parting->speaks) {
        attend_client(table, parting, packet);
    } else {
        struct segment answer = parting->to[side_index(sender)];

        answer.acknowledgement = packet->sequence + packet_sequence_length(packet);
        reset(table, answer, packet->acknowledgement);
    }
    return true;
}

bool parting_knows(const struct parting_table *table, const struct packet *packet)
{
    enum side sender;

    return find(table, packet, &sender) != NULL;
}

uint64_t parting_deadline_us(const struct parting_table *table)
{
    return table->count == 0 ? NEVER_US : table->due_us;
}

static void repeat(struct parting_table *table, struct parting *parting, uint64_t now_us)
{
    if (parting->repeats == PARTING_REPEATS) {
        const struct segment *to = &parting->to[side_index(SIDE_CLIENT)];

        parting->due_us = NEVER_US;
        parting->speaks = false;
        reset(table, *to, to->sequence - parting->length - 1u);
        return;
    }
    parting->repeats++;
    parting->due_us = now_us + (PARTING_REPEAT_US << parting->repeats);
    speak(table, parting);
}

void parting_on_deadline(struct parting_table *table, uint64_t now_us)
{
    if (table->count == 0 || now_us < table->due_us)
        return;
    table->due_us = NEVER_US;
    for (uint32_t i = 0; i < PARTING_SLOTS && table->count > 0; i++) {
        struct parting *parting = &table->slots[i];

        if (parting->until_us == 0)
            continue;
        if (now_us >= parting->until_us) {
            forget(table, parting);
            continue;
        }
        if (now_us >= parting->due_us)
            repeat(table, parting, now_us);
        table->due_us = parting->due_us < table->due_us ? parting->due_us : table->due_us;
        table->due_us = parting->until_us < table->due_us ? parting->until_us : table->due_us;
    }
}
