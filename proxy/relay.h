/* relay - one session of two legs: what one side sends is written to the other at once, FIN becomes FIN, a reset
 * becomes a reset, and whatever the other leg does not take is kept, bounded, while reading pauses.
 *
 * A relay lives in its host: the worker's event set, clock wheel, read buffer and lists. The sockets stand in one
 * epoll set of the host, edge-triggered, added once and never changed; libevent watches that set as one descriptor.
 * An event structure of libevent's own for each socket would cost 336 octets a session (2 x struct event and its
 * map entry), a third of what an idle session may take, and a system call per socket to remove it.
 *
 * Owns:    its session, both sockets, its place in limiter and wheel. Borrows: the host, the log, limiter and tap.
 * Bounds:  RELAY_READS_PER_TURN reads per leg and turn; settings.proxy.buffer_octets kept per direction;
 *          RELAY_*_US for everything that is waited for.
 * Threads: the host's only. Time: monotonic microseconds from the caller. */
#ifndef SMTPWITNESS_PROXY_RELAY_H
#define SMTPWITNESS_PROXY_RELAY_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/attributes.h"
#include "core/policy/limiter.h"
#include "core/session/session.h"
#include "daemon/log.h"
#include "proxy/leg.h"
#include "conf/settings_share.h"
#include "proxy/tap.h"
#include "proxy/wheel.h"

#define RELAY_READ_OCTETS    65536u      /* one read; a veth or GRO packet is at most 64 kB */
#define RELAY_READS_PER_TURN 8u          /* then the others have their turn */
#define RELAY_RESET_WAIT_US  2000000u    /* for the last octets to arrive before a reset is passed on */
#define RELAY_PARTING_US     5000000u    /* for a refused client to read its 421 and leave */
#define RELAY_DOUBT_WAIT_US  600000000u  /* RFC 5321 4.5.3.2.6: the reply to the final dot may take 10 min */
#define RELAY_QUIET_US       3600000000u /* without an octet: see to it that it cannot stay for ever */
#define RELAY_LEAVE_WAIT_US                                                                                  \
    60000000u /* one side has closed: how often it is asked whether the other still acknowledges and speaks */
#define RELAY_PROBE_LONGEST_US  10000000u /* a probe that stays unanswered is switched off then */
#define RELAY_PROBE_FIRST_US    250000u   /* first look for its answer */
#define RELAY_PROBE_INTERVAL_US 1000000u

enum relay_state {
    RELAY_HELD = 0,   /* waits for a place in the limiter; its client is not read */
    RELAY_CONNECTING, /* the server leg's handshake runs */
    RELAY_OPEN,
    RELAY_RESETTING, /* one side is gone; the other is reset as soon as it has what it was sent */
    RELAY_PARTING,   /* our 421 was said to the client, which may still talk */
    RELAY_DEAD,
};

/* What all workers count together. */
struct relay_counters {
    atomic_uint sessions, sessions_peak, serial;
    atomic_ullong accepted, finished, connect_failed, refused, held, icmp_undiverted;
};

struct relay;

/* A connection that waits for a place. */
struct relay_held {
    struct limiter_waiter waiter;
    struct relay *relay;
    struct relay_held *next_woken;
    bool woken; /* stands in the host's list; under woken_lock */
};

struct relay_host {
    int epoll_fd;
    int wake_fd;     /* an eventfd: something is in `woken` */
    uint8_t *buffer; /* RELAY_READ_OCTETS */
    int pipe[2]; /* read and write end; bodies pass through it, and it is empty between turns; -1 = none */
    struct log *log;
    struct tap *tap; /* may be NULL */
    struct relay_counters *counters;
    struct session_caller caller; /* of its sessions */
    bool transparent;
    struct wheel wheel;
    struct relay *first; /* all relays, linked */
    struct relay *again; /* their turn ended before their octets did */
    struct relay *dead;  /* freed when no event of this batch can name them */
    uint32_t relay_count;
    uint32_t shortages; /* sessions that ended because we had no descriptor or memory */
    pthread_mutex_t woken_lock;
    struct relay_held *woken;
};

struct relay {
    struct session session;
    struct connection connection;
    struct relay_host *host;
    struct settings_share *settings;
    struct leg legs[SIDE_PAIR]; /* by side_index() */
    struct wheel_timer timer;
    struct relay *next, *previous;
    struct relay *next_again;
    struct relay_held *held;
    uint64_t state_due_us; /* of what the state waits for; WHEEL_NEVER_US = nothing */
    uint64_t probe_due_us;
    uint64_t probe_since_us;
    uint64_t again_since_us;     /* the client has octets here that the server's leg would take; 0 = no */
    uint64_t again_us;           /* so long in all */
    uint64_t leave_due_us;       /* one side has closed: when to look whether the other leg is dead */
    uint32_t leave_acked_octets; /* what that leg had acknowledged at the last look */
    uint8_t state;               /* enum relay_state */
    bool in_again : 1;
    bool concluded : 1;    /* its verdict was logged */
    bool close_wanted : 1; /* an enforced timeout waits for a good moment */
    uint8_t survivor;      /* enum side: RELAY_RESETTING */
};

bool relay_host_init(struct relay_host *host, uint64_t now_us) MUST_CHECK;
void relay_host_clear(struct relay_host *host); /* no relay may be left */

/* Takes an accepted connection: asks the limiter, connects the server leg. Every call leads to one verdict. */
void relay_accept(struct relay_host *host, struct settings_share *settings, int take_client_fd,
                  const struct address *client, const struct address *server, uint64_t now_us);

/* A connection that cannot be served for lack of descriptors or memory: reset and one verdict. */
void relay_turn_away(struct relay_host *host, struct settings_share *settings, int take_client_fd,
                     const struct address *client, const struct address *server, uint64_t now_us);

/* Handles up to `event_count` epoll events; data.u64 is the relay with the side in its lowest bit. */
struct epoll_event;
void relay_host_dispatch(struct relay_host *host, const struct epoll_event *events, size_t event_count);
/* Gives those their turn who had not finished; host->again has who still has not. */
void relay_host_run_again(struct relay_host *host);
void relay_host_run_timers(struct relay_host *host, uint64_t now_us);
void relay_host_run_woken(struct relay_host *host, uint64_t now_us);
void relay_host_free_dead(struct relay_host *host);

/* Ends every session by reset, with a verdict that says so. */
void relay_host_stop(struct relay_host *host, uint64_t now_us);

#endif
