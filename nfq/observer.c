#include "nfq/observer.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <syslog.h>
#include <unistd.h>
#include <linux/netfilter.h>

#include "core/policy/timeouts.h"
#include "daemon/clock.h"
#include "nfq/bypass.h"
#include "nfq/connection_marks.h"
#include "nfq/departure.h"
#include "nfq/kernel_queues.h"
#include "nfq/prober.h"
#include "nfq/watched.h"

#define LATE_US                                                                                              \
    UINT64_C(20000) /* the shortest stall in which a queue may fill: 8192 packets at 400,000 a second */

#define STOPPED_US UINT64_C(1000000) /* four times OBSERVER_WAKE_MS: nobody let us run */

struct observer {
    struct packet_queue *queue;
    struct tracker *tracker;
    struct prober prober;
    struct bypass bypass;
    struct connection_marks marks; /* without socket: no bypass */
    struct departure departure;
    struct bridge *bridge;     /* NULL = none */
    struct enforcer *enforcer; /* NULL = nothing can be enforced */
    struct settings_share *settings;
    _Atomic(struct settings_share *) loaded; /* by observer_reload(), not taken over yet; NULL = none */
    struct log *log;
    bool probes;
    bool on_host;
    bool enforces; /* something, for somebody: packets are looked at for that */
    int wake_fd;
    pthread_t thread;
    bool running;
    int kernel_fd;
    uint16_t number;
    uint64_t begun_us;  /* when the latest turn began */
    uint64_t turned_us; /* when the socket was last drained */
    uint64_t overruns;  /* of the queue, as last seen, and packets missed */
    uint64_t full;
    bool hidden, cannot_mark, cannot_clear; /* each is said once */
    uint64_t records, unjudged;
    atomic_bool stop;
    atomic_ullong beats;
    atomic_ullong lost_us;      /* when packets of ours were lost last; 0 = never */
    pthread_mutex_t stats_lock; /* of `stats`, a copy made once per turn */
    struct observer_stats stats;
};

/* ---- the tracker's callbacks ---- */

/* Packets were lost by ourselves while the session ran; the latest loss will do. */
static bool lost_meanwhile(const struct observer *observer, const struct tracker_session *tracked)
{
    uint64_t lost_us = atomic_load(&observer->lost_us);

    return lost_us != 0 && lost_us >= tracked->entry->connection.opened_us;
}

/* What looks like the network's doing, or anybody's, may be ours. What was said in words stands. */
static void withdraw(struct observer *observer, struct verdict *verdict)
{
    verdict->notes &= ~(uint32_t)(NOTE_LOSS_CLIENT_LEG | NOTE_LOSS_SERVER_LEG | NOTE_DATA_BEFORE_354 |
                                  NOTE_SLOW_REPLY | NOTE_SLOW_GREETING);
    if (verdict->fault == FAULT_NONE || verdict->fault == FAULT_POLICY)
        return;
    verdict->also |= 1u << verdict->fault;
    verdict->also &= ~(1u << FAULT_WITNESS);
    verdict->fault = FAULT_WITNESS;
    verdict->cause = CAUSE_OBSERVER_LOSS;
    verdict->confidence = CONFIDENCE_POSSIBLE;
    verdict->where = WHERE_HERE;
    snprintf(verdict->explain, sizeof verdict->explain,
             "we lost packets or stood still ourselves during this session: no judgement");
    observer->unjudged++;
}

static void forget(struct observer *observer, struct tracker_session *tracked)
{
    prober_forget(&observer->prober, tracked);
    bypass_forget(&observer->bypass, tracked);
    if (observer->enforcer != NULL)
        enforcer_forget(observer->enforcer, tracked);
    settings_share_release(watched_of(tracked)->settings);
}

static void on_record(void *context, struct tracker_session *tracked, const struct record *record)
{
    struct observer *observer = context;
    struct record changed;

    observer->records++;
    if ((record->kind == RECORD_VERDICT || record->kind == RECORD_STALL) &&
        lost_meanwhile(observer, tracked)) {
        changed = *record;
        withdraw(observer, &changed.verdict);
        record = &changed;
    } else if (record->kind != RECORD_REFUSAL) {
        changed = *record;
        if (departure_judge(&observer->departure, tracked, &changed.verdict))
            record = &changed;
    }
    log_record(observer->log, record);
    if (record->kind == RECORD_VERDICT)
        forget(observer, tracked);
}

