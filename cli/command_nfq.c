/* `smtpwitness nfq`: a supervisor, and below it the process that holds the packet queues. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "cli/command.h"
#include "cli/reload.h"
#include "conf/settings.h"
#include "conf/settings_share.h"
#include "core/policy/limiter.h"
#include "daemon/clock.h"
#include "daemon/limiter_start.h"
#include "daemon/limits.h"
#include "daemon/log.h"
#include "daemon/peaks.h"
#include "daemon/pidfile.h"
#include "daemon/privileges.h"
#include "daemon/signals.h"
#include "daemon/system_calls.h"
#include "nfq/hook.h"
#include "nfq/supervisor.h"

#define TURN_US  UINT64_C(250000) /* signs of life and the kernel's counters: four a second */
#define NEVER_US UINT64_MAX

struct watcher {
    const char *config;
    char pid_path[sizeof(((struct settings_process *)NULL)->pid_file)];
    struct settings *settings;    /* the supervisor's */
    struct settings_share *share; /* in force for new sessions */
    struct log_options log_options;
    struct limiter *limiter;
    struct log *log;
    struct hook *hook;
    int signal_fd;
    uint64_t started_us, peaks_since_us, turn_due_us;
};

static const struct settings *in_force(const struct watcher *watcher)
{
    return watcher->share->settings;
}

static void log_worst_case(struct watcher *watcher)
{
    struct limiter_stats limiter;
    struct log_stats log;
    uint64_t hook = hook_memory_octets(&watcher->settings->nfq);

    limiter_stats(watcher->limiter, &limiter);
    log_stats(watcher->log, &log);
    log_message(
        watcher->log, LOG_INFO, "limits",
        "memory at worst %llu MB: %llu MB for %u connections, %llu kB for %u sources, %llu kB for the log",
        (unsigned long long)(hook + limiter.memory_octets + log.memory_octets) >> 20,
        (unsigned long long)hook >> 20, watcher->settings->nfq.max_flows_count,
        (unsigned long long)limiter.memory_octets >> 10, limiter.rows_max,
        (unsigned long long)log.memory_octets >> 10);
}

static void log_statistics(struct watcher *watcher)
{
    struct hook_stats hook;
    struct limiter_stats limiter;
    struct log_stats log;

    hook_stats(watcher->hook, &hook);
    limiter_stats(watcher->limiter, &limiter);
    log_stats(watcher->log, &log);
    log_message(
        watcher->log, LOG_NOTICE, "statistics",
        "uptime-s=%llu packets=%llu octets=%llu verdict-batches=%llu dropped=%llu flows=%u half-open=%u "
        "sessions=%llu records=%llu evicted=%llu malformed=%llu other=%llu fragments=%llu "
        "damaged-messages=%llu "
        "empty=%llu refused-verdicts=%llu overruns=%llu missed=%llu full=%llu queue-dropped=%llu "
        "socket-dropped=%llu waiting=%u "
        "unjudged=%llu probes=%llu probes-answered=%llu bypasses=%llu bypassed-octets=%llu refused=%llu "
        "held=%llu held-full=%llu closed=%llu sources=%u sources-max=%u log-lines=%llu "
        "log-left-out=%llu",
        (unsigned long long)((clock_monotonic_us() - watcher->started_us) / 1000000),
        (unsigned long long)hook.packets, (unsigned long long)hook.octets, (unsigned long long)hook.batches,
        (unsigned long long)hook.dropped, hook.flows_now, hook.half_open_now,
        (unsigned long long)hook.sessions, (unsigned long long)hook.records, (unsigned long long)hook.evicted,
        (unsigned long long)hook.malformed_packets, (unsigned long long)hook.other_packets,
        (unsigned long long)hook.fragments, (unsigned long long)hook.damaged_messages,
        (unsigned long long)hook.empty_packets, (unsigned long long)hook.refused_verdicts,
        (unsigned long long)hook.overruns, (unsigned long long)hook.missed, (unsigned long long)hook.full,
        (unsigned long long)hook.kernel_queue_dropped, (unsigned long long)hook.kernel_socket_dropped,
        hook.kernel_waiting, (unsigned long long)hook.unjudged, (unsigned long long)hook.probes_sent,
        (unsigned long long)hook.probes_answered, (unsigned long long)hook.bypasses,
        (unsigned long long)hook.bypassed_octets, (unsigned long long)hook.refused,
        (unsigned long long)hook.held, (unsigned long long)hook.held_full, (unsigned long long)hook.closed,
        limiter.rows_used, limiter.rows_max, (unsigned long long)log.written,
        (unsigned long long)(log.left_out_ring + log.left_out_rate + log.left_out_sink));
}

