#include "core/policy/timeouts.h"

#define MINUTES_US(n) ((uint64_t)(n)*60u * 1000000u)

/* How long a client must be willing to wait for the server (RFC 5321 4.5.3.2.1 to 4.5.3.2.6). */
static uint64_t patience_with_server_us(enum phase phase)
{
    switch (phase) {
    case PHASE_CONNECT: /* a failed TCP connection is expressly another matter (4.5.3.2.1) */
    case PHASE_CLOSED:
    case PHASE_COUNT:
        return 0;
    case PHASE_GREETING: /* 4.5.3.2.1 initial 220 */
    case PHASE_MAIL:     /* 4.5.3.2.2 */
    case PHASE_RCPT:     /* 4.5.3.2.3 */
        return MINUTES_US(5);
    case PHASE_DATA: /* 4.5.3.2.4 DATA initiation */
        return MINUTES_US(2);
    case PHASE_BODY: /* 4.5.3.2.5 data block: a TCP send that does not complete, the server does not read */
        return MINUTES_US(3);
    case PHASE_END_OF_DATA: /* 4.5.3.2.6 DATA termination */
        return MINUTES_US(10);
    case PHASE_HELO: /* no number of their own: as any other command */
    case PHASE_STARTTLS:
    case PHASE_TLS:
    case PHASE_AUTH:
    case PHASE_BDAT:
    case PHASE_RSET:
    case PHASE_QUIT:
    case PHASE_COMMAND:
    case PHASE_IDLE:
    case PHASE_OPAQUE:
        return MINUTES_US(5);
    }
    return 0;
}

uint64_t rfc5321_patience_us(enum phase phase, enum side owed_by)
{
    switch (owed_by) {
    case SIDE_NONE:
        return 0;
    case SIDE_CLIENT: /* 4.5.3.2.7: the server, for whatever the client owes */
        return phase == PHASE_CONNECT || phase == PHASE_CLOSED || phase == PHASE_COUNT ? 0 : MINUTES_US(5);
    case SIDE_SERVER:
        return patience_with_server_us(phase);
    }
    return 0;
}

static const struct policy_override *override_for(const struct policy_override *overrides, size_t count,
                                                  const struct address *address)
{
    for (size_t i = 0; i < count; i++) {
        for (size_t n = 0; n < overrides[i].network_count; n++) {
            if (network_contains(&overrides[i].networks[n], address)) {
                return &overrides[i];
            }
        }
    }
    return NULL;
}

/* 0 = the defaults, then the sources, then the servers. */
uint16_t policy_choose_timeouts(const struct policy_settings *settings, const struct address *client,
                                const struct address *server)
{
    const struct policy_override *found = override_for(settings->sources, settings->source_count, client);
    if (found != NULL) {
        return (uint16_t)(1 + (found - settings->sources));
    }
    found = override_for(settings->servers, settings->server_count, server);
    return found != NULL ? (uint16_t)(1 + settings->source_count + (size_t)(found - settings->servers)) : 0;
}

const struct policy_timeouts *policy_timeouts(const struct policy_settings *settings, uint16_t number)
{
    if (number == 0) {
        return &settings->timeouts;
    }
    return number <= settings->source_count
               ? &settings->sources[number - 1].timeouts
               : &settings->servers[number - 1 - settings->source_count].timeouts;
}

const struct policy_limits *policy_limits_for(const struct policy_settings *settings,
                                              const struct address *client, const struct address *server,
                                              const struct policy_override **source)
{
    const struct policy_override *found = override_for(settings->sources, settings->source_count, client);
    if (source != NULL) {
        *source = found;
    }
    if (found == NULL) {
        found = override_for(settings->servers, settings->server_count, server);
    }
    return found != NULL ? &found->limits : &settings->limits;
}

bool policy_limits_enforce(const struct policy_limits *limits)
{
    return (limits->per_source_count != 0 && limits->per_source_action == POLICY_ENFORCE) ||
           (limits->total_count != 0 && limits->total_action == POLICY_ENFORCE) ||
           (limits->percent_of_remaining != 0 && limits->percent_action == POLICY_ENFORCE) ||
           (limits->rate_count != 0 && limits->rate_action == POLICY_ENFORCE);
}

static bool timeouts_enforce(const struct policy_timeouts *timeouts)
{
    return timeouts->action == POLICY_ENFORCE ||
           (timeouts->session_us != 0 && timeouts->session_action == POLICY_ENFORCE);
}

static bool overrides_enforce(const struct policy_override *overrides, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (policy_limits_enforce(&overrides[i].limits) || timeouts_enforce(&overrides[i].timeouts)) {
            return true;
        }
    }
    return false;
}

bool policy_enforces(const struct policy_settings *settings)
{
    return policy_limits_enforce(&settings->limits) || timeouts_enforce(&settings->timeouts) ||
           overrides_enforce(settings->sources, settings->source_count) ||
           overrides_enforce(settings->servers, settings->server_count);
}

uint64_t policy_silence_us(const struct policy_timeouts *timeouts, enum phase phase)
{
    return phase == PHASE_IDLE ? timeouts->idle_us : timeouts->phase_us[phase];
}
