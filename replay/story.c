#include "replay/story.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/base/attributes.h"
#include "core/report/record_fields.h"

struct story_turn {
    uint64_t at_us, lasted_us;
    uint8_t step; /* enum tracker_step; OCTETS = a turn of the dialogue */
    uint8_t side;
    uint8_t phase;
    uint8_t owed_by;
};

struct story {
    struct story_turn first[STORY_FIRST];
    struct story_turn last[STORY_LAST]; /* a ring */
    uint64_t count;
    uint64_t open;          /* number of the turn that runs, while `running` */
    uint8_t phase, owed_by; /* of that turn */
    enum side shut;         /* the side whose window is closed: everything waits for it */
    bool running;
};

struct story *story_create(void)
{
    return calloc(1, sizeof(struct story));
}

void story_destroy(struct story *story)
{
    free(story);
}

/* Turn number `number`; NULL when it is not kept any more. */
static struct story_turn *story_at(struct story *story, uint64_t number)
{
    if (number < STORY_FIRST) {
        return &story->first[number];
    }
    return story->count - number <= STORY_LAST ? &story->last[(number - STORY_FIRST) % STORY_LAST] : NULL;
}

static void story_add(struct story *story, const struct story_turn *turn)
{
    story->count++;
    *story_at(story, story->count - 1) = *turn;
}

static void story_turn_ends(struct story *story, uint64_t now_us)
{
    struct story_turn *turn = story->running ? story_at(story, story->open) : NULL;
    if (turn != NULL) {
        turn->lasted_us = now_us > turn->at_us ? now_us - turn->at_us : 0;
    }
    story->running = false;
}

static uint8_t story_debtor(const struct story *story, const struct tracker_session *tracked)
{
    return (uint8_t)(story->shut != SIDE_NONE ? story->shut : tracked->session.dialogue.owed_by);
}

static void story_turn_begins(struct story *story, const struct tracker_session *tracked, uint64_t now_us)
{
    const struct dialogue *dialogue = &tracked->session.dialogue;
    story->phase = (uint8_t)dialogue->phase;
    story->owed_by = story_debtor(story, tracked);
    story->open = story->count;
    story->running = true;
    story_add(story, &(struct story_turn){.at_us = now_us,
                                          .step = TRACKER_STEP_OCTETS,
                                          .phase = story->phase,
                                          .owed_by = story->owed_by});
}

void story_on_step(struct story *story, const struct tracker_session *tracked, enum tracker_step step,
                   enum side side, uint64_t now_us)
{
    const struct dialogue *dialogue = &tracked->session.dialogue;
    switch (step) {
    case TRACKER_STEP_OPENED:
        story_turn_begins(story, tracked, now_us);
        return;
    case TRACKER_STEP_CONNECTED:
    case TRACKER_STEP_OCTETS:
        if (!story->running || story->phase != (uint8_t)dialogue->phase ||
            story->owed_by != story_debtor(story, tracked)) {
            story_turn_ends(story, now_us);
            story_turn_begins(story, tracked, now_us);
        }
        return;
    case TRACKER_STEP_ENDED:
        story_turn_ends(story, now_us);
        return;
    case TRACKER_STEP_WINDOW_CLOSED:
    case TRACKER_STEP_WINDOW_OPENED:
        story_turn_ends(story, now_us);
        story->shut = step == TRACKER_STEP_WINDOW_CLOSED ? side : SIDE_NONE;
        story_turn_begins(story, tracked, now_us);
        break;
    case TRACKER_STEP_FIN:
    case TRACKER_STEP_RESET:
    case TRACKER_STEP_REPEATED:
    case TRACKER_STEP_FREED:
    case TRACKER_STEP_GAP:
    case TRACKER_STEP_MISSING:
    case TRACKER_STEP_ICMP:
        break;
    }
    struct story_turn turn = {.at_us = now_us, .step = (uint8_t)step, .side = (uint8_t)side};
    story_add(story, &turn);
}

/* "350 us", "12.3 ms", "61.2 s". */
static const char *duration_text(uint64_t us, char text[32])
{
    if (us < 1000) {
        snprintf(text, 32, "%" PRIu64 " us", us);
    } else if (us < 1000000) {
        snprintf(text, 32, "%" PRIu64 ".%" PRIu64 " ms", us / 1000, us / 100 % 10);
    } else {
        snprintf(text, 32, "%" PRIu64 ".%" PRIu64 " s", us / 1000000, us / 100000 % 10);
    }
    return text;
}

