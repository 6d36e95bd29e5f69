#include "core/smtp/tls_stream.h"

#include <string.h>

/* RFC 8446 section 5.1 */
enum record_type {
    RECORD_CHANGE_CIPHER_SPEC = 20,
    RECORD_ALERT = 21,
    RECORD_HANDSHAKE = 22,
    RECORD_APPLICATION = 23,
    RECORD_HEARTBEAT = 24, /* RFC 6520 */
};

#define RECORD_MAX_OCTETS 18432 /* RFC 5246 6.2.3: 2^14 + 2048 */

/* Bits of tls_direction.probe: the current clear handshake record. */
enum probe_bit {
    PROBE_CLIENT_HELLO = 1u << 0,
    PROBE_SERVER_HELLO = 1u << 1,
    PROBE_RETRY = 1u << 2,      /* the random of a HelloRetryRequest matches so far */
    PROBE_HELLO_DONE = 1u << 3, /* the last four octets are an empty ServerHelloDone so far */
    PROBE_FINISHED = 1u << 4,   /* an encrypted handshake record of this side ended: its Finished */
    PROBE_GAP = 1u << 5,        /* records of this side passed unseen: exchanges cannot be numbered */
};

/* RFC 8446 4.1.3: the first octets of SHA-256("HelloRetryRequest"), the random of a HelloRetryRequest. */
static const uint8_t retry_random[4] = {0xcf, 0x21, 0xad, 0x74};
/* RFC 5246 7.4.5: ServerHelloDone has no body. */
static const uint8_t hello_done[4] = {14, 0, 0, 0};

/* TLS 1.3 adds 17 octets to every record (type octet and tag); measured, unpadded. */
#define TLS13_OVERHEAD        17
#define TLS13_ALERT_OCTETS    (2 + TLS13_OVERHEAD)
#define TLS13_FINISHED_SHA256 (4 + 32 + TLS13_OVERHEAD)
#define TLS13_FINISHED_SHA384 (4 + 48 + TLS13_OVERHEAD)
#define TLS13_KEY_UPDATE      (5 + TLS13_OVERHEAD)
#define COALESCED_FLIGHT      300  /* a first encrypted server record of this size holds a whole flight */
#define BULK_OCTETS           1024 /* commands are smaller; body writers fill buffers of 4096, 8192, 16384 */
#define BULK_RUN              3    /* so many equal ones in a row are a body */
#define DOT_MAX_OCTETS        52   /* CRLF.CRLF QUIT CRLF with the overhead of any cipher */
#define BURST_MAX             8    /* more small client records in a row than any pipelined group */
#define TICKETS_MAX           4

static struct tls_direction *direction_of(struct tls_stream *tls, enum side side)
{
    return &tls->directions[side_index(side)];
}

static void tls_owe(struct tls_stream *tls, enum phase phase, enum side owed_by)
{
    tls->phase = phase;
    tls->owed_by = owed_by;
}

void tls_stream_init(struct tls_stream *tls, bool implicit)
{
    memset(tls, 0, sizeof *tls);
    tls->greeting_due = implicit;
    tls_owe(tls, PHASE_TLS, SIDE_CLIENT);
}

static void tls_give_up(struct tls_stream *tls)
{
    tls->not_tls = true;
    tls->body_inferred = false;
    tls_owe(tls, PHASE_OPAQUE, SIDE_NONE);
}

static void tls_establish(struct tls_stream *tls)
{
    tls->established = true;
    for (size_t i = 0; i < SIDE_PAIR; i++) {
        tls->directions[i].burst = 0;
        tls->directions[i].equal_run = 0;
        tls->directions[i].last_length = 0;
    }
    if (tls->greeting_due)
        tls_owe(tls, PHASE_GREETING, SIDE_SERVER);
    else
        tls_owe(tls, PHASE_HELO, SIDE_CLIENT);
}

static bool is_finished_size(uint16_t length)
{
    return length == TLS13_FINISHED_SHA256 || length == TLS13_FINISHED_SHA384;
}

static bool is_full_buffer(uint16_t length)
{
    /* plaintext of a multiple of 1024 under TLS 1.3, AES-GCM and ChaCha20 of TLS 1.2 */
    return length >= BULK_OCTETS &&
           ((length - 17) % 1024 == 0 || (length - 24) % 1024 == 0 || (length - 16) % 1024 == 0);
}

static void tls_alert(struct tls_stream *tls, enum side side)
{
    /* Said by size or type only; whether it is a close_notify or a complaint cannot be read. */
    tls->close_notify[side_index(side)] = true;
    tls->first_bye = tls->established && tls->first_bye == SIDE_NONE ? (uint8_t)side : tls->first_bye;
    tls_owe(tls, tls->established ? PHASE_OPAQUE : PHASE_TLS, SIDE_NONE);
}

