#include "conf/settings_text.h"

#include <string.h>

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

bool settings_path_valid(const struct settings_row *row, const char *text)
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
