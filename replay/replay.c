#include "replay/replay.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "core/policy/limiter.h"
#include "core/report/record.h"
#include "core/tracker/tracker.h"
#include "replay/capture.h"
#include "replay/link.h"
#include "replay/story.h"

#define START_US 1000000 /* the monotonic clock's first reading: zero means "never" in many places */

struct replay_source {
    struct capture *capture;
    struct capture_packet packet; /* the next one */
    bool ready;
};

struct replay {
    const struct replay_options *options;
    struct replay_totals *totals;
    struct replay_source *sources;
    struct limiter *limiter;
    struct tracker *tracker;
    int64_t offset_us; /* from the wall clock to ours */
    uint64_t now_us;
    bool begun;
    bool damaged;
};

static void print_line(const struct replay *replay, const struct record *record)
{
    char line[RECORD_LINE_OCTETS];
    if (replay->options->format == REPLAY_JSON) {
        record_to_json(record, line);
    } else {
        record_to_logfmt(record, line);
    }
    fprintf(replay->options->output, "%s\n", line);
}

/* NULL without memory. */
static struct story **story_of(struct tracker_session *tracked)
{
    return (struct story **)tracked->story;
}

static void on_record(void *context, struct tracker_session *tracked, const struct record *record)
{
    struct replay *replay = context;
    if (record->kind != RECORD_VERDICT) {
        return;
    }
    replay->totals->sessions++;
    bool unknown = record->verdict.fault == FAULT_UNKNOWN;
    replay->totals->unjudged += unknown ? 1 : 0;
    replay->totals->faults += !unknown && record->verdict.fault != FAULT_NONE ? 1 : 0;
    if (replay->options->format == REPLAY_TEXT) {
        story_print(*story_of(tracked), tracked, record, replay->options->output);
        story_destroy(*story_of(tracked));
    } else {
        print_line(replay, record);
    }
}

static void on_step(void *context, struct tracker_session *tracked, enum tracker_step step, enum side side,
                    uint64_t now_us)
{
    (void)context;
    if (step == TRACKER_STEP_OPENED) {
        *story_of(tracked) = story_create();
    }
    if (*story_of(tracked) != NULL) {
        story_on_step(*story_of(tracked), tracked, step, side, now_us);
    }
}

static void on_dropped(void *context, struct tracker_session *tracked)
{
    (void)context;
    story_destroy(*story_of(tracked));
}

static void set_ports(struct tracker *tracker, const struct replay_options *options)
{
    const struct settings_smtp *smtp = &options->settings->smtp;
    for (uint32_t i = 0; i < smtp->ports.count; i++) {
        tracker_set_port(tracker, smtp->ports.port[i], TRACKER_PORT_SMTP);
    }
    for (uint32_t i = 0; i < smtp->implicit_tls_ports.count; i++) {
        tracker_set_port(tracker, smtp->implicit_tls_ports.port[i], TRACKER_PORT_IMPLICIT_TLS);
    }
    for (uint32_t i = 0; i < smtp->lmtp_ports.count; i++) {
        tracker_set_port(tracker, smtp->lmtp_ports.port[i], TRACKER_PORT_LMTP);
    }
    for (size_t i = 0; i < options->port_count; i++) {
        tracker_set_port(tracker, options->ports[i], TRACKER_PORT_SMTP);
    }
}