static void on_dropped(void *context, struct tracker_session *tracked)
{
    forget(context, tracked);
}

static void begin(struct observer *observer, struct tracker_session *tracked)
{
    watched_of(tracked)->settings = settings_share_acquire(observer->settings);
    if (observer->enforcer != NULL && !observer->on_host)
        enforcer_opened(observer->enforcer, tracked);
}

static void on_step(void *context, struct tracker_session *tracked, enum tracker_step step, enum side side,
                    uint64_t now_us)
{
    struct observer *observer = context;
    const struct limiter_counts *counts = &tracked->session.counts;

    (void)side;
    (void)now_us;
    if (step != TRACKER_STEP_OPENED)
        return;
    begin(observer, tracked);
    if (counts->would_refuse || counts->would_hold) {
        struct record record;

        tracked->session.action = counts->would_refuse ? ACTION_WOULD_REFUSE : ACTION_WOULD_HOLD;
        session_refusal_record(&tracked->session, counts, tracked->session.action, clock_unix_ms(), &record);
        log_record(observer->log, &record);
    }
}

static void on_want(void *context, struct tracker_session *tracked, uint32_t wants, uint64_t now_us)
{
    struct observer *observer = context;

    if ((wants & SESSION_WANT_CLOSE) && observer->enforcer != NULL && !observer->on_host)
        enforcer_close(observer->enforcer, tracked, now_us);
    if (!observer->probes)
        return;
    /* One side at a time; where both are asked for, the one that seems to owe is the server. */
    if (wants & SESSION_WANT_PROBE_SERVER)
        prober_start(&observer->prober, tracked, SIDE_SERVER, now_us);
    if (wants & SESSION_WANT_PROBE_CLIENT)
        prober_start(&observer->prober, tracked, SIDE_CLIENT, now_us);
}

/* ---- packets ---- */

/* Connections of this host itself (rules: --place host). What we send leaves through OUTPUT, where it would be queued and
 * taken for a packet of the side it speaks for. They begin in INPUT or OUTPUT; in OUTPUT the other rules queue nothing
 * but resets and errors of ICMP. */
static bool is_of_this_host(const struct observer *observer, const struct queue_packet *queued)
{
    struct packet packet;

    if (observer->on_host || queued->hook == NF_INET_FORWARD)
        return false;
    return queued->hook == NF_INET_LOCAL_IN ||
           (queued->hook == NF_INET_LOCAL_OUT &&
            packet_parse(&packet, queued->octets, queued->captured, queued->wire_length) == PACKET_OK &&
            packet.kind == PACKET_TCP && !(packet.flags & PACKET_RST));
}

static void stay_out(struct observer *observer)
{
    observer->on_host = true;
    observer->probes = observer->enforces = false;
    log_message(
        observer->log, LOG_NOTICE, "nfq",
        "packets of this host itself are queued: silent sides are not probed, and nothing is enforced");
}

static void learn_place(const struct observer *observer, const struct queue_packet *queued)
{
    const struct tracker_latest *latest = tracker_latest(observer->tracker);

    if (queued->port != 0 && queued->link != NULL && observer->bridge != NULL && latest->entry != NULL &&
        latest->packet.kind == PACKET_TCP)
        bridge_learn(observer->bridge, &latest->packet.source, queued->port, queued->link);
}

/* In report mode nothing is dropped but the answers to our own probes, which nobody else asked for. */
static enum queue_verdict judge(void *context, struct queue_packet *queued)
{
    struct observer *observer = context;
    struct enforcer *enforcer = observer->enforcer;
    const uint64_t now_us = queued->read_us;
    enum queue_verdict verdict = QUEUE_ACCEPT;
    struct prober_slot *slot = NULL;
    const struct tracker_session *tracked = NULL;
    struct prober_view before = {0};
    struct packet packet;
    bool parsed;

