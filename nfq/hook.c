#include "nfq/hook.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <syslog.h>
#include <unistd.h>

#include "daemon/clock.h"
#include "nfq/connection_marks.h"
#include "nfq/kernel_queues.h"
#include "nfq/observer.h"
#include "nfq/watched.h"

#define LOSS_LINE_INTERVAL_US UINT64_C(10000000)

struct hook {
    struct settings_share *share;        /* those it began with: what needs a restart is in here */
    const struct settings_nfq *settings; /* of it */
    struct log *log;
    struct injector injector;
    struct observer *observers[HOOK_MAX_QUEUES];
    uint64_t beats[HOOK_MAX_QUEUES];
    struct kernel_queue seen[HOOK_MAX_QUEUES];
    uint32_t count;
    int kernel_fd;
    struct connection_marks marks; /* without socket: no bypass */
    bool owns_marks;               /* the queues are ours, so what is marked is, too */
    uint64_t queue_dropped, socket_dropped;
    uint64_t untold_count, told_us;
    uint64_t unseen_told, unseen_us;
};

static uint32_t flows_each(const struct settings_nfq *settings)
{
    return settings->max_flows_count / settings->queues_count;
}

uint64_t hook_memory_octets(const struct settings_nfq *settings)
{
    uint64_t queue = (uint64_t)settings->receive_buffer_octets + PACKET_QUEUE_BATCH * 70000u;
    uint64_t bypass = settings->bypass ? sizeof(struct bypass) : 0;

    return settings->queues_count * (tracker_memory_octets(flows_each(settings), sizeof(struct watched)) +
                                     queue + bypass + enforcer_memory_octets());
}

static void say_granted(struct hook *hook, const struct packet_queue_granted *granted)
{
    if (!granted->gso)
        log_message(
            hook->log, LOG_WARNING, "nfq",
            "the kernel gives no large packets (GSO): each is cut before it comes to us, which costs speed");
    if (hook->settings->fail_open && !granted->fail_open)
        log_message(hook->log, LOG_WARNING, "nfq",
                    "the kernel knows no fail-open flag: packets that find the queue full are dropped");
    if (!granted->length)
        log_message(hook->log, LOG_WARNING, "nfq", "the kernel keeps its own queue length, not %u packets",
                    hook->settings->queue_length_count);
    if (granted->receive_octets < hook->settings->receive_buffer_octets)
        log_message(hook->log, LOG_WARNING, "nfq", "the socket got %u octets of buffer instead of %u",
                    granted->receive_octets, hook->settings->receive_buffer_octets);
}

static void open_marks(struct hook *hook)
{
    const uint32_t mask = hook->settings->mark;

    if (!connection_marks_open(&hook->marks, mask & (~mask + 1)))
        log_message(hook->log, LOG_WARNING, "nfq",
                    "no bypass, every packet comes here: connections cannot be marked through ctnetlink: %s; "
                    "load the module nf_conntrack_netlink, or install a kernel with it",
                    strerror(errno));
}

struct hook *hook_create(const struct hook_options *options, struct settings_error *error)
{
    const struct settings_nfq *settings = &options->settings->settings->nfq;
    struct hook *hook = calloc(1, sizeof *hook);
    struct packet_queue_granted granted;
    uint16_t run;

