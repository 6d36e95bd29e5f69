#include "replay/link.h"

#include <pcap/dlt.h>

/* EtherTypes: IEEE 802 numbers. */
#define TYPE_IPV4      0x0800
#define TYPE_IPV6      0x86dd
#define TYPE_VLAN      0x8100 /* IEEE 802.1Q */
#define TYPE_QINQ      0x88a8 /* IEEE 802.1ad */
#define TYPE_QINQ_OLD  0x9100
#define TYPE_PPPOE     0x8864 /* RFC 2516 */
#define TYPE_MPLS      0x8847 /* RFC 3032 */
#define TYPE_MPLS_MORE 0x8848
#define PPP_IPV4       0x0021 /* RFC 1661, RFC 1332, RFC 5072 */
#define PPP_IPV6       0x0057
#define LENGTH_MAX     1500 /* a type field up to here is an 802.3 length */

static uint16_t get16(const uint8_t *at)
{
    return (uint16_t)((uint16_t)at[0] << 8 | at[1]);
}

static bool advance(struct link_payload *payload, size_t count)
{
    if (payload->captured < count || payload->length < count) {
        return false;
    }
    payload->octets += count;
    payload->captured -= count;
    payload->length -= count;
    return true;
}

static bool is_ip(const struct link_payload *payload)
{
    unsigned version = payload->captured > 0 ? payload->octets[0] >> 4 : 0u;
    return version == 4 || version == 6;
}

static bool from_ppp(struct link_payload *payload)
{
    if (payload->captured >= 2 && payload->octets[0] == 0xff && payload->octets[1] == 0x03) {
        (void)advance(payload, 2); /* RFC 1662: address and control */
    }
    if (payload->captured >= 1 &&
        (payload->octets[0] & 1) != 0) { /* RFC 1661 section 6.5: compressed protocol */
        uint8_t protocol = payload->octets[0];
        return (protocol == PPP_IPV4 || protocol == PPP_IPV6) && advance(payload, 1) && is_ip(payload);
    }
    if (payload->captured < 2) {
        return false;
    }
    uint16_t protocol = get16(payload->octets);
    return (protocol == PPP_IPV4 || protocol == PPP_IPV6) && advance(payload, 2) && is_ip(payload);
}

static bool from_mpls(struct link_payload *payload)
{
    for (unsigned count = 0; count < LINK_MAX_TAGS; count++) {
        if (payload->captured < 4) {
            return false;
        }
        bool last = (payload->octets[2] & 1) != 0;
        if (!advance(payload, 4) || last) {
            return last && is_ip(payload);
        }
    }
    return false;
}

/* RFC 1042: an 802.3 length, then LLC AA-AA-03 and the organisation 00-00-00 before the type. */
static bool from_snap(struct link_payload *payload, uint16_t *type)
{
    if (payload->captured < 8 || payload->octets[0] != 0xaa || payload->octets[1] != 0xaa) {
        return false;
    }
    *type = get16(payload->octets + 6);
    return advance(payload, 8);
}

static bool from_type(struct link_payload *payload, uint16_t type)
{
    for (unsigned tags = 0; tags < LINK_MAX_TAGS; tags++) {
        switch (type) {
        case TYPE_IPV4:
        case TYPE_IPV6:
            return is_ip(payload);
        case TYPE_VLAN:
        case TYPE_QINQ:
        case TYPE_QINQ_OLD:
            if (payload->captured < 4) {
                return false;
            }
            type = get16(payload->octets + 2);
            (void)advance(payload, 4);
            break;
        case TYPE_PPPOE:
            return advance(payload, 6) && from_ppp(payload);
        case TYPE_MPLS:
        case TYPE_MPLS_MORE:
            return from_mpls(payload);
        default:
            if (type > LENGTH_MAX || !from_snap(payload, &type)) {
                return false;
            }
            break;
        }
    }
    return false;
}

static bool from_ethernet(struct link_payload *payload)
{
    if (payload->captured < 14) {
        return false;
    }
    uint16_t type = get16(payload->octets + 12);
    return advance(payload, 14) && from_type(payload, type);
}

/* SLL: 16 octets, the type last. SLL2: 20 octets, the type first. */
static bool from_cooked(struct link_payload *payload, size_t header, size_t type_at)
{
    if (payload->captured < header) {
        return false;
    }
    uint16_t type = get16(payload->octets + type_at);
    return advance(payload, header) && from_type(payload, type);
}

/* The family word is in the byte order of the machine that captured, and IPv6 has three numbers: look instead. */
static bool from_null(struct link_payload *payload)
{
    return advance(payload, 4) && is_ip(payload);
}

bool link_is_known(int datalink)
{
    switch (datalink) {
    case DLT_EN10MB:
    case DLT_LINUX_SLL:
    case DLT_LINUX_SLL2:
    case DLT_RAW:
    case DLT_IPV4:
    case DLT_IPV6:
    case DLT_NULL:
    case DLT_LOOP:
    case DLT_PPP:
    case DLT_PPP_SERIAL:
    case DLT_PPP_ETHER:
    case DLT_C_HDLC:
        return true;
    default:
        return false;
    }
}

bool link_find_ip(int datalink, const uint8_t *octets, size_t captured, size_t length,
                  struct link_payload *payload)
{
    *payload = (struct link_payload){
        .octets = octets, .captured = captured, .length = length > captured ? length : captured};
    switch (datalink) {
    case DLT_EN10MB:
        return from_ethernet(payload);
    case DLT_LINUX_SLL:
        return from_cooked(payload, 16, 14);
    case DLT_LINUX_SLL2:
        return from_cooked(payload, 20, 0);
    case DLT_RAW:
    case DLT_IPV4:
    case DLT_IPV6:
        return is_ip(payload);
    case DLT_NULL:
    case DLT_LOOP:
        return from_null(payload);
    case DLT_PPP:
    case DLT_PPP_SERIAL:
        return from_ppp(payload);
    case DLT_PPP_ETHER:
        return advance(payload, 6) && from_ppp(payload);
    case DLT_C_HDLC: /* address, control, then an EtherType */
        return from_cooked(payload, 4, 2);
    default:
        return false;
    }
}