    if (departure_take(&observer->departure, observer->tracker, queued, &verdict, now_us))
        return verdict;
    if (is_of_this_host(observer, queued))
        stay_out(observer);
    parsed = (observer->prober.busy_count > 0 || observer->enforces) &&
             packet_parse(&packet, queued->octets, queued->captured, queued->wire_length) == PACKET_OK &&
             packet.kind == PACKET_TCP;

    if (parsed && enforcer != NULL && enforcer_is_busy(enforcer) &&
        enforcer_takes(enforcer, &packet, queued, now_us, &verdict))
        return verdict;
    if (parsed && (slot = prober_match(&observer->prober, &packet)) != NULL) {
        if (prober_provoked(&observer->prober, slot, &packet))
            return QUEUE_DROP;
        tracked = slot->tracked;
        before = prober_look(slot);
    }
    tracker_on_packet(observer->tracker, queued->octets, queued->captured, queued->wire_length, now_us,
                      queued->read_unix_ms);
    learn_place(observer, queued);
    if (observer->bypass.enabled) /* rules of others may copy it from the connection, and back */
        queued->mark &= ~observer->marks.bit;
    bypass_on_packet(&observer->bypass, tracker_latest(observer->tracker), queued->is_last, now_us);
    if (slot != NULL && slot->tracked == tracked &&
        prober_swallows(&observer->prober, slot, &before, &packet))
        return QUEUE_DROP;
    if (parsed && enforcer != NULL)
        verdict = enforcer_judge(enforcer, &packet, queued, now_us);
    if (verdict == QUEUE_ACCEPT)
        departure_follow(&observer->departure, tracker_latest(observer->tracker), queued, now_us);
    return verdict;
}

static void look_for_losses(struct observer *observer)
{
    struct packet_queue_stats stats;

    packet_queue_stats(observer->queue, &stats);
    if (stats.overruns + stats.missed != observer->overruns) {
        observer->overruns = stats.overruns + stats.missed;
        observer_lost(observer, clock_monotonic_us());
    }
}

/* With fail-open a packet that finds the kernel's queue full passes, and the kernel does not count it: so we look how
 * full it is whenever we come late, before anything of it is read. */
static void look_how_full(struct observer *observer, uint64_t now_us)
{
    const struct settings_nfq *settings = &observer->settings->settings->nfq;
    const uint32_t length = settings->queue_length_count;
    char text[KERNEL_QUEUES_TEXT];
    struct kernel_queue kernel;
    size_t got;

    if (observer->kernel_fd == -1 || now_us - observer->turned_us < LATE_US)
        return;
    got = kernel_queues_read(observer->kernel_fd, text);
    if (kernel_queues_find(text, got, observer->number, &kernel) &&
        kernel.waiting_count >=
            length - (length / 4 < PACKET_QUEUE_BATCH ? length / 4 : PACKET_QUEUE_BATCH)) {
        observer->full++;
        observer_lost(observer, now_us);
    }
}

/* So long no turn: what waited for us is old, and what was let past was repeated unseen. */
static bool look_how_late(struct observer *observer, uint64_t now_us)
{
    const uint64_t late_us = observer->begun_us != 0 ? now_us - observer->begun_us : 0;

    observer->begun_us = now_us;
    if (late_us < STOPPED_US)
        return false;
    observer_lost(observer, now_us);
    log_message(
        observer->log, LOG_WARNING, "nfq",
        "nobody let the thread of queue %u run for %llu ms; sessions open at that time are not judged",
        observer->number, (unsigned long long)(late_us / 1000));
    return true;
}

static void publish(struct observer *observer)
{
    struct observer_stats stats = {.records = observer->records,
                                   .unjudged = observer->unjudged,
                                   .full = observer->full,
                                   .bypasses = observer->bypass.started_count,
                                   .probes_sent = observer->prober.sent_count,
                                   .probes_answered = observer->prober.answered_count};

    if (observer->enforcer != NULL)
        enforcer_stats(observer->enforcer, &stats.enforcer);
    tracker_stats(observer->tracker, &stats.tracker);
    packet_queue_stats(observer->queue, &stats.queue);
    pthread_mutex_lock(&observer->stats_lock);
    observer->stats = stats;
    pthread_mutex_unlock(&observer->stats_lock);
}

