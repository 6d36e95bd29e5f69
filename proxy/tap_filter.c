#include "proxy/tap_filter.h"

#include <assert.h>
#include <linux/if_ether.h>

/* Jumps to labels: positive offsets only (BPF knows no other), patched when the label is placed. */
#define LABELS      4
#define LABEL_PASS  0
#define LABEL_DROP  1
#define LABEL_TCP   2
#define LABEL_OTHER 3
#define NEXT        0xff /* no label: the next instruction */

struct builder {
    struct tap_filter *filter;
    uint8_t true_label[TAP_FILTER_MAX], false_label[TAP_FILTER_MAX];
};

static void begin(struct builder *builder, struct tap_filter *filter)
{
    builder->filter = filter;
    filter->count = 0;
}

static void put(struct builder *builder, uint16_t code, uint32_t operand, uint8_t true_label,
                uint8_t false_label)
{
    struct tap_filter *filter = builder->filter;

    assert(filter->count < TAP_FILTER_MAX);
    builder->true_label[filter->count] = true_label;
    builder->false_label[filter->count] = false_label;
    filter->code[filter->count++] = (struct sock_filter){.code = code, .k = operand};
}

static void load(struct builder *builder, uint16_t code, uint32_t operand)
{
    put(builder, code, operand, NEXT, NEXT);
}

static void jump(struct builder *builder, uint16_t code, uint32_t operand, uint8_t true_label,
                 uint8_t false_label)
{
    put(builder, (uint16_t)(BPF_JMP | code | BPF_K), operand, true_label, false_label);
}

/* The next instruction is where `label` leads. */
static void place(struct builder *builder, uint8_t label)
{
    struct tap_filter *filter = builder->filter;

    for (size_t index = 0; index < filter->count; index++) {
        const size_t distance = filter->count - index - 1;

        if (builder->true_label[index] == label || builder->false_label[index] == label)
            assert(distance <= 0xff);
        if (builder->true_label[index] == label) {
            filter->code[index].jt = (uint8_t)distance;
            builder->true_label[index] = NEXT;
        }
        if (builder->false_label[index] == label) {
            filter->code[index].jf = (uint8_t)distance;
            builder->false_label[index] = NEXT;
        }
    }
}

static void finish(struct builder *builder)
{
    place(builder, LABEL_DROP);
    load(builder, BPF_RET | BPF_K, 0);
    place(builder, LABEL_PASS);
    load(builder, BPF_RET | BPF_K, TAP_FILTER_SNAP);
}

/* The TCP header begins at X. */
static void match_ports(struct builder *builder, const uint16_t *ports, size_t port_count)
{
    for (uint32_t offset = 0; offset <= 2; offset += 2) {
        load(builder, BPF_LD | BPF_H | BPF_IND, offset);
        for (size_t index = 0; index < port_count; index++)
            jump(builder, BPF_JEQ, ports[index], LABEL_PASS, NEXT);
    }
    /* What matches none falls through: the caller drops it. */
}

static void match_reset_or_syn_ack(struct builder *builder, const uint16_t *ports, size_t port_count)
{
    const size_t ports_at_least = 2; /* jumps over "and, jeq" */

    load(builder, BPF_LD | BPF_B | BPF_IND, 13);
    put(builder, BPF_JMP | BPF_JSET | BPF_K, 0x04, NEXT, NEXT);
    builder->filter->code[builder->filter->count - 1].jt = (uint8_t)ports_at_least;
    load(builder, BPF_ALU | BPF_AND | BPF_K, 0x12);
    jump(builder, BPF_JEQ, 0x12, NEXT, LABEL_DROP);
    match_ports(builder, ports, port_count);
}

