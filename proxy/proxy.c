#include "proxy/proxy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>
#include <sys/random.h>
#include <sys/resource.h>

#include "daemon/clock.h"
#include "proxy/listener.h"
#include "proxy/worker.h"

#define PROXY_MAX_WORKERS     64
#define DESCRIPTORS_RESERVED  64 /* log, taps, event sets, timers: everything that is no session */
#define DESCRIPTORS_A_SESSION 2
#define LEAST_SESSIONS        8
#define ROOM_AGAIN            16 /* once full, this part of the sessions must be free before we say we are not */

struct proxy {
    struct settings_share *settings;
    struct limiter *limiter;
    struct log *log;
    struct tap *tap;
    struct relay_counters counters;
    atomic_ullong accept_pauses;
    atomic_uint max_sessions;
    _Atomic uint64_t said_us;
    struct worker *workers[PROXY_MAX_WORKERS];
    uint32_t worker_count;
    bool started;
    bool full; /* as proxy_health() saw it last */
};

static uint32_t sessions_allowed(const struct settings_proxy *settings)
{
    struct rlimit limit;
    uint64_t descriptors = 1024;

    if (settings->max_sessions != 0)
        return settings->max_sessions;
    if (getrlimit(RLIMIT_NOFILE, &limit) != -1)
        descriptors = limit.rlim_cur;
    if (descriptors < DESCRIPTORS_RESERVED + LEAST_SESSIONS * DESCRIPTORS_A_SESSION)
        return LEAST_SESSIONS;
    descriptors = (descriptors - DESCRIPTORS_RESERVED) / DESCRIPTORS_A_SESSION;
    return descriptors > UINT32_MAX ? UINT32_MAX : (uint32_t)descriptors;
}

static uint32_t workers_wanted(const struct settings_proxy *settings)
{
    long processors = settings->workers != 0 ? (long)settings->workers : sysconf(_SC_NPROCESSORS_ONLN);

    if (processors < 1)
        processors = 1;
    return processors > PROXY_MAX_WORKERS ? PROXY_MAX_WORKERS : (uint32_t)processors;
}

static void close_all(const int *descriptors, size_t count)
{
    for (size_t index = 0; index < count; index++)
        close(descriptors[index]);
}

/* A listener of each family for one worker. IPv6 may be switched off on this system. */
static size_t open_listeners(struct proxy *proxy, uint16_t port, int *listeners, struct settings_error *error)
{
    struct settings_error ipv6_error = {.text = ""};

    listeners[0] = listener_open(false, port, error);
    if (listeners[0] == -1)
        return 0;
    listeners[1] = listener_open(true, port, &ipv6_error);
    if (listeners[1] != -1)
        return 2;
    if (errno != EAFNOSUPPORT && errno != EADDRNOTAVAIL) {
        close(listeners[0]);
        *error = ipv6_error;
        return 0;
    }
    if (proxy->worker_count == 0)
        log_message(proxy->log, LOG_NOTICE, "proxy", "no IPv6 on this system: IPv4 only");
    return 1;
}

/* The first worker has the passed descriptors themselves, the others copies: all take from the same queues. */
static size_t share_listeners(const struct proxy *proxy, const struct proxy_options *options, int *listeners,
                              struct settings_error *error)
{
    size_t count;

    for (count = 0; count < options->listener_count; count++) {
        if (proxy->worker_count == 0) {
            if (!listener_adopt(options->listeners[count], error))
                return 0; /* the caller's still */
            listeners[count] = options->listeners[count];
            continue;
        }
        listeners[count] = fcntl(options->listeners[count], F_DUPFD_CLOEXEC, 3);
        if (listeners[count] == -1) {
            snprintf(error->text, sizeof error->text, "proxy: cannot share the passed sockets: %s",
                     strerror(errno));
            close_all(listeners, count);
            return 0;
        }
    }
    return count;
}

static bool add_worker(struct proxy *proxy, const struct proxy_options *options, unsigned run,
                       struct settings_error *error)
{
    struct worker_options wanted = {.settings = proxy->settings,
                                    .limiter = proxy->limiter,
                                    .log = proxy->log,
                                    .tap = proxy->tap,
                                    .counters = &proxy->counters,
                                    .accept_pauses = &proxy->accept_pauses,
                                    .max_sessions = &proxy->max_sessions,
                                    .said_us = &proxy->said_us,
                                    .run = run,
                                    .drains_tap = proxy->worker_count == 0};
    const bool inherited = options->listeners != NULL && options->listener_count > 0;

    wanted.listener_count =
        inherited ? share_listeners(proxy, options, wanted.listeners, error)
                  : open_listeners(proxy, options->settings->proxy.listen_port, wanted.listeners, error);
    if (wanted.listener_count == 0)
        return false;
    proxy->workers[proxy->worker_count] = worker_create(&wanted);
    if (proxy->workers[proxy->worker_count] == NULL) {
        snprintf(error->text, sizeof error->text, "proxy: cannot create a worker: %s", strerror(errno));
        if (!inherited || proxy->worker_count > 0)
            close_all(wanted.listeners, wanted.listener_count);
        return false;
    }
    proxy->worker_count++;
    return true;
}

struct proxy *proxy_create(const struct proxy_options *options, struct settings_error *error)
{
    struct proxy *proxy = calloc(1, sizeof *proxy);
    uint8_t seed[16];
    uint16_t run;

