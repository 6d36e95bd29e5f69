#include "core/fault/attribution_internal.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

static bool set_admits(uint32_t set, unsigned member)
{
    return set == 0 || (set >> member & 1u) != 0;
}

static bool rule_fits(const struct rule *rule, const struct facts *facts)
{
    return set_admits(rule->ends, facts->end) && set_admits(rule->phases, facts->phase) &&
           set_admits(rule->classes, facts->reply_class) && set_admits(rule->connects, facts->connect) &&
           set_admits(rule->bottlenecks, facts->bottleneck) && set_admits(rule->boxes, facts->box) &&
           (facts->bits & rule->all) == rule->all && (rule->any == 0 || (facts->bits & rule->any) != 0) &&
           (facts->bits & rule->none) == 0 && (facts->near & rule->near) == rule->near &&
           (facts->near & rule->near_none) == 0;
}

static const struct rule *rule_find(const struct facts *facts)
{
    const struct rule *rule = attribution_rules;
    while (!rule_fits(rule, facts)) { /* the last rule fits everything */
        rule++;
    }
    return rule;
}

static enum fault blame_resolve(enum blame blame, enum side suspect)
{
    switch (blame) {
    case BLAME_NONE:
        return FAULT_NONE;
    case BLAME_CLIENT:
        return FAULT_CLIENT;
    case BLAME_SERVER:
        return FAULT_SERVER;
    case BLAME_SUSPECT:
        return suspect == SIDE_CLIENT ? FAULT_CLIENT : suspect == SIDE_SERVER ? FAULT_SERVER : FAULT_UNKNOWN;
    case BLAME_CLIENT_NETWORK:
        return FAULT_CLIENT_NETWORK;
    case BLAME_SERVER_NETWORK:
        return FAULT_SERVER_NETWORK;
    case BLAME_SUSPECT_NETWORK:
        return suspect == SIDE_CLIENT   ? FAULT_CLIENT_NETWORK
               : suspect == SIDE_SERVER ? FAULT_SERVER_NETWORK
                                        : FAULT_UNKNOWN;
    case BLAME_MIDDLEBOX:
        return FAULT_MIDDLEBOX;
    case BLAME_POLICY:
        return FAULT_POLICY;
    case BLAME_WITNESS:
        return FAULT_WITNESS;
    case BLAME_UNKNOWN:
        return FAULT_UNKNOWN;
    }
    return FAULT_UNKNOWN;
}

static uint32_t also_resolve(uint32_t also, const struct facts *facts)
{
    uint32_t faults = 0;
    for (unsigned blame = BLAME_CLIENT; blame <= BLAME_UNKNOWN; blame++) {
        if (also >> blame & 1u) {
            faults |= 1u << blame_resolve((enum blame)blame, facts->suspect);
        }
    }
    return faults;
}

static enum where where_is_box(const struct rule *rule, const struct facts *facts)
{
    bool by_end = rule->boxes == 0; /* else it shows on the suspect's leg, whoever ended it */
    if (rule->cause == CAUSE_VERBS_REWRITTEN || (by_end && facts->end == SESSION_END_CLIENT_RESET)) {
        return WHERE_CLIENT_LEG;
    }
    if (by_end && (facts->end == SESSION_END_SERVER_RESET || facts->end == SESSION_END_CONNECT_FAILED ||
                   rule->cause == CAUSE_CAPABILITIES_MASKED)) {
        return WHERE_SERVER_LEG;
    }
    return facts->suspect == SIDE_CLIENT   ? WHERE_CLIENT_LEG
           : facts->suspect == SIDE_SERVER ? WHERE_SERVER_LEG
                                           : WHERE_UNKNOWN;
}

