/* Will the mail under way be through before the limit of the whole session? Asked while its body comes, from the size
 * that MAIL announced (RFC 1870) and the rate so far; said once per session. */
#include <stdio.h>
#include <string.h>

#include "core/session/session_internal.h"

/* A rate is believed after a twentieth of the limit: at least a second, and no more than ten. */
#define FORECAST_PART     20u
#define FORECAST_LEAST_US UINT64_C(1000000)
#define FORECAST_MOST_US  UINT64_C(10000000)
/* What is late by less than a tenth may still make it. */
#define FORECAST_DOUBT 10u

static uint64_t believed_after_us(uint64_t limit_us)
{
    uint64_t part_us = limit_us / FORECAST_PART;
    return part_us < FORECAST_LEAST_US  ? FORECAST_LEAST_US
           : part_us > FORECAST_MOST_US ? FORECAST_MOST_US
                                        : part_us;
}

static uint32_t age_ms(const struct session *session, uint64_t now_us)
{
    uint64_t ms =
        now_us > session->connection->opened_us ? (now_us - session->connection->opened_us) / 1000 : 0;
    return ms < UINT32_MAX - 1 ? (uint32_t)ms : UINT32_MAX - 1;
}

/* False when nothing can be said. */
static bool forecast_make(const struct session *session, const struct neighbours_pace *pace, uint64_t now_us,
                          struct record_forecast *forecast)
{
    const struct dialogue *dialogue = &session->dialogue;
    uint64_t limit_us = session_timeouts(session)->session_us;
    uint64_t age_us = age_ms(session, now_us) * UINT64_C(1000);
    memset(forecast, 0, sizeof *forecast);
    if (pace == NULL || pace->since_ms == 0) {
        return false;
    }
    uint64_t since_us = (pace->since_ms - 1) * UINT64_C(1000);
    uint64_t took_us = age_us > since_us ? age_us - since_us : 0;
    if (took_us < believed_after_us(limit_us) || age_us >= limit_us || dialogue->body_octets == 0 ||
        dialogue->body_octets >= dialogue->announced_size) {
        return false;
    }
    double left = (double)(dialogue->announced_size - dialogue->body_octets);
    double needs_us = left * (double)took_us / (double)dialogue->body_octets;
    forecast->left_octets = dialogue->announced_size - dialogue->body_octets;
    forecast->rate_octets = (uint64_t)((double)dialogue->body_octets * 1e6 / (double)took_us);
    forecast->needs_us = needs_us < 1e18 ? (uint64_t)needs_us : UINT64_C(1000000000000000000);
    forecast->remains_us = limit_us - age_us;
    return true;
}

void session_forecast_look(struct session *session, uint64_t now_us)
{
    const struct dialogue *dialogue = &session->dialogue;
    bool body = dialogue->phase == PHASE_BODY || dialogue->phase == PHASE_BDAT;
    if (session_timeouts(session)->session_us == 0 || (body && dialogue->announced_size == 0)) {
        return;
    }
    struct neighbours_pace *pace = neighbours_pace(session_neighbours(session), session->connection->seat);
    struct record_forecast forecast;
    if (pace == NULL || pace->said) {
        return;
    }
    if (!body) {
        pace->since_ms = 0;
        return;
    }
    pace->since_ms = pace->since_ms == 0 ? age_ms(session, now_us) + 1 : pace->since_ms;
    if (forecast_make(session, pace, now_us, &forecast) &&
        forecast.needs_us > forecast.remains_us + forecast.remains_us / FORECAST_DOUBT) {
        pace->said = true;
        session->wants |= SESSION_WANT_FORECAST_LINE;
    }
}

static void duration_write(char text[32], uint64_t us)
{
    uint64_t seconds = us / 1000000;
    if (seconds < 120) {
        snprintf(text, 32, "%llu s", (unsigned long long)seconds);
    } else {
        snprintf(text, 32, "%llu min %llu s", (unsigned long long)(seconds / 60),
                 (unsigned long long)(seconds % 60));
    }
}

void session_forecast_record(const struct session *session, struct record *record, uint64_t now_us)
{
    const struct neighbours_pace *pace =
        neighbours_pace(session_neighbours(session), session->connection->seat);
    uint8_t profile = session_timeouts(session)->session_profile;
    struct verdict *verdict = &record->verdict;
    char needs[32], remains[32], limit[32];
    session_record_fill(session, record, now_us);
    record->kind = RECORD_FORECAST;
    (void)forecast_make(session, pace, now_us, &record->forecast);
    if (profile != 0 && profile <= session->policy->profile_count) {
        record->forecast.profile = session->policy->profiles[profile - 1].name;
    }
    verdict->phase = session->dialogue.phase;
    verdict->limit_us = session_timeouts(session)->session_us;
    verdict->limit_by = record->forecast.profile != NULL ? LIMIT_BY_SERVER : LIMIT_BY_WITNESS;
    duration_write(needs, record->forecast.needs_us);
    duration_write(remains, record->forecast.remains_us);
    duration_write(limit, verdict->limit_us);
    snprintf(verdict->explain, sizeof verdict->explain,
             "%llu of %llu octets are still to come, which takes %s at %llu a second; %s%s limit of %s for "
             "the whole "
             "session leaves %s",
             (unsigned long long)record->forecast.left_octets, (unsigned long long)record->announced_size,
             needs, (unsigned long long)record->forecast.rate_octets,
             record->forecast.profile != NULL ? record->forecast.profile : "our",
             record->forecast.profile != NULL ? "'s" : "", limit, remains);
}
