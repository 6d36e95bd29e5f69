/* Shared by the files of this room; not for callers. */
#ifndef SMTPWITNESS_CORE_TRACKER_TRACKER_INTERNAL_H
#define SMTPWITNESS_CORE_TRACKER_TRACKER_INTERNAL_H

#include "core/tcp/fragments.h"
#include "core/tracker/tracker.h"

#define TRACKER_TICK_US 100000
#define TRACKER_TICKS   1024 /* a deadline further off is looked at again after this many */
#define TRACKER_TINY_OCTETS                                                                                  \
    2048 /* an unscaled window this small throttles any mail (faults of scaling: 64 octets) */
#define TRACKER_STALL_US   1000000
#define TRACKER_UNSEEN_US  5000000 /* what passed unseen is acknowledged or repeated sooner */
#define TRACKER_UNANSWERED 3       /* repetitions or keepalives without a word */

struct tracker_host {
    uint8_t octets[16];
    uint8_t ttl;
};

struct tracker {
    struct tracker_options options;
    struct flow_table *table;
    struct fragments *fragments; /* with the first fragment, NULL before */
    size_t budget_octets;
    uint64_t now_us;
    int64_t unix_ms; /* of now_us */
    uint64_t sessions_made;
    bool finishing;
    uint64_t tick;                 /* all ticks up to here were looked at */
    uint32_t wheel[TRACKER_TICKS]; /* links of the first entry */
    uint32_t armed_count;
    struct tracker_latest latest;
    struct tracker_host hosts[TRACKER_HOSTS];
    struct tracker_stats stats;
    struct session_caller caller;
    uint8_t ports[65536]; /* enum tracker_port */
};

/* What a sink's callbacks need. */
struct tracker_call {
    struct tracker *tracker;
    struct flow_entry *entry;
};

/* tracker.c */
bool tracker_serves(const struct tracker *tracker, const struct flow_entry *entry);

/* tracker_gate.c */
bool tracker_is_gated(const struct tracker *tracker, const struct flow_entry *entry);

/* tracker_session.c */
struct tracker_session *tracker_session_open(struct tracker *tracker, struct flow_entry *entry);
void tracker_session_drop(struct tracker *tracker, struct flow_entry *entry);
void tracker_session_finish(struct tracker *tracker, struct flow_entry *entry, uint64_t now_us);
void tracker_session_flush(struct tracker *tracker, struct tracker_session *tracked, uint64_t now_us);
/* What the session wants now. `silence_us`: the debtor's last octet before the latest event. */
void tracker_session_wants(struct tracker *tracker, struct tracker_session *tracked, uint64_t silence_us,
                           uint64_t now_us);
void tracker_session_icmp(struct tracker *tracker, struct flow_entry *entry, const struct packet *packet,
                          enum side sender, uint64_t now_us);
void tracker_step(struct tracker *tracker, struct tracker_session *tracked, enum tracker_step step,
                  enum side side, uint64_t now_us);
void tracker_session_sample(struct tracker_session *tracked, uint64_t now_us);
uint64_t tracker_session_pending_until_us(const struct tracker_session *tracked);
struct flow_sink tracker_sink(struct tracker_call *call);

/* tracker_evidence.c */
void tracker_evidence(const struct tracker_session *tracked, enum side side, uint64_t silence_us,
                      uint64_t now_us, struct leg_evidence *evidence);
void tracker_learn_host(struct tracker *tracker, const struct flow_entry *entry);
void tracker_compare_refusal(struct tracker *tracker, struct tracker_session *tracked);

#endif