static int wait_ms(const struct observer *observer)
{
    uint64_t due_us = tracker_deadline_us(observer->tracker);
    uint64_t probe_us = prober_deadline_us(&observer->prober);
    uint64_t now_us = clock_monotonic_us();

    due_us = probe_us < due_us ? probe_us : due_us;
    if (bypass_deadline_us(&observer->bypass) < due_us)
        due_us = bypass_deadline_us(&observer->bypass);
    if (observer->enforcer != NULL && enforcer_deadline_us(observer->enforcer) < due_us)
        due_us = enforcer_deadline_us(observer->enforcer);
    if (due_us <= now_us)
        return 0;
    return due_us - now_us >= OBSERVER_WAKE_MS * 1000u ? OBSERVER_WAKE_MS
                                                       : (int)((due_us - now_us) / 1000 + 1);
}

/* Sessions that began under the old settings keep them. */
static void take_settings(struct observer *observer)
{
    struct settings_share *loaded = atomic_exchange(&observer->loaded, NULL);

    if (loaded == NULL)
        return;
    settings_share_release(observer->settings);
    observer->settings = loaded;
    observer->enforces =
        observer->enforcer != NULL && !observer->on_host && policy_enforces(&loaded->settings->policy);
    tracker_set_policy(observer->tracker, &loaded->settings->policy);
}

static void turn(struct observer *observer)
{
    struct pollfd ready[2] = {{.fd = packet_queue_descriptor(observer->queue), .events = POLLIN},
                              {.fd = observer->wake_fd, .events = POLLIN}};
    uint64_t now_us, woken;
    bool drained = false, late;

    (void)poll(ready, 2, wait_ms(observer)); /* a failure is a turn too early, no more */
    if (ready[1].revents != 0)
        (void)!read(observer->wake_fd, &woken, sizeof woken);
    take_settings(observer);
    late = look_how_late(observer, clock_monotonic_us());
    if (ready[0].revents != 0)
        look_how_full(observer, clock_monotonic_us());
    for (int reads = 0; reads < OBSERVER_READS && !drained; reads++)
        drained = !packet_queue_read(observer->queue, judge, observer);
    departure_prove(&observer->departure);
    look_for_losses(observer);
    now_us = clock_monotonic_us();
    if (late) /* those whose first packet had waited, too */
        observer_lost(observer, now_us);
    tracker_on_deadline(observer->tracker, now_us);
    prober_on_deadline(&observer->prober, now_us);
    if (drained ||
        now_us - observer->turned_us >= STOPPED_US) /* else what was acknowledged waits to be read */
        bypass_on_deadline(&observer->bypass, now_us);
    if (observer->enforcer != NULL) {
        enforcer_run_woken(observer->enforcer, now_us);
        enforcer_on_deadline(observer->enforcer, now_us);
    }
    publish(observer);
    if (drained)
        observer->turned_us = now_us;
    atomic_fetch_add(&observer->beats, 1);
}

static void *run(void *context)
{
    struct observer *observer = context;

    while (!atomic_load(&observer->stop))
        turn(observer);
    tracker_finish(observer->tracker, clock_monotonic_us());
    packet_queue_end(observer->queue);
    publish(observer);
    return NULL;
}

/* ---- life ---- */

static bool send_segment(void *context, const struct segment *segment)
{
    return injector_send(context, segment);
}

static bool create_enforcer(struct observer *observer, const struct observer_options *options)
{
    const uint32_t half = options->settings->settings->nfq.queue_length_count / 2;
    struct enforcer_options wanted = {.tracker = observer->tracker,
                                      .limiter = options->limiter,
                                      .log = options->log,
                                      .queue = observer->queue,
                                      .send = send_segment,
                                      .send_context = (void *)(uintptr_t)options->injector,
                                      .wake_fd = observer->wake_fd,
                                      .held_max = half < ENFORCER_HELD_MAX ? half : ENFORCER_HELD_MAX};

    if (!options->can_enforce)
        return true;
    observer->enforcer = enforcer_create(&wanted);
    observer->enforces = policy_enforces(&options->settings->settings->policy);
    return observer->enforcer != NULL;
}

