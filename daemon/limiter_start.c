#include "daemon/limiter_start.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

struct limiter *limiter_start(uint32_t max_sources, struct settings_error *error)
{
    uint8_t seed[16];
    struct limiter *limiter;

    if (getrandom(seed, sizeof(seed), 0) != (ssize_t)sizeof(seed)) {
        snprintf(error->text, sizeof(error->text), "getrandom: %s", strerror(errno));
        return NULL;
    }
    limiter = limiter_create(max_sources, seed);
    if (limiter == NULL) {
        snprintf(error->text, sizeof(error->text),
                 "[limits] max-sources = %u: out of memory; use a smaller number", max_sources);
    }
    return limiter;
}
