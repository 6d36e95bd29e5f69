#include "nfq/enforcer.h"

#include <linux/netfilter.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/policy/refusal.h"
#include "core/policy/timeouts.h"
#include "daemon/clock.h"
#include "nfq/watched.h"

#define NEVER_US UINT64_MAX
#define LOOK_US  UINT64_C(100000) /* what waits for a moment or a packet is looked at so often */
_Static_assert(REFUSAL_TEXT_SIZE <= PARTING_TEXT, "a refusal fits a parting");

struct held {
    struct held *next, *previous; /* of the enforcer's list */
    struct held *next_woken;
    struct enforcer *enforcer;
    struct tracker_session *tracked;
    struct limiter_waiter waiter;
    uint32_t packet_id;
    uint32_t sequence; /* of its SYN */
    uint64_t since_us, until_us;
    uint64_t syn_us, interval_us; /* its latest SYN, and since the one before */
    bool woken;                   /* stands in the list of the woken */
};

struct enforcer {
    struct enforcer_options options;
    struct parting_table *partings;
    struct held *held; /* oldest last */
    uint32_t held_count;
    uint32_t closing;        /* the first: tracker_link() */
    uint32_t deciding_count; /* sessions in a state that asks for their packets */
    uint64_t look_us;
    struct enforcer_stats stats;
    pthread_mutex_t woken_lock;
    struct held *woken;
};

struct enforcer *enforcer_create(const struct enforcer_options *options)
{
    struct enforcer *enforcer = calloc(1, sizeof *enforcer);

    if (enforcer == NULL)
        return NULL;
    enforcer->options = *options;
    enforcer->partings = parting_table_create(options->send, options->send_context);
    pthread_mutex_init(&enforcer->woken_lock, NULL);
    if (enforcer->partings == NULL) {
        enforcer_destroy(enforcer);
        return NULL;
    }
    return enforcer;
}

void enforcer_destroy(struct enforcer *enforcer)
{
    if (enforcer == NULL)
        return;
    parting_table_destroy(enforcer->partings);
    pthread_mutex_destroy(&enforcer->woken_lock);
    free(enforcer);
}

bool enforcer_is_busy(const struct enforcer *enforcer)
{
    return enforcer->deciding_count > 0 || parting_count(enforcer->partings) > 0;
}

static void set_state(struct enforcer *enforcer, struct watched *watched, enum enforcer_state state)
{
    enforcer->deciding_count += state != ENFORCER_PASSING && watched->state == ENFORCER_PASSING ? 1 : 0;
    enforcer->deciding_count -= state == ENFORCER_PASSING && watched->state != ENFORCER_PASSING ? 1 : 0;
    watched->state = state;
}

static const struct policy_limits *limits_of(const struct tracker_session *tracked)
{
    return policy_limits_for(tracked->session.policy, &tracked->session.connection->client,
                             &tracked->session.connection->server, NULL);
}

static void say(struct enforcer *enforcer, const struct tracker_session *tracked, enum action action)
{
    struct record record;

    session_refusal_record(&tracked->session, &tracked->session.counts, action, clock_unix_ms(), &record);
    log_record(enforcer->options.log, &record);
}

/* ---- refusing ---- */

static bool refuses_by_421(const struct tracker_session *tracked)
{
    /* Where TLS comes first nobody would understand the text. */
    return limits_of(tracked)->refuse_with == POLICY_REFUSE_421 &&
           tracked->session.dialogue.mode == DIALOGUE_COMMANDS;
}

static void refused(struct enforcer *enforcer, struct tracker_session *tracked, uint64_t now_us)
{
    enforcer->stats.refused++;
    tracked->session.action = ACTION_REFUSED;
    say(enforcer, tracked, ACTION_REFUSED);
    tracker_session_close(enforcer->options.tracker, tracked, SESSION_END_REFUSED, ACTION_REFUSED, now_us);
}

/* With its SYN before us. */
static enum queue_verdict refuse(struct enforcer *enforcer, struct tracker_session *tracked,
                                 struct watched *watched, const struct packet *syn, uint64_t now_us)
{
    if (refuses_by_421(tracked)) {
        set_state(enforcer, watched, ENFORCER_REFUSING);
        return QUEUE_ACCEPT;
    }
    parting_refuse_syn(enforcer->partings, syn);
    refused(enforcer, tracked, now_us);
    return QUEUE_DROP;
}

/* The handshake's last packet is before us. */
static enum queue_verdict refuse_with_text(struct enforcer *enforcer, struct tracker_session *tracked,
                                           uint64_t now_us)
{
    char text[REFUSAL_TEXT_SIZE];
    size_t length =
        refusal_text(text, tracked->session.policy->host_name, &tracked->session.connection->client);

    packet_queue_flush(enforcer->options.queue);
    parting_begin(enforcer->partings, tracked->entry, text, length, now_us);
    refused(enforcer, tracked, now_us);
    return QUEUE_DROP;
}

