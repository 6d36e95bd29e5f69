/* `smtpwitness proxy`: starts everything in the order privileges allow, then waits for signals and timers. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "cli/command.h"
#include "cli/reload.h"
#include "conf/settings.h"
#include "core/policy/limiter.h"
#include "daemon/clock.h"
#include "daemon/event_log.h"
#include "daemon/limiter_start.h"
#include "daemon/limits.h"
#include "daemon/log.h"
#include "daemon/notify.h"
#include "daemon/peaks.h"
#include "daemon/pidfile.h"
#include "daemon/port.h"
#include "daemon/privileges.h"
#include "daemon/signals.h"
#include "daemon/system_calls.h"
#include "proxy/gate.h"
#include "proxy/proxy.h"

#define NEVER_US       UINT64_MAX
#define RULES_LATE_US  UINT64_C(5000000) /* without rules for so long: they were forgotten */
#define DRAIN_CHECK_US UINT64_C(50000) /* how often a draining witness looks whether its last session ended */

/* One running proxy. */
struct witness {
    const char *config;
    char pid_path[sizeof(((struct settings_process *)NULL)->pid_file)];
    const struct settings *settings; /* the proxy's, newest */
    struct pidfile pidfile;
    struct limiter *limiter;
    struct log *log;
    struct proxy *proxy;
    struct gate gate;
    uint64_t sign_due_us; /* the next sign of life; NEVER_US = no gate, or draining */
    enum proxy_health health;
    bool gate_seen;     /* the rules have a gate */
    bool gate_told;     /* the log has said whether the rules are there */
    bool reload_failed; /* the last one */
    int signal_fd;
    uint64_t started_us;
    uint64_t peaks_since_us;
    uint64_t watchdog_interval_us, watchdog_due_us; /* 0 and NEVER_US = nobody watches */
    uint64_t drain_until_us;                        /* NEVER_US = not draining */
};

static void log_worst_case(struct witness *witness, uint64_t descriptors)
{
    struct limits_memory memory;
    struct limiter_stats limiter;
    struct log_stats log;

    limiter_stats(witness->limiter, &limiter);
    log_stats(witness->log, &log);
    limits_worst_case(&memory, &witness->settings->proxy, descriptors, limiter.memory_octets,
                      log.memory_octets);
    log_message(witness->log, LOG_INFO, "limits",
                "%llu descriptors allow %llu sessions; memory at worst %llu MB: %llu MB in relay buffers, "
                "%llu kB for %u sources, %llu kB for the log",
                (unsigned long long)descriptors, (unsigned long long)memory.sessions,
                (unsigned long long)memory.total_octets >> 20, (unsigned long long)memory.buffer_octets >> 20,
                (unsigned long long)memory.limiter_octets >> 10, limiter.rows_max,
                (unsigned long long)memory.log_octets >> 10);
}

static void log_statistics(struct witness *witness)
{
    struct proxy_stats proxy;
    struct limiter_stats limiter;
    struct log_stats log;

    proxy_stats(witness->proxy, &proxy);
    limiter_stats(witness->limiter, &limiter);
    log_stats(witness->log, &log);
    log_message(witness->log, LOG_NOTICE, "statistics",
                "uptime-s=%llu sessions=%u sessions-peak=%u accepted=%llu finished=%llu connect-failed=%llu "
                "refused=%llu "
                "held=%llu accept-pauses=%llu icmp-undiverted=%llu sources=%u sources-max=%u uncounted=%llu "
                "evicted=%llu "
                "log-lines=%llu log-left-out=%llu rules=%s",
                (unsigned long long)((clock_monotonic_us() - witness->started_us) / 1000000), proxy.sessions,
                proxy.sessions_peak, (unsigned long long)proxy.accepted, (unsigned long long)proxy.finished,
                (unsigned long long)proxy.connect_failed, (unsigned long long)proxy.refused,
                (unsigned long long)proxy.held, (unsigned long long)proxy.accept_pauses,
                (unsigned long long)proxy.icmp_undiverted, limiter.rows_used, limiter.rows_max,
                (unsigned long long)limiter.uncounted, (unsigned long long)limiter.evicted,
                (unsigned long long)log.written,
                (unsigned long long)(log.left_out_ring + log.left_out_rate + log.left_out_sink),
                witness->gate_seen ? "fail-open" : "none-or-fail-closed");
}

