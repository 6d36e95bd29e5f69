/* properties - what must hold of every capture, whatever it shows: `properties [--keep DIRECTORY] FILE...`.
 * Each file is fed to the tracker as it is, and again changed in every way of the table below: packets out of order or
 * twice, some lost, one direction only, headers only, as IPv6, in IP fragments, at another pace, with late resets. A change that
 * a capture suffers, and not the connection, must never make anybody guilty.
 * --keep:  a variant that fails is written there, as a capture of raw IP packets.
 * Prints one line per failure, then the total. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/settings.h"
#include "core/tracker/tracker.h"
#include "replay/capture.h"
#include "replay/link.h"

#define MAX_PACKETS  20000
#define MAX_SESSIONS 256
#define PACKET_ROOM  65600

struct packet_copy {
    uint8_t *octets;
    size_t captured, length;
    int64_t unix_us;
};

struct packets {
    struct packet_copy *at;
    size_t count, room;
};

struct outcome {
    uint16_t client_port, server_port;
    enum fault fault;
    enum cause cause;
    enum confidence confidence;
    uint32_t also;
    bool spoke; /* octets passed */
};

struct outcomes {
    struct outcome at[MAX_SESSIONS];
    size_t count;
};

/* ---- packets ---- */

static void *must(void *memory)
{
    if (memory == NULL) {
        fprintf(stderr, "properties: no memory\n");
        exit(1);
    }
    return memory;
}

static void packets_add(struct packets *packets, const uint8_t *octets, size_t captured, size_t length,
                        int64_t unix_us)
{
    if (packets->count == packets->room) {
        packets->room = packets->room * 2 + 64;
        packets->at = must(realloc(packets->at, packets->room * sizeof *packets->at));
    }
    struct packet_copy *copy = &packets->at[packets->count++];
    copy->octets = must(malloc(captured + 1)); /* the packet alone: a sanitizer sees a step over its end */
    memcpy(copy->octets, octets, captured);
    copy->captured = captured;
    copy->length = length;
    copy->unix_us = unix_us;
}

static void packets_add_copy(struct packets *packets, const struct packet_copy *copy)
{
    packets_add(packets, copy->octets, copy->captured, copy->length, copy->unix_us);
}

static void packets_clear(struct packets *packets)
{
    for (size_t i = 0; i < packets->count; i++) {
        free(packets->at[i].octets);
    }
    free(packets->at);
    *packets = (struct packets){0};
}

static bool packets_read(struct packets *packets, const char *path)
{
    char error[CAPTURE_TEXT_SIZE];
    struct capture_packet packet;
    struct link_payload payload;
    struct capture *capture = capture_open(path, error);
    if (capture == NULL) {
        fprintf(stderr, "properties: %s\n", error);
        return false;
    }
    while (capture_next(capture, &packet) == CAPTURE_PACKET && packets->count < MAX_PACKETS) {
        if (link_find_ip(capture_datalink(capture), packet.octets, packet.captured, packet.length,
                         &payload)) {
            packets_add(packets, payload.octets, payload.captured, payload.length, packet.unix_us);
        }
    }
    capture_close(capture);
    return true;
}

static void put_u32(FILE *file, uint32_t value)
{
    fwrite(&value, sizeof value, 1, file);
}

static void packets_write(const struct packets *packets, const char *path)
{
    FILE *file = fopen(path, "wb");
    if (file == NULL) {
        perror(path);
        return;
    }
    const uint32_t head[] = {0xa1b2c3d4, 2 | 4u << 16, 0, 0, 262144, 101};
    fwrite(head, sizeof head, 1, file);
    for (size_t i = 0; i < packets->count; i++) {
        const struct packet_copy *copy = &packets->at[i];
        put_u32(file, (uint32_t)(copy->unix_us / 1000000));
        put_u32(file, (uint32_t)(copy->unix_us % 1000000));
        put_u32(file, (uint32_t)copy->captured);
        put_u32(file, (uint32_t)copy->length);
        fwrite(copy->octets, 1, copy->captured, file);
    }
    fclose(file);
}

/* ---- through the tracker ---- */

