#include "core/base/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

bool address_from_sockaddr(struct address *address, const struct sockaddr *from)
{
    if (from->sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, from, sizeof in);
        memcpy(address->octets, mapped_prefix, sizeof mapped_prefix);
        memcpy(address->octets + 12, &in.sin_addr, 4);
        address->port = ntohs(in.sin_port);
        return true;
    }
    if (from->sa_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, from, sizeof in6);
        memcpy(address->octets, &in6.sin6_addr, 16);
        address->port = ntohs(in6.sin6_port);
        return true;
    }
    return false;
}

socklen_t address_to_sockaddr(const struct address *address, struct sockaddr_storage *to)
{
    memset(to, 0, sizeof *to);
    if (address_is_ipv4(address)) {
        struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(address->port)};
        memcpy(&in.sin_addr, address->octets + 12, 4);
        memcpy(to, &in, sizeof in);
        return sizeof in;
    }
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(address->port)};
    memcpy(&in6.sin6_addr, address->octets, 16);
    memcpy(to, &in6, sizeof in6);
    return sizeof in6;
}

bool address_is_ipv4(const struct address *address)
{
    return memcmp(address->octets, mapped_prefix, sizeof mapped_prefix) == 0;
}

bool address_equal(const struct address *a, const struct address *b)
{
    return a->port == b->port && memcmp(a->octets, b->octets, sizeof a->octets) == 0;
}

const char *address_format_host(const struct address *address, char text[ADDRESS_TEXT_SIZE])
{
    const char *done = address_is_ipv4(address)
                           ? inet_ntop(AF_INET, address->octets + 12, text, ADDRESS_TEXT_SIZE)
                           : inet_ntop(AF_INET6, address->octets, text, ADDRESS_TEXT_SIZE);
    if (done == NULL) {
        text[0] = '\0';
    }
    return text;
}

const char *address_format(const struct address *address, char text[ADDRESS_TEXT_SIZE])
{
    char host[ADDRESS_TEXT_SIZE];
    const char *form = address_is_ipv4(address) ? "%.46s:%u" : "[%.46s]:%u";
    address_format_host(address, host);
    snprintf(text, ADDRESS_TEXT_SIZE, form, host, (unsigned)address->port);
    return text;
}

static bool network_host_bits_clear(const struct network *network)
{
    for (unsigned bit = network->prefix; bit < 128; bit++) {
        if (network->octets[bit / 8] & (0x80u >> (bit % 8))) {
            return false;
        }
    }
    return true;
}

bool network_parse(struct network *network, const char *text)
{
    char host[INET6_ADDRSTRLEN];
    const char *slash = strchr(text, '/');
    size_t length = slash != NULL ? (size_t)(slash - text) : strlen(text);
    if (length == 0 || length >= sizeof host) {
        return false;
    }
    memcpy(host, text, length);
    host[length] = '\0';
    bool ipv4 = inet_pton(AF_INET, host, network->octets + 12) == 1;
    if (ipv4) {
        memcpy(network->octets, mapped_prefix, sizeof mapped_prefix);
    } else if (inet_pton(AF_INET6, host, network->octets) != 1) {
        return false;
    }
    unsigned long prefix = ipv4 ? 32 : 128;
    if (slash != NULL) {
        size_t digits = strspn(slash + 1, "0123456789");
        if (digits == 0 || digits > 3 || slash[1 + digits] != '\0' || (slash[1] == '0' && digits > 1)) {
            return false;
        }
        unsigned long given = strtoul(slash + 1, NULL, 10);
        if (given > prefix) {
            return false;
        }
        prefix = given;
    }
    network->prefix = (uint8_t)(ipv4 ? prefix + 96 : prefix);
    return network_host_bits_clear(network);
}

bool network_contains(const struct network *network, const struct address *address)
{
    size_t whole = network->prefix / 8;
    unsigned rest = network->prefix % 8;
    if (memcmp(network->octets, address->octets, whole) != 0) {
        return false;
    }
    return rest == 0 || ((network->octets[whole] ^ address->octets[whole]) >> (8 - rest)) == 0;
}

const char *network_format(const struct network *network, char text[ADDRESS_TEXT_SIZE])
{
    struct address address = {.port = 0};
    char host[ADDRESS_TEXT_SIZE];
    memcpy(address.octets, network->octets, sizeof address.octets);
    bool ipv4 = network->prefix >= 96 && address_is_ipv4(&address);
    address_format_host(&address, host);
    snprintf(text, ADDRESS_TEXT_SIZE, "%.46s/%u", host,
             (unsigned)(ipv4 ? network->prefix - 96 : network->prefix));
    return text;
}