void tap_filter_watch(struct tap_filter *filter, bool ipv6, const uint16_t *ports, size_t port_count)
{
    struct builder builder;

    begin(&builder, filter);
    if (port_count > TAP_FILTER_MAX_PORTS)
        port_count = TAP_FILTER_MAX_PORTS;
    if (ipv6) {
        load(&builder, BPF_LD | BPF_B | BPF_ABS, 6);
        jump(&builder, BPF_JEQ, 6, LABEL_TCP, NEXT);
        jump(&builder, BPF_JEQ, 58, NEXT, LABEL_DROP);
        load(&builder, BPF_LD | BPF_B | BPF_ABS, 40);
        jump(&builder, BPF_JEQ, 0, LABEL_DROP, NEXT);
        jump(&builder, BPF_JGT, 4, LABEL_DROP, LABEL_PASS);
        place(&builder, LABEL_TCP);
        load(&builder, BPF_LDX | BPF_W | BPF_IMM, 40);
    } else {
        load(&builder, BPF_LDX | BPF_B | BPF_MSH, 0);
        load(&builder, BPF_LD | BPF_B | BPF_ABS, 9);
        jump(&builder, BPF_JEQ, 6, LABEL_TCP, NEXT);
        jump(&builder, BPF_JEQ, 1, NEXT, LABEL_DROP);
        load(&builder, BPF_LD | BPF_B | BPF_IND, 0);
        jump(&builder, BPF_JEQ, 3, LABEL_PASS, LABEL_DROP);
        place(&builder, LABEL_TCP);
        load(&builder, BPF_LD | BPF_H | BPF_ABS, 6);
        jump(&builder, BPF_JSET, 0x1fff, LABEL_DROP, NEXT);
    }
    match_reset_or_syn_ack(&builder, ports, port_count);
    finish(&builder);
}

/* A = length of the TCP segment, X = where it begins; drops it unless it has no payload, and SYN and RST. */
static void match_bare(struct builder *builder)
{
    load(builder, BPF_ST, 0);
    load(builder, BPF_LD | BPF_B | BPF_IND, 13);
    jump(builder, BPF_JSET, 0x06, LABEL_DROP, NEXT);
    load(builder, BPF_LD | BPF_B | BPF_IND, 12);
    load(builder, BPF_ALU | BPF_AND | BPF_K, 0xf0);
    load(builder, BPF_ALU | BPF_RSH | BPF_K, 2);
    load(builder, BPF_STX, 1);
    load(builder, BPF_LDX | BPF_W | BPF_MEM, 0);
    load(builder, BPF_ALU | BPF_SUB | BPF_X, 0);
    load(builder, BPF_LDX | BPF_W | BPF_MEM, 1);
    jump(builder, BPF_JEQ, 0, NEXT, LABEL_DROP);
}

void tap_filter_acks(struct tap_filter *filter, const uint16_t *ports, size_t port_count)
{
    struct builder builder;

    begin(&builder, filter);
    if (port_count > TAP_FILTER_MAX_PORTS)
        port_count = TAP_FILTER_MAX_PORTS;
    load(&builder, BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_PROTOCOL));
    jump(&builder, BPF_JEQ, ETH_P_IPV6, LABEL_OTHER, NEXT);
    jump(&builder, BPF_JEQ, ETH_P_IP, NEXT, LABEL_DROP);
    load(&builder, BPF_LD | BPF_B | BPF_ABS, 9);
    jump(&builder, BPF_JEQ, 6, NEXT, LABEL_DROP);
    load(&builder, BPF_LD | BPF_H | BPF_ABS, 6);
    jump(&builder, BPF_JSET, 0x1fff, LABEL_DROP, NEXT);
    load(&builder, BPF_LDX | BPF_B | BPF_MSH, 0);
    load(&builder, BPF_LD | BPF_H | BPF_ABS, 2);
    load(&builder, BPF_ALU | BPF_SUB | BPF_X, 0);
    match_bare(&builder);
    match_ports(&builder, ports, port_count);
    jump(&builder, BPF_JEQ, 0, LABEL_DROP, LABEL_DROP);
    place(&builder, LABEL_OTHER);
    load(&builder, BPF_LD | BPF_B | BPF_ABS, 6);
    jump(&builder, BPF_JEQ, 6, NEXT, LABEL_DROP);
    load(&builder, BPF_LDX | BPF_W | BPF_IMM, 40);
    load(&builder, BPF_LD | BPF_H | BPF_ABS, 4);
    match_bare(&builder);
    match_ports(&builder, ports, port_count);
    finish(&builder);
}

void tap_filter_none(struct tap_filter *filter)
{
    struct builder builder;

    begin(&builder, filter);
    load(&builder, BPF_RET | BPF_K, 0);
}
