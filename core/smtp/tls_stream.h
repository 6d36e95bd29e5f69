/* tls_stream - follows TLS from its record headers alone (RFC 5246 section 6.2, RFC 8446 section 5).
 * Nothing is decrypted. Types, lengths, directions and order give: handshake done or not and who owes its
 * next flight; alerts in clear; application data; and, inferred from sizes, the SMTP phase inside. Session
 * tickets after the client's Finished are no replies, and the one who spoke last is not who owes.
 * Bounds:  a few counters; no record is kept. Threads: none. Time: none. */
#ifndef SMTPWITNESS_CORE_SMTP_TLS_STREAM_H
#define SMTPWITNESS_CORE_SMTP_TLS_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/phase.h"
#include "core/base/side.h"

/* MAIL or RCPT with an ordinary address; the headers of the least message take more. */
#define TLS_COMMAND_RECORD_OCTETS 157

struct tls_direction {
    uint8_t header[5];
    uint8_t header_length; /* octets of the header so far */
    uint8_t type;          /* of the current record */
    uint8_t probe;         /* private: what the clear handshake message has shown so far */
    uint16_t left;         /* octets of the current record still to come */
    uint16_t length;       /* of the current record */
    uint16_t last_length;  /* of the last application record */
    uint16_t equal_run;    /* application records of equal size in a row */
    uint32_t records;      /* application records */
    bool ccs;              /* change_cipher_spec seen: what follows is encrypted (TLS 1.2) */
    bool lost;             /* octets passed unseen: the next span must begin with a record */
    uint8_t burst;         /* application records of this side since the other side's last one */
};

struct tls_stream {
    struct tls_direction directions[SIDE_PAIR];
    enum phase phase;          /* PHASE_TLS, then the inferred one, or PHASE_OPAQUE */
    enum side owed_by;         /* SIDE_NONE when nothing can be said */
    uint8_t version;           /* 2 = TLS 1.2 or older, 3 = TLS 1.3, 0 = not known yet */
    uint8_t alert_level;       /* in clear: 1 warning, 2 fatal; 0 = none */
    uint8_t alert_description; /* RFC 8446 section 6 */
    enum side alert_from;
    bool client_hello, server_hello, established;
    bool not_tls;                 /* what came is no TLS record */
    bool close_notify[SIDE_PAIR]; /* an encrypted alert, the last record of that side, by its size */
    bool body_inferred;           /* a body seems to run: phase inferred from sizes */
    bool greeting_due;            /* implicit TLS: the server speaks first inside */
    bool message_seen;            /* a client record behind the envelope was longer than any command of one */
    uint8_t first_bye;            /* enum side: whose encrypted alert came first */
    uint16_t tickets;             /* taken for session tickets */
    uint16_t client_last_length;  /* size of the last client record of application data, alerts apart */
    uint16_t server_last_reply_length; /* size of the last server record taken for a reply */
    uint32_t commands;                 /* client records taken for commands, body excluded */
    uint32_t replies;
    uint64_t bulk_octets;
};

/* `implicit`: TLS from the first octet, the server speaks first inside; after STARTTLS the client does. */
void tls_stream_init(struct tls_stream *tls, bool implicit);
void tls_stream_consume(struct tls_stream *tls, enum side side, const uint8_t *octets, size_t length);
/* Octets passed unseen: inside a record they are counted, beyond it record borders are lost (owed_by
 * SIDE_NONE). */
void tls_stream_skip(struct tls_stream *tls, enum side side, uint64_t length);

#endif
