/* The kernel's list of queues with anything in it. */
#include <stddef.h>
#include <stdint.h>

#include "nfq/kernel_queues.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t size)
{
    struct kernel_queue found;

    for (uint32_t number = 0; number < 4; number++) {
        if (kernel_queues_find((const char *)octets, size, number, &found) && found.number != number)
            __builtin_trap();
    }
    return 0;
}