/* ---- holding ---- */

static void held_wake(void *context)
{
    struct held *held = context;
    struct enforcer *enforcer = held->enforcer;
    const uint64_t one = 1;

    pthread_mutex_lock(&enforcer->woken_lock);
    if (!held->woken) {
        held->woken = true;
        held->next_woken = enforcer->woken;
        enforcer->woken = held;
    }
    pthread_mutex_unlock(&enforcer->woken_lock);
    (void)!write(enforcer->options.wake_fd, &one,
                 sizeof one); /* a full counter means that it is being woken */
}

/* After limiter_take() or limiter_leave(), so nobody wakes it any more. */
static void forget_held(struct enforcer *enforcer, struct watched *watched)
{
    struct held *held = watched->held;

    pthread_mutex_lock(&enforcer->woken_lock);
    for (struct held **link = &enforcer->woken; held->woken && *link != NULL; link = &(*link)->next_woken) {
        if (*link == held) {
            *link = held->next_woken;
            break;
        }
    }
    pthread_mutex_unlock(&enforcer->woken_lock);
    if (held->previous != NULL)
        held->previous->next = held->next;
    else
        enforcer->held = held->next;
    if (held->next != NULL)
        held->next->previous = held->previous;
    enforcer->held_count--;
    free(held);
    set_state(enforcer, watched, ENFORCER_PASSING);
}

static void leave_queue(struct enforcer *enforcer, struct watched *watched, uint64_t now_us)
{
    limiter_leave(enforcer->options.limiter, &watched->held->waiter, now_us);
    forget_held(enforcer, watched);
}

/* False: not granted. */
static bool take_place(struct enforcer *enforcer, struct held *held)
{
    struct tracker_session *tracked = held->tracked;

    return limiter_take(enforcer->options.limiter, &held->waiter, &tracked->session.ticket);
}

static void granted(struct enforcer *enforcer, struct held *held, uint64_t now_us)
{
    struct tracker_session *tracked = held->tracked;
    uint32_t packet_id = held->packet_id;

    if (!take_place(enforcer, held))
        return;
    forget_held(enforcer, watched_of(tracked));
    tracker_session_hold(enforcer->options.tracker, tracked, false, now_us);
    packet_queue_release(enforcer->options.queue, packet_id, QUEUE_ACCEPT);
}

static enum queue_verdict hold(struct enforcer *enforcer, struct tracker_session *tracked,
                               struct watched *watched, const struct packet *syn,
                               const struct queue_packet *queued, uint64_t now_us)
{
    struct held *held = NULL;

    if (enforcer->held_count < enforcer->options.held_max)
        held = calloc(1, sizeof *held);
    if (held == NULL) {
        enforcer->stats.held_full++;
        return refuse(enforcer, tracked, watched, syn, now_us);
    }
    *held = (struct held){.next = enforcer->held,
                          .enforcer = enforcer,
                          .tracked = tracked,
                          .waiter = {.client = tracked->session.connection->client,
                                     .server = tracked->session.connection->server,
                                     .wake = held_wake,
                                     .context = held},
                          .packet_id = queued->id,
                          .sequence = syn->sequence,
                          .since_us = now_us,
                          .syn_us = now_us};
    held->until_us = now_us + limits_of(tracked)->hold_longest_us;
    if (held->next != NULL)
        held->next->previous = held;
    enforcer->held = held;
    enforcer->held_count++;
    enforcer->stats.held++;
    watched->held = held;
    set_state(enforcer, watched, ENFORCER_HELD);
    tracked->session.action = ACTION_HELD;
    say(enforcer, tracked, ACTION_HELD);
    tracker_session_hold(enforcer->options.tracker, tracked, true, now_us);
    if (limiter_wait(enforcer->options.limiter, tracked->session.policy, &held->waiter, now_us) &&
        take_place(enforcer, held)) {
        forget_held(enforcer, watched);
        tracker_session_hold(enforcer->options.tracker, tracked, false, now_us);
        return QUEUE_ACCEPT;
    }
    return QUEUE_WITHHOLD;
}

/* Held as long as may be: the SYN goes on to be refused by 421, or is answered with a reset. */
static void refuse_held(struct enforcer *enforcer, struct held *held, uint64_t now_us)
{
    struct tracker_session *tracked = held->tracked;
    struct watched *watched = watched_of(tracked);
    struct packet syn = {.source = tracked->session.connection->client,
                         .destination = tracked->session.connection->server,
                         .flags = PACKET_SYN,
                         .sequence = held->sequence};
    uint32_t packet_id = held->packet_id;

    leave_queue(enforcer, watched, now_us);
    tracker_session_hold(enforcer->options.tracker, tracked, false, now_us);
    packet_queue_release(enforcer->options.queue, packet_id,
                         refuse(enforcer, tracked, watched, &syn, now_us));
}