static enum where where_of(const struct rule *rule, const struct facts *facts, enum fault fault)
{
    switch (fault) {
    case FAULT_CLIENT:
    case FAULT_CLIENT_NETWORK:
        return WHERE_CLIENT_LEG;
    case FAULT_SERVER:
    case FAULT_SERVER_NETWORK:
        return WHERE_SERVER_LEG;
    case FAULT_WITNESS:
        return WHERE_HERE;
    case FAULT_POLICY:
        return rule->limit_by == LIMIT_BY_WITNESS ? WHERE_HERE : WHERE_SERVER_LEG;
    case FAULT_MIDDLEBOX:
        return where_is_box(rule, facts);
    case FAULT_NONE:
    case FAULT_UNKNOWN:
    case FAULT_COUNT:
        return WHERE_UNKNOWN;
    }
    return WHERE_UNKNOWN;
}

static enum ended_by ended_by_of(const struct facts *facts)
{
    switch (facts->end) {
    case SESSION_END_NONE:
        return ENDED_BY_NONE;
    case SESSION_END_REPLY:
        return ENDED_BY_SERVER;
    case SESSION_END_CLIENT_FIN:
        return ENDED_BY_CLIENT;
    case SESSION_END_SERVER_FIN:
        return ENDED_BY_SERVER;
    case SESSION_END_CLIENT_RESET:
        return (facts->bits & FACT_RESET_FOREIGN) ? ENDED_BY_MIDDLEBOX : ENDED_BY_CLIENT;
    case SESSION_END_SERVER_RESET:
        return (facts->bits & FACT_RESET_FOREIGN) ? ENDED_BY_MIDDLEBOX : ENDED_BY_SERVER;
    case SESSION_END_CLIENT_LOST:
        return ENDED_BY_CLIENT_NETWORK;
    case SESSION_END_SERVER_LOST:
        return ENDED_BY_SERVER_NETWORK;
    case SESSION_END_CONNECT_FAILED:
        switch (facts->connect) {
        case CONNECT_REFUSED:
            return (facts->bits & FACT_RESET_FOREIGN) ? ENDED_BY_MIDDLEBOX : ENDED_BY_SERVER;
        case CONNECT_TIMED_OUT:
        case CONNECT_PENDING:
            return ENDED_BY_TIMEOUT;
        case CONNECT_UNREACHABLE:
            return ENDED_BY_SERVER_NETWORK;
        case CONNECT_PROHIBITED:
        case CONNECT_REJECTED:
            return ENDED_BY_MIDDLEBOX;
        case CONNECT_LOCAL_ERROR:
            return ENDED_BY_WITNESS;
        case CONNECT_ESTABLISHED:
        case CONNECT_COUNT:
            break;
        }
        return ENDED_BY_UNKNOWN;
    case SESSION_END_WITNESS:
    case SESSION_END_REFUSED:
    case SESSION_END_DRAIN:
    case SESSION_END_OVERLOAD:
        return ENDED_BY_WITNESS;
    case SESSION_END_CAPTURE:
        return ENDED_BY_CAPTURE_END;
    case SESSION_END_COUNT:
        break;
    }
    return ENDED_BY_UNKNOWN;
}

/* Inside TLS the turn is inferred from sizes: no application is accused with certainty. A closed window is no
 * inference. */
static void cap_inferred(const struct facts *facts, struct verdict *verdict)
{
    bool application = (verdict->fault == FAULT_CLIENT || verdict->fault == FAULT_SERVER) &&
                       verdict->cause != CAUSE_NOT_READING && verdict->cause != CAUSE_TLS_ALERT;
    if ((facts->bits & FACT_TLS_INFERRED) && verdict->cause == CAUSE_IDLE_REAPED) {
        verdict->notes |= NOTE_INFERRED;
        verdict->confidence = CONFIDENCE_POSSIBLE; /* the next mail may have been begun */
    }
    if ((facts->bits & FACT_TLS_INFERRED) && verdict->cause == CAUSE_END_OF_DATA_STALL &&
        !(facts->bits &
          FACT_TLS_QUIT_SIZED)) { /* no record as short as the final dot: the end may be missing */
        verdict->also |= 1u << FAULT_CLIENT;
        verdict->confidence = CONFIDENCE_POSSIBLE;
    }
    if ((facts->bits & FACT_TLS_INFERRED) && application) {
        verdict->notes |= NOTE_INFERRED;
        if (verdict->confidence == CONFIDENCE_CERTAIN) {
            verdict->confidence = CONFIDENCE_LIKELY;
        }
    }
}