static bool make_tracker(struct replay *replay)
{
    const struct replay_options *options = replay->options;
    struct tracker_options setup = {.mode = RECORD_REPLAY,
                                    .policy = &options->settings->policy,
                                    .max_flows =
                                        options->max_flows != 0 ? options->max_flows : REPLAY_MAX_FLOWS,
                                    .id_prefix = "replay",
                                    .any_port = options->any_port,
                                    .proxy_protocol = options->settings->smtp.proxy_protocol,
                                    .callbacks = {.context = replay, .record = on_record}};
    if (getrandom(setup.seed, sizeof setup.seed, 0) != (ssize_t)sizeof setup.seed) {
        memset(setup.seed, 0x5a,
               sizeof setup.seed); /* a file's sender may then slow us down, nothing worse */
    }
    if (options->format == REPLAY_TEXT) {
        setup.story_octets = sizeof(struct story *);
        setup.callbacks.step = on_step;
        setup.callbacks.dropped = on_dropped;
    }
    replay->limiter = limiter_create(options->settings->max_sources, setup.seed);
    setup.limiter = replay->limiter;
    replay->tracker = replay->limiter != NULL ? tracker_create(&setup) : NULL;
    if (replay->tracker == NULL) {
        return false;
    }
    set_ports(replay->tracker, options);
    return true;
}

/* Reads the source's next packet. */
static void source_advance(struct replay *replay, struct replay_source *source)
{
    source->ready = false;
    switch (capture_next(source->capture, &source->packet)) {
    case CAPTURE_PACKET:
        source->ready = true;
        break;
    case CAPTURE_END:
        break;
    case CAPTURE_DAMAGED:
        replay->damaged = true;
        fprintf(replay->options->remarks, "smtpwitness: replay: %s\n", capture_trouble(source->capture));
        break;
    }
}

static bool open_sources(struct replay *replay)
{
    const struct replay_options *options = replay->options;
    char error[CAPTURE_TEXT_SIZE];
    replay->sources = calloc(options->path_count, sizeof *replay->sources);
    if (replay->sources == NULL) {
        fprintf(options->remarks, "smtpwitness: replay: no memory\n");
        return false;
    }
    for (size_t i = 0; i < options->path_count; i++) {
        replay->sources[i].capture = capture_open(options->paths[i], error);
        if (replay->sources[i].capture == NULL) {
            fprintf(options->remarks, "smtpwitness: replay: %s\n", error);
            return false;
        }
        if (!link_is_known(capture_datalink(replay->sources[i].capture))) {
            fprintf(options->remarks, "smtpwitness: replay: %s: frames of type %s cannot be read\n",
                    capture_path(replay->sources[i].capture),
                    capture_datalink_name(replay->sources[i].capture));
            return false;
        }
    }
    return true;
}

/* The monotonic clock of a packet; also notices when the wall clock stepped. */
static void set_time(struct replay *replay, int64_t unix_us)
{
    if (!replay->begun) {
        replay->begun = true;
        replay->now_us = START_US;
        replay->offset_us = START_US - unix_us;
        return;
    }
    int64_t passed_us = unix_us + replay->offset_us - (int64_t)replay->now_us;
    if (passed_us < -REPLAY_BACK_US || passed_us > REPLAY_LEAP_US) {
        int64_t stands_for_us = passed_us < 0 ? 0 : REPLAY_LEAP_US;
        replay->totals->time_steps++;
        if (passed_us > 0) { /* whether anybody was silent all that time, nobody saw */
            tracker_finish(replay->tracker, replay->now_us);
        }
        replay->offset_us = (int64_t)replay->now_us + stands_for_us - unix_us;
        passed_us = stands_for_us;
    }
    replay->now_us += passed_us > 0 ? (uint64_t)passed_us : 0;
}

static void feed(struct replay *replay, const struct replay_source *source)
{
    const struct capture_packet *packet = &source->packet;
    struct link_payload payload;
    replay->totals->packets++;
    set_time(replay, packet->unix_us);
    if (!link_find_ip(capture_datalink(source->capture), packet->octets, packet->captured, packet->length,
                      &payload)) {
        replay->totals->not_ip++;
        return;
    }
    tracker_on_packet(replay->tracker, payload.octets, payload.captured, payload.length, replay->now_us,
                      packet->unix_us / 1000);
}

