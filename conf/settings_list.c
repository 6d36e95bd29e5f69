#include "conf/settings_list.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/settings_error.h"
#include "conf/settings_number.h"
#include "core/base/address.h"

#define SEPARATORS " \t,"

/* Cuts the next item off a list separated by blanks or single commas. Returns its length, 0 at the end; an empty
 * item between two commas, or after the last one, sets `broken`. */
static size_t list_next(const char **cursor, const char **item, bool first, bool *broken)
{
    const char *at = *cursor;
    at += strspn(at, " \t");
    bool comma = *at == ',';
    if (comma) {
        at++;
        at += strspn(at, " \t");
    }
    size_t length = strcspn(at, SEPARATORS);
    if (comma && (first || length == 0)) {
        *broken = true;
    }
    *item = at;
    *cursor = at + length;
    return length;
}

bool settings_list_read_ports(const struct settings_row *row, const char *text, struct settings_ports *ports)
{
    const char *item;
    bool broken = false;
    size_t length;
    memset(ports, 0, sizeof *ports);
    while ((length = list_next(&text, &item, ports->count == 0, &broken)) > 0 && !broken) {
        uint64_t port;
        const char *end = item;
        if (!settings_number_whole(&end, &port) || end != item + length || port == 0 || port > 65535 ||
            ports->count == row->maximum) {
            return false;
        }
        for (uint32_t i = 0; i < ports->count; i++) {
            if (ports->port[i] == port) {
                return false;
            }
        }
        ports->port[ports->count++] = (uint16_t)port;
    }
    return !broken && ports->count >= row->minimum;
}

/* When `item` is a network but for its host bits, suggests the network it lies in. */
static bool network_suggest(const char *item, char suggestion[ADDRESS_TEXT_SIZE])
{
    char host[ADDRESS_TEXT_SIZE];
    const char *slash = strchr(item, '/');
    size_t length = slash != NULL ? (size_t)(slash - item) : sizeof host;
    struct network network;
    if (length >= sizeof host) {
        return false;
    }
    memcpy(host, item, length);
    host[length] = '\0';
    uint64_t prefix;
    const char *digits = slash + 1;
    if (!network_parse(&network, host) || !settings_number_whole(&digits, &prefix) || *digits != '\0') {
        return false;
    }
    bool ipv4 = strchr(host, ':') == NULL;
    if (prefix > (ipv4 ? 32u : 128u)) {
        return false;
    }
    network.prefix = (uint8_t)(ipv4 ? prefix + 96 : prefix);
    for (unsigned bit = network.prefix; bit < 128; bit++) {
        network.octets[bit / 8] &= (uint8_t) ~(0x80u >> (bit % 8));
    }
    network_format(&network, suggestion);
    return true;
}

/* Writes the list as the dump does: one blank between, no prefix where it is a single host. */
bool settings_list_write_networks(const struct network *networks, size_t count,
                                  char text[SETTINGS_VALUE_SIZE])
{
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        char one[ADDRESS_TEXT_SIZE];
        network_format(&networks[i], one);
        if (networks[i].prefix == 128) {
            one[strcspn(one, "/")] = '\0';
        }
        size_t length = strlen(one);
        if (SETTINGS_VALUE_SIZE - used < length + 2) {
            return false;
        }
        if (used > 0) {
            text[used++] = ' ';
        }
        memcpy(text + used, one, length + 1);
        used += length;
    }
    return true;
}

enum settings_value_result settings_list_read_networks(const char *text, struct network **networks,
                                                       size_t *count, struct settings_value_fault *fault)
{
    char quoted[SETTINGS_QUOTE_SIZE];
    struct network *list = calloc(SETTINGS_MAX_NETWORKS, sizeof *list);
    if (list == NULL) {
        return SETTINGS_VALUE_NO_MEMORY;
    }
    const char *item;
    size_t used = 0;
    bool broken = false;
    size_t length;
    while ((length = list_next(&text, &item, used == 0, &broken)) > 0 && !broken) {
        char one[ADDRESS_TEXT_SIZE] = "";
        char suggestion[ADDRESS_TEXT_SIZE];
        if (length < sizeof one) {
            memcpy(one, item, length);
        }
        if (used == SETTINGS_MAX_NETWORKS) {
            snprintf(fault->what, sizeof fault->what,
                     "more than %d networks; split the section, or take larger networks",
                     SETTINGS_MAX_NETWORKS);
            goto wrong;
        }
        if (length >= sizeof one || !network_parse(&list[used], one)) {
            settings_quote(quoted, item, length);
            if (length < sizeof one && network_suggest(one, suggestion)) {
                snprintf(fault->what, sizeof fault->what, "\"%s\" has host bits set", quoted);
                snprintf(fault->example, sizeof fault->example, "%s", suggestion);
            } else {
                snprintf(fault->what, sizeof fault->what,
                         "\"%s\" is not an IPv4 or IPv6 address or network (names are not looked up)",
                         quoted);
            }
            goto wrong;
        }
        used++;
    }
    if (broken || used == 0) {
        snprintf(fault->what, sizeof fault->what, "an item of the list is empty");
        goto wrong;
    }
    struct network *fitting = realloc(list, used * sizeof *list);
    *networks = fitting != NULL ? fitting : list;
    *count = used;
    return SETTINGS_VALUE_OK;
wrong:
    free(list);
    return SETTINGS_VALUE_WRONG;
}

bool settings_list_write_ports(const struct settings_ports *ports, char text[SETTINGS_VALUE_SIZE])
{
    size_t used = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < ports->count && i < SETTINGS_MAX_PORTS; i++) {
        used += (size_t)snprintf(text + used, SETTINGS_VALUE_SIZE - used, "%s%u", i > 0 ? " " : "",
                                 (unsigned)ports->port[i]);
    }
    return true;
}
