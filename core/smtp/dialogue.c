#include "core/smtp/dialogue.h"

#include <stdlib.h>
#include <string.h>

#include "core/smtp/dialogue_internal.h"

static enum side role_of(const struct dialogue *dialogue, enum side side)
{
    return (dialogue->flags & DIALOGUE_TURNED) != 0 ? side_other(side) : side;
}

static bool starttls_due(const struct dialogue *dialogue)
{
    return queue_find(dialogue, VERB_STARTTLS, 0) < dialogue->run_count;
}

/* ---- where the dialogue stands ---- */

static enum phase verb_phase(enum verb verb)
{
    switch (verb) {
    case VERB_GREETING:
        return PHASE_GREETING;
    case VERB_HELO:
    case VERB_EHLO:
    case VERB_LHLO:
        return PHASE_HELO;
    case VERB_MAIL:
    case VERB_SEND:
        return PHASE_MAIL;
    case VERB_RCPT:
        return PHASE_RCPT;
    case VERB_DATA:
        return PHASE_DATA;
    case VERB_BDAT:
        return PHASE_BDAT;
    case VERB_BDAT_LAST:
    case VERB_END_OF_DATA:
        return PHASE_END_OF_DATA;
    case VERB_RSET:
        return PHASE_RSET;
    case VERB_QUIT:
        return PHASE_QUIT;
    case VERB_STARTTLS:
        return PHASE_STARTTLS;
    case VERB_AUTH:
        return PHASE_AUTH;
    case VERB_NONE:
    case VERB_NOOP:
    case VERB_VRFY:
    case VERB_EXPN:
    case VERB_HELP:
    case VERB_ETRN:
    case VERB_TURN:
    case VERB_ATRN:
    case VERB_XCLIENT:
    case VERB_XFORWARD:
    case VERB_OTHER:
    case VERB_MASKED:
    case VERB_COUNT:
        break;
    }
    return PHASE_COMMAND;
}

/* Nothing is outstanding: what the client is expected to say next. */
static enum phase client_phase(const struct dialogue *dialogue)
{
    if (dialogue->mode == DIALOGUE_BODY)
        return PHASE_BODY;
    if (dialogue->mode == DIALOGUE_CHUNK || state_has(dialogue, STATE_BDAT_OPEN))
        return PHASE_BDAT;
    if (!state_has(dialogue, STATE_HELO_DONE))
        return PHASE_HELO;
    if (dialogue->mail_open)
        return PHASE_RCPT;
    return state_has(dialogue, STATE_MAIL_DONE) ? PHASE_IDLE : PHASE_MAIL;
}

/* The oldest outstanding verb is a chunk that the client has not sent to its end. */
static bool chunk_is_due(const struct dialogue *dialogue, enum verb verb)
{
    return dialogue->mode == DIALOGUE_CHUNK && (verb == VERB_BDAT || verb == VERB_BDAT_LAST) &&
           dialogue_outstanding_count(dialogue) == 1;
}

static void dialogue_stand(const struct dialogue *dialogue, enum phase *phase, enum side *owed_by)
{
    enum verb verb = dialogue_oldest_verb(dialogue);
    *owed_by = SIDE_NONE;
    if (state_has(dialogue, STATE_CLOSED)) {
        *phase = PHASE_CLOSED;
    } else if (!state_has(dialogue, STATE_CONNECTED)) {
        *phase = PHASE_CONNECT;
        *owed_by = SIDE_SERVER;
    } else if (dialogue->mode == DIALOGUE_DEAF) {
        *phase = PHASE_OPAQUE;
    } else if (dialogue->mode == DIALOGUE_CIPHER && !starttls_due(dialogue)) {
        *phase = dialogue->tls->phase;
        *owed_by = dialogue->tls->owed_by;
    } else if (verb != VERB_NONE) {
        *phase = verb_phase(verb);
        *owed_by = SIDE_SERVER;
        if (dialogue->mode == DIALOGUE_AUTH_TURN && verb == VERB_AUTH) {
            *owed_by = SIDE_CLIENT;
        } else if (chunk_is_due(dialogue, verb)) {
            *phase = PHASE_BDAT;
            *owed_by = SIDE_CLIENT;
        } else if (verb == VERB_GREETING && state_has(dialogue, STATE_PROXY_DUE)) {
            *owed_by = SIDE_CLIENT;
        }
    } else if (state_has(dialogue, STATE_UNKNOWN)) {
        *phase = PHASE_OPAQUE;
    } else {
        *phase = client_phase(dialogue);
        *owed_by = SIDE_CLIENT;
    }
    *owed_by = role_of(dialogue, *owed_by);
}

