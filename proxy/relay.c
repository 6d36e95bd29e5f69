#include "proxy/relay.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "daemon/clock.h"
#include "proxy/relay_internal.h"

#define RESET_LOOK_US        WHEEL_TICK_US /* how often the survivor's outstanding octets are looked at */
#define HANDSHAKE_TRUSTED_US 5000u         /* a longer handshake may hold our own delays or a repeated SYN */
#define PIPE_OCTETS          (1 << 20)     /* what an unprivileged process may have (fs.pipe-max-size) */
#define REPLY_OCTETS         512u          /* our own 421, beyond the limit of what is kept of a peer */

/* The lowest bit of a relay's address names the leg in epoll's data. */
_Static_assert(_Alignof(struct relay) >= 2, "the lowest bit of a relay's address must be free");
_Static_assert(sizeof(struct relay) <= 1000,
               "an idle session may take one kilobyte, the heap's own octets included");

static void drive(struct relay *relay, uint64_t now_us);

/* ---- the host's lists ---- */

static void close_pipe(struct relay_host *host)
{
    for (size_t end = 0; end < 2; end++) {
        if (host->pipe[end] != -1)
            close(host->pipe[end]);
        host->pipe[end] = -1;
    }
}

void relay_host_renew_pipe(struct relay_host *host)
{
    close_pipe(host);
    if (pipe2(host->pipe, O_CLOEXEC | O_NONBLOCK) == -1)
        host->pipe[0] = host->pipe[1] = -1;
    else
        (void)fcntl(host->pipe[1], F_SETPIPE_SZ, PIPE_OCTETS); /* a smaller one takes more turns */
}

bool relay_host_init(struct relay_host *host, uint64_t now_us)
{
    host->first = host->again = host->dead = NULL;
    host->woken = NULL;
    host->relay_count = host->shortages = 0;
    host->wake_fd = -1;
    host->pipe[0] = host->pipe[1] = -1;
    host->buffer = NULL;
    wheel_init(&host->wheel, now_us);
    if (pthread_mutex_init(&host->woken_lock, NULL) != 0)
        return false;
    host->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (host->epoll_fd == -1)
        goto failed;
    host->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (host->wake_fd == -1)
        goto failed;
    host->buffer = malloc(RELAY_READ_OCTETS);
    if (host->buffer == NULL)
        goto failed;
    relay_host_renew_pipe(host);
    return true;

failed:
    relay_host_clear(host);
    return false;
}

void relay_host_clear(struct relay_host *host)
{
    relay_host_free_dead(host);
    if (host->epoll_fd != -1)
        close(host->epoll_fd);
    if (host->wake_fd != -1)
        close(host->wake_fd);
    close_pipe(host);
    free(host->buffer);
    pthread_mutex_destroy(&host->woken_lock);
    host->epoll_fd = host->wake_fd = -1;
    host->buffer = NULL;
}

static void link_relay(struct relay *relay)
{
    struct relay_host *host = relay->host;
    struct relay_counters *counters = host->counters;
    unsigned sessions, peak;

    relay->next = host->first;
    relay->previous = NULL;
    if (host->first != NULL)
        host->first->previous = relay;
    host->first = relay;
    host->relay_count++;
    sessions = atomic_fetch_add(&counters->sessions, 1) + 1;
    peak = atomic_load(&counters->sessions_peak);
    while (sessions > peak && !atomic_compare_exchange_weak(&counters->sessions_peak, &peak, sessions))
        continue;
}

static void put_again(struct relay *relay)
{
    if (relay->in_again || relay->state == RELAY_DEAD)
        return;
    relay->in_again = true;
    relay->next_again = relay->host->again;
    relay->host->again = relay;
}

/* From here on no event, timer or list but `dead` knows the relay. A relay in the `again` list is moved to `dead`
 * when its turn there comes. */
