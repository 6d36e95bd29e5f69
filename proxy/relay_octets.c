/* Moving octets from leg to leg, and what a leg's end or failure while doing so means. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "proxy/relay_internal.h"

#define LOOK_AFTER_US     1000000u /* after such a pause a write first asks whether all is acknowledged */
#define WRITE_TRIES       8u
#define BULK_LEAST_OCTETS 16384u /* fewer are read: a guess, not measured */

static size_t room_for(const struct relay *relay, enum side to)
{
    const size_t limit = relay_settings(relay)->buffer_octets;
    const size_t kept = pending_length(relay->legs[side_index(to)].pending);

    /* Something waits already: no more is read. Before the server leg is up, what an early talker says is. */
    if (kept >= limit || (kept > 0 && relay->state != RELAY_CONNECTING))
        return 0;
    return limit - kept < RELAY_READ_OCTETS ? limit - kept : RELAY_READ_OCTETS;
}

static void set_paused(struct relay *relay, enum side side, bool paused, uint64_t now_us)
{
    struct leg *leg = relay_leg(relay, side);

    if (leg->paused == paused)
        return;
    leg->paused = paused;
    session_on_pushed_back(&relay->session, side, paused, now_us);
}

static void note_written(struct relay *relay, struct leg *leg, uint64_t now_us)
{
    const uint64_t since_ms = (now_us - relay->connection.opened_us) / 1000u + 1;

    leg->wrote_ms = since_ms > UINT32_MAX ? UINT32_MAX : (uint32_t)since_ms;
}

/* After this write nobody can tell any more since when what was written before it has been waiting for its
 * acknowledgement: a last reply that is lost would look as if it had been sent just now. */
static void look_before_writing(struct relay *relay, enum side side, uint64_t now_us)
{
    const struct leg *leg = relay_leg(relay, side);

    if (leg->wrote_ms != 0 &&
        now_us >= relay->connection.opened_us + leg->wrote_ms * UINT64_C(1000) + LOOK_AFTER_US &&
        leg_outstanding(leg) > 0)
        relay_sample(relay, side, now_us);
}

/* The first reason counts. A reset behind a FIN is EPIPE to Linux (net/ipv4/tcp_input.c tcp_reset). */
void relay_set_error(struct leg *leg, int error)
{
    if (leg->error != 0)
        return;
    leg->fin_first = error == EPIPE;
    leg->error = (int16_t)(error == EPIPE ? ECONNRESET : error);
}

/* Its end of the connection is gone, as a write found out. What it said before is still read. */
static void write_failed(struct leg *leg, int error)
{
    relay_set_error(leg, error);
    leg->readable = true;
    leg->hung_up = true;
    pending_clear(&leg->pending);
}

static bool is_momentary(int error)
{
    return error == EAGAIN || error == EINTR || error == ENOBUFS || error == ENOMEM;
}

/* Writes at once what the leg takes, of `octets` or, where NULL, of what stands in the host's pipe; -1 with errno when
 * it takes nothing. An ICMP notice is no failure. */
