#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/epoll.h>

#include "core/policy/timeouts.h"
#include "daemon/clock.h"
#include "core/policy/refusal.h"
#include "proxy/relay_internal.h"

static const struct policy_settings *policy_of(const struct relay *relay)
{
    return &relay->settings->settings->policy;
}

static const struct policy_limits *limits_of(const struct relay *relay)
{
    const struct policy_override *source;

    return policy_limits_for(policy_of(relay), &relay->connection.client, &relay->connection.server, &source);
}

static void say_refusal(struct relay *relay, const struct limiter_counts *counts, enum action action)
{
    struct record record;

    session_refusal_record(&relay->session, counts, action, clock_unix_ms(), &record);
    log_record(relay->host->log, &record);
}

static bool tls_from_start(const struct relay *relay)
{
    const struct settings_ports *ports = &relay->settings->settings->smtp.implicit_tls_ports;

    for (uint32_t index = 0; index < ports->count; index++) {
        if (ports->port[index] == relay->connection.server.port)
            return true;
    }
    return false;
}

static void refuse(struct relay *relay, const struct limiter_counts *counts, uint64_t now_us)
{
    char text[REFUSAL_TEXT_SIZE];
    size_t length;

    /* Where TLS comes first nobody would understand the text. */
    const bool by_reset = limits_of(relay)->refuse_with == POLICY_REFUSE_RESET || tls_from_start(relay);

    atomic_fetch_add(&relay->host->counters->refused, 1);
    relay->session.action = ACTION_REFUSED;
    session_on_end(&relay->session, SESSION_END_REFUSED, now_us);
    say_refusal(relay, counts, ACTION_REFUSED);
    relay_conclude(relay, counts, now_us);
    if (by_reset) {
        relay_die(relay);
        return;
    }
    length = refusal_text(text, policy_of(relay)->host_name, &relay->connection.client);
    relay->state = RELAY_PARTING;
    relay_write(relay, SIDE_CLIENT, (const uint8_t *)text, length, REFUSAL_TEXT_SIZE, now_us);
    relay_part(relay, now_us);
}

static void held_wake(void *context)
{
    struct relay_held *held = context;
    struct relay_host *host = held->relay->host;
    const uint64_t one = 1;

    pthread_mutex_lock(&host->woken_lock);
    if (!held->woken) {
        held->woken = true;
        held->next_woken = host->woken;
        host->woken = held;
    }
    pthread_mutex_unlock(&host->woken_lock);
    /* A full counter means that the worker is being woken already. */
    if (write(host->wake_fd, &one, sizeof one) == -1)
        return;
}

static void hold(struct relay *relay, const struct limiter_counts *counts, uint64_t now_us)
{
    struct relay_held *held = calloc(1, sizeof *held);
    const uint64_t longest_us = limits_of(relay)->hold_longest_us;

    if (held == NULL) {
        refuse(relay, counts, now_us);
        return;
    }
    held->relay = relay;
    held->waiter.client = relay->connection.client;
    held->waiter.server = relay->connection.server;
    held->waiter.wake = held_wake;
    held->waiter.context = held;
    relay->held = held;
    relay->state = RELAY_HELD;
    relay->session.action = ACTION_HELD;
    session_on_held(&relay->session, true, now_us);
    relay->state_due_us = longest_us == 0 ? WHEEL_NEVER_US : now_us + longest_us;
    atomic_fetch_add(&relay->host->counters->held, 1);
    say_refusal(relay, counts, ACTION_HELD);
    if (limiter_wait(relay->host->caller.limiter, policy_of(relay), &held->waiter, now_us))
        relay_granted(relay, now_us);
    else
        relay_schedule(relay, now_us);
}