static void on_record(void *context, struct tracker_session *tracked, const struct record *record)
{
    struct outcomes *outcomes = context;
    (void)tracked;
    if (record->kind == RECORD_VERDICT && outcomes->count < MAX_SESSIONS) {
        outcomes->at[outcomes->count++] =
            (struct outcome){.client_port = record->client.port,
                             .server_port = record->server.port,
                             .fault = record->verdict.fault,
                             .cause = record->verdict.cause,
                             .confidence = record->verdict.confidence,
                             .also = record->verdict.also,
                             .spoke = record->octets_client + record->octets_server > 0};
    }
}

static void judge(const struct settings *settings, const struct packets *packets, struct outcomes *outcomes)
{
    struct tracker_options options = {.mode = RECORD_REPLAY,
                                      .policy = &settings->policy,
                                      .max_flows = 256,
                                      .any_port = true,
                                      .callbacks = {.context = outcomes, .record = on_record}};
    struct tracker *tracker = must(tracker_create(&options));
    uint64_t now_us = 1000000;
    outcomes->count = 0;
    for (uint32_t i = 0; i < settings->smtp.ports.count; i++) {
        tracker_set_port(tracker, settings->smtp.ports.port[i], TRACKER_PORT_SMTP);
    }
    for (uint32_t i = 0; i < settings->smtp.implicit_tls_ports.count; i++) {
        tracker_set_port(tracker, settings->smtp.implicit_tls_ports.port[i], TRACKER_PORT_IMPLICIT_TLS);
    }
    for (size_t i = 0; i < packets->count; i++) {
        const struct packet_copy *copy = &packets->at[i];
        int64_t passed_us = i == 0 ? 0 : copy->unix_us - packets->at[i - 1].unix_us;
        now_us += passed_us > 0 ? (uint64_t)passed_us : 0;
        tracker_on_packet(tracker, copy->octets, copy->captured, copy->length, now_us, copy->unix_us / 1000);
    }
    tracker_finish(tracker, now_us);
    tracker_destroy(tracker);
}

/* ---- variants: each writes `to` from `from` ---- */

static uint32_t random_state;

static uint32_t any(uint32_t below)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)random_state * below >> 32);
}

/* Each packet comes up to `most_us` late, behind `most_places` others at most; stamped when it is written. */
static void reorder(const struct packets *from, struct packets *to, uint32_t most_us, size_t most_places)
{
    for (size_t i = 0; i < from->count; i++) {
        packets_add_copy(to, &from->at[i]);
    }
    for (size_t i = 0; i < to->count; i++) {
        size_t places = any((uint32_t)most_places + 1);
        for (size_t at = i; places > 0 && at + 1 < to->count; at++, places--) {
            struct packet_copy *late = &to->at[at], *next = late + 1;
            if (next->unix_us - late->unix_us > most_us) {
                break;
            }
            struct packet_copy swap = *late;
            int64_t first_us = late->unix_us, second_us = next->unix_us;
            *late = *next;
            *next = swap;
            late->unix_us = first_us;
            next->unix_us = second_us;
        }
    }
}

static void reorder_little(const struct packets *from, struct packets *to)
{
    reorder(from, to, 3000, 3);
}

static void reorder_much(const struct packets *from, struct packets *to)
{
    reorder(from, to, 30000, 4);
}

static void double_each(const struct packets *from, struct packets *to, int64_t later_us)
{
    for (size_t i = 0; i < from->count; i++) {
        packets_add_copy(to, &from->at[i]);
        packets_add_copy(to, &from->at[i]);
        to->at[to->count - 1].unix_us += later_us;
        to->at[to->count - 2].unix_us = from->at[i].unix_us;
    }
}

static void twice_at_once(const struct packets *from, struct packets *to)
{
    double_each(from, to, 3);
}

/* Two points of one router in one capture: the second has seen one hop more. */
static void twice_forwarded(const struct packets *from, struct packets *to)
{
    double_each(from, to, 9);
    for (size_t i = 1; i < to->count; i += 2) {
        uint8_t *octets = to->at[i].octets;
        if (to->at[i].captured >= 20) {
            octets[octets[0] >> 4 == 4 ? 8 : 7]--;
        }
    }
}

