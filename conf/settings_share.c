#include "conf/settings_share.h"

#include <stdlib.h>

struct settings_share *settings_share_create(struct settings *take_settings)
{
    struct settings_share *share = malloc(sizeof *share);

    if (share == NULL)
        return NULL;
    share->settings = take_settings;
    atomic_init(&share->references, 1);
    return share;
}

struct settings_share *settings_share_acquire(struct settings_share *share)
{
    atomic_fetch_add_explicit(&share->references, 1, memory_order_relaxed);
    return share;
}

void settings_share_release(struct settings_share *share)
{
    if (share == NULL || atomic_fetch_sub_explicit(&share->references, 1, memory_order_acq_rel) != 1)
        return;
    settings_destroy(share->settings);
    free(share);
}