static void client_left(struct enforcer *enforcer, struct held *held, uint64_t now_us)
{
    struct tracker_session *tracked = held->tracked;
    uint32_t packet_id = held->packet_id;

    leave_queue(enforcer, watched_of(tracked), now_us);
    packet_queue_release(enforcer->options.queue, packet_id, QUEUE_DROP);
    tracker_session_close(enforcer->options.tracker, tracked, SESSION_END_CLIENT_FIN, ACTION_HELD, now_us);
}

static uint64_t held_patience_us(const struct held *held)
{
    struct flow_side client = {.syn_count = 2, .syn_interval_us = (uint32_t)held->interval_us};

    return held->interval_us == 0 ? ENFORCER_FIRST_US : tracker_syn_patience_us(&client);
}

/* A packet of a connection that waits. True: it goes no further. */
static bool held_takes(struct enforcer *enforcer, struct held *held, enum side sender,
                       const struct packet *packet, uint64_t now_us)
{
    if (sender == SIDE_SERVER)
        return true; /* it cannot know of it */
    if ((packet->flags & PACKET_RST) || packet->sequence != held->sequence) {
        client_left(enforcer, held, now_us);
        return (packet->flags & PACKET_RST) != 0; /* anything else is another connection */
    }
    held->interval_us = now_us - held->syn_us;
    held->syn_us = now_us;
    return true;
}

static void look_at_held(struct enforcer *enforcer, uint64_t now_us)
{
    struct held *next;

    for (struct held *held = enforcer->held; held != NULL; held = next) {
        next = held->next;
        if (now_us >= held->until_us)
            refuse_held(enforcer, held, now_us);
        else if (now_us - held->syn_us >= held_patience_us(held))
            client_left(enforcer, held, now_us);
    }
}

/* ---- closing ---- */

static struct tracker_session *closing_one(struct enforcer *enforcer, uint32_t link)
{
    return tracker_linked(enforcer->options.tracker, link);
}

static void leave_closing(struct enforcer *enforcer, struct watched *watched)
{
    if (watched->previous != 0)
        watched_of(closing_one(enforcer, watched->previous))->next = watched->next;
    else
        enforcer->closing = watched->next;
    if (watched->next != 0)
        watched_of(closing_one(enforcer, watched->next))->previous = watched->previous;
    watched->next = watched->previous = 0;
}

/* True when it is done; the session is gone then. */
static bool try_to_close(struct enforcer *enforcer, struct tracker_session *tracked,
                         const struct watched *watched, uint64_t now_us)
{
    char text[PARTING_TEXT];
    const uint64_t waited_us = (uint64_t)((uint32_t)(now_us / 1000) - watched->closing_ms) * 1000;
    size_t length;

    if (session_in_doubt(&tracked->session) && waited_us < ENFORCER_DOUBT_US)
        return false;
    length = session_close_reply(&tracked->session, text, sizeof text);
    if (length > 0 && waited_us < ENFORCER_SETTLE_US && tracked->entry->flow.state == FLOW_ESTABLISHED &&
        !parting_can_speak(&tracked->entry->flow))
        return false;
    enforcer->stats.closed++;
    packet_queue_flush(enforcer->options.queue);
    parting_begin(enforcer->partings, tracked->entry, text, length, now_us);
    tracker_session_close(enforcer->options.tracker, tracked, SESSION_END_WITNESS, ACTION_CLOSED, now_us);
    return true;
}

static void look_at_closing(struct enforcer *enforcer, uint64_t now_us)
{
    uint32_t next;

    for (uint32_t link = enforcer->closing; link != 0; link = next) {
        struct tracker_session *tracked = closing_one(enforcer, link);
        const struct watched *watched = watched_of(tracked);

        next = watched->next;
        (void)try_to_close(enforcer, tracked, watched, now_us);
    }
}

/* ---- from the tracker ---- */

void enforcer_opened(struct enforcer *enforcer, struct tracker_session *tracked)
{
    struct watched *watched = watched_of(tracked);

    if (tracked->entry->flow.state != FLOW_SYN_SEEN)
        return; /* it runs already: only counted */
    if (tracked->answer != LIMITER_ADMIT)
        set_state(enforcer, watched,
                  tracked->answer == LIMITER_REFUSE ? ENFORCER_TO_REFUSE : ENFORCER_TO_HOLD);
}