/* The only place where phase, owed_by and debt_serial change. */
static void dialogue_settle(struct dialogue *dialogue)
{
    enum phase phase;
    enum side owed_by;
    dialogue_stand(dialogue, &phase, &owed_by);
    if (phase != dialogue->phase || owed_by != dialogue->owed_by || state_has(dialogue, STATE_POPPED))
        dialogue->debt_serial++;
    state_drop(dialogue, STATE_POPPED);
    dialogue->phase = phase;
    dialogue->owed_by = owed_by;

    const struct tls_stream *tls = dialogue_tls(dialogue);
    if (dialogue->mode == DIALOGUE_CIPHER && tls->established && !tls->not_tls && !tls->directions[0].lost &&
        !tls->directions[1].lost)
        dialogue_note(dialogue, DIALOGUE_CAN_INFER);
    else
        dialogue->flags &= ~(uint32_t)DIALOGUE_CAN_INFER;
}

/* ---- life ---- */

const struct tls_stream *dialogue_tls(const struct dialogue *dialogue)
{
    static const struct tls_stream none;
    return dialogue->tls != NULL ? dialogue->tls : &none;
}

void dialogue_follow_tls(struct dialogue *dialogue, bool implicit)
{
    if (dialogue->tls == NULL)
        dialogue->tls = malloc(sizeof *dialogue->tls);
    if (dialogue->tls != NULL)
        tls_stream_init(dialogue->tls, implicit);
    dialogue->mode = dialogue->tls != NULL ? DIALOGUE_CIPHER : DIALOGUE_DEAF;
}

void dialogue_begin_tls(struct dialogue *dialogue, bool implicit)
{
    dialogue_follow_tls(dialogue, implicit);
    dialogue->auth_ahead = 0;
    dialogue_note(dialogue, DIALOGUE_TLS);
    queue_clear(dialogue);
    line_clear(&dialogue->lines[side_index(SIDE_CLIENT)]);
}

void dialogue_init(struct dialogue *dialogue, const struct dialogue_options *options)
{
    memset(dialogue, 0, sizeof *dialogue);
    if (options->lmtp)
        dialogue_note(dialogue, DIALOGUE_LMTP);
    if (options->proxy_protocol)
        state_set(dialogue, STATE_PROXY_DUE);
    if (options->midstream) {
        state_drop(dialogue, STATE_PROXY_DUE);
        state_set(dialogue, STATE_UNKNOWN | STATE_CONNECTED);
        dialogue_note(dialogue, DIALOGUE_RESYNCED);
    } else if (options->implicit_tls) {
        dialogue_begin_tls(dialogue, true);
    } else {
        queue_push(dialogue, VERB_GREETING);
    }
    dialogue_settle(dialogue);
    dialogue->debt_serial = 0;
}

void dialogue_clear(struct dialogue *dialogue)
{
    for (size_t i = 0; i < SIDE_PAIR; i++)
        line_clear(&dialogue->lines[i]);
    queue_clear(dialogue);
    free(dialogue->tls);
    dialogue->tls = NULL;
    reply_clear(&dialogue->reply);
    kept_clear(dialogue);
}

void dialogue_connected(struct dialogue *dialogue)
{
    state_set(dialogue, STATE_CONNECTED);
    dialogue_settle(dialogue);
}

/* ---- input ---- */