static int by_time(const void *a, const void *b)
{
    const struct packet_copy *left = a, *right = b;
    return left->unix_us < right->unix_us ? -1 : left->unix_us > right->unix_us;
}

/* The same, behind a router that takes its time: others come between a packet and its copy. */
static void twice_queued(const struct packets *from, struct packets *to)
{
    twice_forwarded(from, to);
    for (size_t i = 0; i < to->count; i++) { /* a stable order for those of one microsecond */
        int64_t later_us = i % 2 == 1 ? (int64_t)any(3000) : 0;
        to->at[i].unix_us = (to->at[i].unix_us + later_us) * 1024 + (int64_t)i % 1024;
    }
    qsort(to->at, to->count, sizeof *to->at, by_time);
    for (size_t i = 0; i < to->count; i++) {
        to->at[i].unix_us /= 1024;
    }
}

static void lose_some(const struct packets *from, struct packets *to)
{
    for (size_t i = 0; i < from->count; i++) {
        if (any(20) != 0) {
            packets_add_copy(to, &from->at[i]);
        }
    }
}

/* It begins somewhere in the middle of everything. */
static void cut_the_beginning(const struct packets *from, struct packets *to)
{
    for (size_t i = any((uint32_t)from->count); i < from->count; i++) {
        packets_add_copy(to, &from->at[i]);
    }
}

/* The direction of each capture's first TCP packet and what ICMP says to its sender, or the rest. By ports too: on a loopback both
 * addresses are the same. */
static void keep_direction(const struct packets *from, struct packets *to, bool first)
{
    struct packet packet, opening;
    bool begun = false;
    for (size_t i = 0; i < from->count; i++) {
        const struct packet_copy *copy = &from->at[i];
        if (packet_parse(&packet, copy->octets, copy->captured, copy->length) != PACKET_OK) {
            continue;
        }
        opening = begun ? opening : packet;
        begun = true;
        bool same = memcmp(&packet.source, &opening.source, 16) == 0 &&
                    memcmp(&packet.destination, &opening.destination, 16) == 0 &&
                    (packet.source.port == opening.source.port ||
                     packet.destination.port == opening.destination.port);
        if ((same == (packet.kind == PACKET_TCP)) == first) {
            packets_add_copy(to, copy);
        }
    }
}

static void keep_first_direction(const struct packets *from, struct packets *to)
{
    keep_direction(from, to, true);
}

static void keep_other_direction(const struct packets *from, struct packets *to)
{
    keep_direction(from, to, false);
}

/* tcpdump -s 96 on Ethernet. */
static void snap_96(const struct packets *from, struct packets *to)
{
    for (size_t i = 0; i < from->count; i++) {
        packets_add_copy(to, &from->at[i]);
        to->at[i].captured = to->at[i].captured < 82 ? to->at[i].captured : 82;
    }
}

static void snap_54(const struct packets *from, struct packets *to)
{
    for (size_t i = 0; i < from->count; i++) {
        packets_add_copy(to, &from->at[i]);
        size_t most = from->at[i].octets[0] >> 4 == 4 ? 40 : 60;
        to->at[i].captured = to->at[i].captured < most ? to->at[i].captured : most;
    }
}

static void pace(const struct packets *from, struct packets *to, unsigned numerator, unsigned denominator)
{
    for (size_t i = 0; i < from->count; i++) {
        packets_add_copy(to, &from->at[i]);
        to->at[i].unix_us =
            from->at[0].unix_us + (from->at[i].unix_us - from->at[0].unix_us) * numerator / denominator;
    }
}

static void half_pace(const struct packets *from, struct packets *to)
{
    pace(from, to, 2, 1);
}

static void double_pace(const struct packets *from, struct packets *to)
{
    pace(from, to, 1, 2);
}

