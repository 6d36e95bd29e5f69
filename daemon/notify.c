#include "daemon/notify.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>

#include "daemon/clock.h"

#define STOP_MARGIN_US UINT64_C(10000000) /* to write what is queued and say goodbye */

void notify_ready(const char *status)
{
    (void)sd_notifyf(0, "READY=1\nSTATUS=%s", status);
}

void notify_status(const char *format, ...)
{
    char status[NOTIFY_STATUS_OCTETS];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(status, sizeof(status), format, arguments);
    va_end(arguments);
    (void)sd_notifyf(0, "STATUS=%s", status);
}

void notify_reloading(void)
{
    (void)sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)clock_monotonic_us());
}

void notify_stopping(const char *status, uint64_t up_to_us)
{
    (void)sd_notifyf(0, "STOPPING=1\nSTATUS=%s\nEXTEND_TIMEOUT_USEC=%llu", status,
                     (unsigned long long)(up_to_us + STOP_MARGIN_US));
}

void notify_watchdog(void)
{
    (void)sd_notify(0, "WATCHDOG=1");
}

uint64_t notify_watchdog_interval_us(void)
{
    uint64_t limit_us = 0;

    /* Three signs of life per limit: one may come late without our being killed for it. */
    return sd_watchdog_enabled(0, &limit_us) > 0 ? limit_us / 3 : 0;
}

bool notify_listeners(int listeners[NOTIFY_MAX_LISTENERS], uint32_t *count, struct settings_error *error)
{
    int passed = sd_listen_fds(1);

    *count = 0;
    if (passed < 0 || passed > NOTIFY_MAX_LISTENERS) {
        snprintf(error->text, sizeof(error->text),
                 "LISTEN_FDS passes %d sockets; at most %d can be used: see ListenStream= in the socket unit",
                 passed, NOTIFY_MAX_LISTENERS);
        return false;
    }
    for (int i = 0; i < passed; i++) {
        int fd = SD_LISTEN_FDS_START + i;

        if (sd_is_socket_inet(fd, AF_UNSPEC, SOCK_STREAM, 1, 0) <= 0) {
            snprintf(
                error->text, sizeof(error->text),
                "LISTEN_FDS passes descriptor %d, which is no listening TCP socket; the socket unit needs "
                "ListenStream=10025 and Transparent=yes",
                fd);
            return false;
        }
        listeners[i] = fd;
    }
    *count = (uint32_t)passed;
    return true;
}