/* An encrypted handshake record before the session is up under TLS 1.3. */
static void tls_handshake_record13(struct tls_stream *tls, enum side side, uint16_t length)
{
    struct tls_direction *direction = direction_of(tls, side);
    if (side == SIDE_SERVER) {
        tls->version = 3;
        bool whole = is_finished_size(length) || (direction->records == 0 && length >= COALESCED_FLIGHT);
        if (whole || tls->owed_by == SIDE_CLIENT)
            tls_owe(tls, PHASE_TLS, SIDE_CLIENT);
        else
            tls_owe(tls, PHASE_TLS, SIDE_NONE); /* in the middle of a flight, or at its end */
        return;
    }
    if (!tls->server_hello || tls->version != 3)
        return; /* early data (RFC 8446 2.3) */
    if (length == TLS13_ALERT_OCTETS) {
        tls_alert(tls, side);
        return;
    }
    if (is_finished_size(length) || direction->records >= 2) /* certificate, its proof, then Finished */
        tls_establish(tls);
    else
        tls_owe(tls, PHASE_TLS, SIDE_NONE);
}

/* Every record since the handshake was seen: exchanges can be numbered. */
static bool tls_is_whole(const struct tls_stream *tls)
{
    return !((tls->directions[0].probe | tls->directions[1].probe) & PROBE_GAP);
}

/* The first answer inside TLS 1.3 cannot be told from a session ticket by itself. Two equal records in a
 * row from the server are tickets (OpenSSL sends two); so is a first one that an unequal one follows. */
static bool tls_first_answer_due(const struct tls_stream *tls)
{
    return tls->version != 2 && tls->replies == 0 && tls_is_whole(tls);
}

static void tls_server_application(struct tls_stream *tls, uint16_t length)
{
    struct tls_direction *server = direction_of(tls, SIDE_SERVER);
    struct tls_direction *client = direction_of(tls, SIDE_CLIENT);
    client->burst = 0;
    client->equal_run = 0;
    client->last_length = 0;
    if (tls->version != 2 && length == TLS13_ALERT_OCTETS) {
        tls_alert(tls, SIDE_SERVER);
        return;
    }
    if (tls->version != 2 && length == TLS13_KEY_UPDATE) {
        tls_owe(tls, PHASE_OPAQUE, SIDE_NONE); /* or a reply of five octets */
        return;
    }
    if (tls_first_answer_due(tls)) {
        bool awaited = tls->greeting_due || tls->commands > 0;
        if (!awaited) { /* nobody asked anything: a ticket */
            if (tls->tickets < UINT16_MAX)
                tls->tickets++;
            server->last_length = length;
            return;
        }
        if (tls->tickets < TICKETS_MAX && (tls->tickets == 0 || length == server->last_length)) {
            /* A ticket, or already the answer: only what follows can tell. A second equal one: both were
             * tickets. */
            tls->tickets++;
            if (tls->tickets == 1)
                tls_owe(tls, tls->phase, SIDE_NONE);
            else
                tls_owe(tls, tls->greeting_due ? PHASE_GREETING : PHASE_HELO, SIDE_SERVER);
            server->last_length = length;
            return;
        }
    }
    server->last_length = length;
    tls->server_last_reply_length = length;
    tls->body_inferred = false;
    if (tls->replies < UINT32_MAX)
        tls->replies++;
    if (tls->greeting_due) {
        tls->greeting_due = false;
        tls_owe(tls, tls_is_whole(tls) ? PHASE_HELO : PHASE_OPAQUE, SIDE_CLIENT);
    } else if (tls->phase == PHASE_HELO && tls->commands == 1) {
        tls_owe(tls, PHASE_MAIL, SIDE_CLIENT);
    } else {
        tls_owe(tls, PHASE_OPAQUE, SIDE_CLIENT);
    }
}

static void tls_client_command(struct tls_stream *tls)
{
    if (tls->commands < UINT32_MAX)
        tls->commands++;
    bool first = tls->commands == 1 && tls_is_whole(tls);
    tls_owe(tls, first ? PHASE_HELO : PHASE_OPAQUE, SIDE_SERVER);
}