/* TCP packets of IPv4 as IPv6; their captured octets beyond the IP header stay. */
static void as_ipv6(const struct packets *from, struct packets *to)
{
    static uint8_t octets[PACKET_ROOM + 40];
    for (size_t i = 0; i < from->count; i++) {
        const struct packet_copy *copy = &from->at[i];
        size_t header = copy->captured >= 20 ? (size_t)(copy->octets[0] & 15) * 4 : 0;
        if (copy->octets[0] >> 4 != 4 || header < 20 || header > copy->captured || copy->octets[9] != 6) {
            packets_add_copy(to, copy);
            continue;
        }
        size_t total = (size_t)copy->octets[2] << 8 | copy->octets[3];
        total = total < header ? copy->length : total;
        size_t payload = total - header, captured = copy->captured - header;
        captured = captured < payload ? captured : payload;
        memset(octets, 0, 40);
        octets[0] = 0x60;
        octets[4] = (uint8_t)(payload >> 8);
        octets[5] = (uint8_t)payload;
        octets[6] = 6;
        octets[7] = copy->octets[8];
        octets[8] = octets[24] = 0xfd;
        memcpy(octets + 20, copy->octets + 12, 4);
        memcpy(octets + 36, copy->octets + 16, 4);
        memcpy(octets + 40, copy->octets + header, captured);
        packets_add(to, octets, captured + 40, payload + 40, copy->unix_us);
    }
}

#define FRAGMENT_OCTETS 24

static void put_fragment(struct packets *to, const struct packet_copy *copy, size_t header, size_t offset,
                         size_t size, bool more, uint16_t id)
{
    static uint8_t octets[PACKET_ROOM];
    bool four = copy->octets[0] >> 4 == 4;
    size_t front = four ? header : header + 8;
    memcpy(octets, copy->octets, header);
    if (four) {
        octets[2] = (uint8_t)((front + size) >> 8);
        octets[3] = (uint8_t)(front + size);
        octets[6] = (uint8_t)((more ? 0x20 : 0) | offset >> 11);
        octets[7] = (uint8_t)(offset >> 3);
    } else {
        octets[4] = (uint8_t)((8 + size) >> 8);
        octets[5] = (uint8_t)(8 + size);
        octets[6] = 44;
        memset(octets + header, 0, 8);
        octets[header] = copy->octets[6];
        octets[header + 2] = (uint8_t)(offset >> 8);
        octets[header + 3] = (uint8_t)(offset | (more ? 1 : 0));
        octets[header + 6] = (uint8_t)(id >> 8);
        octets[header + 7] = (uint8_t)id;
    }
    memcpy(octets + front, copy->octets + header + offset, size);
    packets_add(to, octets, front + size, front + size, copy->unix_us);
}

/* Every packet in pieces that are too small for a TCP header with options, the last one first when `backwards`. */
static void in_fragments(const struct packets *from, struct packets *to, bool backwards)
{
    for (size_t i = 0; i < from->count; i++) {
        const struct packet_copy *copy = &from->at[i];
        bool four = copy->octets[0] >> 4 == 4;
        size_t header = four ? (size_t)(copy->octets[0] & 15) * 4 : 40;
        bool tcp = copy->captured > header && copy->octets[four ? 9 : 6] == 6;
        size_t total = four ? (size_t)copy->octets[2] << 8 | copy->octets[3]
                            : ((size_t)copy->octets[4] << 8 | copy->octets[5]) + 40;
        if (!tcp || total > copy->captured || total <= header + FRAGMENT_OCTETS) {
            packets_add_copy(to, copy);
            continue;
        }
        size_t count = (total - header + FRAGMENT_OCTETS - 1) / FRAGMENT_OCTETS;
        size_t each = FRAGMENT_OCTETS;
        if (count > 4) { /* a big one in four */
            each = ((total - header) / 4 + 7) / 8 * 8;
            count = (total - header + each - 1) / each;
        }
        for (size_t n = 0; n < count; n++) {
            size_t part = backwards ? count - 1 - n : n;
            size_t offset = part * each, left = total - header - offset;
            put_fragment(to, copy, header, offset, left < each ? left : each, left > each, (uint16_t)i);
        }
    }
}

static void fragments(const struct packets *from, struct packets *to)
{
    in_fragments(from, to, false);
}

static void fragments_backwards(const struct packets *from, struct packets *to)
{
    in_fragments(from, to, true);
}