void relay_die(struct relay *relay)
{
    struct relay_host *host = relay->host;

    if (relay->state == RELAY_DEAD)
        return;
    relay->state = RELAY_DEAD;
    for (size_t index = 0; index < SIDE_PAIR; index++)
        leg_close_reset(&relay->legs[index]);
    wheel_cancel(&host->wheel, &relay->timer);
    if (relay->previous != NULL)
        relay->previous->next = relay->next;
    else
        host->first = relay->next;
    if (relay->next != NULL)
        relay->next->previous = relay->previous;
    host->relay_count--;
    atomic_fetch_sub(&host->counters->sessions, 1);
    session_clear(&relay->session);
    settings_share_release(relay->settings);
    relay->settings = NULL;
    if (!relay->in_again) {
        relay->next_again = host->dead;
        host->dead = relay;
    }
}

void relay_host_free_dead(struct relay_host *host)
{
    while (host->dead != NULL) {
        struct relay *relay = host->dead;

        host->dead = relay->next_again;
        free(relay);
    }
}

/* ---- verdict and ends ---- */

void relay_release_place(struct relay *relay, uint64_t now_us)
{
    if (relay->host->caller.limiter != NULL)
        limiter_release(relay->host->caller.limiter, &relay->session.ticket, now_us);
}

/* Once: what is known now is the verdict. */
static void relay_tell(struct relay *relay, const struct limiter_counts *counts, uint64_t now_us)
{
    struct record record;

    if (relay->concluded)
        return;
    relay->concluded = true;
    relay_end_probes(relay, now_us); /* the tap forgets the flow while its sockets can still name it */
    session_finish(&relay->session, &record, now_us);
    if (counts != NULL)
        record.counts = *counts;
    if (relay_leg(relay, SIDE_SERVER)->other_port)
        record.verdict.notes |= NOTE_OTHER_PORT;
    log_record(relay->host->log, &record);
    atomic_fetch_add(&relay->host->counters->finished, 1);
}

void relay_conclude(struct relay *relay, const struct limiter_counts *counts, uint64_t now_us)
{
    relay_tell(relay, counts, now_us);
    relay_release_place(relay, now_us);
}

/* Both directions were closed in order. */
static void end_orderly(struct relay *relay, uint64_t now_us)
{
    relay_conclude(relay, NULL, now_us);
    leg_close_orderly(relay_leg(relay, SIDE_CLIENT));
    leg_close_orderly(relay_leg(relay, SIDE_SERVER));
    relay_die(relay);
}

static void end_now(struct relay *relay, uint64_t now_us)
{
    relay_conclude(relay, NULL, now_us);
    relay_die(relay);
}

/* The other side's FIN, once everything before it is on its way. */
static void pass_fin(struct relay *relay, enum side to)
{
    struct leg *leg = relay_leg(relay, to);

    if (relay_leg(relay, side_other(to))->ended && leg->pending == NULL && leg->error == 0)
        leg_send_fin(leg);
}

/* One side is gone by reset: so shall the other be, once it has what was sent to it before. */
static void begin_resetting(struct relay *relay, enum side gone, uint64_t now_us)
{
    struct leg *survivor = relay_leg(relay, side_other(gone));

    relay_end_probes(relay, now_us);
    pass_fin(relay, side_other(gone));
    if (survivor->fd == -1 || (survivor->pending == NULL && leg_outstanding(survivor) == 0)) {
        end_now(relay, now_us);
        return;
    }
    leg_close_reset(relay_leg(relay, gone));
    relay_conclude(relay, NULL, now_us);
    relay->state = RELAY_RESETTING;
    relay->survivor = (uint8_t)side_other(gone);
    relay->state_due_us = now_us + RELAY_RESET_WAIT_US;
    relay_schedule(relay, now_us);
}