static void log_peaks(struct watcher *watcher, uint64_t now_us, bool reset)
{
    peaks_log(watcher->log, watcher->limiter, in_force(watcher)->log.peaks_count,
              in_force(watcher)->policy.ipv6_source_prefix, now_us - watcher->peaks_since_us, reset);
    if (reset) {
        watcher->peaks_since_us = now_us;
    }
}

static void reload(struct watcher *watcher)
{
    struct settings *loaded = reload_settings(watcher->config, in_force(watcher), watcher->log);
    struct settings_share *share = loaded != NULL ? settings_share_create(loaded) : NULL;

    if (share == NULL) {
        settings_destroy(loaded);
        return;
    }
    settings_share_release(watcher->share);
    watcher->share = share;
    hook_reload(watcher->hook, share);
    limiter_reload(watcher->limiter, &loaded->policy, clock_monotonic_us());
}

/* ---- running ---- */

static uint64_t peaks_due_us(const struct watcher *watcher)
{
    uint64_t interval_us = in_force(watcher)->log.peaks_interval_us;

    return interval_us == 0 ? NEVER_US : watcher->peaks_since_us + interval_us;
}

static void turn(struct watcher *watcher, const struct supervised *supervised, uint64_t now_us)
{
    if (now_us < watcher->turn_due_us) {
        return;
    }
    watcher->turn_due_us = now_us + TURN_US;
    hook_look_for_losses(watcher->hook, now_us);
    if (hook_is_alive(watcher->hook)) {
        supervised_alive(supervised);
    }
    if (now_us >= peaks_due_us(watcher)) {
        log_peaks(watcher, now_us, true);
    }
}

static void run(struct watcher *watcher, const struct supervised *supervised)
{
    for (;;) {
        struct pollfd signals = {.fd = watcher->signal_fd, .events = POLLIN};
        uint64_t now_us = clock_monotonic_us();

        (void)poll(&signals, 1,
                   now_us >= watcher->turn_due_us ? 0 : (int)((watcher->turn_due_us - now_us) / 1000 + 1));
        now_us = clock_monotonic_us();
        switch (signals_read(watcher->signal_fd)) {
        case SIGNALS_NONE:
            break;
        case SIGNALS_STOP:
        case SIGNALS_HAND_OVER:
            return;
        case SIGNALS_RELOAD:
            reload(watcher);
            break;
        case SIGNALS_REPORT:
            log_peaks(watcher, now_us, false);
            log_statistics(watcher);
            break;
        }
        turn(watcher, supervised, now_us);
    }
}

/* ---- the process that holds the queues ---- */

static bool start(struct watcher *watcher, struct settings_error *error)
{
    const struct settings *settings = watcher->settings;
    struct hook_options options;

    watcher->share = settings_share_create(watcher->settings);
    if (watcher->share == NULL) {
        snprintf(error->text, sizeof(error->text), "no memory for the settings");
        return false;
    }
    watcher->signal_fd = signals_open();
    if (watcher->signal_fd == -1) {
        snprintf(error->text, sizeof(error->text), "signalfd: %s", strerror(errno));
        return false;
    }
    if ((watcher->limiter = limiter_start(settings->max_sources, error)) == NULL ||
        (watcher->log = log_create(&settings->log, &watcher->log_options, error)) == NULL) {
        return false;
    }
    options =
        (struct hook_options){.settings = watcher->share, .limiter = watcher->limiter, .log = watcher->log};
    watcher->hook = hook_create(&options, error);
    return watcher->hook != NULL && privileges_drop_for_queues(settings->process.user, error) &&
           (!settings->process.system_call_filter || system_calls_restrict(error)) &&
           hook_start(watcher->hook, error);
}