static void log_peaks(struct witness *witness, uint64_t now_us, bool reset)
{
    peaks_log(witness->log, witness->limiter, witness->settings->log.peaks_count,
              witness->settings->policy.ipv6_source_prefix, now_us - witness->peaks_since_us, reset);
    if (reset) {
        witness->peaks_since_us = now_us;
    }
}

/* ---- signs of life ---- */

static void log_health(struct witness *witness)
{
    const char *passing = witness->gate_seen ? "new connections pass by unseen" : "new connections wait";

    switch (witness->health) {
    case PROXY_WELL:
        log_message(witness->log, LOG_NOTICE, "proxy", "takes new connections again");
        break;
    case PROXY_FULL:
        log_message(witness->log, LOG_WARNING, "proxy", "full: %s until sessions end", passing);
        break;
    case PROXY_HANGS:
        log_message(witness->log, LOG_CRIT, "proxy", "a worker thread hangs: %s", passing);
        break;
    }
}

static void log_gate(struct witness *witness)
{
    if (witness->gate_seen && witness->settings->proxy.fail == SETTINGS_FAIL_CLOSED) {
        log_message(witness->log, LOG_WARNING, "proxy",
                    "fail = closed, but the rules fail open: load them with --fail closed");
    } else if (witness->gate_seen) {
        log_message(witness->log, LOG_NOTICE, "proxy", "the rules are there, and fail open");
    } else {
        log_message(witness->log, LOG_NOTICE, "proxy",
                    "the rules that fail open are gone: nothing new is taken, or they fail closed");
    }
    witness->gate_told = true;
}

/* Whoever starts it by hand and forgets the rules would wait for verdicts in vain. */
static void log_no_rules(struct witness *witness, uint64_t now_us)
{
    if (witness->gate_told || witness->settings->proxy.fail == SETTINGS_FAIL_CLOSED ||
        now_us - witness->started_us < RULES_LATE_US) {
        return;
    }
    witness->gate_told = true;
    log_message(
        witness->log, LOG_WARNING, "proxy",
        "no rules that fail open are loaded, so no connection comes here; load them: smtpwitness rules load");
}

/* Says life while all is well. Whoever hangs here, or elsewhere in this thread, says nothing. */
static void give_sign(struct witness *witness, uint64_t now_us)
{
    enum proxy_health health = proxy_health(witness->proxy, now_us);
    bool seen = health == PROXY_WELL ? gate_say_life(&witness->gate) : witness->gate_seen;

    if (health != PROXY_WELL && witness->health == PROXY_WELL) {
        (void)gate_say_farewell(&witness->gate); /* the next sign tells whether the rules are there */
    }
    if (seen != witness->gate_seen) {
        witness->gate_seen = seen;
        log_gate(witness);
    }
    log_no_rules(witness, now_us);
    if (health != witness->health) {
        witness->health = health;
        log_health(witness);
    }
    witness->sign_due_us = now_us + GATE_INTERVAL_US;
}

/* ---- running ---- */

static void tell_status(struct witness *witness)
{
    struct proxy_stats stats;

    proxy_stats(witness->proxy, &stats);
    notify_status("%s: %u sessions open, %u at most, %llu since the start%s",
                  witness->drain_until_us == NEVER_US ? "running" : "finishing", stats.sessions,
                  stats.sessions_peak, (unsigned long long)stats.accepted,
                  witness->reload_failed ? "; the last reload failed, see the log" : "");
}

static void reload(struct witness *witness)
{
    struct settings *loaded;

    notify_reloading();
    loaded = reload_settings(witness->config, witness->settings, witness->log);
    if (loaded != NULL) {
        witness->settings = loaded;
        proxy_reload(witness->proxy, loaded);
    }
    witness->reload_failed = loaded == NULL;
    notify_ready("running");
    tell_status(witness);
}

/* The first time begins to drain, the second ends it. A farewell would let new connections pass by a successor unseen. */
static void stop(struct witness *witness, bool farewell, uint64_t now_us)
{
    if (witness->drain_until_us == NEVER_US) {
        uint32_t open;

        if (farewell) {
            (void)gate_say_farewell(&witness->gate); /* first, so that nobody comes to closed listeners */
        }
        witness->sign_due_us = NEVER_US;
        open = proxy_drain(witness->proxy);
        witness->drain_until_us = now_us + witness->settings->proxy.drain_us;
        notify_stopping("finishing open sessions", witness->settings->proxy.drain_us);
        log_message(witness->log, LOG_NOTICE, "proxy",
                    "stopping: no new sessions, %u still open get %llu s to finish", open,
                    (unsigned long long)(witness->settings->proxy.drain_us / 1000000));
    } else {
        witness->drain_until_us = now_us;
    }
}

