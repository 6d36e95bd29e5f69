/* timeouts - which silence is too long, for whom, and what RFC 5321 section 4.5.3.2 grants.
 * Pure functions over policy_settings. Threads: none. Time: microseconds. */
#ifndef SMTPWITNESS_CORE_POLICY_TIMEOUTS_H
#define SMTPWITNESS_CORE_POLICY_TIMEOUTS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/phase.h"
#include "core/base/side.h"
#include "core/policy/policy_settings.h"

/* RFC 5321 4.5.3.2: how long the other side must be willing to wait for the side that owes in this phase.
 * Where the RFC names no number of its own (EHLO, STARTTLS, AUTH, RSET, QUIT ...) it is 5 min, as for a next
 * command.
 * 0 = there is no such wait: connecting (the RFC leaves that to TCP), closed, or nobody owes. */
uint64_t rfc5321_patience_us(enum phase phase, enum side owed_by);

/* Timeouts in force for a session: the first [source] that contains the client, else the first [server] that
 * contains the server, else the defaults. Their number among those of `settings`. */
uint16_t policy_choose_timeouts(const struct policy_settings *settings, const struct address *client,
                                const struct address *server);
/* Never NULL; borrowed from `settings`. */
const struct policy_timeouts *policy_timeouts(const struct policy_settings *settings, uint16_t number);
/* The limits, chosen in the same way. `source` (may be NULL) receives the [source] that matched, or NULL. */
const struct policy_limits *policy_limits_for(const struct policy_settings *settings,
                                              const struct address *client, const struct address *server,
                                              const struct policy_override **source);

/* Is any of these limits enforced? */
bool policy_limits_enforce(const struct policy_limits *limits);

/* Any limit or timeout at all, for anybody? */
bool policy_enforces(const struct policy_settings *settings);

/* The silence allowed in `phase`; 0 = none set. PHASE_IDLE (the client's turn between mails) uses idle_us. */
uint64_t policy_silence_us(const struct policy_timeouts *timeouts, enum phase phase);

#endif