/* What we did not see may have been the beginning of a mail: only words seen tell that none was open. */
static void cap_unseen(const struct facts *facts, struct verdict *verdict)
{
    if ((facts->bits & (FACT_OBSERVER_GAP | FACT_MIDSTREAM | FACT_ONE_WAY)) &&
        !(facts->bits & FACT_ORDERLY) && verdict->fault == FAULT_NONE &&
        verdict->confidence == CONFIDENCE_CERTAIN) {
        verdict->confidence = CONFIDENCE_LIKELY;
    }
}

static enum confidence confidence_of(const struct rule *rule, const struct facts *facts,
                                     struct verdict *verdict)
{
    switch (rule->sureness) {
    case SURE_POSSIBLE:
        return CONFIDENCE_POSSIBLE;
    case SURE_LIKELY:
        return CONFIDENCE_LIKELY;
    case SURE_CERTAIN:
        /* That a side left too early is certain; the silence it did not bear may be the network's as well. */
        if ((rule->cause == CAUSE_EARLY_CLOSE || rule->cause == CAUSE_GAVE_UP_EARLY) &&
            !((facts->bits & FACT_PROBE_ANSWERED) && (facts->bits & FACT_TAPPED))) {
            verdict->also |= 1u << blame_resolve(BLAME_SUSPECT_NETWORK, facts->suspect);
        }
        return CONFIDENCE_CERTAIN;
    case SURE_BY_PROBE:
        if ((facts->bits & FACT_PROBE_ANSWERED) && (facts->bits & FACT_TAPPED)) {
            return CONFIDENCE_CERTAIN;
        }
        /* Everything we sent is acknowledged, but what the suspect said may have been lost on its way to us. */
        verdict->also |= 1u << blame_resolve(BLAME_SUSPECT_NETWORK, facts->suspect);
        verdict->notes |= (facts->bits & FACT_PROBE_ANSWERED) ? 0 : NOTE_UNPROBED;
        return CONFIDENCE_LIKELY;
    }
    return CONFIDENCE_POSSIBLE;
}

/* A limit that ended a silence belongs to the side that ended it, whatever the cause of the silence. */
static void limit_fill(const struct rule *rule, const struct facts *facts, struct verdict *verdict)
{
    verdict->limit_by = rule->limit_by;
    bool silence = (facts->bits & FACT_STALLED) != 0;
    if (facts->end == SESSION_END_WITNESS || facts->end == SESSION_END_REFUSED) {
        verdict->limit_by = LIMIT_BY_WITNESS;
        verdict->limit_us = facts->limit_us;
        return;
    }
    if ((facts->bits & FACT_FLOWING) && (rule->bottlenecks | rule->boxes) != 0) {
        return; /* no silence was cut */
    }
    if (verdict->cause == CAUSE_TARPIT) {
        verdict->limit_us = facts->end == SESSION_END_NONE ? 0 : facts->waited_us;
        return;
    }
    bool below_rfc = facts->patience_us != 0 && (facts->bits & FACT_PAST_RFC) == 0;
    bool server_tired = facts->end == SESSION_END_REPLY && (facts->bits & FACT_SERVER_TIRED) != 0;
    bool server_left = facts->end == SESSION_END_SERVER_FIN || facts->end == SESSION_END_SERVER_RESET;
    bool client_left = facts->end == SESSION_END_CLIENT_FIN || facts->end == SESSION_END_CLIENT_RESET;
    if (!silence || verdict->cause == CAUSE_CLEAN || verdict->cause == CAUSE_ABORTED ||
        verdict->cause == CAUSE_RESET_INJECTED || verdict->cause == CAUSE_PROBE_ONLY) {
        return;
    }
    if (server_tired || (server_left && (facts->bits & FACT_OWED_CLIENT))) {
        verdict->limit_by = LIMIT_BY_SERVER;
        verdict->limit_us = facts->waited_us;
        if (below_rfc && verdict->cause != CAUSE_IDLE_REAPED && (facts->bits & FACT_OWED_CLIENT)) {
            verdict->notes |= NOTE_SERVER_LIMIT_BELOW_RFC;
        }
    } else if (client_left && (facts->bits & FACT_OWED_SERVER)) {
        verdict->limit_by = LIMIT_BY_CLIENT;
        verdict->limit_us = facts->waited_us;
        if (below_rfc) {
            verdict->notes |= NOTE_CLIENT_LIMIT_BELOW_RFC;
        }
    }
}