    if (hook == NULL) {
        snprintf(error->text, sizeof error->text, "nfq: no memory");
        return NULL;
    }
    hook->share = settings_share_acquire(options->settings);
    hook->settings = settings;
    hook->log = options->log;
    hook->injector.ipv4 = hook->injector.ipv6 = -1;
    hook->kernel_fd = kernel_queues_open();
    if (getrandom(&run, sizeof run, 0) != (ssize_t)sizeof run) {
        snprintf(error->text, sizeof error->text, "nfq: no random numbers: %s", strerror(errno));
        goto failed;
    }
    if (!injector_open(&hook->injector))
        log_message(hook->log, LOG_WARNING, "nfq",
                    "no raw socket (%s): silent sides are not probed, and nothing is enforced",
                    strerror(errno));
    if (settings->bypass)
        open_marks(hook);
    for (uint32_t i = 0; i < settings->queues_count; i++) {
        bool can_send = hook->injector.ipv4 != -1 || hook->injector.ipv6 != -1;
        struct observer_options wanted = {.settings = options->settings,
                                          .limiter = options->limiter,
                                          .log = options->log,
                                          .injector = &hook->injector,
                                          .kernel_fd = hook->kernel_fd,
                                          .can_bypass = hook->marks.socket != NULL,
                                          .can_probe = can_send && settings->probe,
                                          .can_enforce = can_send,
                                          .queue = (uint16_t)(settings->first_queue + i),
                                          .max_flows = flows_each(settings),
                                          .run = run + i};

        hook->observers[i] = observer_create(&wanted, &granted, error);
        if (hook->observers[i] == NULL)
            goto failed;
        hook->count++;
        if (i == 0)
            say_granted(hook, &granted);
    }
    hook->owns_marks = hook->marks.socket != NULL;
    if (hook->owns_marks && !connection_marks_put_all_off(&hook->marks)) /* of a run that was killed */
        log_message(hook->log, LOG_WARNING, "nfq",
                    "the marked connections cannot be listed: %s; large bodies that run now pass by unseen",
                    strerror(errno));
    if (hook->kernel_fd == -1)
        log_message(
            hook->log, LOG_WARNING, "nfq",
            "/proc/net/netfilter/nfnetlink_queue: %s; packets lost in the kernel's queue go unnoticed",
            strerror(errno));
    log_message(hook->log, LOG_NOTICE, "nfq",
                "queues %u to %u, GSO %s, fail-open %s, probes %s, bypass %s, at most %u connections",
                settings->first_queue, settings->first_queue + settings->queues_count - 1,
                granted.gso ? "on" : "off", granted.fail_open ? "on" : "off",
                settings->probe && (hook->injector.ipv4 != -1 || hook->injector.ipv6 != -1) ? "on" : "off",
                hook->marks.socket != NULL ? "on" : "off", settings->max_flows_count);
    return hook;

failed:
    hook_destroy(hook);
    return NULL;
}

bool hook_start(struct hook *hook, struct settings_error *error)
{
    for (uint32_t i = 0; i < hook->count; i++) {
        if (!observer_start(hook->observers[i])) {
            snprintf(error->text, sizeof error->text, "nfq: cannot start a thread: %s", strerror(errno));
            hook_stop(hook);
            return false;
        }
    }
    return true;
}

void hook_stop(struct hook *hook)
{
    for (uint32_t i = 0; i < hook->count; i++)
        observer_stop(hook->observers[i]);
    if (hook->owns_marks && !connection_marks_put_all_off(&hook->marks))
        log_message(hook->log, LOG_WARNING, "nfq", "the marks of connections stay: %s", strerror(errno));
    hook->owns_marks = false;
}

void hook_destroy(struct hook *hook)
{
    if (hook == NULL)
        return;
    hook_stop(hook);
    for (uint32_t i = 0; i < hook->count; i++)
        observer_destroy(hook->observers[i]);
    injector_close(&hook->injector);
    connection_marks_close(&hook->marks);
    if (hook->kernel_fd != -1)
        close(hook->kernel_fd);
    settings_share_release(hook->share);
    free(hook);
}

void hook_reload(struct hook *hook, struct settings_share *settings)
{
    for (uint32_t i = 0; i < hook->count; i++)
        observer_reload(hook->observers[i], settings);
}

bool hook_is_alive(struct hook *hook)
{
    for (uint32_t i = 0; i < hook->count; i++) {
        if (observer_beats(hook->observers[i]) == hook->beats[i])
            return false;
    }
    for (uint32_t i = 0; i < hook->count; i++)
        hook->beats[i] = observer_beats(hook->observers[i]);
    return true;
}