/* Picked up in the middle of TLS: a record header stands where lines were looked for. */
static bool looks_like_records(const uint8_t *octets, size_t length)
{
    return length >= 5 && octets[0] >= 20 && octets[0] <= 23 && octets[1] == 3 && octets[2] <= 4;
}

static void dialogue_enter_running_tls(struct dialogue *dialogue)
{
    dialogue_begin_tls(dialogue, false);
    state_drop(dialogue, STATE_UNKNOWN);
    if (dialogue->mode == DIALOGUE_DEAF)
        return;
    dialogue->tls->established = true;
    dialogue->tls->replies = 1; /* the handshake's tickets are long gone */
    tls_stream_skip(dialogue->tls, SIDE_CLIENT, 1);
    tls_stream_skip(dialogue->tls, SIDE_SERVER, 1);
}

void dialogue_consume(struct dialogue *dialogue, enum side side, const uint8_t *octets, size_t length)
{
    if (length == 0)
        return;
    dialogue->octets[side_index(side)] += length;
    if (role_of(dialogue, side) == SIDE_CLIENT)
        dialogue->mail_accepted_unread = false;
    else
        state_set(dialogue, STATE_CONNECTED);
    if (state_has(dialogue, STATE_UNKNOWN) && looks_like_records(octets, length))
        dialogue_enter_running_tls(dialogue);

    while (length > 0) {
        uint32_t exchanged = dialogue_tls(dialogue)->commands + dialogue_tls(dialogue)->replies;
        size_t taken = role_of(dialogue, side) == SIDE_CLIENT ? client_consume(dialogue, octets, length)
                                                              : server_consume(dialogue, octets, length);
        if (dialogue->mode == DIALOGUE_CIPHER &&
            exchanged != dialogue->tls->commands + dialogue->tls->replies)
            state_set(dialogue, STATE_POPPED);
        octets += taken;
        length -= taken;
        dialogue_settle(dialogue);
    }
}

static void client_skip(struct dialogue *dialogue, uint64_t length)
{
    dialogue->mail_accepted_unread = false;
    if (dialogue->mode == DIALOGUE_CHUNK) {
        uint64_t taken = length < dialogue->chunk_left ? length : dialogue->chunk_left;
        dialogue->body_octets += taken;
        dialogue->chunk_left -= taken;
        length -= taken;
        state_set(dialogue, STATE_BODY_BEGAN);
        if (dialogue->chunk_left == 0)
            dialogue->mode = DIALOGUE_COMMANDS;
        if (length == 0)
            return;
    }
    if (dialogue->mode == DIALOGUE_CIPHER) {
        tls_stream_skip(dialogue->tls, SIDE_CLIENT, length);
        return;
    }
    dialogue_note(dialogue, DIALOGUE_GAP);
    if (dialogue->mode == DIALOGUE_BODY) {
        dialogue->body_octets += length;
        dialogue->tail_length = 0;
        dialogue->flags &= ~(uint32_t)DIALOGUE_BARE_DOT;
        state_set(dialogue, STATE_BODY_HOLE | STATE_BODY_BEGAN);
        if (!state_has(dialogue, STATE_PROVISIONAL))
            return;
    }
    state_drop(dialogue, STATE_PROXY_DUE);
    line_gap(&dialogue->lines[side_index(SIDE_CLIENT)]);
}

static void server_skip(struct dialogue *dialogue, uint64_t length)
{
    state_set(dialogue, STATE_CONNECTED);
    if (dialogue->mode == DIALOGUE_CIPHER && !starttls_due(dialogue)) {
        tls_stream_skip(dialogue->tls, SIDE_SERVER, length);
        return;
    }
    dialogue_note(dialogue, DIALOGUE_GAP);
    state_set(dialogue, STATE_SERVER_GAP);
    line_gap(&dialogue->lines[side_index(SIDE_SERVER)]);
    reply_clear(&dialogue->reply);
}