/* A 421 that does not say why, after a silence: most likely for the silence, but it may be anything the server minds. */
static void cap_guessed(const struct facts *facts, struct verdict *verdict)
{
    if ((facts->bits & FACT_TIRED_GUESSED) && verdict->fault == FAULT_CLIENT) {
        verdict->also |= 1u << FAULT_POLICY | 1u << FAULT_SERVER;
        if (verdict->confidence == CONFIDENCE_CERTAIN) {
            verdict->confidence = CONFIDENCE_LIKELY;
        }
    }
}

/* RFC 5321 4.2.3: 451, 454 and 455 say that the server was not able to, whatever its words mean by it. */
static void cap_temporary(const struct facts *facts, struct verdict *verdict)
{
    bool unable = facts->reply_code == 451 || facts->reply_code == 454 || facts->reply_code == 455;
    if (verdict->cause == CAUSE_REJECTED && unable && facts->reply_class == REPLY_CLASS_OTHER) {
        verdict->also |= 1u << FAULT_SERVER;
        verdict->confidence = CONFIDENCE_LIKELY;
    }
}

/* As long as RFC 5321 grants but for what our place on the path takes away: who left may have been a moment early. */
static void cap_borderline(const struct facts *facts, struct verdict *verdict)
{
    bool borderline = (facts->bits & FACT_PAST_RFC) != 0 && facts->waited_us < facts->patience_us;
    bool client_left = facts->end == SESSION_END_CLIENT_FIN || facts->end == SESSION_END_CLIENT_RESET;
    bool server_left = facts->end == SESSION_END_SERVER_FIN || facts->end == SESSION_END_SERVER_RESET;
    if (borderline && verdict->fault == FAULT_SERVER && client_left) {
        verdict->also |= 1u << FAULT_CLIENT;
    } else if (borderline && verdict->fault == FAULT_CLIENT && server_left) {
        verdict->also |= 1u << FAULT_SERVER;
    }
}

/* What the neighbours showed, where it counts. */
static uint64_t near_notes(const struct facts *facts, enum cause cause)
{
    static const struct {
        enum near near;
        uint64_t note;
    } map[] = {
        {NEAR_OTHERS_CONNECT, NOTE_OTHERS_GET_IN}, {NEAR_OTHERS_FAIL, NOTE_OTHERS_FAIL_TOO},
        {NEAR_PAIR_LIVES, NOTE_OLDER_ONES_LIVE},   {NEAR_FRESH_WORKS, NOTE_FRESH_ONE_WORKS},
        {NEAR_FRESH_FAILS, NOTE_FRESH_ONE_FAILS},  {NEAR_UNEXPLAINED, NOTE_UNEXPLAINED_LIMIT},
    };
    uint64_t notes = 0;
    bool counts = cause == CAUSE_CONNECT_UNANSWERED || cause == CAUSE_SOURCE_FILTERED ||
                  cause == CAUSE_STATE_EXPIRED || cause == CAUSE_LEG_UNANSWERED ||
                  cause == CAUSE_PER_SOURCE_LIMIT;
    for (size_t i = 0; counts && i < sizeof map / sizeof map[0]; i++) {
        notes |= (facts->near & map[i].near) ? map[i].note : 0;
    }
    return notes;
}