void enforcer_close(struct enforcer *enforcer, struct tracker_session *tracked, uint64_t now_us)
{
    struct watched *watched = watched_of(tracked);

    if (watched->state != ENFORCER_PASSING)
        return;
    set_state(enforcer, watched, ENFORCER_CLOSING);
    watched->closing_ms = (uint32_t)(now_us / 1000);
    watched->previous = 0;
    watched->next = enforcer->closing;
    enforcer->closing = tracker_link(enforcer->options.tracker, tracked);
    if (watched->next != 0)
        watched_of(closing_one(enforcer, watched->next))->previous = enforcer->closing;
    enforcer->look_us = now_us; /* not now: the tracker is busy with it */
}

void enforcer_forget(struct enforcer *enforcer, struct tracker_session *tracked)
{
    struct watched *watched = watched_of(tracked);

    if (watched->state == ENFORCER_HELD) { /* its place in the table was taken: the client will try again */
        uint32_t packet_id = watched->held->packet_id;

        leave_queue(enforcer, watched, clock_monotonic_us());
        packet_queue_release(enforcer->options.queue, packet_id, QUEUE_DROP);
    }
    if (watched->state == ENFORCER_CLOSING)
        leave_closing(enforcer, watched);
    set_state(enforcer, watched, ENFORCER_PASSING);
}

/* ---- packets ---- */

bool enforcer_takes(struct enforcer *enforcer, const struct packet *packet, const struct queue_packet *queued,
                    uint64_t now_us, enum queue_verdict *verdict)
{
    struct tracker_session *tracked;
    const struct watched *watched;
    enum side sender;

    *verdict = QUEUE_DROP;
    if (queued->hook == NF_INET_LOCAL_OUT) { /* our own resets pass our own rules */
        *verdict = QUEUE_ACCEPT;
        return parting_knows(enforcer->partings, packet);
    }
    if (parting_takes(enforcer->partings, packet, now_us))
        return true;
    if (enforcer->held_count == 0 ||
        (tracked = tracker_find(enforcer->options.tracker, packet, &sender)) == NULL)
        return false;
    watched = watched_of(tracked);
    return watched->state == ENFORCER_HELD && held_takes(enforcer, watched->held, sender, packet, now_us);
}

enum queue_verdict enforcer_judge(struct enforcer *enforcer, const struct packet *packet,
                                  const struct queue_packet *queued, uint64_t now_us)
{
    enum side sender;
    struct tracker_session *tracked =
        enforcer->deciding_count > 0 ? tracker_find(enforcer->options.tracker, packet, &sender) : NULL;
    struct watched *watched = tracked != NULL ? watched_of(tracked) : NULL;

    if (watched == NULL)
        return QUEUE_ACCEPT;
    switch (watched->state) {
    case ENFORCER_PASSING:
    case ENFORCER_HELD:
        break;
    case ENFORCER_TO_REFUSE:
        return refuse(enforcer, tracked, watched, packet, now_us);
    case ENFORCER_TO_HOLD:
        return hold(enforcer, tracked, watched, packet, queued, now_us);
    case ENFORCER_REFUSING:
        if (sender == SIDE_CLIENT && tracked->entry->flow.state == FLOW_ESTABLISHED)
            return refuse_with_text(enforcer, tracked, now_us);
        break;
    case ENFORCER_CLOSING:
        return try_to_close(enforcer, tracked, watched, now_us) ? QUEUE_DROP : QUEUE_ACCEPT;
    }
    return QUEUE_ACCEPT;
}

/* ---- time ---- */

uint64_t enforcer_deadline_us(const struct enforcer *enforcer)
{
    uint64_t due_us = parting_deadline_us(enforcer->partings);

    if ((enforcer->held != NULL || enforcer->closing != 0) && enforcer->look_us < due_us)
        due_us = enforcer->look_us;
    return due_us;
}

void enforcer_on_deadline(struct enforcer *enforcer, uint64_t now_us)
{
    parting_on_deadline(enforcer->partings, now_us);
    if ((enforcer->held == NULL && enforcer->closing == 0) || now_us < enforcer->look_us)
        return;
    enforcer->look_us = now_us + LOOK_US;
    look_at_closing(enforcer, now_us);
    look_at_held(enforcer, now_us);
}

void enforcer_run_woken(struct enforcer *enforcer, uint64_t now_us)
{
    for (;;) {
        struct held *held;

        pthread_mutex_lock(&enforcer->woken_lock);
        held = enforcer->woken;
        if (held != NULL) {
            enforcer->woken = held->next_woken;
            held->woken = false;
        }
        pthread_mutex_unlock(&enforcer->woken_lock);
        if (held == NULL)
            return;
        granted(enforcer, held, now_us);
    }
}

void enforcer_stats(const struct enforcer *enforcer, struct enforcer_stats *stats)
{
    *stats = enforcer->stats;
}

uint64_t enforcer_memory_octets(void)
{
    return sizeof(struct enforcer) + parting_memory_octets() + ENFORCER_HELD_MAX * sizeof(struct held);
}
