#include "nfq/kernel_queues.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define COLUMNS 7 /* those before the last packet's id */

/* A decimal number behind blanks; false at the end of the line or at anything else. */
static bool read_number(const char **at, const char *end, uint64_t *number)
{
    const char *digit = *at;

    while (digit < end && *digit == ' ')
        digit++;
    if (digit == end || *digit < '0' || *digit > '9')
        return false;
    for (*number = 0; digit < end && *digit >= '0' && *digit <= '9'; digit++) {
        if (*number > (UINT64_MAX - 9) / 10)
            return false;
        *number = *number * 10 + (uint64_t)(*digit - '0');
    }
    *at = digit;
    return true;
}

bool kernel_queues_find(const char *text, size_t length, uint32_t number, struct kernel_queue *found)
{
    const char *const end = text + length;

    while (text < end) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        const char *stop = newline != NULL ? newline : end;
        uint64_t column[COLUMNS];
        size_t count = 0;

        while (count < COLUMNS && read_number(&text, stop, &column[count]))
            count++;
        if (count == COLUMNS && column[0] == number) {
            found->number = number;
            found->waiting_count = column[2] > UINT32_MAX ? UINT32_MAX : (uint32_t)column[2];
            found->queue_dropped = column[5];
            found->socket_dropped = column[6];
            return true;
        }
        text = stop < end ? stop + 1 : end;
    }
    return false;
}

int kernel_queues_open(void)
{
    return open("/proc/net/netfilter/nfnetlink_queue", O_RDONLY | O_CLOEXEC);
}

size_t kernel_queues_read(int fd, char text[KERNEL_QUEUES_TEXT])
{
    size_t length = 0;

    while (length < KERNEL_QUEUES_TEXT) {
        ssize_t got = pread(fd, text + length, KERNEL_QUEUES_TEXT - length, (off_t)length);

        if (got <= 0)
            break;
        length += (size_t)got;
    }
    return length;
}