void dialogue_skip(struct dialogue *dialogue, enum side side, uint64_t length)
{
    if (length == 0)
        return;
    dialogue->octets[side_index(side)] += length;
    if (dialogue->mode == DIALOGUE_DEAF)
        return;
    if (role_of(dialogue, side) == SIDE_CLIENT)
        client_skip(dialogue, length);
    else
        server_skip(dialogue, length);
    dialogue_settle(dialogue);
}

static bool in_sure_body(const struct dialogue *dialogue, enum side side)
{
    return dialogue->mode == DIALOGUE_BODY && role_of(dialogue, side) == SIDE_CLIENT &&
           !state_has(dialogue, STATE_PROVISIONAL);
}

void dialogue_pass(struct dialogue *dialogue, enum side side, uint64_t length)
{
    if (!in_sure_body(dialogue, side)) {
        dialogue_skip(dialogue, side, length);
        return;
    }
    if (length == 0)
        return;
    dialogue->octets[side_index(side)] += length;
    dialogue->mail_accepted_unread = false;
    dialogue->body_octets += length;
    dialogue->tail_length = 0;
    dialogue->flags &= ~(uint32_t)DIALOGUE_BARE_DOT;
    state_set(dialogue, STATE_BODY_BLIND | STATE_BODY_BEGAN);
    dialogue_settle(dialogue);
}

/* ---- questions ---- */

bool dialogue_body_is_doubtful(const struct dialogue *dialogue)
{
    return dialogue->mode == DIALOGUE_BODY && state_has(dialogue, STATE_BODY_BLIND) &&
           dialogue->tail_length > 0 && dialogue->tail[dialogue->tail_length - 1] == '\n';
}

bool dialogue_may_pass(const struct dialogue *dialogue, enum side side, uint64_t *length, uint32_t *keep)
{
    bool opaque = dialogue->mode == DIALOGUE_DEAF ||
                  (dialogue->mode == DIALOGUE_CIPHER && dialogue->tls->not_tls && !starttls_due(dialogue));
    *keep = 0;
    *length = UINT64_MAX;
    if (opaque)
        return true;
    if (in_sure_body(dialogue, side)) {
        *keep = DIALOGUE_KEEP_OCTETS;
        return true;
    }
    *length = dialogue->chunk_left;
    return dialogue->mode == DIALOGUE_CHUNK && role_of(dialogue, side) == SIDE_CLIENT;
}

bool dialogue_line_open(const struct dialogue *dialogue, enum side side)
{
    return line_is_open(&dialogue->lines[side_index(role_of(dialogue, side))]);
}

bool dialogue_reply_open(const struct dialogue *dialogue)
{
    return reply_is_open(&dialogue->reply) || state_has(dialogue, STATE_REPLIES_BEGAN);
}

bool dialogue_may_speak(const struct dialogue *dialogue)
{
    if (dialogue->phase == PHASE_CLOSED || (dialogue->flags & DIALOGUE_TURNED) != 0)
        return false;
    if (dialogue->mode ==
        DIALOGUE_BODY) { /* behind an unanswered DATA, while no octet has followed, it is an answer */
        if (!state_has(dialogue, STATE_PROVISIONAL) || state_has(dialogue, STATE_BODY_BEGAN) ||
            line_is_open(&dialogue->lines[side_index(SIDE_CLIENT)]))
            return false;
    } else if (dialogue->mode != DIALOGUE_COMMANDS) {
        return false;
    }
    if (line_is_open(&dialogue->lines[side_index(SIDE_SERVER)]) ||
        dialogue->lines[side_index(SIDE_SERVER)].skipping || reply_is_open(&dialogue->reply))
        return false;
    if (state_has(dialogue, STATE_UNKNOWN | STATE_SERVER_GAP))
        return false;
    return queue_find(dialogue, VERB_END_OF_DATA, 0) == dialogue->run_count &&
           queue_find(dialogue, VERB_BDAT_LAST, 0) == dialogue->run_count &&
           queue_find(dialogue, VERB_BDAT, 0) == dialogue->run_count &&
           queue_find(dialogue, VERB_AUTH, 0) == dialogue->run_count;
}