static enum session_end end_of_error(enum side side, int error)
{
    if (error == ETIMEDOUT || error == EHOSTUNREACH || error == ENETUNREACH || error == EHOSTDOWN)
        return side == SIDE_CLIENT ? SESSION_END_CLIENT_LOST : SESSION_END_SERVER_LOST;
    return side == SIDE_CLIENT ? SESSION_END_CLIENT_RESET : SESSION_END_SERVER_RESET;
}

static void leg_failed(struct relay *relay, enum side side, uint64_t now_us)
{
    struct leg *leg = relay_leg(relay, side);

    relay_sample_both(relay, now_us);
    relay_note_end(relay, side, now_us);
    session_on_end(&relay->session, end_of_error(side, leg->error), now_us);
    if (side == SIDE_SERVER)
        relay_release_place(relay, now_us);
    if (relay->state == RELAY_CONNECTING)
        end_now(relay, now_us); /* the server never knew of it */
    else
        begin_resetting(relay, side, now_us);
}

/* ---- connecting ---- */

bool relay_watch(struct relay *relay, enum side side)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP | EPOLLET,
                                .data.u64 = (uint64_t)(uintptr_t)relay | side_index(side)};

    return epoll_ctl(relay->host->epoll_fd, EPOLL_CTL_ADD, relay_leg(relay, side)->fd, &event) != -1;
}

static bool is_shortage(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOMEM || error == ENOBUFS || error == ENOSPC;
}

static void end_overloaded(struct relay *relay, uint64_t now_us)
{
    relay->host->shortages++;
    session_on_end(&relay->session, SESSION_END_OVERLOAD, now_us);
    end_now(relay, now_us);
}

static void connect_failed(struct relay *relay, int error, uint64_t now_us)
{
    struct icmp_error icmp;

    (void)leg_take_icmp(relay_leg(relay, SIDE_SERVER), &icmp);
    relay_note_connect(relay, connect_error_classify(error, &icmp), &icmp, now_us);
    atomic_fetch_add(&relay->host->counters->connect_failed, 1);
    session_on_end(&relay->session, SESSION_END_CONNECT_FAILED, now_us);
    relay_release_place(relay, now_us);
    end_now(relay, now_us);
}

void relay_dial(struct relay *relay, uint64_t now_us)
{
    const struct settings_proxy *settings = relay_settings(relay);
    /* With the same port both legs would have the same answers, and conntrack would give the server leg another one
     * without a word (net/netfilter/nf_nat_core.c): then rather one that its packets can be known by. */
    const bool translated = relay_leg(relay, SIDE_CLIENT)->translated;
    const struct leg_dial dial = {.client = relay->connection.client,
                                  .server = relay->connection.server,
                                  .keep_client_port = settings->keep_client_port && !translated,
                                  .transparent = relay->host->transparent,
                                  .mark = settings->outgoing_mark};
    struct leg *leg = relay_leg(relay, SIDE_SERVER);
    bool other_port = false;
    int error = 0;

    leg_init(leg, leg_dial(&dial, &other_port, &error));
    leg->other_port = other_port || (translated && settings->keep_client_port);
    relay->state = RELAY_CONNECTING;
    if (leg->fd == -1) {
        if (is_shortage(error))
            end_overloaded(relay, now_us);
        else
            connect_failed(relay, error, now_us);
        return;
    }
    relay->state_due_us = now_us + settings->connect_timeout_us;
    if (!relay_watch(relay, SIDE_SERVER)) {
        end_overloaded(relay, now_us);
        return;
    }
    relay_schedule(relay, now_us);
}

static void connected(struct relay *relay, uint64_t now_us)
{
    const uint64_t dialled_us = relay->state_due_us - relay_settings(relay)->connect_timeout_us;
    const uint64_t took_us = now_us > dialled_us ? now_us - dialled_us : 0;

    /* How long a short handshake took is the round trip, near enough; of a long one the kernel knows better. */
    session_set_rtt(&relay->session, SIDE_SERVER,
                    took_us < HANDSHAKE_TRUSTED_US ? (uint32_t)took_us
                                                   : leg_rtt_us(relay_leg(relay, SIDE_SERVER)));
    relay->state = RELAY_OPEN;
    relay->state_due_us = now_us + RELAY_QUIET_US;
    session_on_connected(&relay->session, now_us);
}