/* What is queued goes on before: it would be overtaken. */
static enum connection_marks_result put_on(void *context, const struct connection *connection)
{
    struct observer *observer = context;
    enum connection_marks_result result;

    packet_queue_flush(observer->queue);
    result = connection_marks_set(&observer->marks, &connection->client, &connection->server, true);
    if (result == CONNECTION_MARKS_FAILED && !observer->cannot_mark)
        log_message(observer->log, LOG_WARNING, "nfq",
                    "a large body is not let past the queue: its connection cannot be marked: %s",
                    strerror(errno));
    if (result == CONNECTION_MARKS_UNKNOWN && !observer->hidden)
        log_message(observer->log, LOG_NOTICE, "nfq",
                    "a large body is not let past the queue: the kernel's table does not show its "
                    "connection; those with both addresses translated, or in a zone of conntrack, are "
                    "not found there");
    if (result == CONNECTION_MARKS_FAILED) /* it may be on all the same */
        (void)!connection_marks_set(&observer->marks, &connection->client, &connection->server, false);
    observer->cannot_mark = observer->cannot_mark || result == CONNECTION_MARKS_FAILED;
    observer->hidden = observer->hidden || result == CONNECTION_MARKS_UNKNOWN;
    return result;
}

/* One that the kernel has forgotten has no bit. What else goes wrong leaves us blind for it. */
static bool put_off(void *context, const struct connection *connection)
{
    struct observer *observer = context;

    if (connection_marks_set(&observer->marks, &connection->client, &connection->server, false) !=
        CONNECTION_MARKS_FAILED)
        return true;
    if (!observer->cannot_clear)
        log_message(
            observer->log, LOG_WARNING, "nfq",
            "the mark of a connection cannot be put off: %s; sessions open at that time are not judged",
            strerror(errno));
    observer->cannot_clear = true;
    observer_lost(observer, clock_monotonic_us());
    return false;
}

static void open_bypass(struct observer *observer, uint32_t bit, bool can)
{
    observer->bypass.enabled = can && connection_marks_open(&observer->marks, bit);
    if (can && !observer->bypass.enabled)
        log_message(observer->log, LOG_WARNING, "nfq", "queue %u has no bypass: %s", observer->number,
                    strerror(errno));
    observer->bypass.kernel =
        (struct bypass_kernel){.context = observer, .put_on = put_on, .put_off = put_off};
}

static void set_ports(struct tracker *tracker, const struct settings_ports *ports, enum tracker_port kind)
{
    for (uint32_t i = 0; i < ports->count; i++)
        tracker_set_port(tracker, ports->port[i], kind);
}

static bool create_tracker(struct observer *observer, const struct observer_options *options,
                           struct settings_error *error)
{
    char prefix[8];
    struct tracker_options wanted = {.mode = RECORD_NFQ,
                                     .policy = &options->settings->settings->policy,
                                     .limiter = options->limiter,
                                     .max_flows = options->max_flows,
                                     .story_octets = sizeof(struct watched),
                                     .id_prefix = prefix,
                                     .proxy_protocol = options->settings->settings->smtp.proxy_protocol,
                                     .gated = options->can_enforce,
                                     .probing = observer->probes,
                                     .probe_after_us = options->settings->settings->nfq.probe_after_us,
                                     .callbacks = {.context = observer,
                                                   .record = on_record,
                                                   .step = on_step,
                                                   .want = on_want,
                                                   .dropped = on_dropped}};

    snprintf(prefix, sizeof prefix, "%04x", options->run & 0xffffu);
    if (getrandom(wanted.seed, sizeof wanted.seed, 0) != (ssize_t)sizeof wanted.seed) {
        snprintf(error->text, sizeof error->text, "nfq: no random numbers: %s", strerror(errno));
        return false;
    }
    observer->tracker = tracker_create(&wanted);
    if (observer->tracker == NULL) {
        snprintf(error->text, sizeof error->text,
                 "[nfq] max-flows: no memory for %u connections; use a smaller number", options->max_flows);
        return false;
    }
    set_ports(observer->tracker, &options->settings->settings->smtp.ports, TRACKER_PORT_SMTP);
    set_ports(observer->tracker, &options->settings->settings->smtp.lmtp_ports, TRACKER_PORT_LMTP);
    set_ports(observer->tracker, &options->settings->settings->smtp.implicit_tls_ports,
              TRACKER_PORT_IMPLICIT_TLS);
    return true;
}