static void tell_losses(struct hook *hook, uint64_t now_us)
{
    if (hook->untold_count == 0 || (hook->told_us != 0 && now_us - hook->told_us < LOSS_LINE_INTERVAL_US))
        return;
    log_message(
        hook->log, LOG_WARNING, "nfq",
        "the kernel dropped %llu packets because our queue was full; sessions of that time are not judged",
        (unsigned long long)hook->untold_count);
    hook->untold_count = 0;
    hook->told_us = now_us;
}

/* What passed unseen by fail-open: how much of it the kernel does not say. */
static void tell_unseen(struct hook *hook, uint64_t now_us)
{
    uint64_t signs = 0;

    for (uint32_t i = 0; i < hook->count; i++) {
        struct observer_stats one;

        observer_stats(hook->observers[i], &one);
        signs += one.full + one.queue.missed + one.queue.overruns;
    }
    if (!hook->settings->fail_open || signs == hook->unseen_told ||
        (hook->unseen_us != 0 && now_us - hook->unseen_us < LOSS_LINE_INTERVAL_US))
        return;
    log_message(hook->log, LOG_WARNING, "nfq",
                "packets passed unseen because our queue was full; sessions of that time are not judged");
    hook->unseen_told = signs;
    hook->unseen_us = now_us;
}

void hook_look_for_losses(struct hook *hook, uint64_t now_us)
{
    char text[KERNEL_QUEUES_TEXT];
    size_t length = hook->kernel_fd != -1 ? kernel_queues_read(hook->kernel_fd, text) : 0;

    for (uint32_t i = 0; i < hook->count; i++) {
        struct kernel_queue now;
        uint64_t more;

        if (!kernel_queues_find(text, length, hook->settings->first_queue + i, &now))
            continue;
        more = (now.queue_dropped - hook->seen[i].queue_dropped) +
               (now.socket_dropped - hook->seen[i].socket_dropped);
        hook->queue_dropped += now.queue_dropped - hook->seen[i].queue_dropped;
        hook->socket_dropped += now.socket_dropped - hook->seen[i].socket_dropped;
        hook->seen[i] = now;
        if (more != 0)
            observer_lost(hook->observers[i], now_us);
        hook->untold_count += more;
    }
    tell_losses(hook, now_us);
    tell_unseen(hook, now_us);
}

static void add(struct hook_stats *sum, const struct observer_stats *one)
{
    sum->packets += one->queue.packets;
    sum->octets += one->queue.octets;
    sum->batches += one->queue.batches;
    sum->dropped += one->queue.dropped;
    sum->refused_verdicts += one->queue.refused_verdicts;
    sum->damaged_messages += one->queue.damaged;
    sum->empty_packets += one->queue.empty;
    sum->overruns += one->queue.overruns;
    sum->missed += one->queue.missed;
    sum->full += one->full;
    sum->malformed_packets += one->tracker.malformed_packets;
    sum->other_packets += one->tracker.other_packets;
    sum->fragments += one->tracker.fragments;
    sum->sessions += one->tracker.sessions;
    sum->evicted += one->tracker.evicted;
    sum->flows_now += one->tracker.flows_now;
    sum->half_open_now += one->tracker.half_open_now;
    sum->records += one->records;
    sum->unjudged += one->unjudged;
    sum->probes_sent += one->probes_sent;
    sum->probes_answered += one->probes_answered;
    sum->bypasses += one->bypasses;
    sum->bypassed_octets += one->tracker.bypassed_octets;
    sum->refused += one->enforcer.refused;
    sum->held += one->enforcer.held;
    sum->closed += one->enforcer.closed;
    sum->held_full += one->enforcer.held_full;
}

void hook_stats(struct hook *hook, struct hook_stats *stats)
{
    memset(stats, 0, sizeof *stats);
    for (uint32_t i = 0; i < hook->count; i++) {
        struct observer_stats one;

        observer_stats(hook->observers[i], &one);
        add(stats, &one);
        stats->kernel_waiting += hook->seen[i].waiting_count;
    }
    stats->kernel_queue_dropped = hook->queue_dropped;
    stats->kernel_socket_dropped = hook->socket_dropped;
}