/* ---- silence ---- */

/* When an octet was passed on last. */
static uint64_t last_octet_us(const struct relay *relay)
{
    const uint32_t client_ms = relay->legs[0].wrote_ms, server_ms = relay->legs[1].wrote_ms;

    return relay->connection.opened_us + (client_ms > server_ms ? client_ms : server_ms) * UINT64_C(1000);
}

/* Both hosts may have vanished without a word. An hour without an octet: the session, half-closed or not, gets the
 * keepalive any host may use (RFC 1122 4.2.3.6), after two hours of silence; a host that is there keeps it open. */
static void look_at_quiet(struct relay *relay, uint64_t now_us)
{
    relay->state_due_us = now_us + RELAY_QUIET_US;
    if (now_us < last_octet_us(relay) + RELAY_QUIET_US)
        return;
    leg_keepalive_rest(&relay->legs[0]);
    leg_keepalive_rest(&relay->legs[1]);
}

/* One side has closed. What goes to the other stays without an acknowledgement: the kernel tries on for a quarter of an
 * hour. Or the other says nothing more. The session is judged by then known evidence; the connection goes on as the
 * kernels wish. */
static void look_at_leaving(struct relay *relay, uint64_t now_us)
{
    const enum side other = relay->legs[side_index(SIDE_CLIENT)].ended ? SIDE_SERVER : SIDE_CLIENT;
    struct leg *leg = relay_leg(relay, other);
    const uint32_t acked_octets = relay->leave_acked_octets;

    relay->leave_due_us = WHEEL_NEVER_US;
    if (relay->concluded || leg->ended || leg->fd == -1)
        return;
    if ((relay_leg_is_stuck(relay, other, now_us) && leg->acked_octets == acked_octets) ||
        now_us >= last_octet_us(relay) + session_last_words_us(&relay->session)) {
        relay_tell(relay, NULL, now_us);
        return;
    }
    relay->leave_acked_octets = leg->acked_octets;
    relay->leave_due_us = now_us + RELAY_LEAVE_WAIT_US;
}

/* ---- what the session wants ---- */

static void say_stall(struct relay *relay, uint64_t now_us)
{
    struct record record;

    session_stall_record(&relay->session, &record, now_us);
    log_record(relay->host->log, &record);
}

static void say_forecast(struct relay *relay, uint64_t now_us)
{
    struct record record;

    session_forecast_record(&relay->session, &record, now_us);
    log_record(relay->host->log, &record);
}

/* An enforced timeout: the client hears why where it may, the server leg is reset so that no half mail is taken. */
static void enforce(struct relay *relay, uint64_t now_us)
{
    char text[REPLY_OCTETS];
    const size_t length = session_close_reply(&relay->session, text, sizeof text);
    struct leg *client = relay_leg(relay, SIDE_CLIENT);

    relay_end_probes(relay, now_us);
    relay_sample_both(relay, now_us);
    relay->session.action = ACTION_CLOSED;
    session_on_end(&relay->session, SESSION_END_WITNESS, now_us);
    leg_close_reset(relay_leg(relay, SIDE_SERVER));
    relay_conclude(relay, NULL, now_us);
    if (length == 0 || client->error != 0 || client->finished) {
        relay_die(relay);
        return;
    }
    relay->state = RELAY_PARTING;
    relay_write(relay, SIDE_CLIENT, (const uint8_t *)text, length, pending_length(client->pending) + length,
                now_us);
    relay_part(relay, now_us);
}