    if (proxy == NULL) {
        snprintf(error->text, sizeof error->text, "proxy: no memory");
        settings_destroy(options->settings);
        return NULL;
    }
    proxy->limiter = options->limiter;
    proxy->log = options->log;
    if (options->listeners != NULL && options->listener_count > LISTENER_MAX_INHERITED) {
        snprintf(error->text, sizeof error->text, "proxy: %u sockets passed, at most %d can be used",
                 options->listener_count, LISTENER_MAX_INHERITED);
        goto failed;
    }
    if (getrandom(seed, sizeof seed, 0) != (ssize_t)sizeof seed ||
        getrandom(&run, sizeof run, 0) != (ssize_t)sizeof run) {
        snprintf(error->text, sizeof error->text, "proxy: no random numbers: %s", strerror(errno));
        goto failed;
    }
    if (options->settings->proxy.tap) {
        proxy->tap = tap_create(&options->settings->smtp, seed, error);
        if (proxy->tap == NULL)
            goto failed;
    }
    proxy->settings = settings_share_create(options->settings);
    if (proxy->settings == NULL) {
        snprintf(error->text, sizeof error->text, "proxy: no memory");
        goto failed;
    }
    atomic_store(&proxy->max_sessions, sessions_allowed(&options->settings->proxy));
    for (uint32_t count = workers_wanted(&options->settings->proxy); count > 0; count--) {
        if (!add_worker(proxy, options, run, error))
            goto failed;
    }
    return proxy;

failed:
    if (proxy->settings == NULL)
        settings_destroy(options->settings);
    proxy_destroy(proxy);
    return NULL;
}

bool proxy_start(struct proxy *proxy, struct settings_error *error)
{
    for (uint32_t index = 0; index < proxy->worker_count; index++) {
        if (!worker_start(proxy->workers[index])) {
            snprintf(error->text, sizeof error->text, "proxy: cannot start a worker thread: %s",
                     strerror(errno));
            proxy_stop(proxy);
            return false;
        }
    }
    proxy->started = true;
    log_message(proxy->log, LOG_NOTICE, "proxy",
                "listening on port %u with %u workers, at most %u sessions, tap %s",
                proxy->settings->settings->proxy.listen_port, proxy->worker_count,
                atomic_load(&proxy->max_sessions), proxy->tap != NULL ? "on" : "off");
    return true;
}

void proxy_reload(struct proxy *proxy, struct settings *settings)
{
    struct settings_share *share = settings_share_create(settings);

    if (share == NULL) {
        log_message(proxy->log, LOG_ERR, "proxy", "no memory for the new settings: the old ones stay");
        settings_destroy(settings);
        return;
    }
    atomic_store(&proxy->max_sessions, sessions_allowed(&settings->proxy));
    for (uint32_t index = 0; index < proxy->worker_count; index++)
        worker_tell_settings(proxy->workers[index], share);
    if (proxy->limiter != NULL)
        limiter_reload(proxy->limiter, &settings->policy, clock_monotonic_us());
    settings_share_release(proxy->settings);
    proxy->settings = share;
}

uint32_t proxy_drain(struct proxy *proxy)
{
    for (uint32_t index = 0; index < proxy->worker_count; index++)
        worker_tell_drain(proxy->workers[index]);
    return atomic_load(&proxy->counters.sessions);
}

void proxy_stop(struct proxy *proxy)
{
    for (uint32_t index = 0; index < proxy->worker_count; index++)
        worker_tell_stop(proxy->workers[index]);
    for (uint32_t index = 0; index < proxy->worker_count; index++)
        worker_join(proxy->workers[index]);
}

void proxy_destroy(struct proxy *proxy)
{
    if (proxy == NULL)
        return;
    if (proxy->started)
        proxy_stop(proxy);
    for (uint32_t index = 0; index < proxy->worker_count; index++)
        worker_destroy(proxy->workers[index]);
    tap_destroy(proxy->tap);
    settings_share_release(proxy->settings);
    free(proxy);
}

enum proxy_health proxy_health(struct proxy *proxy, uint64_t now_us)
{
    const uint32_t sessions = atomic_load(&proxy->counters.sessions);
    uint32_t most = atomic_load(&proxy->max_sessions);
    bool answers = true;

    if (proxy->full)
        most -= most / ROOM_AGAIN;
    proxy->full = sessions >= most;
    for (uint32_t index = 0; index < proxy->worker_count; index++) {
        if (!worker_ask_life(proxy->workers[index], now_us))
            answers = false;
        if (worker_is_full(proxy->workers[index]))
            proxy->full = true;
    }
    return !answers ? PROXY_HANGS : proxy->full ? PROXY_FULL : PROXY_WELL;
}

void proxy_stats(struct proxy *proxy, struct proxy_stats *stats)
{
    const struct relay_counters *counters = &proxy->counters;

    *stats = (struct proxy_stats){.sessions = atomic_load(&counters->sessions),
                                  .sessions_peak = atomic_load(&counters->sessions_peak),
                                  .accepted = atomic_load(&counters->accepted),
                                  .finished = atomic_load(&counters->finished),
                                  .connect_failed = atomic_load(&counters->connect_failed),
                                  .refused = atomic_load(&counters->refused),
                                  .held = atomic_load(&counters->held),
                                  .accept_pauses = atomic_load(&proxy->accept_pauses),
                                  .icmp_undiverted = atomic_load(&counters->icmp_undiverted)};
}
