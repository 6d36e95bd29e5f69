#include "proxy/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>
#include <sys/epoll.h>
#include <event2/event.h>

#include "daemon/clock.h"
#include "proxy/listener.h"

#define SAY_AGAIN_US 60000000u /* a shortage is logged at most once a minute */

struct worker {
    struct relay_host host;
    struct worker_options options;
    struct settings_share *settings; /* for new sessions */
    struct event_base *base;
    struct event *sessions_event; /* the host's epoll set */
    struct event *wake_event;     /* the host's eventfd */
    struct event *timer_event;
    struct event *again_event;
    struct event *resume_event;
    struct event *tap_event;
    struct event *listener_events[WORKER_MAX_LISTENERS];
    uint16_t listener_ports[WORKER_MAX_LISTENERS];
    pthread_t thread;
    bool started;
    atomic_bool paused; /* written by its own thread alone */
    bool draining;
    uint64_t timer_us; /* what timer_event is set to; WHEEL_NEVER_US = not set */
    uint64_t pause_us;
    unsigned shortages; /* in a row */
    int spare_fd;       /* given up to accept and reset one connection when no descriptor is left */
    pthread_mutex_t mail_lock;
    struct settings_share *mail_settings; /* under mail_lock */
    atomic_bool mail_drain, mail_stop;
    _Atomic uint64_t asked_us; /* whether it lives; 0 = answered */
};

static struct timeval timeval_of(uint64_t microseconds)
{
    return (struct timeval){.tv_sec = (time_t)(microseconds / 1000000u),
                            .tv_usec = (suseconds_t)(microseconds % 1000000u)};
}

static void set_timer(struct worker *worker)
{
    const uint64_t due_us = wheel_next_us(&worker->host.wheel);
    const uint64_t now_us = clock_monotonic_us();
    struct timeval wait;

    if (due_us == WHEEL_NEVER_US || (worker->timer_us != WHEEL_NEVER_US && worker->timer_us <= due_us))
        return;
    wait = timeval_of(due_us > now_us ? due_us - now_us : 0);
    if (event_add(worker->timer_event, &wait) == 0)
        worker->timer_us = due_us;
}

/* After every turn: whoever has octets left comes again, the timer is set, the dead are freed. */
static void end_turn(struct worker *worker)
{
    /* By a timer of no length, not by event_active(): that would run again before anyone else is polled. */
    if (worker->host.again != NULL)
        event_add(worker->again_event, &(const struct timeval){.tv_sec = 0, .tv_usec = 0});
    relay_host_free_dead(&worker->host);
    set_timer(worker);
}

/* ---- accepting ---- */

static void say_shortage(struct worker *worker, const char *what, uint64_t now_us)
{
    uint64_t said_us = atomic_load(worker->options.said_us);

    if (said_us != 0 && now_us < said_us + SAY_AGAIN_US)
        return;
    if (!atomic_compare_exchange_strong(worker->options.said_us, &said_us, now_us))
        return;
    log_message(worker->options.log, LOG_ERR, "proxy", "%s; %llu pauses so far, %u sessions open", what,
                (unsigned long long)atomic_load(worker->options.accept_pauses),
                atomic_load(&worker->options.counters->sessions));
}

static void pause_listeners(struct worker *worker, uint64_t pause_us)
{
    const struct timeval wait = timeval_of(pause_us);

    if (!worker->paused) {
        for (size_t index = 0; index < worker->options.listener_count; index++) {
            if (worker->listener_events[index] != NULL)
                event_del(worker->listener_events[index]);
        }
    }
    worker->paused = true;
    event_add(worker->resume_event, &wait);
}

static void on_resume(evutil_socket_t fd, short events, void *context)
{
    struct worker *worker = context;

    (void)fd;
    (void)events;
    if (worker->draining || !worker->paused)
        return;
    worker->paused = false;
    for (size_t index = 0; index < worker->options.listener_count; index++) {
        if (worker->listener_events[index] != NULL)
            event_add(worker->listener_events[index], NULL);
    }
}

/* No descriptor is left, and it lasts: those who wait are told by a reset instead of sitting there without a
 * greeting. The spare descriptor makes room for one at a time. */