/* What the session asks for after it was fed. */
static void serve_wants(struct relay *relay, uint64_t now_us)
{
    const uint32_t wants = session_take_wants(&relay->session);

    if (wants & SESSION_WANT_SAMPLE)
        relay_sample_both(relay, now_us);
    if (wants & SESSION_WANT_PROBE_CLIENT)
        relay_suspect(relay, SIDE_CLIENT, now_us);
    if (wants & SESSION_WANT_PROBE_SERVER)
        relay_suspect(relay, SIDE_SERVER, now_us);
    if (wants & SESSION_WANT_STALL_LINE)
        say_stall(relay, now_us);
    if (wants & SESSION_WANT_FORECAST_LINE)
        say_forecast(relay, now_us);
    if ((wants & SESSION_WANT_CLOSE) && !relay->close_wanted) {
        relay->close_wanted = true;
        relay->state_due_us = now_us + RELAY_DOUBT_WAIT_US;
    }
    if (relay->close_wanted && (!session_in_doubt(&relay->session) || now_us >= relay->state_due_us))
        enforce(relay, now_us);
}

/* ---- turns ---- */

static void pass_fins(struct relay *relay)
{
    struct leg *legs = relay->legs;

    if (legs[0].ended && legs[1].ended && legs[0].pending == NULL && legs[1].pending == NULL &&
        legs[0].error == 0 && legs[1].error == 0) {
        legs[0].finished = legs[1].finished =
            true; /* closing them, which comes next, sends what FIN is missing */
        return;
    }
    pass_fin(relay, SIDE_CLIENT);
    pass_fin(relay, SIDE_SERVER);
}

static void drive_parting(struct relay *relay, uint64_t now_us)
{
    struct leg *client = relay_leg(relay, SIDE_CLIENT);

    relay_flush(relay, SIDE_CLIENT, now_us);
    if (client->pending == NULL)
        leg_send_fin(client);
    /* What the client still says is read and thrown away: unread octets would turn our close into a reset, which may
     * destroy the reply before it is read (RFC 1122 4.2.2.13). */
    for (unsigned reads = RELAY_READS_PER_TURN; client->readable && !client->ended && reads > 0; reads--) {
        const ssize_t got = recv(client->fd, relay->host->buffer, RELAY_READ_OCTETS, MSG_DONTWAIT);

        if (got == 0)
            client->ended = true;
        else if (got == -1 && errno == EAGAIN)
            client->readable = false;
        else if (got == -1 && errno != EINTR && (!icmp_error_is_soft(errno) || leg_is_dead(client)))
            client->error = (int16_t)errno;
        if (client->error != 0)
            break;
    }
    if (client->error != 0) {
        relay_die(relay);
    } else if (client->ended && client->pending == NULL) {
        leg_close_orderly(client);
        relay_die(relay);
    } else if (client->readable) {
        put_again(relay);
    }
}

static void drive_resetting(struct relay *relay, uint64_t now_us)
{
    const enum side side = (enum side)relay->survivor;
    struct leg *leg = relay_leg(relay, side);

    relay_flush(relay, side, now_us);
    pass_fin(relay, side);
    if (leg->error != 0 || now_us >= relay->state_due_us ||
        (leg->pending == NULL && leg_outstanding(leg) == 0))
        relay_die(relay);
    else
        relay_schedule(relay, now_us);
}