static void finish(struct watcher *watcher)
{
    hook_destroy(watcher->hook);
    log_destroy(watcher->log);
    limiter_destroy(watcher->limiter);
    settings_share_release(watcher->share);
    if (watcher->signal_fd != -1) {
        close(watcher->signal_fd);
    }
}

static int run_child(void *context, const struct supervised *supervised)
{
    struct watcher *watcher = context;
    struct settings_error error = {0};

    if (!start(watcher, &error) || !supervised_follow_parent(supervised)) {
        if (watcher->log != NULL && !watcher->log_options.foreground) {
            log_message(watcher->log, LOG_ERR, "nfq", "not started: %s", error.text);
        }
        finish(watcher);
        command_error(error.text);
        return COMMAND_FAILED;
    }
    watcher->started_us = watcher->peaks_since_us = clock_monotonic_us();
    log_worst_case(watcher);
    if (supervised->last_end != NULL) {
        log_message(watcher->log, LOG_ERR, "nfq",
                    "started again: the process before %s; mail passed unseen meanwhile, and connections "
                    "that are open are picked up where they are",
                    supervised->last_end);
        reload(watcher); /* what was loaded since the supervisor's start went with the process before */
    }
    log_message(watcher->log, LOG_NOTICE, "nfq", "ready");
    supervised_ready(supervised);
    run(watcher, supervised);

    log_peaks(watcher, clock_monotonic_us(), true);
    hook_stop(watcher->hook);
    log_statistics(watcher);
    log_message(watcher->log, LOG_NOTICE, "nfq", "stopped");
    finish(watcher);
    return COMMAND_OK;
}

/* ---- the supervisor ---- */

static bool prepare(struct watcher *watcher, const struct arguments *arguments, struct settings_error *error)
{
    const char *pid_file = arguments->values[COMMAND_PROXY_PID_FILE];
    const char *format = arguments->values[COMMAND_PROXY_FORMAT];
    int length = snprintf(watcher->pid_path, sizeof(watcher->pid_path), "%s",
                          pid_file != NULL ? pid_file : watcher->settings->process.pid_file);

    if (length < 0 || (size_t)length >= sizeof(watcher->pid_path)) {
        snprintf(error->text, sizeof(error->text), "--pid-file: longer than %zu octets",
                 sizeof(watcher->pid_path) - 1);
        return false;
    }
    watcher->log_options.foreground = arguments->values[COMMAND_PROXY_FOREGROUND] != NULL;
    watcher->log_options.json_stdout = format != NULL && strcmp(format, "json") == 0;
    return privileges_check_queues(watcher->settings->process.user, error);
}

enum command_exit command_nfq(const struct arguments *arguments)
{
    const char *config = arguments->values[COMMAND_PROXY_CONFIG];
    struct watcher watcher = {.config = config != NULL ? config : COMMAND_DEFAULT_CONFIG, .signal_fd = -1};
    struct pidfile pidfile = {.fd = -1};
    struct settings_error error = {0};
    struct settings *settings = settings_load(watcher.config, &error);
    struct supervisor_options options = {.run = run_child, .context = &watcher};
    int code;

    if (settings == NULL) {
        command_error(error.text);
        return COMMAND_USAGE;
    }
    watcher.settings = settings;
    (void)limits_raise_descriptors();
    signals_block();
    if (!prepare(&watcher, arguments, &error) || !privileges_lock(&error) ||
        !pidfile_open(&pidfile, watcher.pid_path, &error)) {
        settings_destroy(settings);
        command_error(error.text);
        return COMMAND_FAILED;
    }
    options.watchdog_us = settings->nfq.watchdog_us;
    code = supervisor_run(&options);
    pidfile_close(&pidfile);
    settings_destroy(settings);
    return code == COMMAND_OK ? COMMAND_OK : COMMAND_FAILED;
}