static void tls_client_application(struct tls_stream *tls, uint16_t length)
{
    struct tls_direction *client = direction_of(tls, SIDE_CLIENT);
    if (tls->version != 2 && length == TLS13_ALERT_OCTETS && client->burst == 0) {
        tls_alert(tls, SIDE_CLIENT); /* or an empty body line, but those do not come first */
        return;
    }
    if (tls->replies == 0 && (tls->commands > 0 || (tls->greeting_due && tls->tickets > 0)) &&
        tls->owed_by == SIDE_NONE) {
        /* The client goes on: what might have been a ticket was the answer. */
        tls->replies = 1;
        tls->tickets = (uint16_t)(tls->tickets > 0 ? tls->tickets - 1 : 0);
        tls->greeting_due = false;
    }
    client->equal_run =
        length == client->last_length ? (uint16_t)(client->equal_run + (client->equal_run < UINT16_MAX)) : 1;
    uint16_t previous = client->last_length;
    client->last_length = length;
    tls->client_last_length = length;
    tls->message_seen = tls->message_seen || (tls->commands >= 2 && length > TLS_COMMAND_RECORD_OCTETS);
    if (client->burst < UINT8_MAX)
        client->burst++;

    bool bulk = length >= BULK_OCTETS && (length == previous || is_full_buffer(length));
    if (bulk) {
        tls->bulk_octets += length;
        if (client->equal_run >= BULK_RUN || tls->body_inferred) {
            tls->body_inferred = true;
            tls_owe(tls, PHASE_BODY, SIDE_CLIENT);
        } else {
            tls_owe(tls, PHASE_OPAQUE, SIDE_NONE);
        }
        return;
    }
    if (client->burst > 1 && previous >= BULK_OCTETS && client->equal_run == 1 && !tls->body_inferred &&
        length >= previous - previous / 4) {
        /* Big ones of about one size: a body from a writer that fills its buffer unevenly, or the end of
         * one. */
        tls->bulk_octets += length;
        tls_owe(tls, PHASE_OPAQUE, SIDE_NONE);
        return;
    }
    if (tls->body_inferred || (client->burst > 1 && previous >= BULK_OCTETS) ||
        (length >= BULK_OCTETS && client->burst == 1)) {
        /* The tail of a body, or a whole small one; with the dot, unless more follows. */
        tls->bulk_octets += length;
        tls_owe(tls, PHASE_END_OF_DATA, SIDE_SERVER);
        return;
    }
    if (tls->phase == PHASE_END_OF_DATA && client->burst > 1) {
        /* Behind a tail: the dot, QUIT, or more lines of a body written in small pieces. */
        if (length > DOT_MAX_OCTETS)
            tls_owe(tls, PHASE_OPAQUE, SIDE_NONE);
        return;
    }
    if (client->burst > BURST_MAX) {
        tls_owe(tls, PHASE_OPAQUE, SIDE_NONE); /* a body written line by line, as it seems */
        return;
    }
    tls_client_command(tls);
}

/* A complete record. */
static void tls_record(struct tls_stream *tls, enum side side)
{
    struct tls_direction *direction = direction_of(tls, side);
    uint8_t probe = direction->probe;
    switch ((enum record_type)direction->type) {
    case RECORD_CHANGE_CIPHER_SPEC:
        direction->ccs = true;
        break;
    case RECORD_ALERT:
        if (direction->ccs || tls->established || direction->length != 2) {
            tls_alert(tls, side);
        } else if (tls->alert_level == 2) {
            tls_owe(tls, PHASE_TLS, SIDE_NONE);
        }
        break;
    case RECORD_HANDSHAKE:
        if (tls->established) {
            tls_owe(tls, PHASE_OPAQUE, SIDE_NONE); /* renegotiation */
        } else if (direction->ccs && !(probe & (PROBE_CLIENT_HELLO | PROBE_SERVER_HELLO))) {
            /* TLS 1.2: the encrypted Finished. Up when both have sent theirs. */
            direction->probe |= PROBE_FINISHED;
            tls->version = 2;
            if (direction_of(tls, side_other(side))->probe & PROBE_FINISHED)
                tls_establish(tls);
            else
                tls_owe(tls, PHASE_TLS, side_other(side));
        } else if (side == SIDE_CLIENT) {
            if (probe & PROBE_CLIENT_HELLO) {
                tls->client_hello = true;
                direction->ccs = false;
                tls_owe(tls, PHASE_TLS, SIDE_SERVER);
            } /* else its key exchange: its CCS and Finished are still due */
        } else {
            if (probe & PROBE_SERVER_HELLO) {
                tls->server_hello = true;
                if (probe & PROBE_RETRY)
                    tls_owe(tls, PHASE_TLS, SIDE_CLIENT);
            }
            if (probe & PROBE_HELLO_DONE) {
                tls->version = 2;
                tls_owe(tls, PHASE_TLS, SIDE_CLIENT);
            }
        }
        break;
    case RECORD_APPLICATION:
        if (!tls->established)
            tls_handshake_record13(tls, side, direction->length);
        else if (side == SIDE_CLIENT)
            tls_client_application(tls, direction->length);
        else
            tls_server_application(tls, direction->length);
        if (direction->records < UINT32_MAX)
            direction->records++;
        break;
    case RECORD_HEARTBEAT:
        break;
    }
    direction->probe &= PROBE_FINISHED | PROBE_GAP;
}

