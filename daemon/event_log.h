/* event_log - libevent's own complaints go to our log.
 * libevent's callbacks take no context, so this is the one place with a pointer of static duration.
 * Threads: attach before workers start, detach (NULL) after they ended. */
#ifndef SMTPWITNESS_DAEMON_EVENT_LOG_H
#define SMTPWITNESS_DAEMON_EVENT_LOG_H

#include "daemon/log.h"

void event_log_attach(struct log *log);

#endif
