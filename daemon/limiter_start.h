/* limiter_start - the table of sources with a random seed, or one line saying why not. */
#ifndef SMTPWITNESS_DAEMON_LIMITER_START_H
#define SMTPWITNESS_DAEMON_LIMITER_START_H

#include <stdint.h>

#include "conf/settings.h"
#include "core/base/attributes.h"
#include "core/policy/limiter.h"

struct limiter *limiter_start(uint32_t max_sources, struct settings_error *error) MUST_CHECK;

#endif