static void v6_fragments(const struct packets *from, struct packets *to)
{
    struct packets middle = {0};
    as_ipv6(from, &middle);
    in_fragments(&middle, to, false);
    packets_clear(&middle);
}

static void fragments_lost(const struct packets *from, struct packets *to)
{
    struct packets middle = {0};
    in_fragments(from, &middle, false);
    lose_some(&middle, to);
    packets_clear(&middle);
}

static uint32_t get32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static void add32(uint8_t *at, uint32_t number)
{
    number += get32(at);
    for (unsigned i = 0; i < 4; i++) {
        at[i] = (uint8_t)(number >> (24 - 8 * i));
    }
}

static unsigned direction_of(const struct packet *packet)
{
    int order = memcmp(packet->source.octets, packet->destination.octets, 16);
    return order < 0 || (order == 0 && packet->source.port < packet->destination.port) ? 0 : 1;
}

/* The numbers of a packet of IPv4 or IPv6 without extension headers, moved by what belongs to each direction. */
static void shift_numbers(struct packet_copy *copy, const uint32_t by[2])
{
    struct packet packet;
    if (packet_parse(&packet, copy->octets, copy->captured, copy->length) != PACKET_OK) {
        return;
    }
    unsigned way = direction_of(&packet);
    bool four = copy->octets[0] >> 4 == 4;
    size_t ip = four ? (size_t)(copy->octets[0] & 15) * 4 : 40;
    if (packet.kind == PACKET_ICMP_ERROR) {
        size_t quoted = ip + 8 + (four ? (size_t)(copy->octets[ip + 8] & 15) * 4 : 40);
        add32(copy->octets + quoted + 4, by[way]);
        return;
    }
    uint8_t *tcp = copy->octets + ip;
    add32(tcp + 4, by[way]);
    if (packet.flags & PACKET_ACK) {
        add32(tcp + 8, by[1 - way]);
    }
    size_t end = (size_t)(tcp[12] >> 4) * 4;
    end = end < copy->captured - ip ? end : copy->captured - ip;
    for (size_t at = 20; at < end;) {
        size_t size = tcp[at] <= 1 ? 1 : at + 1 < end ? tcp[at + 1] : 0;
        if (tcp[at] == 0 || size == 0 || size > end - at) {
            return;
        }
        for (size_t edge = at + 2; tcp[at] == 5 && edge + 4 <= at + size; edge += 4) {
            add32(tcp + edge, by[1 - way]);
        }
        at += size;
    }
}

/* The numbers pass 2^32 in the middle of one segment of each direction: in a line, in a body, in a handshake. */
static void wrap_numbers(const struct packets *from, struct packets *to)
{
    uint32_t by[2] = {0, 0}, seen[2] = {0, 0};
    for (size_t i = 0; i < from->count; i++) {
        struct packet packet;
        packets_add_copy(to, &from->at[i]);
        if (packet_parse(&packet, from->at[i].octets, from->at[i].captured, from->at[i].length) ==
                PACKET_OK &&
            packet.kind == PACKET_TCP && packet.payload_length > 0) {
            unsigned way = direction_of(&packet);
            by[way] =
                any(++seen[way]) == 0 ? 0 - packet.sequence - (uint32_t)packet.payload_length / 2 : by[way];
        }
    }
    for (size_t i = 0; i < to->count; i++) {
        shift_numbers(&to->at[i], by);
    }
}

/* The same again a second later or three, on the same ports with other numbers: while the first is in TIME-WAIT, if it ended. */
static void again_on_the_same_ports(const struct packets *from, struct packets *to)
{
    const uint32_t by[2] = {0x12345678 + any(1u << 30), 0x789abcde + any(1u << 30)};
    int64_t later_us =
        from->at[from->count - 1].unix_us - from->at[0].unix_us + (any(2) == 0 ? 1000000 : 3000000);
    for (unsigned round = 0; round < 2; round++) {
        for (size_t i = 0; i < from->count; i++) {
            packets_add_copy(to, &from->at[i]);
            if (round == 1) {
                to->at[to->count - 1].unix_us += later_us;
                shift_numbers(&to->at[to->count - 1], by);
            }
        }
    }
}