/* After limiter_leave() or limiter_take() nobody wakes it any more; it may still stand in the host's list. */
static void forget_held(struct relay *relay)
{
    struct relay_host *host = relay->host;
    struct relay_held *held = relay->held;

    pthread_mutex_lock(&host->woken_lock);
    for (struct relay_held **link = &host->woken; held->woken && *link != NULL; link = &(*link)->next_woken) {
        if (*link == held) {
            *link = held->next_woken;
            break;
        }
    }
    pthread_mutex_unlock(&host->woken_lock);
    free(held);
    relay->held = NULL;
}

void relay_leave_queue(struct relay *relay, uint64_t now_us)
{
    if (relay->held == NULL)
        return;
    limiter_leave(relay->host->caller.limiter, &relay->held->waiter, now_us);
    forget_held(relay);
}

void relay_granted(struct relay *relay, uint64_t now_us)
{
    struct leg *client = relay_leg(relay, SIDE_CLIENT);

    if (relay->held == NULL ||
        !limiter_take(relay->host->caller.limiter, &relay->held->waiter, &relay->session.ticket))
        return;
    forget_held(relay);
    session_on_held(&relay->session, false, now_us);
    client->readable = true; /* the edge was spent while it was held */
    client->urgent = true;   /* that too, perhaps */
    relay_dial(relay, now_us);
}

static void leave_and_refuse(struct relay *relay, uint64_t now_us)
{
    struct limiter_counts counts = relay->session.counts;

    relay_leave_queue(relay, now_us);
    refuse(relay, &counts, now_us);
}

void relay_held_event(struct relay *relay, uint32_t events, uint64_t now_us)
{
    struct leg *client = relay_leg(relay, SIDE_CLIENT);
    int error;

    if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) == 0)
        return;
    error = leg_take_error(client);
    if ((events & (EPOLLRDHUP | EPOLLHUP)) == 0 && (error == 0 || icmp_error_is_soft(error)))
        return;
    relay_leave_queue(relay, now_us);
    relay_sample(relay, SIDE_CLIENT, now_us);
    session_on_end(&relay->session, error == 0 ? SESSION_END_CLIENT_FIN : SESSION_END_CLIENT_RESET, now_us);
    relay_conclude(relay, NULL, now_us);
    if (error == 0)
        leg_close_orderly(client);
    relay_die(relay);
}

void relay_held_timer(struct relay *relay, uint64_t now_us)
{
    if (now_us >= relay->state_due_us)
        leave_and_refuse(relay, now_us);
    else
        relay_schedule(relay, now_us);
}

void relay_admit(struct relay *relay, uint64_t now_us)
{
    struct relay_host *host = relay->host;
    struct limiter_counts counts;

    if (host->caller.limiter == NULL) {
        relay_dial(relay, now_us);
        return;
    }
    memset(&counts, 0, sizeof counts);
    switch (limiter_admit(host->caller.limiter, policy_of(relay), &relay->connection.client,
                          &relay->connection.server, now_us, &relay->session.ticket, &counts)) {
    case LIMITER_ADMIT:
        relay->session.counts = counts;
        if (counts.would_refuse || counts.would_hold) {
            relay->session.action = counts.would_refuse ? ACTION_WOULD_REFUSE : ACTION_WOULD_HOLD;
            say_refusal(relay, &counts, relay->session.action);
        }
        relay_dial(relay, now_us);
        break;
    case LIMITER_REFUSE:
        relay->session.counts = counts;
        refuse(relay, &counts, now_us);
        break;
    case LIMITER_HOLD:
        relay->session.counts = counts;
        hold(relay, &counts, now_us);
        break;
    }
}

void relay_host_run_woken(struct relay_host *host, uint64_t now_us)
{
    for (;;) {
        struct relay_held *held;

        pthread_mutex_lock(&host->woken_lock);
        held = host->woken;
        if (held != NULL) {
            host->woken = held->next_woken;
            held->woken = false;
        }
        pthread_mutex_unlock(&host->woken_lock);
        if (held == NULL)
            return;
        relay_granted(held->relay, now_us);
    }
}