static bool drained(struct witness *witness, uint64_t now_us)
{
    struct proxy_stats stats;

    if (witness->drain_until_us == NEVER_US) {
        return false;
    }
    proxy_stats(witness->proxy, &stats);
    return stats.sessions == 0 || now_us >= witness->drain_until_us;
}

static uint64_t peaks_due_us(const struct witness *witness)
{
    uint64_t interval_us = witness->settings->log.peaks_interval_us;

    return interval_us == 0 ? NEVER_US : witness->peaks_since_us + interval_us;
}

static void run_timers(struct witness *witness, uint64_t now_us)
{
    if (now_us >= peaks_due_us(witness)) {
        log_peaks(witness, now_us, true);
    }
    if (now_us >= witness->sign_due_us) {
        give_sign(witness, now_us);
    }
    if (now_us >= witness->watchdog_due_us) {
        if (witness->health != PROXY_HANGS) {
            notify_watchdog();
        }
        tell_status(witness);
        witness->watchdog_due_us = now_us + witness->watchdog_interval_us;
    }
}

static int poll_timeout_ms(const struct witness *witness, uint64_t now_us)
{
    uint64_t due_us = peaks_due_us(witness);

    due_us = witness->watchdog_due_us < due_us ? witness->watchdog_due_us : due_us;
    due_us = witness->sign_due_us < due_us ? witness->sign_due_us : due_us;
    if (witness->drain_until_us != NEVER_US && now_us + DRAIN_CHECK_US < due_us) {
        due_us = now_us + DRAIN_CHECK_US;
    }
    if (due_us == NEVER_US) {
        return -1;
    }
    if (due_us <= now_us) {
        return 0;
    }
    due_us = (due_us - now_us) / 1000 + 1;
    return due_us > 3600000 ? 3600000 : (int)due_us;
}

static void run(struct witness *witness)
{
    uint64_t now_us = clock_monotonic_us();

    while (!drained(witness, now_us)) {
        struct pollfd signals = {.fd = witness->signal_fd, .events = POLLIN};

        (void)poll(&signals, 1,
                   poll_timeout_ms(witness, now_us)); /* a failure is a round too early, no more */
        now_us = clock_monotonic_us();
        switch (signals_read(witness->signal_fd)) {
        case SIGNALS_NONE:
            break;
        case SIGNALS_STOP:
            stop(witness, true, now_us);
            break;
        case SIGNALS_HAND_OVER:
            stop(witness, false, now_us);
            break;
        case SIGNALS_RELOAD:
            reload(witness);
            break;
        case SIGNALS_REPORT:
            log_peaks(witness, now_us, false);
            log_statistics(witness);
            break;
        }
        run_timers(witness, now_us);
    }
}

/* ---- starting and stopping ---- */

/* Everything that can be refused before anything is touched. */
static bool prepare(struct witness *witness, const struct arguments *arguments, struct settings_error *error)
{
    const char *pid_file = arguments->values[COMMAND_PROXY_PID_FILE];
    int length = snprintf(witness->pid_path, sizeof(witness->pid_path), "%s",
                          pid_file != NULL ? pid_file : witness->settings->process.pid_file);

    if (length < 0 || (size_t)length >= sizeof(witness->pid_path)) {
        snprintf(error->text, sizeof(error->text), "--pid-file: longer than %zu octets",
                 sizeof(witness->pid_path) - 1);
        return false;
    }
    return privileges_check(witness->settings->process.user, error);
}

static bool create_proxy(struct witness *witness, struct settings *take_settings,
                         struct settings_error *error)
{
    int listeners[NOTIFY_MAX_LISTENERS];
    struct proxy_options options = {
        .settings = take_settings, .limiter = witness->limiter, .log = witness->log};

    if (!notify_listeners(listeners, &options.listener_count, error)) {
        settings_destroy(take_settings);
        return false;
    }
    if (options.listener_count == 0 && !port_check_free(take_settings->proxy.listen_port, error)) {
        settings_destroy(take_settings);
        return false;
    }
    options.listeners = options.listener_count > 0 ? listeners : NULL;
    witness->proxy = proxy_create(&options, error);
    return witness->proxy != NULL;
}

