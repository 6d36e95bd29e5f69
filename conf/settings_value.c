#include "conf/settings_value.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/settings.h"
#include "conf/settings_error.h"
#include "conf/settings_profile.h"
#include "core/base/address.h"

struct unit {
    const char *text;
    uint64_t factor;
};

/* Largest first: a value is written in the largest unit that divides it. */
static const struct unit duration_units[] = {
    {"d", UINT64_C(86400000000)}, {"h", UINT64_C(3600000000)}, {"min", UINT64_C(60000000)},
    {"s", UINT64_C(1000000)},     {"ms", UINT64_C(1000)},      {NULL, 0},
};
static const struct unit size_units[] = {
    {"G", UINT64_C(1) << 30}, {"M", UINT64_C(1) << 20}, {"k", UINT64_C(1) << 10}, {"", 1}, {NULL, 0},
};

#define SEPARATORS " \t,"

/* Numbers ------------------------------------------------------------------------------------------------- */

/* Digits only, no sign, no leading zero (010 is eight to some readers), no overflow. Moves `cursor` behind them. */
static bool read_whole(const char **cursor, uint64_t *value)
{
    const char *at = *cursor;
    uint64_t sum = 0;
    if (*at < '0' || *at > '9' || (at[0] == '0' && at[1] >= '0' && at[1] <= '9')) {
        return false;
    }
    for (; *at >= '0' && *at <= '9'; at++) {
        uint64_t digit = (uint64_t)(*at - '0');
        if (sum > (UINT64_MAX - digit) / 10) {
            return false;
        }
        sum = sum * 10 + digit;
    }
    *cursor = at;
    *value = sum;
    return true;
}

static bool read_with_unit(const char *text, const struct unit *units, uint64_t *value)
{
    uint64_t number;
    if (!read_whole(&text, &number)) {
        return false;
    }
    if (number == 0 && *text == '\0') {
        *value = 0;
        return true;
    }
    for (; units->text != NULL; units++) {
        if (strcmp(units->text, text) == 0) {
            if (number > UINT64_MAX / units->factor) {
                return false;
            }
            *value = number * units->factor;
            return true;
        }
    }
    return false;
}

static void write_with_unit(uint64_t value, const struct unit *units, char *text, size_t size)
{
    if (value == 0) {
        snprintf(text, size, "0");
        return;
    }
    while (value % units->factor != 0 && units[1].text != NULL) {
        units++;
    }
    snprintf(text, size, "%" PRIu64 "%s", value / units->factor, units->text);
}

static bool read_mark(const char *text, uint64_t *value)
{
    if (strncmp(text, "0x", 2) != 0) {
        return read_whole(&text, value) && *text == '\0';
    }
    text += 2;
    size_t digits = strspn(text, "0123456789abcdefABCDEF");
    if (digits == 0 || digits > 8 || text[digits] != '\0') {
        return false;
    }
    *value = strtoul(text, NULL, 16);
    return true;
}

static bool in_range(const struct settings_row *row, uint64_t value)
{
    return (value >= row->minimum && value <= row->maximum) || (value == 0 && row->zero != NULL);
}

/* Text ---------------------------------------------------------------------------------------------------- */

static bool is_letter_or_digit(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool settings_word_valid(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (!is_letter_or_digit(text[i]) && strchr("._-", text[i]) == NULL) {
            return false;
        }
    }
    return length > 0;
}

bool settings_host_name_valid(const char *text)
{
    size_t length = strlen(text);
    if (length == 0 || length > 255) {
        return false;
    }
    for (;;) {
        size_t label = strcspn(text, ".");
        if (label == 0 || label > 63 || text[0] == '-' || text[label - 1] == '-') {
            return false;
        }
        for (size_t i = 0; i < label; i++) {
            if (!is_letter_or_digit(text[i]) && text[i] != '-') {
                return false;
            }
        }
        if (text[label] == '\0') {
            return strspn(text, "0123456789") != label;
        }
        text += label + 1;
    }
}