/* A reset in the name of the sender of `copy` (IPv4), or of its receiver, whose TTL is `ttl`. */
static void add_reset(struct packets *to, const struct packet_copy *copy, bool by_sender, uint8_t ttl,
                      int64_t unix_us)
{
    struct packet packet;
    uint8_t octets[40] = {0};
    if (copy->octets[0] != 0x45 ||
        packet_parse(&packet, copy->octets, copy->captured, copy->length) != PACKET_OK ||
        packet.kind != PACKET_TCP) {
        return;
    }
    memcpy(octets, copy->octets, 32);
    octets[2] = 0;
    octets[3] = 40;
    octets[4] ^= 0x55; /* another IP ID */
    octets[8] = ttl;
    uint32_t sequence = packet.sequence + packet_sequence_length(&packet);
    if (!by_sender) {
        sequence = packet.acknowledgement;
        memcpy(octets + 12, copy->octets + 16, 4);
        memcpy(octets + 16, copy->octets + 12, 4);
        memcpy(octets + 20, copy->octets + 22, 2);
        memcpy(octets + 22, copy->octets + 20, 2);
    }
    memset(octets + 24, 0, 4);
    add32(octets + 24, sequence);
    octets[32] = 0x50;
    octets[33] = PACKET_RST;
    packets_add(to, octets, 40, 40, unix_us);
}

/* Behind everything, the side of every FIN resets, too. */
static void resets_behind(const struct packets *from, struct packets *to)
{
    for (size_t i = 0; i < from->count; i++) {
        packets_add_copy(to, &from->at[i]);
    }
    for (size_t i = 0; i < from->count; i++) {
        struct packet packet;
        const struct packet_copy *copy = &from->at[i];
        if (packet_parse(&packet, copy->octets, copy->captured, copy->length) == PACKET_OK &&
            packet.kind == PACKET_TCP && (packet.flags & PACKET_FIN)) {
            add_reset(to, copy, true, packet.ttl, from->at[from->count - 1].unix_us + 1000);
        }
    }
}

/* Everything ends with a reset behind the first QUIT that stands alone, nothing else being unanswered. */
static void reset_behind_quit(const struct packets *from, struct packets *to, bool by_client)
{
    static const char quit[] = "QUIT\r\n";
    unsigned spoke_last = 2;
    uint8_t ttl[2] = {0, 0};
    for (size_t i = 0; i < from->count; i++) {
        struct packet packet;
        const struct packet_copy *copy = &from->at[i];
        packets_add_copy(to, copy);
        if (packet_parse(&packet, copy->octets, copy->captured, copy->length) != PACKET_OK ||
            packet.kind != PACKET_TCP) {
            continue;
        }
        unsigned way = direction_of(&packet);
        ttl[way] = packet.ttl;
        if (packet.payload_captured == sizeof quit - 1 && spoke_last == 1 - way &&
            memcmp(packet.payload, quit, sizeof quit - 1) == 0) {
            add_reset(to, copy, by_client, ttl[by_client ? way : 1 - way], copy->unix_us + 30000);
            return;
        }
        spoke_last = packet.payload_length > 0 ? way : spoke_last;
    }
}

static void client_resets_behind_quit(const struct packets *from, struct packets *to)
{
    reset_behind_quit(from, to, true);
}

static void server_resets_behind_quit(const struct packets *from, struct packets *to)
{
    reset_behind_quit(from, to, false);
}

/* ---- what must hold ---- */

enum rule {
    RULE_SAME,       /* the same fault and cause for every session */
    RULE_NO_NEW,     /* nobody is blamed who was not blamed before */
    RULE_TWO_EACH,   /* ... and what was clean is so twice */
    RULE_NEW_UNSURE, /* ... or it is called possible at most */
    RULE_NO_FAULT,   /* where nobody was blamed, nobody is */
    RULE_NOT_SURE,   /* ... or it is called possible at most */
    RULE_INNOCENT,   /* nobody is blamed; but for a connection without octets, which looks the same */
};

