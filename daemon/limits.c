#include "daemon/limits.h"

#include <sys/resource.h>

#define DESCRIPTORS_KEPT        64 /* listeners, log, taps, signals: not for sessions */
#define DESCRIPTORS_PER_SESSION 2  /* the client leg and the server leg */

uint64_t limits_raise_descriptors(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == -1) {
        return 1024; /* what every system grants */
    }
    if (limit.rlim_cur < limit.rlim_max) {
        struct rlimit raised = {.rlim_cur = limit.rlim_max, .rlim_max = limit.rlim_max};

        if (setrlimit(RLIMIT_NOFILE, &raised) == 0) {
            return raised.rlim_cur;
        }
    }
    return limit.rlim_cur;
}

void limits_worst_case(struct limits_memory *memory, const struct settings_proxy *proxy, uint64_t descriptors,
                       size_t limiter_octets, size_t log_octets)
{
    uint64_t possible =
        descriptors > DESCRIPTORS_KEPT ? (descriptors - DESCRIPTORS_KEPT) / DESCRIPTORS_PER_SESSION : 0;

    memory->sessions =
        proxy->max_sessions != 0 && proxy->max_sessions < possible ? proxy->max_sessions : possible;
    memory->buffer_octets = memory->sessions * 2 * proxy->buffer_octets;
    memory->limiter_octets = limiter_octets;
    memory->log_octets = log_octets;
    memory->total_octets = memory->buffer_octets + memory->limiter_octets + memory->log_octets;
}
