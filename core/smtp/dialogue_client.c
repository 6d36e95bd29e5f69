/* What the client's role says: lines that are commands, answers to 334, or too early a body. */
#include <string.h>

#include "core/smtp/dialogue_internal.h"

#define COMMAND_OCTETS  512 /* RFC 5321 4.5.3.1.4, with CRLF */
#define TLS_HANDSHAKE   0x16
#define PROXY_V1_OCTETS 107 /* proxy-protocol.txt 2.1, with CRLF */
#define PROXY_V2_OCTETS 16  /* proxy-protocol.txt 2.2: signature, version, family, length */

static const uint8_t proxy_v1_word[6] = {'P', 'R', 'O', 'X', 'Y', ' '};
static const uint8_t proxy_v2_signature[12] = {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d,
                                               0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};

static size_t client_consume_line(struct dialogue *dialogue, const uint8_t *octets, size_t length);

static struct line *client_line(struct dialogue *dialogue)
{
    return &dialogue->lines[side_index(SIDE_CLIENT)];
}

static void client_queue_data(struct dialogue *dialogue)
{
    queue_push(dialogue, VERB_DATA);
    dialogue->body_octets = 0;
    body_begin(dialogue);
    state_drop(dialogue, STATE_BODY_BEGAN);
    state_set(dialogue, STATE_PROVISIONAL);
}

static void client_queue_chunk(struct dialogue *dialogue, const struct command *command)
{
    queue_push(dialogue, command->verb);
    if (!state_has(dialogue, STATE_BDAT_SENT)) {
        dialogue->body_octets = 0;
        state_drop(dialogue, STATE_BODY_BEGAN);
    }
    state_drop(dialogue, STATE_BDAT_SENT);
    if (command->verb != VERB_BDAT_LAST)
        state_set(dialogue, STATE_BDAT_SENT);
    chunk_begin(dialogue, command->size);
}

static void client_queue_command(struct dialogue *dialogue, const struct command *command)
{
    if (dialogue->commands.total < UINT32_MAX)
        dialogue->commands.total++;
    state_drop(dialogue, STATE_DATA_REFUSED);
    switch (command->verb) {
    case VERB_DATA:
        client_queue_data(dialogue);
        return;
    case VERB_BDAT:
    case VERB_BDAT_LAST:
        if (command->malformed)
            queue_push(dialogue, VERB_OTHER);
        else
            client_queue_chunk(dialogue, command);
        return;
    case VERB_MAIL:
    case VERB_SEND:
        dialogue->announced_size = command->size;
        state_drop(dialogue, STATE_BDAT_SENT);
        break;
    case VERB_RCPT:
        dialogue->rcpts.total++;
        break;
    case VERB_RSET:
    case VERB_HELO:
    case VERB_EHLO:
    case VERB_LHLO:
        state_drop(dialogue, STATE_BDAT_SENT);
        break;
    case VERB_QUIT:
        dialogue_note(dialogue, DIALOGUE_QUIT_SENT);
        break;
    case VERB_MASKED:
        dialogue_note(dialogue, DIALOGUE_VERB_MASKED);
        break;
    case VERB_NONE:
    case VERB_NOOP:
    case VERB_VRFY:
    case VERB_EXPN:
    case VERB_HELP:
    case VERB_STARTTLS:
    case VERB_AUTH:
    case VERB_ETRN:
    case VERB_TURN:
    case VERB_ATRN:
    case VERB_XCLIENT:
    case VERB_XFORWARD:
    case VERB_OTHER:
    case VERB_END_OF_DATA:
    case VERB_GREETING:
    case VERB_COUNT:
        break;
    }
    queue_push(dialogue, command->verb);
}

static void client_note_length(struct dialogue *dialogue, size_t octets)
{
    if (octets > COMMAND_OCTETS)
        dialogue_note(dialogue, DIALOGUE_LONG_COMMAND);
    else
        dialogue->flags &= ~(uint32_t)DIALOGUE_LONG_COMMAND;
}

