/* The receipt of a refusal: what its source had open at that instant, and what known kinds of servers allow. */
#include <stdio.h>
#include <string.h>

#include "core/session/session_internal.h"

static bool cause_is_refusal(enum cause cause)
{
    return cause == CAUSE_PER_SOURCE_LIMIT || cause == CAUSE_PER_SOURCE_RATE || cause == CAUSE_OVERLOAD ||
           cause == CAUSE_SOURCE_FILTERED || cause == CAUSE_SILENT_CLOSE || cause == CAUSE_PORT_CLOSED ||
           cause == CAUSE_CONNECT_REJECTED || cause == CAUSE_ADMIN_PROHIBITED;
}

/* Adds a word behind a comma; a word that does not fit whole is left out. */
static void list_add(char *list, size_t room, const char *word)
{
    size_t used = strlen(list), more = strlen(word) + (used > 0 ? 1 : 0);
    if (used + more < room) {
        snprintf(list + used, room - used, "%s%s", used > 0 ? "," : "", word);
    }
}

static void phases_fill(char *text, size_t room, const struct neighbours_receipt *receipt)
{
    uint32_t below = UINT32_MAX;
    for (unsigned said = 0; said < PHASE_COUNT;) { /* the most frequent first */
        uint32_t most = 0;
        for (unsigned phase = 0; phase < PHASE_COUNT; phase++) {
            uint32_t count = receipt->phases[phase];
            most = count < below && count > most ? count : most;
        }
        if (most == 0) {
            return;
        }
        for (unsigned phase = 0; phase < PHASE_COUNT; phase++) {
            char word[40];
            if (receipt->phases[phase] == most) {
                snprintf(word, sizeof word, "%s:%u", phase_name((enum phase)phase), most);
                list_add(text, room, word);
                said++;
            }
        }
        below = most;
    }
}

static void profiles_fill(struct record_receipt *receipt, const struct policy_settings *policy,
                          uint32_t concurrent)
{
    for (uint32_t i = 0; i < policy->profile_count; i++) {
        const struct policy_profile *profile = &policy->profiles[i];
        if (limiter_limits_admit(&profile->limits, concurrent > 0 ? concurrent - 1 : 0)) {
            list_add(receipt->profiles_allow, sizeof receipt->profiles_allow, profile->name);
        } else {
            list_add(receipt->profiles_refuse, sizeof receipt->profiles_refuse, profile->name);
        }
    }
}

void session_receipt_fill(const struct session *session, const struct facts *facts, struct record *record)
{
    const struct neighbours_receipt *taken =
        neighbours_receipt(session_neighbours(session), session->connection->seat);
    struct record_receipt *receipt = &record->receipt;
    if (record->verdict.cause == CAUSE_PER_SOURCE_LIMIT) {
        bool explained = (facts->near & NEAR_UNEXPLAINED) == 0;
        record->server_limit_seen = facts->limit_said != 0 ? facts->limit_said
                                    : explained            ? session->counts.greeted
                                                           : 0;
    }
    if (taken == NULL || !cause_is_refusal(record->verdict.cause)) {
        return;
    }
    receipt->valid = true;
    receipt->connecting = taken->connecting;
    receipt->established = taken->established;
    receipt->closing = taken->closing;
    receipt->oldest_us = taken->oldest_us;
    receipt->peak_hour = taken->peak_hour;
    receipt->peak_day = taken->peak_day;
    phases_fill(receipt->phases, sizeof receipt->phases, taken);
    uint32_t at_once = taken->connecting + taken->established + taken->closing;
    profiles_fill(receipt, session->policy,
                  session->counts.concurrent > at_once ? session->counts.concurrent : at_once);
}