static void turn_away(struct worker *worker, int listener, uint64_t now_us)
{
    for (unsigned count = 0; count < WORKER_TURN_AWAY_MAX && worker->spare_fd != -1; count++) {
        struct address client, server;
        enum listener_result result;
        int fd = -1;

        close(worker->spare_fd);
        worker->spare_fd = -1;
        result = listener_accept(listener, &fd, &client, &server);
        if (result == LISTENER_OK)
            relay_turn_away(&worker->host, worker->settings, fd, &client, &server, now_us);
        worker->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (result != LISTENER_OK && result != LISTENER_AGAIN)
            break;
    }
}

static void on_shortage(struct worker *worker, int listener, uint64_t now_us)
{
    atomic_fetch_add(worker->options.accept_pauses, 1);
    say_shortage(worker, "no descriptor or memory left: new connections wait, then are reset", now_us);
    worker->shortages++;
    worker->pause_us = worker->pause_us == 0 ? WORKER_PAUSE_FIRST_US : worker->pause_us * 2;
    if (worker->pause_us > WORKER_PAUSE_LONGEST_US)
        worker->pause_us = WORKER_PAUSE_LONGEST_US;
    if (worker->spare_fd == -1)
        worker->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (worker->shortages > 2)
        turn_away(worker, listener, now_us);
    pause_listeners(worker, worker->pause_us);
}

/* Someone reached the listening port itself, past the TPROXY rules: the server to connect to would be ourselves. */
static bool is_loop(const struct worker *worker, const struct address *server)
{
    for (size_t index = 0; index < worker->options.listener_count; index++) {
        if (server->port == worker->listener_ports[index])
            return true;
    }
    return false;
}

/* Takes up to a turn's share; true when more may be waiting. */
static bool accept_some(struct worker *worker, int listener)
{
    const uint64_t now_us = clock_monotonic_us();

    for (unsigned count = 0; count < WORKER_ACCEPTS_PER_TURN; count++) {
        struct address client, server;
        enum listener_result result;
        uint32_t shortages;
        int client_fd = -1;

        if (atomic_load(&worker->options.counters->sessions) >= atomic_load(worker->options.max_sessions)) {
            atomic_fetch_add(worker->options.accept_pauses, 1);
            say_shortage(worker, "max-sessions reached: new connections wait", now_us);
            pause_listeners(worker, WORKER_PAUSE_FIRST_US);
            return false;
        }
        result = listener_accept(listener, &client_fd, &client, &server);
        if (result == LISTENER_EMPTY)
            return false;
        if (result == LISTENER_AGAIN)
            continue;
        if (result == LISTENER_SHORTAGE) {
            on_shortage(worker, listener, now_us);
            return false;
        }
        if (result == LISTENER_BROKEN) {
            log_message(worker->options.log, LOG_CRIT, "proxy", "a listener does not work any more: %s",
                        strerror(errno));
            pause_listeners(worker, WORKER_PAUSE_LONGEST_US);
            return false;
        }
        if (is_loop(worker, &server)) {
            close(client_fd);
            say_shortage(worker, "a connection came to the listening port itself and was reset", now_us);
            continue;
        }
        shortages = worker->host.shortages;
        relay_accept(&worker->host, worker->settings, client_fd, &client, &server, now_us);
        if (worker->host.shortages != shortages) { /* there was one for the client, none for the server leg */
            on_shortage(worker, listener, now_us);
            return false;
        }
        worker->shortages = 0;
        worker->pause_us = 0;
    }
    return true;
}

static void on_acceptable(evutil_socket_t fd, short events, void *context)
{
    struct worker *worker = context;

    (void)events;
    (void)accept_some(worker, fd);
    end_turn(worker);
}

/* ---- the other events ---- */

static void on_sessions(evutil_socket_t fd, short what, void *context)
{
    struct worker *worker = context;
    struct epoll_event events[WORKER_EVENTS];
    const int count = epoll_wait(fd, events, WORKER_EVENTS, 0);

    (void)what;
    if (count > 0)
        relay_host_dispatch(&worker->host, events, (size_t)count);
    end_turn(worker);
}

static void on_again(evutil_socket_t fd, short what, void *context)
{
    struct worker *worker = context;

    (void)fd;
    (void)what;
    relay_host_run_again(&worker->host);
    end_turn(worker);
}