/* Octets of the current record at position `at`. Only clear handshake messages and alerts are looked at. */
static void tls_look(struct tls_stream *tls, enum side side, size_t at, const uint8_t *octets, size_t length)
{
    struct tls_direction *direction = direction_of(tls, side);
    if (direction->type == RECORD_ALERT && direction->length == 2 && !direction->ccs && !tls->established) {
        for (size_t i = 0; i < length; i++) {
            if (at + i == 0)
                tls->alert_level = octets[i];
            else
                tls->alert_description = octets[i];
        }
        tls->alert_from = side;
        return;
    }
    if (direction->type != RECORD_HANDSHAKE || tls->established)
        return;
    /* The first ten octets: message type, length, version, random. Then the last four. */
    for (size_t i = 0; i < length && at + i < 10; i++) {
        size_t position = at + i;
        if (position == 0 && octets[i] == 1 && side == SIDE_CLIENT)
            direction->probe |= PROBE_CLIENT_HELLO;
        if (position == 0 && octets[i] == 2 && side == SIDE_SERVER)
            direction->probe |= PROBE_SERVER_HELLO | PROBE_RETRY;
        if (position >= 6 && octets[i] != retry_random[position - 6])
            direction->probe &= (uint8_t)~PROBE_RETRY;
    }
    if (direction->length < sizeof hello_done || side != SIDE_SERVER)
        return;
    size_t last = direction->length - sizeof hello_done;
    for (size_t i = at < last ? last - at : 0; i < length; i++) {
        size_t position = at + i - last;
        if (octets[i] != hello_done[position])
            direction->probe &= (uint8_t)~PROBE_HELLO_DONE;
        else if (position == 0)
            direction->probe |= PROBE_HELLO_DONE;
    }
}

/* RFC 8446 5.1: type, 0x03, minor version, length. */
static bool header_is_plausible(const uint8_t header[5])
{
    unsigned length = (unsigned)header[3] << 8 | header[4];
    return header[0] >= RECORD_CHANGE_CIPHER_SPEC && header[0] <= RECORD_HEARTBEAT && header[1] == 3 &&
           header[2] <= 4 && length <= RECORD_MAX_OCTETS;
}

void tls_stream_consume(struct tls_stream *tls, enum side side, const uint8_t *octets, size_t length)
{
    struct tls_direction *direction = direction_of(tls, side);
    if (tls->not_tls || length == 0)
        return;
    if (direction->lost) { /* a span often begins with a record: try each one */
        if (length < sizeof direction->header || !header_is_plausible(octets))
            return;
        direction->lost = false;
        direction->header_length = 0;
        direction->left = 0;
    }
    while (length > 0) {
        if (direction->header_length < sizeof direction->header) {
            direction->header[direction->header_length++] = *octets++;
            length--;
            if (direction->header_length == 1 && (direction->header[0] < RECORD_CHANGE_CIPHER_SPEC ||
                                                  direction->header[0] > RECORD_HEARTBEAT)) {
                tls_give_up(tls);
                return;
            }
            if (direction->header_length < sizeof direction->header)
                continue;
            if (!header_is_plausible(direction->header)) {
                tls_give_up(tls);
                return;
            }
            direction->type = direction->header[0];
            direction->length = (uint16_t)((unsigned)direction->header[3] << 8 | direction->header[4]);
            direction->left = direction->length;
        } else {
            size_t taken = length < direction->left ? length : direction->left;
            tls_look(tls, side, (size_t)direction->length - direction->left, octets, taken);
            direction->left = (uint16_t)(direction->left - taken);
            octets += taken;
            length -= taken;
        }
        if (direction->left == 0) {
            direction->header_length = 0;
            tls_record(tls, side);
        }
    }
}

void tls_stream_skip(struct tls_stream *tls, enum side side, uint64_t length)
{
    struct tls_direction *direction = direction_of(tls, side);
    if (tls->not_tls || direction->lost || length == 0)
        return;
    if (direction->header_length == sizeof direction->header && length <= direction->left) {
        direction->left = (uint16_t)(direction->left - length);
        if (direction->left == 0) {
            direction->header_length = 0;
            tls_record(tls, side);
        }
        return;
    }
    direction->lost = true;
    direction->probe |= PROBE_GAP;
    tls->body_inferred = false;
    tls_owe(tls, tls->established ? PHASE_OPAQUE : PHASE_TLS, SIDE_NONE);
}