static const char *step_text(enum tracker_step step)
{
    switch (step) {
    case TRACKER_STEP_FIN:
        return "the %s closes its direction";
    case TRACKER_STEP_RESET:
        return "a reset in the name of the %s";
    case TRACKER_STEP_WINDOW_CLOSED:
        return "the %s's window is closed: it does not read";
    case TRACKER_STEP_WINDOW_OPENED:
        return "the %s's window is open again";
    case TRACKER_STEP_REPEATED:
        return "the %s has to repeat what had passed here";
    case TRACKER_STEP_FREED:
        return "what the %s repeated is acknowledged";
    case TRACKER_STEP_GAP:
        return "octets of the %s were acknowledged that this capture does not have";
    case TRACKER_STEP_MISSING:
        return "the %s has sent octets that never came by here";
    case TRACKER_STEP_ICMP:
        return "an ICMP error about what the %s sent";
    case TRACKER_STEP_OPENED:
    case TRACKER_STEP_CONNECTED:
    case TRACKER_STEP_OCTETS:
    case TRACKER_STEP_ENDED:
        break;
    }
    return "";
}

static void print_turn(const struct story_turn *turn, uint64_t start_us, FILE *to)
{
    char lasted[32], words[96];
    uint64_t at_us = turn->at_us > start_us ? turn->at_us - start_us : 0;
    fprintf(to, "  %6" PRIu64 ".%03" PRIu64 "  ", at_us / 1000000, at_us / 1000 % 1000);
    if (turn->step != TRACKER_STEP_OCTETS) {
        snprintf(words, sizeof words, "-- ");
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(words + 3, sizeof words - 3, step_text((enum tracker_step)turn->step),
                 side_name((enum side)turn->side));
#pragma GCC diagnostic pop
        fprintf(to, "%s\n", words);
        return;
    }
    duration_text(turn->lasted_us, lasted);
    if (turn->owed_by == SIDE_NONE) {
        fprintf(to, "%-12s nobody owes for %s\n", phase_name((enum phase)turn->phase), lasted);
    } else {
        fprintf(to, "%-12s the %s owes for %s\n", phase_name((enum phase)turn->phase),
                side_name((enum side)turn->owed_by), lasted);
    }
}

static void print_turns(const struct story *story, uint64_t start_us, FILE *to)
{
    uint64_t first = story->count < STORY_FIRST ? story->count : STORY_FIRST;
    for (uint64_t i = 0; i < first; i++) {
        print_turn(&story->first[i], start_us, to);
    }
    uint64_t more = story->count - first;
    uint64_t last = more < STORY_LAST ? more : STORY_LAST;
    if (more > last) {
        fprintf(to, "          ... %" PRIu64 " more turns ...\n", more - last);
    }
    for (uint64_t i = more - last; i < more; i++) {
        print_turn(&story->last[i % STORY_LAST], start_us, to);
    }
}

/* The words about a leg, with what stands between them. */
struct leg_line {
    FILE *to;
    const char *before;
};

static void PRINTF_LIKE(2, 3) leg_say(struct leg_line *line, const char *format, ...)
{
    va_list arguments;
    fputs(line->before, line->to);
    line->before = "; ";
    va_start(arguments, format);
    vfprintf(line->to, format, arguments);
    va_end(arguments);
}

/* What was lost, repeated and left over on a leg. `sent`: what went towards its side. */
static void print_losses(struct leg_line *line, const struct flow_side *own, const struct flow_side *sent,
                         const struct leg_evidence *leg)
{
    bool only_fin = leg->unacked_octets == 1 && (sent->flags & FLOW_SIDE_FIN) != 0;
    if (sent->repeated_after != 0) {
        leg_say(line, "repeated towards it: %u", sent->repeated_after);
    }
    if (own->repeated_before != 0) {
        leg_say(line, "lost between it and us, and repeated: %u", own->repeated_before);
    }
    if (own->duplicate_acks != 0) {
        leg_say(line, "duplicate acknowledgements from it: %u", own->duplicate_acks);
    }
    if (leg->unacked_octets != 0 && !only_fin) {
        leg_say(line, "sent to it and not acknowledged: %" PRIu32 " octet%s", leg->unacked_octets,
                leg->unacked_octets == 1 ? "" : "s");
    }
    if (leg->revealed_octets != 0) {
        leg_say(line, "it sent %" PRIu32 " octet%s that never came by here", leg->revealed_octets,
                leg->revealed_octets == 1 ? "" : "s");
    }
}