static void on_timer(evutil_socket_t fd, short what, void *context)
{
    struct worker *worker = context;

    (void)fd;
    (void)what;
    worker->timer_us = WHEEL_NEVER_US;
    relay_host_run_timers(&worker->host, clock_monotonic_us());
    end_turn(worker);
}

static void on_tap(evutil_socket_t fd, short what, void *context)
{
    struct worker *worker = context;
    const struct timeval wait = timeval_of(WORKER_TAP_INTERVAL_US);

    (void)fd;
    (void)what;
    tap_drain(worker->options.tap, clock_monotonic_us());
    event_add(worker->tap_event, &wait);
}

static void close_listeners(struct worker *worker)
{
    for (size_t index = 0; index < worker->options.listener_count; index++) {
        if (worker->listener_events[index] == NULL)
            continue;
        event_free(worker->listener_events[index]);
        worker->listener_events[index] = NULL;
        close(worker->options.listeners[index]);
    }
}

/* Those the kernel has accepted for us are served still: closing the socket would reset them. A passed socket stays
 * open at its owner's, and those who wait there are the successor's. */
static void drain(struct worker *worker)
{
    if (worker->draining)
        return;
    for (size_t index = 0; index < worker->options.listener_count && !worker->options.inherited; index++) {
        unsigned turns = LISTENER_BACKLOG / WORKER_ACCEPTS_PER_TURN;

        while (!worker->paused && turns-- > 0 && accept_some(worker, worker->options.listeners[index]))
            continue;
    }
    worker->draining = true;
    close_listeners(worker);
}

static void on_wake(evutil_socket_t fd, short what, void *context)
{
    struct worker *worker = context;
    struct settings_share *share;
    uint64_t count;

    (void)what;
    if (read(fd, &count, sizeof count) == -1 && errno != EAGAIN)
        log_message(worker->options.log, LOG_ERR, "proxy", "reading a wake-up: %s", strerror(errno));
    pthread_mutex_lock(&worker->mail_lock);
    share = worker->mail_settings;
    worker->mail_settings = NULL;
    pthread_mutex_unlock(&worker->mail_lock);
    atomic_store(&worker->asked_us, 0);
    if (share != NULL) {
        settings_share_release(worker->settings);
        worker->settings = share;
    }
    relay_host_run_woken(&worker->host, clock_monotonic_us());
    if (atomic_load(&worker->mail_drain))
        drain(worker);
    if (atomic_load(&worker->mail_stop)) {
        worker->draining = true;
        close_listeners(worker);
        relay_host_stop(&worker->host, clock_monotonic_us());
        event_base_loopbreak(worker->base);
        return;
    }
    end_turn(worker);
}

/* ---- life ---- */

static struct event *new_event(struct worker *worker, int fd, short what, event_callback_fn function)
{
    return event_new(worker->base, fd, what, function, worker);
}

struct worker *worker_create(const struct worker_options *options)
{
    struct worker *worker = calloc(1, sizeof *worker);
    struct event_config *config = NULL;

    if (worker == NULL)
        return NULL;
    worker->options = *options;
    worker->options.listener_count = 0; /* until they are ours */
    worker->timer_us = WHEEL_NEVER_US;
    worker->spare_fd = -1;
    worker->host.epoll_fd = worker->host.wake_fd = -1;
    if (pthread_mutex_init(&worker->mail_lock, NULL) != 0) {
        free(worker);
        return NULL;
    }
    if (!relay_host_init(&worker->host, clock_monotonic_us())) {
        pthread_mutex_destroy(&worker->mail_lock);
        free(worker);
        return NULL;
    }
    worker->host.log = options->log;
    worker->host.caller = (struct session_caller){.mode = RECORD_PROXY, .limiter = options->limiter};
    snprintf(worker->host.caller.id_prefix, sizeof worker->host.caller.id_prefix, "%04x",
             options->run & 0xffffu);
    worker->host.tap = options->tap;
    worker->host.counters = options->counters;
    worker->host.transparent = true;
    config = event_config_new();
    if (config == NULL || event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK) == -1)
        goto failed;
    worker->base = event_base_new_with_config(config);
    event_config_free(config);
    config = NULL;
    if (worker->base == NULL)
        goto failed;
    worker->sessions_event = new_event(worker, worker->host.epoll_fd, EV_READ | EV_PERSIST, on_sessions);
    worker->wake_event = new_event(worker, worker->host.wake_fd, EV_READ | EV_PERSIST, on_wake);
    worker->timer_event = new_event(worker, -1, 0, on_timer);
    worker->again_event = new_event(worker, -1, 0, on_again);
    worker->resume_event = new_event(worker, -1, 0, on_resume);
    worker->tap_event = new_event(worker, -1, 0, on_tap);
    if (worker->sessions_event == NULL || worker->wake_event == NULL || worker->timer_event == NULL ||
        worker->again_event == NULL || worker->resume_event == NULL || worker->tap_event == NULL ||
        event_add(worker->sessions_event, NULL) == -1 || event_add(worker->wake_event, NULL) == -1)
        goto failed;
    for (size_t index = 0; index < options->listener_count; index++) {
        worker->listener_ports[index] = listener_port(options->listeners[index]);
        worker->listener_events[index] =
            new_event(worker, options->listeners[index], EV_READ | EV_PERSIST, on_acceptable);
        if (worker->listener_events[index] == NULL || event_add(worker->listener_events[index], NULL) == -1)
            goto failed;
    }
    if (options->drains_tap && options->tap != NULL)
        on_tap(-1, 0, worker);
    worker->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    worker->settings = settings_share_acquire(options->settings);
    worker->options.listener_count = options->listener_count;
    return worker;

