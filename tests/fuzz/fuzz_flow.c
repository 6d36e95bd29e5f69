/* fuzz_flow - any sequence of segments, of two connections on the same four numbers, through the tracker. Each step of
 * the input is six octets and a payload: which side, flags, how far from where the side stands, what it acknowledges,
 * how much time passes. Bounds hold, time accounts add up, every session ends with one record. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/fault/ledger.h"
#include "core/tcp/flow_internal.h"
#include "core/tracker/tracker.h"

#define STEP_OCTETS 6
#define MAX_FLOWS   16

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned opened, ended;

static void require(bool holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "%s\n", what);
        abort();
    }
}

static void on_record(void *context, struct tracker_session *tracked, const struct record *record)
{
    char line[RECORD_LINE_OCTETS];
    (void)context;
    (void)tracked;
    require(record_to_logfmt(record, line) < RECORD_LINE_OCTETS, "a line too long");
    if (record->kind == RECORD_VERDICT) {
        ended++;
        require(ledger_sum_us(&record->ledger) == record->duration_us, "the accounts do not add up");
    }
}

static void on_step(void *context, struct tracker_session *tracked, enum tracker_step step, enum side side,
                    uint64_t now_us)
{
    (void)context;
    (void)side;
    (void)now_us;
    opened += step == TRACKER_STEP_OPENED ? 1 : 0;
    for (unsigned i = 0; i < SIDE_PAIR; i++) {
        const struct flow_side *own = &tracked->entry->flow.sides[i];
        uint32_t kept;
        require(stream_kept(own, &kept) <= FLOW_PIECES && kept <= FLOW_KEPT_OCTETS, "more kept than allowed");
    }
}

static void on_dropped(void *context, struct tracker_session *tracked)
{
    (void)context;
    (void)tracked;
    opened--;
}

static void put16(uint8_t *at, unsigned value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static void put32(uint8_t *at, uint32_t value)
{
    put16(at, value >> 16);
    put16(at + 2, value & 0xffff);
}

/* Small steps, and now and then a leap. */
static uint32_t near(uint8_t octet)
{
    return octet < 200 ? 0u : octet < 240 ? (uint32_t)octet - 220u : (uint32_t)octet << 22;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct policy_settings policy = {
        .timeouts = {.idle_us = 60000000, .stall_notice_us = 5000000}};
    struct tracker_options options = {
        .mode = RECORD_REPLAY,
        .policy = &policy,
        .max_flows = MAX_FLOWS,
        .any_port = true,
        .callbacks = {.record = on_record, .step = on_step, .dropped = on_dropped}};
    struct tracker *tracker = tracker_create(&options);
    uint32_t at[2] = {0xfffffff0u, 1000};
    uint64_t now_us = 1000000;
    uint8_t packet[40 + 256];
    require(tracker != NULL, "no memory");
    tracker_set_port(tracker, 25, TRACKER_PORT_SMTP);
    opened = ended = 0;
    while (size >= STEP_OCTETS) {
        unsigned side = data[0] & 1;
        size_t length = data[5];
        data += STEP_OCTETS;
        size -= STEP_OCTETS;
        length = length < size ? length : size;
        const uint8_t *step = data - STEP_OCTETS;
        memset(packet, 0, 40);
        packet[0] = 0x45;
        put16(packet + 2, 40 + (unsigned)length);
        put16(packet + 4, step[4]);
        packet[8] = (uint8_t)(60 + (step[0] >> 6));
        packet[9] = 6;
        packet[12] = packet[16] = 10;
        packet[side == 0 ? 15 : 19] = 1;
        packet[side == 0 ? 19 : 15] = 2;
        unsigned client_port = 1000 + (step[0] >> 1 & 1), server_port = (step[0] >> 2 & 1) ? 26 : 25;
        put16(packet + 20, side == 0 ? client_port : server_port);
        put16(packet + 22, side == 0 ? server_port : client_port);
        put32(packet + 24, at[side] + near(step[2]));
        put32(packet + 28, at[1 - side] + near(step[3]));
        packet[32] = 0x50;
        packet[33] = step[1] & 0x1f;
        put16(packet + 34, step[4] & 1 ? 0 : 500);
        memcpy(packet + 40, data, length);
        data += length;
        size -= length;
        at[side] += (uint32_t)length + ((step[1] & (PACKET_SYN | PACKET_FIN)) != 0 ? 1 : 0);
        now_us += (uint64_t)(step[4] & 0x3f) * (step[4] & 0x40 ? 1000000 : 100);
        tracker_on_packet(tracker, packet, 40 + length, 40 + length, now_us, (int64_t)(now_us / 1000));
    }
    struct tracker_stats stats;
    tracker_stats(tracker, &stats);
    require(stats.flows_now <= MAX_FLOWS, "more flows than allowed");
    tracker_finish(tracker, now_us);
    require(opened == ended, "a session without a record");
    tracker_destroy(tracker);
    return 0;
}
