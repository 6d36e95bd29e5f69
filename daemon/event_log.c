#include "daemon/event_log.h"

#include <event2/event.h>
#include <syslog.h>

static struct log *attached;

static void on_message(int severity, const char *text)
{
    int priority = LOG_DEBUG;

    if (severity == EVENT_LOG_MSG) {
        priority = LOG_INFO;
    } else if (severity == EVENT_LOG_WARN) {
        priority = LOG_WARNING;
    } else if (severity == EVENT_LOG_ERR) {
        priority = LOG_ERR;
    }
    if (attached != NULL) {
        log_message(attached, priority, "libevent", "%s", text);
    }
}

void event_log_attach(struct log *log)
{
    attached = log;
    event_set_log_callback(log != NULL ? on_message : NULL);
}
