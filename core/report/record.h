/* record - everything one line says about a session: `verdict`, `stall`, `refusal` or `forecast`.
 * Plain data, built by core/session (or by a mode for its refusals), encoded by logfmt.c and json.c from one
 * list of fields (record_fields.c), so that both have the same names in the same order.
 * Owns: nothing; the two text pointers are borrowed during encoding. Threads: none. */
#ifndef SMTPWITNESS_CORE_REPORT_RECORD_H
#define SMTPWITNESS_CORE_REPORT_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/address.h"
#include "core/base/attributes.h"
#include "core/fault/evidence.h"
#include "core/fault/ledger.h"
#include "core/fault/verdict.h"
#include "core/policy/limiter.h"

enum record_kind {
    RECORD_VERDICT = 0,
    RECORD_STALL,
    RECORD_REFUSAL,
    RECORD_FORECAST,
};

enum record_mode {
    RECORD_PROXY = 0,
    RECORD_NFQ,
    RECORD_REPLAY,
};

enum record_tls {
    RECORD_TLS_NO = 0,
    RECORD_TLS_STARTTLS,
    RECORD_TLS_IMPLICIT,
};

/* What a source had open to the server when it was refused. */
struct record_receipt {
    bool valid;
    uint32_t connecting, established, closing;
    uint32_t peak_hour, peak_day;
    uint64_t oldest_us;
    char phases[160];         /* "greeting:1,body:19", the most frequent ones when there are too many */
    char profiles_allow[64];  /* known kinds of servers that would have let it in */
    char profiles_refuse[64]; /* ... and those that would not */
};

/* A mail that will not be through before a limit of the whole session. */
struct record_forecast {
    uint64_t left_octets;
    uint64_t rate_octets; /* a second */
    uint64_t needs_us;    /* for what is left, at that rate */
    uint64_t remains_us;  /* until the limit */
    const char *profile;  /* whose limit it is, when a profile set it; may be NULL */
};

struct record {
    enum record_kind kind;
    enum record_mode mode;
    char session_id[32]; /* "7f3a-12" */
    struct verdict verdict;
    struct address client, server;
    int64_t start_unix_ms; /* wall clock at the opening, UTC */
    uint64_t duration_us;
    uint32_t mails_ok, mails_total, rcpts_ok, rcpts_total, commands_ok, commands_total;
    uint64_t octets_client, octets_server; /* bytes-client: sent by the client; bytes-server: by the server */
    uint64_t announced_size;
    struct limiter_counts counts; /* concurrent, concurrent-peak, concurrent-limit */
    uint32_t server_limit_seen;   /* concurrent-limit when the server's own limit was observed; 0 = not */
    enum record_tls tls;
    enum bottleneck bottleneck; /* of the bodies, once they took long */
    bool duplicate;             /* the mail was accepted but the client cannot know */
    struct ledger ledger;
    bool ledger_valid;
    struct leg_evidence legs[SIDE_PAIR];
    const char *reply;      /* raw, may be NULL; its last line end is not printed */
    const char *limit_name; /* refusal: "per-source" ...; may be NULL */
    struct record_receipt receipt;
    struct record_forecast forecast;
};

#define RECORD_LINE_OCTETS 2048 /* the longest line; reply and explain are cut to fit, with "..." */

/* Writes one line without a newline, NUL-terminated, at most RECORD_LINE_OCTETS octets with its NUL; returns
 * its length. Peer octets are escaped: logfmt values with blanks, quotes, '=' or non-printables are quoted,
 * with \" \\ \r \n \t \xNN inside; JSON strings per RFC 8259 with \u00NN for every octet that is not printable
 * ASCII. A refusal says only who was refused or held, where, by which limit and counts. */
size_t record_to_logfmt(const struct record *record, char line[RECORD_LINE_OCTETS]);
size_t record_to_json(const struct record *record, char line[RECORD_LINE_OCTETS]);

const char *
limiter_limit_name(enum limiter_limit limit); /* "per-source", "total", "percent-of-remaining", "rate" */

#endif