static const struct variant {
    const char *name;
    void (*make)(const struct packets *from, struct packets *to);
    enum rule rule;
    unsigned seeds;
} variants[] = {
    {"three places late", reorder_little, RULE_NO_FAULT, 12},
    {"four places late", reorder_much, RULE_NO_FAULT, 24},
    {"every packet twice", twice_at_once, RULE_SAME, 1},
    {"every packet before and behind a router", twice_forwarded, RULE_NO_NEW, 1},
    {"every packet before and behind a slow router", twice_queued, RULE_NO_FAULT, 12},
    {"5 % lost by the capture", lose_some, RULE_NOT_SURE, 30},
    {"without its beginning", cut_the_beginning, RULE_NEW_UNSURE, 16},
    {"one direction", keep_first_direction, RULE_INNOCENT, 1},
    {"the other direction", keep_other_direction, RULE_INNOCENT, 1},
    {"snap length 96", snap_96, RULE_INNOCENT, 1},
    {"headers alone", snap_54, RULE_INNOCENT, 1},
    {"half the pace", half_pace, RULE_NO_FAULT, 1},
    {"twice the pace", double_pace, RULE_NO_FAULT, 1},
    {"as IPv6", as_ipv6, RULE_NO_NEW, 1},
    {"in fragments", fragments, RULE_SAME, 1},
    {"in fragments, the last first", fragments_backwards, RULE_SAME, 1},
    {"in fragments of IPv6", v6_fragments, RULE_NO_NEW, 1},
    {"in fragments, 5 % of them lost", fragments_lost, RULE_NOT_SURE, 10},
    {"numbers that wrap", wrap_numbers, RULE_SAME, 12},
    {"again on the same ports", again_on_the_same_ports, RULE_TWO_EACH, 4},
    {"resets behind the end", resets_behind, RULE_NO_NEW, 1},
    {"the client resets behind QUIT", client_resets_behind_quit, RULE_NO_FAULT, 1},
    {"the server resets behind QUIT", server_resets_behind_quit, RULE_NO_FAULT, 1},
};

static bool is_blame(const struct outcome *outcome)
{
    return outcome->fault != FAULT_NONE && outcome->fault != FAULT_UNKNOWN;
}

static bool same_session(const struct outcome *a, const struct outcome *b)
{
    return a->client_port == b->client_port && a->server_port == b->server_port;
}

/* Was that party blamed before, or not excluded? */
static bool is_known(const struct outcomes *before, const struct outcome *outcome)
{
    for (size_t i = 0; i < before->count; i++) {
        const struct outcome *old = &before->at[i];
        if (same_session(old, outcome) && is_blame(old) &&
            (old->fault == outcome->fault || (old->also >> outcome->fault & 1u) != 0)) {
            return true;
        }
    }
    return false;
}

/* Whoever was blamed before is not excluded now. */
static bool is_left_open(const struct outcomes *before, const struct outcome *outcome)
{
    for (size_t i = 0; i < before->count; i++) {
        const struct outcome *old = &before->at[i];
        if (same_session(old, outcome) && is_blame(old) && (outcome->also >> old->fault & 1u) != 0) {
            return true;
        }
    }
    return false;
}

static bool is_same(const struct outcomes *before, const struct outcomes *after)
{
    bool same = before->count == after->count;
    for (size_t i = 0; same && i < after->count; i++) {
        bool found = false;
        for (size_t j = 0; !found && j < before->count; j++) {
            found = same_session(&before->at[j], &after->at[i]) &&
                    before->at[j].fault == after->at[i].fault && before->at[j].cause == after->at[i].cause;
        }
        same = found;
    }
    return same;
}

/* Was somebody blamed for this connection before; with octets in it? */
static bool was_blamed(const struct outcomes *before, const struct outcome *outcome, bool silent_only)
{
    for (size_t i = 0; i < before->count; i++) {
        const struct outcome *old = &before->at[i];
        if (same_session(old, outcome) && is_blame(old) && !(silent_only && old->spoke)) {
            return true;
        }
    }
    return false;
}