/* With fail = closed there need be no gate; if the rules have one all the same, we say so. */
static bool open_gate(struct witness *witness, struct settings_error *error)
{
    return gate_open(&witness->gate, error) || witness->settings->proxy.fail == SETTINGS_FAIL_CLOSED;
}

static bool start(struct witness *witness, struct settings *take_settings, const struct arguments *arguments,
                  struct settings_error *error)
{
    const struct log_options log_options = {
        .foreground = arguments->values[COMMAND_PROXY_FOREGROUND] != NULL,
        .json_stdout = arguments->values[COMMAND_PROXY_FORMAT] != NULL &&
                       strcmp(arguments->values[COMMAND_PROXY_FORMAT], "json") == 0,
    };
    uint64_t descriptors = limits_raise_descriptors();

    signals_block();
    witness->signal_fd = signals_open();
    if (witness->signal_fd == -1) {
        snprintf(error->text, sizeof(error->text), "signalfd: %s", strerror(errno));
        settings_destroy(take_settings);
        return false;
    }
    if (!privileges_lock(error) || !pidfile_open(&witness->pidfile, witness->pid_path, error) ||
        (witness->limiter = limiter_start(witness->settings->max_sources, error)) == NULL) {
        settings_destroy(take_settings);
        return false;
    }
    witness->log = log_create(&take_settings->log, &log_options, error);
    if (witness->log == NULL) {
        settings_destroy(take_settings);
        return false;
    }
    event_log_attach(witness->log);
    if (!open_gate(witness, error)) {
        settings_destroy(take_settings);
        return false;
    }
    if (!create_proxy(witness, take_settings, error) ||
        !privileges_drop(witness->settings->process.user, witness->settings->proxy.outgoing_mark, error) ||
        (witness->settings->process.system_call_filter && !system_calls_restrict(error)) ||
        !proxy_start(witness->proxy, error)) {
        return false;
    }
    log_worst_case(witness, descriptors);
    return true;
}

static void finish(struct witness *witness)
{
    proxy_destroy(witness->proxy);
    gate_close(&witness->gate);
    event_log_attach(NULL);
    log_destroy(witness->log);
    limiter_destroy(witness->limiter);
    pidfile_close(&witness->pidfile);
    if (witness->signal_fd != -1) {
        close(witness->signal_fd);
    }
}

enum command_exit command_proxy(const struct arguments *arguments)
{
    const char *config = arguments->values[COMMAND_PROXY_CONFIG];
    struct witness witness = {
        .config = config != NULL ? config : COMMAND_DEFAULT_CONFIG,
        .pidfile = {.fd = -1},
        .gate = {.life = {-1, -1}, .farewell = {-1, -1}},
        .signal_fd = -1,
        .drain_until_us = NEVER_US,
    };
    struct settings_error error = {0};
    struct settings *settings = settings_load(witness.config, &error);

    if (settings == NULL) {
        command_error(error.text);
        return COMMAND_USAGE;
    }
    witness.settings = settings;
    if (!prepare(&witness, arguments, &error)) {
        settings_destroy(settings);
        command_error(error.text);
        return COMMAND_FAILED;
    }
    if (!start(&witness, settings, arguments, &error)) {
        if (witness.log != NULL && arguments->values[COMMAND_PROXY_FOREGROUND] == NULL) {
            log_message(witness.log, LOG_ERR, "proxy", "not started: %s", error.text);
        }
        finish(&witness);
        command_error(error.text);
        return COMMAND_FAILED;
    }

    witness.started_us = witness.peaks_since_us = clock_monotonic_us();
    witness.watchdog_interval_us = notify_watchdog_interval_us();
    witness.watchdog_due_us = witness.watchdog_interval_us == 0 ? NEVER_US : witness.started_us;
    log_message(witness.log, LOG_NOTICE, "proxy", "ready, listening on port %u",
                witness.settings->proxy.listen_port);
    notify_ready("running");
    run(&witness);

    log_peaks(&witness, clock_monotonic_us(), true);
    proxy_stop(witness.proxy);
    log_statistics(&witness);
    log_message(witness.log, LOG_NOTICE, "proxy", "stopped");
    finish(&witness);
    return COMMAND_OK;
}