/* Picked up in the middle: only what surely is a command, or the end of a body, is believed. */
static void client_take_unknown(struct dialogue *dialogue, const struct line_view *view,
                                const struct command *command)
{
    if (view->total == 1 && view->length == 1 && view->text[0] == '.')
        queue_push(dialogue, VERB_END_OF_DATA);
    else if (command->verb != VERB_OTHER && command->verb != VERB_MASKED && command->verb != VERB_NONE)
        client_queue_command(dialogue, command);
}

static void client_take_line(struct dialogue *dialogue, const struct line_view *view)
{
    line_note_flags(dialogue, view);
    if (dialogue->mode == DIALOGUE_BODY) {
        (void)body_provisional_line(dialogue, view);
        return;
    }
    client_note_length(dialogue, view->total + (view->bare_lf ? 1 : 2));
    if (dialogue->mode == DIALOGUE_AUTH_TURN) {
        dialogue->mode = DIALOGUE_COMMANDS;
        return;
    }
    if (state_has(dialogue, STATE_SERVER_GAP)) {
        /* The client goes on: the replies it waited for were among the octets we missed. */
        state_drop(dialogue, STATE_SERVER_GAP);
        if (dialogue->run_count > 0) {
            queue_clear(dialogue);
            dialogue_note(dialogue, DIALOGUE_RESYNCED);
        }
    }
    if (queue_find(dialogue, VERB_GREETING, 0) < dialogue->run_count)
        dialogue_note(dialogue, DIALOGUE_EARLY_TALK);

    struct command command;
    command_parse(&command, view->text, view->length);
    if (state_has(dialogue, STATE_UNKNOWN)) {
        client_take_unknown(dialogue, view, &command);
        return;
    }
    bool wordless = command.verb == VERB_OTHER || command.verb == VERB_NONE || command.verb == VERB_MASKED;
    if (wordless && queue_newest(dialogue) == VERB_AUTH && dialogue->auth_ahead < UINT8_MAX) {
        dialogue->auth_ahead++; /* an answer sent before its 334 */
        return;
    }
    if (wordless && state_has(dialogue, STATE_DATA_REFUSED)) {
        dialogue_note(dialogue, DIALOGUE_BODY_WITHOUT_354 | DIALOGUE_BODY_REFUSED);
        client_queue_command(dialogue, &command);
        state_set(dialogue, STATE_DATA_REFUSED);
        return;
    }
    if (command.verb == VERB_NONE)
        queue_push(dialogue, VERB_NONE);
    else
        client_queue_command(dialogue, &command);
}

static size_t client_consume_line(struct dialogue *dialogue, const uint8_t *octets, size_t length)
{
    const uint8_t *next = octets;
    struct line_view view;
    const uint8_t *lost_end = client_line(dialogue)->skipping ? memchr(octets, '\n', length) : NULL;
    if (lost_end != NULL) /* what follows may be no line: the caller looks at its first octet */
        length = (size_t)(lost_end - octets) + 1;
    size_t left = length;
    if (line_next(client_line(dialogue), &next, &left, &view))
        client_take_line(dialogue, &view);
    else if (client_line(dialogue)->total > COMMAND_OCTETS && dialogue->mode != DIALOGUE_BODY)
        dialogue_note(dialogue, DIALOGUE_LONG_COMMAND);
    return length - left;
}

/* It was no PROXY header: what was taken for one goes on as the line it is. */
static void client_give_back(struct dialogue *dialogue, const uint8_t *prefix)
{
    size_t length = dialogue->prefix_length;
    state_drop(dialogue, STATE_PROXY_DUE | STATE_PROXY_V2);
    dialogue->prefix_length = 0;
    dialogue->chunk_left = 0;
    while (length > 0) {
        size_t taken = client_consume_line(dialogue, prefix, length);
        prefix += taken;
        length -= taken;
    }
}

static void client_proxy_done(struct dialogue *dialogue)
{
    state_drop(dialogue, STATE_PROXY_DUE | STATE_PROXY_V2);
    dialogue->prefix_length = 0;
    dialogue_note(dialogue, DIALOGUE_PROXY_LINE);
}