static ssize_t write_some(struct relay *relay, enum side side, const uint8_t *octets, size_t length,
                          bool urgent, uint64_t now_us)
{
    const int flags = MSG_NOSIGNAL | MSG_DONTWAIT | (urgent ? MSG_OOB : 0);
    struct leg *leg = relay_leg(relay, side);
    ssize_t written = -1;

    look_before_writing(relay, side, now_us);
    /* A notice is handed out once, then the write goes through; another one may have come meanwhile. */
    for (unsigned tries = 0; tries < WRITE_TRIES; tries++) {
        struct icmp_error icmp;
        int error;

        written = octets != NULL ? send(leg->fd, octets, length, flags)
                                 : splice(relay->host->pipe[0], NULL, leg->fd, NULL, length,
                                          SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
        if (written != -1 || (errno != EINTR && (!icmp_error_is_soft(errno) || leg_is_dead(leg))))
            break;
        error = errno;
        if (error == EINTR)
            continue;
        (void)leg_take_icmp(leg, &icmp);
        relay_note_icmp(relay, side, error, &icmp, now_us);
        errno = error;
    }
    if (written > 0)
        note_written(relay, leg, now_us);
    return written;
}

static void write_or_keep(struct relay *relay, enum side side, const uint8_t *octets, size_t length,
                          size_t limit, bool urgent, uint64_t now_us)
{
    struct leg *leg = relay_leg(relay, side);
    size_t done = 0;

    if (leg->error != 0)
        return; /* nobody is there to take it */
    if (leg->pending == NULL && !(side == SIDE_SERVER && relay->state == RELAY_CONNECTING)) {
        const ssize_t written = write_some(relay, side, octets, length, urgent, now_us);

        if (written == -1 && !is_momentary(errno)) {
            write_failed(leg, errno);
            return;
        }
        done = written > 0 ? (size_t)written : 0;
    }
    if (done < length && !pending_append(&leg->pending, octets + done, length - done, limit))
        write_failed(leg, ENOMEM); /* a hole in the stream is the one thing that must not be: reset instead */
    leg->urgent_pending = urgent && leg->pending != NULL;
}

void relay_write(struct relay *relay, enum side side, const uint8_t *octets, size_t length, size_t limit,
                 uint64_t now_us)
{
    write_or_keep(relay, side, octets, length, limit, false, now_us);
}

void relay_flush(struct relay *relay, enum side side, uint64_t now_us)
{
    struct leg *leg = relay_leg(relay, side);

    while (leg->pending != NULL && leg->error == 0) {
        const ssize_t written = write_some(relay, side, pending_octets(leg->pending),
                                           pending_length(leg->pending), leg->urgent_pending, now_us);

        if (written == -1) {
            if (!is_momentary(errno))
                write_failed(leg, errno);
            return;
        }
        pending_consume(&leg->pending, (size_t)written);
    }
    leg->urgent_pending = leg->urgent_pending && leg->pending != NULL;
    if (leg->pending == NULL)
        set_paused(relay, side_other(side), false, now_us);
}

/* Both sides have ended: did the client get the last reply? Only its leg tells. What was in doubt before is looked at
 * again. */
static bool last_reply_in_doubt(const struct relay *relay)
{
    const struct leg *client = &relay->legs[side_index(SIDE_CLIENT)];
    const struct leg_evidence *known = relay->session.legs;

    if (known != NULL)
        known += side_index(SIDE_CLIENT);
    return (known != NULL && known->unacked_octets > 0 && known->retrans_count > 0) ||
           leg_outstanding(client) > (client->finished ? 1u : 0u);
}

/* The side's FIN. The other leg gets it when it has everything before it. */
static void leg_ended(struct relay *relay, enum side side, uint64_t now_us)
{
    struct leg *leg = relay_leg(relay, side);

    leg->ended = true;
    leg->readable = false;
    if (!relay_leg(relay, side_other(side))->ended) {
        relay_sample_both(relay, now_us);
        relay->leave_acked_octets = relay_leg(relay, side_other(side))->acked_octets;
        relay->leave_due_us = now_us + RELAY_LEAVE_WAIT_US;
    } else if (last_reply_in_doubt(relay))
        relay_sample(relay, SIDE_CLIENT, now_us);
    session_on_end(&relay->session, side == SIDE_CLIENT ? SESSION_END_CLIENT_FIN : SESSION_END_SERVER_FIN,
                   now_us);
    if (side == SIDE_SERVER)
        relay_release_place(relay, now_us);
}

/* A read error: true when the connection goes on. */
static bool read_failed(struct relay *relay, enum side side, int error, uint64_t now_us)
{
    struct leg *leg = relay_leg(relay, side);

    if (icmp_error_is_soft(error) && !leg_is_dead(leg)) {
        struct icmp_error icmp;

        (void)leg_take_icmp(leg, &icmp);
        relay_note_icmp(relay, side, error, &icmp, now_us);
        return true;
    }
    relay_set_error(leg, error);
    return false;
}

/* Empties the pipe into what waits for the leg. */
static void keep_piped(struct relay *relay, struct leg *leg, size_t length, size_t limit)
{
    while (length > 0) {
        const ssize_t got = read(relay->host->pipe[0], relay->host->buffer,
                                 length < RELAY_READ_OCTETS ? length : RELAY_READ_OCTETS);

        if (got <= 0) { /* cannot be: it stands in there */
            relay_host_renew_pipe(relay->host);
            write_failed(leg, EIO);
            return;
        }
        length -= (size_t)got;
        if (leg->error == 0 && !pending_append(&leg->pending, relay->host->buffer, (size_t)got, limit))
            write_failed(leg, ENOMEM);
    }
}

/* How many of the octets that have arrived from `side` may go over unseen; 0 = read them. */
static size_t bulk_length(const struct relay *relay, enum side side, size_t room)
{
    uint64_t length;
    uint32_t keep;
    int arrived;

    if (relay->state != RELAY_OPEN || relay->host->pipe[0] == -1 || !relay_settings(relay)->splice ||
        !dialogue_may_pass(&relay->session.dialogue, side, &length, &keep) ||
        ioctl(relay->legs[side_index(side)].fd, FIONREAD, &arrived) == -1 || arrived < 0 ||
        (size_t)arrived < keep + BULK_LEAST_OCTETS)
        return 0;
    if (length > (size_t)arrived - keep)
        length = (size_t)arrived - keep;
    return length < room ? (size_t)length : room;
}

/* Moves octets of a body from leg to leg inside the kernel. False when none moved: the read that follows says why. */
static bool move_bulk(struct relay *relay, enum side side, size_t length, size_t limit, uint64_t now_us)
{
    struct leg *other = relay_leg(relay, side_other(side));
    const ssize_t taken = splice(relay_leg(relay, side)->fd, NULL, relay->host->pipe[1], NULL, length,
                                 SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    size_t left;

    if (taken <= 0)
        return false;
    left = (size_t)taken;
    while (left > 0) {
        const ssize_t written = write_some(relay, side_other(side), NULL, left, false, now_us);

        if (written > 0) {
            left -= (size_t)written;
            continue;
        }
        if (written == -1 && !is_momentary(errno))
            write_failed(other, errno);
        break;
    }
    keep_piped(relay, other, left, limit);
    session_on_passed(&relay->session, side, (uint64_t)taken, now_us);
    if (other->pending != NULL)
        set_paused(relay, side, true, now_us);
    return true;
}

bool relay_pump(struct relay *relay, enum side side, unsigned *reads, uint64_t now_us)
{
    struct leg *leg = relay_leg(relay, side);
    struct leg *other = relay_leg(relay, side_other(side));
    const size_t limit = relay_settings(relay)->buffer_octets;

    while (leg->readable && !leg->ended && *reads > 0) {
        size_t room = room_for(relay, side_other(side));
        /* An urgent octet goes over by itself, once everything before it has, so that it stays one. */
        const bool urgent = leg->urgent && leg_at_mark(leg);
        size_t bulk;
        ssize_t got;

        if (urgent && relay->state == RELAY_CONNECTING)
            return leg->error == 0;
        if (room == 0)
            break;
        if (urgent)
            room = 1;
        --*reads;
        bulk = other->error == 0 && !urgent ? bulk_length(relay, side, room) : 0;
        if (bulk > 0 && move_bulk(relay, side, bulk, limit, now_us))
            continue;
        got = recv(leg->fd, relay->host->buffer, room, MSG_DONTWAIT);
        if (got > 0) {
            write_or_keep(relay, side_other(side), relay->host->buffer, (size_t)got, limit, urgent, now_us);
            if (urgent)
                leg->urgent = false;
            session_on_octets(&relay->session, side, relay->host->buffer, (size_t)got, now_us);
            if (other->pending != NULL && relay->state == RELAY_OPEN)
                set_paused(relay, side, true, now_us);
            /* A short read emptied it, or stopped at a mark; the next octet makes a new edge. Not so a FIN that is in
             * already. */
            if ((size_t)got < room && !leg->hung_up && !leg->urgent && leg->error == 0)
                leg->readable = false;
        } else if (got == 0) {
            if (leg->error == 0 || leg->fin_first)
                leg_ended(relay, side, now_us);
            if (leg->error != 0)
                return false;
        } else if (errno == EAGAIN) {
            leg->readable = false;
            if (leg->error != 0)
                return false;
        } else if (errno != EINTR && !read_failed(relay, side, errno, now_us)) {
            return false;
        }
    }
    /* Gone: at once when it has nothing more to say, or when that cannot be read because the other leg is stuck. */
    return leg->error == 0 || (leg->readable && !leg->ended && other->pending == NULL);
}
