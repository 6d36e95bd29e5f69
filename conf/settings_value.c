#include "conf/settings_value.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "conf/settings.h"
#include "conf/settings_describe.h"
#include "conf/settings_list.h"
#include "conf/settings_number.h"
#include "conf/settings_profile.h"
#include "conf/settings_text.h"

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

static bool read_text(const struct settings_row *row, const char *text)
{
    if (row->type == SETTINGS_TYPE_HOST_NAME) {
        return settings_host_name_valid(text);
    }
    if (row->type == SETTINGS_TYPE_WORD) {
        return settings_word_valid(text, strlen(text));
    }
    return settings_path_valid(row, text);
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
        if (!settings_number_read(row, text, &value) || !settings_number_in_range(row, value)) {
            return false;
        }
        store(field, row->size, value);
        return true;
    }
    case SETTINGS_TYPE_RATE: {
        uint32_t count;
        uint64_t window_us;
        if (!settings_number_read_rate(row, text, &count, &window_us)) {
            return false;
        }
        memcpy(field, &count, sizeof count);
        memcpy(second, &window_us, sizeof window_us);
        return true;
    }
    case SETTINGS_TYPE_PORTS: {
        struct settings_ports ports;
        if (!settings_list_read_ports(row, text, &ports)) {
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
    assert(base != NULL || row->base == SETTINGS_BASE_NONE);
    fault->what[0] = '\0';
    snprintf(fault->example, sizeof fault->example, "%s", row->example);
    if (text[0] == '\0' && row->empty == NULL) {
        snprintf(fault->what, sizeof fault->what, "it has no value");
        return SETTINGS_VALUE_WRONG;
    }
    if (row->type == SETTINGS_TYPE_NETWORKS) {
        struct network *networks;
        size_t count;
        enum settings_value_result result = settings_list_read_networks(text, &networks, &count, fault);
        if (result == SETTINGS_VALUE_OK) {
            memcpy(field, &networks, sizeof networks);
            memcpy(second, &count, sizeof count);
        }
        return result;
    }
    if (!read_value(row, text, field, second)) {
        settings_value_describe(row, text, fault);
        return SETTINGS_VALUE_WRONG;
    }
    return SETTINGS_VALUE_OK;
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
        settings_number_write(row, fetch(field, row->size), text, SETTINGS_VALUE_SIZE);
        return true;
    case SETTINGS_TYPE_RATE: {
        uint32_t count = (uint32_t)fetch(field, sizeof count);
        settings_number_write_rate(count, fetch(second, sizeof(uint64_t)), text, SETTINGS_VALUE_SIZE);
        return true;
    }
    case SETTINGS_TYPE_PORTS:
        return settings_list_write_ports((const struct settings_ports *)(const void *)field, text);
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
        return settings_list_write_networks(networks, count, text);
    }
    case SETTINGS_TYPE_PROFILE:
    case SETTINGS_TYPE_NONE:
    case SETTINGS_TYPE_END:
        break;
    }
    return false;
}