static struct replay_source *earliest(struct replay *replay)
{
    struct replay_source *best = NULL;
    for (size_t i = 0; i < replay->options->path_count; i++) {
        struct replay_source *source = &replay->sources[i];
        if (source->ready && (best == NULL || source->packet.unix_us < best->packet.unix_us)) {
            best = source;
        }
    }
    return best;
}

static void read_all(struct replay *replay)
{
    struct replay_source *source;
    for (size_t i = 0; i < replay->options->path_count; i++) {
        source_advance(replay, &replay->sources[i]);
    }
    while ((source = earliest(replay)) != NULL) {
        feed(replay, source);
        source_advance(replay, source);
    }
    tracker_finish(replay->tracker, replay->now_us);
}

static void say_remarks(const struct replay *replay)
{
    struct tracker_stats stats;
    FILE *to = replay->options->remarks;
    tracker_stats(replay->tracker, &stats);
    if (replay->totals->sessions == 0 && !replay->damaged) {
        fprintf(to, "smtpwitness: replay: %s\n",
                replay->options->any_port
                    ? "no SMTP session on any port; --port=N names one whose beginning was not captured"
                    : "no SMTP session on the ports of SMTP; --port=N names others, --any-port tries all");
    }
    if (replay->totals->time_steps > 0) {
        fprintf(to,
                "smtpwitness: replay: the clock of the capture stepped, or nothing at all was captured for "
                "more than an hour, %" PRIu64 " times; nobody is charged for that time\n",
                replay->totals->time_steps);
    }
    if (stats.copies > 0) {
        fprintf(to, "smtpwitness: replay: %" PRIu64 " packets were captured twice; each counts once\n",
                stats.copies);
    }
    if (stats.fragments > stats.fragments_used) {
        fprintf(to,
                "smtpwitness: replay: %" PRIu64 " of %" PRIu64
                " IP fragments were left out: the rest of their packets is missing\n",
                stats.fragments - stats.fragments_used, stats.fragments);
    }
    if (stats.cut_packets + stats.malformed_packets > 0) {
        fprintf(to,
                "smtpwitness: replay: %" PRIu64 " packets were cut too short to read, %" PRIu64
                " were malformed\n",
                stats.cut_packets, stats.malformed_packets);
    }
    if (stats.evicted > 0) {
        fprintf(to, "smtpwitness: replay: more connections at once than fit: %" PRIu64 " were let go early\n",
                stats.evicted);
    }
}

static void replay_clear(struct replay *replay)
{
    for (size_t i = 0; replay->sources != NULL && i < replay->options->path_count; i++) {
        capture_close(replay->sources[i].capture);
    }
    free(replay->sources);
    tracker_destroy(replay->tracker);
    limiter_destroy(replay->limiter);
}

enum replay_result replay_run(const struct replay_options *options, struct replay_totals *totals)
{
    struct replay replay = {.options = options, .totals = totals};
    enum replay_result result = REPLAY_UNREADABLE;
    memset(totals, 0, sizeof *totals);
    if (!open_sources(&replay)) {
        goto out;
    }
    result = REPLAY_FAILED;
    if (!make_tracker(&replay)) {
        fprintf(options->remarks, "smtpwitness: replay: no memory\n");
        goto out;
    }
    read_all(&replay);
    if (options->format == REPLAY_TEXT) {
        fprintf(options->output,
                "%" PRIu64 " packet%s, %" PRIu64 " SMTP session%s: %" PRIu64 " without a fault, %" PRIu64
                " with one, %" PRIu64 " that cannot be judged\n",
                totals->packets, totals->packets == 1 ? "" : "s", totals->sessions,
                totals->sessions == 1 ? "" : "s", totals->sessions - totals->faults - totals->unjudged,
                totals->faults, totals->unjudged);
    }
    fflush(options->output);
    say_remarks(&replay);
    result = ferror(options->output) ? REPLAY_FAILED : replay.damaged ? REPLAY_DAMAGED : REPLAY_OK;
out:
    replay_clear(&replay);
    return result;
}
