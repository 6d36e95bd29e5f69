/* Server lines, one behind the other, and what their replies are taken to say. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/smtp/reply.h"
#include "core/smtp/reply_limit.h"
#include "core/smtp/reply_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct reply_parser parser = {0};
    while (size > 0) {
        const uint8_t *end = memchr(data, '\n', size);
        size_t length = end == NULL ? size : (size_t)(end - data);
        struct reply reply;
        enum reply_outcome outcome = reply_consume(&parser, data, length, &reply);
        if (outcome == REPLY_COMPLETE || outcome == REPLY_CODE_CHANGED) {
            if (reply.code < 200 || reply.code > 599 || reply_is_open(&parser))
                abort();
            if (reply.text != NULL && strlen(reply.text) != reply.text_length)
                abort();
            enum reply_class class =
                reply_text_classify(reply.code, reply.enhanced, reply.text, reply.text_length);
            if (reply_class_name(class) == NULL || (reply.code < 400) != (class == REPLY_CLASS_NONE))
                abort();
            if (reply_text_limit(reply.text) >= REPLY_LIMIT_MOST)
                abort();
        }
        data += end == NULL ? length : length + 1;
        size -= end == NULL ? length : length + 1;
    }
    reply_clear(&parser);
    return 0;
}