static void print_leg(const struct tracker_session *tracked, const struct record *record, enum side side,
                      FILE *to)
{
    const struct leg_evidence *leg = &record->legs[side_index(side)];
    const struct flow_side *own = &tracked->entry->flow.sides[side_index(side)];
    const struct flow_side *sent = &tracked->entry->flow.sides[side_index(side_other(side))];
    struct leg_line line = {.to = to, .before = " "};
    char text[32];
    fprintf(to, "  %s leg:", side_name(side));
    if (leg->rtt_us != 0) {
        leg_say(&line, "round trip %s", duration_text(leg->rtt_us, text));
    }
    if (own->ttl_low != 0) {
        leg_say(&line, "ttl %u", own->ttl_high);
    }
    print_losses(&line, own, sent, leg);
    if (own->reset_ttl != 0) {
        leg_say(&line, "its reset has ttl %u", own->reset_ttl);
    }
    if (leg->icmp_seen) {
        leg_say(&line, "ICMP type %u code %u", leg->icmp_type, leg->icmp_code);
    }
    static const struct {
        uint32_t flag;
        const char *text;
    } marks[] = {
        {FLOW_SIDE_RESET_STRAY, "a reset outside the window was ignored"},
        {FLOW_SIDE_RESET_BELIED, "it went on sending after its reset"},
        {FLOW_SIDE_DIFFERS, "octets were repeated with other content"},
        {FLOW_SIDE_TWINS, "packets were captured twice"},
        {FLOW_SIDE_FRAGMENTED, "packets came in IP fragments"},
        {FLOW_SIDE_REORDERED, "packets came out of order"},
        {FLOW_SIDE_GAP, "the capture lacks some of its octets"},
    };
    for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++) {
        if (own->flags & marks[i].flag) {
            leg_say(&line, "%s", marks[i].text);
        }
    }
    if (!(own->flags & FLOW_SIDE_SEEN)) {
        leg_say(&line, "no packet of it was captured");
    }
    fprintf(to, "\n");
}

/* Otherwise nothing in the story says why it stops there. */
static void print_capture_end(const struct tracker_session *tracked, const struct record *record, FILE *to)
{
    if (tracked->session.end == SESSION_END_CAPTURE) {
        fprintf(to, "  %6" PRIu64 ".%03" PRIu64 "  -- the capture ends\n", record->duration_us / 1000000,
                record->duration_us / 1000 % 1000);
    }
}

static void print_head(const struct record *record, FILE *to)
{
    char client[ADDRESS_TEXT_SIZE], server[ADDRESS_TEXT_SIZE], start[32] = "", lasted[32];
    time_t seconds = (time_t)(record->start_unix_ms / 1000);
    struct tm parts;
    if (gmtime_r(&seconds, &parts) != NULL) {
        strftime(start, sizeof start, "%Y-%m-%d %H:%M:%S", &parts);
    }
    fprintf(to, "session %s: %s -> %s\n", record->session_id, address_format(&record->client, client),
            address_format(&record->server, server));
    fprintf(to,
            "  %s.%03d UTC, %s, %" PRIu32 " of %" PRIu32 " mails accepted, %" PRIu64
            " octets from the client, %" PRIu64 " from the server\n",
            start, (int)((record->start_unix_ms % 1000 + 1000) % 1000),
            duration_text(record->duration_us, lasted), record->mails_ok, record->mails_total,
            record->octets_client, record->octets_server);
}

static void print_set(const char *before, uint64_t set, unsigned count, const char *(*name)(unsigned),
                      FILE *to)
{
    for (unsigned bit = 0; bit < count; bit++) {
        if (set >> bit & 1u) {
            fprintf(to, "%s%s", before, name(bit));
            before = ", ";
        }
    }
}

static const char *fault_of_bit(unsigned bit)
{
    return fault_name((enum fault)bit);
}

static void print_reply(const struct record *record, FILE *to)
{
    if (record->reply == NULL) {
        return;
    }
    fprintf(to, "  the reply: \"");
    for (const char *at = record->reply; *at != '\0'; at++) {
        unsigned char octet = (unsigned char)*at;
        if (octet >= 0x20 && octet <= 0x7e) {
            fputc(octet, to);
        } else {
            fprintf(to, "\\x%02x", octet);
        }
    }
    fprintf(to, "\"\n");
}

void story_print(const struct story *story, const struct tracker_session *tracked,
                 const struct record *record, FILE *to)
{
    const struct verdict *verdict = &record->verdict;
    print_head(record, to);
    if (story != NULL) {
        fprintf(to, "     seconds  phase        who owes the next word, and for how long\n");
        print_turns(story, tracked->session.connection->opened_us, to);
        print_capture_end(tracked, record, to);
    }
    print_leg(tracked, record, SIDE_CLIENT, to);
    print_leg(tracked, record, SIDE_SERVER, to);
    print_reply(record, to);
    fprintf(to, "  verdict: fault %s, cause %s, %s", fault_name(verdict->fault), cause_name(verdict->cause),
            confidence_name(verdict->confidence));
    print_set("; not excluded: ", verdict->also, FAULT_COUNT, fault_of_bit, to);
    print_set("; notes: ", verdict->notes, NOTE_COUNT, note_name, to);
    fprintf(to, "\n  %s\n\n", verdict->explain);
}