failed:
    if (config != NULL)
        event_config_free(config);
    worker_destroy(worker);
    return NULL;
}

static void *run(void *context)
{
    struct worker *worker = context;

    event_base_dispatch(worker->base);
    return NULL;
}

bool worker_start(struct worker *worker)
{
    sigset_t all, before;
    bool started;

    /* Signals are the main thread's. */
    sigfillset(&all);
    if (pthread_sigmask(SIG_SETMASK, &all, &before) != 0)
        return false;
    started = pthread_create(&worker->thread, NULL, run, worker) == 0;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    worker->started = started;
    return started;
}

static void ring(struct worker *worker)
{
    const uint64_t one = 1;

    if (write(worker->host.wake_fd, &one, sizeof one) == -1)
        return; /* a full counter: it rings already */
}

void worker_tell_settings(struct worker *worker, struct settings_share *share)
{
    struct settings_share *older;

    pthread_mutex_lock(&worker->mail_lock);
    older = worker->mail_settings;
    worker->mail_settings = settings_share_acquire(share);
    pthread_mutex_unlock(&worker->mail_lock);
    settings_share_release(older);
    ring(worker);
}

bool worker_ask_life(struct worker *worker, uint64_t now_us)
{
    const uint64_t asked_us = atomic_load(&worker->asked_us);

    if (asked_us != 0)
        return now_us < asked_us + WORKER_ANSWER_US;
    atomic_store(&worker->asked_us, now_us);
    ring(worker);
    return true;
}

bool worker_is_full(const struct worker *worker)
{
    return atomic_load(&worker->paused);
}

void worker_tell_drain(struct worker *worker)
{
    atomic_store(&worker->mail_drain, true);
    ring(worker);
}

void worker_tell_stop(struct worker *worker)
{
    atomic_store(&worker->mail_stop, true);
    ring(worker);
}

void worker_join(struct worker *worker)
{
    if (!worker->started)
        return;
    pthread_join(worker->thread, NULL);
    worker->started = false;
}

static void free_event(struct event *event)
{
    if (event != NULL)
        event_free(event);
}

void worker_destroy(struct worker *worker)
{
    if (worker == NULL)
        return;
    free_event(worker->sessions_event);
    free_event(worker->wake_event);
    free_event(worker->timer_event);
    free_event(worker->again_event);
    free_event(worker->resume_event);
    free_event(worker->tap_event);
    for (size_t index = 0; index < WORKER_MAX_LISTENERS; index++) {
        if (worker->listener_events[index] == NULL)
            continue;
        event_free(worker->listener_events[index]);
        if (index < worker->options.listener_count)
            close(worker->options.listeners[index]);
    }
    if (worker->base != NULL)
        event_base_free(worker->base);
    if (worker->spare_fd != -1)
        close(worker->spare_fd);
    settings_share_release(worker->settings);
    settings_share_release(worker->mail_settings);
    relay_host_clear(&worker->host);
    pthread_mutex_destroy(&worker->mail_lock);
    free(worker);
}