struct observer *observer_create(const struct observer_options *options, struct packet_queue_granted *granted,
                                 struct settings_error *error)
{
    struct observer *observer = calloc(1, sizeof *observer);
    const uint32_t mark = options->settings->settings->nfq.mark, lower = mark & (~mark + 1);
    struct packet_queue_options queue = {
        .number = options->queue,
        .length_packets = options->settings->settings->nfq.queue_length_count,
        .receive_octets = options->settings->settings->nfq.receive_buffer_octets,
        .fail_open = options->settings->settings->nfq.fail_open};

    if (observer == NULL) {
        snprintf(error->text, sizeof error->text, "nfq: no memory");
        return NULL;
    }
    observer->log = options->log;
    observer->kernel_fd = options->kernel_fd;
    observer->number = options->queue;
    observer->probes = options->can_probe;
    observer->settings = settings_share_acquire(options->settings);
    prober_init(&observer->prober, options->injector);
    observer->bridge = options->injector != NULL ? options->injector->bridge : NULL;
    open_bypass(observer, lower, options->can_bypass);
    departure_open(&observer->departure, mark & ~lower,
                   (uint16_t)(options->queue - options->settings->settings->nfq.first_queue),
                   options->settings->settings->smtp.ports.port[0]);
    pthread_mutex_init(&observer->stats_lock, NULL);
    observer->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (observer->wake_fd == -1) {
        snprintf(error->text, sizeof error->text, "nfq: eventfd: %s", strerror(errno));
        observer_destroy(observer);
        return NULL;
    }
    if (!create_tracker(observer, options, error) ||
        (observer->queue = packet_queue_open(&queue, granted, error)) == NULL) {
        observer_destroy(observer);
        return NULL;
    }
    if (!create_enforcer(observer, options)) {
        snprintf(error->text, sizeof error->text, "nfq: no memory");
        observer_destroy(observer);
        return NULL;
    }
    return observer;
}

bool observer_start(struct observer *observer)
{
    int failed = pthread_create(&observer->thread, NULL, run, observer);

    observer->running = failed == 0;
    errno = failed;
    return observer->running;
}

void observer_stop(struct observer *observer)
{
    uint64_t one = 1;

    if (!observer->running)
        return;
    atomic_store(&observer->stop, true);
    (void)!write(observer->wake_fd, &one, sizeof one); /* else it notices within OBSERVER_WAKE_MS */
    pthread_join(observer->thread, NULL);
    observer->running = false;
}

void observer_destroy(struct observer *observer)
{
    if (observer == NULL)
        return;
    packet_queue_close(observer->queue);
    departure_close(&observer->departure);
    tracker_destroy(observer->tracker);
    connection_marks_close(&observer->marks);
    enforcer_destroy(observer->enforcer);
    settings_share_release(atomic_load(&observer->loaded));
    settings_share_release(observer->settings);
    if (observer->wake_fd != -1)
        close(observer->wake_fd);
    pthread_mutex_destroy(&observer->stats_lock);
    free(observer);
}

void observer_reload(struct observer *observer, struct settings_share *settings)
{
    const uint64_t one = 1;

    settings_share_release(atomic_exchange(&observer->loaded, settings_share_acquire(settings)));
    (void)!write(observer->wake_fd, &one, sizeof one); /* else it notices within OBSERVER_WAKE_MS */
}

uint64_t observer_beats(const struct observer *observer)
{
    return atomic_load(&observer->beats);
}

void observer_lost(struct observer *observer, uint64_t now_us)
{
    atomic_store(&observer->lost_us, now_us);
}

void observer_stats(struct observer *observer, struct observer_stats *stats)
{
    pthread_mutex_lock(&observer->stats_lock);
    *stats = observer->stats;
    pthread_mutex_unlock(&observer->stats_lock);
}