/* A limit on the whole session hits whoever is served slowly: what held the body up had its part. */
static void add_contributor(const struct facts *facts, struct verdict *verdict)
{
    static const enum fault parties[BOTTLENECK_COUNT] = {
        [BOTTLENECK_UNKNOWN] = FAULT_NONE,
        [BOTTLENECK_CLIENT] = FAULT_CLIENT,
        [BOTTLENECK_SERVER] = FAULT_SERVER,
        [BOTTLENECK_CLIENT_LOSS] = FAULT_CLIENT_NETWORK,
        [BOTTLENECK_SERVER_LOSS] = FAULT_SERVER_NETWORK,
        [BOTTLENECK_CLIENT_PATH] = FAULT_CLIENT_NETWORK,
        [BOTTLENECK_SERVER_PATH] = FAULT_SERVER_NETWORK,
        [BOTTLENECK_WITNESS] = FAULT_WITNESS,
    };
    if (verdict->cause == CAUSE_SESSION_TIME_LIMIT && (facts->bits & FACT_FLOWING) &&
        facts->bottleneck != BOTTLENECK_UNKNOWN) {
        verdict->also |= 1u << parties[facts->bottleneck];
    }
    bool client_left = facts->end == SESSION_END_CLIENT_FIN || facts->end == SESSION_END_CLIENT_RESET;
    if (client_left && (facts->bits & FACT_FLOWING) &&
        (verdict->cause == CAUSE_LOSS || verdict->cause == CAUSE_BANDWIDTH)) {
        verdict->also |= 1u << FAULT_CLIENT; /* it left; for that reason or for one of its own */
    }
}

/* What TCP itself proves about a leg needs no knowledge of the dialogue. */
static bool cause_is_of_tcp(enum cause cause)
{
    return cause == CAUSE_LEG_UNANSWERED || cause == CAUSE_PATH_MTU_BLACK_HOLE ||
           cause == CAUSE_NOT_READING || cause == CAUSE_UNREACHABLE || cause == CAUSE_OCTETS_LOST ||
           cause == CAUSE_RESET_INJECTED || cause == CAUSE_STATE_EXPIRED;
}

/* It began before we saw it, and nothing we saw was answered: what looks like the end of a body, or a command, may be text. Then only
 * a reply that decides, TCP, or what we did ourselves, tells something. */
static bool is_guesswork(const struct rule *rule, const struct facts *facts)
{
    bool ours =
        rule->fault == BLAME_NONE || rule->fault == BLAME_WITNESS || rule->limit_by == LIMIT_BY_WITNESS;
    return facts->blind && !ours && !cause_is_of_tcp(rule->cause) && (rule->all & FACT_REPLY_DECIDES) == 0;
}

static const struct rule blind_rule = {.name = "blind", .cause = CAUSE_CAPTURE_GAP, .fault = BLAME_UNKNOWN};

void attribution_judge(const struct facts *facts, struct verdict *verdict)
{
    const struct rule *rule = rule_find(facts);
    rule = is_guesswork(rule, facts) ? &blind_rule : rule;
    verdict->cause = rule->cause;
    verdict->fault = blame_resolve(rule->fault, facts->suspect);
    verdict->also = also_resolve(rule->also, facts);
    verdict->confidence = confidence_of(rule, facts, verdict);
    verdict->also &= ~(1u << verdict->fault);
    if (verdict->fault == FAULT_UNKNOWN) { /* honest, and never sure of it */
        verdict->cause = rule->cause == CAUSE_CAPTURE_GAP ? CAUSE_CAPTURE_GAP : CAUSE_UNDETERMINED;
        verdict->confidence = CONFIDENCE_POSSIBLE;
    }
    add_contributor(facts, verdict);
    cap_inferred(facts, verdict);
    cap_guessed(facts, verdict);
    cap_borderline(facts, verdict);
    cap_temporary(facts, verdict);
    cap_unseen(facts, verdict);
    verdict->where = where_of(rule, facts, verdict->fault);
    verdict->phase = facts->phase;
    verdict->owed_by = facts->suspect;
    verdict->ended_by = ended_by_of(facts);
    verdict->waited_us = (facts->bits & FACT_STALLED) ? facts->waited_us : 0;
    verdict->notes |= near_notes(facts, verdict->cause);
    limit_fill(rule, facts, verdict);
    explain_verdict(facts, verdict);
}

const char *attribution_rule_name(const struct facts *facts)
{
    return rule_find(facts)->name;
}