static void drive_open(struct relay *relay, uint64_t now_us)
{
    unsigned reads[SIDE_PAIR] = {RELAY_READS_PER_TURN, RELAY_READS_PER_TURN};

    if (relay->again_since_us != 0) {
        relay->again_us += now_us > relay->again_since_us ? now_us - relay->again_since_us : 0;
        relay->again_since_us = 0;
    }

    for (unsigned round = 0; round < 2; round++) {
        for (size_t index = 0; index < SIDE_PAIR; index++) {
            const enum side side = index == 0 ? SIDE_CLIENT : SIDE_SERVER;

            if (relay->state == RELAY_CONNECTING && side == SIDE_SERVER)
                continue;
            if (relay->state == RELAY_OPEN && relay_leg(relay, side_other(side))->pending != NULL)
                relay_flush(relay, side_other(side), now_us);
            if (!relay_pump(relay, side, &reads[index], now_us)) {
                leg_failed(relay, side, now_us);
                return;
            }
        }
        /* A second round only for what a failed write of the first one woke. */
        if (relay->legs[0].error == 0 && relay->legs[1].error == 0)
            break;
    }
    if (relay->state == RELAY_OPEN)
        pass_fins(relay);
    if (relay->legs[0].finished && relay->legs[1].finished && relay->legs[0].ended && relay->legs[1].ended) {
        end_orderly(relay, now_us);
        return;
    }
    serve_wants(relay, now_us);
    if (relay->state != RELAY_OPEN && relay->state != RELAY_CONNECTING)
        return;
    for (size_t index = 0; index < SIDE_PAIR; index++) {
        const struct leg *leg = &relay->legs[index];

        if (leg->readable && !leg->ended && reads[index] == 0) {
            put_again(relay);
            if (index == side_index(SIDE_CLIENT) && relay_leg(relay, SIDE_SERVER)->pending == NULL)
                relay->again_since_us = clock_monotonic_us();
        }
        if (leg->error != 0)
            put_again(relay);
    }
    relay_schedule(relay, now_us);
}

static void drive(struct relay *relay, uint64_t now_us)
{
    switch ((enum relay_state)relay->state) {
    case RELAY_CONNECTING:
    case RELAY_OPEN:
        drive_open(relay, now_us);
        break;
    case RELAY_RESETTING:
        drive_resetting(relay, now_us);
        break;
    case RELAY_PARTING:
        drive_parting(relay, now_us);
        break;
    case RELAY_HELD:
    case RELAY_DEAD:
        break;
    }
}

void relay_part(struct relay *relay, uint64_t now_us)
{
    relay->state = RELAY_PARTING;
    relay->state_due_us = now_us + RELAY_PARTING_US;
    relay_leg(relay, SIDE_CLIENT)->readable = true;
    drive_parting(relay, now_us);
    if (relay->state == RELAY_PARTING)
        relay_schedule(relay, now_us);
}

/* EPOLLERR: an ICMP notice, or the end of the connection. */
static void take_leg_error(struct relay *relay, enum side side, uint64_t now_us)
{
    struct leg *leg = relay_leg(relay, side);
    struct icmp_error icmp;
    const bool reported = leg_take_icmp(leg, &icmp);
    const int error = leg_take_error(leg);

    if (error != 0 && (!icmp_error_is_soft(error) || leg_is_dead(leg))) {
        relay_set_error(leg, error);
    } else if (reported || error != 0) {
        relay_note_icmp(relay, side, error, &icmp, now_us);
    }
}