static bool path_valid(const struct settings_row *row, const char *text)
{
    size_t length = strlen(text);
    if (row->dash && strcmp(text, "-") == 0) {
        return true;
    }
    for (size_t i = 0; i < length; i++) {
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f || text[i] == '"' || text[i] == '\'') {
            return false;
        }
    }
    return text[0] == '/' && length < row->size && text[length - 1] != '/';
}

/* Lists --------------------------------------------------------------------------------------------------- */

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

static bool read_ports(const struct settings_row *row, const char *text, struct settings_ports *ports)
{
    const char *item;
    bool broken = false;
    size_t length;
    memset(ports, 0, sizeof *ports);
    while ((length = list_next(&text, &item, ports->count == 0, &broken)) > 0 && !broken) {
        uint64_t port;
        const char *end = item;
        if (!read_whole(&end, &port) || end != item + length || port == 0 || port > 65535 ||
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
    if (!network_parse(&network, host) || !read_whole(&digits, &prefix) || *digits != '\0') {
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
static bool write_networks(const struct network *networks, size_t count, char text[SETTINGS_VALUE_SIZE])
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

static enum settings_value_result read_networks(const char *text, struct network **networks, size_t *count,
                                                struct settings_value_fault *fault)
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

/* Ranges and faults --------------------------------------------------------------------------------------- */

static void write_scalar(const struct settings_row *row, uint64_t value, char *text, size_t size)
{
    if (row->type == SETTINGS_TYPE_DURATION) {
        write_with_unit(value, duration_units, text, size);
    } else if (row->type == SETTINGS_TYPE_SIZE) {
        write_with_unit(value, size_units, text, size);
    } else if (row->type == SETTINGS_TYPE_MARK && value != 0) {
        snprintf(text, size, "0x%" PRIx64, value);
    } else {
        snprintf(text, size, "%" PRIu64, value);
    }
}

void settings_value_range(const struct settings_row *row, char *text, size_t size)
{
    char low[32];
    char high[32];
    text[0] = '\0';
    if (row->type == SETTINGS_TYPE_PORTS) {
        snprintf(text, size, "%s%u ports", row->minimum == 0 ? "at most " : "1 to ", (unsigned)row->maximum);
    } else if (row->maximum > 0) {
        write_scalar(row, row->minimum, low, sizeof low);
        write_scalar(row, row->maximum, high, sizeof high);
        snprintf(text, size, "from %s to %s%s%s", low, high, row->zero != NULL ? ", or 0 for " : "",
                 row->zero != NULL ? row->zero : "");
    } else if (row->type == SETTINGS_TYPE_WORD || row->type == SETTINGS_TYPE_HOST_NAME ||
               row->type == SETTINGS_TYPE_PATH) {
        snprintf(text, size, "at most %zu octets", row->size - 1);
    }
}

static void describe_choices(const struct settings_row *row, char *text, size_t size)
{
    size_t used = (size_t)snprintf(text, size, "not one of");
    for (size_t i = 0;; i++) {
        bool profile = row->type == SETTINGS_TYPE_PROFILE;
        if (profile ? i == settings_profile_count : row->choices[i].text == NULL) {
            return;
        }
        int added = snprintf(text + used, size - used, "%s %s", i > 0 ? "," : "",
                             profile ? settings_profiles[i].name : row->choices[i].text);
        if (added < 0 || (size_t)added >= size - used) {
            return;
        }
        used += (size_t)added;
    }
}

static bool is_numeric(enum settings_type type)
{
    return type == SETTINGS_TYPE_COUNT || type == SETTINGS_TYPE_OCTET || type == SETTINGS_TYPE_SIZE ||
           type == SETTINGS_TYPE_DURATION || type == SETTINGS_TYPE_PORT || type == SETTINGS_TYPE_RATE;
}

/* A number without a unit was meant as seconds, when that is possible. */
static void suggest_seconds(const struct settings_row *row, const char *text,
                            struct settings_value_fault *fault)
{
    char seconds[24];
    uint64_t value;
    if (strlen(text) < sizeof seconds - 1) {
        snprintf(seconds, sizeof seconds, "%ss", text);
        if (read_with_unit(seconds, duration_units, &value) && in_range(row, value)) {
            snprintf(fault->example, sizeof fault->example, "%s", seconds);
        }
    }
}

static void describe(const struct settings_row *row, const char *text, struct settings_value_fault *fault)
{
    char range[96];
    const char *noun = "value";
    settings_value_range(row, range, sizeof range);
    if (text[0] == '0' && text[1] >= '0' && text[1] <= '9' && is_numeric(row->type)) {
        snprintf(fault->what, sizeof fault->what, "a number must not start with 0");
        return;
    }
    switch (row->type) {
    case SETTINGS_TYPE_BOOLEAN:
        snprintf(fault->what, sizeof fault->what, "neither yes nor no");
        return;
    case SETTINGS_TYPE_DURATION:
        if (text[strspn(text, "0123456789")] == '\0') {
            snprintf(fault->what, sizeof fault->what, "a duration needs a unit: ms, s, min, h or d");
            suggest_seconds(row, text, fault);
            return;
        }
        noun = "duration in whole ms, s, min, h or d";
        break;
    case SETTINGS_TYPE_COUNT:
    case SETTINGS_TYPE_OCTET:
        noun = "whole number";
        break;
    case SETTINGS_TYPE_SIZE:
        noun = "size in octets, k, M or G";
        break;
    case SETTINGS_TYPE_MARK:
        noun = "firewall mark";
        break;
    case SETTINGS_TYPE_RATE:
        snprintf(fault->what, sizeof fault->what,
                 "not a rate: a whole number %s, a slash, and a duration from 10ms to 7d",
                 "from 1 to 1000000, or 0 alone for no limit");
        return;
    case SETTINGS_TYPE_PORT:
        noun = "port";
        break;
    case SETTINGS_TYPE_PORTS:
        snprintf(fault->what, sizeof fault->what, "not a list of different ports from 1 to 65535, %s", range);
        return;
    case SETTINGS_TYPE_CHOICE:
    case SETTINGS_TYPE_PROFILE:
        describe_choices(row, fault->what, sizeof fault->what);
        return;
    case SETTINGS_TYPE_HOST_NAME:
        snprintf(fault->what, sizeof fault->what, "not a host name");
        return;
    case SETTINGS_TYPE_WORD:
        snprintf(fault->what, sizeof fault->what,
                 "not a word of at most %zu letters, digits, dots, dashes and underscores", row->size - 1);
        return;
    case SETTINGS_TYPE_PATH:
        snprintf(fault->what, sizeof fault->what,
                 "not the absolute path of a file%s, of at most %zu octets and without quotes",
                 row->dash ? " or a dash" : "", row->size - 1);
        return;
    case SETTINGS_TYPE_NETWORKS: /* described where it was found */
    case SETTINGS_TYPE_NONE:
    case SETTINGS_TYPE_END:
        return;
    }
    snprintf(fault->what, sizeof fault->what, "not a %s %s", noun, range);
}

/* Rates --------------------------------------------------------------------------------------------------- */

/* A window shorter than 10 ms counts nothing, a longer one than a week never forgets. */
#define RATE_WINDOW_MIN_US     UINT64_C(10000)
#define RATE_WINDOW_MAX_US     (UINT64_C(7) * 86400 * 1000000)
#define RATE_WINDOW_DEFAULT_US UINT64_C(60000000) /* the window beside a rate of 0 */

static bool read_rate(const struct settings_row *row, const char *text, uint32_t *count, uint64_t *window_us)
{
    uint64_t number;
    if (strcmp(text, "0") == 0) {
        *count = 0;
        *window_us = RATE_WINDOW_DEFAULT_US;
        return true;
    }
    if (!read_whole(&text, &number) || number < row->minimum || number > row->maximum || *text != '/' ||
        !read_with_unit(text + 1, duration_units, window_us) || *window_us < RATE_WINDOW_MIN_US ||
        *window_us > RATE_WINDOW_MAX_US) {
        return false;
    }
    *count = (uint32_t)number;
    return true;
}

/* The field ----------------------------------------------------------------------------------------------- */

/* Stores an unsigned number in a field of 1, 2, 4 or 8 octets. */
static void store(void *field, size_t size, uint64_t value)
{
    uint8_t one = (uint8_t)value;
    uint16_t two = (uint16_t)value;
    uint32_t four = (uint32_t)value;
    const void *from = size == 1 ? (const void *)&one : size == 2 ? (const void *)&two : &four;
    memcpy(field, size == 8 ? (const void *)&value : from, size);
}

static uint64_t fetch(const void *field, size_t size)
{
    uint8_t one;
    uint16_t two;
    uint32_t four;
    uint64_t eight;
    switch (size) {
    case 1:
        memcpy(&one, field, size);
        return one;
    case 2:
        memcpy(&two, field, size);
        return two;
    case 4:
        memcpy(&four, field, size);
        return four;
    default:
        assert(size == 8);
        memcpy(&eight, field, size);
        return eight;
    }
}

static bool read_number(const struct settings_row *row, const char *text, uint64_t *value)
{
    if (row->type == SETTINGS_TYPE_DURATION) {
        return read_with_unit(text, duration_units, value);
    }
    if (row->type == SETTINGS_TYPE_SIZE) {
        return read_with_unit(text, size_units, value);
    }
    if (row->type == SETTINGS_TYPE_MARK) {
        return read_mark(text, value);
    }
    return read_whole(&text, value) && *text == '\0';
}

static bool read_text(const struct settings_row *row, const char *text)
{
    if (row->type == SETTINGS_TYPE_HOST_NAME) {
        return settings_host_name_valid(text);
    }
    if (row->type == SETTINGS_TYPE_WORD) {
        return settings_word_valid(text, strlen(text));
    }
    return path_valid(row, text);
}

static bool read_choice(const struct settings_choice *choices, const char *text, int *value)
{
    for (; choices->text != NULL; choices++) {
        if (strcmp(choices->text, text) == 0) {
            *value = choices->value;
            return true;
        }
    }
    return false;
}

/* Reads one value into its field; false when it is wrong. */
static bool read_value(const struct settings_row *row, const char *text, char *field, char *second)
{
    switch (row->type) {
    case SETTINGS_TYPE_BOOLEAN: {
        bool yes = strcmp(text, "yes") == 0;
        if (!yes && strcmp(text, "no") != 0) {
            return false;
        }
        memcpy(field, &yes, sizeof yes);
        return true;
    }
    case SETTINGS_TYPE_COUNT:
    case SETTINGS_TYPE_OCTET:
    case SETTINGS_TYPE_SIZE:
    case SETTINGS_TYPE_MARK:
    case SETTINGS_TYPE_DURATION:
    case SETTINGS_TYPE_PORT: {
        uint64_t value;
        if (!read_number(row, text, &value) || !in_range(row, value)) {
            return false;
        }
        store(field, row->size, value);
        return true;
    }
    case SETTINGS_TYPE_RATE: {
        uint32_t count;
        uint64_t window_us;
        if (!read_rate(row, text, &count, &window_us)) {
            return false;
        }
        memcpy(field, &count, sizeof count);
        memcpy(second, &window_us, sizeof window_us);
        return true;
    }
    case SETTINGS_TYPE_PORTS: {
        struct settings_ports ports;
        if (!read_ports(row, text, &ports)) {
            return false;
        }
        memcpy(field, &ports, sizeof ports);
        return true;
    }
    case SETTINGS_TYPE_CHOICE: {
        int value;
        if (!read_choice(row->choices, text, &value)) {
            return false;
        }
        memcpy(field, &value, sizeof value);
        return true;
    }
    case SETTINGS_TYPE_HOST_NAME:
    case SETTINGS_TYPE_WORD:
    case SETTINGS_TYPE_PATH:
        if (strlen(text) >= row->size || (text[0] != '\0' && !read_text(row, text))) {
            return false;
        }
        memset(field, 0, row->size);
        memcpy(field, text, strlen(text));
        return true;
    case SETTINGS_TYPE_PROFILE:
        return settings_profile_find(text) != NULL;
    case SETTINGS_TYPE_NETWORKS:
    case SETTINGS_TYPE_NONE:
    case SETTINGS_TYPE_END:
        break;
    }
    return false;
}

enum settings_value_result settings_value_parse(const struct settings_row *row, const char *text, void *base,
                                                struct settings_value_fault *fault)
{
    char *field = base == NULL ? NULL : (char *)base + row->offset;
    char *second = base == NULL ? NULL : (char *)base + row->second_offset;
    fault->what[0] = '\0';
    snprintf(fault->example, sizeof fault->example, "%s", row->example);
    if (text[0] == '\0' && row->empty == NULL) {
        snprintf(fault->what, sizeof fault->what, "it has no value");
        return SETTINGS_VALUE_WRONG;
    }
    if (row->type == SETTINGS_TYPE_NETWORKS) {
        struct network *networks;
        size_t count;
        enum settings_value_result result = read_networks(text, &networks, &count, fault);
        if (result == SETTINGS_VALUE_OK) {
            memcpy(field, &networks, sizeof networks);
            memcpy(second, &count, sizeof count);
        }
        return result;
    }
    if (!read_value(row, text, field, second)) {
        describe(row, text, fault);
        return SETTINGS_VALUE_WRONG;
    }
    return SETTINGS_VALUE_OK;
}

static bool write_ports(const struct settings_ports *ports, char text[SETTINGS_VALUE_SIZE])
{
    size_t used = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < ports->count && i < SETTINGS_MAX_PORTS; i++) {
        used += (size_t)snprintf(text + used, SETTINGS_VALUE_SIZE - used, "%s%u", i > 0 ? " " : "",
                                 (unsigned)ports->port[i]);
    }
    return true;
}

bool settings_value_format(const struct settings_row *row, const void *base, char text[SETTINGS_VALUE_SIZE])
{
    if (row->base == SETTINGS_BASE_NONE) {
        return false;
    }
    const char *field = (const char *)base + row->offset;
    const char *second = (const char *)base + row->second_offset;
    switch (row->type) {
    case SETTINGS_TYPE_BOOLEAN:
        snprintf(text, SETTINGS_VALUE_SIZE, "%s", *(const bool *)(const void *)field ? "yes" : "no");
        return true;
    case SETTINGS_TYPE_COUNT:
    case SETTINGS_TYPE_OCTET:
    case SETTINGS_TYPE_SIZE:
    case SETTINGS_TYPE_MARK:
    case SETTINGS_TYPE_DURATION:
    case SETTINGS_TYPE_PORT:
        write_scalar(row, fetch(field, row->size), text, SETTINGS_VALUE_SIZE);
        return true;
    case SETTINGS_TYPE_RATE: {
        uint64_t count = fetch(field, sizeof(uint32_t));
        char window[32] = "";
        if (count > 0) {
            write_with_unit(fetch(second, sizeof(uint64_t)), duration_units, window, sizeof window);
        }
        snprintf(text, SETTINGS_VALUE_SIZE, "%" PRIu64 "%s%s", count, count > 0 ? "/" : "", window);
        return true;
    }
    case SETTINGS_TYPE_PORTS:
        return write_ports((const struct settings_ports *)(const void *)field, text);
    case SETTINGS_TYPE_CHOICE: {
        int value = (int)fetch(field, sizeof(int));
        for (const struct settings_choice *choice = row->choices; choice->text != NULL; choice++) {
            if (choice->value == value) {
                snprintf(text, SETTINGS_VALUE_SIZE, "%s", choice->text);
                return true;
            }
        }
        return false;
    }
    case SETTINGS_TYPE_HOST_NAME:
    case SETTINGS_TYPE_WORD:
    case SETTINGS_TYPE_PATH:
        snprintf(text, SETTINGS_VALUE_SIZE, "%.*s", (int)row->size, field);
        return true;
    case SETTINGS_TYPE_NETWORKS: {
        const struct network *networks;
        size_t count;
        memcpy(&networks, field, sizeof networks);
        memcpy(&count, second, sizeof count);
        return write_networks(networks, count, text);
    }
    case SETTINGS_TYPE_PROFILE:
    case SETTINGS_TYPE_NONE:
    case SETTINGS_TYPE_END:
        break;
    }
    return false;
}
