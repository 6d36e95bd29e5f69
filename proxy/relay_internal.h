/* relay_internal - between the parts of relay: relay.c has the states and turns, relay_octets.c moves octets,
 * relay_evidence.c samples and probes, relay_admission.c holds and refuses. */
#ifndef SMTPWITNESS_PROXY_RELAY_INTERNAL_H
#define SMTPWITNESS_PROXY_RELAY_INTERNAL_H

#include "proxy/relay.h"

static inline struct leg *relay_leg(struct relay *relay, enum side side)
{
    return &relay->legs[side_index(side)];
}

static inline const struct settings_proxy *relay_settings(const struct relay *relay)
{
    return &relay->settings->settings->proxy;
}

/* relay.c */
void relay_host_renew_pipe(struct relay_host *host); /* an empty one; without one everything is read */
void relay_dial(struct relay *relay, uint64_t now_us);
bool relay_watch(struct relay *relay, enum side side); /* adds the leg to the event set */
void relay_schedule(struct relay *relay, uint64_t now_us);
void relay_part(struct relay *relay, uint64_t now_us);
void relay_die(struct relay *relay);
/* Logs the verdict, once; `counts` replaces the session's own when not NULL. */
void relay_conclude(struct relay *relay, const struct limiter_counts *counts, uint64_t now_us);
void relay_release_place(struct relay *relay, uint64_t now_us);

/* relay_octets.c */
void relay_write(struct relay *relay, enum side side, const uint8_t *octets, size_t length, size_t limit,
                 uint64_t now_us);
/* Writes to `side` what waits for it. */
void relay_flush(struct relay *relay, enum side side, uint64_t now_us);
/* Moves what `side` says to the other leg, in `*reads` reads at most. False when the side is gone. */
bool relay_pump(struct relay *relay, enum side side, unsigned *reads, uint64_t now_us);
/* The leg failed; the first reason counts. */
void relay_set_error(struct leg *leg, int error);

/* relay_evidence.c */
void relay_sample(struct relay *relay, enum side side, uint64_t now_us);
void relay_sample_both(struct relay *relay, uint64_t now_us);
/* What was sent to that side had to be repeated and is not acknowledged, though its window is open. */
bool relay_leg_is_stuck(struct relay *relay, enum side side, uint64_t now_us);
void relay_note_icmp(struct relay *relay, enum side side, int error, const struct icmp_error *icmp,
                     uint64_t now_us);
void relay_note_connect(struct relay *relay, enum connect_result result, const struct icmp_error *icmp,
                        uint64_t now_us);
void relay_note_end(struct relay *relay, enum side side, uint64_t now_us); /* the leg failed: by what */
void relay_suspect(struct relay *relay, enum side side, uint64_t now_us);
void relay_check_probes(struct relay *relay, uint64_t now_us);
void relay_end_probes(struct relay *relay, uint64_t now_us);

/* relay_admission.c */
void relay_admit(struct relay *relay, uint64_t now_us);
void relay_leave_queue(struct relay *relay, uint64_t now_us);
void relay_held_event(struct relay *relay, uint32_t events, uint64_t now_us);
void relay_held_timer(struct relay *relay, uint64_t now_us);
void relay_granted(struct relay *relay, uint64_t now_us);

#endif