static void relay_event(struct relay *relay, enum side side, uint32_t events, uint64_t now_us)
{
    struct leg *leg = relay_leg(relay, side);

    if (relay->state == RELAY_DEAD || leg->fd == -1)
        return;
    leg->urgent = (events & EPOLLPRI) != 0;
    if (relay->state == RELAY_HELD) {
        relay_held_event(relay, events, now_us);
        return;
    }
    if (relay->state == RELAY_CONNECTING && side == SIDE_SERVER) {
        const int error = (events & (EPOLLERR | EPOLLHUP)) != 0 ? leg_take_error(leg) : 0;

        /* A RST that answers the SYN is ECONNREFUSED; these two come behind a handshake (behind a FIN too: EPIPE). */
        if (error != 0 && error != ECONNRESET && error != EPIPE) {
            connect_failed(relay, error, now_us);
            return;
        }
        if (error == 0 && (events & EPOLLOUT) == 0)
            return;
        connected(relay, now_us);
        if (error != 0)
            relay_set_error(leg, error); /* reset as soon as it was up; it may have said why */
    } else if (events & EPOLLERR) {
        take_leg_error(relay, side, now_us);
    }
    if (events & (EPOLLRDHUP | EPOLLHUP))
        leg->hung_up = true;
    if (events & (EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        leg->readable = true;
    drive(relay, now_us);
}

void relay_host_dispatch(struct relay_host *host, const struct epoll_event *events, size_t event_count)
{
    (void)host;
    for (size_t index = 0; index < event_count; index++) {
        const uint64_t data = events[index].data.u64;
        struct relay *relay = (struct relay *)(uintptr_t)(data & ~UINT64_C(1));

        relay_event(relay, (data & 1) != 0 ? SIDE_SERVER : SIDE_CLIENT, events[index].events,
                    clock_monotonic_us());
    }
}

void relay_host_run_again(struct relay_host *host)
{
    struct relay *list = host->again;

    host->again = NULL;
    while (list != NULL) {
        struct relay *relay = list;

        list = relay->next_again;
        relay->in_again = false;
        if (relay->state == RELAY_DEAD) {
            relay->next_again = host->dead;
            host->dead = relay;
        } else {
            drive(relay, clock_monotonic_us());
        }
    }
}

/* ---- time ---- */

void relay_schedule(struct relay *relay, uint64_t now_us)
{
    uint64_t due_us = relay->state_due_us;

    if (relay->state == RELAY_RESETTING && now_us + RESET_LOOK_US < due_us)
        due_us = now_us + RESET_LOOK_US;
    if (relay->state == RELAY_CONNECTING || relay->state == RELAY_OPEN) {
        const uint64_t session_us = session_deadline_us(&relay->session);

        due_us = session_us < due_us ? session_us : due_us;
        due_us = relay->probe_due_us < due_us ? relay->probe_due_us : due_us;
        due_us = relay->leave_due_us < due_us ? relay->leave_due_us : due_us;
    }
    /* A timer that fires too early only looks again: it is moved when it is due earlier, not with every octet. */
    if (due_us == WHEEL_NEVER_US || (relay->timer.next != NULL && relay->timer.due_us <= due_us))
        return;
    wheel_arm(&relay->host->wheel, &relay->timer, due_us > now_us ? due_us : now_us + 1);
}

static void relay_timer(struct relay *relay, uint64_t now_us)
{
    if (relay->state == RELAY_HELD) {
        relay_held_timer(relay, now_us);
        return;
    }
    if (relay->state == RELAY_PARTING && now_us >= relay->state_due_us) {
        leg_close_orderly(relay_leg(relay, SIDE_CLIENT));
        relay_die(relay);
        return;
    }
    if (relay->state == RELAY_CONNECTING && now_us >= relay->state_due_us) {
        connect_failed(relay, ETIMEDOUT, now_us);
        return;
    }
    if (relay->state == RELAY_OPEN && now_us >= relay->state_due_us && !relay->close_wanted)
        look_at_quiet(relay, now_us);
    if (relay->state == RELAY_OPEN && now_us >= relay->leave_due_us)
        look_at_leaving(relay, now_us);
    if (relay->state == RELAY_CONNECTING || relay->state == RELAY_OPEN) {
        if (now_us >= relay->probe_due_us)
            relay_check_probes(relay, now_us);
        if (now_us >= session_deadline_us(&relay->session))
            session_on_deadline(&relay->session, now_us);
    }
    drive(relay, now_us);
    if (relay->state == RELAY_PARTING)
        relay_schedule(relay, now_us);
}

void relay_host_run_timers(struct relay_host *host, uint64_t now_us)
{
    struct wheel_timer *timer;

    /* Each relay at most once: a timer armed meanwhile is due at the next tick at the earliest. */
    for (uint32_t left = host->wheel.timer_count; left > 0; left--) {
        timer = wheel_take_due(&host->wheel, now_us);
        if (timer == NULL)
            break;
        relay_timer((struct relay *)(void *)((char *)timer - offsetof(struct relay, timer)), now_us);
    }
}

/* ---- opening and stopping ---- */

static bool port_listed(const struct settings_ports *ports, uint16_t port)
{
    for (uint32_t index = 0; index < ports->count; index++) {
        if (ports->port[index] == port)
            return true;
    }
    return false;
}

static void init_session(struct session *session, struct relay_host *host, const struct settings *settings,
                         struct connection *connection)
{
    struct session_setup setup = {.caller = &host->caller,
                                  .connection = connection,
                                  .number = atomic_fetch_add(&host->counters->serial, 1) + 1,
                                  .start_unix_ms = clock_unix_ms(),
                                  .policy = &settings->policy,
                                  .probing = settings->proxy.probe,
                                  .probe_after_us = settings->proxy.probe_after_us};

    setup.dialogue.implicit_tls = port_listed(&settings->smtp.implicit_tls_ports, connection->server.port);
    setup.dialogue.lmtp = port_listed(&settings->smtp.lmtp_ports, connection->server.port);
    setup.dialogue.proxy_protocol = settings->smtp.proxy_protocol;
    session_init(session, &setup);
}

void relay_turn_away(struct relay_host *host, struct settings_share *settings, int take_client_fd,
                     const struct address *client, const struct address *server, uint64_t now_us)
{
    struct connection connection = {.client = *client, .server = *server, .opened_us = now_us};
    struct session session;
    struct record record;

    close(take_client_fd); /* a reset: SO_LINGER is inherited from the listener */
    init_session(&session, host, settings->settings, &connection);
    session_on_end(&session, SESSION_END_OVERLOAD, now_us);
    session_finish(&session, &record, now_us);
    log_record(host->log, &record);
    session_clear(&session);
    atomic_fetch_add(&host->counters->accepted, 1);
    atomic_fetch_add(&host->counters->finished, 1);
}

void relay_accept(struct relay_host *host, struct settings_share *settings, int take_client_fd,
                  const struct address *client, const struct address *server, uint64_t now_us)
{
    struct relay *relay = calloc(1, sizeof *relay);
    struct address called;

    if (relay == NULL) {
        host->shortages++;
        relay_turn_away(host, settings, take_client_fd, client, server, now_us);
        return;
    }
    relay->host = host;
    relay->connection = (struct connection){.client = *client, .server = *server, .opened_us = now_us};
    relay->settings = settings_share_acquire(settings);
    relay->state_due_us = relay->probe_due_us = relay->leave_due_us = WHEEL_NEVER_US;
    leg_init(relay_leg(relay, SIDE_CLIENT), take_client_fd);
    leg_init(relay_leg(relay, SIDE_SERVER), -1);
    relay_leg(relay, SIDE_CLIENT)->translated = leg_called(relay_leg(relay, SIDE_CLIENT), server, &called);
    init_session(&relay->session, host, settings->settings, &relay->connection);
    link_relay(relay);
    atomic_fetch_add(&host->counters->accepted, 1);
    session_set_rtt(&relay->session, SIDE_CLIENT, leg_rtt_us(relay_leg(relay, SIDE_CLIENT)));
    if (!relay_watch(relay, SIDE_CLIENT)) {
        end_overloaded(relay, now_us);
        return;
    }
    relay_admit(relay, now_us);
}

void relay_host_stop(struct relay_host *host, uint64_t now_us)
{
    while (host->first != NULL) {
        struct relay *relay = host->first;

        if (!relay->concluded) {
            relay_leave_queue(relay, now_us);
            relay_end_probes(relay, now_us);
            if (relay->state != RELAY_HELD)
                relay_sample_both(relay, now_us);
            session_on_end(&relay->session, SESSION_END_DRAIN, now_us);
        }
        end_now(relay, now_us);
    }
    relay_host_run_again(host); /* moves those who waited for a turn to the dead */
    relay_host_free_dead(host);
}