static bool outcome_holds(enum rule rule, const struct outcomes *before, const struct outcome *outcome)
{
    if (!is_blame(outcome)) {
        return true;
    }
    switch (rule) {
    case RULE_SAME:
        return true; /* is_same() */
    case RULE_NO_NEW:
    case RULE_TWO_EACH:
        return is_known(before, outcome);
    case RULE_NEW_UNSURE:
        return is_known(before, outcome) || is_left_open(before, outcome) ||
               outcome->confidence == CONFIDENCE_POSSIBLE;
    case RULE_NO_FAULT:
        return was_blamed(before, outcome, false);
    case RULE_NOT_SURE:
        return was_blamed(before, outcome, false) || outcome->confidence == CONFIDENCE_POSSIBLE;
    case RULE_INNOCENT:
        return was_blamed(before, outcome, true);
    }
    return false;
}

/* Sessions without a fault whose beginning was captured: each must have been found again. */
static bool is_doubled(const struct packets *packets, const struct outcomes *before,
                       const struct outcomes *after)
{
    struct packet packet;
    const struct packet_copy *first = &packets->at[0];
    bool whole = before->count > 0 &&
                 packet_parse(&packet, first->octets, first->captured, first->length) == PACKET_OK &&
                 (packet.flags & (PACKET_SYN | PACKET_ACK)) == PACKET_SYN;
    for (size_t i = 0; i < before->count; i++) {
        whole = whole && before->at[i].cause == CAUSE_CLEAN;
    }
    return !whole || after->count == 2 * before->count;
}

static bool holds(enum rule rule, const struct packets *packets, const struct outcomes *before,
                  const struct outcomes *after)
{
    bool good = rule == RULE_SAME ? is_same(before, after)
                                  : rule != RULE_TWO_EACH || is_doubled(packets, before, after);
    for (size_t i = 0; i < after->count; i++) {
        good = good && outcome_holds(rule, before, &after->at[i]);
    }
    return good;
}

static void print_outcomes(const struct outcomes *outcomes)
{
    for (size_t i = 0; i < outcomes->count; i++) {
        const struct outcome *outcome = &outcomes->at[i];
        printf("%s%u>%u %s %s %s", i == 0 ? "" : ", ", outcome->client_port, outcome->server_port,
               fault_name(outcome->fault), cause_name(outcome->cause), confidence_name(outcome->confidence));
    }
}

static unsigned passed, failed;

static void check(const struct settings *settings, const char *path, const char *keep)
{
    static struct outcomes before, after;
    struct packets packets = {0};
    if (!packets_read(&packets, path)) {
        failed++;
        return;
    }
    const char *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path;
    judge(settings, &packets, &before);
    for (size_t i = 0; packets.count > 0 && i < sizeof variants / sizeof variants[0]; i++) {
        const struct variant *variant = &variants[i];
        for (unsigned seed = 1; seed <= variant->seeds; seed++) {
            struct packets changed = {0};
            random_state = seed;
            variant->make(&packets, &changed);
            judge(settings, &changed, &after);
            if (holds(variant->rule, &packets, &before, &after)) {
                passed++;
            } else {
                failed++;
                printf("not ok %s, %s (%u): was ", name, variant->name, seed);
                print_outcomes(&before);
                printf("; became ");
                print_outcomes(&after);
                printf("\n");
                if (keep != NULL) {
                    char kept[512];
                    snprintf(kept, sizeof kept, "%s/%s.%zu-%u.pcap", keep, name, i, seed);
                    packets_write(&changed, kept);
                }
            }
            packets_clear(&changed);
        }
    }
    packets_clear(&packets);
}

int main(int count, char **words)
{
    const char *keep = NULL;
    int first = 1;
    struct settings_error error;
    if (count > 2 && strcmp(words[1], "--keep") == 0) {
        keep = words[2];
        first = 3;
    }
    if (first >= count) {
        fprintf(stderr, "usage: properties [--keep DIRECTORY] FILE...\n");
        return 2;
    }
    struct settings *settings = settings_load(NULL, &error);
    if (settings == NULL) {
        fprintf(stderr, "properties: %s\n", error.text);
        return 1;
    }
    for (int i = first; i < count; i++) {
        check(settings, words[i], keep);
    }
    settings_destroy(settings);
    printf("%u passed, %u failed, 0 skipped\n", passed, failed);
    return failed == 0 ? 0 : 1;
}