/* One octet of the fixed parts, or as much as there is of the counted part. */
static size_t client_consume_proxy(struct dialogue *dialogue, const uint8_t *octets, size_t length)
{
    uint8_t octet = *octets;
    uint8_t at = dialogue->prefix_length;
    if (at == 0 && octet == proxy_v2_signature[0])
        state_set(dialogue, STATE_PROXY_V2);
    if (!state_has(dialogue, STATE_PROXY_V2)) {
        if (at < sizeof proxy_v1_word && octet != proxy_v1_word[at]) {
            client_give_back(dialogue, proxy_v1_word);
            return 0;
        }
        dialogue->prefix_length++;
        if (octet == '\n') {
            client_proxy_done(dialogue);
        } else if (dialogue->prefix_length > PROXY_V1_OCTETS) {
            state_drop(dialogue, STATE_PROXY_DUE);
            dialogue_note(dialogue, DIALOGUE_LINE_TOO_LONG);
            line_gap(client_line(dialogue));
        }
        return 1;
    }
    if (at < sizeof proxy_v2_signature && octet != proxy_v2_signature[at]) {
        client_give_back(dialogue, proxy_v2_signature);
        return 0;
    }
    if (at < PROXY_V2_OCTETS) {
        if (at >= PROXY_V2_OCTETS - 2)
            dialogue->chunk_left = dialogue->chunk_left << 8 | octet;
        dialogue->prefix_length++;
        if (dialogue->prefix_length == PROXY_V2_OCTETS && dialogue->chunk_left == 0)
            client_proxy_done(dialogue);
        return 1;
    }
    uint64_t taken = length < dialogue->chunk_left ? length : dialogue->chunk_left;
    dialogue->chunk_left -= taken;
    if (dialogue->chunk_left == 0)
        client_proxy_done(dialogue);
    return (size_t)taken;
}

/* A ClientHello where it may stand: behind STARTTLS before its 220, or as the first octets of all. */
static bool client_starts_tls(const struct dialogue *dialogue, uint8_t octet)
{
    const struct line *line = &dialogue->lines[side_index(SIDE_CLIENT)];
    if (octet != TLS_HANDSHAKE || dialogue->mode != DIALOGUE_COMMANDS || line_is_open(line) || line->skipping)
        return false;
    if (queue_newest(dialogue) == VERB_STARTTLS)
        return true;
    return !state_has(dialogue, STATE_REPLY_SEEN) && dialogue->run_count == 1 &&
           queue_newest(dialogue) == VERB_GREETING && (dialogue->flags & DIALOGUE_EARLY_TALK) == 0;
}

size_t client_consume(struct dialogue *dialogue, const uint8_t *octets, size_t length)
{
    if (state_has(dialogue, STATE_PROXY_DUE))
        return client_consume_proxy(dialogue, octets, length);
    if (client_starts_tls(dialogue, *octets)) {
        bool sniffed = queue_newest(dialogue) == VERB_GREETING;
        if (sniffed) {
            dialogue_begin_tls(dialogue, true);
            state_set(dialogue, STATE_SNIFFED_TLS);
        } else {
            dialogue_follow_tls(dialogue, false); /* the 220 to STARTTLS is still due */
        }
    }
    switch (dialogue->mode) {
    case DIALOGUE_COMMANDS:
    case DIALOGUE_AUTH_TURN:
        return client_consume_line(dialogue, octets, length);
    case DIALOGUE_BODY:
        if (state_has(dialogue, STATE_PROVISIONAL))
            return client_consume_line(dialogue, octets, length);
        return body_consume(dialogue, octets, length);
    case DIALOGUE_CHUNK:
        return chunk_consume(dialogue, length);
    case DIALOGUE_CIPHER:
        tls_stream_consume(dialogue->tls, SIDE_CLIENT, octets, length);
        return length;
    case DIALOGUE_DEAF:
        break;
    }
    return length;
}
